//! The binary `engram`.
fn main() {}
