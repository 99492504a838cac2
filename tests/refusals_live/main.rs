//! Refusals on a real server, with a tap between gate and server: nothing of what is refused goes up,
//! and the session goes on as PostgreSQL's own would after a syntax error in the same message.
//!
//! The oracle is the server itself: each conversation is also held directly, with a text in place of
//! the refused one that does not parse, and both must read alike, message by message.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod cases;
#[path = "../support/mod.rs"]
mod support;
mod walk;

use std::collections::BTreeMap;

use cases::{MALFORMED, Malformed, Refused, STATEMENTS, STRINGS};
use rowarden::demo::client::{Client, Login, message};
use rowarden::demo::cluster::Cluster;
use rowarden::demo::tour::proof::fingerprint;
use support::gate::{GateSetup, LiveGate};
use support::talk::{add_owner, fields, only, reason_and_event};
use support::tap::{Tap, holds};
use walk::{LATE, Shape, State, Walk, walk};

/// What an attack could change, and what would make it easier.
const SEED: &str = "\
CREATE TABLE notes (n int PRIMARY KEY, line text);
INSERT INTO notes VALUES (1, 'one'), (2, 'two');
CREATE SEQUENCE numbers;
CREATE FUNCTION scribble(line text) RETURNS bigint LANGUAGE sql
    AS 'WITH made AS (INSERT INTO notes VALUES (nextval(''numbers''), line) RETURNING n) SELECT count(*) FROM made'";

/// A server, the same through a tap and a gate, and what has been refused so far.
struct Bench {
    cluster: Cluster,
    tap: Tap,
    gate: LiveGate,
    direct: Client,
    guarded: Client,
    before: String,
    /// Event and reason of each refusal.
    refusals: BTreeMap<String, String>,
}

impl Bench {
    fn set_up() -> Self {
        let cluster = support::cluster();
        add_owner(&cluster, "ann", "secret");
        let login = Login::new("ann", "secret", "ann");
        let mut direct = Client::connect(&cluster.address(), &login).unwrap();
        direct.query(SEED).unwrap().into_result().unwrap();
        let tap = Tap::before(&cluster.socket());
        let gate = GateSetup::before(&[tap.upstream()]).start();
        let guarded = Client::connect(gate.address(), &login).unwrap();
        let before = measure(&cluster);
        Self { cluster, tap, gate, direct, guarded, before, refusals: BTreeMap::new() }
    }

    /// Holds a conversation through the gate and compares it with one that was held directly.
    fn try_refused(&mut self, trial: &Trial<'_>, expected: &[String]) {
        let Trial { reason, marker, .. } = trial;
        let what = format!("{} ({:?})", trial.title, trial.steps.state);
        let (seen, error) = walk(&mut self.guarded, &trial.steps);
        assert_eq!(seen, expected, "{what}");

        let error = fields(&error.body);
        let (told, event) = reason_and_event(error.get(&'D').map_or("", String::as_str));
        assert_eq!((told, error[&'V'].as_str()), (*reason, "ERROR"), "{what}");
        self.refusals.insert(event.to_owned(), told.to_owned());
        let sent = self.tap.take();
        assert!(holds(&sent, "SELECT 1"), "the tap hears what is allowed: {what}");
        for forbidden in [*marker, LATE] {
            assert!(!holds(&sent, forbidden), "{forbidden} went up: {what}");
        }
    }

    /// Looks every refusal up in the log, and at the data.
    fn finish(self, least: usize) {
        let Self { cluster, tap: _tap, gate, direct, guarded, before, refusals } = self;
        drop((direct, guarded));
        let trail = gate.stop();
        assert!(refusals.len() >= least, "{}", refusals.len());
        let denied: BTreeMap<&str, _> = trail
            .of_kind("db.statement")
            .into_iter()
            .filter(|line| line["decision"] == "deny")
            .map(|line| (line["id"].as_str().unwrap(), line))
            .collect();
        assert_eq!(denied.len(), refusals.len(), "each refusal is one line");
        for (event, reason) in &refusals {
            let line = denied[event.as_str()];
            assert_eq!(line["reason"], reason.as_str(), "{line}");
            assert_eq!(line["upstream"]["contacted"], false, "{line}");
            let open = line["db"]["tx"] == "read";
            assert_eq!(line["upstream"]["gate_action"] == "abort", open, "{line}");
        }
        assert_eq!(measure(&cluster), before, "the data has changed");
    }
}

