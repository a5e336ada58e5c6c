//! The canonical form: own data as JSON Lines, with pictures by path.
//!
//! A folder holds `documents.jsonl` and `train.jsonl`, `dev.jsonl`, `test.jsonl`, as many of them
//! as there are parts; each plain or with `.gz`. Paths of pictures lead from the folder into it.
//!
//! A document is a text, a table or an image:
//!
//! ```json
//! {"id": "d1", "title": "North Point", "text": "A lighthouse of granite."}
//! {"id": "d2", "title": "Lighthouses", "table": {"name": "By age", "header": ["Name", "Built"], "rows": [["North Point", "1871"]]}}
//! {"id": "d3", "title": "North Point at night", "image": "images/d3.jpg"}
//! ```
//!
//! A question needs `id` and `question`; the rest is optional:
//!
//! ```json
//! {"id": "q1", "question": "Of what is the lighthouse?", "images": [], "candidates": ["d1", "d3"], "gold": ["d1"], "answers": ["granite"], "references": [], "keywords": "granite", "type": "text", "steps": [{"document": "d1", "text": "It is of granite."}]}
//! ```
//!
//! `images` are pictures that belong to the question. `candidates` are the documents it comes with;
//! without them those of `gold`. `answers` are the items of one answer, `references` whole answers
//! by several people. A key that is not named here is a problem, so that a misspelled one is not
//! passed over in silence.

mod load;
mod rows;
mod write;

pub use load::{load, splits};
pub use write::{Conversion, Written, convert};
