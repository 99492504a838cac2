//! A logged-in session as a state machine without sockets: a message in, bytes and records out.
//!
//! A [`Session`] takes itself by value, so after a violation there is nothing left to go on with.
//! Road of a client message: here → [`simple`] or [`extended`] → [`answers`] when the server
//! speaks; [`limits`] stops what goes on for too long. One series is in flight at a time: after Sync, after a simple query and after every end
//! of a transaction the session waits for ReadyForQuery, so that a setting which changed under way
//! is seen ([`answers`], tripwire) before anything can use it.

mod answers;
mod awaited;
mod extended;
mod limits;
mod ports;
mod simple;

use std::collections::VecDeque;

use crate::audit::event::{Decision, Entry, Kind, Query, Receipt, TxState};
use crate::policy::reason::Reason;
use crate::policy::sql::{Digest, Judgement, Past};
use crate::policy::verdict::Denial;
use crate::postgres::frame::{Frame, ProtocolViolation};
use crate::postgres::message::ClientMessage;
use crate::postgres::outbox::{Outbox, OwnStatement};
use crate::postgres::prepared::{Change, Names};
use crate::postgres::reply;
use crate::postgres::reply::Complaint;
use crate::postgres::session::awaited::{Awaited, Reply, Show};
use crate::postgres::session::extended::HeldParse;
use crate::postgres::session::limits::Tally;
use crate::postgres::session::simple::Script;

pub use crate::postgres::session::answers::{PINNED, Pins, Severity};
pub(crate) use crate::postgres::session::answers::{field, parameter_status};
pub use crate::postgres::session::limits::{Pace, RowFate};
pub use crate::postgres::session::ports::{Judge, Ports};

/// Most answers that may be outstanding in one series: 65,536, about 20,000 pipelined statements.
const MAX_AWAITED: usize = 65_536;

/// A logged-in session.
pub struct Session {
    core: Box<Core>,
    phase: Phase,
}

/// What the session knows, whatever it is doing.
struct Core {
    /// As the client was last told by ReadyForQuery, and as the server is.
    tx: TxState,
    names: Names,
    awaited: VecDeque<Awaited>,
    /// How many of the awaited answers will change a name.
    pending_changes: usize,
    /// Whether the server has had anything since its last ReadyForQuery.
    upstream: Upstream,
    /// Whether an error came since the last ReadyForQuery.
    series: Series,
    /// A RowDescription of a simple query, until it is known whether rows follow.
    held: Option<Vec<u8>>,
    /// Ordinal of the last verdict.
    ordinal: u64,
    /// Ordinal of the last Parse of this series whose verdict still covers a first Bind.
    fresh: Option<u64>,
    tally: Tally,
    stray_copy: StrayCopy,
    pins: Pins,
    /// What the session has done so far, for habits that only count on the way.
    past: Past,
    takeover: Takeover,
    lexing: Lexing,
}

/// Whether the server is known to read texts as the judge did. Code of the database may have changed
/// `standard_conforming_strings` or `client_encoding`, which is reported with ReadyForQuery only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lexing {
    /// It has just said that the settings are as pinned.
    Certain,
    /// Something of the client's has run since.
    Doubtful,
}

/// Whether a BEGIN of the client's has made the gate's own block the client's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takeover {
    /// There was none in this string.
    None,
    /// It has been sent.
    Asked,
    /// The server has carried it out.
    Done,
}

/// What the session is doing.
enum Phase {
    /// A series has ended or none has begun: anything may come.
    Idle,
    /// Extended messages have come and no Sync yet.
    Series,
    /// The server owes ReadyForQuery; the client waits its turn.
    AwaitReady(After),
    /// An error was answered: whatever the client sends is dropped until its Sync.
    Skip(Skip),
    /// Nothing more to say.
    Closed,
}

/// What the awaited ReadyForQuery means.
enum After {
    /// The client's own: pass it on.
    Client,
    /// A transaction ended inside a series: hide it and go on.
    Boundary,
    /// The server's settings had to be known before this could be sent: hide it, send and go on.
    Parse(Box<HeldParse>),
    /// A part of a string has run: go on with the string.
    Script(Box<Script>),
}

