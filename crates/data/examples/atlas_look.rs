//! Prints questions of the atlas and writes a sheet of its pictures, to look at them:
//! `cargo run -p mmrag-data --example atlas_look -- [SEED] [QUESTIONS] [SHEET.png]`.

#![expect(clippy::print_stdout, reason = "an example talks to who runs it")]

use std::error::Error;

use image::{GenericImage, RgbImage};
use mmrag_core::{Content, Document, ImageSource};
use mmrag_data::atlas::{AtlasOptions, NameSplit, SIDE, description, example};

const COLUMNS: u32 = 12;
const ROWS: u32 = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let seed = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let questions = arguments.next().map_or(Ok(20), |text| text.parse())?;
    for index in 0..questions {
        print_example(seed, index);
    }
    let side = SIDE as u32 + 4;
    let mut sheet = RgbImage::new(COLUMNS * side, ROWS * side);
    for index in 0..COLUMNS * ROWS {
        let (document, text) = description(seed, NameSplit::Sft, u64::from(index));
        if index < COLUMNS {
            println!("{}: {text}", document.title);
        }
        if let Content::Image(ImageSource::Bytes(bytes)) = &document.content {
            let picture = image::load_from_memory(bytes)?.to_rgb8();
            sheet.copy_from(&picture, index % COLUMNS * side, index / COLUMNS * side)?;
        }
    }
    if let Some(path) = arguments.next() {
        sheet.save(path)?;
    }
    Ok(())
}

fn print_example(seed: u64, index: u64) {
    let example = example(seed, NameSplit::Sft, index, &AtlasOptions::default());
    println!(
        "\n{} | {} | {}",
        example.kind,
        example.question.text,
        example.gold.answers.join("; ")
    );
    for step in &example.steps {
        println!("    {}", step.text);
    }
    for document in &example.candidates {
        let gold = if example.gold.documents.contains(&document.id) { "*" } else { " " };
        println!("  {gold} {}", line(document));
    }
}

fn line(document: &Document) -> String {
    let content = match &document.content {
        Content::Text(text) => text.clone(),
        Content::Table(table) => {
            let rows: Vec<String> = std::iter::once(&table.header)
                .chain(&table.rows)
                .map(|row| row.join(" "))
                .collect();
            rows.join(" / ")
        }
        Content::Image(ImageSource::Bytes(bytes)) => format!("(picture of {} bytes)", bytes.len()),
        Content::Image(ImageSource::Path(path)) => path.display().to_string(),
        Content::Image(ImageSource::Packed(packed)) => packed.file.display().to_string(),
    };
    format!("{}: {content}", document.title)
}
