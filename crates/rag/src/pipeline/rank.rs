//! Filtered → answered.

use std::sync::Arc;
use std::time::Instant;

use mmrag_core::{Completion, EngineError, Guide, Modality, Prompt, Sampling, Tell};
use mmrag_task::{Case, ReplyGuide};

use super::filter::shown;
use super::{Answered, Dropped, Filtered, LabelOrder, Pipeline, RankStage, Replied, elapsed_ms};
use crate::error::RagError;
use crate::explanation::{DroppedAt, answer_confidence};
use crate::version::derived_seed;

const ACTION: &str = "rank and answer";

/// The documents as the ranker saw them.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The question and the documents in the order of their labels.
    pub case: Case,
    /// For each label, which hit it is: of `[1]` first.
    pub hits: Vec<usize>,
}

/// A prompt, with what holds the reply to its form if that is wanted.
#[derive(Clone)]
struct Ready {
    prompt: Prompt,
    guide: ReplyGuide,
}

/// A question on its way through the ranker: what was kept, and a prompt that fits unless nothing
/// is left to show.
struct Fitted<'a> {
    filtered: Filtered<'a>,
    prompt: Option<(Prompt, Shown)>,
}

impl<'a> Pipeline<'a> {
    /// Orders the kept candidates of many questions and answers, with one call of the engine.
    ///
    /// Draws are seeded by the question, so with a temperature above 0 each question is a call of
    /// its own: an engine's draws depend on the place in the batch.
    pub fn rank_all(
        &self,
        filtered: Vec<Result<Filtered<'a>, RagError>>,
    ) -> Vec<Result<Answered<'a>, RagError>> {
        self.rank_all_telling(filtered, &|_, _| {})
    }

    /// As [`rank_all`](Self::rank_all), and tells each reply while it is being written: `tell` is
    /// given the question's index and the reply so far, as the policy writes it.
    pub fn rank_all_telling(
        &self,
        filtered: Vec<Result<Filtered<'a>, RagError>>,
        tell: Tell<'_>,
    ) -> Vec<Result<Answered<'a>, RagError>> {
        let start = Instant::now();
        let fitted: Vec<Result<Fitted, RagError>> =
            filtered.into_iter().map(|filtered| self.fit(filtered?)).collect();
        let prompts: Vec<(Option<Ready>, u64)> = fitted
            .iter()
            .map(|fitted| {
                let Ok(fitted) = fitted else { return (None, 0) };
                let id = &fitted.filtered.retrieved.question.id;
                let ready = fitted.prompt.as_ref().map(|(prompt, shown)| Ready {
                    prompt: prompt.clone(),
                    guide: self.rank.stage.guide(&shown.case),
                });
                (ready, derived_seed("answer", self.seed, id.as_str()))
            })
            .collect();
        let completions = self.rank.generate_all(&prompts, tell);
        let read = fitted.into_iter().zip(completions).map(|(fitted, completion)| {
            let Fitted { filtered, prompt } = fitted?;
            let question = filtered.retrieved.question.id.clone();
            let replied = match (prompt, completion) {
                (Some((_, shown)), Some(Ok(completion))) => Some(self.rank.read(shown, completion)),
                (Some(_), Some(Err(source))) => {
                    return Err(RagError::Engine { action: ACTION, question, source });
                }
                (_, None) | (None, _) => None,
            };
            Ok(Answered { filtered, replied, rank_ms: 0.0 })
        });
        let mut answered: Vec<Result<Answered, RagError>> = read.collect();
        let share_ms = elapsed_ms(start) / answered.len().max(1) as f64;
        answered.iter_mut().flatten().for_each(|answered| answered.rank_ms = share_ms);
        answered
    }

    /// Drops unreadable documents, then whole documents from the lowest filter score up (without a
    /// filter, from the last hit up), until the prompt fits. Documents are whole, pictures too: no
    /// prompt is cut.
    fn fit(&self, mut filtered: Filtered<'a>) -> Result<Fitted<'a>, RagError> {
        loop {
            if filtered.kept.is_empty() {
                return Ok(Fitted { filtered, prompt: None });
            }
            let shown = self.show(&filtered);
            let prompt = self.rank.stage.prompt(&shown.case);
            match self.rank.engine.count_tokens(&prompt) {
                Ok(tokens) if tokens <= self.rank.max_prompt_tokens => {
                    return Ok(Fitted { filtered, prompt: Some((prompt, shown)) });
                }
                Ok(tokens) => drop_last(&mut filtered, tokens, self.rank.max_prompt_tokens),
                Err(source) => {
                    if self.drop_unreadable(&mut filtered) == 0 {
                        let question = filtered.retrieved.question.id.clone();
                        return Err(RagError::Engine { action: ACTION, question, source });
                    }
                }
            }
        }
    }

    fn show(&self, filtered: &Filtered) -> Shown {
        let hits = &filtered.retrieved.hits;
        let documents = |kept: &[usize]| -> Vec<_> {
            kept.iter().map(|&hit| Arc::clone(&hits[hit].document)).collect()
        };
        let question = filtered.retrieved.question;
        let case = match self.rank.labels {
            LabelOrder::Drawn => Case::listwise(question, &documents(&filtered.kept), self.seed),
            LabelOrder::Retrieved => {
                let mut kept = filtered.kept.clone();
                kept.sort_unstable();
                Case::in_order(question, &documents(&kept))
            }
        };
        let hit_of = |document: &Arc<_>| {
            let is_it = |hit: &&usize| Arc::ptr_eq(&hits[**hit].document, document);
            *filtered.kept.iter().find(is_it).expect("a case shows the documents it is given")
        };
        let hits = case.documents.iter().map(hit_of).collect();
        Shown { case, hits }
    }

    /// Drops the pictures that the engine cannot read alone; how many they are.
    fn drop_unreadable(&self, filtered: &mut Filtered) -> usize {
        let retrieved = &filtered.retrieved;
        let before = filtered.dropped.len();
        for &hit in &filtered.kept {
            let document = &retrieved.hits[hit].document;
            if document.modality() != Modality::Image {
                continue;
            }
            let alone = self.rank.stage.prompt(&Case::pointwise(retrieved.question, document));
            if let Err(error) = self.rank.engine.count_tokens(&alone) {
                let why = format!("the picture cannot be read: {error}");
                filtered.dropped.push(Dropped { hit, at: DroppedAt::Read, why });
            }
        }
        let dropped = &filtered.dropped[before..];
        filtered.kept.retain(|hit| dropped.iter().all(|d| d.hit != *hit));
        dropped.len()
    }
}