/// Where the server stands while the client's messages are dropped.
#[derive(Clone, Copy)]
enum Skip {
    /// It drops messages too and waits for Sync.
    ServerWaits,
    /// It has been sent Sync and owes ReadyForQuery.
    ServerOwes,
    /// It is ready, in this state.
    Ready(TxState),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Upstream {
    Clean,
    Touched,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Series {
    /// The server has said so, and so the client.
    Failed,
    Good,
    /// The client has been told that it failed, by the gate; the server has not said so yet.
    Stopped,
}

/// Whether COPY data is dropped in silence.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StrayCopy {
    /// It ends the connection.
    Refused,
    /// A message has just been refused. There may have been a COPY FROM in it, and the client may
    /// have begun to stream before it saw the refusal; the server drops such data as well.
    Dropped,
}

/// Whether the session takes another client message now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appetite {
    /// Nothing more will be taken.
    Closed,
    /// The next message may come.
    Hungry,
    /// Not until the server has answered.
    Waiting,
}

impl Session {
    /// A session that the server has just declared ready.
    #[must_use]
    pub fn new(pins: Pins) -> Self {
        let core = Core {
            tx: TxState::Idle,
            names: Names::default(),
            awaited: VecDeque::new(),
            pending_changes: 0,
            upstream: Upstream::Clean,
            series: Series::Good,
            held: None,
            ordinal: 0,
            fresh: None,
            tally: Tally::default(),
            stray_copy: StrayCopy::Refused,
            pins,
            past: Past::Nothing,
            takeover: Takeover::None,
            lexing: Lexing::Certain,
        };
        Self { core: Box::new(core), phase: Phase::Idle }
    }

    /// Whether another client message is taken now.
    #[must_use]
    pub const fn appetite(&self) -> Appetite {
        match self.phase {
            Phase::Idle | Phase::Series | Phase::Skip(_) => Appetite::Hungry,
            Phase::AwaitReady(_) => Appetite::Waiting,
            Phase::Closed => Appetite::Closed,
        }
    }

    /// Whether the server is working on something: if the client goes away now, it is cancelled.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.core.awaited.is_empty()
    }

    /// Whether nothing is under way, not even a transaction: the session can end without harm.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle) && self.core.tx == TxState::Idle
    }

    /// Takes a whole message of the client.
    ///
    /// # Errors
    /// A message that ends the connection.
    pub fn on_client(
        mut self,
        frame: Frame<'_>,
        ports: &mut Ports<'_>,
        out: &mut Outbox,
    ) -> Result<Self, ProtocolViolation> {
        let message = match ClientMessage::read(frame) {
            Ok(message) => message,
            Err(ProtocolViolation::Malformed(what)) => {
                return self.on_malformed(what, frame.kind, ports, out);
            }
            Err(violation) => return Err(violation),
        };
        let core = &mut *self.core;
        core.expect_copy_data(&message, &self.phase);
        self.phase = match (self.phase, message) {
            (Phase::Idle | Phase::Series | Phase::Skip(_), ClientMessage::Terminate) => {
                out.terminate();
                Phase::Closed
            }
            (Phase::Skip(skip), ClientMessage::Sync) => core.end_skip(skip, out),
            (Phase::Skip(skip), _) => Phase::Skip(skip),
            (phase @ (Phase::Idle | Phase::Series), ClientMessage::Copy) => {
                if core.stray_copy == StrayCopy::Refused {
                    return Err(ProtocolViolation::CopyOutOfPlace);
                }
                phase
            }
            (Phase::Idle, ClientMessage::Query(sql)) => core.simple_query(sql, ports, out),
            // Nothing waits to be flushed, and no series begins.
            (Phase::Idle, ClientMessage::Flush) => Phase::Idle,
            (Phase::Idle, ClientMessage::FunctionCall) => core.function_call(ports, out),
            (Phase::Series, ClientMessage::Query(_) | ClientMessage::FunctionCall) => {
                return Err(ProtocolViolation::QueryInSeries);
            }
            (Phase::Idle | Phase::Series, message) => core.extended(message, frame.raw, ports, out),
            (Phase::AwaitReady(_), _) => return Err(ProtocolViolation::Busy),
            (Phase::Closed, _) => Phase::Closed,
        };
        if self.core.awaited.len() > MAX_AWAITED {
            return Err(ProtocolViolation::SeriesTooLong);
        }
        Ok(self)
    }
}

