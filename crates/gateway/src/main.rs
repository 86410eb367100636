//! The door: config in, a running gateway out.
fn main() {}
