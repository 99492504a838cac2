//! The extended protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync.
//!
//! Each judged message goes on at once; a refusal stands in for the refused message in the order of
//! the series. What executing a statement does to the names is learned from its own kind.

use std::sync::Arc;

use crate::audit::event::{Receipt, TxState};
use crate::policy::sql::{CursorFormat, Hold, Judgement, Past, PieceKind};
use crate::policy::verdict::{Cleared, Verdict};
use crate::postgres::message::{Bind, ClientMessage, Parse, Target};
use crate::postgres::outbox::{Outbox, Verb};
use crate::postgres::prepared::{Change, Portal, Prepared};
use crate::postgres::reply::Complaint;
use crate::postgres::session::awaited::{Reply, Show, ends_transaction, no_portal, no_statement};
use crate::postgres::session::{After, Asked, Core, Phase, Ports};

/// A judged and recorded Parse that has not been sent yet.
pub(super) struct HeldParse {
    name: String,
    cleared: Cleared<Arc<Judgement>>,
    parameter_types: Vec<u8>,
    receipt: Receipt,
}

impl Core {
    /// A message of a series. `raw` is the whole of it, as received.
    pub(super) fn extended(
        &mut self,
        message: ClientMessage<'_>,
        raw: &[u8],
        ports: &mut Ports<'_>,
        out: &mut Outbox,
    ) -> Phase {
        let done = match message {
            ClientMessage::Parse(parse) => self.parse(&parse, ports, out),
            ClientMessage::Bind(bind) => self.bind(&bind, ports, out),
            ClientMessage::Describe(target) => self.describe(&target, out),
            ClientMessage::Close(target) => {
                self.close(&target, out);
                Ok(Phase::Series)
            }
            ClientMessage::Execute(portal) => self.execute(portal, raw, ports, out),
            ClientMessage::Sync => {
                self.sync(out);
                Ok(Phase::AwaitReady(After::Client))
            }
            _ => {
                out.flush();
                Ok(Phase::Series)
            }
        };
        done.unwrap_or_else(|complaint| self.complain_in_series(&complaint, out))
    }

    fn parse(
        &mut self,
        parse: &Parse<'_>,
        ports: &mut Ports<'_>,
        out: &mut Outbox,
    ) -> Result<Phase, Complaint> {
        if parse.name.is_empty() {
            // Even a Parse that fails destroys the unnamed statement.
            self.names.apply(Change::DropStatement(String::new()));
        }
        let judged = ports.judge.judge(parse.sql);
        let of_types = ports.judge.judge_types(parse.parameter_types);
        let asked = Asked {
            message: 'P',
            text: std::str::from_utf8(parse.sql).ok(),
            bytes: parse.sql.len(),
            digest: &judged.digest,
        };
        let cleared = match (&judged.verdict, &of_types) {
            (Verdict::Allow(_), Some(denial)) | (Verdict::Deny(denial), _) => {
                return Err(self.deny(denial, &asked, ports));
            }
            (Verdict::Allow(cleared), None) => cleared,
            (Verdict::Fault(fault), _) => {
                return Err(self.fault(Complaint::of_sql(fault), &asked, ports));
            }
        };
        if cleared.request().pieces.len() > 1 {
            let words = "cannot insert multiple commands into a prepared statement";
            return Err(self.fault(Complaint::of_postgres("42601", words), &asked, ports));
        }
        if let Some(complaint) = self.no_room(&Target::Statement(parse.name)) {
            return Err(self.fault(complaint, &asked, ports));
        }
        if let Some(denial) = self.unfit(cleared.request()) {
            return Err(self.deny(&denial, &asked, ports));
        }
        self.take_share(1, &asked, ports)?;
        let receipt = self.allow(&asked, ports)?;
        self.past = Past::Statement;
        let held = HeldParse {
            name: parse.name.to_owned(),
            cleared: cleared.clone(),
            parameter_types: parse.parameter_types.to_vec(),
            receipt,
        };
        if self.may_be_misread(&cleared.request().text) {
            self.sync(out);
            return Ok(Phase::AwaitReady(After::Parse(Box::new(held))));
        }
        self.forward_parse(held, out);
        Ok(Phase::Series)
    }

