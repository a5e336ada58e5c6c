//! Text as HTML.

/// The text with everything that HTML reads as markup written out. Every text from outside goes
/// through here, in content and in quoted attributes alike.
pub(super) fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\0' => html.push('\u{fffd}'),
            c => html.push(c),
        }
    }
    html
}

/// The same of a name such as `Compose(ImageQ,TextQ)`, that may be broken where it is put together.
pub(super) fn breakable(name: &str) -> String {
    escaped(name).replace('(', "(<wbr>").replace(',', ",<wbr>").replace('_', "_<wbr>")
}

/// A fraction in percent, with one decimal.
pub(super) fn percent(fraction: f64) -> String {
    format!("{:.1}", fraction * 100.0)
}

/// A difference of fractions in percentage points, with its sign.
pub(super) fn points(difference: f64) -> String {
    let rounded = (difference * 1000.0).round() / 10.0;
    match rounded {
        0.0 => "0.0".to_owned(),
        negative if negative < 0.0 => format!("−{:.1}", -negative),
        positive => format!("+{positive:.1}"),
    }
}

/// A p value.
pub(super) fn p_value(p: f64) -> String {
    if p < 0.001 { "&lt; 0.001".to_owned() } else { format!("{p:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_from_outside_is_text() {
        let found = escaped("<script>alert(\"x\" + 'y' && 1)</script>");
        let expected =
            "&lt;script&gt;alert(&quot;x&quot; + &#39;y&#39; &amp;&amp; 1)&lt;/script&gt;";
        assert_eq!(found, expected);
    }

    #[test]
    fn names_may_be_broken_and_stay_escaped() {
        assert_eq!(breakable("Compose(A,<b>)"), "Compose(<wbr>A,<wbr>&lt;b&gt;)");
    }

    #[test]
    fn figures_as_people_read_them() {
        assert_eq!(percent(0.7349), "73.5");
        assert_eq!(points(0.0004), "0.0");
        assert_eq!(points(-0.0451), "−4.5");
        assert_eq!(points(0.2), "+20.0");
        assert_eq!(p_value(0.0001), "&lt; 0.001");
    }
}
