//! What went wrong with an answer: the first step of the pipeline that lost it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Outcome;

/// The class of a wrong answer. Each wrong answer is in one class: the first that applies, in the
/// order here, which is that of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// A gold document was not among the candidates.
    NotRetrieved,
    /// The filter dropped a gold document.
    FilteredOut,
    /// A gold document did not reach the ranker for another reason: the prompt was full, or its
    /// picture could not be read.
    NotShown,
    /// The ranker's reply could not be read.
    Unreadable,
    /// It said that there is no answer, and there is one.
    Abstained,
    /// It answered, and there is no answer.
    AnsweredUnanswerable,
    /// It answered from other documents: it cites no gold one.
    OtherDocuments,
    /// It cites some gold documents and not all: the chain is incomplete.
    HalfTheDocuments,
    /// It cites every gold document, and what it read there is wrong or not all of it.
    Misread,
}

impl Failure {
    /// All, in the order of the pipeline.
    pub const ALL: [Self; 9] = [
        Self::NotRetrieved,
        Self::FilteredOut,
        Self::NotShown,
        Self::Unreadable,
        Self::Abstained,
        Self::AnsweredUnanswerable,
        Self::OtherDocuments,
        Self::HalfTheDocuments,
        Self::Misread,
    ];

    /// The class of an outcome; none if the answer matches exactly.
    pub fn of(outcome: &Outcome) -> Option<Self> {
        if outcome.answer_em > 0.5 {
            return None;
        }
        let misses = |score: Option<mmrag_task::metrics::SetScore>| {
            score.is_some_and(|score| score.recall < 1.0)
        };
        let cited = outcome.cited.map_or(1.0, |score| score.recall);
        let classes = [
            (misses(outcome.retrieved), Self::NotRetrieved),
            (misses(outcome.filtered), Self::FilteredOut),
            (outcome.gold_kept == Some(false), Self::NotShown),
            (outcome.unparsable, Self::Unreadable),
            (outcome.abstained && outcome.answerable, Self::Abstained),
            (!outcome.answerable, Self::AnsweredUnanswerable),
            (cited == 0.0, Self::OtherDocuments),
            (cited < 1.0, Self::HalfTheDocuments),
        ];
        let first = classes.into_iter().find(|(applies, _)| *applies);
        Some(first.map_or(Self::Misread, |(_, class)| class))
    }

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotRetrieved => "not_retrieved",
            Self::FilteredOut => "filtered_out",
            Self::NotShown => "not_shown",
            Self::Unreadable => "unreadable",
            Self::Abstained => "abstained",
            Self::AnsweredUnanswerable => "answered_unanswerable",
            Self::OtherDocuments => "other_documents",
            Self::HalfTheDocuments => "half_the_documents",
            Self::Misread => "misread",
        }
    }

    /// What it means, for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::NotRetrieved => "a gold document was not found",
            Self::FilteredOut => "the filter dropped a gold document",
            Self::NotShown => "a gold document did not fit or could not be read",
            Self::Unreadable => "the reply could not be read",
            Self::Abstained => "said none though there is an answer",
            Self::AnsweredUnanswerable => "answered though there is no answer",
            Self::OtherDocuments => "answered from other documents",
            Self::HalfTheDocuments => "cited only some of the gold documents",
            Self::Misread => "cited the right documents, answered wrongly",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::tests::outcome;

    #[test]
    fn the_first_step_that_lost_it_is_named() {
        let found = |change: fn(&mut Outcome)| {
            let mut outcome = outcome();
            outcome.answer_em = 0.0;
            change(&mut outcome);
            Failure::of(&outcome)
        };
        assert_eq!(Failure::of(&outcome()), None);
        assert_eq!(found(|_| ()), Some(Failure::Misread));
        assert_eq!(
            found(|o| o.cited.as_mut().unwrap().recall = 0.5),
            Some(Failure::HalfTheDocuments)
        );
        assert_eq!(
            found(|o| o.cited.as_mut().unwrap().recall = 0.0),
            Some(Failure::OtherDocuments)
        );
        assert_eq!(found(|o| o.unparsable = true), Some(Failure::Unreadable));
        assert_eq!(found(|o| o.abstained = true), Some(Failure::Abstained));
        assert_eq!(found(|o| o.gold_kept = Some(false)), Some(Failure::NotShown));
        let filtered = found(|o| {
            o.gold_kept = Some(false);
            o.filtered.as_mut().unwrap().recall = 0.0;
        });
        assert_eq!(filtered, Some(Failure::FilteredOut));
        let unanswerable = found(|o| {
            o.answerable = false;
            o.cited = None;
        });
        assert_eq!(unanswerable, Some(Failure::AnsweredUnanswerable));
    }

    #[test]
    fn names_are_those_of_files() {
        for class in Failure::ALL {
            assert_eq!(serde_json::to_value(class).unwrap(), class.name());
        }
    }
}
