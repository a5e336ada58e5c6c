//! WebQA's files into words.
//!
//! A folder holds `WebQA_train_val.json` and `WebQA_test.json`, each plain or with `.gz`, and the
//! pictures in `imgs.tsv` with `imgs.lineidx` or `imgs.lineidx.new`. The question files are walked
//! over record by record; `imgs.tsv` is mapped and only the rows of pictures that are shown are
//! touched.
//!
//! Outside input never panics: what is wrong with a record, a fact or a row is a
//! [`Problem`](crate::Problem) that names file and line. A fact that cannot be used is left out of
//! its question; a question of which a gold fact cannot be used is left out itself.
//!
//! A file of the same form with fewer questions (a "Mini-WebQA") is read in the same way.

mod corpus;
mod gold;
mod images;
mod load;
mod records;

pub use gold::{GoldFile, GoldRow, gold, source_id};
pub(crate) use gold::{answers, keywords};
pub use images::{Images, NamedRow};
pub use load::{load, splits};
