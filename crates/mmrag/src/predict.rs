//! What a training step will take, before anything is loaded: peak memory from the model's shape,
//! seconds from its floating-point operations and from how fast this machine multiplies such shapes.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use candle_core::{DType, Device, Tensor};
use mmrag_core::{Example, ImageSource, Part, Prompt};
use mmrag_model::{ChatTokenizer, Cost, ImageProcessor, Precision, Shared, Trained};
use mmrag_ops::linear;
use mmrag_task::{Case, Stage, StageName};
use mmrag_train::{Estimator, GrpoSettings};
use serde_json::{Value, json};

/// What a process takes besides weights and activations: code, tokenizer, stacks.
const PROCESS_BYTES: f64 = 40e6;

/// How much more memory than its tensors a process holds: blocks rounded up and kept for reuse.
/// Measured on models of 8 million to 2 billion parameters it is 1.16 to 1.56.
const ALLOCATED: f64 = 1.25;

/// Share of the rate of a single product that a whole pass reaches.
const REACHED: f64 = 0.8;

/// Rows of the products that stand for a pass over many tokens.
const MANY_ROWS: usize = 512;

/// One step of reinforcement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// A group: its prompt, replies and their tokens.
    pub(crate) group: Shared,
    /// Groups of a step.
    pub(crate) groups: usize,
    /// Patches of the pictures of a prompt.
    pub(crate) patches: usize,
    /// What is trained.
    pub(crate) trained: Trained,
    /// Whether activations are checkpointed.
    pub(crate) checkpointing: bool,
    /// Passes of a learning wave that are held at a time, and tokens of each.
    pub(crate) passes: (usize, usize),
}

/// Floating-point operations a second of products as the model makes them.
struct Rates {
    /// With many rows.
    many: f64,
    /// With one row for each reply that is written.
    few: f64,
}

/// The prediction as JSON: bytes and seconds.
///
/// # Errors
///
/// When memory for the timed products is out.
pub(crate) fn step(cost: &Cost, step: &Step) -> anyhow::Result<Value> {
    let rates = rates(cost, step.group.replies)?;
    let groups = step.groups as f64;
    let new = step.group.new as f64;
    let prompt = Shared { replies: 0, new: 0, ..step.group };
    let prefill = cost.forward_flops(prompt) + cost.vision_flops(step.patches);
    let write = cost.decode_flops(step.group.replies) * new / rates.few;
    let sample_s = groups * (prefill / (rates.many * REACHED) + write);
    let update = cost.update_flops(step.group, step.trained, step.checkpointing);
    let seen = if step.trained == Trained::Full { 3.0 } else { 0.0 };
    let update = update + seen * cost.vision_flops(step.patches);
    let update_s = groups * update / (rates.many * REACHED);
    Ok(json!({
        "peak_bytes": peak_bytes(cost, step),
        "weights_bytes": cost.weights_bytes(),
        "sample_s": sample_s,
        "update_s": update_s,
        "update_flops": groups * update,
        "product_flops_s": { "many_rows": rates.many, "few_rows": rates.few },
    }))
}

fn peak_bytes(cost: &Cost, step: &Step) -> u64 {
    let (passes, tokens) = step.passes;
    let learning = passes * cost.learning_bytes(tokens, step.checkpointing);
    let seen = match step.trained {
        Trained::Full => cost.vision_learning_bytes(step.patches, step.checkpointing),
        Trained::Adapter(_) => 0,
    };
    // What drawing replies took is kept for reuse.
    let sampling = cost.sampling_bytes(step.group) + cost.vision_bytes(step.patches);
    let rest = cost.training_bytes(step.trained) + learning + seen + sampling;
    (cost.weights_bytes() as f64 + ALLOCATED * (rest as f64 + PROCESS_BYTES)) as u64
}

