//! Rows of explanations as figures.

use serde::Serialize;

use super::{QualityRow, THINK_SHARES};
use crate::report::Named;
use crate::statistics::{Interval, Resamples, Scores};

/// A figure of a set of explanations.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measure {
    /// What it is, for people.
    pub title: String,
    /// How many explanations it is of.
    pub explanations: usize,
    /// Its mean with its 95 % interval.
    pub figure: Interval,
}

/// All figures of a set of explanations.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measures {
    /// How many explanations there are.
    pub explanations: usize,
    /// The figures by name.
    pub all: Named<Measure>,
    /// Some of them by the kinds of the gold documents.
    pub by_modality: Named<Named<Measure>>,
    /// The same by how many documents the answer needs.
    pub by_documents: Named<Named<Measure>>,
}

type Value = Box<dyn Fn(&QualityRow) -> Option<f64>>;

struct Defined {
    name: String,
    title: String,
    of: Value,
    /// Whether it is told of slices too.
    sliced: bool,
}

/// The figures of explanations, with `resamples` bootstrap draws from `seed`. What applies to no
/// explanation is left out.
pub fn measures(rows: &[QualityRow], resamples: usize, seed: u64) -> Measures {
    let defined = defined();
    let figures = |rows: &[&QualityRow], only_sliced: bool| -> Named<Measure> {
        let draws = Resamples::new(rows.len(), resamples, seed);
        let wanted = defined.iter().filter(|defined| defined.sliced || !only_sliced);
        wanted
            .filter_map(|Defined { name, title, of, .. }| {
                let values: Vec<Option<f64>> = rows.iter().map(|row| of(row)).collect();
                let explanations = values.iter().flatten().count();
                let figure = draws.interval(&Scores { by_seed: vec![values] })?;
                Some((name.clone(), Measure { title: title.clone(), explanations, figure }))
            })
            .collect()
    };
    let sliced = |slice: &dyn Fn(&QualityRow) -> String| -> Named<Named<Measure>> {
        let mut names: Vec<String> = rows.iter().map(slice).collect();
        names.sort();
        names.dedup();
        let of = |name: String| {
            let members: Vec<&QualityRow> = rows.iter().filter(|row| slice(row) == name).collect();
            (name, figures(&members, true))
        };
        names.into_iter().map(of).collect()
    };
    let modality = |row: &QualityRow| match row.modalities.len() {
        0 => "none".to_owned(),
        _ => row.modalities.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + "),
    };
    Measures {
        explanations: rows.len(),
        all: figures(&rows.iter().collect::<Vec<_>>(), false),
        by_modality: sliced(&modality),
        by_documents: sliced(&|row| match row.documents {
            0 => "none".to_owned(),
            1 => "1 document".to_owned(),
            2 => "2 documents".to_owned(),
            _ => "3 or more".to_owned(),
        }),
    }
}

fn defined() -> Vec<Defined> {
    let mut all = Vec::new();
    let mut add = |sliced: bool, name: &str, title: &str, of: Value| {
        all.push(Defined { name: name.to_owned(), title: title.to_owned(), of, sliced });
    };
    for (place, name) in ["precision", "recall", "F1"].into_iter().enumerate() {
        let title = format!("Citation {name} against gold");
        let of: Value = Box::new(move |row| Some(row.cited?[place]));
        add(place == 2, &format!("citation_{}", name.to_lowercase()), &title, of);
    }
    add(
        false,
        "joint_f1",
        "Answer F1 times citation F1",
        Box::new(|row| Some(row.f1 * row.cited?[2])),
    );
    removals(&mut add);
    reasoning(&mut add);
    all
}

/// The figures of answers over other documents.
fn removals(add: &mut impl FnMut(bool, &str, &str, Value)) {
    let share = |is: bool| f64::from(u8::from(is));
    add(
        true,
        "changes_without_cited",
        "Answers that change without the cited documents",
        Box::new(move |row| Some(share(!row.without_cited.as_ref()?.same))),
    );
    add(
        false,
        "changes_without_others",
        "… without as many uncited documents",
        Box::new(move |row| Some(share(!row.without_others.as_ref()?.same))),
    );
    add(
        true,
        "citation_effect",
        "… the first less the second",
        Box::new(move |row| {
            let (cited, others) = (row.without_cited.as_ref()?, row.without_others.as_ref()?);
            Some(share(!cited.same) - share(!others.same))
        }),
    );
    add(
        false,
        "comprehensiveness",
        "F1 lost without the cited documents",
        Box::new(|row| Some(row.f1 - row.without_cited.as_ref()?.f1)),
    );
    add(
        false,
        "comprehensiveness_control",
        "F1 lost without as many uncited ones",
        Box::new(|row| Some(row.f1 - row.without_others.as_ref()?.f1)),
    );
    add(
        false,
        "sufficiency",
        "F1 lost with the cited documents alone",
        Box::new(|row| Some(row.f1 - row.cited_only.as_ref()?.f1)),
    );
    add(
        true,
        "counterfactual_followed",
        "Answers that follow an edited cited document",
        Box::new(move |row| Some(share(row.counterfactual.as_ref()?.followed))),
    );
    add(
        false,
        "counterfactual_kept",
        "Answers that stay as they were all the same",
        Box::new(move |row| Some(share(row.counterfactual.as_ref()?.kept))),
    );
}

/// The figures of reasoning and of order.
fn reasoning(add: &mut impl FnMut(bool, &str, &str, Value)) {
    let share = |is: bool| f64::from(u8::from(is));
    for (nth, kept) in THINK_SHARES.into_iter().enumerate() {
        let percent = (100.0 * kept).round();
        add(
            nth == 0,
            &format!("same_with_think_{percent}"),
            &format!("Answers that stay with {percent} % of the reasoning"),
            Box::new(move |row| row.cut_think.get(nth).map(|same| share(*same))),
        );
    }
    add(
        false,
        "same_with_shuffled_think",
        "Answers that stay if the steps change places",
        Box::new(move |row| row.shuffled_think.map(share)),
    );
    add(
        false,
        "order_agrees",
        "Orders with the cited documents first",
        Box::new(move |row| row.order_agrees.map(share)),
    );
    add(
        false,
        "citation_auc",
        "A cited document stands before an uncited one",
        Box::new(|row| row.citation_auc),
    );
    add(false, "filter_tau", "Kendall’s τ of filter and order", Box::new(|row| row.filter_tau));
    add(
        true,
        "steps",
        "Steps of the reasoning",
        Box::new(|row| (row.steps > 0).then_some(row.steps as f64)),
    );
    add(
        false,
        "steps_naming",
        "Steps that name a document",
        Box::new(|row| (row.steps > 0).then(|| row.steps_naming as f64 / row.steps as f64)),
    );
    add(
        true,
        "gold_named",
        "Gold documents that the reasoning names",
        Box::new(|row| row.gold_named),
    );
}
