//! What a training step will take, before anything is loaded: peak memory from the model's shape,
//! seconds from trying a few of its layers.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context as _, anyhow, ensure};
use mmrag_core::{Example, ImageSource, Modality, Part, Prompt};
use mmrag_model::{ChatTokenizer, Cost, ImageProcessor, Placement, Precision, Shared, Trained};
use mmrag_task::{Case, Stage, StageName};
use mmrag_train::{Estimator, GrpoSettings, LESSON_BATCHES_READY, Lesson, Lessons, SftSettings};
use serde_json::{Value, json};

use crate::host::host;
use crate::loading::reply_tokens;
use crate::probe;
use crate::stages::Questions;

/// What a process takes besides weights and activations: code, tokenizer, stacks.
const PROCESS_BYTES: f64 = 70e6;

/// How much more memory than its tensors a process holds: blocks rounded up and kept for reuse.
/// Measured on models of 8 million to 2 billion parameters it is 1.16 to 1.56.
const ALLOCATED: f64 = 1.25;

/// One step of reinforcement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// A group: its prompt, replies and the tokens that each may have, which memory is told for.
    pub(crate) group: Shared,
    /// Tokens that a reply will have, which seconds are told for.
    pub(crate) expected: usize,
    /// Groups of a step.
    pub(crate) groups: usize,
    /// Pictures of a prompt.
    pub(crate) pictures: usize,
    /// Patches of them together.
    pub(crate) patches: usize,
    /// What is trained.
    pub(crate) trained: Trained,
    /// Whether activations are checkpointed.
    pub(crate) checkpointing: bool,
    /// Whether replies are drawn by the model, and not given.
    pub(crate) draws: bool,
    /// Bytes that evaluation on dev takes besides the weights, if more than drawing replies does.
    pub(crate) evaluation: usize,
    /// Bytes of the features of pictures of other prompts, which are kept.
    pub(crate) features: usize,
    /// Steps whose prompts are ready at a time.
    pub(crate) ready: usize,
    /// Passes of a learning wave that are held at a time, and tokens of each.
    pub(crate) passes: (usize, usize),
}

/// The prediction as JSON: bytes and seconds.
///
/// # Errors
///
/// When models run on a GPU, the model's small files cannot be read, or memory for a few of its
/// layers is out.
pub(crate) fn step(
    model: &Path,
    precision: Precision,
    cost: &Cost,
    step: &Step,
) -> anyhow::Result<Value> {
    ensure!(
        host().device.is_cpu(),
        "--dry-run predicts runs on the CPU alone so far: add --device cpu"
    );
    let placement = Placement::cpu(precision);
    let seconds = probe::seconds(model, &placement, cost, step)?;
    let expected = Shared { new: step.expected, ..step.group };
    let update = cost.update_flops(expected, step.trained, step.checkpointing);
    let seen = if step.trained == Trained::Full { 3.0 } else { 0.0 };
    let update = update + seen * cost.vision_flops(step.patches);
    Ok(json!({
        "peak_bytes": peak_bytes(cost, step),
        "weights_bytes": cost.weights_bytes(),
        "sample_s": seconds.sample,
        "update_s": seconds.update,
        "update_flops": step.groups as f64 * update,
    }))
}

/// Prompts of an evaluation that are tried for all of them.
const ASKED: usize = 32;

/// Adds what evaluations take and what the whole takes: `count` times `asked` prompts like those of
/// `step`, one reply each.
fn evaluations(
    told: &mut Value,
    (model, precision): (&Path, Precision),
    step: &Step,
    asked: usize,
    count: usize,
) -> anyhow::Result<()> {
    let cost = Cost::read(model, precision)
        .with_context(|| format!("failed to read the model {}", model.display()))?;
    let groups = if count == 0 { 0 } else { asked.min(ASKED) };
    let one = Step { groups, group: Shared { replies: 1, ..step.group }, ..*step };
    let seconds = if groups == 0 {
        0.0
    } else {
        let tried = probe::drawing(model, &Placement::cpu(precision), &cost, &one)?;
        tried * asked as f64 / groups as f64
    };
    told["evaluations"] = json!({ "count": count, "seconds": seconds });
    let steps = told["all_steps_s"].as_f64().unwrap_or(0.0);
    told["all_s"] = (steps + count as f64 * seconds).into();
    Ok(())
}

