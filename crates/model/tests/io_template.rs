//! Chat templates render as transformers renders them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use mmrag_model::{ChatTemplate, RenderOptions};
use serde_json::{Value, json};

fn check(source: &str, messages: &Value, expected: &str) {
    let template = ChatTemplate::parse(Path::new("t.jinja"), source.to_owned()).unwrap();
    let rendered = template.render(messages, RenderOptions::default()).unwrap();
    assert_eq!(rendered, expected, "{source}");
}

/// Each expected text is what Jinja2 gives with transformers' settings.
#[test]
fn features_that_published_templates_use() {
    let one = json!([{"role": "user", "content": "  Hi </think> there\n"}]);
    let rows = [
        ("{% for m in messages %}\n  {{ m.role }}\n{% endfor %}\n", "  user\n"),
        ("    {% if true %}\nx\n    {% endif %}\ny", "x\ny"),
        ("{{ messages[0].content.split('</think>')[-1].lstrip() }}|", "there\n|"),
        ("{{ messages[0]['content'] | trim }}", "Hi </think> there"),
        ("{{ messages[0].content.strip().startswith('Hi') }}", "True"),
        (
            "{% set n = namespace(i=0) %}{% for m in messages %}{% set n.i = n.i + 1 %}{% endfor %}{{ n.i }}",
            "1",
        ),
        (
            "{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
            "1",
        ),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f('&') }}", "<&>"),
        (
            "{{ {'b': ['<', 1.5, none, true], 'a': 'ü'} | tojson }}",
            "{\"b\": [\"<\", 1.5, null, true], \"a\": \"ü\"}",
        ),
        (
            "{% for m in messages[::-1] %}{{ loop.index0 }}{% endfor %}{{ messages[0].x is defined }}",
            "0False",
        ),
        ("{{ bos_token }}{{ add_generation_prompt }}", "True"),
        ("{{ strftime_now is defined }}", "False"),
    ];
    for (source, expected) in rows {
        check(source, &one, expected);
    }
}

#[test]
fn a_refusal_names_the_file_and_the_reason() {
    let parse = |source: &str| ChatTemplate::parse(Path::new("t.jinja"), source.to_owned());
    let template = parse("{{ raise_exception('roles must alternate') }}").unwrap();
    let error = template.render(&json!([]), RenderOptions::default()).unwrap_err().to_string();
    assert!(error.contains("t.jinja") && error.contains("roles must alternate"), "{error}");
    let error = parse("{% if %}").unwrap_err().to_string();
    assert!(error.contains("t.jinja"), "{error}");
}

#[test]
fn a_template_is_found_in_each_of_its_places() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let render = || {
        let template = ChatTemplate::load(dir.path()).unwrap();
        template.render(&json!([]), RenderOptions::default()).unwrap()
    };
    assert!(ChatTemplate::load(dir.path()).is_err());
    let named = r#"{"eos_token": {"content": "E"}, "chat_template":
        [{"name": "tool", "template": "no"}, {"name": "default", "template": "named {{ eos_token }}"}]}"#;
    write("tokenizer_config.json", named);
    assert_eq!(render(), "named E");
    write("chat_template.json", r#"{"chat_template": "json {{ eos_token }}"}"#);
    assert_eq!(render(), "json E");
    write("chat_template.jinja", "jinja");
    assert_eq!(render(), "jinja");
}

/// Renders every chat of a file, which says what transformers renders; how many there were.
fn check_chats(path: &Path, file: &Value, source: &str) -> usize {
    let template = ChatTemplate::parse(path, source.to_owned()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        let flag = |key: &str| case.get(key).and_then(Value::as_bool).unwrap_or(false);
        let options = RenderOptions {
            add_generation_prompt: flag("add_generation_prompt"),
            add_vision_id: flag("add_vision_id"),
        };
        let rendered = template.render(&case["messages"], options).unwrap();
        assert_eq!(rendered, case["rendered"].as_str().unwrap(), "{}", path.display());
    }
    cases.len()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Templates of our own of the kind that checkpoints carry: several pictures, system prompts,
/// macros, namespaces, string methods, slices, an opened `<think>` (interop/make_chats.py).
#[test]
fn templates_of_the_published_kind_render_as_transformers_renders_them() {
    let chats = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chats");
    for name in ["album", "reasoner"] {
        let path = chats.join(name).with_extension("jinja");
        let source = std::fs::read_to_string(&path).unwrap();
        assert_eq!(check_chats(&path, &read(&path.with_extension("json")), &source), 6);
    }
}

#[test]
fn a_template_refuses_what_it_does_not_know() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chats/album.jinja");
    let template = ChatTemplate::parse(&path, std::fs::read_to_string(&path).unwrap()).unwrap();
    let messages = json!([{"role": "tool", "content": "x"}]);
    let error = template.render(&messages, RenderOptions::default()).unwrap_err().to_string();
    assert!(error.contains("album.jinja") && error.contains("unknown role: tool"), "{error}");
}

/// The published templates may be used for checks, not copied: they stand in the folder that
/// `MMRAG_FIXTURES` names.
#[test]
fn the_fixtures_render_as_transformers_renders_them() {
    let Some(fixtures) = std::env::var_os("MMRAG_FIXTURES").map(PathBuf::from) else {
        println!("skipped: MMRAG_FIXTURES is not set");
        return;
    };
    let mut cases = 0;
    for entry in std::fs::read_dir(fixtures.join("chat_templates")).unwrap() {
        let path = entry.unwrap().path();
        let file = read(&path);
        cases += check_chats(&path, &file, file["template"].as_str().unwrap());
    }
    assert!(cases > 0, "the folder holds no cases");
}