impl RankStage<'_> {
    /// A completion for each prompt there is. If the engine fails on all together, each is tried
    /// alone.
    fn generate_all(
        &self,
        prompts: &[(Option<Ready>, u64)],
        tell: Tell<'_>,
    ) -> Vec<Option<Result<Completion, EngineError>>> {
        if self.sampling.temperature == 0.0 {
            let there: Vec<Ready> = prompts.iter().filter_map(|(p, _)| p.clone()).collect();
            let places: Vec<usize> =
                (0..prompts.len()).filter(|place| prompts[*place].0.is_some()).collect();
            let tell_there = |index: usize, text: &str| tell(places[index], text);
            if let Ok(completions) = self.generate(&there, 0, &tell_there) {
                let mut completions = completions.into_iter();
                let next = |(prompt, _): &(Option<Ready>, u64)| {
                    prompt.as_ref().and_then(|_| completions.next()).map(Ok)
                };
                return prompts.iter().map(next).collect();
            }
        }
        let alone = |(place, (prompt, seed)): (usize, &(Option<Ready>, u64))| {
            let prompt = std::slice::from_ref(prompt.as_ref()?);
            let completions = self.generate(prompt, *seed, &|_, text| tell(place, text));
            Some(completions.map(|mut c| c.pop().expect("the number of completions is checked")))
        };
        prompts.iter().enumerate().map(alone).collect()
    }

    fn generate(
        &self,
        ready: &[Ready],
        seed: u64,
        tell: Tell<'_>,
    ) -> Result<Vec<Completion>, EngineError> {
        if ready.is_empty() {
            return Ok(Vec::new());
        }
        let sampling = Sampling { n: 1, seed, ..self.sampling.clone() };
        let prompts: Vec<Prompt> = ready.iter().map(|ready| ready.prompt.clone()).collect();
        let completions = if self.constrained {
            let guides: Vec<&dyn Guide> = ready.iter().map(|ready| &ready.guide as _).collect();
            self.engine.generate_guided(&prompts, &guides, &sampling, tell)?
        } else {
            self.engine.generate_telling(&prompts, &sampling, tell)?
        };
        let completions: Vec<Completion> = completions
            .into_iter()
            .filter_map(|completions| completions.into_iter().next())
            .collect();
        if completions.len() == prompts.len() {
            return Ok(completions);
        }
        let (found, expected) = (completions.len(), prompts.len());
        Err(EngineError::new(format!("the engine gave {found} completions for {expected} prompts")))
    }

    fn read(&self, shown: Shown, completion: Completion) -> Replied {
        let reply = self.stage.parse(&shown.case, &completion.text);
        let confidence = match reply {
            Ok(_) => answer_confidence(self.engine, &completion),
            Err(_) => None,
        };
        Replied { shown, completion, reply, confidence }
    }
}

fn drop_last(filtered: &mut Filtered, tokens: usize, most: usize) {
    if let Some(hit) = filtered.kept.pop() {
        let least = match filtered.filtering[hit].as_ref().map(|filtering| filtering.p) {
            Some(Some(p)) => format!("P(helps) {} is the lowest of those left", shown(p)),
            Some(None) => "the filter said neither Yes nor No of it".to_owned(),
            None => "it is the last that was found of those left".to_owned(),
        };
        let why = format!(
            "the prompt had {tokens} tokens and may have {most}, so whole documents leave it: {least}"
        );
        filtered.dropped.push(Dropped { hit, at: DroppedAt::Prompt, why });
    }
}