fn peak_bytes(cost: &Cost, step: &Step) -> u64 {
    let (passes, tokens) = step.passes;
    let learning = passes * cost.learning_bytes(tokens, step.checkpointing);
    let seen = match step.trained {
        Trained::Full => {
            let prompts = passes * (tokens / step.group.tokens().max(1)).clamp(1, step.groups);
            cost.vision_learning_bytes(prompts * step.patches, step.checkpointing)
        }
        Trained::Adapter(_) => 0,
    };
    // What drawing replies took is kept for reuse.
    let threads = rayon::current_num_threads();
    let drawing =
        if step.draws { cost.sampling_bytes(step.group, step.groups, threads) } else { 0 };
    let sampling = drawing.max(step.evaluation);
    let ready = cost.pixels_bytes(step.ready * step.groups * step.patches);
    let vision = cost.vision_bytes(step.patches) + step.features + ready;
    let rest = cost.training_bytes(step.trained) + learning + seen + sampling + vision;
    (cost.weights_bytes() as f64 + ALLOCATED * (rest as f64 + PROCESS_BYTES)) as u64
}

/// Questions whose prompts are made ready to see how long prompts are.
const QUESTIONS: usize = 24;

/// The prompts of a stage, as far as the first questions tell.
struct Prompts {
    /// Tokens of each.
    tokens: Vec<usize>,
    /// Pictures of each.
    pictures: Vec<usize>,
    /// Patches of them together.
    patches: Vec<usize>,
}

impl Prompts {
    /// Of a stage's prompts for questions.
    fn of(model: &Path, stage: &Stage, questions: &[Example]) -> anyhow::Result<Self> {
        let cases = |example: &Example| match stage.name {
            StageName::Filter => {
                let documents = example.candidates.iter();
                documents.map(|document| Case::pointwise(&example.question, document)).collect()
            }
            StageName::Rank => vec![Case::listwise(&example.question, &example.candidates, 0)],
        };
        let prompts: Vec<Prompt> = questions
            .iter()
            .take(QUESTIONS)
            .flat_map(cases)
            .map(|case| stage.prompt(&case))
            .collect();
        ensure!(!prompts.is_empty(), "the data set has no question to train on");
        Self::read(model, &prompts)
    }

    fn read(model: &Path, all: &[Prompt]) -> anyhow::Result<Self> {
        let context = || format!("failed to read the model {}", model.display());
        let tokenizer = ChatTokenizer::load(model).with_context(context)?;
        let processor = ImageProcessor::load(model).with_context(context)?;
        let mut prompts = Self { tokens: vec![], pictures: vec![], patches: vec![] };
        for prompt in all {
            let grids = images(prompt).map(|image| processor.grid(image));
            let grids: Vec<[usize; 3]> = grids.collect::<Result<_, _>>()?;
            let counts: Vec<usize> = grids.iter().map(|&grid| processor.tokens(grid)).collect();
            prompts.tokens.push(tokenizer.encode_prompt(prompt, &counts)?.ids.len());
            prompts.pictures.push(grids.len());
            prompts.patches.push(grids.iter().map(|grid| grid.iter().product::<usize>()).sum());
        }
        Ok(prompts)
    }

    fn patches_a_picture(&self) -> usize {
        self.patches.iter().sum::<usize>().div_ceil(self.pictures.iter().sum::<usize>().max(1))
    }
}

/// Tokens of the right replies to the first questions, where the data set tells their reasoning or
/// none is asked for: as long as replies become. Of others no length can be told.
fn right_replies(model: &Path, stage: &Stage, all: &[Example]) -> anyhow::Result<Option<usize>> {
    let tokenizer = ChatTokenizer::load(model)
        .with_context(|| format!("failed to read the model {}", model.display()))?;
    let is_known = |example: &&Example| !stage.grammar.think || !example.steps.is_empty();
    let mut lengths = vec![];
    for example in all.iter().take(QUESTIONS).filter(is_known) {
        let case = match (stage.name, example.candidates.first()) {
            (StageName::Filter, Some(document)) => Case::pointwise(&example.question, document),
            _ => Case::listwise(&example.question, &example.candidates, 0),
        };
        let reply = stage.render(&stage.demonstration(&case, example));
        lengths.push(tokenizer.encode_reply(&reply)?.len() + 1);
    }
    Ok((!lengths.is_empty()).then(|| mean(&lengths)))
}

