//! WebQA's predictions: one object from question ids to `{"sources": […], "answer": "…"}`, or as the
//! baselines' files have it to `{"predicted sources": […], "predicted answers": ["…", …]}`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use clap::ValueEnum;
use mmrag_data::webqa::{GoldFile, GoldRow, source_id};
use mmrag_task::metrics::webqa::{
    self as rules, Category, Lemmas, SourceCounts, SourceScore, sources,
};
use serde::Serialize;
use serde_json::Value;

use super::fluency::Question;
use super::{Placed, Problems, shown, type_name};

/// What accuracy means. Figures by different rules cannot be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rule {
    /// The official QA-Acc, against keywords
    #[default]
    Official,
    /// The approximation of the data set's eval_webqa.md, against the first reference answer
    EvalWebqaMd,
    /// RagVL's, against the first reference answer
    Ragvl,
}

/// Means over questions, as fractions.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Questions.
    n: usize,
    /// Accuracy under the name of its rule.
    #[serde(flatten)]
    accuracy: BTreeMap<&'static str, Accuracy>,
    /// The official mean over the questions whose sources are known.
    retrieval_f1: Option<f64>,
    /// The mean share of the predicted sources that are gold, over the same questions.
    retrieval_precision: Option<f64>,
    /// The mean share of the gold sources that were predicted, over the same questions.
    retrieval_recall: Option<f64>,
    /// All sources as one set, as some papers report it.
    retrieval_f1_micro: Option<f64>,
    /// Questions whose sources are known.
    retrieval_n: usize,
    /// Fluency; nothing without a BART.
    qa_fl: Option<f64>,
    /// Questions that have reference answers.
    qa_fl_n: usize,
    /// The mean of fluency times QA-Acc with looked-up lemmas, over the questions that have both.
    qa: Option<f64>,
    /// The same for each kind of lemmas.
    qa_by_lemmas: ByLemmas,
}

/// Accuracy for each kind of lemmas.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Accuracy {
    /// Questions that have what the rule needs; the others do not count.
    n: usize,
    #[serde(flatten)]
    by: ByLemmas,
}

/// A figure without lemmas and with looked-up ones.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct ByLemmas {
    none: Option<f64>,
    lookup: Option<f64>,
}

/// The figures by what questions are like.
#[derive(Debug, Serialize)]
pub(crate) struct Slices {
    category: BTreeMap<&'static str, Figures>,
    /// Questions about pictures ("image") and about texts ("text"), as published figures are.
    modality: BTreeMap<&'static str, Figures>,
}

/// One question's scores.
#[derive(Debug, Serialize)]
pub(crate) struct Item {
    id: String,
    #[serde(skip)]
    category: Category,
    /// Accuracy under the name of its rule.
    #[serde(flatten)]
    accuracy: BTreeMap<&'static str, ByLemmas>,
    retrieval_f1: Option<f64>,
    qa_fl: Option<f64>,
    #[serde(skip)]
    retrieval: Option<(SourceScore, SourceCounts)>,
}

/// All figures of a prediction file.
#[derive(Debug, Serialize)]
pub(crate) struct Scores {
    /// What accuracy means here.
    accuracy_rule: &'static str,
    /// The table that lemmas are looked up in.
    lemma_table: String,
    #[serde(flatten)]
    all: Figures,
    by: Slices,
    pub(crate) problems: Problems,
    #[serde(rename = "per_item", skip_serializing_if = "Option::is_none")]
    pub(crate) items: Option<Vec<Item>>,
    #[serde(skip)]
    rule: Rule,
}

/// Words and their lemmas.
pub(crate) type LemmaTable = HashMap<String, String>;

/// How accuracy is told.
pub(crate) struct Judging<'a> {
    pub(crate) rule: Rule,
    /// The table's name, for the report.
    pub(crate) table_name: String,
    pub(crate) table: &'a LemmaTable,
}

/// The questions that count with what was predicted for them.
pub(crate) struct Matched<'g> {
    questions: Vec<Matching<'g>>,
    problems: Problems,
}

struct Matching<'g> {
    row: &'g GoldRow,
    category: Category,
    prediction: Prediction,
}

/// What a prediction says, as far as it has the right types.
#[derive(Default)]
struct Prediction {
    answer: Option<String>,
    /// Nothing where no prediction of the file names sources.
    sources: Option<Vec<String>>,
}

impl<'g> Matched<'g> {
    /// Finds each question's prediction.
    pub(crate) fn new(gold: &'g GoldFile, predictions: Vec<mmrag_data::Prediction>) -> Self {
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
        let placed = problems.sorted(predictions, rows.iter().map(|(row, _)| row.id.as_str()));
        let has_sources =
            placed.values().any(|placed| Prediction::sources(&placed.value).is_some());
        let has_sources = has_sources || placed.is_empty();
        let mut questions = Vec::with_capacity(rows.len());
        for (row, category) in rows {
            let placed = placed.get(&row.id);
            let mut prediction = placed.map_or_else(Prediction::default, |placed| {
                Prediction::read(&row.id, placed, has_sources, &mut problems)
            });
            if has_sources {
                prediction.sources.get_or_insert_default();
            }
            questions.push(Matching { row, category, prediction });
        }
        Self { questions, problems }
    }

