//! One question and everything that can be said about its answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use mmrag_core::{Document, DocumentId, Question};
use mmrag_rag::explanation::Candidate;
use mmrag_rag::{Explanation, Index, Pipeline, Retriever, Source, SourceRank, Verification};
use mmrag_task::Case;
use serde::{Deserialize, Serialize};

use crate::answerer::AnswerArgs;
use crate::attributing::ToldName;
use crate::dataset::{DatasetName, SplitName};
use crate::embedding::Finder;

/// What a question is answered from.
pub(crate) enum Documents {
    /// A collection on disk.
    Collection(Finder),
    /// All documents of a data set.
    Memory(Index),
    /// Those that come with the question.
    WithQuestion,
}

impl Documents {
    /// Lends what finds documents.
    pub(crate) fn with_retriever<R>(&self, lend: impl FnOnce(Option<&dyn Retriever>) -> R) -> R {
        match self {
            Self::Collection(finder) => lend(Some(&finder.fused())),
            Self::Memory(index) => lend(Some(index)),
            Self::WithQuestion => lend(None),
        }
    }

    /// The document of this id; none if there is none, or documents come with the question.
    ///
    /// # Errors
    ///
    /// When the collection cannot be read.
    pub(crate) fn get(&self, id: &DocumentId) -> anyhow::Result<Option<Arc<Document>>> {
        Ok(match self {
            Self::Collection(finder) => {
                finder.snapshot.get(id)?.map(|found| Arc::new(found.document))
            }
            Self::Memory(index) => index.document(id).cloned(),
            Self::WithQuestion => None,
        })
    }

    fn place_of(&self, question: &Question, id: &DocumentId) -> anyhow::Result<Option<SourceRank>> {
        Ok(match self {
            Self::Collection(finder) => finder.snapshot.place_of(question, id)?,
            Self::Memory(index) => {
                let hits = index.retrieve(question, index.documents().len())?;
                let hit = hits.into_iter().find(|hit| hit.document.id == *id);
                hit.and_then(|hit| hit.sources.into_iter().next())
            }
            Self::WithQuestion => None,
        })
    }
}

/// An answered question, as `--json` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// The answer and how it came about.
    #[serde(flatten)]
    pub(crate) explanation: Explanation,
    /// Whether the answer stands on what it cites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) verification: Option<Verification>,
    /// What became of the documents that were asked about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) why_not: Vec<WhyNot>,
    /// What is needed to ask again.
    pub(crate) replay: Replay,
}

/// All that an answer depends on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Replay {
    pub(crate) question: Option<String>,
    pub(crate) qid: Option<String>,
    pub(crate) images: Vec<PathBuf>,
    pub(crate) index: Option<PathBuf>,
    pub(crate) dataset: DatasetName,
    pub(crate) data: Option<PathBuf>,
    pub(crate) split: SplitName,
    pub(crate) top_k: usize,
    pub(crate) answer: AnswerArgs,
    /// Whether it was asked where cited pictures helped, and in telling what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attribute: Option<ToldName>,
    /// Names of the weights that answered.
    pub(crate) weights: serde_json::Value,
}

impl Replay {
    /// Refuses to answer with other weights than before.
    ///
    /// # Errors
    ///
    /// When they are others, or cannot be read.
    pub(crate) fn check_weights(&self) -> anyhow::Result<()> {
        let now = self.answer.weights()?;
        ensure!(
            now == self.weights,
            "the model is another one than then: its weights are {now}, and were {}",
            self.weights
        );
        Ok(())
    }
}

impl Asked {
    /// What a file of `--json` holds.
    ///
    /// # Errors
    ///
    /// When it holds something else.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| {
            format!("failed to read {}: it is not what `mmrag ask --json` prints", file.display())
        })
    }

    /// Compares with an earlier answer, timings aside.
    ///
    /// # Errors
    ///
    /// When they differ; the error names what.
    pub(crate) fn check_same(&self, before: &Self) -> anyhow::Result<()> {
        let (now, then) = (&self.explanation, &before.explanation);
        ensure!(
            now.index_version == then.index_version,
            "the documents are others than then: version {}, and were {}",
            now.index_version,
            then.index_version
        );
        let as_json = |explanation: &Explanation| -> anyhow::Result<serde_json::Value> {
            Ok(serde_json::to_value(explanation.clone().without_timings())?)
        };
        let (now, then) = (as_json(now)?, as_json(then)?);
        if now == then {
            return Ok(());
        }
        let fields = then.as_object().into_iter().flatten();
        let differing: Vec<&str> =
            fields.filter(|(key, value)| now.get(key) != Some(value)).map(|(k, _)| &**k).collect();
        bail!("the answer is another one than then: {} differ", differing.join(", "))
    }
}

