//! The `remit` command: config in, a running gateway out.

fn main() {}
