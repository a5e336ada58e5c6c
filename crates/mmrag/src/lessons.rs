//! Lessons for the built-in small model, composed from the atlas as they are asked for.
//!
//! Lesson `i` is a pure function of (seed, i), so that a run can resume anywhere. Everything is
//! drawn from names of the `sft` split: no entity of these lessons is ever trained on by
//! reinforcement or asked about in an evaluation.

mod demonstrations;
mod distractors;
mod exercise;
mod given;
mod recital;
mod undecided;

use std::sync::Arc;

use mmrag_core::{Content, Document, Example, Message, Part, Prompt, Question, QuestionId, Role};
use mmrag_data::atlas::{self, AtlasOptions, Kind, NameSplit};
use mmrag_task::{Case, FilterMode, PromptStyle, Stage, Template};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};

pub(crate) use demonstrations::Demonstrations;
use demonstrations::{demonstration, verdict};
use distractors::gold_and_distractors;
use exercise::Exercise;
use undecided::Undecided;

/// The kinds of question that are learned last, if a phase names no others.
const SLOW_KINDS: [Kind; 9] = [
    Kind::TableQ,
    Kind::ImageShape,
    Kind::ImageListQ,
    Kind::ComposeImageTable,
    Kind::ComposeTableImage,
    Kind::CompareText,
    Kind::CompareImage,
    Kind::IntersectImageTable,
    Kind::Unanswerable,
];

/// The kinds of question that describe a picture instead of naming it, so that the picture and its
/// title tell whether it is meant. (Of `Intersect` a table has to tell too.)
const SEEKING_KINDS: [Kind; 3] =
    [Kind::ImageListQ, Kind::ComposeTextImage, Kind::ComposeTableImage];

/// The kinds of question that are answered by a search: those, and `Intersect`.
const SEARCHED_KINDS: [Kind; 4] =
    [Kind::ImageListQ, Kind::ComposeTextImage, Kind::ComposeTableImage, Kind::IntersectImageTable];

/// A stretch of the training with one mixture of lessons.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Phase {
    /// How many lessons the phase has.
    pub(crate) lessons: usize,
    /// Weight of telling what a picture shows.
    pub(crate) describe: f64,
    /// Weight of saying again what documents say, or what their pictures show.
    pub(crate) recite: f64,
    /// Weight of answering from a single document.
    pub(crate) read: f64,
    /// Weight of answering several questions over one list.
    pub(crate) quiz: f64,
    /// Weight of saying whether a document helps.
    pub(crate) filter: f64,
    /// Weight of ranking several documents and answering.
    pub(crate) rank: f64,
    /// Weight of saying whether a picture is the one, or one of those, that a question describes
    /// instead of naming.
    #[serde(default)]
    pub(crate) seek: f64,
    /// Weight of answering when the reasoning is given.
    #[serde(default)]
    pub(crate) conclude: f64,
    /// Weight of saying whether one thing is what is asked for, when a search is given up to there.
    #[serde(default)]
    pub(crate) judge: f64,
    /// The kinds of question that such searches are for.
    #[serde(default = "searched_kinds", deserialize_with = "only_searched")]
    pub(crate) judged: Vec<Kind>,
    /// The fewest and the most documents of a recite, quiz or rank lesson.
    pub(crate) documents: [usize; 2],
    /// Share of the read and rank lessons that reason before they rank.
    pub(crate) reasoning: f64,
    /// The kinds of question that are learned last: half of a quiz is of them. One that stands in
    /// it twice comes twice as often; if there are none, all kinds are drawn from.
    #[serde(default = "slow_kinds")]
    pub(crate) slow: Vec<Kind>,
    /// Share of the rank lessons that are of the slow kinds alone.
    #[serde(default)]
    pub(crate) slow_ranks: f64,
    /// Share of the filter lessons that are of the slow kinds alone.
    #[serde(default)]
    pub(crate) slow_filters: f64,
    /// Share of the filter lessons that are on texts alone.
    #[serde(default)]
    pub(crate) filter_texts: f64,
    /// Share of the filter and rank lessons whose distractors are those that are most like a gold
    /// document, as a filter leaves them: what differs is the name.
    #[serde(default)]
    pub(crate) alike: f64,
    /// Of the reasoned lessons on a picture that the question describes instead of naming, the share
    /// that looks at each it may be and judges it; the others go to the right one straight away.
    #[serde(default)]
    pub(crate) survey: f64,
    /// Share of the rank lessons whose reply takes up the question that is asked or another one of
    /// its kind over the same documents, each as likely.
    #[serde(default)]
    pub(crate) undecided: f64,
    /// Of these, the share whose reply says that no document holds the answer.
    #[serde(default)]
    pub(crate) abstaining: f64,
}

