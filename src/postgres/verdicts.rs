//! Verdicts that were given before, by the exact text, and by the text with its whole numbers folded.
//!
//! The whole text is compared on a hit, so a collision of hashes costs time and never a verdict. The
//! memory belongs to one policy and is dropped with it.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::policy::catalog::{Catalog, Reach};
use crate::policy::file::Policy;
use crate::policy::sql::fold::{Folded, Folding, Pattern};
use crate::policy::sql::{JudgedSql, World, judge_sql_in};
use crate::policy::verdict::Denial;
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
    database: Option<(Arc<Catalog>, Reach)>,
    stamp: u64,
    cache: Cache<Box<[u8]>, Arc<JudgedSql>, Weight>,
    patterns: Cache<Folding, Arc<Pattern>, Weight>,
}

impl Verdicts {
    /// An empty memory for this policy, without a database: names are taken for what they say.
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        Self::empty(policy, None, 0)
    }

    /// An empty memory for this state of a database and this reach of the search path. No two of one
    /// database have the same stamp.
    #[must_use]
    pub fn in_database(
        policy: Arc<Policy>,
        catalog: Arc<Catalog>,
        reach: Reach,
        stamp: u64,
    ) -> Self {
        Self::empty(policy, Some((catalog, reach)), stamp)
    }

    fn empty(policy: Arc<Policy>, database: Option<(Arc<Catalog>, Reach)>, stamp: u64) -> Self {
        let cache = Cache::with_weighter(EXPECTED_STATEMENTS, CACHE_BYTES, Weight);
        let patterns = Cache::with_weighter(EXPECTED_STATEMENTS, CACHE_BYTES, Weight);
        Self { policy, database, stamp, cache, patterns }
    }

    /// What was judged under this number holds as long as it is the same; 0 without a database.
    #[must_use]
    pub const fn stamp(&self) -> u64 {
        self.stamp
    }

    fn world(&self) -> World<'_> {
        match &self.database {
            Some((catalog, reach)) => World::Database { catalog, reach, stamp: self.stamp },
            None => World::Offline,
        }
    }

    fn by_pattern(&self, text: &[u8]) -> Option<Arc<JudgedSql>> {
        let folded = Folded::of(text)?;
        let pattern = self.patterns.get(folded.folding())?;
        pattern.for_text(&folded).map(Arc::new)
    }
}

impl Verdicts {
    /// The verdict on a text, from memory if it can be.
    #[must_use]
    pub fn verdict(&self, text: &[u8]) -> Arc<JudgedSql> {
        if text.len() > MAX_CACHED_TEXT_BYTES {
            return Arc::new(judge_sql_in(&self.policy, self.world(), text));
        }
        if let Some(judged) = self.cache.get(text) {
            return judged;
        }
        if let Some(judged) = self.by_pattern(text) {
            return judged;
        }
        let judged = Arc::new(judge_sql_in(&self.policy, self.world(), text));
        match Pattern::of(&judged) {
            Some(pattern) => self.patterns.insert(pattern.folding().clone(), Arc::new(pattern)),
            None => self.cache.insert(Box::from(text), Arc::clone(&judged)),
        }
        judged
    }
}

/// Without a database nothing changes while a session lasts.
impl Judge for &Verdicts {
    fn judge(&mut self, text: &[u8]) -> Arc<JudgedSql> {
        self.verdict(text)
    }

    fn stamp(&mut self) -> u64 {
        self.stamp
    }

    fn judge_types(&mut self, _: &[u8]) -> Option<Denial> {
        None
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
    use std::sync::Arc;

    #[test]
    fn the_same_text_is_judged_once() {
        let verdicts = Verdicts::new(Arc::new(Policy::shipped().unwrap()));

        let first = verdicts.verdict(b"select a from t");
        let second = verdicts.verdict(b"select a from t");

        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn another_number_is_the_same_statement_with_its_own_text() {
        let verdicts = Verdicts::new(Arc::new(Policy::shipped().unwrap()));

        let first = verdicts.verdict(b"select a from t where id = 7;");
        let second = verdicts.verdict(b"select a from t where id = 1234;");

        assert!(Arc::ptr_eq(&first.digest, &second.digest));
        let Verdict::Allow(cleared) = &second.verdict else { panic!("{second:?}") };
        assert_eq!(&*cleared.request().text, "select a from t where id = 1234;");
    }
}
