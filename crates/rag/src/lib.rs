//! Retrieval, the pipeline, its explanation, evaluation, statistics and the report.
