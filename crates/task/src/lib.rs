//! Stages, prompts, grammar, rewards and metrics: what the two stages ask and how a reply is judged.
