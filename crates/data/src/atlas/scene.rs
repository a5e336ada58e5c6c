//! From a draft of a question to an example: the candidates are filled up with distractors.

use std::sync::Arc;

use mmrag_core::{Document, Example, Gold, Question, QuestionId, Step};

use super::documents::Key;
use super::draw::{Draw, digest, hex};
use super::kinds::Kind;
use super::world::World;

/// A question before its candidates are chosen.
pub(crate) struct Draft {
    pub(crate) text: String,
    pub(crate) answers: Vec<String>,
    /// The documents that support the answer, in hop order, each with its step.
    pub(crate) gold: Vec<(Key, String)>,
    /// Documents that must be among the candidates, because without them the answer could be
    /// told from what is there; none of them supports it.
    pub(crate) twins: Vec<Key>,
    /// Other documents of the entities of the question.
    pub(crate) own: Vec<Key>,
    /// Like documents of other entities.
    pub(crate) others: Vec<Key>,
}

impl Draft {
    /// Takes the supporting documents and the answer away.
    pub(crate) fn unanswerable(mut self) -> Self {
        let gold: Vec<Key> = self.gold.iter().map(|(key, _)| *key).collect();
        self.own.retain(|key| !gold.contains(key));
        self.others.retain(|key| !gold.contains(key));
        self.gold.clear();
        self.answers.clear();
        self
    }
}

/// A question with the keys of its candidates.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) id: QuestionId,
    pub(crate) kind: Kind,
    pub(crate) draft: Draft,
    pub(crate) candidates: Vec<Key>,
}

impl Scene {
    /// Chooses `n` candidates: the gold documents, then their twins, then distractors of both
    /// sorts. Gold documents are all kept, however small `n` is.
    pub(crate) fn new(world: World, kind: Kind, draft: Draft, n: usize, draw: &mut Draw) -> Self {
        let mut candidates: Vec<Key> = draft.gold.iter().map(|(key, _)| *key).collect();
        let mut twins = draft.twins.clone();
        draw.shuffle(&mut twins);
        for twin in twins {
            if candidates.len() < n && !candidates.contains(&twin) {
                candidates.push(twin);
            }
        }
        let (mut own, mut others) = (draft.own.clone(), draft.others.clone());
        draw.shuffle(&mut own);
        draw.shuffle(&mut others);
        while candidates.len() < n && !(own.is_empty() && others.is_empty()) {
            let from = if draw.below(5) < 3 { &mut own } else { &mut others };
            if let Some(key) = from.pop()
                && !candidates.contains(&key)
            {
                candidates.push(key);
            }
        }
        draw.shuffle(&mut candidates);
        Self { world, id: QuestionId::new(""), kind, draft, candidates }
    }

    /// Keeps only the gold documents as candidates.
    pub(crate) fn alone(world: World, kind: Kind, draft: Draft) -> Self {
        let candidates = draft.gold.iter().map(|(key, _)| *key).collect();
        Self { world, id: QuestionId::new(""), kind, draft, candidates }
    }

    /// The scene with the id of its place.
    pub(crate) fn numbered(mut self, place: &[u64]) -> Self {
        self.id = QuestionId::new(hex(&digest("atlas-question", place), 16));
        self
    }

    /// The documents of the scene's candidates.
    pub(crate) fn documents(&self) -> Vec<Arc<Document>> {
        self.candidates.iter().map(|key| key.document(self.world)).collect()
    }

    /// The example, pictures drawn.
    pub(crate) fn example(&self) -> Example {
        let step =
            |(key, text): &(Key, String)| Step { document: key.id(self.world), text: text.clone() };
        let gold = self.draft.gold.iter();
        Example {
            question: Question {
                id: self.id.clone(),
                text: self.draft.text.clone(),
                images: Vec::new(),
            },
            candidates: self.documents(),
            gold: Gold {
                documents: gold.clone().map(|(key, _)| key.id(self.world)).collect(),
                answers: self.draft.answers.clone(),
                ..Gold::default()
            },
            kind: self.kind.as_str().to_owned(),
            steps: gold.map(step).collect(),
        }
    }
}
