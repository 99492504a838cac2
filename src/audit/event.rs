//! The event: what is written down about every decision, and the port through which the pure half
//! of a gate writes it down.
//!
//! A session knows no clock, no file and no peer: it hands an [`Entry`] to a [`Ledger`], which adds
//! time, sequence number, ids, the peer and the policy in force. What comes back is a [`Receipt`]:
//! no receipt, no act.

use std::net::SocketAddr;

use uuid::Uuid;

use crate::policy::reason::Reason;
use crate::policy::sql::Digest;

/// Proof that an entry is in the log. Only a ledger hands one out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The event's id (UUIDv7 as text); what a refusal shows in its DETAIL.
    pub event: String,
}

/// The log cannot take the entry: the act must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written")]
pub struct AuditUnavailable;

/// Where the entries of one session go.
pub trait Ledger {
    /// Writes an entry down before the act it speaks of. When this returns, the line has been
    /// handed to the operating system (mode `written`) or is on the disk (mode `durable`).
    ///
    /// # Errors
    /// When the log cannot be written; the caller then refuses the act.
    fn record(&mut self, entry: &Entry<'_>) -> Result<Receipt, AuditUnavailable>;

    /// Writes down how an act ended. May be handed to the operating system together with the next
    /// entry of any session, at most a second later.
    fn follow_up(&mut self, entry: &Entry<'_>);
}

/// Opens a [`Ledger`] for each session.
pub trait Auditor: Send + Sync {
    /// A ledger that says on every line who acts, from where and on which server.
    fn open(&self, facts: SessionFacts) -> Box<dyn Ledger + Send>;
}

/// What is spoken with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP, to JIRA.
    Http,
    /// PostgreSQL's.
    Postgres,
}

/// What is known of a session from its login on, repeated on each of its lines so that no reader
/// has to join.
#[derive(Clone, Debug)]
pub struct SessionFacts {
    /// The session's id.
    pub session: Uuid,
    /// What is spoken in it.
    pub protocol: Protocol,
    /// The peer; `None` over a unix socket.
    pub client: Option<SocketAddr>,
    /// The server behind the gate: `host:port` or the path of a unix socket.
    pub server: String,
    /// How the client's connection is encrypted; `None` in clear.
    pub tls: Option<TlsFacts>,
    /// Who acts: the name under which the client logged in.
    pub principal: Option<String>,
    /// The role at the server; that of the start-up packet unless the gate logs in with its own.
    pub user: Option<String>,
    /// The database in the start-up packet.
    pub database: Option<String>,
    /// The client's own name for itself.
    pub application: Option<String>,
    /// How the client proved who it is.
    pub method: AuthMethod,
}

/// How a connection is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// The protocol's version, such as `1.3`.
    pub version: &'static str,
    /// The cipher suite, by its name in the standard.
    pub cipher: &'static str,
    /// SHA-256 of the certificate that the client showed, in hexadecimal.
    pub certificate: Option<String>,
}

/// How a client proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// By a TLS client certificate, to the gate.
    Cert,
    /// Not at all, or not yet.
    None,
    /// To the server, through the gate.
    Passthrough,
    /// By SCRAM, to the gate.
    Scram,
    /// By a token of the gate.
    Token,
}

impl AuthMethod {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Cert, Self::None, Self::Passthrough, Self::Scram, Self::Token];

    /// The word in the log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Cert => "cert",
            Self::None => "none",
            Self::Passthrough => "passthrough",
            Self::Scram => "scram",
            Self::Token => "token",
        }
    }
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Certificates were read again, or could not be.
    CertReloaded,
    /// Lines are missing before this one.
    AuditGap,
    /// Old lines have been removed.
    AuditRotated,
    /// A cancel request.
    DbCancel,
    /// A message that breaks the protocol; the connection ends.
    DbProtocolViolation,
    /// How a statement ended.
    DbResponse,
    /// A verdict on SQL.
    DbStatement,
    /// A verdict on a request.
    HttpRequest,
    /// How a request ended.
    HttpResponse,
    /// The process began.
    GateStart,
    /// The process ends.
    GateStop,
    /// A log with a torn tail was found and cut on start.
    GateCrashRecovered,
    /// The log can be written again.
    GateRecovered,
    /// A bound was met.
    LimitHit,
    /// A policy is in force.
    PolicyLoaded,
    /// A login succeeded or failed.
    SessionAuth,
    /// A session ended.
    SessionClose,
    /// A client's start-up packet was taken, or refused.
    SessionOpen,
    /// The users file was read again, or could not be.
    UsersReloaded,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::CertReloaded,
        Self::AuditGap,
        Self::AuditRotated,
        Self::DbCancel,
        Self::DbProtocolViolation,
        Self::DbResponse,
        Self::DbStatement,
        Self::HttpRequest,
        Self::HttpResponse,
        Self::GateStart,
        Self::GateStop,
        Self::GateCrashRecovered,
        Self::GateRecovered,
        Self::LimitHit,
        Self::PolicyLoaded,
        Self::SessionAuth,
        Self::SessionClose,
        Self::SessionOpen,
        Self::UsersReloaded,
    ];

    /// The dotted name in the log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::CertReloaded => "cert.reloaded",
            Self::AuditGap => "audit.gap",
            Self::AuditRotated => "audit.rotated",
            Self::DbCancel => "db.cancel",
            Self::DbProtocolViolation => "db.protocol_violation",
            Self::DbResponse => "db.response",
            Self::DbStatement => "db.statement",
            Self::HttpRequest => "http.request",
            Self::HttpResponse => "http.response",
            Self::GateStart => "gate.start",
            Self::GateStop => "gate.stop",
            Self::GateCrashRecovered => "gate.crash_recovered",
            Self::GateRecovered => "gate.recovered",
            Self::LimitHit => "limit.hit",
            Self::PolicyLoaded => "policy.loaded",
            Self::SessionAuth => "session.auth",
            Self::SessionClose => "session.close",
            Self::SessionOpen => "session.open",
            Self::UsersReloaded => "users.reloaded",
        }
    }
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let through.
    Allow,
    /// Refused.
    Deny,
    /// Not a statement at all, or it failed.
    Error,
    /// Nothing was asked.
    None,
}