fn measure(cluster: &Cluster) -> String {
    fingerprint(&mut cluster.connect("ann").unwrap()).unwrap()
}

/// One conversation with a refusal in it.
struct Trial<'a> {
    title: &'a str,
    reason: &'a str,
    marker: &'a str,
    steps: Walk,
}

/// Tries all texts in all of these shapes and states.
fn try_all(bench: &mut Bench, texts: &[&Refused], shapes: &[Shape], states: &[State]) {
    let mut number = 0;
    for shape in shapes {
        for state in states.iter().filter(|state| shape.is_certain_in(**state)) {
            let broken = Walk { state: *state, message: shape.message("nonsense"), ..shape.walk() };
            let expected = walk(&mut bench.direct, &broken).0;
            for text in texts {
                number += 1;
                let marker = format!("zq{number}x");
                let sql = text.sql.replace("{m}", &marker);
                let steps = Walk { message: shape.message(&sql), ..broken.clone() };
                let (title, reason) = (&*sql, text.reason);
                let trial = Trial { title, reason, marker: &marker, steps };
                bench.try_refused(&trial, &expected);
            }
        }
    }
}

#[test]
fn a_refused_simple_query_leaves_the_session_as_a_syntax_error_would() {
    let mut bench = Bench::set_up();
    let texts: Vec<&Refused> = STATEMENTS.iter().chain(STRINGS).collect();

    try_all(&mut bench, &texts, &[Shape::Simple], &State::ALL);

    bench.finish(texts.len() * State::ALL.len());
}

#[test]
fn a_refused_parse_leaves_the_session_as_a_syntax_error_would() {
    let mut bench = Bench::set_up();
    let texts: Vec<&Refused> = STATEMENTS.iter().collect();

    try_all(&mut bench, &texts, &[Shape::Unnamed], &State::ALL);
    try_all(&mut bench, &texts, &[Shape::Named, Shape::Described], &[State::Idle, State::Open]);

    bench.finish(texts.len() * (State::ALL.len() + 4));
}

#[test]
fn a_refusal_in_a_pipeline_comes_after_the_answers_before_it_and_nothing_runs_behind_it() {
    let mut bench = Bench::set_up();
    let texts: Vec<&Refused> = STATEMENTS.iter().collect();

    try_all(&mut bench, &texts, &[Shape::Pipelined], &State::ALL);
    try_all(&mut bench, &texts, &[Shape::Flushed], &[State::Idle, State::Open]);

    bench.finish(texts.len() * (State::ALL.len() + 1));
}

#[test]
fn a_refused_copy_takes_the_data_behind_it_along() {
    let mut bench = Bench::set_up();
    let texts: Vec<&Refused> =
        STATEMENTS.iter().filter(|text| text.reason == "sql-copy-in").collect();

    try_all(&mut bench, &texts, &[Shape::CopyStream, Shape::CopySeries], &State::ALL);

    bench.finish(texts.len() * 2 * State::ALL.len());
}

#[test]
fn a_message_that_is_not_what_it_says_is_refused_and_the_session_goes_on() {
    const IN_FAILED_TRANSACTION: &str = "25P02";
    let mut bench = Bench::set_up();
    let mut tried = 0;

    for Malformed { title, reason, like, message } in MALFORMED {
        for state in State::ALL {
            let marker = format!("zq{tried}x");
            let steps = Walk { state, message: message(&marker), ready: 1 };
            let broken = Walk { message: like(&marker), ..steps.clone() };
            let (expected, failure) = walk(&mut bench.direct, &broken);
            // There the server stops at what stands before the malformed message.
            if fields(&failure.body)[&'C'] != IN_FAILED_TRANSACTION {
                tried += 1;
                let trial = Trial { title, reason, marker: &marker, steps };
                bench.try_refused(&trial, &expected);
            }
        }
    }

    bench.finish(tried.max(MALFORMED.len() * 4));
}

