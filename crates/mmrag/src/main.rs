//! The `mmrag` command: answers questions over pictures, texts and tables, explains every answer,
//! and trains the model that does so.
//!
//! Here stands what the commands are; each has a file of its own. Arguments and run files become
//! settings here, and nothing below sees a flag.

mod ablation;
mod answerer;
mod asking;
mod attributing;
mod bench;
mod calibrate;
mod certificates;
mod command;
mod comparing;
mod curves;
mod dataset;
mod demo;
mod dev;
mod embedding;
mod evaluating;
mod hexadecimal;
mod host;
mod hub;
mod ingest;
mod lessons;
mod loading;
mod narrow;
mod notes;
mod output;
mod overlay;
mod predict;
mod progress;
mod published;
mod remote;
mod run_settings;
mod scoring;
mod server;
mod settings;
mod show;
mod small_model;
mod stages;
mod stop;
mod thumbnail;
mod training;
mod weights;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use command::Ended;
use host::HostArgs;

/// Answers questions over pictures, texts and tables, and explains every answer.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    host: HostArgs,
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
    /// Run pipelines on a data set, compare and judge runs, score a prediction file
    #[command(subcommand)]
    Eval(command::eval::EvalCommand),
    /// Train and evaluate a matrix of variants, several seeds each
    Ablate(command::ablate::AblateCommand),
    /// Read a folder's files into an index, or bring the index up to date
    Index(command::index::IndexCommand),
    /// Answer one question and explain the answer
    Ask(command::ask::AskCommand),
    /// Answer questions over HTTP and on a page
    Serve(Box<command::serve::ServeCommand>),
    /// Make a new small model, or look at a model's folder
    #[command(subcommand)]
    Model(command::model::ModelCommand),
    /// Read files for another process
    #[command(name = ingest::WORKER, hide = true)]
    ReadFiles(command::index::ReadFilesCommand),
}

#[global_allocator]
static ALLOCATOR: mmrag_ops::Recycle<mimalloc::MiMalloc> =
    mmrag_ops::Recycle::new(mimalloc::MiMalloc);

fn main() -> ExitCode {
    mmrag_ops::quiet_candle();
    let cli = Cli::parse();
    let ended = host::choose(cli.host).and_then(|()| match cli.command {
        Command::Demo(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Data(command) => command.run(),
        Command::Train(command) => command.run(),
        Command::Eval(command) => command.run(),
        Command::Ablate(command) => command.run(),
        Command::Index(command) => command.run(),
        Command::Ask(command) => command.run(),
        Command::Serve(command) => command.run(),
        Command::Model(command) => command.run(),
        Command::ReadFiles(command) => command.run(),
    });
    match ended {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Stopped) => ExitCode::from(stop::STOPPED),
        Ok(Ended::Refused) => ExitCode::FAILURE,
        Ok(Ended::NotJudged) => ExitCode::from(command::gate::NOT_JUDGED),
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
