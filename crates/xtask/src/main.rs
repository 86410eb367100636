//! One command for what needs code: `cargo xtask test`, `bench`.
fn main() {}
