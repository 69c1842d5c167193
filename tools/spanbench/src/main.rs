//! spanctl: the control side of spanwire's command line.
#![forbid(unsafe_code)]
fn main() {}
