//! Answers that the server owes, in the order in which it will give them.

use std::sync::Arc;

use crate::policy::sql::{Chain, PieceKind};
use crate::postgres::prepared::{Change, Portal, Prepared};
use crate::postgres::reply::Complaint;
use crate::postgres::session::Core;

/// One answer, or run of answers, that the server owes.
pub(super) struct Awaited {
    pub(super) reply: Reply,
    pub(super) show: Show,
    /// What changes in the names once it has come.
    pub(super) change: Change,
    /// Audit ordinal of the verdict it belongs to; 0 if none.
    pub(super) ordinal: u64,
}

/// What the server will say.
pub(super) enum Reply {
    /// `2` `BindComplete`.
    Bound,
    /// `3` `CloseComplete`.
    Closed,
    /// `T` or `n` for a portal.
    DescribedPortal,
    /// `t`, then `T` or `n`, for a statement.
    DescribedStatement,
    /// Rows or COPY data, then `C`, `I` or `s`.
    Executed,
    /// `1` `ParseComplete`.
    Parsed,
    /// `Z` `ReadyForQuery`.
    Ready,
    /// The error of the gate's own failing statement; the client reads these bytes instead.
    StandIn(Vec<u8>),
}

/// What the client sees of it.
#[derive(Clone, Copy)]
pub(super) enum Show {
    /// Everything, as it came.
    All,
    /// Nothing but errors.
    Hidden,
    /// What a simple query would have been answered.
    Simple(Step),
}

/// How one statement of a simple query is answered.
#[derive(Clone, Copy)]
pub(super) struct Step {
    /// Characters of the string before the bytes that were sent; added to error positions.
    pub(super) chars_before: usize,
    pub(super) rows: Rows,
    pub(super) warning: Warning,
}

/// Who makes the rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// A plan: the description goes out before whatever comes next.
    Plan,
    /// A utility statement (EXPLAIN, FETCH, SHOW, EXECUTE): it runs to its end first, so notices
    /// come before the description, and after an error there is none.
    Utility,
}

/// What happens to warnings about transaction control inside a string.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Warning {
    /// BEGIN inside the gate's own block: the server warns of a transaction that the client has
    /// not begun (25001).
    DropAlreadyInTransaction,
    /// COMMIT of the gate's own block: the server would have warned that there is none (25P01).
    AddNoTransaction,
    /// As they come.
    Keep,
}

impl Core {
    /// The statement of this name, as it will be when the server has answered all it was asked.
    pub(super) fn statement(&self, name: &str) -> Option<Arc<Prepared>> {
        for awaited in self.awaiting_changes() {
            match &awaited.change {
                Change::Statement(made, prepared) if made == name => {
                    return Some(Arc::clone(prepared));
                }
                Change::DropStatement(dropped) if dropped == name => return None,
                Change::DropStatements | Change::DropEverything => return None,
                _ => {}
            }
        }
        self.names.statement(name).cloned()
    }

    /// The portal of this name, as it will be when the server has answered all it was asked.
    pub(super) fn portal(&self, name: &str) -> Option<Portal> {
        for awaited in self.awaiting_changes() {
            match &awaited.change {
                Change::Portal(made, portal) if made == name => return Some((**portal).clone()),
                Change::DropPortal(dropped) if dropped == name => return None,
                Change::DropPortals | Change::DropEverything => return None,
                _ => {}
            }
        }
        self.names.portal(name).cloned()
    }

    /// Outstanding answers, the newest first; none if no name is about to change.
    fn awaiting_changes(&self) -> impl Iterator<Item = &Awaited> {
        let most = if self.pending_changes == 0 { 0 } else { usize::MAX };
        self.awaited.iter().rev().take(most)
    }
}

/// Whether executing this ends the transaction, and with it the series.
pub(super) const fn ends_transaction(kind: &PieceKind) -> Option<Chain> {
    match kind {
        PieceKind::Commit(chain) | PieceKind::Rollback(chain) => Some(*chain),
        _ => None,
    }
}

/// PostgreSQL's error for a prepared statement that does not exist.
pub(super) fn no_statement(name: &str) -> Complaint {
    if name.is_empty() {
        return Complaint::of_postgres("26000", "unnamed prepared statement does not exist");
    }
    Complaint::of_postgres("26000", format!("prepared statement \"{name}\" does not exist"))
}

/// PostgreSQL's error for a portal that does not exist.
pub(super) fn no_portal(name: &str) -> Complaint {
    Complaint::of_postgres("34000", format!("portal \"{name}\" does not exist"))
}
