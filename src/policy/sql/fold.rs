//! One verdict for all texts that differ in whole numbers only: `WHERE id = 7` and `WHERE id = 12`.
//!
//! Clients of the simple protocol write their values into the text, so every text is new and an
//! exact-text memory never helps them. A number can decide nothing that is judged here as long as it
//! stands in a query: names, functions and the shape of the tree are the same. It can decide in SET and
//! in `set_config` (`statement_timeout = 0`), so only queries without the latter become patterns, and
//! anything inside quotes, dollars, comments, parameters and names is compared byte by byte.

use std::sync::Arc;

use crate::policy::sql::lexer::{Lexer, TokenKind};
use crate::policy::sql::{JudgedSql, Judgement, PieceKind};
use crate::policy::verdict::{Cleared, Verdict};

/// Longest number that folds. Longer ones may not fit into an integer, and the grammar takes those for
/// something else.
const MAX_DIGITS: usize = 9;

/// What texts that differ in whole numbers only have in common: the text with each of them as `0`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Folding(Box<[u8]>);

/// A text with its folding.
#[derive(Debug)]
pub struct Folded<'t> {
    text: &'t [u8],
    folding: Folding,
}

impl<'t> Folded<'t> {
    /// Folds a text. `None` if there is no number in it.
    #[must_use]
    pub fn of(text: &'t [u8]) -> Option<Self> {
        let mut folded = Vec::with_capacity(text.len());
        let mut copied = 0;
        let mut place = Place::Free;
        for token in Lexer::new(text) {
            let bytes = text.get(token.start..token.end)?;
            let here = place;
            place = place.behind(token.kind, bytes);
            let is_whole = bytes.len() <= MAX_DIGITS && bytes.iter().all(u8::is_ascii_digit);
            if token.kind == TokenKind::Number && is_whole && here == Place::Free {
                folded.extend_from_slice(text.get(copied..token.start)?);
                folded.push(b'0');
                copied = token.end;
            }
        }
        if copied == 0 {
            return None;
        }
        folded.extend_from_slice(text.get(copied..)?);
        Some(Self { text, folding: Folding(folded.into_boxed_slice()) })
    }

    /// The folding.
    #[must_use]
    pub const fn folding(&self) -> &Folding {
        &self.folding
    }
}

/// Whether a number may fold where it stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Behind `float`.
    Float,
    /// It may.
    Free,
    /// Behind `float(`.
    Precision,
}

impl Place {
    fn behind(self, kind: TokenKind, bytes: &[u8]) -> Self {
        match (self, kind) {
            (_, TokenKind::Comment(_) | TokenKind::Whitespace) => self,
            (_, TokenKind::Identifier) if bytes.eq_ignore_ascii_case(b"float") => Self::Float,
            (Self::Float, TokenKind::Punctuation(b'(')) => Self::Precision,
            _ => Self::Free,
        }
    }
}

impl Folding {
    /// Bytes of it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// A verdict that holds for every text of one folding.
#[derive(Debug)]
pub struct Pattern {
    folding: Folding,
    judged: JudgedSql,
    judgement: Arc<Judgement>,
}

impl Pattern {
    /// Makes a pattern of a verdict, if its text is a single query that is let through whatever the
    /// numbers in it are.
    #[must_use]
    pub fn of(judged: &JudgedSql) -> Option<Self> {
        let Verdict::Allow(cleared) = &judged.verdict else { return None };
        let judgement = Arc::clone(cleared.request());
        let [piece] = judgement.pieces.as_slice() else { return None };
        let is_plain = piece.kind == PieceKind::Query
            && piece.habit.is_none()
            && piece.rewritten.is_none()
            && piece.first_parameter.is_none();
        let sets = judgement.digest.functions.iter().any(|function| function == "set_config");
        if !is_plain || sets {
            return None;
        }
        let Folded { folding, .. } = Folded::of(judgement.text.as_bytes())?;
        Some(Self { folding, judged: judged.clone(), judgement })
    }

    /// The folding that it stands for.
    #[must_use]
    pub const fn folding(&self) -> &Folding {
        &self.folding
    }

