//! Whole conversations, every effect in order: what goes up, what comes down, what is written down.
//!
//! A file of `tests/replays` is a list of steps. A step begins with `client` or `server` and a
//! message; the indented lines below it are what the session did. `REPLAYS=write` writes them anew,
//! for a person to read before committing.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rowarden::audit::event::{AuditUnavailable, Entry, Ledger, Receipt};
use rowarden::policy::file::Policy;
use rowarden::postgres::frame::{next_client_frame, next_server_frame};
use rowarden::postgres::outbox::Outbox;
use rowarden::postgres::session::{Pins, Ports, Session};
use rowarden::postgres::verdicts::Verdicts;

/// Writes entries down as lines of the replay.
#[derive(Default)]
struct Lines(String);

impl Ledger for Lines {
    fn record(&mut self, entry: &Entry<'_>) -> Result<Receipt, AuditUnavailable> {
        let reason = entry.reason.map_or("ok", |reason| reason.code());
        let action = entry.gate_action.map(|action| format!(" gate={action}")).unwrap_or_default();
        writeln!(
            self.0,
            "  log  {} #{} {} {reason}{action}",
            entry.kind.code(),
            entry.statement,
            entry.decision.code()
        )
        .unwrap();
        Ok(Receipt { event: "EVENT".to_owned() })
    }

    fn follow_up(&mut self, entry: &Entry<'_>) {
        let response = entry.response.unwrap();
        writeln!(
            self.0,
            "  log  {} #{} {} rows={}",
            entry.kind.code(),
            entry.statement,
            response.sqlstate,
            response.rows
        )
        .unwrap();
    }
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// Words of a step: bare, or quoted with `\n` and `\'` escapes left to SQL.
fn words(step: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = step.trim();
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap(),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        found.push(word.to_owned());
        rest = behind.trim_start();
    }
    found
}

fn texts(parts: &[&str]) -> Vec<u8> {
    parts.iter().flat_map(|part| part.bytes().chain([0])).collect()
}

fn client_message(words: &[String]) -> Vec<u8> {
    let word = |index: usize| words.get(index).map_or("", String::as_str);
    match word(0) {
        "Query" => frame(b'Q', &texts(&[word(1)])),
        "Parse" => frame(b'P', &[texts(&[word(1), word(2)]), vec![0, 0]].concat()),
        "Bind" => frame(b'B', &[texts(&[word(1), word(2)]), vec![0; 6]].concat()),
        "Execute" => frame(b'E', &[texts(&[word(1)]), vec![0; 4]].concat()),
        "DescribePortal" => frame(b'D', &texts(&[&format!("P{}", word(1))])),
        "DescribeStatement" => frame(b'D', &texts(&[&format!("S{}", word(1))])),
        "CloseStatement" => frame(b'C', &texts(&[&format!("S{}", word(1))])),
        "ClosePortal" => frame(b'C', &texts(&[&format!("P{}", word(1))])),
        "Sync" => frame(b'S', &[]),
        "Flush" => frame(b'H', &[]),
        "Malformed" => frame(b'D', b"Xname\0"),
        "Terminate" => frame(b'X', &[]),
        "FunctionCall" => frame(b'F', &[0; 10]),
        "CopyData" => frame(b'd', word(1).as_bytes()),
        "CopyDone" => frame(b'c', &[]),
        other => panic!("no such client message: {other}"),
    }
}

fn server_message(words: &[String]) -> Vec<u8> {
    let word = |index: usize| words.get(index).map_or("", String::as_str);
    let error = |kind| {
        let fields = [
            format!("S{}", word(1)),
            format!("V{}", word(1)),
            format!("C{}", word(2)),
            format!("M{}", word(3)),
        ];
        let position = words.get(4).map(|place| format!("P{place}"));
        let mut body: Vec<u8> =
            fields.iter().chain(&position).flat_map(|field| field.bytes().chain([0])).collect();
        body.push(0);
        frame(kind, &body)
    };
    match word(0) {
        "ParseComplete" => frame(b'1', &[]),
        "BindComplete" => frame(b'2', &[]),
        "CloseComplete" => frame(b'3', &[]),
        "NoData" => frame(b'n', &[]),
        "ParameterDescription" => frame(b't', &[0, 0]),
        "RowDescription" => frame(b'T', &[0, 0]),
        "DataRow" => frame(b'D', &[0, 0]),
        "CommandComplete" => frame(b'C', &texts(&[word(1)])),
        "EmptyQuery" => frame(b'I', &[]),
        "PortalSuspended" => frame(b's', &[]),
        "Ready" => frame(b'Z', word(1).as_bytes()),
        "Error" => error(b'E'),
        "Notice" => error(b'N'),
        "ParameterStatus" => frame(b'S', &texts(&[word(1), word(2)])),
        "CopyOut" => frame(b'H', &[0, 0, 0]),
        "CopyData" => frame(b'd', word(1).as_bytes()),
        "CopyDone" => frame(b'c', &[]),
        "CopyIn" => frame(b'G', &[0, 0, 0]),
        other => panic!("no such server message: {other}"),
    }
}

