//! The folder of a run: settings, metrics, samples and checkpoints.
//!
//! ```text
//! settings.json            every setting as resolved
//! metrics.jsonl            one line a step; evaluations have lines of their own
//! timings.jsonl            seconds and rates, which no two runs share, apart from the rest
//! samples/step-000010.jsonl
//! checkpoints/step-000010/ weights/ (an adapter or a whole model), optimizer.safetensors, state.json
//! ```
//!
//! A checkpoint is written beside its place and moved there when it is whole: a kill at any moment
//! leaves the one before. A run that resumes cuts off what was logged after its checkpoint, so that
//! everything but `timings.jsonl` has the bytes of a run that was never interrupted.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::TrainError;
use crate::progress::Best;

/// Where a run stands, besides weights and moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// Steps done.
    pub(crate) step: usize,
    /// Updates the optimizer has made.
    pub(crate) optimizer_steps: u64,
    /// Tokens trained on so far, prompts included.
    pub(crate) num_tokens: u64,
    /// The best evaluation so far.
    pub(crate) best: Option<Best>,
}

/// What a checkpoint holds besides the weights.
pub(crate) struct Saved {
    pub(crate) state: State,
    pub(crate) moments: HashMap<String, Tensor>,
}

/// A run's folder.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder, or opens it again if it holds a run with the same settings.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or holds a run with other settings.
    pub fn open(path: impl Into<PathBuf>, settings: &impl Serialize) -> Result<Self, TrainError> {
        let folder = Self { path: path.into() };
        for part in ["samples", "checkpoints"] {
            let part = folder.path.join(part);
            fs::create_dir_all(&part).map_err(TrainError::file("make", &part))?;
        }
        let file = folder.path.join("settings.json");
        let settings =
            serde_json::to_value(settings).map_err(|e| TrainError::malformed(&file, &e))?;
        match fs::read(&file) {
            Ok(bytes) => {
                let known: Value =
                    serde_json::from_slice(&bytes).map_err(|e| TrainError::malformed(&file, &e))?;
                if let Some(key) = first_difference(&known, &settings) {
                    return Err(TrainError::OtherRun { path: folder.path, key });
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                write_whole(&file, &pretty(&settings))?;
            }
            Err(error) => return Err(TrainError::file("read", &file)(error)),
        }
        folder.remove_unfinished()?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the weights (adapter or model) of a checkpoint.
    pub fn weights(&self, step: usize) -> PathBuf {
        self.checkpoint(step).join("weights")
    }

    /// The steps at which there are whole checkpoints, in order.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<usize>, TrainError> {
        let mut steps: Vec<usize> = self
            .names("checkpoints")?
            .iter()
            .filter_map(|name| name.strip_prefix("step-")?.parse().ok())
            .collect();
        steps.sort_unstable();
        Ok(steps)
    }

    pub(crate) fn checkpoint(&self, step: usize) -> PathBuf {
        self.path.join("checkpoints").join(format!("step-{step:06}"))
    }

    /// Writes a checkpoint whole, or not at all; then removes all but the last two and the best.
    pub(crate) fn save(
        &self,
        state: &State,
        moments: &[(String, Tensor)],
        save_weights: impl FnOnce(&Path) -> Result<(), TrainError>,
    ) -> Result<PathBuf, TrainError> {
        let place = self.checkpoint(state.step);
        if place.exists() {
            return Ok(place);
        }
        let draft = self.path.join("checkpoints").join(format!(".draft-{:06}", state.step));
        let weights = draft.join("weights");
        fs::create_dir_all(&weights).map_err(TrainError::file("make", &weights))?;
        save_weights(&weights)?;
        let file = draft.join("optimizer.safetensors");
        let moments: HashMap<&str, Tensor> =
            moments.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
        candle_core::safetensors::save(&moments, &file)
            .map_err(|e| TrainError::malformed(&file, &e))?;
        let file = draft.join("state.json");
        let value = serde_json::to_value(state).map_err(|e| TrainError::malformed(&file, &e))?;
        write_whole(&file, &pretty(&value))?;
        sync_tree(&draft)?;
        fs::rename(&draft, &place).map_err(TrainError::file("write", &place))?;
        sync(&self.path.join("checkpoints"))?;
        self.prune(state)?;
        Ok(place)
    }

    /// The state and moments of the last checkpoint, if there is one.
    pub(crate) fn last(&self) -> Result<Option<Saved>, TrainError> {
        let Some(step) = self.checkpoints()?.pop() else { return Ok(None) };
        let folder = self.checkpoint(step);
        let file = folder.join("state.json");
        let bytes = fs::read(&file).map_err(TrainError::file("read", &file))?;
        let state: State =
            serde_json::from_slice(&bytes).map_err(|e| TrainError::malformed(&file, &e))?;
        let file = folder.join("optimizer.safetensors");
        let moments = candle_core::safetensors::load(&file, &Device::Cpu)
            .map_err(|e| TrainError::malformed(&file, &e))?;
        Ok(Some(Saved { state, moments }))
    }

    /// Removes what was logged after `step`; everything if there is none.
    pub(crate) fn cut(&self, step: Option<usize>) -> Result<(), TrainError> {
        for name in ["metrics.jsonl", "timings.jsonl"] {
            self.cut_lines(name, step)?;
        }
        for name in self.names("samples")? {
            let number = name.strip_prefix("step-").and_then(|n| n.strip_suffix(".jsonl"));
            if number.and_then(|n| n.parse::<usize>().ok()).is_some_and(|n| Some(n) > step) {
                let file = self.path.join("samples").join(name);
                fs::remove_file(&file).map_err(TrainError::file("remove", &file))?;
            }
        }
        Ok(())
    }

    /// Appends one line to a log.
    pub(crate) fn append(&self, name: &str, line: &Value) -> Result<(), TrainError> {
        let file = self.path.join(name);
        let told = TrainError::file("write", &file);
        let write = || {
            let mut file = OpenOptions::new().create(true).append(true).open(&file)?;
            file.write_all(format!("{line}\n").as_bytes())
        };
        write().map_err(told)
    }

    /// Writes the samples of a step.
    pub(crate) fn write_samples(&self, step: usize, lines: &[Value]) -> Result<(), TrainError> {
        let file = self.path.join("samples").join(format!("step-{step:06}.jsonl"));
        let text = lines.iter().fold(String::new(), |text, line| text + &line.to_string() + "\n");
        write_whole(&file, &text)
    }

    fn cut_lines(&self, name: &str, step: Option<usize>) -> Result<(), TrainError> {
        let file = self.path.join(name);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(TrainError::file("read", &file)(error)),
        };
        // A line that a kill cut short is not JSON and goes with the rest.
        let stays = |line: &&str| {
            serde_json::from_str::<Value>(line)
                .ok()
                .and_then(|value| value.get("step")?.as_u64())
                .is_some_and(|logged| Some(logged as usize) <= step)
        };
        let kept: String = text.lines().take_while(stays).flat_map(|line| [line, "\n"]).collect();
        if kept == text { Ok(()) } else { write_whole(&file, &kept) }
    }

    fn prune(&self, state: &State) -> Result<(), TrainError> {
        let steps = self.checkpoints()?;
        let older = &steps[..steps.len().saturating_sub(2)];
        for &step in older.iter().filter(|&&step| state.best.is_none_or(|b| b.step != step)) {
            let folder = self.checkpoint(step);
            // Renamed first: a kill in between leaves no half-removed checkpoint.
            let doomed = self.path.join("checkpoints").join(format!(".draft-old-{step:06}"));
            fs::rename(&folder, &doomed).map_err(TrainError::file("remove", &folder))?;
            fs::remove_dir_all(&doomed).map_err(TrainError::file("remove", &doomed))?;
        }
        Ok(())
    }

    fn remove_unfinished(&self) -> Result<(), TrainError> {
        for name in self.names("checkpoints")?.iter().filter(|name| name.starts_with(".draft-")) {
            let folder = self.path.join("checkpoints").join(name);
            fs::remove_dir_all(&folder).map_err(TrainError::file("remove", &folder))?;
        }
        Ok(())
    }

    fn names(&self, part: &str) -> Result<Vec<String>, TrainError> {
        let folder = self.path.join(part);
        let list = || -> std::io::Result<Vec<String>> {
            let entries = fs::read_dir(&folder)?;
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        };
        list().map_err(TrainError::file("read", &folder))
    }
}