    pub(super) fn forward_parse(&mut self, held: HeldParse, out: &mut Outbox) {
        let HeldParse { name, cleared, parameter_types, receipt } = held;
        out.forward_parse(&name, &cleared, &parameter_types, &receipt);
        self.fresh = Some(self.ordinal);
        let prepared = Arc::new(Prepared::by_parse(cleared, self.ordinal));
        self.expect(Reply::Parsed, Show::All, Change::Statement(name, prepared), 0);
    }

    fn bind(
        &mut self,
        bind: &Bind<'_>,
        ports: &mut Ports<'_>,
        out: &mut Outbox,
    ) -> Result<Phase, Complaint> {
        let prepared =
            self.statement(bind.statement).ok_or_else(|| no_statement(bind.statement))?;
        if let Some(complaint) = self.no_room(&Target::Portal(bind.portal)) {
            return Err(complaint);
        }
        if let Some(complaint) = self.outdated(&prepared, ports) {
            return Err(complaint);
        }
        // The verdict on a Parse of this very series covers the first run.
        let ordinal = if self.fresh.take() == Some(prepared.ordinal) {
            prepared.ordinal
        } else {
            let judgement = prepared.cleared.request();
            let asked = Asked {
                message: 'B',
                text: Some(&judgement.text),
                bytes: judgement.text.len(),
                digest: &judgement.digest,
            };
            self.take_share(1, &asked, ports)?;
            self.allow(&asked, ports)?;
            self.ordinal
        };
        out.forward_bind(bind, &prepared);
        let portal = Portal {
            kind: prepared.kind.clone(),
            cleared: prepared.cleared.clone(),
            ordinal,
            hold: Hold::WithoutHold,
            format: CursorFormat::Text,
        };
        let change = Change::Portal(bind.portal.to_owned(), Box::new(portal));
        self.expect(Reply::Bound, Show::All, change, 0);
        Ok(Phase::Series)
    }

    /// Judges a statement that was prepared under another state of the database, or another
    /// `search_path`, again: the server plans it anew, and names may lead elsewhere now.
    fn outdated(&mut self, prepared: &Prepared, ports: &mut Ports<'_>) -> Option<Complaint> {
        let judgement = prepared.cleared.request();
        if judgement.stamp == ports.judge.stamp() {
            return None;
        }
        let judged = ports.judge.judge(judgement.text.as_bytes());
        let Verdict::Deny(denial) = &judged.verdict else { return None };
        let asked = Asked {
            message: 'B',
            text: Some(&judgement.text),
            bytes: judgement.text.len(),
            digest: &judged.digest,
        };
        Some(self.deny(denial, &asked, ports))
    }

    /// The same for what an `EXECUTE` names.
    pub(super) fn outdated_execute(
        &mut self,
        kind: &PieceKind,
        ports: &mut Ports<'_>,
    ) -> Option<Complaint> {
        let PieceKind::Execute { name, .. } = kind else { return None };
        let prepared = self.statement(name)?;
        self.outdated(&prepared, ports)
    }

    /// Why this cannot run as the session stands.
    pub(super) fn cannot_run(&self, kind: &PieceKind) -> Option<Complaint> {
        match kind {
            PieceKind::DeclareCursor { name, .. } => self.no_room(&Target::Portal(name)),
            PieceKind::Execute { name, .. } => self.names_nothing(name),
            PieceKind::Prepare(name) => self.no_room(&Target::Statement(name)),
            _ => None,
        }
    }

    /// A session that piles up names would take the memory of the others.
    fn no_room(&self, target: &Target<'_>) -> Option<Complaint> {
        let words = "too many prepared statements or portals in this session";
        (!self.names.have_room(target)).then(|| Complaint::of_postgres("53400", words))
    }