    /// What is asked about fluency, a question each.
    pub(crate) fn fluency_questions(&self) -> Vec<Question<'_>> {
        self.questions.iter().map(Matching::fluency_question).collect()
    }

    /// Scores the predictions; `fluencies` has one entry a question, or none.
    pub(crate) fn score(self, judging: &Judging<'_>, fluencies: &[Option<f64>]) -> Scores {
        let item = |(at, matching): (usize, &Matching<'_>)| {
            matching.item(judging, fluencies.get(at).copied().flatten())
        };
        let items: Vec<Item> = self.questions.iter().enumerate().map(item).collect();
        Scores {
            accuracy_rule: judging.rule.title(),
            lemma_table: judging.table_name.clone(),
            all: Figures::of(judging.rule, || items.iter()),
            by: Slices {
                category: slices(judging.rule, &items, |item| item.category.as_str()),
                modality: slices(judging.rule, &items, |item| match item.category {
                    Category::Text => "text",
                    _ => "image",
                }),
            },
            problems: self.problems,
            items: Some(items),
            rule: judging.rule,
        }
    }
}

impl Matching<'_> {
    fn fluency_question(&self) -> Question<'_> {
        let answer = self.prediction.answer.as_deref();
        Question { answer, references: &self.row.answers }
    }

    fn item(&self, judging: &Judging<'_>, qa_fl: Option<f64>) -> Item {
        let Self { row, category, prediction } = self;
        let answer = prediction.answer.as_deref().unwrap_or_default();
        let accuracy = |lemmas: Lemmas<'_>| match judging.rule {
            Rule::Official => {
                let keywords = row.keywords.as_ref()?;
                Some(rules::score(*category, answer, keywords, lemmas).accuracy)
            }
            Rule::EvalWebqaMd => {
                Some(rules::approximate(*category, answer, row.answers.first()?, lemmas))
            }
            Rule::Ragvl => Some(rules::ragvl(*category, answer, row.answers.first()?, lemmas)),
        };
        let by_lemmas = ByLemmas {
            none: accuracy(Lemmas::None),
            lookup: accuracy(Lemmas::Lookup(judging.table)),
        };
        let predicted = prediction.sources.as_ref().filter(|_| !row.sources.is_empty());
        let retrieval = predicted.map(|predicted| {
            (sources(predicted, &row.sources), SourceCounts::of(predicted, &row.sources))
        });
        Item {
            id: row.id.clone(),
            category: *category,
            accuracy: [(judging.rule.key(), by_lemmas)].into(),
            retrieval_f1: retrieval.map(|(score, _)| score.f1),
            qa_fl,
            retrieval,
        }
    }
}

impl Prediction {
    fn read(id: &str, placed: &Placed, has_sources: bool, problems: &mut Problems) -> Self {
        let mut wrong = |what: String| problems.wrong.push(placed.fault(id, what));
        let mut prediction = Self::default();
        if !placed.value.is_object() {
            wrong(format!("{} is no object", type_name(&placed.value)));
            return prediction;
        }
        match &placed.value["predicted answers"][0] {
            Value::String(answer) => prediction.answer = Some(answer.clone()),
            _ => match &placed.value["answer"] {
                Value::String(answer) => prediction.answer = Some(answer.clone()),
                other => wrong(format!("answer is {}, not a text", type_name(other))),
            },
        }
        if !has_sources {
            return prediction;
        }
        match Self::sources(&placed.value) {
            Some(Value::Array(list)) => {
                let mut read = Vec::with_capacity(list.len());
                for (at, source) in list.iter().enumerate() {
                    match source_id(source) {
                        Some(source) => read.push(source),
                        None => wrong(format!("sources[{at}] is {}, not an id", type_name(source))),
                    }
                }
                prediction.sources = Some(read);
            }
            other => {
                let found = other.map_or("missing", type_name);
                wrong(format!("sources is {found}, not a list"));
            }
        }
        prediction
    }

    /// What stands where sources should, if anything does.
    fn sources(value: &Value) -> Option<&Value> {
        value.get("sources").or_else(|| value.get("predicted sources"))
    }
}

impl Item {
    fn by_lemmas(&self) -> ByLemmas {
        self.accuracy.values().next().copied().unwrap_or_default()
    }
}

