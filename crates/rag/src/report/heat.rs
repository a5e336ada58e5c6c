//! Which parts of a picture an answer rests on, drawn over it.

use std::fmt::Write as _;

use crate::explanation::Attribution;

/// How much of the picture is hidden where an attribution is strongest.
const STRONGEST: f64 = 0.75;

macro_rules! put {
    ($to:expr, $($part:tt)*) => {
        write!($to, $($part)*).expect("writing to a string does not fail")
    };
}

/// The patches that add something, as rectangles to lie over a picture of this shape: the more one
/// adds, the less is seen through it, and the strongest has a border.
pub(super) fn overlay(attribution: &Attribution, [width, height]: [u32; 2]) -> String {
    let support = attribution.support();
    let most = support.iter().copied().fold(0.0, f64::max);
    let label =
        format!("where it rests: {} of {}", attribution.method.title(), attribution.told.title());
    let mut svg =
        format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\">");
    let peak = attribution.peak();
    for (patch, share) in support.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        let [left, top, right, bottom] = attribution.area(patch);
        let (x, y) = (left * width as f32, top * height as f32);
        let (w, h) = ((right - left) * width as f32, (bottom - top) * height as f32);
        let opacity = share / most * STRONGEST;
        let class = if peak == Some(patch) { " class=\"peak\"" } else { "" };
        put!(
            svg,
            "<rect{class} x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill-opacity=\"{opacity:.2}\"/>"
        );
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use mmrag_core::{DocumentId, PatchShares};

    use super::*;
    use crate::explanation::Told;

    #[test]
    fn patches_that_add_are_drawn_as_strongly_as_they_add() {
        let shares = PatchShares { rows: 1, columns: 4, values: vec![1.0, 2.0, 0.0, -3.0] };
        let found = Attribution::of(1, &DocumentId::new("x"), Told::Answer, &shares);
        let svg = overlay(&found, [64, 32]);
        assert!(svg.contains("viewBox=\"0 0 64 32\"") && svg.contains("gradient × input"), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 2);
        let weak =
            "<rect x=\"0.0\" y=\"0.0\" width=\"16.0\" height=\"32.0\" fill-opacity=\"0.38\"/>";
        assert!(svg.contains(weak), "{svg}");
        assert!(
            svg.contains("<rect class=\"peak\" x=\"16.0\"") && svg.contains("\"0.75\""),
            "{svg}"
        );
    }
}
