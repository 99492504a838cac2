//! A whole conversation: a client says what the bytes say, a server answers rightly or not, and the
//! session stands between them.
//!
//! The bytes are lines, so that a seed can be read and a mutation hits something. The first byte of a
//! line says what it is:
//!
//! | byte | the client sends | the rest of the line |
//! |---|---|---|
//! | `Q` | Query | its text |
//! | `P` | Parse | `name,text` |
//! | `B` | Bind | `portal,statement` |
//! | `D`, `C` | Describe, Close | `P` or `S`, then the name |
//! | `E` | Execute | the portal's name |
//! | `H`, `S`, `X`, `F`, `d`, `c`, `f` | the message of this type | |
//! | `=` | these very bytes | |
//! | `.` | nothing: the server answers what it has so far | |
//! | `!` | nothing: see [`Conversation::plan`] | |

use std::cell::Cell;
use std::collections::{HashSet, VecDeque};
use std::sync::LazyLock;

use rowarden::audit::event::{AuditUnavailable, Decision, Entry, Ledger, Receipt};
use rowarden::policy::sql::judge_sql;
use rowarden::policy::verdict::Verdict;
use rowarden::postgres::frame::{Frame, ProtocolViolation, next_client_frame, next_server_frame};
use rowarden::postgres::message::ClientMessage;
use rowarden::postgres::outbox::Outbox;
use rowarden::postgres::session::{Appetite, Pins, Ports, Session};
use rowarden::postgres::verdicts::Verdicts;

use super::policy;
use super::pseudo_server::{FAIL, Oddity, PseudoServer, complaint};
use super::sql::{is_read, sendable};
use super::wire::{message, texts};

/// What the gate says on its own account.
const OWN: [&str; 4] = ["BEGIN READ ONLY", "COMMIT", FAIL, "ROLLBACK"];

/// Carries out what the lines of `data` say.
///
/// # Panics
/// When something unjudged goes up, the session loses step with a server that answers rightly, or
/// ReadyForQuery is not given once for each time that it is owed.
pub fn check(data: &[u8]) {
    let mut conversation = Conversation::default();
    for line in data.split(|&byte| byte == b'\n') {
        if conversation.session.is_none() {
            return;
        }
        conversation.line(line);
    }
    conversation.finish();
}

struct Conversation {
    /// `None` when the connection is closed.
    session: Option<Session>,
    out: Outbox,
    book: Book,
    server: PseudoServer,
    to_server: Vec<u8>,
    /// For each Bind in there, the text under which it was recorded.
    recorded: VecDeque<String>,
    from_client: Vec<u8>,
    client: Client,
    trust: Trust,
}

/// What the client has been promised and given.
#[derive(Default)]
struct Client {
    owed: usize,
    given: usize,
    status: Option<u8>,
    in_series: bool,
}

/// Whether the server has only said what a server would.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Every answer was right: the session must keep step.
    Right,
    /// It has changed a pin or asked for COPY data: the session must end.
    Tripped,
    /// It has said what no server says: the session may end.
    Wrong,
}

impl Default for Conversation {
    fn default() -> Self {
        Self {
            session: Some(Session::new(Pins::default())),
            out: Outbox::default(),
            book: Book::default(),
            server: PseudoServer::default(),
            to_server: Vec::new(),
            recorded: VecDeque::new(),
            from_client: Vec::new(),
            client: Client::default(),
            trust: Trust::Right,
        }
    }
}

impl Conversation {
    fn line(&mut self, line: &[u8]) {
        let Some((&kind, rest)) = line.split_first() else { return };
        let bytes = match kind {
            b'!' => return self.plan(rest),
            b'.' => return self.pump(),
            b'=' => rest.to_vec(),
            b'Q' => message(b'Q', &texts(&[rest])),
            b'P' => {
                let (name, sql) = pair(rest);
                message(b'P', &[&texts(&[name, sql])[..], &[0, 0]].concat())
            }
            b'B' => {
                let (portal, statement) = pair(rest);
                message(b'B', &[&texts(&[portal, statement])[..], &[0; 6]].concat())
            }
            b'D' | b'C' => message(kind, &texts(&[rest])),
            b'E' => message(b'E', &[&texts(&[rest])[..], &[0; 4]].concat()),
            b'F' => message(b'F', &[0; 10]),
            b'f' => message(b'f', b"\0"),
            _ => message(kind, b""),
        };
        self.from_client.extend_from_slice(&bytes);
        self.take_client();
    }

    /// What the server or the log will do next: `e` an error, `f` a fatal one, `k` an error when
    /// Sync commits, `n` a notice, `s`
    /// `name=value` a report, `g` a COPY in, `a` the log fails, `=` these very bytes.
    fn plan(&mut self, what: &[u8]) {
        let Some((&kind, rest)) = what.split_first() else { return };
        let oddity = match kind {
            b'e' => Oddity::Error("ERROR"),
            b'f' => Oddity::Error("FATAL"),
            b'k' => Oddity::NoCommit,
            b'n' => Oddity::Say(message(b'N', &complaint("NOTICE", "00000"))),
            b's' => Oddity::Say(self.report(rest)),
            b'g' => {
                self.distrust(Trust::Tripped);
                Oddity::Say(message(b'G', &[0, 0, 0]))
            }
            b'a' => {
                self.book.fails.set(true);
                return;
            }
            b'=' => {
                self.distrust(Trust::Wrong);
                Oddity::Say(rest.to_vec())
            }
            _ => return,
        };
        self.server.will(oddity);
    }

