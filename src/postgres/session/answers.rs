//! What the server says, matched with what it was asked, and turned into what the client reads.
//!
//! Rows are counted and passed on unread. Everything else is matched against the oldest outstanding
//! answer; what fits no question ends the session. The tripwire is here: a report that a pinned
//! setting has changed ends it too.

use crate::audit::event::{Decision, Entry, Kind, Ledger, Response, TxState};
use crate::policy::reason::Reason;
use crate::postgres::frame::{Frame, ProtocolViolation};
use crate::postgres::outbox::Outbox;
use crate::postgres::prepared::Change;
use crate::postgres::reply;
use crate::postgres::reply::Complaint;
use crate::postgres::session::awaited::{Awaited, Reply, Rows, Show, Warning};
use crate::postgres::session::limits::RowFate;
use crate::postgres::session::{
    After, Core, Lexing, Phase, Series, Session, Skip, Takeover, Upstream,
};

/// Settings that must stay as they were verified at login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// Major version of the server; 0 if unknown, and then it is taken for the oldest.
    pub server_major: u32,
    /// `is_superuser` and `session_authorization` as the server reported them at login.
    pub reported_at_login: Vec<(String, String)>,
}

/// The settings that every session is pinned to, as the server reports them.
pub const PINNED: [(&str, &str); 3] = [
    ("default_transaction_read_only", "on"),
    ("standard_conforming_strings", "on"),
    ("client_encoding", "UTF8"),
];

impl Pins {
    /// Whether a report of the server leaves all pins where they are.
    #[must_use]
    pub fn hold(&self, name: &str, value: &str) -> bool {
        let pinned = PINNED.iter().find(|(pin, _)| *pin == name);
        let noted = self.reported_at_login.iter().find(|(noted, _)| noted == name);
        pinned.is_none_or(|(_, right)| *right == value)
            && noted.is_none_or(|(_, before)| before == value)
    }
}

/// How grave an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The session goes on.
    Error,
    /// The server closes the connection.
    Fatal,
}

impl Severity {
    /// Of an `ErrorResponse` body: field V, or S where there is none (before 9.6).
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        match field(body, b'V').or_else(|| field(body, b'S')) {
            Some(b"FATAL" | b"PANIC") => Self::Fatal,
            _ => Self::Error,
        }
    }
}

impl Session {
    /// Takes the header of a row or of COPY data. The bytes themselves are passed on by the caller,
    /// behind what this puts into the outbox, if they are to be.
    ///
    /// # Errors
    /// Rows that nobody asked for.
    pub fn on_row(&mut self, bytes: usize, out: &mut Outbox) -> Result<RowFate, ProtocolViolation> {
        let core = &mut *self.core;
        let Some(Awaited {
            reply: Reply::Executed,
            show: Show::All | Show::Simple(_),
            ordinal,
            ..
        }) = core.awaited.front()
        else {
            return Err(ProtocolViolation::UnexpectedAnswer);
        };
        if core.series == Series::Stopped {
            return Ok(RowFate::Drop);
        }
        let fate = core.tally.count(bytes as u64, *ordinal);
        if fate == RowFate::Pass && core.held.is_some() {
            core.release_held(out);
        }
        Ok(fate)
    }

    /// Takes any other whole message of the server.
    ///
    /// # Errors
    /// A message that ends the connection.
    pub fn on_server(
        mut self,
        frame: Frame<'_>,
        ledger: &mut dyn Ledger,
        out: &mut Outbox,
    ) -> Result<Self, ProtocolViolation> {
        let core = &mut *self.core;
        match frame.kind {
            b'N' if core.series == Series::Stopped => {}
            b'N' => core.on_notice(frame, out),
            b'S' => core.on_parameter_status(frame, out)?,
            b'A' => out.client().extend_from_slice(frame.raw),
            b'E' => self.phase = core.on_error(self.phase, frame, ledger, out)?,
            b'Z' => self.phase = core.on_ready(self.phase, frame, out)?,
            b'G' | b'W' => return Err(ProtocolViolation::CopyInStarted),
            _ => core.on_answer(frame, ledger, out)?,
        }
        Ok(self)
    }
}