impl Phase {
    fn slow(&self) -> Option<Vec<Kind>> {
        (!self.slow.is_empty()).then(|| self.slow.clone())
    }

    /// Whether replies to a kind of question search, so that the question says what is judged.
    fn searches(&self, kind: Kind) -> bool {
        self.survey > 0.0 && SEARCHED_KINDS.contains(&kind)
    }
}

fn searched_kinds() -> Vec<Kind> {
    SEARCHED_KINDS.to_vec()
}

/// Kinds of question, each of which is answered by a search.
fn only_searched<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<Kind>, D::Error> {
    let kinds = Vec::<Kind>::deserialize(source)?;
    if kinds.is_empty() || !kinds.iter().all(|kind| SEARCHED_KINDS.contains(kind)) {
        let known = SEARCHED_KINDS.map(Kind::as_str).join("`, `");
        return Err(D::Error::custom(format!("`judged` takes one or more of `{known}`")));
    }
    Ok(kinds)
}

fn slow_kinds() -> Vec<Kind> {
    SLOW_KINDS.to_vec()
}

/// All lessons of a run, in order.
pub(crate) struct LessonPlan {
    seed: u64,
    phases: Vec<Phase>,
    recital: Template,
    quiz: Template,
    judge: Template,
    filter: Stage,
    reasoned: Stage,
    direct: Stage,
}

/// What a prompt should be answered with.
pub(crate) struct Composed {
    /// What is asked.
    pub(crate) prompt: Prompt,
    /// What is right.
    pub(crate) reply: String,
}

impl LessonPlan {
    /// The lessons of `phases`, drawn from `seed`.
    pub(crate) fn new(seed: u64, phases: Vec<Phase>) -> Self {
        Self {
            seed,
            phases,
            recital: Template::new(PromptStyle::Compact, "Recite {question}.\n{documents}", 120)
                .expect("both places stand in it once, in order"),
            quiz: Template::new(PromptStyle::Compact, "Solve each. {question}\n{documents}", 120)
                .expect("both places stand in it once, in order"),
            judge: Template::new(PromptStyle::Compact, "Judge. {question}\n{documents}", 120)
                .expect("both places stand in it once, in order"),
            filter: Stage::filter(PromptStyle::Compact, FilterMode::Direct),
            reasoned: Stage::rank(PromptStyle::Compact, true),
            direct: Stage::rank(PromptStyle::Compact, false),
        }
    }

    /// How many lessons there are.
    pub(crate) fn len(&self) -> usize {
        self.phases.iter().map(|phase| phase.lessons).sum()
    }

    /// Lesson `index`, or nothing past the end.
    pub(crate) fn lesson(&self, index: usize) -> Option<Composed> {
        let phase = self.phase_of(index)?;
        let mut draws = stream(self.seed, index);
        // Every lesson is of a world of its own: nothing but the documents can tell its facts.
        let world = draws.random();
        let Phase { describe, recite, read, quiz, filter, rank, seek, conclude, judge, .. } =
            *phase;
        let weights = [describe, recite, read, quiz, filter, rank, seek, conclude, judge];
        Some(match weighted(&mut draws, weights) {
            0 => describe_picture(world),
            1 => self.recite(world, phase, &mut draws),
            2 => self.read(world, index, phase, &mut draws),
            3 => self.quiz(world, phase, &mut draws),
            4 => self.filter(world, phase, &mut draws),
            5 => self.rank(world, phase, &mut draws),
            6 => self.seek(world, &mut draws),
            8 => self.judge(world, phase, &mut draws),
            _ => self.conclude(world, &mut draws),
        })
    }

