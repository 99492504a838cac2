//! What the rules answer: go on with this, or no.
//!
//! [`Cleared`] is the only key to an upstream: whoever sends bytes to a server needs one, and only
//! this module's parent can make one.

use crate::policy::reason::Reason;

/// A request that the rules have let through.
///
/// The request sits inside its proof, so what is sent is what was judged. Only `policy` can make
/// one:
///
/// ```compile_fail
/// use rowarden::policy::verdict::Cleared;
/// let forged = Cleared { request: "DELETE FROM accounts" };
/// ```
///
/// ```compile_fail
/// use rowarden::policy::verdict::Cleared;
/// let forged = Cleared::grant("DELETE FROM accounts");
/// ```
#[derive(Clone, Debug)]
pub struct Cleared<R> {
    request: R,
}

impl<R> Cleared<R> {
    pub(in crate::policy) const fn grant(request: R) -> Self {
        Self { request }
    }

    /// What was judged.
    pub const fn request(&self) -> &R {
        &self.request
    }

    /// What was judged, out of its proof: for whoever makes bytes of it.
    pub fn into_request(self) -> R {
        self.request
    }
}

/// The answer of a rule.
#[derive(Clone, Debug)]
pub enum Verdict<R> {
    /// A read: go on.
    Allow(Cleared<R>),
    /// Forbidden; the client is told the reason.
    Deny(Denial),
    /// Not even a statement: PostgreSQL's own error text, audited as `error`, not as an attack.
    Fault(SqlFault),
}

/// A refusal, with what the client and the auditor need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// The verb or name that was refused, for the message: `INSERT`, `function pg_sleep`,
    /// `setting work_mem`. Taken from the grammar or from identifiers, never raw client text.
    pub operation: String,
    /// The rule of the policy that decided, as a path: `statements`, `functions.deny`.
    pub rule: &'static str,
}

impl Denial {
    /// A refusal of `operation` by `rule`.
    pub fn new(reason: Reason, operation: impl Into<String>, rule: &'static str) -> Self {
        Self { reason, operation: operation.into(), rule }
    }

    /// The sentence that the client reads (DESIGN section 4).
    #[must_use]
    pub fn message(&self) -> String {
        format!(
            "Database modification not permitted. This gate is read-only. Attempted operation: {}",
            self.operation
        )
    }
}

/// An error that PostgreSQL itself would give, answered by the gate in PostgreSQL's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlFault {
    /// The five characters, `42601`.
    pub sqlstate: &'static str,
    /// PostgreSQL's message.
    pub message: String,
    /// Where, counted in characters from 1 as PostgreSQL counts; `None` if it names no place.
    pub position: Option<usize>,
}
