//! What a run asks of its model, phase by phase: kinds of work to try, and how much of each.

use std::collections::HashSet;
use std::path::Path;

use mmrag_core::{Content, Document, Example, ImageSource, Prompt};
use mmrag_task::{Case, Reply, Stage, StageName};
use serde_json::{Map, Value, json};

use super::outlook::Looks;
use super::probe::{Model, Told};
use super::prompts::{Reader, Sample};
use super::sieve::Sieve;
use super::trial::{Prompts, Replies, Trainee, Work};
use crate::loading::verdict_tokens;
use crate::{calibrate, dev};

/// Questions whose right replies are read to see how long replies become.
const QUESTIONS: usize = 64;

/// The share of replies that are shorter than the longest of some thirty that are written together.
const LONG: (usize, usize) = (31, 32);

/// Batches of questions that stand for all that a filter judges.
const BATCHES: usize = 3;

/// Questions that stand for all that a filter is evaluated on.
const EVALUATED: usize = 12;

/// A model that is not loaded, and what its prompts are like.
pub(super) struct Seer {
    pub(super) model: Model,
    pub(super) reader: Reader,
}

impl Seer {
    /// Reads the model's small files.
    ///
    /// # Errors
    ///
    /// When one is missing or damaged, or models run on a GPU.
    pub(super) fn open(folder: &Path, trainee: Trainee) -> anyhow::Result<Self> {
        let model = Model::open(folder, trainee)?;
        Ok(Self { model, reader: Reader::open(folder)? })
    }

    /// Tokens of the replies Yes and No.
    pub(super) fn verdict(&self, stage: &Stage) -> anyhow::Result<Replies> {
        let of = |helps| stage.render(&Reply::Filter { think: None, helps });
        let tokens =
            self.reader.reply_tokens(&of(true))?.max(self.reader.reply_tokens(&of(false))?);
        Ok(Replies { count: 2, tokens })
    }

    /// Tokens of these replies as far as the exact gradient reads them: to where they part.
    pub(super) fn branches(&self, stage: &Stage) -> anyhow::Result<Replies> {
        let of = |helps| stage.render(&Reply::Filter { think: None, helps });
        let tokens = 1 + self.reader.shared_tokens(&of(true), &of(false))?;
        Ok(Replies { count: 2, tokens })
    }

    /// Tokens of a stage's replies, on average and of the longest that are written together: those
    /// of the right replies to the first questions where the data set tells their reasoning or none
    /// is asked for, for replies become as long as these. Of others no length can be told: `most`.
    pub(super) fn lengths(
        &self,
        stage: &Stage,
        examples: &[Example],
        most: usize,
    ) -> anyhow::Result<(usize, usize)> {
        let is_known = |example: &&Example| !stage.grammar.think || !example.steps.is_empty();
        let mut lengths = vec![];
        for example in examples.iter().take(QUESTIONS).filter(is_known) {
            let case = match (stage.name, example.candidates.first()) {
                (StageName::Filter, Some(document)) => Case::pointwise(&example.question, document),
                _ => Case::listwise(&example.question, &example.candidates, 0),
            };
            let reply = stage.render(&stage.demonstration(&case, example));
            lengths.push(self.reader.reply_tokens(&reply)?.min(most));
        }
        lengths.sort_unstable();
        let long = lengths.len() * LONG.0 / LONG.1;
        let mean = lengths.iter().sum::<usize>().div_ceil(lengths.len().max(1));
        Ok(lengths.get(long).map_or((most, most), |&longest| (mean, longest.max(mean))))
    }

    /// The answers that a ranker or a filter that reasons writes, one to a prompt.
    fn writing(&self, stage: &Stage, examples: &[Example], most: usize) -> anyhow::Result<Work> {
        let (tokens, longest) = self.lengths(stage, examples, most)?;
        Ok(Work::Draw { replies: Replies { count: 1, tokens }, longest, most })
    }
}

/// Work that a run does beside its steps.
struct Phase {
    name: &'static str,
    /// How often it is done.
    times: usize,
    /// Questions that are asked each time.
    questions: usize,
    /// A task, and how many prompts it has.
    work: (usize, usize),
    /// Pictures in it, and those of them that are not in memory from earlier on.
    pictures: (usize, usize),
}

