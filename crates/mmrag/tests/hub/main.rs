//! `--model ORG/NAME[@REV]` as a user meets it, with a hub that this test plays itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod server;
mod user;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;

use safetensors::SafeTensors;
use server::{Files, Hub, Server, sha256};
use user::User;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Commits of the hub of these tests.
const FIRST: &str = "1111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/qwen3_vl_tiny")
}

/// The fixture's files, those that no model needs among them.
fn checkpoint() -> Files {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read(path).unwrap())
    };
    std::fs::read_dir(fixture()).unwrap().map(read).collect()
}

fn hub(files: Files) -> Hub {
    Hub {
        branches: [("main".to_owned(), FIRST.to_owned())].into(),
        commits: [(FIRST.to_owned(), files)].into(),
        ..Hub::default()
    }
}

#[test]
fn a_model_comes_once_and_then_from_the_cache() {
    let files = checkpoint();
    let server = Server::start(hub(files.clone()));
    let user = User::of(&server);
    let found = user.finds("org/name");
    assert_eq!(found, user.finds(fixture().to_str().unwrap()));
    for file in ["config.json", "generation_config.json", "preprocessor_config.json", WEIGHTS] {
        user.has(FIRST, file, &files[file]);
    }
    let asked: Vec<String> = server.asked().into_iter().map(|request| request.path).collect();
    assert!(!asked.iter().any(|path| path.contains("cases")), "{asked:?}");
    assert_eq!(std::fs::read_to_string(user.place().join("refs/main")).unwrap(), FIRST);
    assert_eq!(user.finds("org/name"), found);
    assert!(server.asked().is_empty());
    drop(server);
    assert_eq!(user.finds("org/name"), found);
    let model = ["model", "check", "--model", "org/name", "--cases"];
    let cases = fixture();
    let check = user.command(&[&model[..], &[cases.to_str().unwrap()]].concat()).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

/// The hub of these tests knows one repository, so the model is a folder here.
#[test]
fn an_adapter_comes_by_its_name_too() {
    let of = |folder: &str, file: &str| {
        let path = fixture().join("../qwen3_vl_tiny_update").join(folder).join(file);
        std::fs::read(path).unwrap()
    };
    let names = ["adapter_config.json", "adapter_model.safetensors"];
    let files: Files =
        names.map(|name| (name.to_owned(), of("adapter_after_3_steps", name))).into();
    let server = Server::start(hub(files.clone()));
    let user = User::of(&server);
    let model = fixture();
    let merge = |adapter: &str, out: &str| {
        let model = model.to_str().unwrap();
        let line = ["model", "merge", "--model", model, "--adapter", adapter, "--out", out];
        user.command(&line).output().unwrap()
    };
    let merged = merge("org/name", "merged");
    assert!(merged.status.success(), "{}", String::from_utf8_lossy(&merged.stderr));
    for name in names {
        user.has(FIRST, name, &files[name]);
    }
    server.asked();
    assert!(merge("org/name", "again").status.success());
    assert!(server.asked().is_empty(), "it is in the cache");
    let local = fixture().join("../qwen3_vl_tiny_update/adapter_after_3_steps");
    assert!(merge(local.to_str().unwrap(), "local").status.success());
    let weights = |out: &str| std::fs::read(user.home.path().join(out).join(WEIGHTS)).unwrap();
    assert_eq!(weights("merged"), weights("local"));
    drop(server);
    let server = Server::start(hub(checkpoint()));
    let user = User::of(&server);
    let line = ["model", "merge", "--model", model.to_str().unwrap(), "--out", "x", "--adapter"];
    let refused = user.command(&[&line[..], &["org/name"]].concat()).output().unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("failed to use the adapter org/name"), "{told}");
    assert!(told.contains("adapter_config.json"), "{told}");
}

/// The vectors that an index got.
fn vectors(index: &Path) -> Vec<u8> {
    let mut files = std::fs::read_dir(index.join("vectors")).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    std::fs::read(file).unwrap()
}

