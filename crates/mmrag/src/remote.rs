//! A policy that runs elsewhere: any engine that speaks OpenAI's chat completions, such as vLLM,
//! SGLang or llama.cpp's server.
//!
//! Verdicts are read from the engine's log-probabilities where it tells them. Where it does not,
//! they are shares of samples, which is coarser, and that is said once. What an engine does not
//! offer at all is an error that names it.

mod choice;
mod connection;
mod wire;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Context as _;
use mmrag_core::{Choose, Completion, EngineError, Finish, Generate, Part, Prompt, Sampling, Tell};
use serde_json::{Value, json};

use connection::Connection;

pub(crate) use connection::Patience;

/// Requests that are under way at once.
const AT_ONCE: usize = 16;

/// Samples that stand in for log-probabilities.
const SAMPLES: usize = 8;

/// Tokens that a verdict may take where it cannot be asked for alone.
const VERDICT_TOKENS: usize = 16;

/// Bytes of text that make a token, about, where the engine does not count.
const BYTES_A_TOKEN: usize = 3;

/// Pixels along each side that make a token of a picture, about, where the engine does not count.
const PIXELS_A_TOKEN: usize = 28;

/// An engine at an address.
pub(crate) struct RemotePolicy {
    connection: Connection,
    model: String,
    lacks: Lacks,
}

/// What the engine turned out not to do; found out on the way, and said once each.
#[derive(Default)]
struct Lacks {
    logprobs: AtomicBool,
    prefixes: AtomicBool,
    counting: AtomicBool,
}

fn note(lack: &AtomicBool, model: &str, what: &str) {
    if !lack.swap(true, Ordering::Relaxed) {
        tracing::warn!(model, "the remote engine {what}");
        eprintln!("note: the engine of {model} {what}");
    }
}

impl RemotePolicy {
    /// Finds the engine and the model on it: the named one, or the only one there is.
    ///
    /// # Errors
    ///
    /// When the engine does not answer, or has no such model.
    pub(crate) fn connect(address: &str, named: Option<&str>) -> anyhow::Result<Self> {
        Self::connect_with(address, named, Patience::default())
    }

    /// The same, with bounds on how long to wait.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub(crate) fn connect_with(
        address: &str,
        named: Option<&str>,
        patience: Patience,
    ) -> anyhow::Result<Self> {
        let connection = Connection::new(address, patience)?;
        let listed = connection.get("models").context("failed to list its models")?;
        let models: Vec<&str> = listed["data"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|model| model["id"].as_str())
            .collect();
        let model = match (named, models.as_slice()) {
            (Some(named), models) if models.contains(&named) => named,
            (None, [only]) => only,
            (Some(named), models) => {
                anyhow::bail!("it has no model {named}; it has {}", models.join(", "))
            }
            (None, []) => anyhow::bail!("it lists no model; name one by --model"),
            (None, models) => {
                anyhow::bail!("it has several models; choose by --model: {}", models.join(", "))
            }
        };
        let model = model.to_owned();
        Ok(Self { connection, model, lacks: Lacks::default() })
    }

    /// The model's name on the engine.
    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    /// What goes on with a prompt. A reply's beginning is a last turn of the policy that is to be
    /// gone on with, as vLLM and SGLang take it by these two keys and llama.cpp without.
    fn body(&self, prompt: &Prompt, more: Value) -> Result<Value, EngineError> {
        let mut body = json!({ "model": self.model, "messages": wire::messages(prompt)? });
        if !prompt.reply_prefix.is_empty() {
            body["continue_final_message"] = true.into();
            body["add_generation_prompt"] = false.into();
        }
        if !prompt.reasons {
            body["chat_template_kwargs"] = json!({ "enable_thinking": false });
        }
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        Ok(body)
    }

    /// `sampling.n` completions; engines that give fewer at a time are asked again.
    fn complete(
        &self,
        prompt: &Prompt,
        index: usize,
        sampling: &Sampling,
    ) -> Result<Vec<Completion>, EngineError> {
        let mut completions = Vec::with_capacity(sampling.n);
        while completions.len() < sampling.n {
            let seed = wire::seed(sampling.seed, index, completions.len());
            let mut more = json!({
                "n": sampling.n - completions.len(),
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": sampling.max_new_tokens,
                "seed": seed,
                "logprobs": !self.lacks.logprobs.load(Ordering::Relaxed),
            });
            if sampling.top_k > 0 {
                more["top_k"] = sampling.top_k.into();
            }
            let answer = self.connection.post("chat/completions", &self.body(prompt, more)?)?;
            let before = completions.len();
            completions.extend(wire::completions(&answer)?);
            if completions.len() == before {
                return Err(EngineError::new("the engine gave no completion"));
            }
        }
        completions.truncate(sampling.n);
        Ok(completions)
    }

    fn stream(
        &self,
        prompt: &Prompt,
        index: usize,
        sampling: &Sampling,
        tell: Tell<'_>,
    ) -> Result<Completion, EngineError> {
        let more = json!({
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "seed": wire::seed(sampling.seed, index, 0),
            "logprobs": !self.lacks.logprobs.load(Ordering::Relaxed),
            "stream": true,
        });
        let mut written = wire::Written::default();
        self.connection.stream("chat/completions", &self.body(prompt, more)?, &mut |chunk| {
            if written.add(&chunk) {
                tell(index, &written.text());
            }
            Ok(())
        })?;
        written.completion()
    }

    /// How many tokens the engine itself says a prompt takes; vLLM and SGLang do.
    fn counted(&self, prompt: &Prompt) -> Option<usize> {
        let body = json!({ "model": self.model, "messages": wire::messages(prompt).ok()? });
        let answer = self.connection.post_beside("tokenize", &body).ok()?;
        answer["count"].as_u64().map(|count| count as usize)
    }
}

