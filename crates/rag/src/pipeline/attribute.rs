//! Which parts of cited pictures a reply rests on.

use std::ops::Range;
use std::sync::Arc;

use mmrag_core::{
    Attribute, Content, Document, EngineError, ImageSource, Part, PatchShares, Prompt,
};
use mmrag_task::{Reply, labels_in};

use super::{Answered, Ask, Pipeline, Replied};
use crate::error::RagError;
use crate::explanation::{Attribution, Explanation, Told, sentences};

const THINK: &str = "<think>";
const THOUGHT: &str = "</think>";
const OPENING: &str = "<answer>";
const CLOSING: &str = "</answer>";

impl<'a> Pipeline<'a> {
    /// Answers one question, and says which parts of the cited pictures the answer rests on.
    ///
    /// # Errors
    ///
    /// As [`answer`](Self::answer) and [`attribute`](Self::attribute).
    pub fn answer_attributing(&self, ask: &Ask<'a>, told: Told) -> Result<Explanation, RagError> {
        let filtered = self.filter_all(vec![self.retrieve(ask)]);
        let answered = self.rank_all(filtered).pop().expect("one question has one answer")?;
        let attribution = Some(self.attribute(&answered, told)?);
        Ok(Explanation { attribution, ..self.explain(answered) })
    }

    /// For each picture that an answer cites, in order of mention, which parts of it what is `told`
    /// rests on. Nothing of a picture about which nothing is told.
    ///
    /// # Errors
    ///
    /// When the engine cannot say, or fails.
    pub fn attribute(
        &self,
        answered: &Answered<'_>,
        told: Told,
    ) -> Result<Vec<Attribution>, RagError> {
        let failed = |source| {
            let question = answered.filtered.retrieved.question.id.clone();
            RagError::Engine { action: "say where pictures helped", question, source }
        };
        let Some(engine) = self.rank.attributor else {
            return Err(failed(EngineError::new(
                "the engine does not show the inside of its model; ask a local model",
            )));
        };
        let Some(replied) = &answered.replied else { return Ok(Vec::new()) };
        let looking =
            Looking { prompt: self.rank.stage.prompt(&replied.shown.case), engine, replied, told };
        looking.all().map_err(failed)
    }
}

/// A reply that is looked into.
struct Looking<'a> {
    prompt: Prompt,
    engine: &'a dyn Attribute,
    replied: &'a Replied,
    told: Told,
}

impl Looking<'_> {
    fn all(&self) -> Result<Vec<Attribution>, EngineError> {
        let Ok(Reply::Rank { citations, .. }) = &self.replied.reply else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        // What the last spans gave: the answer is the same for all pictures.
        let mut known: Option<(Vec<Range<usize>>, Vec<PatchShares>)> = None;
        for &label in citations {
            let documents = &self.replied.shown.case.documents;
            let document: &Arc<Document> = &documents[label - 1];
            let Content::Image(picture) = &document.content else { continue };
            let spans = self.spans(label);
            if spans.is_empty() {
                continue;
            }
            let shares = match known.take() {
                Some((of, shares)) if of == spans => shares,
                _ => self.engine.attribute(&self.prompt, &self.replied.completion, &spans)?,
            };
            let place = self.place_of(picture);
            let of_picture = place.and_then(|place| shares.get(place)).ok_or_else(|| {
                EngineError::new("the engine tells of fewer pictures than the prompt has")
            })?;
            found.push(Attribution::of(label, &document.id, self.told, of_picture));
            known = Some((spans, shares));
        }
        Ok(found)
    }

    /// Which picture of the prompt it is.
    fn place_of(&self, picture: &ImageSource) -> Option<usize> {
        let parts = self.prompt.messages.iter().flat_map(|message| &message.parts);
        let mut pictures = parts.filter_map(|part| match part {
            Part::Image(source) => Some(source),
            Part::Text(_) => None,
        });
        pictures.position(|source| source == picture)
    }

    /// Where in the reply stands what is asked about, in bytes.
    fn spans(&self, label: usize) -> Vec<Range<usize>> {
        let text = &self.replied.completion.text;
        let Some(opening) = text.find(OPENING) else { return Vec::new() };
        match self.told {
            Told::Answer => {
                let start = opening + OPENING.len();
                let end = text[start..].find(CLOSING).map_or(text.len(), |at| start + at);
                outside_brackets(text, start..end)
            }
            Told::Reasoning => {
                let start = text.find(THINK).map_or(0, |at| at + THINK.len());
                let end = text.find(THOUGHT).unwrap_or(opening);
                if start < end { steps_naming(text, start..end, label) } else { Vec::new() }
            }
        }
    }
}

/// The parts of a range that stand in no brackets: an answer without its labels.
fn outside_brackets(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut start = range.start;
    while start < range.end {
        let rest = &text[start..range.end];
        let open = rest.find('[').map_or(range.end, |at| start + at);
        spans.push(start..open);
        let close = text[open..range.end].find(']').map(|at| open + at + 1);
        start = close.unwrap_or(range.end);
    }
    spans.retain(|span| !text[span.clone()].trim().is_empty());
    spans
}

/// The sentences of a part of a text that name a label.
fn steps_naming(text: &str, range: Range<usize>, label: usize) -> Vec<Range<usize>> {
    let mut from = range.start;
    let mut spans = Vec::new();
    for sentence in sentences(&text[range]) {
        let start = text[from..].find(sentence).map_or(from, |at| from + at);
        from = start + sentence.len();
        if labels_in(sentence).contains(&label) {
            spans.push(start..from);
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_labels_are_left_out() {
        let check = |text: &str, expected: &[&str]| {
            let spans = outside_brackets(text, 0..text.len());
            let found: Vec<&str> = spans.into_iter().map(|span| text[span].trim()).collect();
            assert_eq!(found, expected, "{text}");
        };
        check(" red [2]", &["red"]);
        check(" Oro [2]; Rin [3][4]", &["Oro", "; Rin"]);
        check("none", &["none"]);
        check("a [b", &["a"]);
        check(" [2] ", &[]);
    }

    #[test]
    fn steps_are_found_by_the_label_they_name() {
        let text = "<think> Oro[2] has two. It has 2. Rin[1]: red. Oro[2] again.</think>";
        let spans = steps_naming(text, 7..text.len() - 8, 2);
        let found: Vec<&str> = spans.into_iter().map(|span| &text[span]).collect();
        assert_eq!(found, ["Oro[2] has two.", "Oro[2] again."]);
    }
}