/// Times products of the shapes of the text decoder's largest maps.
fn rates(cost: &Cost, replies: usize) -> anyhow::Result<Rates> {
    let (device, (width, inner)) = (&Device::Cpu, cost.widths());
    let dtype = if cost.is_narrow() { DType::BF16 } else { DType::F32 };
    let w = Tensor::ones((inner, width), dtype, device)?;
    let rate = |rows: usize| -> anyhow::Result<f64> {
        let x = Tensor::ones((rows, width), DType::F32, device)?;
        let mut seconds = Vec::new();
        for _ in 0..9 {
            let start = Instant::now();
            linear(&x, &w, None)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        Ok(2.0 * (rows * width * inner) as f64 / seconds[seconds.len() / 2])
    };
    Ok(Rates { many: rate(MANY_ROWS)?, few: rate(replies.max(1))? })
}

/// Questions whose prompts are made ready to see how long prompts are.
const QUESTIONS: usize = 24;

/// The prompts of a stage, as far as the first questions tell.
struct Prompts {
    /// Tokens of each.
    tokens: Vec<usize>,
    /// Patches of the pictures of each.
    patches: Vec<usize>,
}

impl Prompts {
    fn of(model: &Path, stage: &Stage, questions: &[Example]) -> anyhow::Result<Self> {
        let context = || format!("failed to read the model {}", model.display());
        let tokenizer = ChatTokenizer::load(model).with_context(context)?;
        let processor = ImageProcessor::load(model).with_context(context)?;
        let mut prompts = Self { tokens: vec![], patches: vec![] };
        for example in questions.iter().take(QUESTIONS) {
            let Example { question, candidates, .. } = example;
            let cases = match stage.name {
                StageName::Filter => {
                    candidates.iter().map(|document| Case::pointwise(question, document)).collect()
                }
                StageName::Rank => vec![Case::listwise(question, candidates, 0)],
            };
            for case in cases {
                let prompt = stage.prompt(&case);
                let grids = images(&prompt).map(|image| processor.grid(image));
                let grids: Vec<[usize; 3]> = grids.collect::<Result<_, _>>()?;
                let counts: Vec<usize> = grids.iter().map(|&grid| processor.tokens(grid)).collect();
                prompts.tokens.push(tokenizer.encode_prompt(&prompt, &counts)?.ids.len());
                prompts.patches.push(grids.iter().map(|grid| grid.iter().product::<usize>()).sum());
            }
        }
        ensure!(!prompts.tokens.is_empty(), "the data set has no question to train on");
        Ok(prompts)
    }
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

/// What a training will take: memory at its peak, seconds of a step with replies of full length,
/// and of all steps.
///
/// # Errors
///
/// When the model's small files or the data cannot be read.
pub(crate) fn training(
    model: &Path,
    stage: &Stage,
    settings: &GrpoSettings,
    questions: &[Example],
) -> anyhow::Result<Value> {
    let cost = Cost::read(model, Precision::Stored)
        .with_context(|| format!("failed to read the model {}", model.display()))?;
    let prompts = Prompts::of(model, stage, questions)?;
    let (replies, new) = match settings.estimator {
        Estimator::Exact => (2, 1),
        Estimator::Sampled => (settings.rollout.group_size, settings.rollout.max_completion_tokens),
    };
    let group = Shared { prompt: mean(&prompts.tokens), replies, new };
    let longest =
        prompts.tokens.iter().max().map_or(0, |&prompt| Shared { prompt, ..group }.tokens());
    let all = settings.prompts_per_step * group.tokens();
    let pass = settings.tokens_per_pass.max(longest).min(all.max(longest));
    let passes = rayon::current_num_threads().min(all.div_ceil(pass.max(1))).max(1);
    let mut told = step(
        &cost,
        &Step {
            group,
            groups: settings.prompts_per_step,
            patches: mean(&prompts.patches),
            trained: Trained::Adapter(settings.lora.r),
            checkpointing: settings.gradient_checkpointing,
            passes: (passes, pass),
        },
    )?;
    let steps = settings.total_steps(stage.name, questions.len());
    let seconds = |key: &str| told[key].as_f64().unwrap_or(0.0);
    let all_s = steps as f64 * (seconds("sample_s") + seconds("update_s"));
    told["prompt_tokens"] = json!({ "mean": group.prompt, "longest": prompts.tokens.iter().max() });
    told["replies"] = replies.into();
    told["new_tokens"] = new.into();
    told["passes_at_once"] = passes.into();
    told["tokens_per_pass"] = pass.into();
    told["steps"] = steps.into();
    told["all_steps_s"] = all_s.into();
    Ok(told)
}
