//! What one statement may answer with, and how a statement is stopped that goes beyond a limit.
//!
//! Stopping has two halves. The client is told at once, behind the rows that fitted. The server is
//! asked to cancel, which it may do soon, late or not at all; until its ReadyForQuery nothing of
//! what it still says is passed on. Then both must stand where PostgreSQL stands after an error: if
//! the request came too late to fail an open transaction, the gate fails it.

use crate::audit::event::{Decision, Entry, Kind, Ledger, TxState};
use crate::policy::limits::{Budget, Haste, Limits};
use crate::policy::reason::Reason;
use crate::postgres::outbox::{Outbox, OwnStatement};
use crate::postgres::prepared::Change;
use crate::postgres::reply::Complaint;
use crate::postgres::session::answers::note_end;
use crate::postgres::session::awaited::{Awaited, Reply, Rows, Show};
use crate::postgres::session::{Asked, Core, Phase, Ports, Series, Session, Skip, unrecorded};

/// What the statement in progress has answered with, and may.
pub(super) struct Tally {
    /// Rows of the present Execute.
    rows: u64,
    /// Their bytes.
    bytes: u64,
    /// What the portal of the present Execute had answered with before.
    earlier: Counted,
    /// What other open portals have answered with, if that counts.
    suspended: Vec<Counted>,
    most_rows: u64,
    most_bytes: u64,
    /// How many statements have ended.
    finished: u64,
    /// What the session may use of its principal's share; without one it may use anything.
    budget: Option<Box<dyn Budget>>,
    /// How soon the last refusal is to be answered.
    haste: Haste,
}

/// What one portal has answered with.
#[derive(Clone, Copy, Default)]
struct Counted {
    ordinal: u64,
    rows: u64,
    bytes: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            rows: 0,
            bytes: 0,
            earlier: Counted::default(),
            suspended: Vec::new(),
            most_rows: u64::MAX,
            most_bytes: u64::MAX,
            finished: 0,
            budget: None,
            haste: Haste::AtOnce,
        }
    }
}

impl Tally {
    /// Counts a row of so many bytes, if there may be one more. `ordinal` is the statement's.
    pub(super) fn count(&mut self, bytes: u64, ordinal: u64) -> RowFate {
        if self.rows == 0 {
            let known = self.suspended.iter().find(|counted| counted.ordinal == ordinal);
            self.earlier = known.copied().unwrap_or_default();
        }
        let total = self.earlier.bytes.saturating_add(self.bytes).saturating_add(bytes);
        if self.earlier.rows.saturating_add(self.rows) >= self.most_rows {
            return RowFate::Over(Reason::LimitRows);
        }
        if total > self.most_bytes {
            return RowFate::Over(Reason::LimitBytes);
        }
        self.rows += 1;
        self.bytes += bytes;
        RowFate::Pass
    }

    /// The Execute has ended; returns its rows and bytes.
    pub(super) fn end(&mut self) -> (u64, u64) {
        self.finished += 1;
        (std::mem::take(&mut self.rows), std::mem::take(&mut self.bytes))
    }

    /// The Execute has ended, but its portal may go on: the count is kept, or a limit could be
    /// walked round in small steps.
    pub(super) fn suspend(&mut self, ordinal: u64) -> (u64, u64) {
        if self.most_rows < u64::MAX || self.most_bytes < u64::MAX {
            let rows = self.earlier.rows.saturating_add(self.rows);
            let bytes = self.earlier.bytes.saturating_add(self.bytes);
            self.suspended.retain(|known| known.ordinal != ordinal);
            self.suspended.push(Counted { ordinal, rows, bytes });
        }
        self.end()
    }

    /// Something has been refused.
    pub(super) fn refuse(&mut self) {
        if let Some(budget) = &mut self.budget {
            self.haste = budget.refuse();
        }
    }

    /// No statement runs any more.
    pub(super) fn rest(&mut self) {
        if let Some(budget) = &mut self.budget {
            budget.end();
        }
    }

    /// No portal is open any more whose count matters.
    pub(super) fn end_transaction(&mut self) {
        self.suspended.clear();
    }
}

/// What becomes of a row whose header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFate {
    /// It is not passed on: its statement has been stopped.
    Drop,
    /// It is one too many: its statement must be stopped.
    Over(Reason),
    /// It is passed on.
    Pass,
}

/// What the session is waiting for, as far as clocks are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The client, outside of a transaction.
    Idle,
    /// The client, inside of one.
    IdleInTransaction,
    /// The server, which has to come to its ReadyForQuery after an error.
    Settling,
    /// The server, which runs the statement with this number.
    Working(u64),
}

impl Session {
    /// The same session with a policy's limits on what one statement may answer with.
    #[must_use]
    pub fn within(mut self, limits: &Limits) -> Self {
        self.core.tally.most_rows = limits.result_rows;
        self.core.tally.most_bytes = limits.result_bytes;
        self
    }

