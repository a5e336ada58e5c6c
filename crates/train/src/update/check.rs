//! Optimizer steps on one group of replies, in the shared-prefix form, against the numbers of TRL,
//! PEFT and transformers, which repeat the prompt for every reply.
//!
//! A folder of such numbers holds `update.json` (the settings, and loss, KL and gradient norm of
//! each step), `batch.safetensors` (tokens, rewards, advantages, log-probabilities, clipped
//! gradients of the first step) and the adapters `adapter_init` and `adapter_after_N_steps`.

use std::path::Path;

use candle_core::{Device, Tensor};
use mmrag_model::{Adapter, Compared};
use mmrag_task::StageName;

use super::reference::{Numbers, OnePrompt, Told};
use super::{GradStore, GrpoSettings, Learner, Replies, ReplyGroup, Totals, TrainError, Update};
use crate::advantages::{AdvantageRule, Aggregation, Scale, advantages};

/// Largest difference of log-probabilities, losses and advantages.
const SCORES: f64 = 1e-4;
/// Largest norm of the difference of gradients, and of how far the adapter came, over their norm.
const GRADIENTS: f64 = 1e-3;
/// Largest share of the adapter's elements that may end further than [`SCORES`] from the
/// reference's: Adam turns the sign of gradients near zero.
const FAR: f64 = 1e-3;

/// Updates the adapter of a folder of reference updates, on the model of another folder, as often
/// as the reference did, on `device`, and compares every number of it. The tolerances are the fixtures'.
///
/// # Errors
///
/// When the model, the adapter or a number cannot be read, or the prompt is no case of the model's
/// reference outputs. That numbers differ is no error.
pub fn check_update(
    model: impl AsRef<Path>,
    folder: impl AsRef<Path>,
    device: &Device,
) -> Result<Vec<Compared>, TrainError> {
    let (model, folder) = (model.as_ref(), folder.as_ref());
    let told = Told::read(folder)?;
    let numbers = Numbers::open(folder)?;
    let learner = OnePrompt::load(model, folder, &told, &numbers, device)?;
    let mut table = Table::default();
    let settings = settings(&told);
    let replies = given_replies(&numbers, &mut table)?;
    let mut optimizer = settings.optimizer.of(learner.vars());
    let update = Update::new(&learner, replies, &settings, 0)?;
    for (step, told) in told.steps.iter().enumerate() {
        let iteration = update.iterate(&learner)?;
        let case = format!("step {step}");
        table.row(&case, "loss", (iteration.loss - told.loss).abs(), SCORES);
        let kl = iteration.tally.metrics().get("kl").unwrap_or(f64::NAN);
        table.row(&case, "kl", (kl - told.kl).abs(), SCORES);
        if step == 0 {
            compare_gradients(&learner, &iteration.gradients, &settings, &numbers, &mut table)?;
        }
        let rate = settings.schedule.learning_rate;
        let norm = optimizer
            .step(&iteration.gradients, rate, settings.optimizer.clip)
            .map_err(TrainError::tensor("update the weights", step))?;
        table.row(&case, "grad_norm", (norm / told.grad_norm - 1.0).abs(), GRADIENTS);
    }
    compare_logprobs(&learner.asked(), &numbers, &mut table)?;
    compare_adapter(&learner, folder, told.steps.len(), &mut table)?;
    for name in numbers.unread() {
        table.unknown("batch", &name);
    }
    Ok(table.rows)
}

/// The comparison so far.
#[derive(Default)]
struct Table {
    rows: Vec<Compared>,
}

impl Table {
    fn row(&mut self, case: &str, output: &str, difference: f64, tolerance: f64) {
        let (case, output) = (case.to_owned(), output.to_owned());
        self.rows.push(Compared { case, output, difference: Some(difference), tolerance });
    }

    /// A number that nothing of ours is compared with.
    fn unknown(&mut self, case: &str, output: &str) {
        let (case, output) = (case.to_owned(), output.to_owned());
        self.rows.push(Compared { case, output, difference: None, tolerance: 0.0 });
    }

    /// Numbers one by one.
    fn near(&mut self, case: &str, output: &str, ours: &[f32], theirs: &[f32]) {
        let off = ours.iter().zip(theirs).map(|(a, b)| f64::from((a - b).abs()));
        // A difference that is no number is the largest of all.
        let largest =
            off.fold(0.0, |most: f64, off| if most.is_nan() || off <= most { most } else { off });
        let same = ours.len() == theirs.len();
        self.row(case, output, if same { largest } else { f64::INFINITY }, SCORES);
    }
}

fn settings(told: &Told) -> GrpoSettings {
    let mut settings = GrpoSettings::paper_like(StageName::Rank);
    settings.iterations = told.steps.len();
    settings.tokens_per_pass = usize::MAX;
    settings.loss.kind = told.loss_type;
    settings.loss.beta = told.beta;
    settings.loss.epsilon_low = told.epsilon_low;
    settings.loss.epsilon_high = told.epsilon_high;
    settings.optimizer.beta1 = told.optimizer.betas[0];
    settings.optimizer.beta2 = told.optimizer.betas[1];
    settings.optimizer.eps = told.optimizer.eps;
    settings.optimizer.weight_decay = told.optimizer.weight_decay;
    settings.optimizer.clip = Some(told.max_grad_norm);
    settings.schedule.learning_rate = told.optimizer.lr;
    settings
}

