//! The command as a user meets it: exit codes, what goes to stdout and what to stderr.

use std::path::Path;
use std::process::{Command, Output};

fn mmrag(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmrag")).args(arguments).output().expect("the command starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("stdout is text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("stderr is text")
}

fn make_atlas(out: &Path) -> Output {
    let out = out.to_str().expect("the folder is text");
    mmrag(&["data", "make", "atlas", "--questions", "10", "--seed", "3", "--out", out])
}

#[test]
fn help_names_every_command() {
    let help = mmrag(&["--help"]);
    assert!(help.status.success());
    for command in ["demo", "data", "train", "ask", "eval", "bench", "model"] {
        assert!(stdout(&help).contains(&format!("\n  {command} ")), "{command}");
        assert!(mmrag(&[command, "--help"]).status.success());
    }
    let wrong = mmrag(&["dmeo"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("demo"));
}

#[test]
fn an_atlas_is_made_once_and_inspected() {
    let folder = tempfile::tempdir().unwrap();
    let atlas = folder.path().join("atlas");
    let made = make_atlas(&atlas);
    assert!(made.status.success(), "{}", stderr(&made));
    assert_eq!(stdout(&made).trim(), atlas.to_str().unwrap());
    let data = atlas.to_str().unwrap();
    let inspect =
        ["data", "inspect", "--dataset", "atlas", "--data", data, "--split", "dev", "--json"];
    let inspected = mmrag(&inspect);
    let counts: serde_json::Value = serde_json::from_str(&stdout(&inspected)).unwrap();
    assert_eq!(counts["questions"], 2);
    assert_eq!(counts["problems"], serde_json::json!([]));

    let again = make_atlas(&atlas);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("not empty"), "{}", stderr(&again));
    assert!(again.stdout.is_empty());
}

#[test]
fn a_wrong_run_file_is_told_with_file_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.toml");
    std::fs::write(&file, "preset = 'demo'\n\n[training]\ngroup_siz = 4\n").unwrap();
    let file = file.to_str().unwrap();
    for stage in ["filter", "rank", "sft"] {
        let output = mmrag(&["train", stage, file]);
        assert_eq!(output.status.code(), Some(1));
        let told = stderr(&output);
        assert!(told.contains("run.toml:4: unknown key `training.group_siz`"), "{told}");
        assert!(output.stdout.is_empty());
    }
    let absent = mmrag(&["train", "rank", "no/such/run.toml"]);
    assert!(stderr(&absent).contains("no/such/run.toml"));
}

#[test]
fn a_missing_model_or_data_set_is_named() {
    let answer = mmrag(&["ask", "Who?", "--data", "no/data", "--model", "no/model"]);
    assert_eq!(answer.status.code(), Some(1));
    assert!(stderr(&answer).contains("no/model"), "{}", stderr(&answer));
    let inspect = ["data", "inspect", "--dataset", "atlas", "--data", "no/data", "--split", "dev"];
    assert!(stderr(&mmrag(&inspect)).contains("no/data"));
}
