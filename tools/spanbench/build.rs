//! Compiles the bench's BPF programs to `$OUT_DIR`; `wire::bpf` embeds them. Notes the compiler, for `instructions`.

use std::process::Command;

#[path = "../../bpf/compile.rs"]
mod compile;

fn main() {
    for name in ["sink", "devmap", "tc"] {
        if let Err(message) = compile::compile("bpf", name) {
            println!("cargo::error={message}");
            std::process::exit(1);
        }
    }
    let version = std::env::var_os("RUSTC").and_then(|rustc| Command::new(rustc).arg("--version").output().ok());
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    println!("cargo::rustc-env=SPANBENCH_RUSTC={version}");
}