    /// An `EXECUTE` in SQL must name a statement that was judged, and one that does nothing to the
    /// session: the end of a transaction, or what becomes of a name, would be overlooked otherwise.
    /// (SQL's own PREPARE takes nothing but queries; Parse takes all.)
    fn names_nothing(&self, name: &str) -> Option<Complaint> {
        if self.tx == TxState::Failed {
            let words =
                "current transaction is aborted, commands ignored until end of transaction block";
            return Some(Complaint::of_postgres("25P02", words));
        }
        let Some(prepared) = self.statement(name) else { return Some(no_statement(name)) };
        match prepared.kind {
            PieceKind::Query | PieceKind::UtilityRows => None,
            _ => {
                let words = "EXECUTE of anything but a query is not supported by this gate";
                Some(Complaint::of_postgres("0A000", words))
            }
        }
    }

    fn describe(&mut self, target: &Target<'_>, out: &mut Outbox) -> Result<Phase, Complaint> {
        let reply = match target {
            Target::Portal(name) => {
                self.portal(name).ok_or_else(|| no_portal(name))?;
                Reply::DescribedPortal
            }
            Target::Statement(name) => {
                self.statement(name).ok_or_else(|| no_statement(name))?;
                Reply::DescribedStatement
            }
        };
        out.forward_target(Verb::Describe, target);
        self.expect(reply, Show::All, Change::Nothing, 0);
        Ok(Phase::Series)
    }

    fn close(&mut self, target: &Target<'_>, out: &mut Outbox) {
        let change = match target {
            Target::Portal(name) => Change::DropPortal((*name).to_owned()),
            Target::Statement(name) => Change::DropStatement((*name).to_owned()),
        };
        out.forward_target(Verb::Close, target);
        self.expect(Reply::Closed, Show::All, change, 0);
    }

    fn execute(
        &mut self,
        name: &str,
        raw: &[u8],
        ports: &mut Ports<'_>,
        out: &mut Outbox,
    ) -> Result<Phase, Complaint> {
        let portal = self.portal(name).ok_or_else(|| no_portal(name))?;
        let outdated = self.outdated_execute(&portal.kind, ports);
        if let Some(complaint) = outdated.or_else(|| self.cannot_run(&portal.kind)) {
            return Err(complaint);
        }
        out.forward_execute(raw, &portal);
        let change = change_of(&portal.kind, &portal.cleared, portal.ordinal);
        self.expect(Reply::Executed, Show::All, change, portal.ordinal);
        if ends_transaction(&portal.kind).is_none() {
            return Ok(Phase::Series);
        }
        // The transaction ends here: nothing more goes up before the server has said, by
        // ReadyForQuery with all pins unchanged, that the next one is read-only too.
        self.sync(out);
        Ok(Phase::AwaitReady(After::Boundary))
    }
}

/// What a statement changes in the names once it has run.
pub(super) fn change_of(
    kind: &PieceKind,
    cleared: &Cleared<Arc<Judgement>>,
    ordinal: u64,
) -> Change {
    match kind {
        PieceKind::CloseCursor(Some(name)) => Change::DropPortal(name.clone()),
        PieceKind::CloseCursor(None) => Change::DropPortals,
        PieceKind::Deallocate(Some(name)) => Change::DropStatement(name.clone()),
        PieceKind::Deallocate(None) => Change::DropStatements,
        PieceKind::DeclareCursor { name, hold, format } => {
            let portal = Portal {
                kind: PieceKind::Query,
                cleared: cleared.clone(),
                ordinal,
                hold: *hold,
                format: *format,
            };
            Change::Portal(name.clone(), Box::new(portal))
        }
        PieceKind::DiscardAll => Change::DropEverything,
        PieceKind::Prepare(name) => {
            Change::Statement(name.clone(), Arc::new(Prepared::by_sql(cleared.clone(), ordinal)))
        }
        PieceKind::Begin
        | PieceKind::Commit(_)
        | PieceKind::CopyOut
        | PieceKind::Execute { .. }
        | PieceKind::Fetch(_)
        | PieceKind::Move(_)
        | PieceKind::Query
        | PieceKind::Quiet
        | PieceKind::Release
        | PieceKind::Rollback(_)
        | PieceKind::RollbackTo
        | PieceKind::Savepoint
        | PieceKind::UtilityRows => Change::Nothing,
    }
}
