//! What the fuzz targets check. Each target is one function over bytes that panics when something
//! which must always hold does not; `tests/fuzz_corpus.rs` of rowarden runs the same functions over
//! the committed corpora.

pub mod checks;
pub mod worker;
