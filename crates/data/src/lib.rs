//! Data set files into words: MultimodalQA, the built-in atlas.
