//! The simple protocol: a string of statements, carried out piece by piece.
//!
//! One statement goes up as one extended series, so that the server itself refuses a hidden second
//! one. Two or more run inside a block of the gate's own, because a bare series is not PostgreSQL's
//! implicit transaction block (DECLARE, LOCK and SET LOCAL fail or warn in it). The client's own
//! transaction control inside the string is carried out as the server would in such a block, and a
//! part that ends a transaction is waited for before the next one goes up.

use std::sync::Arc;

use crate::audit::event::{Receipt, TxState};
use crate::policy::sql::{Chain, CursorFormat, Judgement, Past, Piece, PieceKind};
use crate::policy::verdict::{Cleared, SqlFault, Verdict};
use crate::postgres::outbox::{Describe, Outbox, OwnStatement, Run};
use crate::postgres::prepared::Change;
use crate::postgres::reply;
use crate::postgres::reply::Complaint;
use crate::postgres::session::awaited::{Reply, Rows, Show, Step, Warning, ends_transaction};
use crate::postgres::session::extended::change_of;
use crate::postgres::session::{After, Asked, Core, Phase, Ports, Series, Takeover, Upstream};

/// A judged string under way.
pub(super) struct Script {
    cleared: Cleared<Arc<Judgement>>,
    receipt: Receipt,
    ordinal: u64,
    next: usize,
    block: Block,
}

/// In whose transaction block the next statement runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    /// The client's: it said BEGIN, in this string or before.
    Client,
    /// The gate's own, standing for the server's implicit one.
    Gate,
    /// None is open.
    None,
}

/// What becomes of the next statement.
enum Plan {
    /// The gate answers in the server's words.
    Complain(Complaint),
    /// It is sent.
    Send(Warning),
}

impl Core {
    pub(super) fn simple_query(
        &mut self,
        sql: &[u8],
        ports: &mut Ports<'_>,
        out: &mut Outbox,
    ) -> Phase {
        self.names.drop_unnamed();
        let judged = ports.judge.judge(sql);
        let text = std::str::from_utf8(sql).ok();
        let asked = Asked { message: 'Q', text, bytes: sql.len(), digest: &judged.digest };
        let cleared = match &judged.verdict {
            Verdict::Allow(cleared) => cleared,
            Verdict::Deny(denial) => {
                let complaint = self.deny(denial, &asked, ports);
                return self.complain_simple(&complaint, out);
            }
            Verdict::Fault(fault) => {
                let complaint = self.fault(Complaint::of_sql(fault), &asked, ports);
                return self.complain_simple(&complaint, out);
            }
        };
        if cleared.request().pieces.is_empty() {
            reply::empty_query(out.client());
            reply::ready(self.tx, out.client());
            return Phase::Idle;
        }
        if let Some(denial) = self.unfit(cleared.request()) {
            let complaint = self.deny(&denial, &asked, ports);
            return self.complain_simple(&complaint, out);
        }
        let mut executed = cleared.request().pieces.iter().map(|piece| &piece.kind);
        let outdated = executed.find_map(|kind| self.outdated_execute(kind, ports));
        if let Some(complaint) = outdated {
            return self.complain_simple(&complaint, out);
        }
        let statements = cleared.request().pieces.len();
        let shared = self.take_share(statements, &asked, ports);
        let receipt = match shared.and_then(|()| self.allow(&asked, ports)) {
            Ok(receipt) => receipt,
            Err(complaint) => return self.complain_simple(&complaint, out),
        };
        self.past = Past::Statement;
        self.takeover = Takeover::None;
        let block = if self.tx == TxState::Idle { Block::None } else { Block::Client };
        let script =
            Script { cleared: cleared.clone(), receipt, ordinal: self.ordinal, next: 0, block };
        self.send_part(script, out)
    }

    /// Sends statements up to the end of the string or of a transaction, then Sync.
    fn send_part(&mut self, mut script: Script, out: &mut Outbox) -> Phase {
        let cleared = script.cleared.clone();
        let pieces = &cleared.request().pieces;
        while let Some(piece) = pieces.get(script.next) {
            let text = cleared.request().text.get(piece.start..piece.end).unwrap_or_default();
            if self.may_be_misread(text) {
                self.sync(out);
                return Phase::AwaitReady(After::Script(Box::new(script)));
            }
            let warning = match self.plan(&mut script, piece, pieces.len(), out) {
                Plan::Send(warning) => warning,
                Plan::Complain(complaint) => return self.stop_script(script, &complaint, out),
            };
            self.send_piece(&script, piece, warning, out);
            script.next += 1;
            if let Some(chain) = ends_transaction(&piece.kind) {
                script.block = match chain {
                    Chain::Chain => Block::Client,
                    Chain::NoChain => Block::None,
                };
                self.sync(out);
                return Phase::AwaitReady(After::Script(Box::new(script)));
            }
        }
        if script.block == Block::Gate {
            self.send_own(OwnStatement::Commit, out);
        }
        self.sync(out);
        Phase::AwaitReady(After::Script(Box::new(script)))
    }

    /// What the server would do with this statement where it stands in the string. Opens the
    /// gate's block when one is needed.
    fn plan(&mut self, script: &mut Script, piece: &Piece, of: usize, out: &mut Outbox) -> Plan {
        if let Some((number, position)) = piece.first_parameter {
            return Plan::Complain(no_parameter(number, position));
        }
        if let Some(complaint) = self.cannot_run(&piece.kind) {
            return Plan::Complain(complaint);
        }
        match (script.block, &piece.kind) {
            (Block::None, PieceKind::Begin) => script.block = Block::Client,
            (Block::Gate, PieceKind::Begin) => {
                script.block = Block::Client;
                self.takeover = Takeover::Asked;
                return Plan::Send(Warning::DropAlreadyInTransaction);
            }
            (Block::Gate, kind) => return plan_in_gate_block(kind),
            (Block::None, kind) if of > 1 && !is_transaction_control(kind) => {
                self.send_own(OwnStatement::Begin, out);
                script.block = Block::Gate;
            }
            (Block::None | Block::Client, _) => {}
        }
        Plan::Send(Warning::Keep)
    }