impl Rule {
    /// The figure's name in JSON.
    fn key(self) -> &'static str {
        match self {
            Self::Official => "qa_acc",
            Self::EvalWebqaMd => "accuracy_eval_webqa_md",
            Self::Ragvl => "accuracy_ragvl",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Official => "official: QA-Acc, against keywords",
            Self::EvalWebqaMd => {
                "eval_webqa.md's approximation, against the first reference answer"
            }
            Self::Ragvl => "RagVL's, against the first reference answer",
        }
    }

    /// The figure's name in a table.
    fn figure(self) -> &'static str {
        match self {
            Self::Official => "QA-Acc",
            Self::EvalWebqaMd => "accuracy (eval_webqa.md)",
            Self::Ragvl => "accuracy (RagVL)",
        }
    }
}

impl Figures {
    fn of<'i, I: Iterator<Item = &'i Item>>(rule: Rule, items: impl Fn() -> I) -> Self {
        let mut counts = SourceCounts::default();
        for (_, one) in items().filter_map(|item| item.retrieval) {
            counts.add(one);
        }
        let retrieval = |part: fn(SourceScore) -> f64| {
            mean(items().filter_map(|item| Some(part(item.retrieval?.0))))
        };
        let retrieval_n = items().filter(|item| item.retrieval.is_some()).count();
        let each = |part: fn(ByLemmas) -> Option<f64>| {
            items().filter_map(move |item| part(item.by_lemmas()))
        };
        // The official product is of official accuracy.
        let product = |part: fn(ByLemmas) -> Option<f64>| {
            let products = items().filter_map(|item| Some(item.qa_fl? * part(item.by_lemmas())?));
            if rule == Rule::Official { mean(products) } else { None }
        };
        let accuracy = Accuracy {
            n: each(|by| by.none).count(),
            by: ByLemmas { none: mean(each(|by| by.none)), lookup: mean(each(|by| by.lookup)) },
        };
        let qa_by_lemmas =
            ByLemmas { none: product(|by| by.none), lookup: product(|by| by.lookup) };
        Self {
            n: items().count(),
            accuracy: [(rule.key(), accuracy)].into(),
            retrieval_f1: retrieval(|score| score.f1),
            retrieval_precision: retrieval(|score| score.precision),
            retrieval_recall: retrieval(|score| score.recall),
            retrieval_f1_micro: (retrieval_n > 0).then(|| counts.micro_f1()),
            retrieval_n,
            qa_fl: mean(items().filter_map(|item| item.qa_fl)),
            qa_fl_n: items().filter(|item| item.qa_fl.is_some()).count(),
            qa: qa_by_lemmas.lookup,
            qa_by_lemmas,
        }
    }

    /// The figures as a line of a table.
    fn line(&self, rule: Rule, name: &str) -> String {
        let Accuracy { n, by: ByLemmas { none, lookup } } = self.accuracy[rule.key()];
        let line = format!(
            "{name:<8} {:>6}  {} of {n}: none {}, lookup {}  retrieval F1 of {}: {} (micro {})",
            self.n,
            rule.figure(),
            shown(none),
            shown(lookup),
            self.retrieval_n,
            shown(self.retrieval_f1),
            shown(self.retrieval_f1_micro),
        );
        if self.qa_fl.is_none() {
            return line;
        }
        let [fluency, product] = [self.qa_fl, self.qa].map(shown);
        format!("{line}  QA-FL of {}: {fluency}  QA {product}", self.qa_fl_n)
    }
}

/// The figures of the items of each kind.
fn slices(
    rule: Rule,
    items: &[Item],
    kind: fn(&Item) -> &'static str,
) -> BTreeMap<&'static str, Figures> {
    let kinds: BTreeSet<&'static str> = items.iter().map(kind).collect();
    let of_kind = |one| Figures::of(rule, || items.iter().filter(move |item| kind(item) == one));
    kinds.into_iter().map(|one| (one, of_kind(one))).collect()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

impl Scores {
    /// The figures as lines of a table.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.all.line(self.rule, "all")];
        // Questions about texts are a category of their own.
        let images = self.by.modality.iter().filter(|(name, _)| **name == "image");
        let slices = images.chain(&self.by.category);
        lines.extend(slices.map(|(name, figures)| figures.line(self.rule, name)));
        lines.push(format!("accuracy: {}", self.accuracy_rule));
        lines.push(format!("lookup: lemmas of {}", self.lemma_table));
        lines.push(match (self.all.qa_fl, self.rule) {
            (None, _) => "QA-FL and QA are not computed: they take BART weights, --bart".into(),
            (Some(_), Rule::Official) => "QA: mean of QA-FL times QA-Acc, lemmas looked up".into(),
            (Some(_), _) => "QA is not computed: it takes the official accuracy".into(),
        });
        lines
    }

    /// The questions' scores as lines.
    pub(crate) fn item_lines(&self) -> Vec<String> {
        let items = self.items.iter().flatten();
        let line = |item: &Item| {
            let ByLemmas { none, lookup } = item.by_lemmas();
            let parts = [none, lookup, item.retrieval_f1, item.qa_fl].map(shown);
            format!("{}\t{}", item.id, parts.join("\t"))
        };
        items.map(line).collect()
    }
}