    fn phase_of(&self, index: usize) -> Option<&Phase> {
        let mut end = 0;
        self.phases.iter().find(|phase| {
            end += phase.lessons;
            index < end
        })
    }

    fn read(&self, world: u64, index: usize, phase: &Phase, draws: &mut ChaCha8Rng) -> Composed {
        let example = atlas::reading(world, NameSplit::Sft, index as u64);
        let stage = self.rank_stage(phase, draws);
        demonstration(stage, &example, &example.candidates, draws.random())
    }

    /// Several questions at once over the documents of all, each reasoned on and answered in turn:
    /// the same list teaches finding several times.
    fn quiz(&self, world: u64, phase: &Phase, draws: &mut ChaCha8Rng) -> Composed {
        let [least, most] = phase.documents;
        let count = draws.random_range(least..=most.max(least));
        let (mut asked, mut documents) = (Vec::new(), Vec::new());
        while documents.len() < count {
            let kinds = draws.random_bool(0.5).then(|| phase.slow()).flatten();
            let options = AtlasOptions { candidates: 1..=4, kinds };
            let exercise = Exercise::new(world, (world >> 32) + asked.len() as u64, options);
            for candidate in &exercise.example.candidates {
                if !documents.contains(candidate) {
                    documents.push(candidate.clone());
                }
            }
            asked.push(exercise);
        }
        let text = |exercise: &Exercise| exercise.example.question.text.clone();
        let texts: Vec<String> = asked.iter().map(text).collect();
        let question =
            Question { id: QuestionId::new("quiz"), text: texts.join(" "), images: Vec::new() };
        let case = Case::listwise(&question, &documents, draws.random());
        let replies: Vec<String> = asked
            .iter()
            .map(|exercise| self.solved(&case, exercise, happens(phase.survey, draws)))
            .collect();
        Composed { prompt: self.quiz.render(&case), reply: replies.join("\n") }
    }

    /// The reasoning and answer to one question of a quiz, without an order.
    fn solved(&self, case: &Case, exercise: &Exercise, surveys: bool) -> String {
        let reply = exercise.reply(&self.reasoned, case, surveys);
        let parts = reply.split_once("<rank>");
        let parts = parts.and_then(|(head, rest)| Some((head, rest.split_once("</rank>")?.1)));
        parts.map_or_else(String::new, |(head, tail)| format!("{head}{tail}"))
    }

    /// Gold and distractor come equally often, so that neither verdict is the safe one.
    fn filter(&self, world: u64, phase: &Phase, draws: &mut ChaCha8Rng) -> Composed {
        let wants_gold = draws.random_bool(0.5);
        let kinds = happens(phase.slow_filters, draws).then(|| phase.slow()).flatten();
        let mut example = example(world, kinds);
        let is_text = |document: &Arc<Document>| matches!(document.content, Content::Text(_));
        if happens(phase.filter_texts, draws) && example.candidates.iter().any(is_text) {
            example.candidates.retain(is_text);
        }
        verdict(&self.filter, &example, wants_gold, phase.alike, draws)
    }

    /// A picture that is described, or one of its like: another thing of the same town or list, where
    /// what is seen decides, or a tower of another town, where its title does.
    fn seek(&self, world: u64, draws: &mut ChaCha8Rng) -> Composed {
        let wants_gold = draws.random_bool(0.5);
        let mut example = example(world, Some(SEEKING_KINDS.to_vec()));
        example.candidates.retain(|document| matches!(document.content, Content::Image(_)));
        verdict(&self.filter, &example, wants_gold, 1.0, draws)
    }

