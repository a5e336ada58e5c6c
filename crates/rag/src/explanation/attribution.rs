//! Where in a cited picture an answer rests.

use mmrag_core::{DocumentId, PatchShares};
use serde::{Deserialize, Serialize};

/// Which parts of a cited picture what was written rests on.
///
/// ```
/// use mmrag_core::{DocumentId, PatchShares};
/// use mmrag_rag::explanation::{Attribution, Told};
///
/// let shares = PatchShares { rows: 1, columns: 2, values: vec![0.3, -0.1] };
/// let found = Attribution::of(1, &DocumentId::new("flag"), Told::Answer, &shares);
/// assert_eq!(found.values, [0.75, -0.25]);
/// assert_eq!(found.peak(), Some(0));
/// assert_eq!(found.area(1), [0.5, 0.0, 1.0, 1.0]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// The picture's label in the ranker's prompt.
    pub label: usize,
    /// The picture's document.
    pub document: DocumentId,
    /// How it was found out.
    pub method: Method,
    /// Of what part of the reply.
    pub told: Told,
    /// Rows and columns of patches that the policy sees the picture as. They cover it evenly.
    pub grid: [usize; 2],
    /// For each patch, row by row, its share: what it adds to what was told, over the sum of all
    /// patches' amounts. Below 0 where it speaks against it; the amounts sum to 1, or are all 0.
    pub values: Vec<f64>,
}

/// How an attribution was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    /// The gradient of the log-probability by the picture's features, times the features.
    GradientTimesInput,
}

impl Method {
    /// What it is called, for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::GradientTimesInput => "gradient × input",
        }
    }
}

/// Which part of a reply is asked about; the rest of it is taken as given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// The answer, without its citations.
    #[default]
    Answer,
    /// The steps of the reasoning that name the picture.
    Reasoning,
}

impl Told {
    /// What it is called, for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Answer => "the answer",
            Self::Reasoning => "the steps about it",
        }
    }
}

impl Attribution {
    /// The attribution of a picture from what its patches add.
    pub fn of(label: usize, document: &DocumentId, told: Told, shares: &PatchShares) -> Self {
        let values = shares.values.iter().map(|value| f64::from(*value));
        let total: f64 = values.clone().map(f64::abs).sum();
        let share = |value: f64| if total > 0.0 { rounded(value / total) } else { 0.0 };
        Self {
            label,
            document: document.clone(),
            method: Method::GradientTimesInput,
            told,
            grid: [shares.rows, shares.columns],
            values: values.map(share).collect(),
        }
    }

    /// Where a patch lies: left, top, right and bottom edge as shares of the picture's width and
    /// height.
    pub fn area(&self, patch: usize) -> [f32; 4] {
        let [rows, columns] = self.grid.map(|n| n.max(1));
        let (row, column) = ((patch / columns) as f32, (patch % columns) as f32);
        let (rows, columns) = (rows as f32, columns as f32);
        [column / columns, row / rows, (column + 1.0) / columns, (row + 1.0) / rows]
    }

    /// The patch that adds most; the first of several. None if no patch adds anything.
    pub fn peak(&self) -> Option<usize> {
        let most = self.values.iter().copied().fold(0.0, f64::max);
        if most <= 0.0 {
            return None;
        }
        self.values.iter().position(|value| *value == most)
    }

    /// The shares of the patches that add something, so that they sum to 1; all 0 if none does.
    pub fn support(&self) -> Vec<f64> {
        let total: f64 = self.values.iter().map(|value| value.max(0.0)).sum();
        let share = |value: &f64| if total > 0.0 { value.max(0.0) / total } else { 0.0 };
        self.values.iter().map(share).collect()
    }
}

/// To ten-thousandths: more digits would say nothing.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f32]) -> Attribution {
        let shares = PatchShares { rows: 2, columns: values.len() / 2, values: values.to_vec() };
        Attribution::of(3, &DocumentId::new("x"), Told::Answer, &shares)
    }

    #[test]
    fn amounts_sum_to_one_and_keep_their_signs() {
        let found = of(&[2.0, -1.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(found.grid, [2, 3]);
        assert_eq!(found.values, [0.5, -0.25, 0.0, 0.25, 0.0, 0.0]);
        assert_eq!(found.peak(), Some(0));
        let support = found.support();
        assert!((support[0] - 2.0 / 3.0).abs() < 1e-6 && support[1] == 0.0);
        assert_eq!(found.area(5), [2.0 / 3.0, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn nothing_stays_nothing() {
        let found = of(&[0.0; 4]);
        assert_eq!((found.values.clone(), found.peak()), (vec![0.0; 4], None));
        assert_eq!(of(&[-1.0, -1.0]).peak(), None);
        assert_eq!(of(&[-1.0, -1.0]).support(), [0.0, 0.0]);
    }

    #[test]
    fn its_json_says_what_it_is() {
        let json = serde_json::to_value(of(&[1.0, 0.0])).unwrap();
        assert_eq!(json["method"], "gradient_times_input");
        assert_eq!(json["told"], "answer");
        assert_eq!(serde_json::from_value::<Attribution>(json).unwrap(), of(&[1.0, 0.0]));
    }
}
