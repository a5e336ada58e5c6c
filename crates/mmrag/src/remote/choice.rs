//! Which choice a reply makes, and how likely each was.

use super::wire::TokenLogprobs;

/// What stands before a verdict.
const OPENING: &str = "<answer>";

/// For each choice, the probability of all tokens that begin it: the choice itself in any case and
/// with blanks before it, or a first piece of it. A piece that begins several choices counts for
/// none.
pub(super) fn shares(likely: &[(String, f64)], choices: &[&str]) -> Vec<f64> {
    let mut shares = vec![0.0; choices.len()];
    for (token, logprob) in likely {
        if let Some(choice) = begun(token, choices) {
            shares[choice] += logprob.exp();
        }
    }
    shares
}

fn begun(token: &str, choices: &[&str]) -> Option<usize> {
    let token = token.trim().to_lowercase();
    let begins = |choice: &&str| choice.to_lowercase().starts_with(&token);
    let mut found = choices.iter().enumerate().filter(|(_, choice)| begins(choice));
    let first = found.next().filter(|_| !token.is_empty())?;
    found.next().is_none().then_some(first.0)
}

/// The index of the token that comes after the reply's `<answer>`.
pub(super) fn after_opening(tokens: &[TokenLogprobs]) -> Option<usize> {
    let mut text = String::new();
    for (index, token) in tokens.iter().enumerate() {
        text += &token.text;
        if text.contains(OPENING) {
            return Some(index + 1);
        }
    }
    None
}

/// Whether a reply that should have gone on after `<answer>` began with a tag of its own.
pub(super) fn begins_anew(tokens: &[TokenLogprobs]) -> bool {
    tokens.first().is_some_and(|token| token.text.trim_start().starts_with('<'))
}

/// The choice that a whole reply makes.
pub(super) fn said(text: &str, choices: &[&str]) -> Option<usize> {
    let verdict = text.rsplit_once(OPENING).map_or(text, |(_, verdict)| verdict);
    let verdict = verdict.trim_start().to_lowercase();
    choices.iter().position(|choice| verdict.starts_with(&choice.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_count_together_and_first_pieces_count() {
        let likely = [(" yes", 0.5f64), ("Yes", 0.25), ("N", 0.125), ("Maybe", 0.1), ("", 0.025)]
            .map(|(token, p)| (token.to_owned(), p.ln()));
        let found = shares(&likely, &["Yes", "No"]);
        assert!((found[0] - 0.75).abs() < 1e-12 && (found[1] - 0.125).abs() < 1e-12, "{found:?}");
        assert_eq!(shares(&[("N".into(), 0.0)], &["No", "Never"]), [0.0, 0.0]);
    }

    #[test]
    fn a_verdict_is_found_in_a_reply() {
        let choices = ["Yes", "No"];
        assert_eq!(said("<answer>yes</answer>", &choices), Some(0));
        assert_eq!(said(" No.", &choices), Some(1));
        assert_eq!(said("<think>Yes</think><answer>no</answer>", &choices), Some(1));
        assert_eq!(said("perhaps", &choices), None);
    }
}
