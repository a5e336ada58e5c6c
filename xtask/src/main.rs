//! House rules of the workspace as a program.

fn main() {}