/// What became of one document that was asked about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WhyNot {
    pub(crate) document: DocumentId,
    pub(crate) title: String,
    /// In sentences, one a stage that it came to.
    pub(crate) told: Vec<String>,
}

/// Says what became of a document.
///
/// # Errors
///
/// When there is none of this name, or the documents cannot be searched.
pub(crate) fn why_not(
    pipeline: &Pipeline<'_>,
    documents: &Documents,
    question: &Question,
    explanation: &Explanation,
    named: &str,
) -> anyhow::Result<WhyNot> {
    if let Some(candidate) = candidate(explanation, named)? {
        let (document, title) = (candidate.document.clone(), candidate.title.clone());
        return Ok(WhyNot { document, title, told: fate(candidate, explanation) });
    }
    let id = DocumentId::new(named);
    let found = documents.get(&id).context("failed to look for the document")?;
    let Some(document) = found else {
        bail!("there is no document {named} among those found, and none of this id in the index");
    };
    let n_found = explanation.candidates.len();
    let mut told = vec![match documents.place_of(question, &id)? {
        Some(SourceRank { rank, score, .. }) => {
            let last = explanation.candidates.last().and_then(|last| last.retrieval.first());
            let last = last.map_or(String::new(), |last| {
                format!("; the last that was taken has {:.3}", last.score)
            });
            format!(
                "it was not found: by its words it is number {rank} with a score of {score:.3}, and \
                 the first {n_found} are taken{last}"
            )
        }
        None => "it was not found: it has no word in common with the question".to_owned(),
    }];
    if let Some(filter) = &pipeline.filter {
        let opinions = filter.opinions(&[Case::pointwise(question, &document)])?;
        if let Some(p) = opinions.first().and_then(|opinion| opinion.p) {
            let verdict = if p >= filter.threshold { "kept" } else { "dropped" };
            told.push(format!(
                "the filter would have {verdict} it: P(helps) {p:.3}, threshold {:.3}",
                filter.threshold
            ));
        }
    }
    Ok(WhyNot { document: id, title: document.title.clone(), told })
}

/// The candidate of this id, or the only one whose id or title has this in it.
fn candidate<'e>(
    explanation: &'e Explanation,
    named: &str,
) -> anyhow::Result<Option<&'e Candidate>> {
    let candidates = &explanation.candidates;
    let exact = candidates.iter().find(|candidate| candidate.document.as_str() == named);
    if exact.is_some() {
        return Ok(exact);
    }
    let wanted = named.to_lowercase();
    let has = |text: &str| text.to_lowercase().contains(&wanted);
    let alike: Vec<&Candidate> =
        candidates.iter().filter(|c| has(c.document.as_str()) || has(&c.title)).collect();
    if alike.len() > 1 {
        let ids: Vec<&str> = alike.iter().map(|candidate| candidate.document.as_str()).collect();
        bail!("{named} is {} documents: {}", alike.len(), ids.join(", "));
    }
    Ok(alike.first().copied())
}

fn fate(candidate: &Candidate, explanation: &Explanation) -> Vec<String> {
    let mut told: Vec<String> = candidate
        .retrieval
        .iter()
        .map(|found| {
            let (source, how) = (show_source(found), show_search(found));
            format!(
                "it was found as number {} {source} with a score of {:.3}{how}",
                found.rank, found.score
            )
        })
        .collect();
    if let Some(filter) = &candidate.filter {
        told.push(format!("the filter: {}", filter.why));
    }
    if let Some(why) = &candidate.dropped_why {
        told.push(format!("it was dropped: {why}"));
    }
    if let Some(rank) = &candidate.rank {
        let n_ranked = explanation.candidates.iter().filter(|c| c.rank.is_some()).count();
        told.push(format!("the ranker put it in place {} of {n_ranked}", rank.position));
        told.push(match &rank.reason {
            Some(reason) => format!("the reasoning says of it: {reason}"),
            None => "the reasoning does not name it".to_owned(),
        });
        let cited =
            if candidate.cited { "the answer cites it" } else { "the answer does not cite it" };
        told.push(cited.to_owned());
    }
    told
}

/// What has to be said of a search that did not look at everything.
pub(crate) fn show_search(found: &SourceRank) -> &'static str {
    if found.approximate { " (a part of the vectors was looked at)" } else { "" }
}

/// How a document was found, in words.
pub(crate) fn show_source(found: &SourceRank) -> &'static str {
    match found.source {
        Source::Bm25 => "by its words",
        Source::Dense => "by the likeness of what it says",
        Source::Image => "by the likeness of the picture to the words",
        Source::Picture => "by the likeness of the picture to the question's",
        Source::Fused => "by all ways together",
        _ => "by another way",
    }
}
