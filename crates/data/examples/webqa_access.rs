//! How fast are single pictures found in an `imgs.tsv` of full size, and in how much memory?
//!
//! `webqa_access DIR [GIGABYTES]` writes an `imgs.tsv` with as many rows as WebQA's has, most of
//! the file being holes, so that it takes little of the disk; reads pictures at random; prints
//! figures; and removes the file.

#![expect(clippy::print_stdout, reason = "the figures are what the example is for")]

use std::fs::{self, File};
use std::io::{BufWriter, Cursor, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mmrag_data::webqa::Images;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const N_ROWS: u64 = 389_750;
const FIRST_ID: u64 = 30_000_000;
/// Every so manieth row holds a picture of usual size, the others a tiny one.
const LARGE_EVERY: u64 = 100;
const N_READS: u64 = 20_000;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("usage: webqa_access DIR [GIGABYTES]")?;
    let gigabytes: u64 = arguments.next().map_or(Ok(20), |text| text.parse())?;
    let dir = Path::new(&dir);
    fs::create_dir_all(dir)?;
    let began = Instant::now();
    let size = write(dir, gigabytes * 1_000_000_000 / N_ROWS)?;
    println!("wrote {:.1} GB in {:.1} s", size as f64 / 1e9, began.elapsed().as_secs_f64());
    let outcome = measure(dir);
    fs::remove_file(dir.join("imgs.tsv"))?;
    fs::remove_file(dir.join("imgs.lineidx"))?;
    outcome
}

fn measure(dir: &Path) -> Outcome<()> {
    let before = resident_mb()?;
    let began = Instant::now();
    let images = Images::open(dir, &mut Vec::new())?;
    println!("opened {} rows in {:.3} s", images.len(), began.elapsed().as_secs_f64());
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (mut n_bytes, mut most) = (0, 0.0_f64);
    let began = Instant::now();
    for i in 0..N_READS {
        let mut id = FIRST_ID + random.random_range(0..N_ROWS);
        if i % 2 == 0 {
            id -= id % LARGE_EVERY;
        }
        let bytes = images.unpack(&images.find(id)?)?;
        n_bytes += bytes.len();
        if i % 1000 == 0 {
            most = most.max(resident_mb()?);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{N_READS} pictures at random in {seconds:.2} s: {:.1} microseconds and {:.1} kB each",
        seconds / N_READS as f64 * 1e6,
        n_bytes as f64 / N_READS as f64 / 1e3
    );
    println!("resident memory: {before:.0} MB before, {most:.0} MB at most between reads");
    println!("peak of the process: {:.0} MB", status_mb("VmHWM")?);
    Ok(())
}

fn picture(side: u32) -> Outcome<Vec<u8>> {
    let noise = |x: u32, y: u32| image::Rgb([x * y, x * 7 + y, x ^ (y * 31)].map(|v| v as u8));
    let mut bytes = Cursor::new(Vec::new());
    image::RgbImage::from_fn(side, side, noise).write_to(&mut bytes, image::ImageFormat::Jpeg)?;
    Ok(bytes.into_inner())
}

fn write(dir: &Path, spacing: u64) -> Outcome<u64> {
    let [large, small] = [picture(224)?, picture(8)?].map(|bytes| BASE64_STANDARD.encode(bytes));
    let mut rows = File::create(dir.join("imgs.tsv"))?;
    let mut index = BufWriter::new(File::create(dir.join("imgs.lineidx"))?);
    for i in 0..N_ROWS {
        let body = if i % LARGE_EVERY == 0 { &large } else { &small };
        rows.seek(SeekFrom::Start(i * spacing))?;
        rows.write_all(format!("{}\t{body}\n", FIRST_ID + i).as_bytes())?;
        writeln!(index, "{}", i * spacing)?;
    }
    index.flush()?;
    rows.set_len(N_ROWS * spacing)?;
    Ok(N_ROWS * spacing)
}

fn resident_mb() -> Outcome<f64> {
    status_mb("VmRSS")
}

/// A line of what Linux tells of this process, in megabytes.
fn status_mb(name: &str) -> Outcome<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(name)).ok_or("no such line")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib * 1024.0 / 1e6)
}
