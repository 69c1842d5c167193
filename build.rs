//! Compiles the BPF programs to `$OUT_DIR/NAME.bpf.o`; `kernel` embeds those files.

#[path = "bpf/compile.rs"]
mod compile;

fn main() {
    if let Err(message) = build() {
        println!("cargo::error={message}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    for header in ["abi.h", "selector.h"] {
        println!("cargo::rerun-if-changed=bpf/{header}");
    }
    ["span", "wire", "tc", "loss"].into_iter().try_for_each(|name| compile::compile("bpf", name))?;
    // What the tests of the selector run before it, and what others have on ports.
    compile::compile("tests/selector", "ahead")?;
    compile::compile("tests/e2e", "foreign")
}
