//! Verdicts that were given before, by the exact text.
//!
//! The whole text is compared on a hit, so a collision of hashes costs time and never a verdict. The
//! cache belongs to one policy and is dropped with it.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::policy::file::Policy;
use crate::policy::sql::{JudgedSql, judge_sql};
use crate::postgres::session::Judge;

/// Memory for verdicts: 32 MiB, some ten thousand statements of usual length.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;

/// Longest text that is kept: 16 KiB. Longer ones are rarely sent twice.
const MAX_CACHED_TEXT_BYTES: usize = 16 * 1024;

/// Statements that the cache is laid out for.
const EXPECTED_STATEMENTS: usize = 20_000;

/// The judge with its memory.
pub struct Verdicts {
    policy: Arc<Policy>,
    cache: Cache<Box<[u8]>, Arc<JudgedSql>, Weight>,
}

impl Verdicts {
    /// An empty memory for this policy.
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        let cache = Cache::with_weighter(EXPECTED_STATEMENTS, CACHE_BYTES, Weight);
        Self { policy, cache }
    }
}

impl Judge for Verdicts {
    fn judge(&self, text: &[u8]) -> Arc<JudgedSql> {
        if text.len() > MAX_CACHED_TEXT_BYTES {
            return Arc::new(judge_sql(&self.policy, text));
        }
        if let Some(judged) = self.cache.get(text) {
            return judged;
        }
        let judged = Arc::new(judge_sql(&self.policy, text));
        self.cache.insert(Box::from(text), Arc::clone(&judged));
        judged
    }
}

/// What an entry costs: the text as key, in the judgement and normalised, and the rest of both.
#[derive(Clone, Copy, Debug)]
struct Weight;

impl Weighter<Box<[u8]>, Arc<JudgedSql>> for Weight {
    fn weight(&self, text: &Box<[u8]>, _: &Arc<JudgedSql>) -> u64 {
        text.len() as u64 * 3 + 1_024
    }
}

#[cfg(test)]
mod tests {
    use super::Verdicts;
    use crate::policy::file::Policy;
    use crate::postgres::session::Judge;
    use std::sync::Arc;

    #[test]
    fn the_same_text_is_judged_once() {
        let verdicts = Verdicts::new(Arc::new(Policy::shipped().unwrap()));

        let first = verdicts.judge(b"select 1");
        let second = verdicts.judge(b"select 1");

        assert!(Arc::ptr_eq(&first, &second));
    }
}