impl Core {
    /// An answer that belongs to the oldest question.
    fn on_answer(
        &mut self,
        frame: Frame<'_>,
        ledger: &mut dyn Ledger,
        out: &mut Outbox,
    ) -> Result<(), ProtocolViolation> {
        let front = self.awaited.front_mut().ok_or(ProtocolViolation::UnexpectedAnswer)?;
        let show = if self.series == Series::Stopped { Show::Hidden } else { front.show };
        match (&front.reply, frame.kind) {
            (Reply::Parsed, b'1')
            | (Reply::Bound, b'2')
            | (Reply::Closed, b'3')
            | (Reply::DescribedPortal, b'n') => {
                pass(show, frame, out);
                self.finish_front();
            }
            (Reply::DescribedStatement, b't') => {
                front.reply = Reply::DescribedPortal;
                pass(show, frame, out);
            }
            (Reply::DescribedPortal, b'T') => {
                match show {
                    Show::All => out.client().extend_from_slice(frame.raw),
                    Show::Hidden => {}
                    Show::Simple(_) => self.held = Some(frame.raw.to_vec()),
                }
                self.finish_front();
            }
            (Reply::Executed, b'H' | b'c') => {
                self.release_held(out);
                if !matches!(show, Show::Hidden) {
                    out.client().extend_from_slice(frame.raw);
                }
            }
            (Reply::Executed, b'C' | b'I' | b's') => {
                self.on_completion(show, frame, ledger, out);
            }
            // The failing statement parses and binds; what counts is its error.
            (Reply::StandIn(_), b'1' | b'2') => {}
            _ => return Err(ProtocolViolation::UnexpectedAnswer),
        }
        Ok(())
    }

    fn on_completion(
        &mut self,
        show: Show,
        frame: Frame<'_>,
        ledger: &mut dyn Ledger,
        out: &mut Outbox,
    ) {
        self.release_held(out);
        match show {
            Show::All => out.client().extend_from_slice(frame.raw),
            Show::Hidden => {}
            Show::Simple(step) => {
                if step.warning == Warning::DropAlreadyInTransaction {
                    self.takeover = Takeover::Done;
                }
                if step.warning == Warning::AddNoTransaction {
                    let words = "there is no transaction in progress";
                    let warning = Complaint::of_postgres("25P01", words).as_warning();
                    warning.encode(out.client());
                }
                out.client().extend_from_slice(frame.raw);
            }
        }
        let ordinal = self.awaited.front().map_or(0, |done| done.ordinal);
        let suspends = frame.kind == b's';
        let (rows, bytes) = if suspends { self.tally.suspend(ordinal) } else { self.tally.end() };
        note_end(ordinal, "00000", rows, bytes, ledger);
        if suspends {
            // More rows may follow with the next Execute: the names do not change yet.
            if let Some(front) = self.awaited.front_mut() {
                self.pending_changes -= usize::from(!matches!(front.change, Change::Nothing));
                front.change = Change::Nothing;
            }
        }
        self.finish_front();
    }

    fn finish_front(&mut self) {
        if let Some(done) = self.awaited.pop_front()
            && !matches!(done.change, Change::Nothing)
        {
            self.pending_changes = self.pending_changes.saturating_sub(1);
            self.names.apply(done.change);
        }
    }

    fn release_held(&mut self, out: &mut Outbox) {
        if let Some(description) = self.held.take() {
            out.client().extend_from_slice(&description);
        }
    }

    fn on_notice(&mut self, frame: Frame<'_>, out: &mut Outbox) {
        let show = self.awaited.front().map(|awaited| awaited.show);
        let Some(Show::Simple(step)) = show else {
            out.client().extend_from_slice(frame.raw);
            return;
        };
        if step.warning == Warning::DropAlreadyInTransaction
            && field(frame.body, b'C') == Some(b"25001")
        {
            return;
        }
        if step.rows == Rows::Plan {
            self.release_held(out);
        }
        push_shifted(frame, step.chars_before, out.client());
    }