impl Generate for RemotePolicy {
    fn generate(
        &self,
        prompts: &[Prompt],
        sampling: &Sampling,
    ) -> Result<Vec<Vec<Completion>>, EngineError> {
        at_once(prompts, |index, prompt| self.complete(prompt, index, sampling))
    }

    fn generate_telling(
        &self,
        prompts: &[Prompt],
        sampling: &Sampling,
        tell: Tell<'_>,
    ) -> Result<Vec<Vec<Completion>>, EngineError> {
        if sampling.n != 1 {
            return self.generate(prompts, sampling);
        }
        at_once(prompts, |index, prompt| {
            self.stream(prompt, index, sampling, tell).map(|completion| vec![completion])
        })
    }

    fn count_tokens(&self, prompt: &Prompt) -> Result<usize, EngineError> {
        if !self.lacks.counting.load(Ordering::Relaxed) {
            if let Some(count) = self.counted(prompt) {
                return Ok(count);
            }
            note(&self.lacks.counting, &self.model, "does not count tokens: lengths are estimates");
        }
        let parts = prompt.messages.iter().flat_map(|message| &message.parts);
        let sizes = parts.map(|part| match part {
            Part::Text(text) => Ok(text.len().div_ceil(BYTES_A_TOKEN)),
            Part::Image(source) => wire::picture_size(source)
                .map(|[w, h]| (w / PIXELS_A_TOKEN + 1) * (h / PIXELS_A_TOKEN + 1)),
        });
        let shown = sizes.sum::<Result<usize, EngineError>>()?;
        Ok(shown + prompt.reply_prefix.len().div_ceil(BYTES_A_TOKEN))
    }
}

impl Choose for RemotePolicy {
    fn choose(&self, prompts: &[Prompt], choices: &[&str]) -> Result<Vec<Vec<f64>>, EngineError> {
        at_once(prompts, |index, prompt| self.choose_one(prompt, index, choices))
    }
}

impl RemotePolicy {
    fn choose_one(
        &self,
        prompt: &Prompt,
        index: usize,
        choices: &[&str],
    ) -> Result<Vec<f64>, EngineError> {
        if !self.lacks.logprobs.load(Ordering::Relaxed) {
            let at_prefix = !self.lacks.prefixes.load(Ordering::Relaxed);
            if let Some(found) = self.by_logprobs(prompt, choices, at_prefix)? {
                return Ok(found);
            }
        }
        self.by_samples(prompt, index, choices)
    }