impl Session {
    /// A body that does not parse: where the message ends is certain, so the session can go on, as
    /// PostgreSQL's does. While messages are dropped nobody looks into them.
    fn on_malformed(
        mut self,
        what: &'static str,
        kind: u8,
        ports: &mut Ports<'_>,
        out: &mut Outbox,
    ) -> Result<Self, ProtocolViolation> {
        let core = &mut *self.core;
        self.phase = match self.phase {
            phase @ (Phase::Skip(_) | Phase::Closed) => phase,
            Phase::AwaitReady(_) => return Err(ProtocolViolation::Busy),
            Phase::Series if kind == b'Q' => return Err(ProtocolViolation::QueryInSeries),
            Phase::Idle | Phase::Series => {
                let operation = format!("malformed {what} message");
                let denial = Denial::new(Reason::ProtoBadLength, operation, "protocol.messages");
                let message = char::from(kind);
                let asked = Asked { message, text: None, bytes: 0, digest: &Digest::default() };
                let complaint = core.deny(&denial, &asked, ports);
                if kind == b'Q' {
                    core.complain_simple(&complaint, out)
                } else {
                    core.complain_in_series(&complaint, out)
                }
            }
        };
        Ok(self)
    }
}

impl Core {
    /// COPY data behind a refused message is dropped until another message comes; the Sync behind it
    /// belongs to it, and so does what is dropped after an error.
    fn expect_copy_data(&mut self, message: &ClientMessage<'_>, phase: &Phase) {
        let stays = matches!(message, ClientMessage::Copy | ClientMessage::Sync)
            || matches!(phase, Phase::Skip(_));
        if !stays {
            self.stray_copy = StrayCopy::Refused;
        }
    }

    /// The client's Sync ends the silence after an error.
    fn end_skip(&mut self, skip: Skip, out: &mut Outbox) -> Phase {
        match skip {
            Skip::ServerWaits => {
                self.sync(out);
                Phase::AwaitReady(After::Client)
            }
            Skip::ServerOwes => Phase::AwaitReady(After::Client),
            Skip::Ready(tx) => {
                self.tx = tx;
                reply::ready(tx, out.client());
                Phase::Idle
            }
        }
    }

    /// The fast-path call names a function by number: no parser sees it, so it is always refused.
    fn function_call(&mut self, ports: &mut Ports<'_>, out: &mut Outbox) -> Phase {
        let denial =
            Denial::new(Reason::ProtoFastpath, "fast-path function call", "protocol.fastpath");
        let asked = Asked { message: 'F', text: None, bytes: 0, digest: &Digest::default() };
        let complaint = self.deny(&denial, &asked, ports);
        self.complain_simple(&complaint, out)
    }

    /// Records a refusal and words it.
    fn deny(&mut self, denial: &Denial, asked: &Asked<'_>, ports: &mut Ports<'_>) -> Complaint {
        self.stray_copy = StrayCopy::Dropped;
        self.tally.refuse();
        let action = (self.tx == TxState::Read).then_some("abort");
        let entry = Entry {
            decision: Decision::Deny,
            reason: Some(denial.reason),
            message: "refused",
            rule: Some(denial.rule),
            upstream_contacted: Some(false),
            gate_action: action,
            ..self.entry(asked, ports)
        };
        match ports.ledger.record(&entry) {
            Ok(receipt) => Complaint::refusal(denial, &receipt),
            Err(_) => unrecorded(),
        }
    }

    /// The refusal of a text that is let through in general, but not in this session: a habit as its
    /// first statement, or syntax that this server takes for a call of a function.
    fn unfit(&self, judgement: &Judgement) -> Option<Denial> {
        let newer = judgement.syntax_since.filter(|since| self.pins.server_major < since.major);
        newer
            .map(|since| {
                let operation = format!("function {}", since.word);
                Denial::new(Reason::SqlUserCode, operation, "functions.listed")
            })
            .or_else(|| judgement.unmet_habit(self.past).cloned())
    }

    /// Records that a read goes through.
    fn allow(&mut self, asked: &Asked<'_>, ports: &mut Ports<'_>) -> Result<Receipt, Complaint> {
        let entry = Entry { upstream_contacted: Some(true), ..self.entry(asked, ports) };
        ports.ledger.record(&entry).map_err(|_| unrecorded())
    }

