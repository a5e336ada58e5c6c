//! The assignment of rows to columns that has the greatest sum.

/// For each row the column it is matched with, each column at most once, so that the sum of the
/// matched `scores` is the greatest. Where there are more rows than columns some rows stay alone.
///
/// The Hungarian method with potentials, after Kuhn (1955) and Jonker and Volgenant (1987), in
/// O(rows² · columns).
pub(super) fn best(scores: &[Vec<f64>]) -> Vec<Option<usize>> {
    let (n_rows, n_columns) = (scores.len(), scores.first().map_or(0, Vec::len));
    if n_rows > n_columns {
        let transposed: Vec<Vec<f64>> =
            (0..n_columns).map(|column| scores.iter().map(|row| row[column]).collect()).collect();
        let mut of_row = vec![None; n_rows];
        for (column, row) in best(&transposed).into_iter().enumerate() {
            if let Some(row) = row {
                of_row[row] = Some(column);
            }
        }
        return of_row;
    }
    let mut matching = Matching::new(n_rows, n_columns);
    for row in 1..=n_rows {
        matching.add(row, scores);
    }
    let mut of_row = vec![None; n_rows];
    for column in 1..=n_columns {
        if matching.row_of[column] > 0 {
            of_row[matching.row_of[column] - 1] = Some(column - 1);
        }
    }
    of_row
}

/// A best matching of the rows added so far. Rows and columns count from 1; 0 stands for none.
struct Matching {
    row_of: Vec<usize>,
    row_potential: Vec<f64>,
    column_potential: Vec<f64>,
}

impl Matching {
    fn new(n_rows: usize, n_columns: usize) -> Self {
        Self {
            row_of: vec![0; n_columns + 1],
            row_potential: vec![0.0; n_rows + 1],
            column_potential: vec![0.0; n_columns + 1],
        }
    }

    /// Matches one more row along the cheapest augmenting path; costs are the scores negated.
    fn add(&mut self, row: usize, scores: &[Vec<f64>]) {
        let n = self.row_of.len();
        let mut cheapest = vec![f64::INFINITY; n];
        let mut came_from = vec![0; n];
        let mut is_reached = vec![false; n];
        self.row_of[0] = row;
        let mut column = 0;
        while self.row_of[column] != 0 {
            is_reached[column] = true;
            let (from, mut next, mut step) = (self.row_of[column], 0, f64::INFINITY);
            for to in 1..n {
                if is_reached[to] {
                    continue;
                }
                let cost = -scores[from - 1][to - 1]
                    - self.row_potential[from]
                    - self.column_potential[to];
                if cost < cheapest[to] {
                    cheapest[to] = cost;
                    came_from[to] = column;
                }
                if cheapest[to] < step {
                    step = cheapest[to];
                    next = to;
                }
            }
            for to in 0..n {
                if is_reached[to] {
                    self.row_potential[self.row_of[to]] += step;
                    self.column_potential[to] -= step;
                } else {
                    cheapest[to] -= step;
                }
            }
            column = next;
        }
        while column != 0 {
            self.row_of[column] = self.row_of[came_from[column]];
            column = came_from[column];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(scores: &[Vec<f64>]) -> f64 {
        let matched = best(scores);
        matched.iter().enumerate().filter_map(|(row, column)| Some(scores[row][(*column)?])).sum()
    }

    /// Tries every assignment.
    fn slow_sum(scores: &[Vec<f64>], used: &mut Vec<usize>) -> f64 {
        let Some((row, rest)) = scores.split_first() else { return 0.0 };
        let mut greatest = slow_sum(rest, used);
        for (column, score) in row.iter().enumerate() {
            if !used.contains(&column) {
                used.push(column);
                greatest = greatest.max(score + slow_sum(rest, used));
                used.pop();
            }
        }
        greatest
    }

    #[test]
    fn greed_is_not_the_best() {
        assert!((sum(&[vec![0.9, 0.8], vec![0.8, 0.0]]) - 1.6).abs() < 1e-12);
        assert_eq!(best(&[]), []);
        assert_eq!(best(&[vec![], vec![]]), [None, None]);
    }

    proptest! {
        #[test]
        fn no_assignment_is_better(
            (n_rows, n_columns) in (1usize..5, 1usize..5),
            values in proptest::collection::vec(0u8..=4, 16),
        ) {
            let scores: Vec<Vec<f64>> = (0..n_rows)
                .map(|row| (0..n_columns).map(|c| f64::from(values[row * 4 + c]) / 4.0).collect())
                .collect();
            let matched: Vec<usize> = best(&scores).into_iter().flatten().collect();
            let mut distinct = matched.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), n_rows.min(n_columns));
            prop_assert!((sum(&scores) - slow_sum(&scores, &mut Vec::new())).abs() < 1e-9);
        }
    }
}
