//! The tour: reads that must be answered as without a gate, attacks that must not get through.
//!
//! Everything is sent as the owner of the tables with the owner's password, so that nothing but the
//! gate stands in the way. After each attack a second, direct connection looks whether anything in
//! the database is different: the proof is that nothing changed, not that an error came back.

mod attacks;
pub mod jira;
mod jira_attacks;
pub mod proof;
mod reads;
pub mod report;
mod trail;

use crate::demo::client::reply::{Reply, ServerError};
use crate::demo::client::{Client, ClientError, Login, message};
use crate::demo::tour::attacks::ATTACKS;
use crate::demo::tour::jira::JiraTour;
use crate::demo::tour::proof::fingerprint;
use crate::demo::tour::reads::READS;
use crate::demo::tour::report::Report;
use crate::listen::Address;

pub use crate::demo::tour::trail::{Trail, TrailLine};

/// One thing that a client sends.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A `COPY … FROM STDIN` and the rows for it.
    CopyIn(&'static str, &'static str),
    /// One statement by the extended protocol.
    Extended(&'static str),
    /// A function by its number, with one integer, by the fast path.
    FastPath(u32, i32),
    /// Statements by the extended protocol with one Sync behind them all.
    Pipeline(&'static [&'static str]),
    /// A string of statements by the simple protocol.
    Simple(&'static str),
}

impl Step {
    fn send(self, client: &mut Client) -> Result<Reply, ClientError> {
        match self {
            Self::CopyIn(sql, rows) => client.copy_in(sql, rows.as_bytes()),
            Self::Extended(sql) => client.extended(sql, &[]),
            Self::FastPath(function, argument) => {
                client.ask(&message::function_call(function, &[&argument.to_be_bytes()]))
            }
            Self::Pipeline(statements) => client.ask(&pipeline(statements)),
            Self::Simple(sql) => client.query(sql),
        }
    }

    const fn delivery(self) -> &'static str {
        match self {
            Self::CopyIn(..) => "copy in",
            Self::Extended(_) => "extended",
            Self::FastPath(..) => "fast path",
            Self::Pipeline(_) => "pipeline",
            Self::Simple(_) => "simple",
        }
    }
}

fn pipeline(statements: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, sql) in statements.iter().enumerate() {
        let name = format!("piece {number}");
        bytes.extend(message::parse(&name, sql));
        bytes.extend(message::bind(&name, &name, &[]));
        bytes.extend(message::execute(&name));
    }
    bytes.extend(message::sync());
    bytes
}

/// A read of the tour.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// What it shows.
    pub title: &'static str,
    /// What is sent.
    pub steps: &'static [Step],
}

/// What an attack comes to on a server without a gate. A test holds every attack to this: one that
/// would do nothing anyway proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unguarded {
    /// Something in the database is different afterwards, or nobody else can read it any more.
    Changes,
    /// The server's own privileges stop it.
    Refused,
    /// It runs, and what it does is not in the data: a lock, a signal, a message, bytes in the WAL.
    Runs,
}

/// An attack of the tour.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// What is attempted.
    pub title: &'static str,
    /// Parameters in the start-up packet.
    pub start_up: &'static [(&'static str, &'static str)],
    /// What is sent; the last step is the one that does the harm.
    pub steps: &'static [Step],
    /// What it comes to without a gate.
    pub unguarded: Unguarded,
}

impl Attack {
    /// How it is delivered.
    #[must_use]
    pub fn delivery(&self) -> &'static str {
        let by_start_up = self.start_up.first().map(|_| "start-up");
        by_start_up.or(self.steps.last().map(|step| step.delivery())).unwrap_or_default()
    }
}

/// Who stopped an attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The gate, for this reason; the event is the audit line's id.
    Gate {
        /// `sql-write-statement`.
        reason: String,
        /// As in the refusal's DETAIL.
        event: String,
    },
    /// Nobody.
    Open,
    /// The server, so the attack had reached it.
    Server {
        /// The server's SQLSTATE.
        sqlstate: String,
    },
}

impl Layer {
    /// The gate's refusals say so in DETAIL: `SECURITY_VIOLATION reason=… event=…`. Everything else
    /// is the server's.
    fn of(error: &ServerError) -> Self {
        let words = error.detail.as_deref().and_then(|it| it.strip_prefix("SECURITY_VIOLATION "));
        let violation = words.and_then(|words| {
            let (reason, event) = words.strip_prefix("reason=")?.split_once(" event=")?;
            Some(Self::Gate { reason: reason.to_owned(), event: event.to_owned() })
        });
        violation.unwrap_or_else(|| Self::Server { sqlstate: error.sqlstate.clone() })
    }
}

/// How an attack ended.
#[derive(Clone, Debug)]
pub struct AttackOutcome {
    /// Which.
    pub attack: &'static Attack,
    /// Who stopped it.
    pub layer: Layer,
    /// Whether anything in the database is different.
    pub changed: bool,
    /// Whether the session answers a read afterwards; `None` when there was no session.
    pub session_lives: Option<bool>,
    /// The line in the audit log that tells of it.
    pub line: Option<TrailLine>,
}

impl AttackOutcome {
    /// Whether the gate kept every promise: it stopped the attack, wrote it down as what it was, let
    /// nothing change, and left the session alive.
    #[must_use]
    pub fn held(&self) -> bool {
        let Layer::Gate { reason, .. } = &self.layer else { return false };
        let written = self
            .line
            .as_ref()
            .is_some_and(|line| line.decision == "deny" && line.reason == *reason);
        written && !self.changed && self.session_lives != Some(false)
    }
}