/// Pictures of all questions, each once.
fn pictures(questions: &Questions) -> usize {
    let documents = questions.train.iter().chain(&questions.dev).flat_map(|e| &e.candidates);
    let pictures = documents.filter(|document| document.modality() == Modality::Image);
    pictures.map(|document| &document.id).collect::<HashSet<_>>().len()
}

fn images(prompt: &Prompt) -> impl Iterator<Item = &ImageSource> {
    prompt.messages.iter().flat_map(|message| &message.parts).filter_map(|part| match part {
        Part::Image(source) => Some(source),
        Part::Text(_) => None,
    })
}

fn mean(values: &[usize]) -> usize {
    values.iter().sum::<usize>().div_ceil(values.len().max(1))
}

/// What a training will take: memory at its peak, with replies of full length; seconds of a step,
/// with replies as long as the right ones where the data set tells them, and of all steps.
///
/// # Errors
///
/// When the model's small files or the data cannot be read.
pub(crate) fn training(
    model: &Path,
    stage: &Stage,
    settings: &GrpoSettings,
    questions: &Questions,
) -> anyhow::Result<Value> {
    let threads = rayon::current_num_threads();
    let cost = Cost::read(model, Precision::Stored)
        .with_context(|| format!("failed to read the model {}", model.display()))?;
    let prompts = Prompts::of(model, stage, &questions.train)?;
    let (replies, new) = match settings.estimator {
        Estimator::Exact => (2, 1),
        Estimator::Sampled => (settings.rollout.group_size, settings.rollout.max_completion_tokens),
    };
    let group = Shared { prompt: mean(&prompts.tokens), replies, new };
    let right = right_replies(model, stage, &questions.train)?;
    let expected = right.unwrap_or(new).min(new);
    let longest =
        prompts.tokens.iter().max().map_or(0, |&prompt| Shared { prompt, ..group }.tokens());
    let all = settings.prompts_per_step * group.tokens();
    let pass = settings.tokens_per_pass.max(longest).min(all.max(longest));
    let passes = threads.min(all.div_ceil(pass.max(1))).max(1);
    let asked = questions.dev.len() * prompts.tokens.len() / QUESTIONS.min(questions.train.len());
    let evaluation = match settings.estimator {
        Estimator::Exact => cost.choosing_bytes(group.prompt, asked, threads),
        Estimator::Sampled => cost.sampling_bytes(Shared { replies: 1, ..group }, asked, threads),
    };
    let tried = Step {
        group,
        expected,
        groups: settings.prompts_per_step,
        pictures: mean(&prompts.pictures),
        patches: mean(&prompts.patches),
        draws: true,
        evaluation,
        ready: 1,
        features: cost.kept_features_bytes(prompts.patches_a_picture() * pictures(questions)),
        trained: Trained::Adapter(settings.lora.r),
        checkpointing: settings.gradient_checkpointing,
        passes: (passes, pass),
    };
    let mut told = step(model, Precision::Stored, &cost, &tried)?;
    let steps = settings.total_steps(stage.name, questions.train.len());
    let seconds = |key: &str| told[key].as_f64().unwrap_or(0.0);
    let all_s = steps as f64 * (seconds("sample_s") + seconds("update_s"));
    told["prompt_tokens"] = json!({ "mean": group.prompt, "longest": prompts.tokens.iter().max() });
    told["replies"] = replies.into();
    told["new_tokens"] = json!({ "expected": expected, "most": new });
    told["passes_at_once"] = passes.into();
    told["tokens_per_pass"] = pass.into();
    told["steps"] = steps.into();
    told["all_steps_s"] = all_s.into();
    let count = settings.cadence.evaluations(steps);
    evaluations(&mut told, (model, Precision::Stored), &tried, asked, count)?;
    Ok(told)
}

/// What a supervised training asks on dev.
struct Asked {
    prompts: Prompts,
    /// How many prompts there are in all.
    count: usize,
    /// One prompt and its reply, with the most tokens that it may have.
    group: Shared,
    /// Tokens that a reply will have.
    expected: usize,
}

impl Asked {
    fn of(model: &Path, stage: &Stage, dev: &[Example]) -> anyhow::Result<Self> {
        let prompts = Prompts::of(model, stage, dev)?;
        let new = reply_tokens(stage.template.style());
        let expected = match stage.name {
            StageName::Filter => 1,
            StageName::Rank => right_replies(model, stage, dev)?.unwrap_or(new).min(new),
        };
        Ok(Self {
            count: dev.len() * prompts.tokens.len() / QUESTIONS.min(dev.len()),
            group: Shared { prompt: mean(&prompts.tokens), replies: 1, new },
            expected,
            prompts,
        })
    }

