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

#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_for_the_cpu_says_so_when_a_gpu_is_asked_for() {
    let refused = mmrag(&["model", "generate", "Hi", "--device", "cuda:1"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("cargo build --release --features cuda"));
    let unknown = mmrag(&["--device", "tpu", "model", "generate", "Hi"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("none of auto, cpu, cuda and cuda:N"));
}

#[test]
fn help_names_every_command() {
    let help = mmrag(&["--help"]);
    assert!(help.status.success());
    let commands =
        ["demo", "data", "train", "ablate", "index", "ask", "eval", "bench", "serve", "model"];
    for command in commands {
        assert!(stdout(&help).contains(&format!("\n  {command} ")), "{command}");
        assert!(mmrag(&[command, "--help"]).status.success());
    }
    let wrong = mmrag(&["dmeo"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("demo"));
}

#[test]
fn a_model_is_checked_and_goes_on_with_a_chat() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures");
    let fixture = |name: &str| fixtures.join(name).display().to_string();
    let model = fixture("qwen3_vl_tiny");
    let adapter = fixture("qwen3_vl_tiny_update/adapter_after_3_steps");
    let same = mmrag(&["model", "check", "--model", &model, "--cases", &model]);
    assert!(same.status.success(), "{}", stderr(&same));
    assert!(stdout(&same).contains("logits") && !stdout(&same).contains("DIFFERS"));
    let other =
        mmrag(&["model", "check", "--model", &model, "--adapter", &adapter, "--cases", &model]);
    assert_eq!(other.status.code(), Some(1));
    assert!(stdout(&other).contains("DIFFERS"), "{}", stdout(&other));
    for family in ["qwen3_vl_tiny", "qwen2_5_vl_tiny"] {
        let (model, update) = (fixture(family), fixture(&format!("{family}_update")));
        let steps = mmrag(&["model", "check", "--model", &model, "--cases", &update]);
        assert!(steps.status.success(), "{}{}", stdout(&steps), stderr(&steps));
        for row in ["step 2", "grad_norm", "ref_logprobs", "change over all steps"] {
            assert!(stdout(&steps).contains(row), "{row}: {}", stdout(&steps));
        }
        let twice = ["--adapter", &adapter];
        let refused = mmrag(
            &[&["model", "check", "--model", &model, "--cases", &update], &twice[..]].concat(),
        );
        assert!(stderr(&refused).contains("leave --adapter out"), "{}", stderr(&refused));
    }

    let image = fixtures.join("qwen3_vl_tiny/one_image.0.png").display().to_string();
    let chat = ["model", "generate", "Describe.", "--image", &image, "--max-new-tokens", "5"];
    let told = mmrag(&chat);
    assert!(told.status.success(), "{}", stderr(&told));
    let json = mmrag(&[&chat[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(stdout(&told), format!("{}\n", json["text"].as_str().unwrap()));
    let wrong = mmrag(&["model", "generate", "Describe.", "--top-p", "2"]);
    assert!(stderr(&wrong).contains("--top-p 2"), "{}", stderr(&wrong));
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

    assert_eq!(counts["by"]["split"], serde_json::json!({"dev": 2}));
    let whole = mmrag(&["data", "inspect", "--dataset", "atlas", "--data", data, "--json"]);
    let whole: serde_json::Value = serde_json::from_str(&stdout(&whole)).unwrap();
    assert_eq!(whole["questions"], 10);
    let converted = folder.path().join("converted");
    let out = converted.to_str().unwrap();
    let made = mmrag(&["data", "convert", "--dataset", "atlas", "--data", data, "--out", out]);
    assert!(made.status.success(), "{}", stderr(&made));
    let again = mmrag(&["data", "inspect", "--dataset", "jsonl", "--data", out, "--json"]);
    let again: serde_json::Value = serde_json::from_str(&stdout(&again)).unwrap();
    for key in ["questions", "texts", "tables", "images", "by", "problems"] {
        assert_eq!(again[key], whole[key], "{key}");
    }
    std::fs::remove_file(converted.join("documents.jsonl")).unwrap();
    std::fs::write(converted.join("documents.jsonl"), "[]\n").unwrap();
    let strict =
        mmrag(&["data", "inspect", "--dataset", "jsonl", "--data", out, "--strict", "--json"]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(stderr(&strict).contains("problems in"), "{}", stderr(&strict));
    assert!(stdout(&strict).contains("documents.jsonl, line 1: not a row"));

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
    let answer = mmrag(&["ask", "Who?", "--data", "no/data", "--model", "./no/model"]);
    assert_eq!(answer.status.code(), Some(1));
    assert!(stderr(&answer).contains("no/model"), "{}", stderr(&answer));
    let inspect = ["data", "inspect", "--dataset", "atlas", "--data", "no/data", "--split", "dev"];
    assert!(stderr(&mmrag(&inspect)).contains("no/data"));
}

#[test]
fn a_run_begins_with_what_the_one_before_trained_and_is_held_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let new = mmrag(&["model", "new", "--seed", "1", "--out", place("new").to_str().unwrap()]);
    assert!(new.status.success(), "{}", stderr(&new));
    let phase = "[[phases]]\nlessons = 2\ndescribe = 1.0\nrecite = 0.0\nread = 0.0\nquiz = 0.0\n\
                 filter = 0.0\nrank = 0.0\ndocuments = [1, 1]\nreasoning = 1.0\n";
    let write = |name: &str, begins: &str| {
        let out = place(name);
        let text = format!(
            "preset = 'from_scratch'\n{begins}\nout = '{}'\n{phase}[data]\ndev_questions = 1\n\
             [training]\nlessons_per_step = 1\n",
            out.display()
        );
        std::fs::write(place(&format!("{name}.toml")), text).unwrap();
    };
    write("first", &format!("model = '{}'", place("new").display()));
    write("second", "after = 'first.toml'");
    let second = place("second.toml");
    let train = || mmrag(&["train", "sft", second.to_str().unwrap()]);
    let trained = train();
    assert!(trained.status.success(), "{}", stderr(&trained));
    assert_eq!(stdout(&trained).trim(), place("second/model").display().to_string());
    let text = std::fs::read_to_string(place("second/settings.json")).unwrap();
    let settings: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(settings["model"], place("first/model").to_str().unwrap());
    // Nothing is left to do, until the first model is another one.
    assert!(train().status.success());
    let weights = place("first/model/model.safetensors");
    std::fs::copy(place("new/model.safetensors"), weights).unwrap();
    let refused = train();
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("weights.model"), "{}", stderr(&refused));
}

#[test]
fn a_checkpoint_without_a_tokenizer_is_timed_and_foretold() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/qwen3_vl_tiny");
    let model = model.display().to_string();
    let size = "--text 20 --images 1 --image-size 64 --group 2 --new 3";
    let ask = |command: &str, more: &str| -> serde_json::Value {
        let arguments: Vec<&str> = ["bench", command, "--model", &model]
            .into_iter()
            .chain(more.split_whitespace())
            .collect();
        let output = mmrag(&arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_str(&stdout(&output)).expect("the figures are JSON")
    };
    for more in ["", "--full", "--full --gradient-checkpointing", "--repeat-prompt"] {
        let timed = ask("grpo", &format!("{size} --repeats 1 --cold {more}"));
        let copies = if more == "--repeat-prompt" { 2 } else { 1 };
        let prompt = timed["prompt_tokens"].as_u64().expect("a number");
        assert_eq!(timed["update_tokens"].as_u64(), Some(copies * prompt + 6), "{more}");
        assert!(timed["update_product_flops"].as_f64() > Some(0.0));
        assert_eq!(timed["training"]["full"], more.contains("--full"));
    }
    let told = ask("grpo", &format!("{size} --dry-run"));
    let weights = std::fs::metadata(Path::new(&model).join("model.safetensors")).expect("a file");
    assert!(told["weights_bytes"].as_u64() <= Some(weights.len()));
    assert!(told["peak_bytes"].as_u64() > told["weights_bytes"].as_u64());
    let decoded = ask("decode", "--text 9 --images 0 --new 2 --completions 1,3 --repeats 1 --cold");
    assert_eq!(decoded["batches"].as_array().map(Vec::len), Some(2));
    let refused = mmrag(&["bench", "grpo", "--group", "0"]);
    assert!(stderr(&refused).contains("at least 1"), "{}", stderr(&refused));
}

#[test]
fn supervised_training_is_foreseen_without_a_model_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let run = |line: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_mmrag"))
            .current_dir(at)
            .args(line.split_whitespace())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run("data make atlas --questions 40 --seed 3 --out atlas");
    let file = "preset = 'demo'\nout = 'run'\n[data]\nfolder = 'atlas'\ndev_questions = 2\n\
                [training]\nepochs = 2\nlessons_per_step = 4\n";
    std::fs::write(at.join("run.toml"), file).unwrap();
    let told: serde_json::Value =
        serde_json::from_str(&run("train sft run.toml --dry-run")).unwrap();
    // 24 of the 40 questions are to train on.
    assert_eq!(told["steps"], 12, "{told}");
    assert_eq!(told["sample_s"], 0.0);
    let number = |key: &str| told[key].as_f64().unwrap();
    assert!(number("peak_bytes") > number("weights_bytes") && number("update_s") > 0.0, "{told}");
    assert!((number("all_steps_s") - 12.0 * number("update_s")).abs() < 1e-6, "{told}");
    assert!(!at.join("run").exists(), "nothing is written");
}

#[test]
fn a_ranking_is_foreseen_with_all_that_comes_before_and_after() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let run = |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mmrag"));
        let output = command.current_dir(at).args(line.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run("data make atlas --questions 40 --seed 3 --out atlas");
    let file = "preset = 'demo'\nout = 'run'\nfilter_adapter = 'not/yet'\n[data]\n\
                folder = 'atlas'\ndev_questions = 2\n[training]\nsteps = 3\nprompts_per_step = 2\n\
                [training.rollout]\ngroup_size = 2\nmax_completion_tokens = 4\n";
    std::fs::write(at.join("run.toml"), file).unwrap();
    let told: serde_json::Value =
        serde_json::from_str(&run("train rank run.toml --dry-run")).unwrap();
    let phases = told["phases"].as_object().unwrap();
    let names =
        ["confidence", "evaluations", "filter dev", "filter for confidence", "filter train"];
    assert!(names.iter().all(|name| phases.contains_key(*name)) && phases.len() == 5, "{told}");
    // Before the first step and after the last.
    assert_eq!(told["phases"]["evaluations"]["times"], 2);
    assert_eq!(told["phases"]["filter train"]["questions"], 24);
    assert_eq!(told["filter"]["source"], "assumed");
    assert_eq!(told["new_tokens"]["most"], 4);
    let seconds = |of: &serde_json::Value| of["seconds"].as_f64().unwrap();
    let around: f64 = phases.values().map(seconds).sum();
    let number = |key: &str| told[key].as_f64().unwrap();
    assert!(around > 0.0 && number("sample_s") > 0.0 && number("update_s") > 0.0, "{told}");
    assert!((number("all_s") - number("all_steps_s") - around).abs() < 1e-6, "{told}");
}

#[test]
fn what_has_no_dev_questions_is_trained_with_those_of_another_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let run = |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mmrag"));
        let output = command.current_dir(at).args(line.split_whitespace()).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), told, String::from_utf8(output.stdout).unwrap())
    };
    assert!(run("data make atlas --questions 40 --seed 3 --out atlas").0);
    let (converted, told, _) =
        run("data convert --dataset atlas --data atlas --split train --out own");
    assert!(converted, "{told}");
    let file = "preset = 'demo'\nout = 'run'\n[data]\ndataset = 'jsonl'\nfolder = 'own'\n";
    std::fs::write(at.join("run.toml"), file).unwrap();
    let (read, told, _) = run("train filter run.toml --dry-run");
    assert!(!read && told.contains("data.dev_folder") && told.contains("dev.jsonl"), "{told}");
    let file = format!("{file}dev_folder = 'atlas'\ndev_dataset = 'atlas'\n");
    std::fs::write(at.join("run.toml"), file).unwrap();
    let (read, told, predicted) = run("train filter run.toml --dry-run");
    assert!(read && predicted.contains("peak_bytes"), "{told}");
}
