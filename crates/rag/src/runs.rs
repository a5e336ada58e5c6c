//! A file of explanations, one JSON object a line, written as questions are done; and the folder
//! that such a file is in.

mod answered;

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use mmrag_core::QuestionId;

use crate::error::RagError;
use crate::explanation::Explanation;

pub use answered::{
    AnsweredRun, EXPLANATIONS_FILE, OUTCOMES_FILE, PairedRuns, SETTINGS_FILE, write_outcomes,
};

/// A file of explanations that can be gone on with.
///
/// A line is whole when its line end is written: a last line without one is what a killed run
/// left, and is cut off on opening.
pub struct ExplanationLog {
    path: PathBuf,
    file: File,
    done: HashSet<QuestionId>,
}

impl ExplanationLog {
    /// Opens a file to go on with, or makes it.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or a whole line is no explanation.
    pub fn open(path: &Path) -> Result<Self, RagError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(RagError::io("open", path))?;
        let (explanations, whole_bytes) = read_whole(path, &file)?;
        file.set_len(whole_bytes).map_err(RagError::io("cut off the torn line of", path))?;
        file.seek(SeekFrom::End(0)).map_err(RagError::io("write", path))?;
        let done = explanations.into_iter().map(|explanation| explanation.question.id).collect();
        Ok(Self { path: path.to_path_buf(), file, done })
    }

    /// Whether the question is in the file.
    pub fn is_done(&self, id: &QuestionId) -> bool {
        self.done.contains(id)
    }

    /// How many questions are in the file.
    pub fn len(&self) -> usize {
        self.done.len()
    }

    /// Whether the file has no question yet.
    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Writes one explanation at the end, in one write. A question that is there already is left
    /// as it is.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn append(&mut self, explanation: &Explanation) -> Result<(), RagError> {
        if self.is_done(&explanation.question.id) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(explanation)
            .map_err(|source| RagError::Json { what: "an explanation", source })?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(RagError::io("write", &self.path))?;
        self.done.insert(explanation.question.id.clone());
        Ok(())
    }
}

/// Reads the explanations of a file, in its order; a torn last line is left out.
///
/// # Errors
///
/// When the file cannot be read, or a whole line is no explanation.
pub fn read_explanations(path: &Path) -> Result<Vec<Explanation>, RagError> {
    let file = File::open(path).map_err(RagError::io("open", path))?;
    Ok(read_whole(path, &file)?.0)
}

/// The explanations of all whole lines, and how many bytes those lines have.
fn read_whole(path: &Path, file: &File) -> Result<(Vec<Explanation>, u64), RagError> {
    let mut reader = BufReader::new(file);
    let (mut explanations, mut whole_bytes, mut line) = (Vec::new(), 0, Vec::new());
    for number in 1.. {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).map_err(RagError::io("read", path))?;
        if line.last() != Some(&b'\n') {
            break;
        }
        whole_bytes += length as u64;
        let explanation = serde_json::from_slice(&line).map_err(|source| RagError::Line {
            path: path.to_path_buf(),
            line: number,
            source,
        })?;
        explanations.push(explanation);
    }
    Ok((explanations, whole_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explanation::{Asked, Timings};

    fn explanation(id: &str) -> Explanation {
        Explanation {
            question: Asked { id: QuestionId::new(id), text: "Who?".into(), images: 0 },
            answer: "Ada\n\"Voss\"".into(),
            abstained: false,
            confidence: Some(0.1 + 0.2),
            citations: vec![],
            candidates: vec![],
            reasoning: vec![],
            model: "m".into(),
            adapters: vec![],
            index_version: "0".into(),
            seed: u64::MAX,
            fallback: None,
            attribution: None,
            timings_ms: Timings::default(),
        }
    }

    #[test]
    fn a_run_goes_on_after_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("explanations.jsonl");
        let mut log = ExplanationLog::open(&path).unwrap();
        assert!(log.is_empty());
        log.append(&explanation("a")).unwrap();
        log.append(&explanation("b")).unwrap();
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        let torn = [&whole[..], br#"{"question":{"id":"c","te"#].concat();
        std::fs::write(&path, torn).unwrap();
        assert_eq!(read_explanations(&path).unwrap().len(), 2);

        let mut log = ExplanationLog::open(&path).unwrap();
        assert_eq!(log.len(), 2);
        assert!(log.is_done(&QuestionId::new("b")) && !log.is_done(&QuestionId::new("c")));
        log.append(&explanation("b")).unwrap();
        log.append(&explanation("c")).unwrap();
        let expected = ["a", "b", "c"].map(explanation);
        assert_eq!(read_explanations(&path).unwrap(), expected);
    }

    #[test]
    fn a_whole_line_that_is_no_explanation_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        let error = ExplanationLog::open(&path).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("read line 1 of "), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n");
    }
}
