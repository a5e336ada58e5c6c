//! Measures the baselines without understanding, as they stand in this crate's README:
//! `cargo run -p mmrag-data --example atlas_baselines -- [SEED] [QUESTIONS]`.

#![expect(clippy::print_stdout, reason = "an example talks to who runs it")]

use std::error::Error;
use std::time::Instant;

use mmrag_core::Example;
use mmrag_data::atlas::baselines::{majority, measure};
use mmrag_data::atlas::{AtlasOptions, NameSplit, example};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let seed = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let n: u64 = arguments.next().map_or(Ok(1000), |text| text.parse())?;
    let options = AtlasOptions::default();
    let start = Instant::now();
    let make = |split| -> Vec<Example> {
        (0..n).map(|index| example(seed, split, index, &options)).collect()
    };
    let (seen, examples) = (make(NameSplit::Train), make(NameSplit::Dev));
    let each_ms = start.elapsed().as_secs_f64() * 1e3 / (2 * n) as f64;
    println!("{n} questions with seed {seed}; {each_ms:.2} ms to make one, pictures drawn\n");
    println!("| baseline | k | cited F1 | nDCG |\n|---|---:|---:|---:|");
    for reached in measure(&examples) {
        println!(
            "| {} | {} | {:.3} | {:.3} |",
            reached.name, reached.k, reached.cited_f1, reached.ndcg
        );
    }
    println!("\n| kind | questions | majority answer | exact match | BM25 cited F1 | BM25 nDCG |");
    println!("|---|---:|---|---:|---:|---:|");
    for row in majority(&seen, &examples) {
        let of_kind: Vec<Example> =
            examples.iter().filter(|example| example.kind == row.kind).cloned().collect();
        let bm25 = &measure(&of_kind)[0];
        println!(
            "| {} | {} | {} | {:.3} | {:.3} | {:.3} |",
            row.kind, row.n, row.answer, row.exact_match, bm25.cited_f1, bm25.ndcg
        );
    }
    Ok(())
}