    /// The verdict for another text, if that has the same folding.
    #[must_use]
    pub fn for_text(&self, folded: &Folded<'_>) -> Option<JudgedSql> {
        if folded.folding != self.folding {
            return None;
        }
        let text = std::str::from_utf8(folded.text).ok()?;
        let pieces = self.judgement.pieces.iter().cloned().map(|mut piece| {
            // What follows the statement holds no number, so it is as long as before.
            let behind = self.judgement.text.len().saturating_sub(piece.end);
            piece.end = text.len().saturating_sub(behind);
            piece
        });
        let judgement = Judgement {
            text: Arc::from(text),
            searched: Vec::new(),
            stamp: self.judgement.stamp,
            pieces: pieces.collect(),
            digest: Arc::clone(&self.judgement.digest),
            syntax_since: self.judgement.syntax_since,
        };
        Some(JudgedSql {
            verdict: Verdict::Allow(Cleared::grant(Arc::new(judgement))),
            digest: Arc::clone(&self.judged.digest),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Folded, Pattern};
    use crate::policy::file::Policy;
    use crate::policy::sql::judge_sql;
    use crate::policy::verdict::Verdict;
    use proptest::prelude::{any, proptest};

    fn fold(text: &str) -> Option<String> {
        let folded = Folded::of(text.as_bytes())?;
        Some(String::from_utf8(folded.folding.0.into()).unwrap())
    }

    #[test]
    fn only_whole_numbers_outside_of_everything_fold() {
        let text = "select 17, '17', $$17$$, \"c17\", t17, $17, 1.7, 0x17, 17 /* 17 */ -- 17";
        let folded = "select 0, '17', $$17$$, \"c17\", t17, $17, 1.7, 0x17, 0 /* 17 */ -- 17";

        assert_eq!(fold(text).as_deref(), Some(folded));
        assert_eq!(fold("select 'a'"), None);
        assert_eq!(fold("select 1::Float /**/ (17)").as_deref(), Some("select 0::Float /**/ (17)"));
    }

    #[test]
    fn what_numbers_decide_is_no_pattern() {
        let policy = Policy::shipped().unwrap();
        for text in [
            "set statement_timeout = 5000",
            "select set_config('statement_timeout', '5000', false), 1",
            "select 1; select 2",
            "select $1, 1",
            "begin; select 1",
            "delete from t where a = 1",
        ] {
            assert!(Pattern::of(&judge_sql(&policy, text.as_bytes())).is_none(), "{text}");
        }
    }

    /// Reads with numbers in every place that the grammar has for them.
    const READS: [&str; 12] = [
        "select a from t where b = {} and c in ({}, {}) limit {} offset {}",
        "select {}::numeric({}, {}), cast('1' as varchar({})), interval '1' second({})",
        "select a[{}], a[{}:{}] from t order by {}, {} fetch first {} rows only",
        "select sum(a) over (order by b rows between {} preceding and {} following) from t",
        "select * from generate_series({}, {}) g tablesample system ({}) repeatable ({})",
        "select * from t tablesample bernoulli ({}) repeatable ({})",
        "values ({}, {}), ({}, {})",
        "with recursive x(n) as (select {} union all select n + {} from x where n < {}) select * from x",
        "select extract(year from d), position('a' in b), substring(a from {} for {}) from t",
        "select ntile({}) over w, nth_value(a, {}) over w from t window w as (order by a)",
        "select json_value(j, '$.a' default {} on empty), b'1', {} from t",
        "select -{}, +{}, {}-{}, {}e1, {}.5, {} as x{} from t",
    ];

    proptest! {
        #[test]
        fn folding_never_changes_a_verdict(read in 0..READS.len(), numbers: [u32; 6], small in any::<[u8; 6]>()) {
            let policy = Policy::shipped().unwrap();
            let text = |pick: &dyn Fn(usize) -> String| {
                let mut parts = READS[read].split("{}");
                let mut text = parts.next().unwrap().to_owned();
                for (index, part) in parts.enumerate() {
                    text.push_str(&pick(index % 6));
                    text.push_str(part);
                }
                text
            };
            let first = judge_sql(&policy, text(&|index| small[index].to_string()).as_bytes());
            let other = text(&|index| numbers[index].to_string());
            let Some(pattern) = Pattern::of(&first) else { return Ok(()) };
            let Some(folded) = Folded::of(other.as_bytes()) else { return Ok(()) };
            let Some(by_pattern) = pattern.for_text(&folded) else { return Ok(()) };

            let judged = judge_sql(&policy, other.as_bytes());
            match (&judged.verdict, &by_pattern.verdict) {
                (Verdict::Allow(judged), Verdict::Allow(by_pattern)) => {
                    assert_eq!(judged.request().digest, by_pattern.request().digest);
                    assert_eq!(judged.request().text, by_pattern.request().text);
                    assert_eq!(judged.request().pieces, by_pattern.request().pieces);
                }
                (judged, _) => panic!("{other}: {judged:?}"),
            }
        }
    }
}
