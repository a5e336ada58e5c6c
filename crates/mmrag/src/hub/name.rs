//! Names on the hub.

use std::fmt;

/// Bytes of a name that the hub takes at most.
const MAX_NAME: usize = 96;

const MAX_REVISION: usize = 255;

/// `ORG/NAME` with a branch, tag or commit. It holds nothing that would lead out of a folder or
/// would have to be escaped in a URL, the slashes of a branch aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HubName {
    /// `ORG/NAME`.
    pub(super) repository: String,
    /// A branch, tag or commit.
    pub(super) revision: String,
}

impl HubName {
    /// Reads `ORG/NAME[@REV]`; the revision is `main` if it is not said. Nothing if it is no
    /// name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (repository, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (org, name) = repository.split_once('/')?;
        let is_name = is_part(org) && is_part(name) && repository.len() <= MAX_NAME;
        let is_revision = revision.split('/').all(is_part) && revision.len() <= MAX_REVISION;
        (is_name && is_revision && !repository.contains("--"))
            .then(|| Self { repository: repository.into(), revision: revision.into() })
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.revision)
    }
}

/// Whether a text can stand between slashes: letters, digits, `-`, `_` and single `.`, at neither
/// end a `.` and not in front a `-`.
pub(super) fn is_part(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty()
        && text.bytes().all(known)
        && !text.starts_with(['.', '-'])
        && !text.ends_with('.')
        && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::HubName;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, &str)>) {
        let name = HubName::parse(text);
        let found = name.as_ref().map(|name| (name.repository.as_str(), name.revision.as_str()));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn names_are_org_and_name_with_or_without_a_revision() {
        check("Qwen/Qwen3-VL-2B-Instruct", Some(("Qwen/Qwen3-VL-2B-Instruct", "main")));
        check("org/a_b.c@refs/pr/1", Some(("org/a_b.c", "refs/pr/1")));
        check("org/name@v1.0", Some(("org/name", "v1.0")));
    }

    #[test]
    fn what_leads_elsewhere_is_no_name() {
        for text in [
            "",
            "name",
            "org/",
            "/name",
            "a/b/c",
            "../name",
            "org/..",
            "./model",
            "org/a..b",
            "~/m",
            "org/na me",
            "org/name@",
            "org/name@a/../b",
            "org/name@/a",
            "org/name@a/",
            "org/n?x=1",
            "org/name@-x",
            "org/name@a@b",
            "org\\name",
            "org/näme",
            "a--b/c",
            "-org/name",
        ] {
            check(text, None);
        }
        check(&format!("org/{}", "a".repeat(96)), None);
        check(&format!("org/name@{}", "a".repeat(256)), None);
    }
}
