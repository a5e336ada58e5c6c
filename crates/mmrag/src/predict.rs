//! What a run will take, before its model is loaded: seconds and peak memory, from its prompts and
//! from trying each kind of its work on a few layers.

mod outlook;
mod plan;
mod probe;
mod prompts;
mod sieve;
mod step;
mod trial;

use std::path::Path;

use anyhow::{anyhow, ensure};
use mmrag_core::{Example, Prompt};
use mmrag_model::Shared;
use mmrag_task::{Case, Stage, StageName};
use mmrag_train::{
    Estimator, GrpoSettings, LESSON_BATCHES_READY, Lesson, LoraSettings, planned_cases,
};
use serde_json::{Value, json};

use self::outlook::{Memory, Outlook};
use self::plan::{Plan, Seer};
use self::probe::Model;
use self::prompts::{Sample, images};
use self::sieve::Sieve;
use self::step::{ASSUMED_FLAT, Learning, Steps};
use self::trial::{Prompts, Replies, Trainee, Work};
use crate::bench::PromptSize;
use crate::loading::reply_tokens;
use crate::settings::{ReinforceRun, SftRun};
use crate::stages::{CONFIDENCE_QUESTIONS, Questions, first, lessons_of, stage_of, stage_to_learn};

/// A benchmark's group.
pub(crate) struct Group {
    pub(crate) prompt: PromptSize,
    /// Tokens of the prompt, and patches of its pictures.
    pub(crate) length: (usize, usize),
    pub(crate) replies: usize,
    pub(crate) new: usize,
}

/// What one group of reinforcement will take, as `bench grpo` measures it.
///
/// # Errors
///
/// When models run on a GPU, the model's small files cannot be read, or memory for a few of its
/// layers is out.
pub(crate) fn group(
    model: &Path,
    group: &Group,
    full: bool,
    checkpointing: bool,
) -> anyhow::Result<Value> {
    let robust = GrpoSettings::robust(StageName::Rank);
    let lora = LoraSettings { r: 16, alpha: 32.0, targets: Vec::new() };
    let optimizer = robust.optimizer;
    let trainee = Trainee { lora: (!full).then_some(lora), checkpointing, optimizer };
    let model = Model::open(model, trainee)?;
    let replies = Replies { count: group.replies, tokens: group.new };
    let work = [
        Work::Look,
        Work::Draw { replies, longest: group.new, most: group.new },
        Work::Learn { replies, tokens_per_pass: usize::MAX },
        Work::Step,
    ];
    let told = model.tell(&work.map(|work| (work, Prompts::MadeUp(group.prompt))))?;
    let [look, draw, learn, step] = [0, 1, 2, 3].map(|task| told[task]);
    let (tokens, patches) = group.length;
    let shared = Shared { prompt: tokens, replies: group.replies, new: group.new };
    let (features, ready) = (model.cost.features_bytes(patches), model.cost.pixels_bytes(patches));
    let memory = Memory::of(&told, features, ready);
    let mut said = memory.told(&model);
    said["sample_s"] = (look.seconds * group.prompt.images as f64 + draw.seconds).into();
    said["update_s"] = (learn.seconds + step.seconds).into();
    said["update_flops"] = model.update_flops(shared, patches).into();
    Ok(said)
}

/// What a training by reinforcement will take: memory at its peak, seconds of a step, of all steps
/// and of everything around them. Replies are told as long as the right ones where the data set
/// tells them.
///
/// # Errors
///
/// When the model's small files or the data cannot be read.
pub(crate) fn training(
    model: &Path,
    name: StageName,
    run: &ReinforceRun,
    questions: &Questions,
) -> anyhow::Result<Value> {
    let settings = &run.training;
    let trainee = Trainee {
        lora: Some(settings.lora.clone()),
        checkpointing: settings.gradient_checkpointing,
        optimizer: settings.optimizer.clone(),
    };
    let seer = Seer::open(model, trainee)?;
    let stage = stage_of(run, name);
    let sieve = Sieve::of(&run.filter_adapter, run.prompts)?;
    let mut plan = Plan::default();
    let train = plan.shown("filter train", &seer, sieve.as_ref(), &questions.train)?;
    let few = first(&questions.dev, run.data.dev_questions);
    let dev = plan.shown("filter dev", &seer, sieve.as_ref(), few)?;
    let planned = planned_cases(name, &train, settings)?;
    let most = settings.rollout.max_completion_tokens;
    plan.evaluating(&seer, &stage, &dev, settings.cadence.evaluations(planned.len()), most)?;

    let cases: Vec<&Case> = planned.iter().flatten().collect();
    let pictures = plan.see_steps(&planned);
    let sample = Sample::read(&seer.reader, cases.len(), |index| Ok(stage.prompt(cases[index])))?;
    let replies = match settings.estimator {
        Estimator::Exact => seer.branches(&stage)?,
        Estimator::Sampled => Replies {
            count: settings.rollout.group_size,
            tokens: seer.lengths(&stage, &train, most)?.0,
        },
    };
    let learning = Learning {
        replies,
        prompts: settings.prompts_per_step,
        tokens_per_pass: settings.tokens_per_pass,
        ready: 1,
    };
    let mut steps = Steps::learning(&mut plan, planned.len(), pictures, &sample, learning);
    if settings.estimator == Estimator::Sampled {
        let (_, longest) = seer.lengths(&stage, &train, most)?;
        steps = steps.drawing(&mut plan, settings, (longest, most));
    }
    steps = steps.updating(&mut plan, settings);
    if name == StageName::Filter && settings.cases.mined_negatives > 0 {
        let (judged, each) = (plan::longest_list(&stage, &train), plan::mean_candidates(&train));
        let a_step = settings.examples_per_step(name) as f64 * each;
        steps = steps.mining(&mut plan, seer.branches(&stage)?, judged, a_step);
    }
    calibrating(&mut plan, &seer, (&stage, sieve.as_ref()), &questions.dev, most)?;

    let told = seer.model.tell(&plan.tasks)?;
    let outlook = Outlook { seer: &seer, plan: &plan, steps: &steps, told: &told };
    let mut said = outlook.said();
    said["replies"] = replies.count.into();
    let most = if steps.draws() { most } else { replies.tokens };
    said["new_tokens"] = json!({ "expected": replies.tokens, "most": most });
    if let Some(sieve) = &sieve {
        said["filter"] = sieve.told();
    }
    if steps.draws() && settings.rollout.dynamic_sampling {
        said["groups"] = json!({ "without_variance": ASSUMED_FLAT, "source": "assumed" });
    }
    Ok(said)
}

