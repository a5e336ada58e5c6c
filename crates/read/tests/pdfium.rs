//! Pages read by a PDFium library beside those read by hayro. They need such a library:
//! `MMRAG_PDFIUM` names it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../mmrag/tests/pages/mod.rs"]
mod pages;

use std::path::PathBuf;

use mmrag_core::{Content, ImageSource};
use mmrag_read::{Kind, Options, Piece, Root, page_reader, read};
use pages::{page_of_text, pdf};

fn library() -> Option<PathBuf> {
    let named = std::env::var_os("MMRAG_PDFIUM");
    if named.is_none() {
        eprintln!("MMRAG_PDFIUM names no library: nothing is read by one here");
    }
    named.map(PathBuf::from)
}

fn pieces(bytes: &[u8], options: &Options) -> Result<Vec<Piece>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.pdf");
    std::fs::write(&path, bytes).unwrap();
    let root = Root::new(folder.path()).unwrap();
    match read(&path, Kind::Pdf, &root, options) {
        Ok(reading) => Ok(reading.pieces),
        Err(error) => Err(error.to_string()),
    }
}

fn by(library: PathBuf) -> Options {
    Options { pdfium: Some(library), ..Options::default() }
}

#[test]
fn a_library_that_is_none_is_told() {
    let told = pieces(&page_of_text("Olm"), &by("/no/libpdfium.so".into())).unwrap_err();
    assert!(told.contains("/no/libpdfium.so") && told.contains("does not load"), "{told}");
}

#[test]
fn both_read_the_same_words_at_the_same_places() {
    let Some(library) = library() else { return };
    let with = by(library);
    assert!(
        page_reader(&with).starts_with("PDFium")
            && page_reader(&Options::default()).starts_with("hayro")
    );
    let bytes = page_of_text("The harbour of Olm is old");
    let (a, b) = (pieces(&bytes, &Options::default()).unwrap(), pieces(&bytes, &with).unwrap());
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(&b) {
        assert_eq!((&a.title, a.origin.page), (&b.title, b.origin.page));
        match (&a.content, &b.content) {
            (Content::Text(a), Content::Text(b)) => assert_eq!(a, b),
            (Content::Image(a), Content::Image(b)) => assert_eq!(size(a), size(b)),
            other => panic!("{other:?}"),
        }
        let spans = |piece: &Piece| piece.origin.words.iter().map(|w| w.span).collect::<Vec<_>>();
        assert_eq!(spans(a), spans(b));
        for (a, b) in a.origin.words.iter().zip(&b.origin.words) {
            for (a, b) in a.area.iter().zip(b.area) {
                assert!((a - b).abs() < 0.015, "{a} and {b}");
            }
        }
    }
    assert!(a.iter().any(|piece| !piece.origin.words.is_empty()));
}

#[test]
fn broken_files_are_told() {
    let Some(library) = library() else { return };
    let with = by(library);
    assert!(pieces(b"no pdf at all", &with).unwrap_err().contains("no PDF"));
    let looping = "<< /Type /Pages /Kids [2 0 R] /Count 1 >>";
    let told = pieces(&pdf(&["<< /Type /Catalog /Pages 2 0 R >>", looping]), &with);
    assert!(told.is_err(), "{told:?}");
}

fn size(source: &ImageSource) -> (u32, u32) {
    let ImageSource::Bytes(bytes) = source else { panic!("{source:?}") };
    let picture = image::load_from_memory(bytes).unwrap();
    (picture.width(), picture.height())
}