    fn rank(&self, world: u64, phase: &Phase, draws: &mut ChaCha8Rng) -> Composed {
        let kinds = happens(phase.slow_ranks, draws).then(|| phase.slow()).flatten();
        let options = AtlasOptions { kinds, ..AtlasOptions::default() };
        let exercise = Exercise::new(world, world >> 32, options);
        let [least, most] = phase.documents;
        let count = draws.random_range(least..=most.max(least));
        let alike = happens(phase.alike, draws);
        let (asked, told, shown) = if happens(phase.undecided, draws) {
            let open = Undecided::new(exercise, (count, alike), phase, draws);
            (open.asked, open.told, open.documents)
        } else {
            let shown = gold_and_distractors(&exercise.example, count, alike, draws);
            (exercise.clone(), exercise, shown)
        };
        let stage = self.rank_stage(phase, draws);
        let case = Case::listwise(&asked.example.question, &shown, draws.random());
        let reply = told.reply(stage, &case, happens(phase.survey, draws));
        Composed { prompt: stage.prompt(&case), reply }
    }

    fn rank_stage(&self, phase: &Phase, draws: &mut ChaCha8Rng) -> &Stage {
        let reasons = draws.random_bool(phase.reasoning.clamp(0.0, 1.0));
        if reasons { &self.reasoned } else { &self.direct }
    }
}

fn describe_picture(world: u64) -> Composed {
    let (picture, reply) = atlas::description(world, NameSplit::Sft, world >> 32);
    let mut parts = vec![Part::Text("Describe.\n".to_owned())];
    if let Content::Image(source) = &picture.content {
        parts.push(Part::Image(source.clone()));
    }
    let messages = vec![Message { role: Role::User, parts }];
    Composed { prompt: Prompt { messages, reply_prefix: String::new(), reasons: false }, reply }
}

/// True with this probability. What never happens draws nothing, so that a share that is added to
/// a phase leaves the lessons of other phases as they were.
fn happens(probability: f64, draws: &mut ChaCha8Rng) -> bool {
    probability > 0.0 && draws.random_bool(probability.min(1.0))
}

fn example(world: u64, kinds: Option<Vec<Kind>>) -> Example {
    let options = AtlasOptions { kinds, ..AtlasOptions::default() };
    atlas::example(world, NameSplit::Sft, world >> 32, &options)
}

/// The texts of `count` lessons of every kind, to train a tokenizer on.
pub(crate) fn texts(count: usize) -> impl Iterator<Item = String> + Send {
    let even = Phase {
        lessons: count,
        describe: 0.1,
        recite: 0.1,
        read: 0.1,
        quiz: 0.1,
        filter: 0.2,
        rank: 0.4,
        documents: [2, 12],
        reasoning: 0.7,
        slow: slow_kinds(),
        survey: 0.5,
        ..Phase::default()
    };
    let plan = LessonPlan::new(0, vec![even]);
    (0..count).filter_map(move |index| plan.lesson(index)).flat_map(|lesson| {
        let parts = lesson.prompt.messages.into_iter().flat_map(|message| message.parts);
        let texts = parts.filter_map(|part| match part {
            Part::Text(text) => Some(text),
            Part::Image(_) => None,
        });
        texts.chain([lesson.reply]).collect::<Vec<_>>()
    })
}

