//! Verdicts that were given before, by the exact text, and by the text with its whole numbers folded.
//!
//! The whole text is compared on a hit, so a collision of hashes costs time and never a verdict. The
//! memory belongs to one policy and is dropped with it.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::policy::file::Policy;
use crate::policy::sql::fold::{Folded, Folding, Pattern};
use crate::policy::sql::{JudgedSql, judge_sql};
use crate::postgres::session::Judge;

/// Memory for verdicts by exact text, and as much again for patterns: 16 MiB, some ten thousand
/// statements of usual length.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// Longest text that is kept: 16 KiB. Longer ones are rarely sent twice.
const MAX_CACHED_TEXT_BYTES: usize = 16 * 1024;

/// Statements that the cache is laid out for.
const EXPECTED_STATEMENTS: usize = 20_000;

/// The judge with its memory.
pub struct Verdicts {
    policy: Arc<Policy>,
    cache: Cache<Box<[u8]>, Arc<JudgedSql>, Weight>,
    patterns: Cache<Folding, Arc<Pattern>, Weight>,
}

impl Verdicts {
    /// An empty memory for this policy.
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        let cache = Cache::with_weighter(EXPECTED_STATEMENTS, CACHE_BYTES, Weight);
        let patterns = Cache::with_weighter(EXPECTED_STATEMENTS, CACHE_BYTES, Weight);
        Self { policy, cache, patterns }
    }

    fn by_pattern(&self, text: &[u8]) -> Option<Arc<JudgedSql>> {
        let folded = Folded::of(text)?;
        let pattern = self.patterns.get(folded.folding())?;
        pattern.for_text(&folded).map(Arc::new)
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
        if let Some(judged) = self.by_pattern(text) {
            return judged;
        }
        let judged = Arc::new(judge_sql(&self.policy, text));
        match Pattern::of(&judged) {
            Some(pattern) => self.patterns.insert(pattern.folding().clone(), Arc::new(pattern)),
            None => self.cache.insert(Box::from(text), Arc::clone(&judged)),
        }
        judged
    }
}

/// What an entry costs: the text as key, in the judgement and normalised, and the rest of both.
#[derive(Clone, Copy, Debug)]
struct Weight;

impl Weighter<Folding, Arc<Pattern>> for Weight {
    fn weight(&self, folding: &Folding, _: &Arc<Pattern>) -> u64 {
        folding.bytes() as u64 * 5 + 1_024
    }
}

impl Weighter<Box<[u8]>, Arc<JudgedSql>> for Weight {
    fn weight(&self, text: &Box<[u8]>, _: &Arc<JudgedSql>) -> u64 {
        text.len() as u64 * 3 + 1_024
    }
}

#[cfg(test)]
mod tests {
    use super::Verdicts;
    use crate::policy::file::Policy;
    use crate::policy::verdict::Verdict;
    use crate::postgres::session::Judge;
    use std::sync::Arc;

    #[test]
    fn the_same_text_is_judged_once() {
        let verdicts = Verdicts::new(Arc::new(Policy::shipped().unwrap()));

        let first = verdicts.judge(b"select a from t");
        let second = verdicts.judge(b"select a from t");

        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn another_number_is_the_same_statement_with_its_own_text() {
        let verdicts = Verdicts::new(Arc::new(Policy::shipped().unwrap()));

        let first = verdicts.judge(b"select a from t where id = 7;");
        let second = verdicts.judge(b"select a from t where id = 1234;");

        assert!(Arc::ptr_eq(&first.digest, &second.digest));
        let Verdict::Allow(cleared) = &second.verdict else { panic!("{second:?}") };
        assert_eq!(&*cleared.request().text, "select a from t where id = 1234;");
    }
}