/// Adds what follows the steps: a filter's threshold and a ranker's confidence are learned on dev.
fn calibrating(
    plan: &mut Plan,
    seer: &Seer,
    (stage, sieve): (&Stage, Option<&Sieve>),
    dev: &[Example],
    most: usize,
) -> anyhow::Result<()> {
    match stage.name {
        StageName::Filter => plan.filtering("calibration", seer, stage, dev),
        StageName::Rank => {
            let asked = first(dev, CONFIDENCE_QUESTIONS);
            let asked = plan.shown("filter for confidence", seer, sieve, asked)?;
            plan.ranking("confidence", seer, stage, &asked, 1, most)
        }
    }
}

/// Lessons that are made to see how long their replies are, from the first to the last.
const LESSONS: usize = 256;

/// What supervised training will take, as [`training`] says it of reinforcement.
///
/// # Errors
///
/// When the model's small files or the lessons cannot be read.
pub(crate) fn supervised(
    model: &Path,
    run: &SftRun,
    questions: &Questions,
) -> anyhow::Result<Value> {
    let settings = &run.training;
    let trainee = Trainee {
        lora: settings.lora.clone(),
        checkpointing: settings.gradient_checkpointing,
        optimizer: settings.optimizer.clone(),
    };
    let seer = Seer::open(model, trainee)?;
    let stage = stage_to_learn(run);
    let sieve = Sieve::of(&run.filter_adapter, run.prompts)?;
    let mut plan = Plan::default();
    let train = plan.shown("filter train", &seer, sieve.as_ref(), &questions.train)?;
    let few = first(&questions.dev, run.data.dev_questions);
    let dev = plan.shown("filter dev", &seer, sieve.as_ref(), few)?;
    let lessons = lessons_of(run, train);
    ensure!(!lessons.is_empty(), "there is no lesson to learn");
    let count = settings.total_steps(lessons.len());
    // Of a whole model nothing is measured before the first step.
    let before = usize::from(settings.lora.is_none() && settings.cadence.evaluate > 0);
    let times = settings.cadence.evaluations(count) - before;
    plan.evaluating(&seer, &stage, &dev, times, reply_tokens(run.prompts))?;

    let lesson = |index| -> anyhow::Result<Lesson> {
        lessons.get(index).map_err(|error| anyhow!("failed to make a lesson: {error}"))
    };
    let sample = Sample::read(&seer.reader, lessons.len(), |index| Ok(lesson(index)?.prompt))?;
    let made = (0..lessons.len()).step_by(lessons.len().div_ceil(LESSONS));
    let lengths = made.map(|index| seer.reader.reply_tokens(&lesson(index)?.reply));
    let lengths: Vec<usize> = lengths.collect::<anyhow::Result<_>>()?;
    let tokens = lengths.iter().sum::<usize>().div_ceil(lengths.len());
    let learning = Learning {
        replies: Replies { count: 1, tokens },
        prompts: settings.lessons_per_step,
        tokens_per_pass: settings.tokens_per_pass,
        ready: LESSON_BATCHES_READY,
    };
    let all = (sample.pictures() * (count * settings.lessons_per_step) as f64) as usize;
    // Composed lessons have pictures of their own, each; a data set's are seen again.
    let new = if run.phases.is_empty() {
        let prompts = (0..lessons.len()).map(|index| Ok(lesson(index)?.prompt));
        let prompts: Vec<Prompt> = prompts.collect::<anyhow::Result<_>>()?;
        plan.see(prompts.iter().flat_map(images)).1.min(all)
    } else {
        plan.see_unnamed(all)
    };
    let steps = Steps::learning(&mut plan, count, (all, new), &sample, learning);
    if stage.name == StageName::Filter && run.phases.is_empty() && settings.lora.is_some() {
        plan.filtering("calibration", &seer, &stage, &questions.dev)?;
    }

    let told = seer.model.tell(&plan.tasks)?;
    let outlook = Outlook { seer: &seer, plan: &plan, steps: &steps, told: &told };
    let mut said = outlook.said();
    said["reply_tokens"] = json!({ "mean": tokens, "longest": lengths.iter().max() });
    if let Some(sieve) = &sieve {
        said["filter"] = sieve.told();
    }
    Ok(said)
}