/// The dotted name of the first key that is not the same in both.
fn first_difference(known: &Value, given: &Value) -> Option<String> {
    let (Value::Object(known), Value::Object(given)) = (known, given) else {
        return (known != given).then(String::new);
    };
    let missing = known.keys().find(|key| !given.contains_key(*key));
    missing.cloned().or_else(|| {
        given.iter().find_map(|(key, value)| {
            let inner = first_difference(known.get(key).unwrap_or(&Value::Null), value)?;
            Some(if inner.is_empty() { key.clone() } else { format!("{key}.{inner}") })
        })
    })
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Writes a file beside its place, then moves it there.
fn write_whole(file: &Path, text: &str) -> Result<(), TrainError> {
    let draft = file.with_extension("draft");
    let write = || {
        let mut out = File::create(&draft)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&draft, file)
    };
    write().map_err(TrainError::file("write", file))
}

fn sync(path: &Path) -> Result<(), TrainError> {
    File::open(path).and_then(|f| f.sync_all()).map_err(TrainError::file("write", path))
}

/// Makes sure that a folder's files are on the disk before its name is.
fn sync_tree(folder: &Path) -> Result<(), TrainError> {
    let entries = fs::read_dir(folder).map_err(TrainError::file("read", folder))?;
    for entry in entries {
        let path = entry.map_err(TrainError::file("read", folder))?.path();
        if path.is_dir() { sync_tree(&path)? } else { sync(&path)? }
    }
    sync(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(folder: &RunFolder, step: usize, best: Option<usize>) {
        let best = best.map(|step| Best { step, score: 1.0 });
        let state = State { step, best, ..State::default() };
        folder.save(&state, &[], |weights| write_whole(&weights.join("w"), "w")).unwrap();
    }

    #[test]
    fn keeps_the_last_two_checkpoints_and_the_best() {
        let place = tempfile::tempdir().unwrap();
        let folder = RunFolder::open(place.path(), &1).unwrap();
        for (step, best) in [(1, None), (2, Some(2)), (3, Some(2)), (4, Some(2)), (5, Some(2))] {
            save(&folder, step, best);
        }
        assert_eq!(folder.checkpoints().unwrap(), [2, 4, 5]);
        assert_eq!(folder.last().unwrap().unwrap().state.step, 5);
    }

    #[test]
    fn a_draft_is_no_checkpoint_and_goes_when_the_run_opens() {
        let place = tempfile::tempdir().unwrap();
        let folder = RunFolder::open(place.path(), &1).unwrap();
        save(&folder, 1, None);
        let draft = place.path().join("checkpoints/.draft-000002");
        fs::create_dir_all(draft.join("weights")).unwrap();
        assert_eq!(folder.checkpoints().unwrap(), [1]);
        RunFolder::open(place.path(), &1).unwrap();
        assert!(!draft.exists());
    }

    #[test]
    fn other_settings_are_refused_and_the_key_is_named() {
        let place = tempfile::tempdir().unwrap();
        let settings = |rate: f64| serde_json::json!({"seed": 1, "schedule": {"rate": rate}});
        RunFolder::open(place.path(), &settings(0.1)).unwrap();
        RunFolder::open(place.path(), &settings(0.1)).unwrap();
        let error = RunFolder::open(place.path(), &settings(0.2)).unwrap_err();
        assert!(error.to_string().contains("schedule.rate"), "{error}");
    }

    #[test]
    fn what_was_logged_after_a_step_is_cut_off() {
        let place = tempfile::tempdir().unwrap();
        let folder = RunFolder::open(place.path(), &1).unwrap();
        for step in 1..=3 {
            folder.append("metrics.jsonl", &serde_json::json!({"step": step})).unwrap();
            folder.write_samples(step, &[]).unwrap();
        }
        let file = place.path().join("metrics.jsonl");
        let mut text = fs::read_to_string(&file).unwrap();
        text.push_str("{\"step\":1,\"rew");
        fs::write(&file, text).unwrap();
        folder.cut(Some(2)).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "{\"step\":1}\n{\"step\":2}\n");
        assert_eq!(fs::read_dir(place.path().join("samples")).unwrap().count(), 2);
        folder.cut(None).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "");
        assert_eq!(fs::read_dir(place.path().join("samples")).unwrap().count(), 0);
    }
}
