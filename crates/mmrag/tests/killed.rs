//! A training that is killed again and again ends with the bytes of one that was left alone.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const STEPS: usize = 6;

fn mmrag() -> Command {
    Command::new(env!("CARGO_BIN_EXE_mmrag"))
}

/// Two questions a step, four replies each, a checkpoint after every step.
fn run_file(folder: &Path, name: &str) -> String {
    let (atlas, out) = (folder.join("atlas"), folder.join(name));
    let text = format!(
        "preset = 'demo'\nout = '{}'\n[data]\nfolder = '{}'\ndev_questions = 2\n[training]\nseed = 3\n\
         steps = {STEPS}\nprompts_per_step = 2\n[training.rollout]\ngroup_size = 4\nretries = 0\n\
         max_completion_tokens = 96\n[training.cases]\nmax_documents = 4\n\
         [training.cadence]\nevaluate = {STEPS}\ncheckpoint = 1\n",
        out.display(),
        atlas.display(),
    );
    let path = folder.join(format!("{name}.toml"));
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn start(run: &str) -> Child {
    let mut command = mmrag();
    command.args(["train", "rank", run]).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits until `is_time`, or the training is over; kills it, and says whether it was still there.
fn kill_when(mut child: Child, is_time: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !is_time() && child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_mins(2), "the moment never comes");
        // A checkpoint is written within milliseconds.
        sleep(Duration::from_micros(20));
    }
    let was_running = child.try_wait().unwrap().is_none();
    let _ = child.kill();
    child.wait().unwrap();
    was_running
}

/// Every file of a run but the timings, and but the settings, which name the folder.
fn bytes(place: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![place.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("timings.jsonl") && !path.ends_with("settings.json") {
                let name = path.strip_prefix(place).unwrap().to_string_lossy().into_owned();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// How long the last step of a run took.
fn step_time(place: &Path) -> Duration {
    let text = std::fs::read_to_string(place.join("timings.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    Duration::from_secs_f64(last["step_time"].as_f64().unwrap())
}

#[test]
fn a_killed_training_goes_on_to_the_bytes_of_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let make = ["data", "make", "atlas", "--questions", "40", "--seed", "3", "--out"];
    assert!(mmrag().args(make).arg(folder.join("atlas")).output().unwrap().status.success());

    let whole = start(&run_file(folder, "whole")).wait_with_output().unwrap();
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));

    let run = run_file(folder, "killed");
    let place = folder.join("killed");
    let logged = || {
        let text = std::fs::read_to_string(place.join("metrics.jsonl")).unwrap_or_default();
        text.lines().count()
    };
    let step_time = step_time(&folder.join("whole"));
    // Some way into the step that follows a checkpoint: early in it replies are drawn, late in it
    // the weights are updated.
    let into_the_step_after = |step: usize, share: f64| {
        let checkpoint = place.join(format!("checkpoints/step-{step:06}"));
        kill_when(start(&run), || {
            let is_there = checkpoint.exists() && logged() >= step;
            if is_there {
                sleep(step_time.mul_f64(share));
            }
            is_there
        })
    };
    assert!(kill_when(start(&run), || place.join("settings.json").exists()));
    assert!(into_the_step_after(1, 0.2));
    assert!(into_the_step_after(2, 0.8));
    // While a checkpoint is written. Which one it is depends on how long the steps took.
    let is_drafting = || {
        let names = std::fs::read_dir(place.join("checkpoints")).unwrap().flatten();
        names
            .map(|entry| entry.file_name())
            .any(|name| name.to_string_lossy().starts_with(".draft-0"))
    };
    assert!(kill_when(start(&run), is_drafting));
    let last = start(&run).wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&last.stderr);
    assert!(last.status.success(), "{told}");
    assert!(told.contains("rank: going on after step"), "{told}");

    let (expected, found) = (bytes(&folder.join("whole")), bytes(&place));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected));
    for (name, bytes) in &expected {
        assert!(found[name] == *bytes, "{name} differs");
    }
    // The adapter was trained at all.
    let norms = std::fs::read_to_string(place.join("metrics.jsonl")).unwrap();
    assert!(norms.contains("\"grad_norm\""), "{norms}");
}