    /// Records an error that is nobody's attack, and words it as PostgreSQL does.
    fn fault(
        &mut self,
        complaint: Complaint,
        asked: &Asked<'_>,
        ports: &mut Ports<'_>,
    ) -> Complaint {
        let entry = Entry {
            decision: Decision::Error,
            reason: Some(Reason::SqlUnparsed),
            message: "not a statement that the server would take",
            upstream_contacted: Some(false),
            ..self.entry(asked, ports)
        };
        match ports.ledger.record(&entry) {
            Ok(_) => complaint,
            Err(_) => unrecorded(),
        }
    }

    fn entry<'a>(&mut self, asked: &Asked<'a>, ports: &mut Ports<'_>) -> Entry<'a> {
        self.ordinal += 1;
        let query = Query {
            message: asked.message,
            text: asked.text,
            bytes: asked.bytes,
            digest: asked.digest,
            tx: self.tx,
        };
        Entry {
            statement: self.ordinal,
            query: Some(query),
            decide_ns: ports.judge.took_ns(),
            ..Entry::plain(Kind::DbStatement, Decision::Allow, "let through")
        }
    }

    /// Answers a simple query with an error, and leaves the transaction as PostgreSQL would.
    fn complain_simple(&mut self, complaint: &Complaint, out: &mut Outbox) -> Phase {
        if self.tx == TxState::Read {
            self.fail_upstream(complaint, out);
            return Phase::AwaitReady(After::Client);
        }
        self.tally.rest();
        complaint.encode(out.client());
        reply::ready(self.tx, out.client());
        Phase::Idle
    }

    /// Answers a message of a series with an error; the rest of the series is dropped.
    fn complain_in_series(&mut self, complaint: &Complaint, out: &mut Outbox) -> Phase {
        if self.tx == TxState::Read || self.upstream == Upstream::Touched {
            self.fail_upstream(complaint, out);
            return Phase::Skip(Skip::ServerOwes);
        }
        self.tally.rest();
        complaint.encode(out.client());
        Phase::Skip(Skip::Ready(self.tx))
    }

    /// Sends a statement of the gate's own that fails, in place of the refused one. The server then
    /// stands where it would stand after an error there: what came before has been answered, an
    /// open transaction is aborted. Its error is replaced by the gate's.
    fn fail_upstream(&mut self, complaint: &Complaint, out: &mut Outbox) {
        let mut bytes = Vec::new();
        complaint.encode(&mut bytes);
        out.own(OwnStatement::Fail);
        self.expect(Reply::StandIn(bytes), Show::Hidden, Change::Nothing, 0);
        self.sync(out);
    }

    /// Whether the server might read this text otherwise than the judge did. Of all settings that code
    /// of the database can change, some give a backslash another meaning, and an encoding turns what is
    /// not ASCII into something else: a backslash, or two tags of dollar quotes into the same one.
    fn may_be_misread(&self, text: &str) -> bool {
        let depends = |byte: u8| byte == b'\\' || !byte.is_ascii();
        self.lexing == Lexing::Doubtful && text.bytes().any(depends)
    }

    fn sync(&mut self, out: &mut Outbox) {
        out.sync();
        self.fresh = None;
        self.expect(Reply::Ready, Show::Hidden, Change::Nothing, 0);
    }

    fn expect(&mut self, reply: Reply, show: Show, change: Change, ordinal: u64) {
        self.upstream = Upstream::Touched;
        if !matches!(show, Show::Hidden) {
            self.lexing = Lexing::Doubtful;
        }
        if !matches!(change, Change::Nothing) {
            self.pending_changes += 1;
        }
        self.awaited.push_back(Awaited { reply, show, change, ordinal });
    }
}

/// What was asked, for the record.
struct Asked<'a> {
    message: char,
    text: Option<&'a str>,
    bytes: usize,
    digest: &'a Digest,
}

/// Nothing happens that cannot be recorded.
fn unrecorded() -> Complaint {
    Complaint::fault(
        Reason::AuditUnavailable,
        "the audit log of this gate cannot be written, so nothing is let through",
        None,
    )
}