    fn send_piece(&mut self, script: &Script, piece: &Piece, warning: Warning, out: &mut Outbox) {
        let (describe, rows) = answers_of(&piece.kind);
        let format = match &piece.kind {
            PieceKind::Fetch(cursor) => {
                self.portal(cursor).map_or(CursorFormat::Text, |portal| portal.format)
            }
            _ => CursorFormat::Text,
        };
        out.forward_piece(&script.cleared, script.next, Run { describe, format }, &script.receipt);
        // A string of one statement is sent whole, so its positions are right as they come.
        let alone = script.cleared.request().pieces.len() == 1;
        let chars_before = if alone { 0 } else { piece.chars_before };
        let show = Show::Simple(Step { chars_before, rows, warning });
        self.expect(Reply::Parsed, show, Change::Nothing, 0);
        self.expect(Reply::Bound, show, Change::Nothing, 0);
        if describe == Describe::Yes {
            self.expect(Reply::DescribedPortal, show, Change::Nothing, 0);
        }
        let change = change_of(&piece.kind, &script.cleared, script.ordinal);
        self.expect(Reply::Executed, show, change, script.ordinal);
    }

    fn send_own(&mut self, statement: OwnStatement, out: &mut Outbox) {
        out.own(statement);
        for reply in [Reply::Parsed, Reply::Bound, Reply::Executed] {
            self.expect(reply, Show::Hidden, Change::Nothing, 0);
        }
    }

    /// The string ends here with an error of the gate's, after the answers to what was sent.
    fn stop_script(&mut self, script: Script, complaint: &Complaint, out: &mut Outbox) -> Phase {
        let nothing_open = match script.block {
            Block::Client => self.tx == TxState::Failed,
            Block::Gate => false,
            Block::None => true,
        };
        if nothing_open && self.upstream == Upstream::Clean {
            return self.complain_simple(complaint, out);
        }
        self.fail_upstream(complaint, out);
        Phase::AwaitReady(After::Script(Box::new(script)))
    }

    /// The server is ready: the string goes on, is cleaned up after, or has ended. `None` when the
    /// client may be told.
    pub(super) fn script_ready(&mut self, mut script: Script, out: &mut Outbox) -> Option<Phase> {
        if self.series == Series::Failed {
            // A BEGIN that failed has not made the block the client's.
            let gates_own = script.block == Block::Gate || self.takeover == Takeover::Asked;
            if !gates_own || self.tx != TxState::Failed {
                return None;
            }
            self.send_own(OwnStatement::Rollback, out);
            self.sync(out);
            script.block = Block::None;
            return Some(Phase::AwaitReady(After::Client));
        }
        if script.next < script.cleared.request().pieces.len() {
            return Some(self.send_part(script, out));
        }
        None
    }
}

/// Inside an implicit block the server refuses what needs a real one.
fn plan_in_gate_block(kind: &PieceKind) -> Plan {
    let needs_real_block = |verb: &str| {
        let words = format!("{verb} can only be used in transaction blocks");
        Plan::Complain(Complaint::of_postgres("25P01", words))
    };
    match kind {
        PieceKind::Commit(Chain::Chain) => needs_real_block("COMMIT AND CHAIN"),
        PieceKind::Rollback(Chain::Chain) => needs_real_block("ROLLBACK AND CHAIN"),
        PieceKind::Savepoint => needs_real_block("SAVEPOINT"),
        PieceKind::Release => needs_real_block("RELEASE SAVEPOINT"),
        PieceKind::RollbackTo => needs_real_block("ROLLBACK TO SAVEPOINT"),
        PieceKind::Commit(Chain::NoChain) | PieceKind::Rollback(Chain::NoChain) => {
            Plan::Send(Warning::AddNoTransaction)
        }
        _ => Plan::Send(Warning::Keep),
    }
}

const fn is_transaction_control(kind: &PieceKind) -> bool {
    matches!(
        kind,
        PieceKind::Begin
            | PieceKind::Commit(_)
            | PieceKind::Release
            | PieceKind::Rollback(_)
            | PieceKind::RollbackTo
            | PieceKind::Savepoint
    )
}

const fn answers_of(kind: &PieceKind) -> (Describe, Rows) {
    match kind {
        PieceKind::Query => (Describe::Yes, Rows::Plan),
        PieceKind::Execute { .. } | PieceKind::Fetch(_) | PieceKind::UtilityRows => {
            (Describe::Yes, Rows::Utility)
        }
        PieceKind::Begin
        | PieceKind::CloseCursor(_)
        | PieceKind::Commit(_)
        | PieceKind::CopyOut
        | PieceKind::Deallocate(_)
        | PieceKind::DeclareCursor { .. }
        | PieceKind::DiscardAll
        | PieceKind::Move(_)
        | PieceKind::Prepare(_)
        | PieceKind::Quiet
        | PieceKind::Release
        | PieceKind::Rollback(_)
        | PieceKind::RollbackTo
        | PieceKind::Savepoint => (Describe::No, Rows::Plan),
    }
}

/// The simple protocol has no parameters.
fn no_parameter(number: u32, position: usize) -> Complaint {
    Complaint::of_sql(&SqlFault {
        sqlstate: "42P02",
        message: format!("there is no parameter ${number}"),
        position: Some(position),
    })
}
