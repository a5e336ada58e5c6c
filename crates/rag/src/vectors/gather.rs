//! Putting the rows of a file into lists: k-means over a sample of the rows, by inner products of
//! unit centres, then each row into the list of the centre that is most like it. Rows and centres
//! are compared as whole numbers, which is quick and decides nothing but where a row lies.
//!
//! Nothing is drawn by chance: samples are every n-th row, so the same file gives the same lists.

use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::flat::{Flat, dot, scale, whole};
use super::layout::{self, Layout};
use super::listed::{RECALL, TUNED_AT, nearest_first};
use super::{Precision, VectorIndex as _};
use crate::error::RagError;

/// Lists for each square root of the number of rows.
const LISTS_A_ROOT: f64 = 2.0;
/// Rows of the sample for each list.
const SAMPLE_A_LIST: usize = 32;
const ROUNDS: usize = 8;
/// Questions by which it is found out how many lists to look through.
const QUESTIONS: usize = 100;
/// Rows that are put into lists between two looks at whether to stop.
const TOGETHER: usize = 1 << 16;

/// Writes a copy of a file whose rows are in lists, which appears whole or not at all. Whether it
/// was written: not if `goes_on`, which is told the share that is done, says no.
///
/// # Errors
///
/// When the file cannot be written.
pub fn gather(flat: &Flat, path: &Path, goes_on: &dyn Fn(f64) -> bool) -> Result<bool, RagError> {
    let n_lists = ((flat.len() as f64).sqrt() * LISTS_A_ROOT).round() as usize;
    let n_lists = n_lists.clamp(1, flat.len().max(1));
    let Some(centres) = centres(flat, n_lists, goes_on) else { return Ok(false) };
    let compact = Compact::of(&centres, flat.width());
    let mut list_of: Vec<u32> = Vec::with_capacity(flat.len());
    while list_of.len() < flat.len() {
        let rows = list_of.len()..(list_of.len() + TOGETHER).min(flat.len());
        list_of.par_extend(rows.into_par_iter().map(|row| compact.most_like(&flat.row(row))));
        if !goes_on(0.25 + 0.5 * list_of.len() as f64 / flat.len() as f64) {
            return Ok(false);
        }
    }
    let probes = probes(flat, &centres, &list_of);
    if !goes_on(0.9) {
        return Ok(false);
    }
    let digest = digest(&centres, probes, &list_of);
    let layout = Layout { n_lists, probes, digest, ..flat.layout };
    write(flat, path, &layout, &centres, &list_of)?;
    Ok(true)
}

/// Centres of unit length, one after the other.
fn centres(flat: &Flat, n_lists: usize, goes_on: &dyn Fn(f64) -> bool) -> Option<Vec<f32>> {
    let width = flat.width();
    let sample = every_nth(flat, n_lists * SAMPLE_A_LIST);
    if sample.is_empty() {
        return Some(vec![0.0; n_lists * width]);
    }
    let mut centres: Vec<f32> =
        (0..n_lists).flat_map(|i| unit(sample[i * sample.len() / n_lists].clone())).collect();
    for round in 0..ROUNDS {
        if !goes_on(0.25 * round as f64 / ROUNDS as f64) {
            return None;
        }
        let compact = Compact::of(&centres, width);
        let of: Vec<u32> = sample.par_iter().map(|row| compact.most_like(row)).collect();
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); n_lists];
        for (row, list) in of.iter().enumerate() {
            members[*list as usize].push(row);
        }
        let moved = centres.par_chunks_exact(width).zip(members.par_iter()).enumerate();
        let moved = moved.map(|(i, (before, members))| match members.as_slice() {
            // A centre that nothing is like goes where there are rows.
            [] => unit(sample[(i * 7919 + round) % sample.len()].clone()),
            members => middle(members.iter().map(|row| &sample[*row]), before),
        });
        centres = moved.flatten_iter().collect();
    }
    Some(centres)
}

/// At most `n` rows, in even steps.
fn every_nth(flat: &Flat, n: usize) -> Vec<Vec<f32>> {
    let n = n.min(flat.len());
    (0..n).into_par_iter().map(|i| flat.row(i * flat.len() / n)).collect()
}

/// The mean at length 1; where that has no length, the centre as it was.
fn middle<'a>(rows: impl Iterator<Item = &'a Vec<f32>>, before: &[f32]) -> Vec<f32> {
    let mut sum = vec![0.0f32; before.len()];
    for row in rows {
        for (sum, x) in sum.iter_mut().zip(row) {
            *sum += x;
        }
    }
    if sum.iter().all(|x| *x == 0.0) { before.to_vec() } else { unit(sum) }
}

fn unit(mut row: Vec<f32>) -> Vec<f32> {
    let length = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    for x in &mut row {
        *x /= length;
    }
    row
}

/// Centres as whole numbers.
struct Compact {
    width: usize,
    values: Vec<i8>,
    scales: Vec<f32>,
}