impl Decision {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Allow, Self::Deny, Self::Error, Self::None];

    /// The word in the log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Error => "error",
            Self::None => "none",
        }
    }
}

/// The transaction status that the client has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxState {
    /// In a failed transaction.
    Failed,
    /// In no transaction.
    Idle,
    /// In a read-only transaction.
    Read,
}

impl TxState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Failed, Self::Idle, Self::Read];

    /// The word in the log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Idle => "idle",
            Self::Read => "read",
        }
    }
}

/// One thing to write down. What a ledger knows by itself (time, ids, peer, policy) is not in it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What kind.
    pub kind: Kind,
    /// What was decided.
    pub decision: Decision,
    /// Why; `None` is `ok`.
    pub reason: Option<Reason>,
    /// One sentence for people, without user data.
    pub message: &'a str,
    /// The rule that decided, if one did.
    pub rule: Option<&'a str>,
    /// Ordinal of the statement inside its session, from 1; 0 if there is none.
    pub statement: u64,
    /// The statement, for `db.statement` and `db.response`.
    pub query: Option<Query<'a>>,
    /// How it ended, for `db.response`.
    pub response: Option<Response<'a>>,
    /// The request, for `http.request` and `http.response`.
    pub http: Option<Http<'a>>,
    /// Whether a byte of the client's message went to the server. Always `Some(false)` for a
    /// denial; `None` where the question makes no sense.
    pub upstream_contacted: Option<bool>,
    /// What the gate itself did to the server because of a denial: `abort` when it failed the
    /// client's open transaction.
    pub gate_action: Option<&'a str>,
    /// What went over the wire, for `session.close`.
    pub traffic: Option<Traffic>,
    /// How long the verdict took, in nanoseconds.
    pub decide_ns: Option<u64>,
}

impl Entry<'_> {
    /// An entry that says no more than its kind, decision and message.
    #[must_use]
    pub const fn plain(kind: Kind, decision: Decision, message: &str) -> Entry<'_> {
        Entry {
            kind,
            decision,
            reason: None,
            message,
            rule: None,
            statement: 0,
            query: None,
            response: None,
            http: None,
            upstream_contacted: None,
            gate_action: None,
            traffic: None,
            decide_ns: None,
        }
    }
}

/// The statement part of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The wire message: `Q`, `P`, `B`, `E`, `F`.
    pub message: char,
    /// The text as sent; `None` when it is not UTF-8. Whether and how it is logged is the log's
    /// business (`[audit] sql`).
    pub text: Option<&'a str>,
    /// Bytes of the text.
    pub bytes: usize,
    /// What the judge found.
    pub digest: &'a Digest,
    /// The transaction status at the decision.
    pub tx: TxState,
}

/// How a statement ended.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// SQLSTATE; `00000` for success.
    pub sqlstate: &'a str,
    /// Rows returned.
    pub rows: u64,
    /// Bytes sent to the client for it.
    pub bytes_out: u64,
}

/// The HTTP part of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Http<'a> {
    /// The method, as it was asked for.
    pub method: &'a str,
    /// Path and query. Values in the query are logged only where they cannot be secrets.
    pub target: &'a str,
    /// The operation's name, or the method of what has none.
    pub operation: &'a str,
    /// Bytes of the request's body.
    pub body_bytes: u64,
    /// The status of the answer, once there is one.
    pub status: Option<u16>,
    /// Bytes of the answer's body that were sent, for `http.response`.
    pub response_bytes: Option<u64>,
}

/// What went over the wire between client and gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
}