#[test]
fn an_encoder_comes_with_all_that_its_vectors_depend_on() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/bert_tiny");
    let mut files = Files::new();
    for name in ["config.json", "tokenizer.json", WEIGHTS] {
        files.insert(name.into(), std::fs::read(folder.join(name)).unwrap());
    }
    let pooling = br#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
    files.insert("1_Pooling/config.json".into(), pooling.to_vec());
    let prompts = br#"{"prompts": {"document": "red "}}"#;
    files.insert("config_sentence_transformers.json".into(), prompts.to_vec());
    let server = Server::start(hub(files.clone()));
    let user = User::of(&server);
    let here = user.home.path().join("encoder");
    for (name, bytes) in &files {
        let path = here.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    std::fs::create_dir(user.home.path().join("notes")).unwrap();
    std::fs::write(user.home.path().join("notes/sea.txt"), "The sea.").unwrap();
    let embeds = |index: &str, encoder: &str| {
        let arguments = ["index", "notes", "--index", index, "--embedder", encoder];
        let output = user.command(&arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        vectors(&user.home.path().join(index))
    };
    let expected = embeds("first.index", here.to_str().unwrap());
    assert_eq!(embeds("second.index", "org/name"), expected);
    user.has(FIRST, "1_Pooling/config.json", pooling);
    assert!(!server.asked().is_empty());
    assert_eq!(embeds("third.index", "org/name"), expected);
    assert!(server.asked().is_empty(), "it came once");
    let plain = folder.to_str().unwrap().to_owned();
    assert_ne!(embeds("fourth.index", &plain), expected, "they do depend on it");
}

#[test]
fn a_folder_of_this_name_comes_first() {
    let server = Server::start(Hub::default());
    let user = User::of(&server);
    let folder = user.home.path().join("org/name");
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["config.json", "generation_config.json", WEIGHTS] {
        std::fs::copy(fixture().join(file), folder.join(file)).unwrap();
    }
    user.finds("org/name");
    assert!(server.asked().is_empty());
    user.fails("name", &["name", "no such folder", "ORG/NAME"]);
    user.fails("org/name/config.json", &["it is a file"]);
    user.fails("../org/name2", &["no such folder"]);
    assert!(server.asked().is_empty());
}

#[test]
fn every_command_that_takes_a_model_takes_its_name() {
    let server = Server::start(Hub::default());
    let user = User::of(&server).with("HF_HUB_OFFLINE", "1");
    let run = |line: &str| {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = user.command(&arguments).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    run("data make atlas --questions 10 --seed 3 --out atlas");
    let file = "preset = 'demo'\nmodel = 'org/name'\nout = 'run'\ndata.folder = 'atlas'\n";
    std::fs::write(user.home.path().join("run.toml"), file).unwrap();
    for line in [
        "ask Who? --data atlas --model org/name",
        "bench answer --model org/name",
        "bench grpo --model org/name",
        "demo --out demo --model org/name",
        "eval pass --dataset atlas --data atlas --split dev --model org/name",
        "eval run --dataset atlas --data atlas --split dev --out run --model org/name",
        "model check --cases cases --model org/name",
        "model generate Hello --model org/name",
        "model info org/name",
        "model merge --adapter adapter --out merged --model org/name",
        "train filter run.toml",
        "train rank run.toml",
        "train sft run.toml",
    ] {
        let told = run(line);
        assert!(told.contains("failed to find the model org/name@main"), "{line}: {told}");
    }
}

#[test]
fn what_the_python_library_left_is_used() {
    let files = checkpoint();
    let server = Server::start(hub(files.clone()));
    let user = User::of(&server);
    let (blobs, snapshot) = (user.place().join("blobs"), user.snapshot(FIRST));
    for folder in [&blobs, &snapshot, &user.place().join("refs")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(user.place().join("refs/main"), FIRST).unwrap();
    for file in ["config.json", "generation_config.json", "preprocessor_config.json", WEIGHTS] {
        std::fs::write(blobs.join(file), &files[file]).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{file}"), snapshot.join(file)).unwrap();
    }
    let offline = User::of(&server).with("HF_HUB_OFFLINE", "1");
    let cache = user.place().parent().unwrap().to_str().unwrap().to_owned();
    let offline = offline.with("HF_HUB_CACHE", &cache);
    let found = offline.finds("org/name");
    assert!(server.asked().is_empty());
    // Whether more belongs to the model is asked once.
    assert_eq!(user.finds("org/name"), found);
    assert_eq!(server.asked().len(), 1);
    assert_eq!(user.finds("org/name"), found);
    assert!(server.asked().is_empty());
    // A cache that cannot be written does as well.
    std::fs::remove_dir_all(user.place().join(".no_exist")).unwrap();
    std::fs::write(user.place().join(".no_exist"), "").unwrap();
    assert_eq!(user.finds("org/name"), found);
    drop(server);
    let output = user.info("org/name");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("as the cache has it"), "{told}");
}

#[test]
fn who_comes_second_waits_for_the_first() {
    let files = checkpoint();
    let (told, is_told) = mpsc::channel();
    let cut = Some((WEIGHTS.to_owned(), 500_000));
    let server = Server::start(Hub { cut, hold: Some(told), ..hub(files.clone()) });
    let user = User::of(&server);
    let start = || {
        let mut command = user.command(&["model", "info", "org/name"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let first = start();
    is_told.recv().unwrap();
    let mut second = start();
    let mut said = BufReader::new(second.stderr.take().unwrap()).lines();
    let mut heard = Vec::new();
    let is_waiting = said.any(|line| {
        heard.push(line.unwrap());
        heard.last().is_some_and(|line| line.contains("waiting for another download"))
    });
    assert!(is_waiting, "{heard:?}");
    server.change(|hub| (hub.cut, hub.hold) = (None, None));
    server.let_go();
    let first = first.wait_with_output().unwrap();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert!(second.wait().unwrap().success(), "{:?}", said.next());
    user.has(FIRST, WEIGHTS, &files[WEIGHTS]);
    // The first is asked again for what it lacks. The second asks only what there is.
    let asked = server.asked_for(WEIGHTS);
    assert_eq!(asked.iter().filter(|request| request.headers.contains_key("range")).count(), 1);
    assert_eq!(asked.len(), 3);
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let files = checkpoint();
    let server = Server::start(Hub {
        cut: Some((WEIGHTS.to_owned(), 100_000)),
        stored: vec![WEIGHTS.to_owned()],
        ..hub(files.clone())
    });
    let user = User::of(&server);
    let size = files[WEIGHTS].len().to_string();
    user.fails("org/name", &[WEIGHTS, "broke off", &size, "goes on"]);
    assert!(!user.snapshot(FIRST).join(WEIGHTS).exists());
    let [have] = user.parts()[..] else { panic!("{:?}", user.parts()) };
    assert!(have >= 100_000, "{have}");
    server.change(|hub| hub.cut = None);
    server.asked_of_store();
    user.finds("org/name");
    user.has(FIRST, WEIGHTS, &files[WEIGHTS]);
    assert!(user.parts().is_empty());
    let asked = server.asked_of_store();
    let range = format!("bytes={have}-");
    assert!(asked.iter().any(|request| request.headers.get("range") == Some(&range)), "{asked:?}");
}

#[test]
fn a_killed_download_leaves_nothing_that_is_taken_for_whole() {
    let files = checkpoint();
    let (told, is_told) = mpsc::channel();
    let server = Server::start(Hub {
        cut: Some((WEIGHTS.to_owned(), 500_000)),
        hold: Some(told),
        ..hub(files.clone())
    });
    let user = User::of(&server);
    let mut child =
        user.command(&["model", "info", "org/name"]).stderr(Stdio::null()).spawn().unwrap();
    is_told.recv().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!user.snapshot(FIRST).join(WEIGHTS).exists());
    server.change(|hub| (hub.cut, hub.hold) = (None, None));
    user.finds("org/name");
    user.has(FIRST, WEIGHTS, &files[WEIGHTS]);
}

#[test]
fn a_server_without_ranges_gives_the_whole_again() {
    let files = checkpoint();
    let server = Server::start(Hub { no_ranges: true, ..hub(files.clone()) });
    let user = User::of(&server);
    user.put_part(&sha256(&files[WEIGHTS])[..40], &files[WEIGHTS][..1000]);
    user.finds("org/name");
    user.has(FIRST, WEIGHTS, &files[WEIGHTS]);
    assert_eq!(server.asked_for(WEIGHTS).len(), 2);
}

#[test]
fn a_damaged_part_is_found_out_by_its_hash() {
    let files = checkpoint();
    let stored = vec![WEIGHTS.to_owned()];
    let server = Server::start(Hub { stored, ..hub(files.clone()) });
    for length in [1000, files[WEIGHTS].len(), files[WEIGHTS].len() + 1] {
        let user = User::of(&server);
        user.put_part(&sha256(&files[WEIGHTS]), &vec![7; length]);
        user.finds("org/name");
        user.has(FIRST, WEIGHTS, &files[WEIGHTS]);
    }
    // A part that only lacks its name is not downloaded again.
    let user = User::of(&server);
    user.put_part(&sha256(&files[WEIGHTS]), &files[WEIGHTS]);
    server.change(|hub| hub.cut = Some((WEIGHTS.to_owned(), 0)));
    user.finds("org/name");
    user.has(FIRST, WEIGHTS, &files[WEIGHTS]);
}

#[test]
fn a_token_is_for_the_hub_alone() {
    let stored = vec![WEIGHTS.to_owned()];
    let token = Some("Bearer hf_secret".to_owned());
    let server = Server::start(Hub { token, stored, ..hub(checkpoint()) });
    let bare = User::of(&server);
    bare.fails("org/name", &["401", "gated", "HF_TOKEN", "without a token", "--model DIR"]);
    let wrong = User::of(&server).with("HF_TOKEN", "hf_wrong");
    wrong.fails("org/name", &["401", "for a reason", "with the token that is set"]);
    server.asked();
    User::of(&server).with("HF_TOKEN", "hf_secret").finds("org/name");
    let asked = server.asked();
    assert!(asked.iter().all(|request| request.headers["authorization"] == "Bearer hf_secret"));
    let store = server.asked_of_store();
    assert!(!store.is_empty());
    assert!(store.iter().all(|request| !request.headers.contains_key("authorization")));
    std::fs::create_dir_all(bare.home.path().join(".cache/huggingface")).unwrap();
    std::fs::write(bare.home.path().join(".cache/huggingface/token"), "hf_secret\n").unwrap();
    bare.finds("org/name");
}

#[test]
fn what_is_missing_is_told_with_the_way_out() {
    let server = Server::start(hub(checkpoint()));
    let user = User::of(&server);
    user.fails("org/other", &["org/other", "404", "spelling", "no folder", "--model DIR"]);
    user.fails("org/name@v9", &["v9", "404"]);
    let place = "hub/models--org--name";
    let offline = User::of(&server).with("HF_HUB_OFFLINE", "1");
    server.asked();
    offline.fails("org/name", &["HF_HUB_OFFLINE", place, "holds nothing", "config.json"]);
    assert!(server.asked().is_empty());
    server.change(|hub| hub.cut = Some((WEIGHTS.to_owned(), 0)));
    user.fails("org/name@main", &[WEIGHTS, "broke off"]);
    drop(server);
    user.fails("org/name@main", &["cannot be reached", "HF_ENDPOINT", place]);
    let commit = format!("org/name@{FIRST}");
    let offline = user.with("HF_HUB_OFFLINE", "1");
    offline.fails(&commit, &["HF_HUB_OFFLINE", "lacks model.safetensors"]);
    let elsewhere = offline.with("HF_ENDPOINT", "elsewhere");
    elsewhere.fails("org/name", &["HF_ENDPOINT", "elsewhere"]);
}

#[test]
fn a_revision_is_the_one_that_was_asked_for() {
    let first = checkpoint();
    let mut second = first.clone();
    second.insert("generation_config.json".into(), b"{\"eos_token_id\": 3}".to_vec());
    let mut hub = hub(first.clone());
    hub.branches.insert("refs/pr/1".to_owned(), SECOND.to_owned());
    hub.commits.insert(SECOND.to_owned(), second.clone());
    let server = Server::start(hub);
    let user = User::of(&server);
    user.finds("org/name@refs/pr/1");
    user.has(SECOND, "generation_config.json", &second["generation_config.json"]);
    assert!(!user.snapshot(FIRST).exists());
    // The weights of both are the same and do not come twice.
    server.change(|hub| hub.cut = Some((WEIGHTS.to_owned(), 0)));
    user.finds(&format!("org/name@{FIRST}"));
    user.has(FIRST, "generation_config.json", &first["generation_config.json"]);
    user.has(FIRST, WEIGHTS, &first[WEIGHTS]);
    drop(server);
    user.finds("org/name@refs/pr/1");
    user.finds(&format!("org/name@{FIRST}"));
    user.fails("org/name", &["cannot be reached"]);
}

/// The checkpoint with its weights in two files.
fn sharded() -> Files {
    let mut files = checkpoint();
    let weights = files.remove(WEIGHTS).unwrap();
    let tensors = SafeTensors::deserialize(&weights).unwrap();
    let tensors = tensors.tensors();
    let mut map = serde_json::Map::new();
    for (nth, part) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
        let shard = format!("model-{:05}-of-00002.safetensors", nth + 1);
        let named = part.iter().map(|(name, view)| (name, view));
        map.extend(part.iter().map(|(name, _)| (name.clone(), shard.clone().into())));
        files.insert(shard, safetensors::serialize(named, None).unwrap());
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    files.insert(INDEX.to_owned(), index.to_string().into_bytes());
    files
}

#[test]
fn all_shards_come() {
    let files = sharded();
    let shards: Vec<&String> = files.keys().filter(|file| file.contains("-of-")).collect();
    assert_eq!(shards.len(), 2);
    let cut = Some((shards[1].clone(), 1000));
    let server = Server::start(Hub { cut, ..hub(files.clone()) });
    let user = User::of(&server);
    user.fails("org/name", &[shards[1], "broke off"]);
    let mut offline = user.with("HF_HUB_OFFLINE", "1");
    offline.fails(&format!("org/name@{FIRST}"), &[&format!("lacks {}", shards[1])]);
    offline.variables.pop();
    server.change(|hub| hub.cut = None);
    let found = offline.finds("org/name");
    assert_eq!(found, offline.finds(fixture().to_str().unwrap()));
    for shard in &shards {
        offline.has(FIRST, shard, &files[*shard]);
    }
    let lacking = |hub: &mut Hub| hub.commits.get_mut(FIRST).unwrap().remove(shards[1]);
    server.change(lacking);
    User::of(&server).fails("org/name", &[INDEX, shards[1], "does not hold"]);
}

#[test]
fn pickled_weights_are_refused_before_anything_comes() {
    let mut files = checkpoint();
    let weights = files.remove(WEIGHTS).unwrap();
    files.insert("pytorch_model.bin".to_owned(), weights);
    files.remove("cases.safetensors");
    let server = Server::start(hub(files));
    let user = User::of(&server);
    user.fails("org/name", &["pytorch_model.bin", "safetensors", "save_pretrained"]);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn nothing_is_written_beside_the_cache() {
    let mut files = sharded();
    let index = String::from_utf8(files[INDEX].clone()).unwrap();
    let index = index.replace("model-00001-of-00002", "../../../../../../out");
    files.insert(INDEX.to_owned(), index.into_bytes());
    let server = Server::start(hub(files));
    let user = User::of(&server);
    user.fails("org/name", &["../out.safetensors", "no plain name"]);
    let to = "../../../../../../out".to_owned();
    server.change(|hub| hub.branches.insert("main".to_owned(), to.clone()));
    server.change(|hub| hub.commits.insert(to.clone(), checkpoint()));
    User::of(&server).fails("org/name", &["no commit"]);
    server.change(|hub| hub.branches.insert("main".to_owned(), SECOND.to_owned()));
    server.change(|hub| hub.commits.insert(SECOND.to_owned(), checkpoint()));
    let names = |user: &User| -> Vec<_> {
        let entries = std::fs::read_dir(user.home.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    for etag in [to.as_str(), "the-same-for-all"] {
        server.change(|hub| hub.etag = Some(etag.to_owned()));
        let user = User::of(&server);
        user.finds("org/name");
        for file in ["config.json", "generation_config.json", "preprocessor_config.json", WEIGHTS] {
            user.has(SECOND, file, &checkpoint()[file]);
        }
        assert_eq!(names(&user), [".cache"]);
    }
    assert_eq!(names(&user), [".cache"]);
}
