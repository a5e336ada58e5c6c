//! An answer by the rules of the benchmark that its question is from, beside EM and F1.

use mmrag_core::{Example, Gold};
use mmrag_task::metrics::vqa;
use mmrag_task::metrics::webqa::{Category, Lemmas, score};
use serde::{Deserialize, Serialize};

/// A benchmark with rules of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Benchmark {
    /// WebQA: QA-Acc against keywords, QA-FL, and their product.
    WebQa,
    /// VQA v2: agreement with ten people.
    Vqa2,
    /// TextVQA: the same, with its own way to treat an answer.
    TextVqa,
}

/// What the rules of a benchmark say of an answer, as fractions. Absent is what the rules do not
/// judge, or what takes a model that was not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BenchmarkScores {
    /// WebQA's QA-Acc, with lemmas looked up; absent if the question has no keywords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qa_acc: Option<f64>,
    /// WebQA's QA-FL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qa_fl: Option<f64>,
    /// The agreement with people's answers of VQA v2 or TextVQA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vqa_accuracy: Option<f64>,
}

impl BenchmarkScores {
    /// Whether nothing was judged.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// WebQA's QA: fluency times accuracy.
    pub fn qa(&self) -> Option<f64> {
        Some(self.qa_fl? * self.qa_acc?)
    }
}

impl Benchmark {
    /// Scores an answer; no answer counts 0. Fluency is not scored here.
    pub fn score(self, answer: Option<&str>, example: &Example) -> BenchmarkScores {
        let Gold { keywords, references, .. } = &example.gold;
        let answer = answer.unwrap_or_default();
        let agreement = |accuracy: fn(&str, &[String]) -> f64| BenchmarkScores {
            vqa_accuracy: (!references.is_empty()).then(|| accuracy(answer, references)),
            ..BenchmarkScores::default()
        };
        match self {
            Self::WebQa => {
                let category = Category::parse(&example.kind);
                let judged = category.zip(keywords.as_deref()).map(|(category, keywords)| {
                    score(category, answer, keywords, Lemmas::english()).accuracy
                });
                BenchmarkScores { qa_acc: judged, ..BenchmarkScores::default() }
            }
            Self::Vqa2 => agreement(vqa::accuracy),
            Self::TextVqa => agreement(vqa::text_accuracy),
        }
    }
}

#[cfg(test)]
mod tests {
    use mmrag_core::{Question, QuestionId};

    use super::*;

    fn example(kind: &str, gold: Gold) -> Example {
        let id = QuestionId::new("q");
        Example {
            question: Question { id, text: String::new(), images: Vec::new() },
            candidates: Vec::new(),
            gold,
            kind: kind.to_owned(),
            steps: Vec::new(),
        }
    }

    #[test]
    fn webqa_is_judged_by_keywords_and_category() {
        let gold = Gold { keywords: Some("yes".into()), ..Gold::default() };
        let accuracy = |kind: &str, answer: Option<&str>| {
            Benchmark::WebQa.score(answer, &example(kind, gold.clone())).qa_acc
        };
        // The official rule gives a full match 0.999995.
        assert!(accuracy("YesNo", Some("Yes, both are.")).unwrap() > 0.99999);
        assert_eq!(accuracy("YesNo", Some("No.")), Some(0.0));
        assert_eq!(accuracy("YesNo", None), Some(0.0));
        assert_eq!(accuracy("no category", Some("yes")), None);
        let without = example("YesNo", Gold::default());
        assert!(Benchmark::WebQa.score(Some("yes"), &without).is_empty());
    }

    #[test]
    fn people_are_agreed_with_by_share() {
        let mut people = vec!["red".to_owned(); 2];
        people.resize(10, "blue".to_owned());
        let gold = Gold { references: people, ..Gold::default() };
        let scores = Benchmark::Vqa2.score(Some("red"), &example("", gold));
        assert!((scores.vqa_accuracy.unwrap() - 0.6).abs() < 1e-9, "{scores:?}");
        assert_eq!(scores.qa(), None);
    }

    #[test]
    fn qa_is_a_product() {
        let scores =
            BenchmarkScores { qa_acc: Some(0.5), qa_fl: Some(0.8), ..BenchmarkScores::default() };
        assert!((scores.qa().unwrap() - 0.4).abs() < 1e-12);
    }
}
