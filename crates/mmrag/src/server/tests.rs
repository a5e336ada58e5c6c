//! The server as a client meets it, without a socket: requests through the router, answered by
//! engines that do what the test says.

mod asking;
mod clients;
mod collections;
mod embedding;
mod hostile;
mod small_model;
mod world;

use mmrag_core::{Choose, Completion, EngineError, Generate, Prompt, Sampling};

use crate::answerer::Engine;

/// An engine that takes its time.
struct Slow;

impl Generate for Slow {
    fn generate(&self, p: &[Prompt], s: &Sampling) -> Result<Vec<Vec<Completion>>, EngineError> {
        let Engine::Other { engine, .. } = world::engine() else { unreachable!("it is a fake") };
        engine.generate(p, s)
    }

    fn count_tokens(&self, _: &Prompt) -> Result<usize, EngineError> {
        Ok(1)
    }
}

impl Choose for Slow {
    fn choose(&self, p: &[Prompt], choices: &[&str]) -> Result<Vec<Vec<f64>>, EngineError> {
        std::thread::sleep(std::time::Duration::from_millis(150));
        Ok(vec![vec![0.5; choices.len()]; p.len()])
    }
}

fn slow_engine() -> Engine {
    Engine::Other { name: "slow".into(), engine: Box::new(Slow) }
}
