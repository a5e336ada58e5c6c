//! What is said when a model does not come: what is missing, what was tried, and what to do.

use std::path::PathBuf;

use anyhow::anyhow;

use super::cache::Held;
use super::files::Kind;
use super::name::HubName;
use super::repository::Trouble;
use super::variables::Variables;

/// What every refusal tells of.
pub(super) struct Refusal<'a> {
    /// What is wanted.
    pub(super) kind: Kind,
    /// Its name.
    pub(super) name: &'a HubName,
    /// Where it was looked for.
    pub(super) variables: &'a Variables,
    /// Its folder in the cache.
    pub(super) place: PathBuf,
    /// What the cache holds of it.
    pub(super) held: &'a Held,
}

impl Refusal<'_> {
    /// The hub may not be asked.
    pub(super) fn offline(&self) -> anyhow::Error {
        let mend = "unset HF_HUB_OFFLINE to download it";
        self.told(&self.sought("HF_HUB_OFFLINE forbids to ask the hub"), mend)
    }

    /// The hub does not give a file, or does not say what there is.
    pub(super) fn because(&self, file: Option<&str>, trouble: &Trouble) -> anyhow::Error {
        let why = self.why(trouble);
        let what = match file {
            Some(file) => {
                format!(
                    "failed to download {file} of the {} {}: {why}",
                    self.kind.what(),
                    self.name
                )
            }
            None => self.sought(&why),
        };
        self.told(&what, &self.mend(trouble))
    }

    /// The repository holds nothing that can be loaded.
    pub(super) fn unfit(&self, reason: &str) -> anyhow::Error {
        let (what, endpoint) = (self.kind.what(), &self.variables.endpoint);
        anyhow!("failed to use the {what} {} of {endpoint}: {reason}", self.name)
    }

    fn sought(&self, why: &str) -> String {
        let HubName { repository, .. } = self.name;
        format!(
            "failed to find the {} {}: there is no folder {repository}, and {why}",
            self.kind.what(),
            self.name
        )
    }

    fn why(&self, trouble: &Trouble) -> String {
        let endpoint = &self.variables.endpoint;
        match trouble {
            Trouble::Unreachable(error) => format!("{endpoint} cannot be reached ({error})"),
            Trouble::Refused { status: 401 | 403, .. } => format!(
                "{endpoint} does not give it: it is gated or private, or there is no such model \
                 ({trouble})"
            ),
            Trouble::Refused { status: 404, .. } => {
                format!("{endpoint} knows no such model or revision ({trouble})")
            }
            Trouble::Refused { .. } => format!("{endpoint} does not give it ({trouble})"),
            Trouble::Broken(_) | Trouble::Other(_) => trouble.to_string(),
        }
    }

    fn mend(&self, trouble: &Trouble) -> String {
        let asked = match self.variables.token {
            Some(_) => "it was asked with the token that is set",
            None => "it was asked without a token",
        };
        match trouble {
            Trouble::Unreachable(_) => {
                "see to the network (HTTPS_PROXY names a proxy), or set HF_ENDPOINT to a mirror; \
                 what has come is kept"
                    .to_owned()
            }
            Trouble::Refused { status: 401 | 403, .. } => format!(
                "accept the model's terms on its page, and set HF_TOKEN to a token that may read \
                 it ({asked})"
            ),
            Trouble::Refused { status: 404, .. } => format!(
                "look at the spelling of ORG/NAME@REV; a private model needs HF_TOKEN ({asked})"
            ),
            Trouble::Refused { .. } | Trouble::Broken(_) => {
                "try again: the same command goes on where this one stopped".to_owned()
            }
            Trouble::Other(_) => "look at HF_ENDPOINT and at the folder of the cache".to_owned(),
        }
    }

    fn told(&self, what: &str, mend: &str) -> anyhow::Error {
        let held = match self.held {
            Held::Nothing => "holds nothing of it".to_owned(),
            Held::Lacking(files) => format!("lacks {}", files.join(", ")),
            Held::Usable(_) | Held::Whole(_) => "holds its config and weights".to_owned(),
        };
        let place = self.place.display();
        let by_hand = match self.kind {
            Kind::Model => {
                "config.json, preprocessor_config.json, tokenizer.json, tokenizer_config.json, \
                 chat_template.jinja and model.safetensors (or model.safetensors.index.json and \
                 its shards) into a folder and name it with --model DIR"
            }
            Kind::Adapter => {
                "adapter_config.json and adapter_model.safetensors into a folder and name it"
            }
        };
        anyhow!(
            "{what}\n  the cache: {place} {held}\n  the mend: {mend}\n  by hand: put {by_hand}; \
             or copy {place} from a machine that has it (HF_HUB_CACHE or HF_HOME says where the \
             cache is)"
        )
    }
}