impl Compact {
    fn of(centres: &[f32], width: usize) -> Self {
        let rows = || centres.par_chunks_exact(width);
        let values = rows().flat_map_iter(whole).collect();
        Self { width, values, scales: rows().map(scale).collect() }
    }

    /// The centre with the largest inner product, of equal ones the first.
    fn most_like(&self, row: &[f32]) -> u32 {
        let row = whole(row);
        let mut best = (f32::NEG_INFINITY, 0);
        for (i, centre) in self.values.chunks_exact(self.width).enumerate() {
            let score = dot(&row, centre) * self.scales[i];
            if score > best.0 {
                best = (score, i as u32);
            }
        }
        best.1
    }
}

/// In how many lists, those most like the question first, [`RECALL`] of what the exact search finds
/// lies. It is tried with questions that are like a document, and with those that are like none in
/// particular, as words are to pictures; what the harder ones need is taken.
fn probes(flat: &Flat, centres: &[f32], list_of: &[u32]) -> usize {
    let rows = every_nth(flat, QUESTIONS);
    // The i-th question is made of these parts of the rows i, i + n/4, i + n/2, i + 3n/4 of n.
    let kinds = [[1.0, 0.5, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]];
    let needed = kinds.iter().map(|parts| {
        let question = |i: usize| {
            let mut sum = vec![0.0; flat.width()];
            for (j, part) in parts.iter().enumerate() {
                let row = &rows[(i + j * rows.len() / 4) % rows.len()];
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += part * x);
            }
            unit(sum)
        };
        needed(flat, centres, list_of, &(0..rows.len()).map(question).collect::<Vec<_>>())
    });
    needed.max().unwrap_or(1)
}

fn needed(flat: &Flat, centres: &[f32], list_of: &[u32], questions: &[Vec<f32>]) -> usize {
    let n_lists = centres.len() / flat.width();
    let found: Vec<Vec<u64>> = questions
        .iter()
        .map(|question| {
            flat.search(question, TUNED_AT, &|_| true).iter().map(|near| near.number).collect()
        })
        .collect();
    let lists = lists_of(flat, list_of, found.iter().flatten());
    let mut places: Vec<usize> = Vec::new();
    for (question, found) in questions.iter().zip(found.iter()) {
        let mut place = vec![0; n_lists];
        for (at, list) in nearest_first(centres, question).into_iter().enumerate() {
            place[list] = at;
        }
        places.extend(found.iter().map(|number| place[lists[number] as usize]));
    }
    places.sort_unstable();
    let needed = (places.len() as f64 * RECALL).ceil() as usize;
    places.get(needed.max(1) - 1).map_or(n_lists, |place| place + 1)
}

/// The lists of rows by their numbers.
fn lists_of<'a>(
    flat: &Flat,
    list_of: &[u32],
    numbers: impl Iterator<Item = &'a u64>,
) -> std::collections::HashMap<u64, u32> {
    let wanted: std::collections::HashSet<u64> = numbers.copied().collect();
    let numbered = flat.numbers().iter().copied().zip(list_of.iter().copied());
    numbered.filter(|(number, _)| wanted.contains(number)).collect()
}

fn digest(centres: &[f32], probes: usize, list_of: &[u32]) -> [u8; 8] {
    let mut hash = Sha256::new();
    hash.update((probes as u64).to_le_bytes());
    hash.update(bytemuck::cast_slice::<f32, u8>(centres));
    hash.update(bytemuck::cast_slice::<u32, u8>(list_of));
    hash.finalize()[..8].try_into().expect("a SHA-256 has 32 bytes")
}

/// Writes the rows in the order of their lists, as they lie.
fn write(
    flat: &Flat,
    path: &Path,
    layout: &Layout,
    centres: &[f32],
    list_of: &[u32],
) -> Result<(), RagError> {
    let mut starts = vec![0u64; layout.n_lists + 1];
    for list in list_of {
        starts[*list as usize + 1] += 1;
    }
    for i in 0..layout.n_lists {
        starts[i + 1] += starts[i];
    }
    let mut rows: Vec<usize> = (0..list_of.len()).collect();
    rows.sort_by_key(|row| list_of[*row]);
    layout::write(path, |out| {
        out.add(&layout.header())?;
        rows.iter().try_for_each(|row| out.add(&flat.numbers()[*row].to_le_bytes()))?;
        out.pad()?;
        if layout.precision == Precision::Int8 {
            rows.iter().try_for_each(|row| out.add(&flat.scales()[*row].to_le_bytes()))?;
            out.pad()?;
        }
        rows.iter().try_for_each(|row| out.add(flat.row_at(*row)))?;
        out.pad()?;
        out.add(bytemuck::cast_slice(&starts))?;
        out.pad()?;
        out.add(bytemuck::cast_slice(centres))
    })
}
