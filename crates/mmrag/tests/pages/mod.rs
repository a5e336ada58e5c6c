//! PDF files, written by hand.

use std::io::Write as _;

/// Objects of a PDF, the first of them its catalogue, with their table of places.
pub(crate) fn pdf(objects: &[&str]) -> Vec<u8> {
    let mut bytes = b"%PDF-1.4\n".to_vec();
    let mut places = Vec::new();
    for (i, object) in objects.iter().enumerate() {
        places.push(bytes.len());
        write!(bytes, "{} 0 obj\n{object}\nendobj\n", i + 1).unwrap();
    }
    let table = bytes.len();
    write!(bytes, "xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).unwrap();
    for place in places {
        writeln!(bytes, "{place:010} 00000 n ").unwrap();
    }
    write!(
        bytes,
        "trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n",
        objects.len() + 1
    )
    .unwrap();
    bytes
}

/// A stream object with more in its dictionary.
pub(crate) fn stream(content: &str, more: &str) -> String {
    format!("<< /Length {} {more} >>\nstream\n{content}\nendstream", content.len())
}

/// A page with one line on it.
pub(crate) fn page_of_text(line: &str) -> Vec<u8> {
    let content = stream(&format!("BT /F1 24 Tf 72 700 Td ({line}) Tj ET"), "");
    pdf(&[
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R \
         /Resources << /Font << /F1 5 0 R >> >> >>",
        &content,
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ])
}
