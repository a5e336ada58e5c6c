//! Differentiable operations that models and losses are written in.
