//! The `mmrag` command: answers questions over pictures, texts and tables, explains every answer,
//! and trains the model that does so.
//!
//! Here stands what the commands are; each has a file of its own. Arguments and run files become
//! settings here, and nothing below sees a flag.

mod answerer;
mod bench;
mod calibrate;
mod command;
mod dataset;
mod demo;
mod dev;
mod evaluating;
mod hub;
mod lessons;
mod notes;
mod output;
mod overlay;
mod predict;
mod progress;
mod published;
mod remote;
mod scoring;
mod server;
mod settings;
mod show;
mod small_model;
mod stages;
mod stop;
mod training;
mod weights;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use command::Ended;

/// Answers questions over pictures, texts and tables, and explains every answer.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train both stages on the built-in atlas, compare variants, explain one answer
    Demo(command::demo::DemoCommand),
    /// Time the parts, as JSON
    #[command(subcommand)]
    Bench(command::bench::BenchCommand),
    /// Make the built-in data set, or look at a data set's files
    #[command(subcommand)]
    Data(command::data::DataCommand),
    /// Train a stage by reinforcement, or from right replies
    #[command(subcommand)]
    Train(command::train::TrainCommand),
    /// Run a pipeline on a data set, or score a prediction file
    #[command(subcommand)]
    Eval(command::eval::EvalCommand),
    /// Answer one question and explain the answer
    Ask(command::ask::AskCommand),
    /// Answer questions over HTTP and on a page
    Serve(Box<command::serve::ServeCommand>),
    /// Make a new small model, or look at a model's folder
    #[command(subcommand)]
    Model(command::model::ModelCommand),
}

#[global_allocator]
static ALLOCATOR: mmrag_ops::Recycle<mimalloc::MiMalloc> =
    mmrag_ops::Recycle::new(mimalloc::MiMalloc);

fn main() -> ExitCode {
    mmrag_ops::quiet_candle();
    let ended = match Cli::parse().command {
        Command::Demo(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Data(command) => command.run(),
        Command::Train(command) => command.run(),
        Command::Eval(command) => command.run(),
        Command::Ask(command) => command.run(),
        Command::Serve(command) => command.run(),
        Command::Model(command) => command.run(),
    };
    match ended {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Stopped) => ExitCode::from(stop::STOPPED),
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