    fn report(&mut self, setting: &[u8]) -> Vec<u8> {
        let end = setting.iter().position(|&byte| byte == b'=').unwrap_or(setting.len());
        let (name, value) = setting.split_at(end);
        let body = texts(&[name, value.get(1..).unwrap_or_default()]);
        if str::from_utf8(&body).is_err() || body.split(|&byte| byte == 0).count() != 3 {
            self.distrust(Trust::Wrong);
        } else {
            self.distrust(Trust::Tripped);
        }
        message(b'S', &body)
    }

    fn distrust(&mut self, trust: Trust) {
        if self.trust != Trust::Wrong {
            self.trust = trust;
        }
    }

    /// Hands the session whole messages as long as it takes them.
    fn take_client(&mut self) {
        while let Some(session) = &self.session {
            match session.appetite() {
                Appetite::Closed => return self.close(),
                Appetite::Hungry => {}
                Appetite::Waiting => {
                    self.pump();
                    continue;
                }
            }
            let bytes = std::mem::take(&mut self.from_client);
            let taken = match next_client_frame(&bytes) {
                Ok(Some(frame)) => {
                    self.on_client(frame);
                    frame.raw.len()
                }
                Ok(None) => 0,
                Err(_) => return self.close(),
            };
            self.from_client.extend_from_slice(bytes.get(taken..).unwrap_or_default());
            if taken == 0 {
                return;
            }
        }
    }

    fn on_client(&mut self, frame: Frame<'_>) {
        let Some(session) = self.session.take() else { return };
        self.client.note_asked(frame.kind);
        let mut ports = Ports { judge: &mut &*VERDICTS, ledger: &mut self.book };
        match session.on_client(frame, &mut ports, &mut self.out) {
            Ok(session) => self.session = Some(session),
            Err(violation) => assert_ne!(violation, ProtocolViolation::Busy, "it was hungry"),
        }
        self.carry();
    }

    /// Lets the server answer all that it has been sent, and the session all that this brings about.
    fn pump(&mut self) {
        while !self.to_server.is_empty() && self.session.is_some() {
            let sent = std::mem::take(&mut self.to_server);
            let mut rest = &sent[..];
            while let Ok(Some(frame)) = next_client_frame(rest) {
                let answer = self.server.answer(frame);
                if frame.kind == b'B' {
                    self.check_bound();
                }
                self.hear(&answer);
                rest = &rest[frame.raw.len()..];
            }
        }
        let waits = |session: &Session| session.appetite() == Appetite::Waiting;
        if self.session.as_ref().is_some_and(waits) {
            assert!(self.trust != Trust::Right || self.server.is_gone(), "waits for ever");
            self.close();
        }
    }

    /// What the server has bound is what was written down.
    fn check_bound(&mut self) {
        let recorded = self.recorded.pop_front().expect("a record of each Bind");
        let Some(bound) = self.server.take_bound() else { return };
        let right = self.trust == Trust::Wrong
            || bound == recorded
            || {
                let judged = judge_sql(&policy(), recorded.as_bytes()).verdict;
                matches!(judged, Verdict::Allow(cleared) if sendable(cleared.request()).contains(&&*bound))
            };
        assert!(right, "recorded {recorded:?}, bound {bound:?}");
    }

    fn hear(&mut self, answer: &[u8]) {
        let mut rest = answer;
        while let Some(mut session) = self.session.take() {
            let frame = match next_server_frame(rest) {
                Ok(Some(frame)) => frame,
                Ok(None) if rest.is_empty() => {
                    self.session = Some(session);
                    return;
                }
                _ => {
                    assert!(self.trust == Trust::Wrong, "a server sends whole messages");
                    return;
                }
            };
            rest = &rest[frame.raw.len()..];
            let went_on = if matches!(frame.kind, b'D' | b'd') {
                session.on_row(frame.raw.len(), &mut self.out).map(|_| {
                    self.out.client().extend_from_slice(frame.raw);
                    session
                })
            } else {
                session.on_server(frame, &mut self.book, &mut self.out)
            };
            match went_on {
                Ok(session) => self.session = Some(session),
                Err(violation) => self.check_violation(violation),
            }
            self.carry();
        }
    }

    /// A server that answers rightly is never at fault.
    fn check_violation(&self, violation: ProtocolViolation) {
        let tripped =
            matches!(violation, ProtocolViolation::CopyInStarted | ProtocolViolation::Tripwire);
        match self.trust {
            Trust::Right => panic!("the server answered rightly: {violation}"),
            Trust::Tripped => assert!(tripped, "{violation}"),
            Trust::Wrong => {}
        }
    }

