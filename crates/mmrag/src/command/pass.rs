//! `mmrag eval pass`: how often the policy is right at all, before it is right at once.
//!
//! Reinforcement can only strengthen what the policy already draws now and then, so pass@k before
//! training says whether there is anything to work with.

use std::collections::BTreeMap;

use anyhow::Context as _;
use clap::Args;
use mmrag_core::{Completion, DocumentId, Example, Generate, Guide, Prompt, Sampling};
use mmrag_task::metrics::pass_at_k;
use mmrag_task::{Case, ReplyGuide, Stage};
use serde::Serialize;

use super::Ended;
use crate::answerer::AnswerArgs;
use crate::dataset::DatasetArgs;
use crate::dev::exact;
use crate::loading::{load_adapter, reply_tokens};
use crate::notes::Notes;
use crate::progress::Meter;
use crate::{hub, output};

/// Questions that are asked at once.
const AT_ONCE: usize = 16;

const EXAMPLES: &str = "Examples:
  mmrag eval pass --dataset atlas --data atlas --split dev --questions 200
  mmrag eval pass --dataset atlas --data atlas --split dev --candidates 4 --samples 16 --json

One greedy reply a question and SAMPLES drawn ones, over all candidates, without a filter.";

/// Measures exact match and pass@k of a policy.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PassCommand {
    #[command(flatten)]
    dataset: DatasetArgs,
    /// Ask only the first N questions
    #[arg(long, value_name = "N")]
    questions: Option<usize>,
    /// Show at most N candidates, gold ones always
    #[arg(long, value_name = "N")]
    candidates: Option<usize>,
    /// Replies drawn for each question
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    samples: u16,
    /// Temperature of the drawn replies
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f64,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    answer: AnswerArgs,
}

/// Means over questions, as fractions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Figures {
    questions: usize,
    /// Exact match of the greedy reply.
    answer_em: f64,
    /// Greedy replies that do not parse.
    unparsable: f64,
    /// Drawn replies that do not parse.
    sampled_unparsable: f64,
    /// pass@k by k: 1, 2, 4 … up to the number of samples.
    pass: BTreeMap<usize, f64>,
}

/// The figures of all questions, and of each kind.
#[derive(Debug, Default, Serialize)]
struct Passes {
    all: Figures,
    by_type: BTreeMap<String, Figures>,
}

/// What one question's replies were.
struct Asked {
    greedy_right: f64,
    greedy_lost: f64,
    right: usize,
    lost: usize,
    samples: usize,
}

