//! Compiles the bench's BPF programs to `$OUT_DIR`; `wire::bpf` embeds them.

#[path = "../../bpf/compile.rs"]
mod compile;

fn main() {
    for name in ["sink", "devmap", "tc"] {
        if let Err(message) = compile::compile("bpf", name) {
            println!("cargo::error={message}");
            std::process::exit(1);
        }
    }
}
