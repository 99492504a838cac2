//! SQL text in, verdict out: the rules for PostgreSQL, as pure functions.
//!
//! Road: [`prescan`] (length, encoding, nesting; linear) → [`judge`] (PostgreSQL's own grammar) →
//! [`statement`] (default deny over statements) with [`transaction`] and [`variable`] →
//! [`expression`] (default deny over the nodes of a query) with [`function`], [`setting`] and
//! [`columns`] → where the database is known, [`identity`] with [`sources`],
//! [`operators`] and [`types`] (default deny
//! over what names turn out to be; [`proof`] says what is proved) → [`second_reader`] (an independent parser that must not see more) → [`Judgement`].

mod columns;
mod expression;
mod function;
mod identity;
mod judge;
mod operators;
mod sources;
mod statement;
mod transaction;
mod types;
mod variable;
mod verb;

pub mod digest;
pub mod fold;
pub mod keyword;
pub mod lexer;
pub mod position;
pub mod prescan;
pub mod proof;
pub mod second_reader;
pub mod setting;

use std::sync::Arc;

use crate::policy::catalog::{Catalog, Reach};
use crate::policy::verdict::{Denial, Verdict};

pub use crate::policy::sql::function::is_scalar_type;
pub use crate::policy::sql::judge::{judge_sql, judge_sql_in};

/// What is known of the database in which a text would run.
#[derive(Clone, Copy, Debug)]
pub enum World<'w> {
    /// Its catalog, and the schemas in which names without one may be found.
    Database {
        /// The catalog.
        catalog: &'w Catalog,
        /// The schemas.
        reach: &'w Reach,
        /// Which state of both this is.
        stamp: u64,
    },
    /// Nothing: names are taken for what the policy says of them.
    Offline,
}

/// What a text that was let through is made of, in order. Empty for a text without statements.
#[derive(Debug)]
pub struct Judgement {
    /// The text as the client sent it, without the final zero byte.
    pub text: Arc<str>,
    /// The statements.
    pub pieces: Vec<Piece>,
    /// What the auditor reads.
    pub digest: Arc<Digest>,
    /// Syntax in it that older servers take for the call of a function.
    pub syntax_since: Option<SyntaxSince>,
    /// Schemas that it makes the session search.
    pub searched: Vec<String>,
    /// The state of the database under which it was judged.
    pub stamp: u64,
}

/// Words that are syntax from one version of PostgreSQL on, and were ordinary names before: an older
/// server calls whatever function has that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntaxSince {
    /// The first major version that knows the syntax.
    pub major: u32,
    /// The word.
    pub word: &'static str,
}

/// One statement of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it stands in the text, in bytes. Covers the statement only, not the semicolon.
    pub start: usize,
    /// End of it, in bytes.
    pub end: usize,
    /// Characters before `start`: what error positions are off by when the piece is sent alone.
    pub chars_before: usize,
    /// What is sent in its place, when a habit was made read-only (`BEGIN READ WRITE`).
    pub rewritten: Option<String>,
    /// What it does to the session.
    pub kind: PieceKind,
    /// Where a bare `$n` stands (the first one), as (n, character position from 1 in the whole
    /// text); the simple protocol has no parameters and answers 42P02. None inside PREPARE.
    pub first_parameter: Option<(u32, usize)>,
    /// `$n` in it is answered with NULLs: EXPLAIN (GENERIC_PLAN). The highest n, 0 if none.
    pub generic_plan_parameters: u16,
    /// The refusal, if this is the first statement of a session.
    pub habit: Option<Habit>,
}

/// A statement that drivers and pools send on their way, and that only a probe opens with. Harmless
/// either way: what it asks for is made read-only, or puts back what was never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Habit {
    /// The refusal of a session that opens with it.
    pub as_opening: Denial,
}

/// What a session has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Past {
    /// Nothing yet.
    #[default]
    Nothing,
    /// A statement was let through: it is on its way.
    Statement,
}