/// Messages after which the two sides cannot be sure of each other any more.
fn breaking_messages(marker: &str) -> Vec<(&'static str, Vec<u8>)> {
    let huge = [&b"Q\x7f\xff\xff\xff"[..], marker.as_bytes()].concat();
    let in_series = [message::parse("", "SELECT 1"), message::query(marker)].concat();
    vec![
        ("proto-out-of-order", message::copy_data(marker.as_bytes())),
        ("proto-out-of-order", message::copy_done()),
        ("proto-out-of-order", in_series),
        ("proto-unknown-message", message::frame(b'y', marker.as_bytes())),
        ("proto-unknown-message", message::frame(b'p', marker.as_bytes())),
        ("proto-bad-length", huge),
        ("proto-bad-length", b"Q\0\0\0\x03".to_vec()),
    ]
}

#[test]
fn a_message_that_breaks_the_protocol_ends_the_connection_and_nothing_of_it_goes_up() {
    let bench = Bench::set_up();
    let login = Login::new("ann", "secret", "ann");

    for (reason, bytes) in breaking_messages("zqbreak") {
        let mut client = Client::connect(bench.gate.address(), &login).unwrap();
        client.send(&bytes).unwrap();
        let mut heard = Vec::new();
        while let Ok(message) = client.receive() {
            heard.push(message);
        }
        let error = fields(&only(&heard, b'E').body);
        let (told, event) = reason_and_event(&error[&'D']);
        assert_eq!((told, error[&'V'].as_str()), (reason, "FATAL"), "{error:?}");
        let trail = bench.gate.trail();
        let line = trail.event(event);
        assert_eq!(line["kind"], "db.protocol_violation");
        assert_eq!((&line["decision"], &line["reason"]), (&"deny".into(), &reason.into()));
        assert_eq!(line["upstream"]["contacted"], false);
    }

    assert!(!holds(&bench.tap.take(), "zqbreak"));
    assert_eq!(measure(&bench.cluster), bench.before);
}

/// A text that PostgreSQL would not take either is answered in its words, without a place in the
/// server's source: it has not been there.
#[test]
fn what_does_not_parse_is_answered_as_by_the_server_and_does_not_go_up() {
    let mut bench = Bench::set_up();
    let texts =
        ["SELEC 'zq'", "SELECT 'zq' FROM", "SELECT 'ä', zq zq zq", "SELECT 1; zq", "SELECT 'zq"];

    for text in texts {
        for bytes in [message::query(text), Shape::Unnamed.message(text)] {
            let words = |client: &mut Client| {
                client.send(&bytes).unwrap();
                let mut said = fields(&only(&support::talk::hear(client, 1), b'E').body);
                said.retain(|field, _| !"FLR".contains(*field));
                said
            };
            let (guarded, direct) = (words(&mut bench.guarded), words(&mut bench.direct));
            assert_eq!(guarded, direct, "{text}");
        }
    }

    assert_eq!(bench.guarded.query("SELECT 1").unwrap().value(), Some("1"));
    assert!(!holds(&bench.tap.take(), "zq"));
    let trail = bench.gate.trail();
    let unparsed: Vec<_> = trail.0.iter().filter(|line| line["reason"] == "sql-unparsed").collect();
    assert_eq!(unparsed.len(), 2 * texts.len());
    for line in unparsed {
        assert_eq!(
            (&line["decision"], &line["upstream"]["contacted"]),
            (&"error".into(), &false.into())
        );
    }
}
