//! A training as a person runs it: data in, progress on stderr, a folder to use afterwards.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mmrag_train::{Event, Lesson, Lessons, Metrics, Progress, SourceError};

use crate::lessons::{Composed, Demonstrations, LessonPlan};
use crate::notes::Notes;
use crate::progress::Meter;

impl Lessons for LessonPlan {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn get(&self, index: usize) -> Result<Lesson, SourceError> {
        given(index, self.lesson(index))
    }

    /// Its phases follow one another.
    fn is_ordered(&self) -> bool {
        true
    }
}

impl Lessons for Demonstrations {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn get(&self, index: usize) -> Result<Lesson, SourceError> {
        given(index, self.lesson(index))
    }
}

fn given(index: usize, lesson: Option<Composed>) -> Result<Lesson, SourceError> {
    let Composed { prompt, reply } = lesson.ok_or_else(|| format!("there is no lesson {index}"))?;
    Ok(Lesson { prompt, reply })
}

/// Tells of a training on stderr.
pub(crate) struct Teller {
    title: String,
    meter: RefCell<Option<Meter>>,
}

impl Teller {
    /// A teller that calls the training so.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), meter: RefCell::new(None) }
    }
}

impl Progress for Teller {
    fn tell(&self, event: &Event<'_>) {
        let mut meter = self.meter.borrow_mut();
        match event {
            Event::Began { done, steps } => {
                let new = Meter::new(self.title.clone(), *steps);
                if *done > 0 {
                    new.say(&format!("{}: going on after step {done}", self.title));
                }
                new.at(*done, "");
                *meter = Some(new);
            }
            Event::Stepped { step, metrics, timings, .. } => {
                if let Some(meter) = &*meter {
                    meter.at(*step, &step_line(metrics, timings));
                }
            }
            Event::Evaluated { step, evaluation, best } => {
                let mark = if *best { " (best so far)" } else { "" };
                let line = evaluation.metrics.iter().fold(String::new(), |mut line, (name, v)| {
                    let _ = write!(line, " {name} {v:.3}");
                    line
                });
                if let Some(meter) = &*meter {
                    meter.say(&format!("{}: dev at step {step}:{line}{mark}", self.title));
                }
            }
            Event::Skipped { error } => {
                if let Some(meter) = &*meter {
                    let cause = std::error::Error::source(error)
                        .map_or_else(String::new, |cause| format!(": {cause}"));
                    meter.say(&format!("{}: skipped, failed to {error}{cause}", self.title));
                }
            }
            _ => {}
        }
    }
}

/// What a person wants to see of a step: loss or reward with its parts, KL, speed.
fn step_line(metrics: &Metrics, timings: &Metrics) -> String {
    let mut line = String::new();
    let mut show = |name: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ = write!(line, "{name} {value:.3} ");
        }
    };
    let reward = metrics.get("reward");
    if reward.is_none() {
        show("loss", metrics.get("loss"));
    }
    show("reward", reward);
    for (name, value) in metrics.iter() {
        let part = name.strip_prefix("rewards/").and_then(|name| name.strip_suffix("/mean"));
        if let Some(part) = part {
            show(part, Some(value));
        }
    }
    show("kl", metrics.get("kl"));
    if let Some(speed) = timings.get("tokens_per_second") {
        let _ = write!(line, "{speed:.0} tokens/s");
    }
    line.truncate(line.trim_end().len());
    line
}

/// Puts a checkpoint's weights where they are used from, with notes on how; whole or not at all.
///
/// # Errors
///
/// When a folder cannot be read or written.
pub(crate) fn publish(weights: &Path, place: &Path, notes: &Notes) -> anyhow::Result<PathBuf> {
    let context = || format!("failed to put the weights in {}", place.display());
    let beside = |end: &str| {
        let mut path = place.as_os_str().to_owned();
        path.push(end);
        PathBuf::from(path)
    };
    let (draft, old) = (beside(".draft"), beside(".old"));
    for leftover in [&draft, &old] {
        if leftover.exists() {
            std::fs::remove_dir_all(leftover).with_context(context)?;
        }
    }
    std::fs::create_dir_all(&draft).with_context(context)?;
    for entry in std::fs::read_dir(weights).with_context(context)? {
        let entry = entry.with_context(context)?;
        std::fs::copy(entry.path(), draft.join(entry.file_name())).with_context(context)?;
    }
    notes.write(&draft)?;
    if place.exists() {
        std::fs::rename(place, &old).with_context(context)?;
    }
    std::fs::rename(&draft, place).with_context(context)?;
    if old.exists() {
        std::fs::remove_dir_all(&old).with_context(context)?;
    }
    Ok(place.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_shows_reward_parts_and_kl_or_the_loss() {
        let (mut metrics, mut timings) = (Metrics::default(), Metrics::default());
        metrics.set("loss", 0.5);
        timings.set("tokens_per_second", 1234.4);
        assert_eq!(step_line(&metrics, &timings), "loss 0.500 1234 tokens/s");
        metrics.set("reward", 0.75);
        metrics.set("rewards/answer/mean", 0.25);
        metrics.set("rewards/answer/std", 0.1);
        metrics.set("kl", 0.0125);
        let expected = "reward 0.750 answer 0.250 kl 0.013 1234 tokens/s";
        assert_eq!(step_line(&metrics, &timings), expected);
    }

    #[test]
    fn published_weights_replace_older_ones_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (weights, place) = (folder.path().join("weights"), folder.path().join("adapter"));
        std::fs::create_dir_all(&weights).unwrap();
        std::fs::write(weights.join("a"), "1").unwrap();
        publish(&weights, &place, &Notes::default()).unwrap();
        std::fs::remove_file(weights.join("a")).unwrap();
        std::fs::write(weights.join("b"), "2").unwrap();
        publish(&weights, &place, &Notes::default()).unwrap();
        let names = |path: &Path| -> Vec<String> {
            let mut names: Vec<String> = std::fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(&place), ["b", "mmrag.json"]);
        assert_eq!(names(folder.path()), ["adapter", "weights"]);
    }
}
