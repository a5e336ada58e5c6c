//! A question of the atlas and the two ways to its answer.

use mmrag_core::Example;
use mmrag_data::atlas::{self, AtlasOptions, Kind, NameSplit};
use mmrag_task::{Case, Reply, Stage};

/// How reasoning by a search begins: one choice at the start decides between the two ways.
const SURVEY: &str = "Look at each. ";

/// A question of the atlas with the place it came from.
#[derive(Clone)]
pub(super) struct Exercise {
    world: u64,
    index: u64,
    options: AtlasOptions,
    /// The question, with the short way to its answer.
    pub(super) example: Example,
}

impl Exercise {
    /// The question at `index` of a world of `sft` names.
    pub(super) fn new(world: u64, index: u64, options: AtlasOptions) -> Self {
        let example = atlas::example(world, NameSplit::Sft, index, &options);
        Self { world, index, options, example }
    }

    /// The kind of question.
    pub(super) fn kind(&self) -> Option<Kind> {
        Kind::try_from(self.example.kind.clone()).ok()
    }

    /// The question of its kind that is so many further on in the same world.
    pub(super) fn further(&self, steps: u64) -> Option<Self> {
        let options = AtlasOptions { kinds: Some(vec![self.kind()?]), ..AtlasOptions::default() };
        Some(Self::new(self.world, self.index.wrapping_add(steps), options))
    }

    /// Takes the answer away, so that the reply is that there is none.
    pub(super) fn withdraw(&mut self) {
        self.example.steps.clear();
        self.example.gold.documents.clear();
        self.example.gold.answers.clear();
    }

    /// The right reply, by the short way or by a search where there is something to search.
    pub(super) fn reply(&self, stage: &Stage, case: &Case, surveys: bool) -> String {
        let mut example = self.example.clone();
        in_reading_order(&mut example, case);
        let shown: Vec<_> = case.documents.iter().map(|document| document.id.clone()).collect();
        let search =
            || atlas::survey(self.world, NameSplit::Sft, self.index, &self.options, &shown);
        let searches = surveys && stage.grammar.think && !example.gold.documents.is_empty();
        let Some(steps) = searches.then(search).flatten() else {
            return stage.render(&stage.demonstration(case, &example));
        };
        let mut reply = stage.demonstration(case, &Example { steps, ..example });
        if let Reply::Rank { think: Some(think), .. } = &mut reply {
            think.insert_str(0, SURVEY);
        }
        stage.render(&reply)
    }
}

/// Where each document has an answer of its own, they are told in the order they are read in.
fn in_reading_order(example: &mut Example, case: &Case) {
    let gold = &mut example.gold;
    if gold.documents.len() != gold.answers.len() || gold.documents.len() != example.steps.len() {
        return;
    }
    let mut order: Vec<usize> = (0..gold.documents.len()).collect();
    order.sort_by_key(|&at| case.label_of(&gold.documents[at]));
    gold.documents = order.iter().map(|&at| gold.documents[at].clone()).collect();
    gold.answers = order.iter().map(|&at| gold.answers[at].clone()).collect();
    example.steps = order.iter().map(|&at| example.steps[at].clone()).collect();
}

#[cfg(test)]
mod tests {
    use mmrag_data::atlas::{AtlasOptions, Kind};
    use mmrag_task::{Case, PromptStyle, Reply, Stage};

    use super::Exercise;

    fn towers(index: u64) -> Exercise {
        let options =
            AtlasOptions { kinds: Some(vec![Kind::ImageListQ]), ..AtlasOptions::default() };
        Exercise::new(7, index, options)
    }

    fn replies(exercise: &Exercise, stage: &Stage) -> [(String, Reply); 2] {
        let case = Case::listwise(
            &exercise.example.question,
            &exercise.example.candidates,
            exercise.index,
        );
        [false, true].map(|surveys| {
            let text = exercise.reply(stage, &case, surveys);
            let reply = stage.parse(&case, &text).unwrap();
            (text, reply)
        })
    }

    #[test]
    fn both_ways_lead_to_one_answer() {
        let stage = Stage::rank(PromptStyle::Compact, true);
        for index in 0..10 {
            let [(short, short_reply), (long, long_reply)] = replies(&towers(index), &stage);
            let ending = |text: &str| text.split_once("</think>").unwrap().1.to_owned();
            assert_eq!(ending(&short), ending(&long));
            assert!(long.contains("Look at each.") && !short.contains("Look at each."));
            assert_ne!(short_reply, long_reply);
            let Reply::Rank { citations, .. } = long_reply else { panic!("{long}") };
            assert!(citations.is_sorted(), "{long}");
        }
    }

    #[test]
    fn without_reasoning_there_is_nothing_to_search_in() {
        let [(short, _), (long, _)] =
            replies(&towers(0), &Stage::rank(PromptStyle::Compact, false));
        assert_eq!(short, long);
    }
}