    /// The same session with a part in what its principal may use.
    #[must_use]
    pub fn sharing(mut self, budget: Box<dyn Budget>) -> Self {
        self.core.tally.budget = Some(budget);
        self
    }

    /// How soon what has just been refused is to be answered.
    pub const fn take_haste(&mut self) -> Haste {
        std::mem::replace(&mut self.core.tally.haste, Haste::AtOnce)
    }

    /// What the session is waiting for.
    #[must_use]
    pub fn pace(&self) -> Pace {
        let core = &*self.core;
        match (core.awaited.is_empty(), core.series) {
            (false, Series::Good) => Pace::Working(core.tally.finished),
            (false, Series::Failed | Series::Stopped) => Pace::Settling,
            (true, _) if core.tx != TxState::Idle || matches!(self.phase, Phase::Series) => {
                Pace::IdleInTransaction
            }
            (true, _) => Pace::Idle,
        }
    }

    /// Whether the server has to be asked to cancel what it does for this session, until it has
    /// done so.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.core.series == Series::Stopped && !self.core.awaited.is_empty()
    }

    /// Stops the statement that the server is working on: the client reads an error, and what the
    /// server still says about it is not passed on. Without such a statement nothing happens.
    #[must_use]
    pub fn stop_statement(
        mut self,
        reason: Reason,
        ledger: &mut dyn Ledger,
        out: &mut Outbox,
    ) -> Self {
        let core = &mut *self.core;
        // After an error the client has been told why its statement ended.
        if core.awaited.is_empty() || core.series != Series::Good {
            return self;
        }
        core.describe_plan(out);
        core.note_limit(reason, ledger).encode(out.client());
        core.series = Series::Stopped;
        self.phase = match self.phase {
            Phase::Series => {
                core.sync(out);
                Phase::Skip(Skip::ServerOwes)
            }
            phase => phase,
        };
        self
    }
}

impl Core {
    /// Takes the share of so many statements before they are let through.
    ///
    /// # Errors
    /// The refusal, if the principal has used its share.
    pub(super) fn take_share(
        &mut self,
        statements: usize,
        asked: &Asked<'_>,
        ports: &mut Ports<'_>,
    ) -> Result<(), Complaint> {
        let taken = self.tally.budget.as_mut().map_or(Ok(()), |budget| budget.begin(statements));
        let Err(reason) = taken else { return Ok(()) };
        let entry = Entry {
            kind: Kind::LimitHit,
            decision: Decision::Deny,
            reason: Some(reason),
            message: "refused",
            rule: Some("limits.principal"),
            upstream_contacted: Some(false),
            gate_action: (self.tx == TxState::Read).then_some("abort"),
            ..self.entry(asked, ports)
        };
        let words = "too many statements of this principal at once or in a second";
        Err(match ports.ledger.record(&entry) {
            Ok(receipt) => Complaint::fault(reason, words, Some(&receipt)),
            Err(_) => unrecorded(),
        })
    }

    /// A plan's columns are described before it runs, so the client reads them before the error.
    fn describe_plan(&mut self, out: &mut Outbox) {
        let held = self.held.take();
        if let Some(Awaited { show: Show::Simple(step), .. }) = self.awaited.front()
            && step.rows == Rows::Plan
            && let Some(description) = held
        {
            out.client().extend_from_slice(&description);
        }
    }

    /// Records that a limit was met, and how the statement ended; words it for the client.
    fn note_limit(&mut self, reason: Reason, ledger: &mut dyn Ledger) -> Complaint {
        let statement = self.awaited.front().map_or(0, |front| front.ordinal);
        let entry = Entry {
            reason: Some(reason),
            rule: Some("limits"),
            statement,
            upstream_contacted: Some(true),
            gate_action: Some("cancel"),
            ..Entry::plain(Kind::LimitHit, Decision::Deny, "the statement was stopped")
        };
        let complaint = match ledger.record(&entry) {
            Ok(receipt) => Complaint::fault(reason, words(reason), Some(&receipt)),
            Err(_) => unrecorded(),
        };
        let (rows, bytes) = self.tally.end();
        note_end(statement, complaint.sqlstate(), rows, bytes, ledger);
        if let Some(front) = self.awaited.front_mut() {
            front.ordinal = 0;
        }
        complaint
    }

    /// The request to cancel came too late for the transaction to fail: the gate fails it, for the
    /// client has been told so.
    pub(super) fn fail_silently(&mut self, out: &mut Outbox) {
        out.own(OwnStatement::Fail);
        self.expect(Reply::StandIn(Vec::new()), Show::Hidden, Change::Nothing, 0);
        self.sync(out);
    }
}

/// The sentence for the client.
const fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::LimitBytes => "the statement has more bytes of rows than this gate lets through",
        Reason::LimitRows => "the statement has more rows than this gate lets through",
        _ => "canceling statement due to the time limit of this gate",
    }
}
