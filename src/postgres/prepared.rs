//! Names that a client has given to statements and portals, with what was judged under them.
//!
//! One namespace for protocol Parse and SQL `PREPARE`, as in the server. A name that is not here is
//! never sent on: whatever the server may hold under it was not judged.

use std::collections::HashMap;
use std::sync::Arc;

use crate::policy::sql::{CursorFormat, Hold, Judgement, PieceKind};
use crate::policy::verdict::Cleared;
use crate::postgres::message::Target;

/// Most named statements, and most named portals, that one session may hold: 4,096. PostgreSQL has
/// no bound; drivers keep some hundreds. A single series may go beyond it by as much as it awaits.
pub const MAX_NAMES: usize = 4096;

/// A statement that may be bound or executed.
#[derive(Debug)]
pub struct Prepared {
    /// What was judged.
    pub cleared: Cleared<Arc<Judgement>>,
    /// What executing it does to the session.
    pub kind: PieceKind,
    /// The audit ordinal of the verdict.
    pub ordinal: u64,
}

impl Prepared {
    /// A statement sent by Parse.
    #[must_use]
    pub fn by_parse(cleared: Cleared<Arc<Judgement>>, ordinal: u64) -> Self {
        let kind =
            cleared.request().pieces.first().map_or(PieceKind::Quiet, |piece| piece.kind.clone());
        Self { cleared, kind, ordinal }
    }

    /// A statement made by SQL `PREPARE`, which takes nothing but queries.
    #[must_use]
    pub fn by_sql(cleared: Cleared<Arc<Judgement>>, ordinal: u64) -> Self {
        Self { cleared, kind: PieceKind::Query, ordinal }
    }
}

/// A portal or cursor that may be executed or fetched from.
#[derive(Clone, Debug)]
pub struct Portal {
    /// What executing it does to the session.
    pub kind: PieceKind,
    /// The text it came from, for `PREPARE` and `DECLARE` in it.
    pub cleared: Cleared<Arc<Judgement>>,
    /// The audit ordinal of the verdict under which it runs.
    pub ordinal: u64,
    /// Whether it outlives its transaction.
    pub hold: Hold,
    /// The format in which a simple FETCH from it answers.
    pub format: CursorFormat,
}

/// What an answer of the server will change in the names once it arrives.
#[derive(Clone, Debug)]
pub enum Change {
    /// `Close` of a portal, or `CLOSE name`.
    DropPortal(String),
    /// `CLOSE ALL`.
    DropPortals,
    /// `Close` of a statement, or `DEALLOCATE name`.
    DropStatement(String),
    /// `DEALLOCATE ALL`.
    DropStatements,
    /// `DISCARD ALL`.
    DropEverything,
    /// Nothing.
    Nothing,
    /// A portal comes to be.
    Portal(String, Box<Portal>),
    /// A statement comes to be.
    Statement(String, Arc<Prepared>),
}

/// Statements and portals by name.
#[derive(Debug, Default)]
pub struct Names {
    statements: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Portal>,
}

impl Names {
    /// The statement of this name.
    #[must_use]
    pub fn statement(&self, name: &str) -> Option<&Arc<Prepared>> {
        self.statements.get(name)
    }

    /// The portal of this name.
    #[must_use]
    pub fn portal(&self, name: &str) -> Option<&Portal> {
        self.portals.get(name)
    }

    /// Whether one more of this name can be held. What is unnamed takes the place of what was, and a
    /// name that is there already is the server's to complain of.
    #[must_use]
    pub fn have_room(&self, target: &Target<'_>) -> bool {
        match *target {
            Target::Portal("") | Target::Statement("") => true,
            Target::Portal(name) => {
                self.portals.len() < MAX_NAMES || self.portals.contains_key(name)
            }
            Target::Statement(name) => {
                self.statements.len() < MAX_NAMES || self.statements.contains_key(name)
            }
        }
    }

    /// The server has confirmed a change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Nothing => {}
            Change::DropEverything => {
                self.statements.clear();
                self.portals.clear();
            }
            Change::DropPortal(name) => {
                self.portals.remove(&name);
            }
            Change::DropPortals => self.portals.clear(),
            Change::DropStatement(name) => {
                self.statements.remove(&name);
            }
            Change::DropStatements => self.statements.clear(),
            Change::Portal(name, portal) => {
                self.portals.insert(name, *portal);
            }
            Change::Statement(name, prepared) => {
                self.statements.insert(name, prepared);
            }
        }
    }

    /// A simple query destroys the unnamed statement and the unnamed portal, even if it is refused.
    pub fn drop_unnamed(&mut self) {
        self.statements.remove("");
        self.portals.remove("");
    }

    /// A transaction has ended: its portals are gone, `WITH HOLD` cursors stay.
    pub fn end_transaction(&mut self) {
        if !self.portals.is_empty() {
            self.portals.retain(|_, portal| portal.hold == Hold::WithHold);
        }
    }
}
