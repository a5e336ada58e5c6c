//! WebQA's predictions: one object from question ids to `{"sources": […], "answer": "…"}`.

use std::collections::{BTreeMap, HashMap};

use mmrag_data::webqa::{GoldFile, GoldRow, source_id};
use mmrag_task::metrics::webqa::{Category, Lemmas, SourceCounts, score as keyword_score, sources};
use serde::Serialize;
use serde_json::Value;

use super::{Problems, shown, type_name};

/// Means over questions, as fractions.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Questions.
    n: usize,
    qa_acc: Accuracy,
    /// The official mean over the questions whose sources are known.
    retrieval_f1: Option<f64>,
    /// All sources as one set, as some papers report it.
    retrieval_f1_micro: Option<f64>,
    /// Questions whose sources are known.
    retrieval_n: usize,
    /// Fluency is not computed: it takes a BART model.
    qa_fl: Option<f64>,
    /// The mean of fluency times accuracy, which takes fluency.
    qa: Option<f64>,
}

/// Accuracy by keywords, for each kind of lemmas.
#[derive(Debug, Serialize)]
pub(crate) struct Accuracy {
    /// Questions that have keywords; the others do not count.
    n: usize,
    none: Option<f64>,
    /// Nothing where no table of lemmas is given.
    lookup: Option<f64>,
}

/// The figures by what questions are like.
#[derive(Debug, Serialize)]
pub(crate) struct Slices {
    category: BTreeMap<&'static str, Figures>,
}

/// One question's scores.
#[derive(Debug, Serialize)]
pub(crate) struct Item {
    id: String,
    #[serde(skip)]
    category: Category,
    qa_acc: ItemAccuracy,
    retrieval_f1: Option<f64>,
    #[serde(skip)]
    counts: Option<SourceCounts>,
}

#[derive(Debug, Default, Serialize)]
struct ItemAccuracy {
    none: Option<f64>,
    lookup: Option<f64>,
}

/// All figures of a prediction file.
#[derive(Debug, Serialize)]
pub(crate) struct Scores {
    #[serde(flatten)]
    all: Figures,
    by: Slices,
    pub(crate) problems: Problems,
    #[serde(rename = "per_item", skip_serializing_if = "Option::is_none")]
    pub(crate) items: Option<Vec<Item>>,
}

/// Words and their lemmas.
pub(crate) type LemmaTable = HashMap<String, String>;

/// Scores predictions against a gold file.
pub(crate) fn score(
    gold: &GoldFile,
    entries: Vec<(String, Value)>,
    table: Option<&LemmaTable>,
) -> Scores {
    let mut problems = Problems { gold: gold.problems.clone(), ..Problems::default() };
    let mut rows: Vec<(&GoldRow, Category)> = Vec::with_capacity(gold.rows.len());
    for row in &gold.rows {
        if let Some(category) = Category::parse(&row.category) {
            rows.push((row, category));
        } else {
            let GoldRow { id, category, .. } = row;
            problems.gold.push(format!("question {id}: {category:?} is no category"));
        }
    }
    let predictions = problems.sorted(entries, rows.iter().map(|(row, _)| row.id.as_str()));
    let items: Vec<Item> = rows
        .into_iter()
        .map(|(row, category)| {
            let prediction = predictions.get(&row.id);
            let prediction =
                prediction.map(|value| Prediction::read(&row.id, value, &mut problems));
            item(row, category, &prediction.unwrap_or_default(), table)
        })
        .collect();
    let mut category = BTreeMap::new();
    for one in Category::ALL {
        let figures = Figures::of(|| items.iter().filter(move |item| item.category == one));
        if figures.n > 0 {
            category.insert(one.as_str(), figures);
        }
    }
    Scores {
        all: Figures::of(|| items.iter()),
        by: Slices { category },
        problems,
        items: Some(items),
    }
}

/// What a prediction says, as far as it has the right types.
#[derive(Default)]
struct Prediction {
    answer: String,
    sources: Vec<String>,
}

impl Prediction {
    fn read(id: &str, value: &Value, problems: &mut Problems) -> Self {
        let mut wrong = |what: String| problems.wrong.push(format!("{id}: {what}"));
        let mut prediction = Self::default();
        if !value.is_object() {
            wrong(format!("{} is no object", type_name(value)));
            return prediction;
        }
        match &value["answer"] {
            Value::String(answer) => prediction.answer.clone_from(answer),
            other => wrong(format!("answer is {}, not a text", type_name(other))),
        }
        let Some(list) = value["sources"].as_array() else {
            wrong(format!("sources is {}, not a list", type_name(&value["sources"])));
            return prediction;
        };
        for (at, source) in list.iter().enumerate() {
            match source_id(source) {
                Some(source) => prediction.sources.push(source),
                None => wrong(format!("sources[{at}] is {}, not an id", type_name(source))),
            }
        }
        prediction
    }
}

fn item(
    row: &GoldRow,
    category: Category,
    prediction: &Prediction,
    table: Option<&LemmaTable>,
) -> Item {
    let accuracy = |lemmas| {
        let keywords = row.keywords.as_ref()?;
        Some(keyword_score(category, &prediction.answer, keywords, lemmas).accuracy)
    };
    let is_known = !row.sources.is_empty();
    Item {
        id: row.id.clone(),
        category,
        qa_acc: ItemAccuracy {
            none: accuracy(Lemmas::None),
            lookup: table.and_then(|table| accuracy(Lemmas::Lookup(table))),
        },
        retrieval_f1: is_known.then(|| sources(&prediction.sources, &row.sources).f1),
        counts: is_known.then(|| SourceCounts::of(&prediction.sources, &row.sources)),
    }
}

impl Figures {
    fn of<'i, I: Iterator<Item = &'i Item>>(items: impl Fn() -> I) -> Self {
        let mut counts = SourceCounts::default();
        for one in items().filter_map(|item| item.counts) {
            counts.add(one);
        }
        let retrieval_n = items().filter(|item| item.counts.is_some()).count();
        Self {
            n: items().count(),
            qa_acc: Accuracy {
                n: items().filter(|item| item.qa_acc.none.is_some()).count(),
                none: mean(items().filter_map(|item| item.qa_acc.none)),
                lookup: mean(items().filter_map(|item| item.qa_acc.lookup)),
            },
            retrieval_f1: mean(items().filter_map(|item| item.retrieval_f1)),
            retrieval_f1_micro: (retrieval_n > 0).then(|| counts.micro_f1()),
            retrieval_n,
            qa_fl: None,
            qa: None,
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

impl Scores {
    /// The figures as lines of a table.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |name: &str, figures: &Figures| {
            let Accuracy { n, none, lookup } = figures.qa_acc;
            format!(
                "{name:<8} {:>6}  QA-Acc of {n}: none {}, lookup {}  retrieval F1 of {}: {}",
                figures.n,
                shown(none),
                shown(lookup),
                figures.retrieval_n,
                shown(figures.retrieval_f1),
            )
        };
        let mut lines = vec![line("all", &self.all)];
        lines.extend(self.by.category.iter().map(|(name, figures)| line(name, figures)));
        lines.push("QA-FL and QA are not computed: they take BART weights".into());
        lines
    }

    /// The questions' scores as lines.
    pub(crate) fn item_lines(&self) -> Vec<String> {
        let items = self.items.iter().flatten();
        let line = |item: &Item| {
            let ItemAccuracy { none, lookup } = item.qa_acc;
            let f1 = shown(item.retrieval_f1);
            format!("{}\t{}\t{}\t{f1}", item.id, shown(none), shown(lookup))
        };
        items.map(line).collect()
    }
}
