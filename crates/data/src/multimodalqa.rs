//! MultimodalQA's files into words.