impl PassCommand {
    /// Asks, and prints the figures.
    ///
    /// # Errors
    ///
    /// When something cannot be read or a question cannot be asked.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        let policy = self.answer.policy()?;
        let adapter = self.answer.rank_adapter.as_deref();
        let notes = match adapter {
            Some(named) => Notes::of(&hub::adapter_folder(named)?)?,
            None => Notes::of(&self.answer.folder()?)?,
        };
        let adapter = adapter.map(|folder| load_adapter(folder, &policy)).transpose()?;
        let engine = policy.with(adapter.as_ref());
        let stage = Stage::rank(notes.prompts, notes.reasoning.unwrap_or(true));
        let longest = self.answer.max_new_tokens.unwrap_or(reply_tokens(notes.prompts));
        let examples = self.dataset.examples(self.questions)?;
        let meter = Meter::new("pass", examples.len());
        let mut passes = Passes::default();
        for (nth, batch) in examples.chunks(AT_ONCE).enumerate() {
            let seed = self.answer.seed.wrapping_add(nth as u64);
            for (example, asked) in
                batch.iter().zip(self.ask(&engine, &stage, batch, longest, seed)?)
            {
                passes.all.add(&asked);
                passes.by_type.entry(example.kind.clone()).or_default().add(&asked);
            }
            meter.at(passes.all.questions, "");
        }
        passes.print(self.json)?;
        Ok(Ended::Done)
    }

    fn ask(
        &self,
        engine: &dyn Generate,
        stage: &Stage,
        examples: &[Example],
        longest: usize,
        seed: u64,
    ) -> anyhow::Result<Vec<Asked>> {
        let cases: Vec<Case> = examples.iter().map(|example| self.case(example)).collect();
        let prompts: Vec<Prompt> = cases.iter().map(|case| stage.prompt(case)).collect();
        let greedy = Sampling::greedy(longest);
        let n = usize::from(self.samples);
        let drawn = Sampling { temperature: self.temperature, n, seed, ..greedy.clone() };
        let guides: Vec<ReplyGuide> = cases.iter().map(|case| stage.guide(case)).collect();
        let guides: Vec<&dyn Guide> = guides.iter().map(|guide| guide as _).collect();
        let draw = |sampling| {
            if self.answer.constrained {
                engine.generate_guided(&prompts, &guides, sampling, &|_, _| {})
            } else {
                engine.generate(&prompts, sampling)
            }
            .context("failed to draw replies")
        };
        let (greedy, drawn) = (draw(&greedy)?, draw(&drawn)?);
        let replies = greedy.iter().zip(&drawn);
        let asked = cases.iter().zip(examples).zip(replies).map(|((case, example), replies)| {
            let judge = |completion: &Completion| {
                let reply = stage.parse(case, &completion.text).ok();
                reply.map(|reply| exact(&reply, &example.gold))
            };
            let first = replies.0.first().and_then(judge);
            let drawn: Vec<Option<f64>> = replies.1.iter().map(judge).collect();
            Asked {
                greedy_right: first.unwrap_or(0.0),
                greedy_lost: f64::from(u8::from(first.is_none())),
                right: drawn.iter().filter(|score| **score == Some(1.0)).count(),
                lost: drawn.iter().filter(|score| score.is_none()).count(),
                samples: drawn.len(),
            }
        });
        Ok(asked.collect())
    }

    fn case(&self, example: &Example) -> Case {
        let is_gold = |id: &DocumentId| example.gold.documents.contains(id);
        let gold = example.candidates.iter().filter(|d| is_gold(&d.id)).count();
        let most = self.candidates.unwrap_or(usize::MAX);
        let mut room = most.saturating_sub(gold);
        let mut shown = example.candidates.clone();
        shown.retain(|document| {
            is_gold(&document.id) || {
                let stays = room > 0;
                room = room.saturating_sub(1);
                stays
            }
        });
        Case::listwise(&example.question, &shown, self.answer.seed)
    }
}

impl Figures {
    fn add(&mut self, asked: &Asked) {
        self.questions += 1;
        let share = 1.0 / self.questions as f64;
        let mix = |mean: &mut f64, value: f64| *mean += share * (value - *mean);
        mix(&mut self.answer_em, asked.greedy_right);
        mix(&mut self.unparsable, asked.greedy_lost);
        mix(&mut self.sampled_unparsable, asked.lost as f64 / asked.samples.max(1) as f64);
        let mut k = 1;
        while k <= asked.samples {
            mix(self.pass.entry(k).or_default(), pass_at_k(asked.samples, asked.right, k));
            k *= 2;
        }
    }

    fn row(&self) -> String {
        let pass: Vec<String> =
            self.pass.iter().map(|(k, share)| format!("pass@{k} {share:.3}")).collect();
        format!(
            "{:>6} questions  EM {:.3}  {}  unparsable {:.3} (drawn {:.3})",
            self.questions,
            self.answer_em,
            pass.join("  "),
            self.unparsable,
            self.sampled_unparsable,
        )
    }
}

impl Passes {
    fn print(&self, as_json: bool) -> anyhow::Result<()> {
        if as_json {
            return output::json(self);
        }
        for (name, figures) in &self.by_type {
            output::line(&format!("{name:<24}{}", figures.row()))?;
        }
        output::line(&format!("{:<24}{}", "all", self.all.row()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Figures};

    #[test]
    fn figures_are_means_over_questions() {
        let mut figures = Figures::default();
        let asked = |greedy, right| Asked {
            greedy_right: greedy,
            greedy_lost: 0.0,
            right,
            lost: 1,
            samples: 4,
        };
        figures.add(&asked(1.0, 2));
        figures.add(&asked(0.0, 0));
        assert_eq!(figures.questions, 2);
        assert!((figures.answer_em - 0.5).abs() < 1e-12);
        assert!((figures.sampled_unparsable - 0.25).abs() < 1e-12);
        let pass: Vec<f64> = figures.pass.values().copied().collect();
        let expected = [0.25, 0.5 * (1.0 - 1.0 / 6.0), 0.5];
        assert!(pass.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{pass:?}");
    }
}