/// What a statement does to the session, as far as the gate must follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PieceKind {
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `CLOSE name` or `CLOSE ALL` (`None`).
    CloseCursor(Option<String>),
    /// `COMMIT`, `END`; true when `AND CHAIN`.
    Commit(Chain),
    /// `COPY … TO STDOUT`.
    CopyOut,
    /// `DEALLOCATE name` or `DEALLOCATE ALL` (`None`).
    Deallocate(Option<String>),
    /// `DECLARE name CURSOR`.
    DeclareCursor {
        /// The cursor's name.
        name: String,
        /// Whether it outlives its transaction.
        hold: Hold,
        /// The format in which a simple FETCH from it answers.
        format: CursorFormat,
    },
    /// `DISCARD ALL`.
    DiscardAll,
    /// `EXECUTE name`, also under EXPLAIN.
    Execute {
        /// The prepared statement's name.
        name: String,
        /// Under EXPLAIN the tag and the order of notices are EXPLAIN's.
        explained: Explained,
    },
    /// `EXPLAIN`, `SHOW`: rows made by a utility statement.
    UtilityRows,
    /// `FETCH` from a cursor.
    Fetch(String),
    /// `MOVE` in a cursor.
    Move(String),
    /// `PREPARE name AS …`.
    Prepare(String),
    /// `SELECT`, `VALUES`, `TABLE`, `WITH`.
    Query,
    /// `RELEASE SAVEPOINT`.
    Release,
    /// `ROLLBACK`, `ABORT`.
    Rollback(Chain),
    /// `ROLLBACK TO SAVEPOINT`.
    RollbackTo,
    /// `SAVEPOINT`.
    Savepoint,
    /// `SET`, `RESET`, `LOCK … IN ACCESS SHARE MODE`, `DISCARD PLANS`, `UNLISTEN` in a reset: no
    /// rows, nothing that the gate must follow.
    Quiet,
}

/// `AND CHAIN` or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// A new transaction begins at once.
    Chain,
    /// The session is idle afterwards.
    NoChain,
}

/// `WITH HOLD` or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Outlives the transaction.
    WithHold,
    /// Dies with it.
    WithoutHold,
}

/// `BINARY` or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorFormat {
    /// `DECLARE name BINARY CURSOR`.
    Binary,
    /// Plain.
    Text,
}

/// Under `EXPLAIN` or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explained {
    /// `EXPLAIN … EXECUTE name`.
    Explained,
    /// Plain.
    Plain,
}

/// What the audit log says about a text, whatever the verdict. Made once per text, then cached with
/// the verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Text with every literal as `$n` and comments removed; `None` if it could not be normalised
    /// (then only hash and length are logged).
    pub normalized: Option<String>,
    /// SHA-256 of the normalised text (of the raw text if there is none), the first 16 hex digits.
    pub fingerprint: String,
    /// Most privileged verb in any statement or CTE: `INSERT`, `SELECT`, `EXPLAIN`.
    pub operation: String,
    /// Low-cardinality summary: `SELECT accounts emp`.
    pub summary: String,
    /// Statements in the text.
    pub statements: usize,
    /// Relations named, at most 64.
    pub relations: Vec<String>,
    /// Functions named, at most 64.
    pub functions: Vec<String>,
}

/// A judged text: the verdict and what the log says about it.
#[derive(Clone, Debug)]
pub struct JudgedSql {
    /// Go on, or no.
    pub verdict: Verdict<Arc<Judgement>>,
    /// For the log; equal to the judgement's own when allowed.
    pub digest: Arc<Digest>,
}

impl Judgement {
    /// The refusal, if a session with this past must not send this.
    #[must_use]
    pub fn unmet_habit(&self, past: Past) -> Option<&Denial> {
        match past {
            Past::Statement => None,
            Past::Nothing => {
                let mut habits = self.pieces.iter().filter_map(|piece| piece.habit.as_ref());
                habits.next().map(|habit| &habit.as_opening)
            }
        }
    }

    /// The first prepared statement that the text executes and has not prepared before.
    #[must_use]
    pub fn executes_unprepared(&self) -> Option<&str> {
        let mut prepared = Vec::new();
        for piece in &self.pieces {
            match &piece.kind {
                PieceKind::Prepare(name) => prepared.push(name),
                PieceKind::Execute { name, .. } if !prepared.contains(&name) => return Some(name),
                _ => {}
            }
        }
        None
    }
}
