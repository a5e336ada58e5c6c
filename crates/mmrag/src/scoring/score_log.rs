//! Scores of pairs of texts in a file, a line each as they are made, so that a scoring that was
//! stopped goes on where it was.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

/// A source, a target, and the target's score after the source.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    source: String,
    target: String,
    score: f64,
}

/// What the scores are by: the file's first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    bart: String,
}

/// The file, and what it holds.
pub(crate) struct ScoreLog {
    path: PathBuf,
    file: File,
    known: HashMap<(String, String), f64>,
}

impl ScoreLog {
    /// Opens a file, or begins it; `bart` names the weights. What a kill left of a last line is cut
    /// off.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written, is of other weights, or is no such file.
    pub(crate) fn open(path: &Path, bart: &str) -> anyhow::Result<Self> {
        let context = || format!("failed to read the scores in {}", path.display());
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8(bytes).with_context(context)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(context),
        };
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let known = if whole > 0 {
            read(&text[..whole], bart).with_context(context)?
        } else {
            HashMap::new()
        };
        let file = OpenOptions::new().create(true).append(true).open(path).with_context(context)?;
        file.set_len(whole as u64).with_context(context)?;
        let mut log = Self { path: path.to_owned(), file, known };
        if whole == 0 {
            log.write(&Head { bart: bart.to_owned() })?;
        }
        Ok(log)
    }

    /// The score of a pair, if it is known.
    pub(crate) fn score(&self, pair: &(String, String)) -> Option<f64> {
        self.known.get(pair).copied()
    }

    /// Writes the score of a pair.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub(crate) fn add(
        &mut self,
        (source, target): &(String, String),
        score: f64,
    ) -> anyhow::Result<()> {
        self.write(&Line { source: source.clone(), target: target.clone(), score })
    }

    fn write(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string(line)? + "\n";
        let written = self.file.write_all(text.as_bytes());
        written.with_context(|| format!("failed to write {}", self.path.display()))
    }
}

fn read(text: &str, bart: &str) -> anyhow::Result<HashMap<(String, String), f64>> {
    let mut lines = text.lines().zip(1..);
    let Some((Ok(head), _)) =
        lines.next().map(|(line, at)| (serde_json::from_str::<Head>(line), at))
    else {
        bail!("its first line names no BART: name another file");
    };
    ensure!(head.bart == bart, "they are by other weights or another tokenizer: name another file");
    let pair = |(line, at): (&str, usize)| {
        let Line { source, target, score } =
            serde_json::from_str(line).with_context(|| format!("line {at} is no score"))?;
        Ok(((source, target), score))
    };
    lines.map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_kept_and_a_torn_line_is_made_again() {
        let folder = tempfile::tempdir().expect("a folder is made");
        let path = folder.path().join("scores.jsonl");
        let pair = |target: &str| ("a \"b\"".to_owned(), target.to_owned());
        let mut log = ScoreLog::open(&path, "one").expect("it begins");
        log.add(&pair("c"), -1.25).expect("it is written");
        let text = std::fs::read_to_string(&path).expect("it is there");
        std::fs::write(&path, text + "{\"source\": \"to").expect("it is torn");
        let mut log = ScoreLog::open(&path, "one").expect("it goes on");
        assert_eq!((log.score(&pair("c")), log.score(&pair("d"))), (Some(-1.25), None));
        log.add(&pair("d"), -0.1).expect("it is written");
        let log = ScoreLog::open(&path, "one").expect("it goes on");
        assert_eq!(log.score(&pair("d")), Some(-0.1));

        let told = |bart: &str| match ScoreLog::open(&path, bart) {
            Err(error) => format!("{error:#}"),
            Ok(_) => panic!("it opens"),
        };
        assert!(told("two").contains("other weights"), "{}", told("two"));
        std::fs::write(&path, "{\"bart\": \"one\"}\n{}\n").expect("it is broken");
        assert!(told("one").contains("line 2"), "{}", told("one"));
        std::fs::write(&path, "{}\n").expect("it is something else");
        assert!(told("one").contains("no BART"), "{}", told("one"));
    }
}
