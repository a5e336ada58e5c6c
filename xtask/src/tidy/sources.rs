//! Rules that one source file can break.

use crate::lexer::{blank_comments_and_literals, is_word};

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 70;
const BANNED_FILES: &[&str] = &["utils", "util", "common", "helpers", "helper", "misc"];
const UNSAFE_CRATES: &[&str] = &["crates/ops/", "crates/map/"];

/// The broken rules of one file, named by its path below the workspace's root.
pub(super) fn check(file: &str, source: &str) -> Vec<String> {
    let code = blank_comments_and_literals(source);
    let mut problems = Vec::new();
    problems.extend(banned_name(file));
    problems.extend(too_long(file, &code));
    problems.extend(long_functions(file, &code));
    problems.extend(unsafe_outside(file, &code));
    problems.extend(open_marks(file, source));
    problems.extend(missing_module_doc(file, source));
    problems
}

fn banned_name(file: &str) -> Option<String> {
    file.split('/')
        .map(|part| part.trim_end_matches(".rs"))
        .find(|stem| BANNED_FILES.contains(stem))
        .map(|stem| format!("{file}: `{stem}` says nothing; name it by its main noun"))
}

fn too_long(file: &str, code: &str) -> Option<String> {
    let lines = code_lines(code);
    (lines > MAX_FILE_LINES)
        .then(|| format!("{file}: {lines} lines of code; split it below {MAX_FILE_LINES}"))
}

fn long_functions(file: &str, code: &str) -> Vec<String> {
    functions(code)
        .into_iter()
        .filter(|function| function.lines > MAX_FUNCTION_LINES)
        .map(|Function { name, line, lines }| {
            format!("{file}:{line}: fn {name} has {lines} lines; {MAX_FUNCTION_LINES} are the most")
        })
        .collect()
}

fn unsafe_outside(file: &str, code: &str) -> Option<String> {
    let may = UNSAFE_CRATES.iter().any(|place| file.starts_with(place));
    let (line, _) = words(code).find(|(_, word)| *word == "unsafe" && !may)?;
    Some(format!("{file}:{line}: `unsafe` stands in crates ops and map only"))
}

/// `TODO` must name an issue (`TODO(#12)`), so that it is work somebody knows of.
fn open_marks(file: &str, source: &str) -> Vec<String> {
    // Split here, so that this file does not break its own rule.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let numbered = format!("{}(#", marks[0]);
    source
        .lines()
        .enumerate()
        .filter(|(_, line)| {
            words(line).any(|(_, word)| marks.contains(&word)) && !line.contains(&numbered)
        })
        .map(|(at, _)| format!("{file}:{}: an open end without its issue number", at + 1))
        .collect()
}

fn missing_module_doc(file: &str, source: &str) -> Option<String> {
    let is_root = file.ends_with("/lib.rs") || file.ends_with("/main.rs");
    (is_root && !source.starts_with("//!"))
        .then(|| format!("{file}: begins without saying what the crate is for (`//!`)"))
}

struct Function<'a> {
    name: &'a str,
    line: usize,
    lines: usize,
}

/// Every function with a body, nested ones too.
fn functions(code: &str) -> Vec<Function<'_>> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("fn ") {
        let before = code[..start].chars().next_back();
        if before.is_some_and(is_word) {
            continue;
        }
        let name = code[start + 3..].split(|c| !is_word(c)).next().unwrap_or_default();
        if let Some(body) = body_end(&code[start..]).filter(|_| !name.is_empty()) {
            let line = code[..start].lines().count().max(1);
            found.push(Function { name, line, lines: code_lines(&code[start..start + body]) });
        }
    }
    found
}

/// Where the first block closes; `None` if a `;` outside brackets comes before it.
fn body_end(code: &str) -> Option<usize> {
    let (mut brackets, mut braces) = (0_i32, 0_i32);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            ';' if brackets == 0 && braces == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn code_lines(code: &str) -> usize {
    code.lines().filter(|line| !line.trim().is_empty()).count()
}

fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(at, line)| {
        line.split(|c| !is_word(c)).filter(|word| !word.is_empty()).map(move |word| (at + 1, word))
    })
}

#[cfg(test)]
mod tests {
    use super::check;

    #[track_caller]
    fn assert_rule(file: &str, source: &str, expected: &str) {
        let problems = check(file, source);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(expected), "{problems:?}");
    }

    fn function_of(lines: usize) -> String {
        format!("fn long(x: [u8; 2]) {{\n{}}}\n", "x();\n".repeat(lines - 2))
    }

    #[test]
    fn each_rule_names_the_file_and_the_place() {
        assert_rule("crates/a/src/utils.rs", "", "`utils`");
        assert_rule("crates/a/src/helpers/x.rs", "", "`helpers`");
        assert_rule("crates/a/src/x.rs", &"a();\n".repeat(501), "501 lines of code");
        assert_rule("crates/a/src/x.rs", &function_of(71), ":1: fn long has 71 lines");
        assert_rule("crates/a/src/x.rs", "fn f() {}\nunsafe impl S for T {}", ":2: `unsafe`");
        assert_rule("crates/a/src/lib.rs", "fn f() {}", "without saying");
        let mark = concat!("// TO", "DO: later");
        assert_rule("crates/a/src/x.rs", mark, ":1: an open end");
    }

    #[test]
    fn what_is_allowed_passes() {
        let passes = |file: &str, source: &str| {
            assert_eq!(check(file, source), Vec::<String>::new(), "{source}");
        };
        passes("crates/ops/src/x.rs", "unsafe { f() }");
        passes("crates/a/src/x.rs", "// unsafe\n#![deny(unsafe_code)]\nlet s = \"unsafe\";");
        passes("crates/a/src/x.rs", &function_of(70));
        passes("crates/a/src/x.rs", &"// words\n".repeat(900));
        passes("crates/a/src/x.rs", concat!("// TO", "DO(#12): later"));
        passes("crates/a/src/lib.rs", "//! What it is for.\n");
        passes("crates/a/src/x.rs", "trait T { fn f(&self); }\n");
    }
}
