//! Statements that go beyond a limit: cancelled on the server, told to the client, and the session
//! goes on as after any error.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rowarden::demo::client::reply::Message;
use rowarden::demo::client::{Client, Login, message};
use rowarden::demo::cluster::Cluster;
use rowarden::listen::Address;
use rowarden::policy::limits::Limits;
use serde_json::Value;
use support::gate::{GateSetup, LiveGate, socket_of};
use support::talk::{add_owner, fields, hear, only, reason_and_event, trusting};
use support::wait_for;

/// Runs until it is cancelled: some 10^10 rows, none of which is kept.
const ENDLESS: &str = "SELECT count(*) FROM pg_proc a, pg_proc b, pg_proc c";

struct Bench {
    cluster: Cluster,
    gate: LiveGate,
}

impl Bench {
    fn with(limits: Limits) -> Self {
        let cluster = support::cluster_with(&trusting());
        add_owner(&cluster, "ann", "");
        let gate = GateSetup::before(&[socket_of(&cluster)]).limited_to(limits).start();
        Self { cluster, gate }
    }

    fn client(&self) -> Client {
        Client::connect(self.gate.address(), &Login::new("ann", "", "ann")).unwrap()
    }

    /// Whether the server does anything for ann.
    fn is_at_work(&self) -> bool {
        let count =
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'ann' AND state = 'active'";
        self.cluster.execute("postgres", count).unwrap().value() != Some("0")
    }

    /// The line in the audit log that an error of the gate's own leads to.
    fn line_of(&self, error: &Message, sqlstate: &str) -> Value {
        let fields = fields(&error.body);
        assert_eq!((fields[&'C'].as_str(), fields[&'V'].as_str()), (sqlstate, "ERROR"));
        let (reason, event) = reason_and_event(&fields[&'D']);
        let trail = self.gate.trail();
        let line = trail.event(event);
        assert_eq!(line["reason"], reason);
        assert_eq!((&line["kind"], &line["decision"]), (&"limit.hit".into(), &"deny".into()));
        line.clone()
    }
}

fn time_limit() -> Limits {
    Limits { statement_time: Some(Duration::from_millis(300)), ..Limits::default() }
}

fn row_limit(rows: u64) -> Limits {
    Limits { result_rows: rows, ..Limits::default() }
}

/// Parse, Bind, Execute with this many rows at most (0: all), Sync.
fn run(sql: &str, rows: u32) -> Vec<u8> {
    let execute = message::frame(b'E', &[&b"\0"[..], &rows.to_be_bytes()].concat());
    let begin = [message::parse("", sql), message::bind("", "", &[])].concat();
    [begin, execute, message::sync()].concat()
}

fn status(heard: &[Message]) -> char {
    char::from(only(heard, b'Z').body[0])
}

fn ask(client: &mut Client, bytes: &[u8]) -> Vec<Message> {
    client.send(bytes).unwrap();
    hear(client, 1)
}

/// How every kind of delivery sends this query.
fn deliveries(sql: &str) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("simple", message::query(sql)),
        ("extended", run(sql, 0)),
        ("first of a string", message::query(&format!("{sql}; SELECT 2"))),
        ("last of a string", message::query(&format!("SELECT 2; {sql}"))),
        ("before a COMMIT of its own", message::query(&format!("BEGIN; {sql}; COMMIT; SELECT 2"))),
        ("COPY", message::query(&format!("COPY ({sql}) TO STDOUT"))),
        ("pipelined", [run(sql, 0), run("SELECT 2", 0)].concat()),
    ]
}

#[test]
fn a_statement_that_runs_too_long_is_stopped_however_it_is_sent_and_the_session_goes_on() {
    let bench = Bench::with(time_limit());
    let mut client = bench.client();
    for (how, bytes) in deliveries(ENDLESS) {
        let heard = ask(&mut client, &bytes);

        assert_eq!(bench.line_of(only(&heard, b'E'), "57014")["reason"], "limit-time", "{how}");
        // The transaction that the string has opened itself is left failed, as by PostgreSQL.
        let left = if how.starts_with("before a COMMIT") { 'E' } else { 'I' };
        assert_eq!(status(&heard), left, "{how}");
        if how == "pipelined" {
            assert!(hear(&mut client, 1).iter().any(|message| message.tag == b'D'));
        }
        assert!(!bench.is_at_work(), "{how}: cancelled before the client goes on");
        assert_eq!(client.query("ROLLBACK").unwrap().status, Some('I'));
        assert_eq!(client.query("SELECT 42").unwrap().value(), Some("42"), "{how}");
    }
}

