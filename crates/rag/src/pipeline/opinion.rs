//! What the filter thinks of documents: how likely each helps, and why where it reasons.

use mmrag_core::{EngineError, Prompt, Sampling};
use mmrag_task::{Case, NO, Reply, YES};

use super::FilterStage;

/// Less than this for Yes and No together is neither.
const LEAST_MASS: f64 = 1e-9;
const CHOICES: [&str; 2] = [YES, NO];

/// What the filter thinks of one document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opinion {
    /// P(Yes) / (P(Yes) + P(No)); absent if the filter said neither.
    pub p: Option<f64>,
    /// What it wrote before the verdict, where its stage reasons.
    pub reply: Option<String>,
}

impl FilterStage<'_> {
    /// What the filter thinks of each case.
    ///
    /// A stage that reasons writes its reasoning first, the most probable token each time, and the
    /// verdict's probabilities are read after it. Reasoning that does not parse is no opinion.
    ///
    /// # Errors
    ///
    /// When an engine fails, or the stage reasons and there is nothing that writes.
    pub fn opinions(&self, cases: &[Case]) -> Result<Vec<Opinion>, EngineError> {
        if cases.is_empty() {
            return Ok(Vec::new());
        }
        if self.stage.grammar.think {
            return self.reasoned(cases);
        }
        let prompts: Vec<Prompt> =
            cases.iter().map(|case| self.stage.choice_prompt(case)).collect();
        let shares = self.choose(&prompts)?.into_iter();
        Ok(shares.map(|p| Opinion { p, reply: None }).collect())
    }

    /// The opinions on the cases of many questions. If the engine fails on all together, each
    /// question is tried alone, and then each case: one broken picture costs its own document and
    /// nothing else.
    pub(super) fn opinions_all(
        &self,
        cases: &[Vec<Case>],
    ) -> Vec<Vec<Result<Opinion, EngineError>>> {
        if let Ok(opinions) = self.opinions(&cases.concat()) {
            let mut opinions = opinions.into_iter();
            let take = |of: &Vec<Case>| opinions.by_ref().take(of.len()).map(Ok).collect();
            return cases.iter().map(take).collect();
        }
        let alone = |of: &Vec<Case>| match self.opinions(of) {
            Ok(opinions) => opinions.into_iter().map(Ok).collect(),
            Err(_) => of.iter().map(|case| self.opinion(case)).collect(),
        };
        cases.iter().map(alone).collect()
    }

    fn opinion(&self, case: &Case) -> Result<Opinion, EngineError> {
        let mut opinions = self.opinions(std::slice::from_ref(case))?;
        Ok(opinions.pop().expect("the number of opinions is checked"))
    }

    fn reasoned(&self, cases: &[Case]) -> Result<Vec<Opinion>, EngineError> {
        let Some(writer) = self.writer else {
            return Err(EngineError::new("reason before the verdict: the filter has no writer"));
        };
        let prompts: Vec<Prompt> = cases.iter().map(|case| self.stage.prompt(case)).collect();
        let sampling = Sampling::greedy(self.max_new_tokens);
        let completions = writer.generate(&prompts, &sampling)?;
        check_count(completions.len(), prompts.len())?;
        let mut opinions = vec![Opinion::default(); cases.len()];
        let (mut places, mut begun) = (Vec::new(), Vec::new());
        for (place, (case, completions)) in cases.iter().zip(completions).enumerate() {
            let Some(completion) = completions.into_iter().next() else { continue };
            if let Ok(Reply::Filter { think: Some(_), .. }) =
                self.stage.parse(case, &completion.text)
                && let Some((thought, _)) = completion.text.split_once("<answer>")
            {
                let reply_prefix = format!("{thought}<answer>");
                places.push(place);
                begun.push(Prompt { reply_prefix, ..prompts[place].clone() });
            }
            opinions[place].reply = Some(completion.text);
        }
        if !begun.is_empty() {
            for (place, p) in places.into_iter().zip(self.choose(&begun)?) {
                opinions[place].p = p;
            }
        }
        Ok(opinions)
    }

    /// The share of Yes of each prompt that ends where the verdict begins.
    fn choose(&self, prompts: &[Prompt]) -> Result<Vec<Option<f64>>, EngineError> {
        let rows = self.engine.choose(prompts, &CHOICES)?;
        check_count(rows.len(), prompts.len())?;
        rows.iter()
            .map(|row| match row.as_slice() {
                &[yes, no] => Ok(share_of_yes(yes, no)),
                row => Err(EngineError::new(format!(
                    "the engine gave {} probabilities for {} choices",
                    row.len(),
                    CHOICES.len()
                ))),
            })
            .collect()
    }
}

fn check_count(found: usize, expected: usize) -> Result<(), EngineError> {
    if found == expected {
        return Ok(());
    }
    Err(EngineError::new(format!("the engine gave {found} results for {expected} prompts")))
}

/// P(Yes) / (P(Yes) + P(No)); none if the engine said neither.
fn share_of_yes(yes: f64, no: f64) -> Option<f64> {
    let mass = yes + no;
    (mass.is_finite() && mass >= LEAST_MASS && yes >= 0.0 && no >= 0.0).then(|| yes / mass)
}
