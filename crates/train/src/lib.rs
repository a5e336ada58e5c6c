//! Reinforcement and supervised fine-tuning of the policy.