/// How a read ended.
#[derive(Clone, Debug)]
pub struct ReadOutcome {
    /// Which.
    pub read: &'static Read,
    /// How many rows, or lines of a COPY, came.
    pub rows: usize,
    /// What differs from the answer on a direct connection, if anything.
    pub difference: Option<String>,
}

/// Where the tour goes.
pub struct Tour<'a> {
    /// The gate, or for a control the server itself.
    pub address: Address,
    /// The server itself.
    pub direct: Address,
    /// The owner of the tables.
    pub owner: Login,
    /// A superuser of the same database, for the proof.
    pub examiner: Login,
    /// The gate's audit log.
    pub trail: Option<Trail>,
    /// Puts the database back before each attack; only the control needs it.
    pub restore: Option<&'a dyn Fn() -> Result<(), ClientError>>,
    /// The half that goes to JIRA.
    pub jira: JiraTour<'a>,
}

impl Tour<'_> {
    /// Walks the whole tour.
    ///
    /// # Errors
    /// When a connection breaks that no attack is meant to break.
    pub fn walk(&self) -> Result<Report, ClientError> {
        let before = self.fingerprint()?;
        let reads = READS.iter().map(|read| self.read(read)).collect::<Result<_, _>>()?;
        let mut after = self.fingerprint()?;
        let mut attacks = Vec::new();
        for attack in ATTACKS {
            if let Some(restore) = self.restore {
                restore()?;
                after = self.fingerprint()?;
            }
            let attempt = self.attempt(attack)?;
            let found = self.fingerprint()?;
            let changed = found != after;
            after = found;
            attacks.push(self.judge(attack, attempt, changed));
        }
        let after = self.fingerprint()?;
        let jira = self.jira.walk().map_err(ClientError::Io)?;
        Ok(Report { reads, attacks, before, after, jira })
    }

    fn fingerprint(&self) -> Result<String, ClientError> {
        fingerprint(&mut Client::connect(&self.direct, &self.examiner)?)
    }

    fn read(&self, read: &'static Read) -> Result<ReadOutcome, ClientError> {
        let mut guarded = Client::connect(&self.address, &self.owner)?;
        let mut direct = Client::connect(&self.direct, &self.owner)?;
        let (mut rows, mut difference) = (0, None);
        for step in read.steps {
            let (seen, expected) = (step.send(&mut guarded)?, step.send(&mut direct)?);
            rows += seen.results.iter().map(|result| result.rows.len()).sum::<usize>();
            rows += seen.copied.split_inclusive(|byte| *byte == b'\n').count();
            difference = difference.or_else(|| differs(&seen, &expected));
        }
        Ok(ReadOutcome { read, rows, difference })
    }

    fn attempt(&self, attack: &Attack) -> Result<Attempt, ClientError> {
        let settings = attack.start_up.iter();
        let login =
            settings.fold(self.owner.clone(), |login, (name, value)| login.with(name, value));
        match Client::connect(&self.address, &login) {
            Ok(client) => Ok(deliver(attack, client)),
            Err(ClientError::Refused(error)) => {
                Ok(Attempt { layer: Layer::of(&error), session: Session::NeverBegan })
            }
            Err(error) => Err(error),
        }
    }

    fn judge(&self, attack: &'static Attack, attempt: Attempt, changed: bool) -> AttackOutcome {
        let Attempt { layer, session } = attempt;
        let session_lives = match session {
            Session::Ended => Some(false),
            Session::NeverBegan => None,
            Session::Open(mut client) => Some(answers_a_read(&mut client).unwrap_or(false)),
        };
        let line = match (&layer, &self.trail) {
            (Layer::Gate { event, .. }, Some(trail)) => trail.find(event),
            _ => None,
        };
        AttackOutcome { attack, layer, changed, session_lives, line }
    }
}

/// What came of an attack so far.
struct Attempt {
    layer: Layer,
    session: Session,
}

/// The attacker's session. It is kept while the data is looked at, because what it holds, such as a
/// temporary table or a lock, must be seen too.
enum Session {
    Ended,
    NeverBegan,
    Open(Client),
}

/// Sends an attack until someone stops it. A connection that breaks or falls silent is no refusal:
/// nobody has said that it did not happen.
fn deliver(attack: &Attack, mut client: Client) -> Attempt {
    for step in attack.steps {
        match step.send(&mut client) {
            Ok(Reply { error: Some(error), status, .. }) => {
                let session = status.map_or(Session::Ended, |_| Session::Open(client));
                return Attempt { layer: Layer::of(&error), session };
            }
            Ok(_) => {}
            Err(_) => return Attempt { layer: Layer::Open, session: Session::Ended },
        }
    }
    Attempt { layer: Layer::Open, session: Session::Open(client) }
}

fn answers_a_read(client: &mut Client) -> Result<bool, ClientError> {
    client.query("ROLLBACK")?;
    Ok(client.query("SELECT 1")?.value() == Some("1"))
}

fn differs(seen: &Reply, expected: &Reply) -> Option<String> {
    if seen == expected {
        return None;
    }
    let refusal = seen.error.as_ref().map(ToString::to_string);
    Some(refusal.unwrap_or_else(|| "another answer than on a direct connection".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::Layer;
    use crate::demo::client::reply::ServerError;

    #[test]
    fn the_servers_own_25006_is_not_taken_for_the_gates() {
        let mut error = ServerError { sqlstate: "25006".to_owned(), ..ServerError::default() };
        assert_eq!(Layer::of(&error), Layer::Server { sqlstate: "25006".to_owned() });

        error.detail = Some("SECURITY_VIOLATION reason=sql-lock event=0192".to_owned());
        let gate = Layer::Gate { reason: "sql-lock".to_owned(), event: "0192".to_owned() };
        assert_eq!(Layer::of(&error), gate);
    }
}