/// All work of a run.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) tasks: Vec<(Work, Prompts)>,
    phases: Vec<Phase>,
    /// The tasks of a filter that judges candidates, and of a ranker that answers: what was tried on
    /// some questions stands for others too.
    judging: Option<usize>,
    answering: Option<usize>,
    /// Pictures so far, and how many others of composed lessons.
    seen: HashSet<ImageSource>,
    unnamed: usize,
}

impl Plan {
    /// Adds a kind of work and says where it stands.
    pub(super) fn add(&mut self, work: Work, prompts: Prompts) -> usize {
        self.tasks.push((work, prompts));
        self.tasks.len() - 1
    }

    /// Counts different pictures, and those of them that come for the first time.
    pub(super) fn see<'d>(
        &mut self,
        pictures: impl Iterator<Item = &'d ImageSource>,
    ) -> (usize, usize) {
        let before = self.seen.len();
        let all: HashSet<&ImageSource> = pictures.collect();
        self.seen.extend(all.iter().map(|&picture| picture.clone()));
        (all.len(), self.seen.len() - before)
    }

    /// Counts the pictures of steps as [`see`](Self::see) does of one.
    pub(super) fn see_steps(&mut self, steps: &[Vec<Case>]) -> (usize, usize) {
        steps.iter().fold((0, 0), |(all, new), step| {
            let documents = step.iter().flat_map(|case| &case.documents);
            let (a, n) = self.see(documents.filter_map(|document| picture(document)));
            (all + a, new + n)
        })
    }

    /// The questions with what a filter leaves of their documents, if there is one: it judges them
    /// all first.
    pub(super) fn shown(
        &mut self,
        name: &'static str,
        seer: &Seer,
        sieve: Option<&Sieve>,
        examples: &[Example],
    ) -> anyhow::Result<Vec<Example>> {
        let Some(sieve) = sieve else { return Ok(examples.to_vec()) };
        self.filtering(name, seer, &sieve.stage, examples)?;
        Ok(sieve.pass(examples))
    }

    /// Counts pictures of composed lessons, each of which comes once.
    pub(super) fn see_unnamed(&mut self, pictures: usize) -> usize {
        self.unnamed += pictures;
        pictures
    }

    /// Pictures of the whole run.
    pub(super) fn pictures(&self) -> usize {
        self.seen.len() + self.unnamed
    }

    /// Adds that a filter judges all candidates of some questions.
    pub(super) fn filtering(
        &mut self,
        name: &'static str,
        seer: &Seer,
        stage: &Stage,
        examples: &[Example],
    ) -> anyhow::Result<()> {
        let Some(judged) = candidates(examples) else { return Ok(()) };
        let task = match self.judging {
            Some(task) => task,
            None => self.judge(seer, stage, examples)?,
        };
        self.judging = Some(task);
        self.phase(name, 1, examples, (task, judged));
        Ok(())
    }

    fn judge(&mut self, seer: &Seer, stage: &Stage, examples: &[Example]) -> anyhow::Result<usize> {
        let together = calibrate::AT_ONCE;
        let taken = evenly(examples, BATCHES * together);
        let of_batch = |batch: &[&Example]| {
            let of = |example: &&Example| candidate_prompts(stage, example, !stage.grammar.think);
            batch.iter().flat_map(of).collect()
        };
        let batches = taken.chunks(together).map(of_batch).collect();
        let most = verdict_tokens(stage);
        let work =
            if stage.grammar.think { seer.writing(stage, examples, most)? } else { Work::Choose };
        Ok(self.add(work, Prompts::Given(batches)))
    }

    /// Adds evaluations on dev.
    pub(super) fn evaluating(
        &mut self,
        seer: &Seer,
        stage: &Stage,
        examples: &[Example],
        times: usize,
        most: usize,
    ) -> anyhow::Result<()> {
        let name = "evaluations";
        if stage.name == StageName::Rank {
            return self.ranking(name, seer, stage, examples, times, most);
        }
        let Some(judged) = candidates(examples).filter(|_| times > 0) else { return Ok(()) };
        let work = if stage.grammar.think {
            seer.writing(stage, examples, verdict_tokens(stage))?
        } else {
            Work::Score { replies: seer.verdict(stage)?, tokens_per_pass: None }
        };
        let taken = evenly(examples, EVALUATED).into_iter();
        let batches = taken.map(|example| candidate_prompts(stage, example, false));
        let task = self.add(work, Prompts::Given(batches.collect()));
        self.phase(name, times, examples, (task, judged));
        Ok(())
    }

    /// Adds that a ranker answers some questions.
    pub(super) fn ranking(
        &mut self,
        name: &'static str,
        seer: &Seer,
        stage: &Stage,
        examples: &[Example],
        times: usize,
        most: usize,
    ) -> anyhow::Result<()> {
        if examples.is_empty() || times == 0 {
            return Ok(());
        }
        let task = match self.answering {
            Some(task) => task,
            None => self.answer(seer, stage, examples, most)?,
        };
        self.answering = Some(task);
        self.phase(name, times, examples, (task, examples.len()));
        Ok(())
    }

    fn answer(
        &mut self,
        seer: &Seer,
        stage: &Stage,
        examples: &[Example],
        most: usize,
    ) -> anyhow::Result<usize> {
        let sample = Sample::read(&seer.reader, examples.len(), |index| {
            let example = &examples[index];
            Ok(stage.prompt(&Case::listwise(&example.question, &example.candidates, 0)))
        })?;
        let batch = sample.typical(dev::AT_ONCE.min(examples.len()));
        let work = seer.writing(stage, examples, most)?;
        Ok(self.add(work, Prompts::Given(vec![batch])))
    }

    fn phase(
        &mut self,
        name: &'static str,
        times: usize,
        examples: &[Example],
        work: (usize, usize),
    ) {
        let documents = examples.iter().flat_map(|example| &example.candidates);
        let pictures = self.see(documents.filter_map(|document| picture(document)));
        self.phases.push(Phase { name, times, questions: examples.len(), work, pictures });
    }

    /// Seconds of each phase as JSON, and of all together.
    pub(super) fn seconds(&self, told: &[Told], looks: &Looks) -> (Map<String, Value>, f64) {
        let (mut parts, mut all) = (Map::new(), 0.0);
        for Phase { name, times, questions, work, pictures } in &self.phases {
            let (task, prompts) = *work;
            let once = told[task].seconds * prompts as f64;
            let seen = looks.in_phases.of((times * pictures.0, pictures.1));
            let seconds = once * *times as f64 + seen as f64 * looks.a_picture;
            all += seconds;
            parts.insert(
                (*name).to_owned(),
                json!({ "times": times, "questions": questions, "seconds": seconds }),
            );
        }
        (parts, all)
    }
}

