//! The `mmrag` command.

mod lessons;
mod output;
mod overlay;
mod progress;
mod stop;

fn main() {}
