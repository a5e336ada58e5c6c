//! Input that cannot be used, through the command: an error that names the file and the way out,
//! in little memory, before any long work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::{ExtendedColorType, ImageEncoder as _};

/// Virtual memory that the command may take, in KiB: a tenth of what the pictures below ask for.
const MOST_KIB: usize = 1 << 20;

fn built_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("model")
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures").join(name)
}

/// Runs the command, in bounded memory where there is a shell that can bound it.
fn mmrag(arguments: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_mmrag");
    let mut command = if cfg!(target_os = "linux") {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -v {MOST_KIB} && exec \"$0\" \"$@\"");
        shell.args(["-c", &script, binary]);
        shell
    } else {
        Command::new(binary)
    };
    command.args(arguments).output().expect("the command starts")
}

/// The command fails, says all of this, and writes nothing on stdout.
fn check(arguments: &[&str], expected: &[&str]) {
    let output = mmrag(arguments);
    let told = String::from_utf8(output.stderr).expect("stderr is text");
    assert_eq!(output.status.code(), Some(1), "{told}");
    for part in expected {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
    assert!(output.stdout.is_empty(), "{arguments:?}");
}

/// A copy of a model's folder, without a large file of its history.
fn copy_of(model: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("there is room");
    for entry in fs::read_dir(model).expect("the model is there") {
        let path = entry.expect("the folder can be read").path();
        let is_log = path.extension().is_some_and(|kind| kind == "jsonl");
        if path.is_file() && !is_log {
            let name = path.file_name().expect("files have names");
            fs::copy(&path, copy.path().join(name)).expect("there is room");
        }
    }
    copy
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}

#[test]
fn truncated_weights() {
    let copy = copy_of(&built_in());
    let file = copy.path().join("model.safetensors");
    let whole = fs::read(&file).expect("the weights are there");
    fs::write(&file, &whole[..whole.len() - 100]).expect("there is room");
    let model = text(copy.path());
    let expected = [text(&file), "truncated or damaged", "download it again"];
    check(&["model", "info", model], &expected);
    check(&["model", "generate", "Hi", "--model", model], &expected);
    check(&["model", "check", "--model", model, "--cases", model], &expected);
    // A header that promises more than there is.
    let mut header = (1u64 << 40).to_le_bytes().to_vec();
    header.extend([b'{'; 100]);
    fs::write(&file, header).expect("there is room");
    check(&["model", "generate", "Hi", "--model", model], &expected);
}

/// The file says F32 and the architecture takes it, until the header says whole numbers.
#[test]
fn weights_of_a_wrong_type() {
    let copy = copy_of(&built_in());
    let file = copy.path().join("model.safetensors");
    let mut bytes = fs::read(&file).expect("the weights are there");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let json = std::str::from_utf8(&bytes[8..8 + header]).expect("the header is text");
    let changed = json.replacen("\"BF16\"", "\"I16\" ", 1).replacen("\"F32\"", "\"I32\"", 1);
    assert_ne!(json, changed);
    let changed = changed.into_bytes();
    bytes[8..8 + header].copy_from_slice(&changed);
    fs::write(&file, bytes).expect("there is room");
    let kind = "should be F32, BF16 or F16 but is I";
    check(
        &["model", "generate", "Hi", "--model", text(copy.path())],
        &[text(&file), "the tensor `", kind, "take configuration and weights from one checkpoint"],
    );
}

/// The weights are gone as well: it is told before they are looked for.
#[test]
fn a_tokenizer_without_the_image_token() {
    let copy = copy_of(&built_in());
    fs::remove_file(copy.path().join("model.safetensors")).expect("the weights were there");
    let file = copy.path().join("tokenizer.json");
    let tokenizer = fs::read_to_string(&file).expect("the tokenizer is there");
    fs::write(&file, tokenizer.replace("<|image_pad|>", "<|no_more|>")).expect("there is room");
    let config = copy.path().join("config.json");
    let known = fs::read_to_string(&config).expect("the configuration is there");
    let mut value: serde_json::Value = serde_json::from_str(&known).expect("it is JSON");
    value["image_token_id"] = 7.into();
    fs::write(&config, value.to_string()).expect("there is room");
    let told = [text(&file), "no special token", "take the tokenizer.json that belongs"];
    check(&["model", "generate", "Hi", "--model", text(copy.path())], &told);
}

/// Patches of one size, a vision tower for another.
#[test]
fn a_processor_of_another_checkpoint() {
    let copy = copy_of(&built_in());
    fs::remove_file(copy.path().join("model.safetensors")).expect("the weights were there");
    let file = copy.path().join("preprocessor_config.json");
    let known = fs::read_to_string(&file).expect("the settings are there");
    let mut value: serde_json::Value = serde_json::from_str(&known).expect("they are JSON");
    value["patch_size"] = 14.into();
    fs::write(&file, value.to_string()).expect("there is room");
    let told = [text(&file), "`patch_size` is 14", "from one checkpoint"];
    check(&["model", "generate", "Hi", "--model", text(copy.path())], &told);
}

#[test]
fn an_adapter_of_another_base() {
    let adapter = fixture("qwen3_vl_tiny_update/adapter_init");
    let told = [text(&adapter), "made for `qwen3_vl_tiny`", "give the checkpoint that it was made"];
    check(&["model", "generate", "Hi", "--adapter", text(&adapter)], &told);
    // It is told before the rest of the model's folder is looked at, weights and all.
    let copy = copy_of(&built_in());
    fs::remove_file(copy.path().join("tokenizer.json")).expect("the tokenizer was there");
    let model = text(copy.path());
    check(&["model", "generate", "Hi", "--adapter", text(&adapter), "--model", model], &told);
    let data = text(copy.path());
    let ask = ["ask", "Who?", "--data", data, "--model", model, "--rank-adapter", text(&adapter)];
    check(&ask, &told);
    let out = tempfile::tempdir().expect("there is room");
    let arguments = ["model", "merge", "--adapter", text(&adapter), "--out", text(out.path())];
    check(&arguments, &told);
    let other = fixture("qwen2_5_vl_tiny");
    let other = text(&other);
    check(
        &["model", "check", "--model", other, "--adapter", text(&adapter), "--cases", other],
        &told,
    );
}

/// A PNG of so many pixels of one colour, row by row: what it holds is not held here.
fn flat_png(path: &Path, width: u32, height: u32) {
    let file = fs::File::create(path).expect("there is room");
    let pixels = vec![0; width as usize * height as usize];
    image::codecs::png::PngEncoder::new(file)
        .write_image(&pixels, width, height, ExtendedColorType::L8)
        .expect("the picture is written");
}

/// No model stands behind `--model`: pictures are looked at before weights.
#[test]
fn pictures_of_a_size_that_cannot_be_used() {
    let copy = copy_of(&built_in());
    fs::remove_file(copy.path().join("model.safetensors")).expect("the weights were there");
    let refused = |name: &str, expected: &[&str]| {
        let path = copy.path().join(name);
        let arguments = ["model", "generate", "?", "--image", text(&path)];
        let all = [&[text(&path)], expected].concat();
        check(&[&arguments[..], &["--model", text(copy.path())]].concat(), &all);
    };
    flat_png(&copy.path().join("dot.png"), 1, 1);
    refused("dot.png", &["1x1", "give the picture that it stands for"]);
    flat_png(&copy.path().join("strip.png"), 20_000, 20);
    refused("strip.png", &["20000x20", "at most 200 times the other; cut or pad it"]);
    // 400 million pixels in 400 kB; as RGB they would be 1.2 GB.
    flat_png(&copy.path().join("bomb.png"), 20_000, 20_000);
    let size = fs::metadata(copy.path().join("bomb.png")).expect("it was written").len();
    assert!(size < 4_000_000, "{size}");
    refused("bomb.png", &["20000x20000", "more than 100 million pixels; make it smaller"]);
    fs::write(copy.path().join("text.png"), "no picture").expect("there is room");
    refused("text.png", &["give a whole JPEG, PNG"]);
    refused("absent.png", &["No such file"]);
}
