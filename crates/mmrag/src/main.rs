//! The `mmrag` command.

fn main() {}
