//! The `mmrag` command.

mod output;
mod overlay;
mod stop;

fn main() {}
