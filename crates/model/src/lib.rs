//! The vision-language model: weights, tokenizer, chat template, image processor, adapters, sampling.