#[test]
fn in_a_transaction_a_statement_that_is_stopped_fails_it_here_and_on_the_server() {
    for limits in [time_limit(), row_limit(5)] {
        let bench = Bench::with(limits);
        let mut client = bench.client();
        let long = if bench_is_timed(&bench) { ENDLESS } else { "SELECT generate_series(1, 9)" };
        for bytes in [message::query(long), run(long, 0)] {
            client.query("BEGIN").unwrap();
            client.query("SAVEPOINT s").unwrap();

            let heard = ask(&mut client, &bytes);

            assert_eq!(status(&heard), 'E');
            let inside = client.query("SELECT 1").unwrap();
            assert_eq!(inside.error.unwrap().sqlstate, "25P02", "the server's own word");
            assert_eq!(client.query("ROLLBACK TO s").unwrap().status, Some('T'));
            assert_eq!(client.query("SELECT 42").unwrap().value(), Some("42"));
            assert_eq!(client.query("COMMIT").unwrap().status, Some('I'));
        }
    }
}

fn bench_is_timed(bench: &Bench) -> bool {
    let mut client = bench.client();
    client.query("SELECT generate_series(1, 9)").unwrap().error.is_none()
}

#[test]
fn rows_beyond_the_limit_are_not_delivered_however_they_are_sent_and_the_session_goes_on() {
    let bench = Bench::with(row_limit(1_000));
    let mut client = bench.client();
    // More than fits between server and gate, so that the server is stopped in the middle of it; and
    // so few that it is done before it can be.
    for sql in [
        "SELECT repeat('x', 99) FROM generate_series(1, 1000000)",
        "SELECT generate_series(1, 1001)",
    ] {
        for (how, bytes) in deliveries(sql) {
            let heard = ask(&mut client, &bytes);

            let rows = heard.iter().filter(|message| matches!(message.tag, b'D' | b'd')).count();
            let before = usize::from(how == "last of a string");
            assert_eq!(rows, 1_000 + before, "{how}");
            let line = bench.line_of(only(&heard, b'E'), "53400");
            assert_eq!(line["reason"], "limit-rows", "{how}");
            if how == "pipelined" {
                assert!(hear(&mut client, 1).iter().any(|message| message.tag == b'D'));
            }
            client.query("ROLLBACK").unwrap();
            assert_eq!(client.query("SELECT 42").unwrap().value(), Some("42"), "{how}");
        }
    }
    let results = bench.gate.stop();
    let ends = results.of_kind("db.response").into_iter().map(|line| &line["db"]["response"]);
    let stopped: Vec<&Value> = ends.filter(|end| end["status_code"] == "53400").collect();
    assert!(stopped.iter().all(|end| end["returned_rows"] == 1_000), "{stopped:?}");
    assert_eq!(stopped.len(), 14);
}

#[test]
fn exactly_as_many_rows_as_allowed_are_no_violation() {
    let bench = Bench::with(row_limit(1_000));
    let mut client = bench.client();
    for (how, bytes) in deliveries("SELECT generate_series(1, 1000)") {
        let heard = ask(&mut client, &bytes);
        assert!(heard.iter().all(|message| message.tag != b'E'), "{how}");
        if how == "pipelined" {
            hear(&mut client, 1);
        }
    }
}

#[test]
fn a_portal_that_is_fetched_in_parts_counts_as_a_whole() {
    let bench = Bench::with(row_limit(10));
    let mut client = bench.client();
    client.query("BEGIN").unwrap();
    let part = |rows: u32| {
        let execute = message::frame(b'E', &[&b"p\0"[..], &rows.to_be_bytes()].concat());
        [execute, message::sync()].concat()
    };
    let sql = "SELECT generate_series(1, 20)";
    let begin = [message::parse("", sql), message::bind("p", "", &[]), part(6)].concat();

    let first = ask(&mut client, &begin);
    let other = ask(&mut client, &run("SELECT generate_series(1, 8)", 0));
    let second = ask(&mut client, &part(6));

    assert!(first.iter().any(|message| message.tag == b's'));
    assert_eq!(other.iter().filter(|message| message.tag == b'D').count(), 8);
    assert_eq!(second.iter().filter(|message| message.tag == b'D').count(), 4);
    assert_eq!(fields(&only(&second, b'E').body)[&'C'], "53400");
    assert_eq!(status(&second), 'E');
    client.query("ROLLBACK").unwrap();
    assert_eq!(client.query("SELECT 42").unwrap().value(), Some("42"));
}