/// The picture that a document is.
fn picture(document: &Document) -> Option<&ImageSource> {
    match &document.content {
        Content::Image(source) => Some(source),
        Content::Text(_) | Content::Table(_) => None,
    }
}

/// The prompts of a filter for the candidates of a question.
fn candidate_prompts(stage: &Stage, example: &Example, chosen: bool) -> Vec<Prompt> {
    let prompt = |document| {
        let case = Case::pointwise(&example.question, document);
        if chosen { stage.choice_prompt(&case) } else { stage.prompt(&case) }
    };
    example.candidates.iter().map(prompt).collect()
}

/// Those of the question that has the most.
pub(super) fn longest_list(stage: &Stage, examples: &[Example]) -> Vec<Prompt> {
    let longest = examples.iter().max_by_key(|example| example.candidates.len());
    longest.map_or(Vec::new(), |example| candidate_prompts(stage, example, false))
}

/// Documents of a question on average.
pub(super) fn mean_candidates(examples: &[Example]) -> f64 {
    candidates(examples).unwrap_or(0) as f64 / examples.len().max(1) as f64
}

/// How many documents the questions have; nothing if there is none.
fn candidates(examples: &[Example]) -> Option<usize> {
    let all: usize = examples.iter().map(|example| example.candidates.len()).sum();
    Some(all).filter(|&all| all > 0)
}

/// So many of the examples that have documents, from the first to the last.
fn evenly(examples: &[Example], count: usize) -> Vec<&Example> {
    let all: Vec<&Example> = examples.iter().filter(|e| !e.candidates.is_empty()).collect();
    let each = all.len().div_ceil(count.max(1)).max(1);
    all.into_iter().step_by(each).collect()
}
