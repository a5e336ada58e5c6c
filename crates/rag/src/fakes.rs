//! Engines that do what a test says: no model, no weights, no draws.

use std::sync::Mutex;

use mmrag_core::{
    Choose, Completion, Content, Document, Embed, EngineError, Finish, Generate, Part, Prompt,
    Sampling,
};

use crate::version::digest;

/// Tokens that a picture takes in the fakes.
const PICTURE_TOKENS: usize = 16;

/// All text of a prompt in order, pictures as `<picture>`.
pub fn prompt_text(prompt: &Prompt) -> String {
    let parts = prompt.messages.iter().flat_map(|message| &message.parts);
    let pieces: Vec<&str> = parts
        .map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Image(_) => "<picture>",
        })
        .collect();
    pieces.join("\n") + &prompt.reply_prefix
}

type Script<R> = Box<dyn Fn(&Prompt) -> Result<R, EngineError> + Send + Sync>;

/// Replies as a function of the prompt says. A token is a word.
///
/// ```
/// use mmrag_core::{Generate, Message, Part, Prompt, Role, Sampling};
/// use mmrag_rag::fakes::ScriptedGenerate;
///
/// let engine = ScriptedGenerate::new(|_| "<answer>red [1]</answer>".to_owned());
/// let user = Message { role: Role::User, parts: vec![Part::Text("What colour?".into())] };
/// let prompt = Prompt { messages: vec![user], reply_prefix: String::new(), reasons: true };
/// let replies = engine.generate(&[prompt], &Sampling::greedy(9)).unwrap();
/// assert_eq!(replies[0][0].text, "<answer>red [1]</answer>");
/// assert_eq!(engine.calls(), [1]);
/// ```
pub struct ScriptedGenerate {
    script: Script<String>,
    probability: f64,
    calls: Mutex<Vec<usize>>,
}

impl ScriptedGenerate {
    /// An engine that replies what `script` gives for the prompt. Every token has probability 0.9.
    pub fn new(script: impl Fn(&Prompt) -> String + Send + Sync + 'static) -> Self {
        Self::fallible(move |prompt| Ok(script(prompt)))
    }

    /// An engine that can also fail on a prompt, while generating and while counting tokens.
    pub fn fallible(
        script: impl Fn(&Prompt) -> Result<String, EngineError> + Send + Sync + 'static,
    ) -> Self {
        Self { script: Box::new(script), probability: 0.9, calls: Mutex::default() }
    }

    /// How many prompts each call of `generate` had so far.
    pub fn calls(&self) -> Vec<usize> {
        self.calls.lock().expect("no test panics while it holds the lock").clone()
    }
}

impl Generate for ScriptedGenerate {
    fn generate(
        &self,
        prompts: &[Prompt],
        sampling: &Sampling,
    ) -> Result<Vec<Vec<Completion>>, EngineError> {
        self.calls.lock().expect("no test panics while it holds the lock").push(prompts.len());
        prompts
            .iter()
            .map(|prompt| {
                let text = (self.script)(prompt)?;
                let tokens: Vec<u32> = (0..=text.split_whitespace().count() as u32).collect();
                let sampled_logprobs = vec![self.probability.ln() as f32; tokens.len()];
                let finish = Finish::Stop;
                let completion = Completion { text, tokens, sampled_logprobs, finish };
                Ok(vec![completion; sampling.n])
            })
            .collect()
    }

    fn count_tokens(&self, prompt: &Prompt) -> Result<usize, EngineError> {
        (self.script)(prompt)?;
        let parts = prompt.messages.iter().flat_map(|message| &message.parts);
        let shown: usize = parts
            .map(|part| match part {
                Part::Text(text) => text.split_whitespace().count(),
                Part::Image(_) => PICTURE_TOKENS,
            })
            .sum();
        Ok(shown + prompt.reply_prefix.split_whitespace().count())
    }
}

type ChoiceScript = Box<dyn Fn(&Prompt, &str) -> Result<f64, EngineError> + Send + Sync>;

/// Gives each choice the probability that a function of the prompt says.
pub struct ScriptedChoose {
    script: ChoiceScript,
    calls: Mutex<Vec<usize>>,
}

impl ScriptedChoose {
    /// An engine that says `Yes` with the probability `script` gives for the prompt, and else `No`.
    pub fn yes(script: impl Fn(&Prompt) -> f64 + Send + Sync + 'static) -> Self {
        Self::fallible(move |prompt, choice| {
            let yes = script(prompt);
            Ok(if choice == mmrag_task::YES { yes } else { 1.0 - yes })
        })
    }

    /// An engine that gives each choice the probability `script` says, or fails.
    pub fn fallible(
        script: impl Fn(&Prompt, &str) -> Result<f64, EngineError> + Send + Sync + 'static,
    ) -> Self {
        Self { script: Box::new(script), calls: Mutex::default() }
    }

    /// How many prompts each call of `choose` had so far.
    pub fn calls(&self) -> Vec<usize> {
        self.calls.lock().expect("no test panics while it holds the lock").clone()
    }
}

impl Choose for ScriptedChoose {
    fn choose(&self, prompts: &[Prompt], choices: &[&str]) -> Result<Vec<Vec<f64>>, EngineError> {
        self.calls.lock().expect("no test panics while it holds the lock").push(prompts.len());
        let row = |prompt| choices.iter().map(|choice| (self.script)(prompt, choice)).collect();
        prompts.iter().map(row).collect()
    }
}

/// Embeds texts as hashed bags of words: texts with words in common are alike. A document is its
/// title and text; what a picture shows is not seen.
#[derive(Clone, Copy, Debug)]
pub struct HashEmbed {
    /// Length of the vectors; at least 1.
    pub width: usize,
}

impl HashEmbed {
    fn embed(self, text: &str) -> Vec<f32> {
        let mut vector = vec![0.0f32; self.width];
        for word in text.to_lowercase().split(|c: char| !c.is_alphanumeric()) {
            let hash = digest("hash embed", 0, word);
            let place = usize::from(u16::from_le_bytes([hash[0], hash[1]])) % self.width;
            let sign = if hash[2] & 1 == 0 { 1.0 } else { -1.0 };
            vector[place] += if word.is_empty() { 0.0 } else { sign };
        }
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length == 0.0 {
            vector[0] = 1.0;
        } else {
            for x in &mut vector {
                *x /= length;
            }
        }
        vector
    }
}

impl Embed for HashEmbed {
    fn width(&self) -> usize {
        self.width
    }

    fn embed_questions(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EngineError> {
        Ok(texts.iter().map(|text| self.embed(text)).collect())
    }

    fn embed_documents(&self, documents: &[&Document]) -> Result<Vec<Vec<f32>>, EngineError> {
        let text = |document: &&Document| match &document.content {
            Content::Image(_) => document.title.clone(),
            Content::Text(_) | Content::Table(_) => crate::words::searched_text(document),
        };
        Ok(documents.iter().map(|document| self.embed(&text(document))).collect())
    }

    fn count_tokens(&self, text: &str) -> Result<usize, EngineError> {
        Ok(text.split_whitespace().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_with_words_in_common_are_alike() {
        let embed = HashEmbed { width: 64 };
        let vectors = embed.embed_questions(&["red house", "a red house", "sea", ""]).unwrap();
        let dot = |a: usize, b: usize| -> f32 {
            vectors[a].iter().zip(&vectors[b]).map(|(x, y)| x * y).sum()
        };
        assert!(dot(0, 1) > 0.7 && dot(0, 2) < 0.5);
        for i in 0..4 {
            assert!((dot(i, i) - 1.0).abs() < 1e-5);
        }
    }
}