    /// From the log-probabilities of the token after the reply's beginning; of the token after the
    /// engine's own `<answer>` where it begins replies anew. Nothing if the engine tells none.
    fn by_logprobs(
        &self,
        prompt: &Prompt,
        choices: &[&str],
        at_prefix: bool,
    ) -> Result<Option<Vec<f64>>, EngineError> {
        let length = if at_prefix { 1 } else { VERDICT_TOKENS };
        let more = json!({
            "max_tokens": length, "temperature": 0.0, "logprobs": true, "top_logprobs": 20,
        });
        let answer = if at_prefix {
            self.connection.post("chat/completions", &self.body(prompt, more)?)?
        } else {
            self.connection.post("chat/completions", &self.body(&anew(prompt), more)?)?
        };
        let Some(tokens) = wire::token_logprobs(&answer["choices"][0]) else {
            note(
                &self.lacks.logprobs,
                &self.model,
                &format!("tells no log-probabilities: verdicts are shares of {SAMPLES} samples"),
            );
            return Ok(None);
        };
        let place = if at_prefix { Some(0) } else { choice::after_opening(&tokens) };
        let found = place.and_then(|place| tokens.get(place));
        let found = found.map(|token| choice::shares(&token.likely, choices)).unwrap_or_default();
        if at_prefix && choice::begins_anew(&tokens) {
            note(
                &self.lacks.prefixes,
                &self.model,
                "does not go on with a reply that is begun: verdicts are read from replies of its own",
            );
            return self.by_logprobs(prompt, choices, false);
        }
        Ok(Some(if found.is_empty() { vec![0.0; choices.len()] } else { found }))
    }

    /// How often each choice comes in a few samples at temperature 1.
    fn by_samples(
        &self,
        prompt: &Prompt,
        index: usize,
        choices: &[&str],
    ) -> Result<Vec<f64>, EngineError> {
        let sampling =
            Sampling { temperature: 1.0, n: SAMPLES, ..Sampling::greedy(VERDICT_TOKENS) };
        let completions = self.complete(&anew(prompt), index, &sampling)?;
        let mut counts = vec![0.0; choices.len()];
        for completion in completions {
            if let Some(said) = choice::said(&completion.text, choices) {
                counts[said] += 1.0 / SAMPLES as f64;
            }
        }
        Ok(counts)
    }
}

/// The prompt without its reply's beginning.
fn anew(prompt: &Prompt) -> Prompt {
    Prompt { reply_prefix: String::new(), ..prompt.clone() }
}

/// What a function gives for each prompt, several under way at once; the first error ends it.
fn at_once<R: Send>(
    prompts: &[Prompt],
    one: impl Fn(usize, &Prompt) -> Result<R, EngineError> + Sync,
) -> Result<Vec<R>, EngineError> {
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<Option<R>>> = Mutex::new(prompts.iter().map(|_| None).collect());
    let failed: Mutex<Option<EngineError>> = Mutex::default();
    let lock_held = "no thread panics while it holds the lock";
    let work = || {
        while failed.lock().expect(lock_held).is_none() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(prompt) = prompts.get(index) else { return };
            match one(index, prompt) {
                Ok(result) => found.lock().expect(lock_held)[index] = Some(result),
                Err(error) => *failed.lock().expect(lock_held) = Some(error),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(prompts.len()) {
            scope.spawn(work);
        }
    });
    if let Some(error) = failed.into_inner().expect(lock_held) {
        return Err(error);
    }
    let found = found.into_inner().expect(lock_held);
    Ok(found.into_iter().flatten().collect())
}

/// Why a completion ended, by the engine's word for it.
fn finish(word: Option<&str>) -> Finish {
    if word == Some("length") { Finish::Length } else { Finish::Stop }
}

#[cfg(test)]
mod tests;