    fn on_parameter_status(
        &mut self,
        frame: Frame<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolViolation> {
        let (name, value) =
            parameter_status(frame.body).ok_or(ProtocolViolation::Malformed("ParameterStatus"))?;
        if !self.pins.hold(name, value) {
            return Err(ProtocolViolation::Tripwire);
        }
        out.client().extend_from_slice(frame.raw);
        Ok(())
    }

    fn on_error(
        &mut self,
        phase: Phase,
        frame: Frame<'_>,
        ledger: &mut dyn Ledger,
        out: &mut Outbox,
    ) -> Result<Phase, ProtocolViolation> {
        let severity = Severity::of(frame.body);
        if self.awaited.is_empty() && severity == Severity::Error {
            return Err(ProtocolViolation::UnexpectedAnswer);
        }
        // The commit that Sync brings can fail too; ReadyForQuery is still owed then.
        let at_sync = matches!(self.awaited.front(), Some(Awaited { reply: Reply::Ready, .. }));
        let failed = if at_sync { None } else { self.awaited.pop_front() };
        // Of a statement that was stopped the client has already been told; not that the server goes.
        if self.series != Series::Stopped || severity == Severity::Fatal {
            self.word_error(failed.as_ref(), frame, out);
        }
        if let Some(failed) = &failed {
            let sqlstate = field(frame.body, b'C').and_then(|code| std::str::from_utf8(code).ok());
            let (rows, bytes) = self.tally.end();
            note_end(failed.ordinal, sqlstate.unwrap_or("XX000"), rows, bytes, ledger);
        }
        if severity == Severity::Fatal {
            return Ok(Phase::Closed);
        }
        self.series = Series::Failed;
        if failed.is_some_and(|failed| matches!(failed.reply, Reply::StandIn(_))) {
            // The gate's own statement took the unnamed one's place.
            self.names.drop_unnamed();
        }
        // The server skips all that it was sent before Sync: none of it will be answered.
        while self.awaited.front().is_some_and(|next| !matches!(next.reply, Reply::Ready)) {
            self.awaited.pop_front();
        }
        self.pending_changes = 0;
        match phase {
            Phase::Series => Ok(Phase::Skip(Skip::ServerWaits)),
            Phase::AwaitReady(_) | Phase::Skip(Skip::ServerOwes) => Ok(phase),
            Phase::Idle | Phase::Skip(_) | Phase::Closed => {
                Err(ProtocolViolation::UnexpectedAnswer)
            }
        }
    }

    /// What the client reads of an error.
    fn word_error(&mut self, failed: Option<&Awaited>, frame: Frame<'_>, out: &mut Outbox) {
        let held = self.held.take();
        match failed {
            Some(Awaited { reply: Reply::StandIn(words), .. }) => {
                out.client().extend_from_slice(words);
            }
            Some(Awaited { show: Show::Simple(step), .. }) => {
                if step.rows == Rows::Plan
                    && let Some(description) = held
                {
                    out.client().extend_from_slice(&description);
                }
                push_shifted(frame, step.chars_before, out.client());
            }
            Some(_) | None => out.client().extend_from_slice(frame.raw),
        }
    }

    fn on_ready(
        &mut self,
        phase: Phase,
        frame: Frame<'_>,
        out: &mut Outbox,
    ) -> Result<Phase, ProtocolViolation> {
        let Some(Awaited { reply: Reply::Ready, .. }) = self.awaited.pop_front() else {
            return Err(ProtocolViolation::UnexpectedAnswer);
        };
        self.tx = match frame.body {
            b"I" => TxState::Idle,
            b"T" => TxState::Read,
            b"E" => TxState::Failed,
            _ => return Err(ProtocolViolation::Malformed("ReadyForQuery")),
        };
        self.upstream = Upstream::Clean;
        self.lexing = Lexing::Certain;
        if self.tx == TxState::Idle {
            self.names.end_transaction();
            self.tally.end_transaction();
        }
        if self.series == Series::Stopped {
            self.series = Series::Failed;
            if self.tx == TxState::Read {
                self.fail_silently(out);
                return Ok(phase);
            }
        }
        if self.awaited.is_empty() {
            self.tally.rest();
        }
        let next = match phase {
            Phase::AwaitReady(After::Client) => None,
            Phase::AwaitReady(After::Boundary) => Some(match self.series {
                Series::Failed | Series::Stopped => Phase::Skip(Skip::Ready(self.tx)),
                Series::Good => Phase::Series,
            }),
            Phase::AwaitReady(After::Parse(held)) => Some(match self.series {
                Series::Failed | Series::Stopped => Phase::Skip(Skip::Ready(self.tx)),
                Series::Good => {
                    self.forward_parse(*held, out);
                    Phase::Series
                }
            }),
            Phase::AwaitReady(After::Script(script)) => self.script_ready(*script, out),
            Phase::Skip(Skip::ServerOwes) => Some(Phase::Skip(Skip::Ready(self.tx))),
            Phase::Idle | Phase::Series | Phase::Skip(_) | Phase::Closed => {
                return Err(ProtocolViolation::UnexpectedAnswer);
            }
        };
        self.series = Series::Good;
        Ok(next.unwrap_or_else(|| {
            reply::ready(self.tx, out.client());
            Phase::Idle
        }))
    }
}

/// Passes a message on that a simple query would not have been answered with.
fn pass(show: Show, frame: Frame<'_>, out: &mut Outbox) {
    if matches!(show, Show::All) {
        out.client().extend_from_slice(frame.raw);
    }
}

pub(super) fn note_end(
    ordinal: u64,
    sqlstate: &str,
    rows: u64,
    bytes_out: u64,
    ledger: &mut dyn Ledger,
) {
    if ordinal == 0 {
        return;
    }
    let (decision, message) = match sqlstate {
        "00000" => (Decision::Allow, "answered"),
        _ => (Decision::Error, "failed"),
    };
    ledger.follow_up(&Entry {
        statement: ordinal,
        response: Some(Response { sqlstate, rows, bytes_out }),
        reason: None::<Reason>,
        ..Entry::plain(Kind::DbResponse, decision, message)
    });
}

/// Name and value of a `ParameterStatus` body.
#[must_use]
pub(crate) fn parameter_status(body: &[u8]) -> Option<(&str, &str)> {
    let mut parts = std::str::from_utf8(body).ok()?.split('\0');
    Some((parts.next()?, parts.next()?))
}

/// A field of an error or notice body.
#[must_use]
pub(crate) fn field(body: &[u8], code: u8) -> Option<&[u8]> {
    body.split(|&byte| byte == 0).find_map(|part| match part.split_first() {
        Some((&first, text)) if first == code => Some(text),
        _ => None,
    })
}

/// An error or notice whose position counts from the start of the client's whole string.
fn push_shifted(frame: Frame<'_>, chars_before: usize, into: &mut Vec<u8>) {
    let position = field(frame.body, b'P')
        .and_then(|text| std::str::from_utf8(text).ok())
        .and_then(|text| text.parse::<usize>().ok());
    let (Some(position), true) = (position, chars_before > 0) else {
        into.extend_from_slice(frame.raw);
        return;
    };
    let mut body = Vec::with_capacity(frame.body.len() + 4);
    for part in frame.body.split(|&byte| byte == 0).take_while(|part| !part.is_empty()) {
        match part.split_first() {
            Some((b'P', _)) => {
                body.push(b'P');
                body.extend_from_slice((position + chars_before).to_string().as_bytes());
            }
            _ => body.extend_from_slice(part),
        }
        body.push(0);
    }
    body.push(0);
    into.push(frame.kind);
    into.extend_from_slice(&u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes());
    into.extend_from_slice(&body);
}