/// The reference's group, as it would have been drawn, with our advantages.
fn given_replies(numbers: &Numbers, table: &mut Table) -> Result<Replies<()>, TrainError> {
    let mask = numbers.rows("completion_mask")?;
    let width = mask.first().map_or(0, Vec::len);
    let ids = numbers.ids("completion_ids")?;
    let lengths = mask.iter().map(|m| m.iter().sum::<f32>() as usize);
    let rows = ids.chunks(width.max(1)).zip(lengths);
    let replies: Vec<Vec<u32>> = rows.map(|(row, n)| row[..n.min(width)].to_vec()).collect();
    let rewards = numbers.vector("rewards")?;
    let rewards: Vec<_> = rewards.iter().map(|&r| vec![Some(f64::from(r))]).collect();
    let rule = AdvantageRule {
        scale: Scale::Group,
        aggregation: Aggregation::SumThenNormalize,
        std_floor: 0.0,
    };
    let advantages = advantages(&rewards, &[1.0], rewards.len(), &rule);
    let ours: Vec<f32> = advantages.iter().map(|&a| a as f32).collect();
    table.near("batch", "advantages", &ours, &numbers.vector("advantages")?);
    let tokens = replies.iter().map(Vec::len).sum();
    Ok(Replies {
        sampled: vec![Vec::new(); replies.len()],
        totals: Totals { rows: replies.len(), tokens, max_completion_tokens: width },
        groups: vec![ReplyGroup { prompt: (), replies }],
        advantages,
    })
}

/// The log-probabilities of every pass: of the policy before its first step, of the reference
/// policy, and of the policy in each step.
fn compare_logprobs(
    asked: &[Vec<f32>],
    numbers: &Numbers,
    table: &mut Table,
) -> Result<(), TrainError> {
    let has_reference = numbers.maybe("ref_logprobs")?.is_some();
    let reference = has_reference.then(|| "ref_logprobs".to_owned());
    let n_before = 1 + usize::from(has_reference);
    let steps = asked.len().saturating_sub(n_before);
    let names = std::iter::once("step0.logprobs".to_owned())
        .chain(reference)
        .chain((0..steps).map(|step| format!("step{step}.logprobs")));
    for (ours, name) in asked.iter().zip(names) {
        table.near("batch", &name, ours, &numbers.masked(&name)?);
    }
    Ok(())
}

/// PEFT's name in the batch of a variable's gradient.
fn gradient_name(var: &str) -> String {
    let var = var.replace(".lora_A.weight", ".lora_A.default.weight");
    let var = var.replace(".lora_B.weight", ".lora_B.default.weight");
    format!("grad_clipped.base_model.model.{var}")
}

/// Every gradient of the first step that the reference tells, and how many variables have none.
fn compare_gradients(
    learner: &OnePrompt,
    gradients: &GradStore,
    settings: &GrpoSettings,
    numbers: &Numbers,
    table: &mut Table,
) -> Result<(), TrainError> {
    let failed = |error| TrainError::tensor("compare gradients", 0)(error);
    let optimizer = settings.optimizer.of(learner.vars());
    let whole = optimizer.grad_norm(gradients).map_err(failed)?;
    let clip = settings.optimizer.clip.map_or(1.0, |clip| (clip / (whole + 1e-6)).min(1.0));
    let mut untrained = 0;
    for (name, var) in learner.vars() {
        let gradient = gradients.get(&var);
        let size = gradient.map(norm).transpose().map_err(failed)?.unwrap_or(0.0);
        untrained += usize::from(!(size.is_finite() && size > 0.0));
        let name = gradient_name(&name);
        let Some(theirs) = numbers.maybe(&name)? else { continue };
        let off = match gradient {
            Some(ours) => relative(&(ours * clip).map_err(failed)?, &theirs).map_err(failed)?,
            None => f64::INFINITY,
        };
        table.row("step 0", &name, off, GRADIENTS);
    }
    table.row("step 0", "variables without a gradient", untrained as f64, 0.0);
    Ok(())
}

/// How far every variable has come.
fn compare_adapter(
    learner: &OnePrompt,
    folder: &Path,
    steps: usize,
    table: &mut Table,
) -> Result<(), TrainError> {
    let failed = |error| TrainError::tensor("compare adapters", 0)(error);
    let load = |name: &str| Adapter::load(folder.join(name), &learner.model);
    let (before, after) = (load("adapter_init")?, load(&format!("adapter_after_{steps}_steps"))?);
    let (mut difference, mut change, mut far, mut count) = (0.0, 0.0, 0, 0);
    let all = learner.vars().into_iter().zip(before.vars()).zip(after.vars());
    for (((_, ours), (_, before)), (_, after)) in all {
        let off = (ours.as_tensor() - after.as_tensor()).map_err(failed)?;
        let moved = (after.as_tensor() - before.as_tensor()).map_err(failed)?;
        difference += norm(&off).map_err(failed)?.powi(2);
        change += norm(&moved).map_err(failed)?.powi(2);
        let off: Vec<f32> = off.flatten_all().and_then(|off| off.to_vec1()).map_err(failed)?;
        far += off.iter().filter(|off| off.is_nan() || f64::from(off.abs()) > SCORES).count();
        count += off.len();
    }
    let relative = (difference / change.max(f64::MIN_POSITIVE)).sqrt();
    table.row("adapter", "change over all steps", relative, GRADIENTS);
    table.row("adapter", "share of elements off", far as f64 / count.max(1) as f64, FAR);
    Ok(())
}

fn norm(tensor: &Tensor) -> candle_core::Result<f64> {
    Ok(f64::from(tensor.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt())
}

/// The norm of the difference over the norm of what it should be.
fn relative(ours: &Tensor, theirs: &Tensor) -> candle_core::Result<f64> {
    if ours.dims() != theirs.dims() {
        return Ok(f64::INFINITY);
    }
    Ok(norm(&(ours.to_device(theirs.device())? - theirs)?)? / norm(theirs)?.max(1e-12))
}