#[test]
fn bytes_beyond_the_limit_are_not_delivered_not_even_one_long_row() {
    let bench = Bench::with(Limits { result_bytes: 100_000, ..Limits::default() });
    let mut client = bench.client();
    for sql in
        ["SELECT repeat('x', 20000000)", "SELECT repeat('x', 40000) FROM generate_series(1, 99)"]
    {
        let heard = ask(&mut client, &message::query(sql));

        let bytes: usize = heard
            .iter()
            .filter(|message| message.tag == b'D')
            .map(|message| message.body.len())
            .sum();
        assert!(bytes < 100_000, "{bytes}");
        assert_eq!(bench.line_of(only(&heard, b'E'), "53400")["reason"], "limit-bytes");
        assert_eq!(client.query("SELECT 42").unwrap().value(), Some("42"));
    }
}

#[test]
fn a_client_can_make_the_bound_shorter_and_never_longer() {
    let bench =
        Bench::with(Limits { statement_time: Some(Duration::from_secs(2)), ..Limits::default() });
    let mut client = bench.client();
    client.query("SELECT 1").unwrap();
    for habit in [
        "SET statement_timeout = 0",
        "RESET statement_timeout",
        "DISCARD ALL",
        "SET statement_timeout = '1h'",
    ] {
        assert!(client.query(habit).unwrap().error.is_none(), "{habit}");

        let error = client.query(ENDLESS).unwrap().error.unwrap();

        assert!(error.detail.unwrap().contains("reason=limit-time"), "{habit}");
    }
    client.query("SET statement_timeout = '50ms'").unwrap();
    let error = client.query(ENDLESS).unwrap().error.unwrap();
    assert_eq!((error.sqlstate.as_str(), error.detail), ("57014", None), "the server's own");
}

#[test]
fn an_idle_session_and_an_idle_transaction_are_ended_in_the_server_s_own_codes() {
    let idle = Some(Duration::from_millis(200));
    let limits = Limits { idle_time: idle, idle_in_transaction_time: idle, ..Limits::default() };
    let bench = Bench::with(limits);
    for (first, sqlstate) in [("SELECT 1", "57P05"), ("BEGIN", "25P03")] {
        let mut client = bench.client();
        client.query(first).unwrap();

        let told = client.receive().unwrap();

        let fields = fields(&told.body);
        assert_eq!(
            (told.tag, fields[&'V'].as_str(), fields[&'C'].as_str()),
            (b'E', "FATAL", sqlstate)
        );
        let (reason, event) = reason_and_event(&fields[&'D']);
        assert_eq!(reason, "limit-idle");
        assert_eq!(bench.gate.trail().event(event)["kind"], "limit.hit");
        assert!(client.receive().is_err(), "closed behind it");
    }
}

#[test]
fn a_client_that_takes_nothing_is_let_go_and_its_query_with_it() {
    let stall = Some(Duration::from_millis(300));
    let bench = Bench::with(Limits { stall_time: stall, ..Limits::default() });
    let Address::Tcp(address) = bench.gate.address() else { panic!("a loopback port") };
    let mut stream = TcpStream::connect(address).unwrap();
    let flood = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 10000000)) TO STDOUT";
    let packet = message::start_up(&[("user", "ann")]);
    stream.write_all(&[packet, message::query(flood)].concat()).unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();

    wait_for("the stalled connection to be let go", || {
        let trail = bench.gate.trail();
        trail
            .of_kind("limit.hit")
            .iter()
            .any(|line| line["reason"] == "limit-stalled")
            .then_some(())
    });
    wait_for("the server to stop", || (!bench.is_at_work()).then_some(()));
    assert_eq!(bench.client().query("SELECT 42").unwrap().value(), Some("42"));
}
