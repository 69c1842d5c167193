//! Compiles the XDP program to `$OUT_DIR/span.bpf.o`; `kernel::steer` embeds that file.

#[path = "bpf/compile.rs"]
mod compile;

fn main() {
    if let Err(message) = compile::compile("bpf", "span") {
        println!("cargo::error={message}");
        std::process::exit(1);
    }
}