    /// Bytes that an evaluation takes besides the weights.
    fn bytes(&self, stage: &Stage, cost: &Cost) -> usize {
        let threads = rayon::current_num_threads();
        match stage.name {
            StageName::Filter => cost.choosing_bytes(self.group.prompt, self.count, threads),
            StageName::Rank => cost.sampling_bytes(self.group, self.count, threads),
        }
    }

    /// A step that draws such replies instead of learning.
    fn step(&self, learning: &Step) -> Step {
        Step {
            group: self.group,
            expected: self.expected,
            pictures: mean(&self.prompts.pictures),
            patches: mean(&self.prompts.patches),
            draws: true,
            ..*learning
        }
    }
}

/// Lessons that are made ready to see how long they are, from the first to the last.
const LESSONS: usize = 64;

/// What supervised training will take, as [`training`] says it of reinforcement. `dev` are the
/// questions that checkpoints are chosen by.
///
/// # Errors
///
/// When the model's small files or the lessons cannot be read.
pub(crate) fn supervised(
    model: &Path,
    stage: &Stage,
    settings: &SftSettings,
    lessons: &dyn Lessons,
    questions: &Questions,
) -> anyhow::Result<Value> {
    let trained = settings.lora.as_ref().map_or(Trained::Full, |lora| Trained::Adapter(lora.r));
    let precision = if trained == Trained::Full { Precision::F32 } else { Precision::Stored };
    let threads = rayon::current_num_threads();
    let context = || format!("failed to read the model {}", model.display());
    let cost = Cost::read(model, precision).with_context(context)?;
    let tokenizer = ChatTokenizer::load(model).with_context(context)?;
    ensure!(!lessons.is_empty(), "there is no lesson to learn");
    let step_by = lessons.len().div_ceil(LESSONS);
    let made = (0..lessons.len()).step_by(step_by).map(|index| lessons.get(index));
    let made: Vec<Lesson> = made
        .collect::<Result<_, _>>()
        .map_err(|error| anyhow!("failed to make a lesson: {error}"))?;
    let length = |lesson: &Lesson| tokenizer.encode_reply(&lesson.reply).map(|ids| ids.len() + 1);
    let replies: Vec<usize> = made.iter().map(length).collect::<Result<_, _>>()?;
    let shown: Vec<Prompt> = made.into_iter().map(|lesson| lesson.prompt).collect();
    let prompts = Prompts::read(model, &shown)?;
    let group = Shared { prompt: mean(&prompts.tokens), replies: 1, new: mean(&replies) };
    let lengths = prompts.tokens.iter().zip(&replies).map(|(prompt, reply)| prompt + reply);
    let all = settings.lessons_per_step * group.tokens();
    let pass = settings.tokens_per_pass.max(lengths.max().unwrap_or(0)).min(all.max(1));
    let passes = threads.min(all.div_ceil(pass.max(1))).max(1);
    let asked = Asked::of(model, stage, &questions.dev)?;
    let tried = Step {
        group,
        expected: group.new,
        groups: settings.lessons_per_step,
        pictures: mean(&prompts.pictures),
        patches: mean(&prompts.patches),
        draws: false,
        evaluation: asked.bytes(stage, &cost),
        ready: LESSON_BATCHES_READY,
        features: cost.kept_features_bytes(asked.prompts.patches_a_picture() * pictures(questions)),
        trained,
        checkpointing: settings.gradient_checkpointing,
        passes: (passes, pass),
    };
    let mut told = step(model, precision, &cost, &tried)?;
    let steps = settings.total_steps(lessons.len());
    let step_s = told["update_s"].as_f64().unwrap_or(0.0);
    told["prompt_tokens"] = json!({ "mean": group.prompt, "longest": prompts.tokens.iter().max() });
    told["reply_tokens"] = json!({ "mean": group.new, "longest": replies.iter().max() });
    told["passes_at_once"] = passes.into();
    told["tokens_per_pass"] = pass.into();
    told["steps"] = steps.into();
    told["all_steps_s"] = (steps as f64 * step_s).into();
    let count = settings.cadence.evaluations(steps);
    evaluations(&mut told, (model, precision), &asked.step(&tried), asked.count, count)?;
    Ok(told)
}