    /// Looks at what leaves the session, and passes it on.
    fn carry(&mut self) {
        let sent = self.out.pending_for_server().to_vec();
        self.out.sent_to_server(sent.len());
        let mut rest = &sent[..];
        while let Some(frame) = next_client_frame(rest).expect("the gate sends known messages") {
            self.recorded.extend(self.book.check_sent(frame));
            rest = &rest[frame.raw.len()..];
        }
        assert!(rest.is_empty(), "half a message goes to the server");
        self.to_server.extend_from_slice(&sent);

        let given = self.out.pending_for_client().to_vec();
        self.out.sent_to_client(given.len());
        let mut rest = &given[..];
        while let Ok(Some(frame)) = next_server_frame(rest) {
            self.client.note_given(frame);
            rest = &rest[frame.raw.len()..];
        }
        assert!(rest.is_empty(), "half a message goes to the client");
        assert!(self.client.given <= self.client.owed, "ReadyForQuery that nobody asked for");
    }

    fn close(&mut self) {
        self.session = None;
    }

    /// The client ends its series and hears all that it is owed.
    fn finish(&mut self) {
        if self.client.in_series && self.from_client.is_empty() {
            self.from_client.extend_from_slice(&message(b'S', b""));
        }
        self.take_client();
        self.pump();
        let Some(session) = &self.session else { return };
        if self.trust == Trust::Wrong || self.client.in_series {
            return;
        }
        assert!(!session.is_busy() && session.appetite() == Appetite::Hungry);
        assert_eq!(self.client.given, self.client.owed, "ReadyForQuery");
        if let Some(status) = self.client.status {
            assert_eq!(char::from(status), char::from(self.server.status()), "state");
        }
    }
}

impl Client {
    /// ReadyForQuery is owed for every Sync, and for a simple message outside a series. (Inside one
    /// it is dropped or ends the connection.)
    fn note_asked(&mut self, kind: u8) {
        match kind {
            b'S' => {
                self.owed += 1;
                self.in_series = false;
            }
            b'Q' | b'F' if !self.in_series => self.owed += 1,
            b'P' | b'B' | b'D' | b'E' | b'C' => self.in_series = true,
            _ => {}
        }
    }

    fn note_given(&mut self, frame: Frame<'_>) {
        if frame.kind == b'Z' {
            self.given += 1;
            self.status = frame.body.first().copied();
        }
    }
}

/// The log, as far as it proves what may be sent.
#[derive(Default)]
struct Book {
    fails: Cell<bool>,
    /// The texts that may go up, because they are read in a text that was let through.
    cleared: HashSet<String>,
    /// The text of the last Parse that went up.
    parsed: String,
    /// The text of the last record of a Bind, until the Bind goes up.
    bound: Option<String>,
}

impl Book {
    /// A Parse holds what was let through and recorded, and nothing that would be refused. The text
    /// under which a Bind was recorded: its own, or that of the Parse before it.
    fn check_sent(&mut self, frame: Frame<'_>) -> Option<String> {
        let message = ClientMessage::read(frame).expect("the gate sends what it would take");
        match message {
            ClientMessage::Parse(parse) => {
                let text = str::from_utf8(parse.sql).expect("UTF-8");
                let own = OWN.contains(&text) && parse.name.is_empty();
                assert!(own || self.cleared.contains(text), "sent without a record: {text:?}");
                assert!(own || is_read(text), "sent, and refused when judged again: {text:?}");
                text.clone_into(&mut self.parsed);
                None
            }
            ClientMessage::Bind(_) => {
                Some(self.bound.take().unwrap_or_else(|| self.parsed.clone()))
            }
            _ => None,
        }
    }
}

impl Ledger for Book {
    fn record(&mut self, entry: &Entry<'_>) -> Result<Receipt, AuditUnavailable> {
        if self.fails.take() {
            return Err(AuditUnavailable);
        }
        let query = entry.query.expect("a statement");
        if let (Decision::Allow, Some(text)) = (entry.decision, query.text) {
            if query.message == 'B' {
                self.bound = Some(text.to_owned());
            }
            let Verdict::Allow(cleared) = judge_sql(&policy(), text.as_bytes()).verdict else {
                panic!("recorded as let through: {text:?}");
            };
            let judgement = cleared.request();
            let texts = sendable(judgement).into_iter().map(str::to_owned);
            self.cleared.extend(texts.chain(judgement.pieces.is_empty().then(|| text.to_owned())));
        }
        Ok(Receipt { event: String::new() })
    }

    fn follow_up(&mut self, _: &Entry<'_>) {}
}

/// What stands before and behind the first comma.
fn pair(line: &[u8]) -> (&[u8], &[u8]) {
    let comma = line.iter().position(|&byte| byte == b',').unwrap_or(line.len());
    (&line[..comma], line.get(comma + 1..).unwrap_or_default())
}

static VERDICTS: LazyLock<Verdicts> = LazyLock::new(|| Verdicts::new(policy()));