fn stream(seed: u64, index: usize) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(b"lesson\0");
    hash.update(seed.to_le_bytes());
    hash.update((index as u64).to_le_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

fn weighted<const N: usize>(draws: &mut ChaCha8Rng, weights: [f64; N]) -> usize {
    let mut left = draws.random::<f64>() * weights.iter().sum::<f64>();
    for (index, weight) in weights.iter().enumerate() {
        if left < *weight {
            return index;
        }
        left -= weight;
    }
    weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(N - 1)
}

#[cfg(test)]
mod tests {
    use mmrag_data::atlas::Kind;

    use super::{LessonPlan, Part, Phase};

    fn plan() -> LessonPlan {
        let phase = |lessons, describe, rank| Phase {
            lessons,
            describe,
            recite: 0.2 * describe,
            read: 0.3,
            quiz: 0.2,
            filter: 0.3,
            rank,
            documents: [2, 4],
            reasoning: 0.5,
            slow: vec![Kind::TableQ],
            slow_ranks: 1.0,
            slow_filters: 0.5,
            filter_texts: 0.5,
            alike: 0.5,
            survey: 0.5,
            undecided: 0.5,
            abstaining: 0.3,
            ..Phase::default()
        };
        LessonPlan::new(3, vec![phase(20, 1.0, 0.0), phase(40, 0.0, 1.0)])
    }

    /// The plan with none of its lessons but those that are asked for.
    fn plan_of(ask: impl Fn(&mut Phase)) -> LessonPlan {
        let mut plan = plan();
        for phase in &mut plan.phases {
            *phase = Phase {
                lessons: phase.lessons,
                documents: phase.documents,
                reasoning: phase.reasoning,
                alike: phase.alike,
                ..Phase::default()
            };
            ask(phase);
        }
        plan
    }

    #[test]
    fn a_lesson_depends_on_seed_and_index_alone() {
        let (plan, again) = (plan(), plan());
        assert_eq!(plan.len(), 60);
        assert!(plan.lesson(60).is_none());
        for index in [59, 3, 25, 0] {
            let (a, b) = (plan.lesson(index).unwrap(), again.lesson(index).unwrap());
            assert_eq!((a.prompt, a.reply), (b.prompt, b.reply));
        }
    }

    #[test]
    fn what_is_recited_by_its_title_bears_it_alone() {
        let plan = plan_of(|phase| (phase.recite, phase.documents) = (1.0, [2, 6]));
        let mut n_titles = 0;
        for index in 0..60 {
            let lesson = plan.lesson(index).unwrap();
            let text: String = lesson.prompt.messages[0].parts.iter().map(said).collect();
            let asked = text.split_once(".\n").unwrap().0.strip_prefix("Recite ").unwrap();
            if asked == "all" {
                assert!(lesson.reply.ends_with(']'), "{}", lesson.reply);
                continue;
            }
            n_titles += 1;
            // A row of a table may begin with the name too, but no label ends it.
            let bears = |line: &&str| {
                let rest = line.strip_prefix(&format!(" {asked}")).unwrap_or_default();
                rest.starts_with('[') || rest.starts_with(": ") && rest.ends_with(']')
            };
            assert_eq!(text.lines().filter(bears).count(), 1, "{text}");
        }
        assert!((10..50).contains(&n_titles), "{n_titles}");
    }

    fn said(part: &Part) -> &str {
        match part {
            Part::Text(text) => text,
            Part::Image(_) => "",
        }
    }

    #[test]
    fn filter_lessons_can_be_of_slow_kinds_alone() {
        let plan = plan_of(|phase| {
            (phase.filter, phase.filter_texts) = (1.0, 0.0);
            (phase.slow, phase.slow_filters) = (vec![Kind::ImageListQ], 1.0);
        });
        let lessons: Vec<_> = (0..60).map(|index| plan.lesson(index).unwrap()).collect();
        for lesson in &lessons {
            let text: String = lesson.prompt.messages[0].parts.iter().map(said).collect();
            assert!(text.contains("turrets"), "{text}");
        }
        let n_helping = lessons.iter().filter(|lesson| lesson.reply.contains("Yes")).count();
        assert!((15..45).contains(&n_helping), "{n_helping}");
    }

    #[test]
    fn one_thing_of_a_search_is_judged() {
        let plan = plan_of(|phase| {
            (phase.judge, phase.documents) = (1.0, [3, 8]);
            phase.judged = super::searched_kinds();
        });
        let mut n_yes = 0;
        for index in 0..60 {
            let lesson = plan.lesson(index).unwrap();
            let given = &lesson.prompt.reply_prefix;
            assert!(given.starts_with("<think> Look at each. ") && given.ends_with(','), "{given}");
            assert!([" yes.", " no."].contains(&lesson.reply.as_str()), "{}", lesson.reply);
            n_yes += usize::from(lesson.reply == " yes.");
        }
        assert!((20..50).contains(&n_yes), "{n_yes} of 60");
    }

    #[test]
    fn a_picture_is_sought_by_what_it_shows_and_not_by_its_title() {
        let plan = plan_of(|phase| phase.seek = 1.0);
        let lessons: Vec<_> = (0..60).map(|index| plan.lesson(index).unwrap()).collect();
        for lesson in &lessons {
            let parts = &lesson.prompt.messages[0].parts;
            let is_picture = |part: &&Part| matches!(part, Part::Image(_));
            assert_eq!(parts.iter().filter(is_picture).count(), 1);
            let text: String = parts.iter().map(said).collect();
            let (asked, shown) = text.split_once("\n ").unwrap();
            let name = shown.split(['[', ' ']).next().unwrap();
            assert!(!name.is_empty() && !asked.contains(name), "{text}");
        }
        let n_helping = lessons.iter().filter(|lesson| lesson.reply.contains("Yes")).count();
        assert!((15..45).contains(&n_helping), "{n_helping}");
    }

    #[test]
    fn a_conclusion_is_the_answer_to_a_reasoning_that_is_given() {
        let plan = plan_of(|phase| phase.conclude = 1.0);
        let mut n_yes = 0;
        for index in 0..60 {
            let lesson = plan.lesson(index).unwrap();
            let given = &lesson.prompt.reply_prefix;
            assert!(given.starts_with("<think>") && given.ends_with("<answer>"), "{given}");
            let (answer, _) = lesson.reply.split_once(" [").unwrap();
            assert!([" yes", " no"].contains(&answer), "{}", lesson.reply);
            assert!(lesson.reply.ends_with("</answer>"), "{}", lesson.reply);
            n_yes += usize::from(answer == " yes");
        }
        assert!((15..45).contains(&n_yes), "{n_yes}");
    }

    #[test]
    fn without_slow_kinds_all_are_drawn_from() {
        let mut plan = plan();
        plan.phases.iter_mut().for_each(|phase| phase.slow.clear());
        assert!((0..60).all(|index| plan.lesson(index).is_some()));
    }

    #[test]
    fn the_run_files_of_the_built_in_model_name_known_kinds() {
        let text = include_str!("../runs/base.toml");
        let others = [
            include_str!("../runs/lists.toml"),
            include_str!("../runs/seek.toml"),
            include_str!("../runs/conclude.toml"),
            include_str!("../runs/whole.toml"),
            include_str!("../runs/undecided.toml"),
            include_str!("../runs/search.toml"),
            include_str!("../runs/abstain.toml"),
            include_str!("../runs/pictures.toml"),
            include_str!("../runs/singles.toml"),
            include_str!("../runs/none.toml"),
            include_str!("../runs/seldom.toml"),
            include_str!("../runs/small.toml"),
        ];
        for text in [text].into_iter().chain(others) {
            let run: toml::Table = toml::from_str(text).unwrap();
            let phases: Vec<Phase> = run["phases"].clone().try_into().unwrap();
            assert!(phases.iter().all(|phase| phase.lessons > 0 && !phase.slow.is_empty()));
        }
        let unknown = text.replacen("\"TableQ\"", "\"TableX\"", 1);
        let run: toml::Table = toml::from_str(&unknown).unwrap();
        let error = run["phases"].clone().try_into::<Vec<Phase>>().unwrap_err().to_string();
        assert!(error.contains("TableX") && error.contains("Compose(TextQ,TextQ)"), "{error}");
        for judged in ["[]", "[\"TextQ\"]"] {
            let error = toml::from_str::<Phase>(&format!("lessons = 1\njudged = {judged}"));
            let error = error.unwrap_err().to_string();
            assert!(
                error.contains("one or more of `ImageListQ`, `Compose(TextQ,ImageQ)`"),
                "{error}"
            );
        }
    }

    #[test]
    fn every_phase_mixes_the_lessons_it_names() {
        let plan = plan();
        let replies: Vec<String> = (0..60).map(|i| plan.lesson(i).unwrap().reply).collect();
        let described = |replies: &[String]| replies.iter().any(|reply| !reply.contains('<'));
        assert!(described(&replies[..20]));
        assert!(!described(&replies[20..]));
        for wanted in ["<answer>Yes</answer>", "<answer>No</answer>", "<think>", "<rank>"] {
            assert!(replies.iter().any(|reply| reply.contains(wanted)), "{wanted}");
        }
    }
}
