//! Replies of which all is given but a word or two: what stands there once in fifty is learned alone.

use mmrag_core::Prompt;
use mmrag_data::atlas::{AtlasOptions, Kind};
use mmrag_task::Case;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::demonstrations::demonstration;
use super::distractors::gold_and_distractors;
use super::exercise::Exercise;
use super::{Composed, LessonPlan, Phase, example};

/// The kinds of question whose answer stands in no document, but follows from what they say.
const CONCLUDING_KINDS: [Kind; 3] = [Kind::CompareText, Kind::CompareImage, Kind::ImageYesNo];

impl LessonPlan {
    /// The answer alone is to be told, from a reasoning that is given: of a whole reply it is one
    /// word in fifty, too few to learn when yes follows and when no.
    pub(super) fn conclude(&self, world: u64, draws: &mut ChaCha8Rng) -> Composed {
        let example = example(world, Some(CONCLUDING_KINDS.to_vec()));
        let gold = gold_and_distractors(&example, 0, false, draws);
        let mut whole = demonstration(&self.reasoned, &example, &gold, draws.random());
        let answer = whole.reply.find("<answer>").expect("every reply has an answer");
        let rest = whole.reply.split_off(answer + "<answer>".len());
        whole.prompt.reply_prefix = std::mem::replace(&mut whole.reply, rest);
        whole
    }

    /// Whether one thing of a search is what is asked for, as [`conclude`](Self::conclude) asks for
    /// an answer. The prompt is one of its own: a search does not end with a verdict.
    pub(super) fn judge(&self, world: u64, phase: &Phase, draws: &mut ChaCha8Rng) -> Composed {
        let kinds = Some(phase.judged.clone());
        let options = AtlasOptions { kinds, ..AtlasOptions::default() };
        let exercise = Exercise::new(world, world >> 32, options);
        let [least, most] = phase.documents;
        let count = draws.random_range(least..=most.max(least));
        let shown = gold_and_distractors(&exercise.example, count, true, draws);
        let case = Case::listwise(&exercise.example.question, &shown, draws.random());
        let reply = exercise.reply(&self.reasoned, &case, true);
        let wanted = if draws.random_bool(0.5) { ", yes." } else { ", no." };
        let ends = |verdict: &str| -> Vec<usize> {
            reply.match_indices(verdict).map(|(at, _)| at + 1).collect()
        };
        let mut ends = [ends(wanted), ends(", yes."), ends(", no.")].into_iter();
        let ends = ends.find(|ends| !ends.is_empty()).expect("a search judges what it looks at");
        let (given, rest) = reply.split_at(ends[draws.random_range(0..ends.len())]);
        let verdict = rest.split_inclusive('.').next().unwrap_or(rest).to_owned();
        let prompt = Prompt { reply_prefix: given.to_owned(), ..self.judge.render(&case) };
        Composed { prompt, reply: verdict }
    }
}
