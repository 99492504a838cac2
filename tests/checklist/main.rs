//! The checklist of wire-level cases, one test each, under its number: B is framing after start-up, C
//! ways out of a read-only session. The judge and the policy are the shipped ones; the server is a
//! stand-in that follows a script and keeps every byte that reaches it. (A is in `tests/startup`.)
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may stop where it stands"
)]

mod escapes;
mod framing;
mod hostile;
#[path = "../cuts/server.rs"]
mod server;

use std::future::poll_fn;
use std::sync::Arc;

use rowarden::audit::event::{AuditUnavailable, Entry, Ledger, Receipt};
use rowarden::demo::client::message;
use rowarden::policy::file::Policy;
use rowarden::policy::reason::Reason;
use rowarden::postgres::pump::{End, Pump};
use rowarden::postgres::session::{Pins, Ports, Session};
use rowarden::postgres::verdicts::Verdicts;
use rowarden::postgres::wire::Wire;
use server::{send_cut, serve};
use tokio::io::{AsyncReadExt, duplex};

/// Occurs in forbidden texts only.
const MARKER: &str = "zqforbidden";

/// The reasons of what was refused.
#[derive(Debug, Default, PartialEq, Eq)]
struct Denials(Vec<Reason>);

impl Ledger for Denials {
    fn record(&mut self, entry: &Entry<'_>) -> Result<Receipt, AuditUnavailable> {
        if let Some(reason) = entry.reason {
            assert_ne!(entry.upstream_contacted, Some(true), "{reason:?}");
            self.0.push(reason);
        }
        Ok(Receipt { event: format!("event{}", self.0.len()) })
    }

    fn follow_up(&mut self, _: &Entry<'_>) {}
}

/// What came of a conversation.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    end: End,
    by_client: Vec<u8>,
    by_server: Vec<u8>,
    denials: Vec<Reason>,
}

impl Seen {
    /// The messages that the client has read: their types, and a letter of ReadyForQuery.
    fn outline(&self) -> String {
        let mut outline = String::new();
        let mut rest = &self.by_client[..];
        while let Some((kind, body, behind)) = next_message(rest) {
            outline.push(char::from(kind));
            if kind == b'Z' {
                outline.push(char::from(body[0]));
            }
            rest = behind;
        }
        assert!(rest.is_empty(), "a broken message: {rest:?}");
        outline
    }

    /// The fields of the only error that the client has read.
    fn error(&self) -> Vec<(char, String)> {
        let mut errors = Vec::new();
        let mut rest = &self.by_client[..];
        while let Some((kind, body, behind)) = next_message(rest) {
            if kind == b'E' {
                errors.push(body);
            }
            rest = behind;
        }
        let [body] = errors[..] else { panic!("{} errors", errors.len()) };
        let parts = body.split(|byte| *byte == 0).filter_map(<[u8]>::split_first);
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        parts.map(|(letter, value)| (char::from(*letter), text(value))).collect()
    }

    fn sqlstate(&self) -> String {
        self.error().into_iter().find(|(letter, _)| *letter == 'C').unwrap().1
    }

    /// That nothing forbidden has reached the server.
    fn nothing_went_up(&self) {
        assert!(!holds(&self.by_server, MARKER), "{}", String::from_utf8_lossy(&self.by_server));
    }

    /// That the connection was ended by this, and nothing forbidden has gone up.
    fn ended_by(&self, reason: Reason) {
        let End::Violation(_, violation) = self.end else { panic!("{:?}", self.end) };
        assert_eq!(violation.reason(), reason);
        self.nothing_went_up();
    }
}

fn next_message(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let length = u32::from_be_bytes(*bytes.get(1..5)?.first_chunk()?) as usize;
    Some((bytes[0], bytes.get(5..=length)?, &bytes[length + 1..]))
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Says `script` in segments of `cut` bytes to a session of the shipped policy, and goodbye.
fn talk_in_pieces(script: &[u8], cut: usize) -> Seen {
    let script = [script, &message::terminate()].concat();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(converse(&script, cut))
}

fn talk(script: &[u8]) -> Seen {
    talk_in_pieces(script, usize::MAX)
}

async fn converse(script: &[u8], cut: usize) -> Seen {
    let judge = Verdicts::new(Arc::new(Policy::shipped().unwrap()));
    let (client, gate_client) = duplex(1 << 20);
    let (gate_server, server) = duplex(1 << 20);
    let gate = async {
        let mut denials = Denials::default();
        let session = Session::new(Pins::default());
        let mut pump = Pump::new(Wire::new(gate_client), Wire::new(gate_server), session, b"");
        let end = poll_fn(|context| {
            pump.poll(context, &mut Ports { judge: &mut &judge, ledger: &mut denials })
        });
        let end = end.await;
        pump.close(end, None).await;
        (end, denials.0)
    };
    let (mut reading, mut writing) = tokio::io::split(client);
    let reader = async {
        let mut seen = Vec::new();
        reading.read_to_end(&mut seen).await.map(|_| seen).unwrap()
    };
    let writer = async {
        // One segment as a rule: the pipe has room for it.
        send_cut(&mut writing, script, cut).await;
    };
    let (by_client, (end, denials), by_server, ()) =
        tokio::join!(reader, gate, serve(server, usize::MAX), writer);
    Seen { end, by_client, by_server, denials }
}

/// A query with its marker.
fn query(sql: &str) -> Vec<u8> {
    message::query(&sql.replace("{m}", MARKER))
}

/// Parse under a name.
fn parse(name: &str, sql: &str) -> Vec<u8> {
    message::parse(name, &sql.replace("{m}", MARKER))
}

/// Parse, Bind, Execute of the unnamed statement.
fn run(sql: &str) -> Vec<u8> {
    [parse("", sql), message::bind("", "", &[]), message::execute("")].concat()
}

/// A message whose length field says something else.
fn lying(kind: u8, length: u32, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &length.to_be_bytes(), body].concat()
}
