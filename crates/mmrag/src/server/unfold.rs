//! A reply while it is being written: what of it is reasoning, and what is answer.

use mmrag_task::without_labels;

/// The parts of a reply so far that later text will not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unfolded {
    /// The reasoning, with labels as written.
    pub(crate) reasoning: String,
    /// The answer, without labels.
    pub(crate) answer: String,
}

/// Reads a reply that may end anywhere.
pub(crate) fn unfold(text: &str) -> Unfolded {
    let reasoning = between(text, "<think>", "</think>").trim_start();
    let answer = between(text, "<answer>", "</answer>").trim_start();
    let settled = match answer.rfind('[') {
        Some(open) if !answer[open..].contains(']') => &answer[..open],
        _ => answer,
    };
    Unfolded { reasoning: reasoning.to_owned(), answer: without_labels(settled) }
}

/// What stands after the opening tag, without the closing one and without a beginning of it.
fn between<'t>(text: &'t str, open: &str, close: &str) -> &'t str {
    let Some(start) = text.find(open).map(|at| at + open.len()) else { return "" };
    let rest = &text[start..];
    if let Some(end) = rest.find(close) {
        return rest[..end].trim_end();
    }
    let kept = (1..close.len()).rev().find(|&n| rest.ends_with(&close[..n])).unwrap_or(0);
    rest[..rest.len() - kept].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_unfolds_without_taking_anything_back() {
        let whole = "<think>Olm [2] has it. So [1] too.</think><rank>[2,1]</rank>\
                     <answer>Ada Voss [2]; Bo Ek [1]</answer>";
        let mut before = Unfolded::default();
        for end in (0..=whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            let now = unfold(&whole[..end]);
            assert!(now.reasoning.starts_with(&before.reasoning), "{before:?} {now:?}");
            assert!(now.answer.starts_with(&before.answer), "{before:?} {now:?}");
            before = now;
        }
        assert_eq!(before.reasoning, "Olm [2] has it. So [1] too.");
        assert_eq!(before.answer, "Ada Voss; Bo Ek");
        assert_eq!(unfold("no tags"), Unfolded::default());
    }
}
