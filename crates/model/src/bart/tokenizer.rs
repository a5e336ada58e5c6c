//! Texts to BART's tokens: byte-level BPE, with a token before and one behind.

use std::path::Path;

use tokenizers::Tokenizer;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::config::BartConfig;
use crate::error::ModelError;

pub(super) struct BartTokenizer {
    tokenizer: Tokenizer,
    begin: u32,
    end: u32,
}

impl BartTokenizer {
    /// Reads `tokenizer.json`, or else `vocab.json` and `merges.txt`.
    pub(super) fn load(dir: &Path, config: &BartConfig) -> Result<Self, ModelError> {
        let bad = |reason: String| ModelError::Tokenizer { path: dir.to_owned(), reason };
        let whole = dir.join("tokenizer.json");
        let parts = [dir.join("vocab.json"), dir.join("merges.txt")];
        let mut tokenizer = if whole.is_file() {
            Tokenizer::from_file(&whole).map_err(|error| bad(error.to_string()))?
        } else if parts.iter().all(|path| path.is_file()) {
            let [vocabulary, merges] = parts.map(|path| path.to_string_lossy().into_owned());
            let bpe = BPE::from_file(&vocabulary, &merges).build();
            let mut tokenizer = Tokenizer::new(bpe.map_err(|error| bad(error.to_string()))?);
            tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
            tokenizer
        } else {
            return Err(bad(
                "there is neither tokenizer.json nor vocab.json with merges.txt".into()
            ));
        };
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| bad(error.to_string()))?;
        Ok(Self { tokenizer, begin: config.begin, end: config.end })
    }

    /// The tokens of a text, special ones included, at most `most` of them: a longer text loses
    /// its end.
    pub(super) fn encode(&self, text: &str, most: usize) -> Result<Vec<u32>, ModelError> {
        let encoded = self.tokenizer.encode_fast(text, false);
        let encoded = encoded.map_err(|error| ModelError::Prompt { reason: error.to_string() })?;
        let inside = encoded.get_ids().iter().copied().take(most.saturating_sub(2));
        Ok(std::iter::once(self.begin).chain(inside).chain([self.end]).collect())
    }
}
