//! Compiles BPF programs for build scripts.
//!
//! Only objects are built. A libbpf skeleton would bring generated `unsafe` code into crates that confine `unsafe` to
//! `src/xsk`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libbpf_cargo::SkeletonBuilder;

/// Compiles `NAME.bpf.c` in `folder` to `$OUT_DIR/NAME.bpf.o`.
pub fn compile(folder: &str, name: &str) -> Result<(), String> {
    let source = format!("{folder}/{name}.bpf.c");
    println!("cargo::rerun-if-changed={source}");
    println!("cargo::rerun-if-env-changed=CLANG");
    let clang = env::var_os("CLANG").unwrap_or_else(|| "clang".into());
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?;
    let object = PathBuf::from(out).join(format!("{name}.bpf.o"));

    // v3: atomic instructions that return a value. Linux 5.12 has them.
    let mut args: Vec<String> = ["-Wall", "-Werror", "-mcpu=v3"].map(str::to_owned).to_vec();
    for dir in kernel_header_dirs(Path::new(&clang))? {
        args.push("-idirafter".to_owned());
        args.push(dir);
    }
    // bpf/bpf_helpers.h comes with libbpf-cargo, which adds its own copy to the include path: no
    // libbpf-dev is needed.
    SkeletonBuilder::new()
        .source(&source)
        .obj(&object)
        .clang(&clang)
        .clang_args(args)
        .build()
        .map_err(|e| format!("cannot build {source}: {}", format!("{e:#}").replace('\n', " | ")))
}

/// The host's include directories that hold `asm/types.h`.
///
/// `<linux/bpf.h>` needs it, and distributions with multiarch keep it in a directory named after
/// the host (`/usr/include/x86_64-linux-gnu`), which clang leaves out under `-target bpf`. Clang
/// itself knows where it is when asked for the host.
fn kernel_header_dirs(clang: &Path) -> Result<Vec<String>, String> {
    let name = clang.display();
    let output = Command::new(clang)
        .args(["-v", "-E", "-x", "c", "/dev/null", "-o", "/dev/null"])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| {
            format!(
                "cannot run `{name}`: {e}. BPF programs are compiled with clang: install it \
                 (Debian: apt install clang), or set CLANG to its path"
            )
        })?;
    let listing = String::from_utf8_lossy(&output.stderr);
    let dirs: Vec<String> = listing
        .lines()
        .skip_while(|line| !line.starts_with("#include <...>"))
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .map(|line| line.trim().to_owned())
        .filter(|dir| Path::new(dir).join("asm/types.h").is_file())
        .collect();
    if dirs.is_empty() {
        return Err(format!(
            "`{name}` finds no asm/types.h: install the kernel's user-space headers (Debian: apt \
             install linux-libc-dev)"
        ));
    }
    Ok(dirs)
}