/// Frames in words, one a line.
fn show(direction: &str, mut bytes: &[u8], into: &mut String) {
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        let (frame, rest) = bytes.split_at(length + 1);
        let body: String = String::from_utf8_lossy(&frame[5..])
            .chars()
            .map(|character| if character.is_control() { '·' } else { character })
            .collect();
        writeln!(into, "  {direction} {} {body}", char::from(frame[0])).unwrap();
        bytes = rest;
    }
}

struct Replay {
    session: Option<Session>,
    lines: Lines,
    out: Outbox,
    judge: Verdicts,
}

impl Replay {
    fn new(server_major: u32) -> Self {
        let judge = Verdicts::new(Arc::new(Policy::shipped().unwrap()));
        let session = Some(Session::new(Pins { server_major, ..Pins::default() }));
        Self { session, lines: Lines::default(), out: Outbox::default(), judge }
    }

    fn step(&mut self, line: &str) -> String {
        let words = words(line);
        let (from, message) = (words[0].as_str(), &words[1..]);
        let session = self.session.take().unwrap();
        let next = match from {
            "client" => {
                let bytes = client_message(message);
                let frame = next_client_frame(&bytes).unwrap().unwrap();
                let ledger = &mut self.lines;
                session.on_client(
                    frame,
                    &mut Ports { judge: &mut &self.judge, ledger },
                    &mut self.out,
                )
            }
            "server" => {
                let bytes = server_message(message);
                let frame = next_server_frame(&bytes).unwrap().unwrap();
                self.on_server(session, &frame)
            }
            other => panic!("neither client nor server: {other}"),
        };
        let mut effects = std::mem::take(&mut self.lines.0);
        match next {
            Ok(session) => self.session = Some(session),
            Err(violation) => writeln!(effects, "  end  {violation}").unwrap(),
        }
        show("up  ", self.out.pending_for_server(), &mut effects);
        show("down", self.out.pending_for_client(), &mut effects);
        self.out = Outbox::default();
        effects
    }

    fn on_server(
        &mut self,
        mut session: Session,
        frame: &rowarden::postgres::frame::Frame<'_>,
    ) -> Result<Session, rowarden::postgres::frame::ProtocolViolation> {
        if matches!(frame.kind, b'D' | b'd') {
            session.on_row(frame.raw.len(), &mut self.out)?;
            self.out.client().extend_from_slice(frame.raw);
            return Ok(session);
        }
        session.on_server(*frame, &mut self.lines, &mut self.out)
    }
}

fn replayed(text: &str) -> String {
    let mut replay = Replay::new(15);
    let mut result = String::new();
    for line in text.lines().filter(|line| !line.starts_with("  ")) {
        writeln!(result, "{line}").unwrap();
        if let Some(server) = line.strip_prefix("new session") {
            replay = Replay::new(server.trim().parse().unwrap_or(15));
        } else if !line.is_empty() && !line.starts_with('#') {
            result.push_str(&replay.step(line));
        }
    }
    result
}

#[test]
fn every_conversation_goes_as_it_is_written_down() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replays");
    let mut files = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let written = fs::read_to_string(&path).unwrap();
        let found = replayed(&written);
        if std::env::var("REPLAYS").as_deref() == Ok("write") {
            fs::write(&path, &found).unwrap();
        }
        if written != found {
            let different = written.lines().zip(found.lines()).find(|(left, right)| left != right);
            wrong.push(format!("{}: first difference {different:?}", path.display()));
        }
        files += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(files > 5, "only {files} conversations");
}
