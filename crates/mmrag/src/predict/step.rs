//! The steps of a training: what one of them asks of the model.

use mmrag_core::Prompt;
use mmrag_model::Shared;
use mmrag_train::GrpoSettings;

use super::outlook::Looks;
use super::plan::{Plan, Seer};
use super::probe::Told;
use super::prompts::Sample;
use super::trial::{Prompts, Replies, Work};

/// The share of groups whose replies are all worth the same, for which dynamic sampling draws
/// others. Nobody knows how many they will be: of the built-in model's on the atlas half are.
pub(super) const ASSUMED_FLAT: f64 = 0.5;

/// What a step learns from.
pub(super) struct Learning {
    /// To each prompt.
    pub(super) replies: Replies,
    /// Prompts of a step.
    pub(super) prompts: usize,
    pub(super) tokens_per_pass: usize,
    /// Steps whose prompts are ready at a time.
    pub(super) ready: usize,
}

/// All steps of a training.
pub(super) struct Steps<'a> {
    /// How many there are.
    pub(super) count: usize,
    /// Prompts of them.
    pub(super) sample: &'a Sample,
    pub(super) learning: Learning,
    /// Pictures of all steps, and those of them that are not in memory from earlier on.
    pub(super) pictures: (usize, usize),
    /// The tasks.
    pub(super) look: usize,
    learn: usize,
    step: usize,
    draw: Option<Drawing>,
    /// Scores that every update takes before it learns, one after the other.
    scores: Vec<usize>,
    /// Scores by which a step's negatives are mined, and of how many prompts.
    mined: Option<(usize, f64)>,
    /// Updates of a step.
    iterations: usize,
}

/// The drawing of replies.
struct Drawing {
    task: usize,
    /// Groups that are drawn, and that are learned from, for each that is wanted.
    shares: (f64, f64),
}

impl<'a> Steps<'a> {
    /// Steps that learn from given replies, or from verdicts whose gradient is exact.
    pub(super) fn learning(
        plan: &mut Plan,
        count: usize,
        pictures: (usize, usize),
        sample: &'a Sample,
        learning: Learning,
    ) -> Self {
        let batch = || Prompts::Given(vec![sample.typical(learning.prompts)]);
        let Learning { replies, tokens_per_pass, .. } = learning;
        let look = plan.add(Work::Look, batch());
        let learn = plan.add(Work::Learn { replies, tokens_per_pass }, batch());
        let step = plan.add(Work::Step, batch());
        let (draw, scores) = (None, Vec::new());
        let (mined, iterations) = (None, 1);
        Self {
            count,
            sample,
            learning,
            pictures,
            look,
            learn,
            step,
            draw,
            scores,
            mined,
            iterations,
        }
    }

    /// The same with replies that the policy draws, the longest of which have so many tokens, with
    /// room for `most`.
    #[must_use]
    pub(super) fn drawing(
        mut self,
        plan: &mut Plan,
        settings: &GrpoSettings,
        (longest, most): (usize, usize),
    ) -> Self {
        let batch = Prompts::Given(vec![self.sample.typical(self.learning.prompts)]);
        let task = plan.add(Work::Draw { replies: self.learning.replies, longest, most }, batch);
        let again = if settings.rollout.dynamic_sampling { settings.rollout.retries } else { 0 };
        let drawn = (0..=again as i32).map(|attempt| ASSUMED_FLAT.powi(attempt)).sum();
        let flat = settings.rollout.dynamic_sampling.then(|| ASSUMED_FLAT.powi(again as i32 + 1));
        self.draw = Some(Drawing { task, shares: (drawn, 1.0 - flat.unwrap_or(0.0)) });
        self
    }

    /// The same with what an update of these settings asks besides: scores of the policy before
    /// several iterations, and of the reference policy.
    #[must_use]
    pub(super) fn updating(mut self, plan: &mut Plan, settings: &GrpoSettings) -> Self {
        if self.draws() {
            self.iterations = settings.iterations;
        }
        let passes = usize::from(self.iterations > 1) + usize::from(settings.loss.beta != 0.0);
        if passes > 0 {
            let Learning { replies, prompts, tokens_per_pass, .. } = self.learning;
            let work = Work::Score { replies, tokens_per_pass: Some(tokens_per_pass) };
            let task = plan.add(work, Prompts::Given(vec![self.sample.typical(prompts)]));
            self.scores = vec![task; passes];
        }
        self
    }

    /// The same with negatives that are mined: of each step's examples the policy judges some
    /// documents, of which there are so many in a step. `judged` are the documents of an example.
    #[must_use]
    pub(super) fn mining(
        mut self,
        plan: &mut Plan,
        replies: Replies,
        judged: Vec<Prompt>,
        a_step: f64,
    ) -> Self {
        let tokens_per_pass = Some(self.learning.tokens_per_pass);
        let work = Work::Score { replies, tokens_per_pass };
        self.mined = Some((plan.add(work, Prompts::Given(vec![judged])), a_step));
        self
    }

    /// Whether the policy draws replies.
    pub(super) fn draws(&self) -> bool {
        self.draw.is_some()
    }

    /// Seconds of sampling and of the update; pictures are seen where they are needed first.
    pub(super) fn seconds(&self, told: &[Told], looks: &Looks) -> (f64, f64) {
        let prompts = self.learning.prompts as f64;
        let seen = looks.a_picture * looks.in_steps.of(self.pictures) as f64;
        let mined = self.mined.map_or(0.0, |(task, a_step)| told[task].seconds * a_step);
        let before = seen / self.count.max(1) as f64 + mined;
        let scores: f64 = self.scores.iter().map(|&task| told[task].seconds).sum();
        let learns = self.iterations as f64 * told[self.learn].seconds;
        let update = prompts * (scores + learns) + self.iterations as f64 * told[self.step].seconds;
        match &self.draw {
            None => (0.0, update + before),
            Some(Drawing { task, shares: (drawn, kept) }) => {
                (drawn * prompts * told[*task].seconds + before, kept * update)
            }
        }
    }

    /// Patches of prompts that are ready at a time.
    pub(super) fn patches_ready(&self) -> usize {
        self.learning.ready * self.learning.prompts * self.sample.patches()
    }

    /// Floating-point operations of the updates of a step.
    pub(super) fn flops(&self, seer: &Seer) -> f64 {
        let Learning { replies, prompts, .. } = self.learning;
        let shared =
            Shared { prompt: self.sample.tokens(), replies: replies.count, new: replies.tokens };
        let update = seer.model.update_flops(shared, self.sample.patches());
        (self.iterations * prompts) as f64 * update
    }
}
