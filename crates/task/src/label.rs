//! Labels: `[3]`, or `[1, 2]`, as a way to name shown documents in a reply.

/// A group of labels in brackets, as it stands at the start of a text.
struct Group {
    labels: Vec<usize>,
    length: usize,
}

/// The labels a text names, in order of mention, each as often as it is named.
pub fn labels_in(text: &str) -> Vec<usize> {
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        rest = &rest[at..];
        match group_at_start(rest) {
            Some(group) => {
                labels.extend(group.labels);
                rest = &rest[group.length..];
            }
            None => rest = &rest[1..],
        }
    }
    labels
}

/// The text without its labels and the blanks before them, trimmed.
pub fn without_labels(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(group) = group_at_start(rest) {
            kept.truncate(kept.trim_end().len());
            rest = &rest[group.length..];
        } else {
            kept.push('[');
            rest = &rest[1..];
        }
    }
    kept.push_str(rest);
    kept.trim().to_string()
}

fn group_at_start(text: &str) -> Option<Group> {
    let inside = text.strip_prefix('[')?;
    let end = inside.find(']')?;
    let labels: Option<Vec<usize>> = inside[..end].split(',').map(label).collect();
    Some(Group { labels: labels?, length: end + 2 })
}

/// One label's number. More than six digits are no label: no prompt shows that many documents.
fn label(text: &str) -> Option<usize> {
    let text = text.trim_matches(' ');
    let is_number = (1..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_where_they_stand() {
        let check = |text: &str, labels: &[usize], without: &str| {
            assert_eq!(labels_in(text), labels, "{text}");
            assert_eq!(without_labels(text), without, "{text}");
        };
        check("", &[], "");
        check("Paris [2]", &[2], "Paris");
        check("Paris [2]; Rome [1][3]", &[2, 1, 3], "Paris; Rome");
        check("[2] says so [2, 4].", &[2, 2, 4], "says so.");
        check("[x] [1 2] [] [-1] [1234567]", &[], "[x] [1 2] [] [-1] [1234567]");
        check("open [3", &[], "open [3");
        check("[[1]2]", &[1], "[2]");
        check("é[1]é", &[1], "éé");
    }
}
