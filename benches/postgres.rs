//! What the gate adds to a statement, beside what the two parsers alone cost.
//!
//! `make bench` runs it. Figures are for comparing one state of the code with another on one machine,
//! not for quoting.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::sync::Arc;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use rowarden::audit::event::{AuditUnavailable, Entry, Ledger, Receipt};
use rowarden::policy::file::Policy;
use rowarden::policy::sql::judge_sql;
use rowarden::policy::verdict::Verdict;
use rowarden::postgres::frame::{next_client_frame, next_server_frame, server_header};
use rowarden::postgres::message::ClientMessage;
use rowarden::postgres::outbox::Outbox;
use rowarden::postgres::session::{Pins, Ports, Session};
use rowarden::postgres::verdicts::Verdicts;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// The parsers' own recursion needs it.
const STACK_BYTES: usize = 64 << 20;

fn main() {
    let benches = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(divan::main);
    benches.expect("a thread").join().expect("the benchmarks run");
}

/// Statements as clients send them.
const TEXTS: [Text; 5] =
    [Text::Prepared, Text::PointSelect, Text::Join, Text::Catalog, Text::LongInList];

#[derive(Clone, Copy, Debug)]
enum Text {
    /// What `\d` of psql asks.
    Catalog,
    Join,
    /// 10 KB of numbers.
    LongInList,
    PointSelect,
    /// No number in it: the memory knows it by its exact text, the others by their folding.
    Prepared,
}

impl Text {
    fn sql(self) -> String {
        match self {
            Self::Catalog => "SELECT c.relchecks, c.relkind, c.relhasindex, c.relhasrules, \
                c.relrowsecurity, c.relispartition, '', c.reltablespace, \
                CASE WHEN c.reloftype = 0 THEN '' ELSE c.reloftype::pg_catalog.regtype::pg_catalog.text END, \
                c.relpersistence, am.amname FROM pg_catalog.pg_class c \
                LEFT JOIN pg_catalog.pg_class tc ON (c.reltoastrelid = tc.oid) \
                LEFT JOIN pg_catalog.pg_am am ON (c.relam = am.oid) \
                WHERE c.relname OPERATOR(pg_catalog.~) '^(accounts)$' COLLATE pg_catalog.default \
                AND pg_catalog.pg_table_is_visible(c.oid)"
                .to_owned(),
            Self::Join => "SELECT o.id, o.placed_at, c.name, sum(l.quantity * l.price) AS total \
                FROM orders o JOIN customers c ON c.id = o.customer_id \
                JOIN order_lines l ON l.order_id = o.id \
                WHERE o.placed_at >= '2026-01-01' AND c.country = 'CH' \
                GROUP BY o.id, o.placed_at, c.name ORDER BY total DESC LIMIT 20"
                .to_owned(),
            Self::LongInList => {
                let numbers: Vec<String> = (0..1_450).map(|n| (100_000 + n).to_string()).collect();
                format!("SELECT id, name FROM accounts WHERE id IN ({})", numbers.join(","))
            }
            Self::PointSelect => "SELECT id, name, balance FROM accounts WHERE id = 4711".to_owned(),
            Self::Prepared => "SELECT id, name, balance FROM accounts WHERE name = $1".to_owned(),
        }
    }
}

fn policy() -> Policy {
    Policy::shipped().expect("the shipped policy is right")
}

#[divan::bench(args = TEXTS)]
fn postgresql_grammar_alone(bencher: Bencher<'_, '_>, text: Text) {
    let sql = text.sql();
    bencher.bench_local(|| drop(black_box(pg_raw_parse::parse(black_box(&sql)))));
}

#[divan::bench(args = TEXTS)]
fn second_reader_alone(bencher: Bencher<'_, '_>, text: Text) {
    let sql = text.sql();
    bencher.bench_local(|| Parser::parse_sql(&PostgreSqlDialect {}, black_box(&sql)));
}

#[divan::bench(args = TEXTS)]
fn verdict_given_anew(bencher: Bencher<'_, '_>, text: Text) {
    let (policy, sql) = (policy(), text.sql());
    let judged = judge_sql(&policy, sql.as_bytes());
    assert!(matches!(judged.verdict, Verdict::Allow(_)), "{text:?}: {:?}", judged.verdict);
    bencher.bench_local(|| judge_sql(&policy, black_box(sql.as_bytes())));
}

#[divan::bench(args = TEXTS)]
fn verdict_remembered(bencher: Bencher<'_, '_>, text: Text) {
    let (verdicts, sql) = (Verdicts::new(Arc::new(policy())), text.sql());
    let first = verdicts.verdict(sql.as_bytes());
    let second = verdicts.verdict(sql.as_bytes());
    assert!(Arc::ptr_eq(&first.digest, &second.digest), "{text:?} is not remembered");
    bencher.bench_local(|| verdicts.verdict(black_box(sql.as_bytes())));
}

/// Bind, Execute and Sync of a prepared statement, read message by message.
#[divan::bench]
fn read_client_messages(bencher: Bencher<'_, '_>) {
    let series = bind_execute_sync();
    bencher.counter(BytesCount::new(series.len())).bench_local(|| {
        let mut rest = black_box(&series[..]);
        let mut messages = 0;
        while let Ok(Some(frame)) = next_client_frame(rest) {
            messages += usize::from(ClientMessage::read(frame).is_ok());
            rest = rest.get(frame.raw.len()..).unwrap_or_default();
        }
        messages
    });
}

/// A result as it is walked when it is passed on: headers only.
#[divan::bench]
fn walk_headers_of_300_rows(bencher: Bencher<'_, '_>) {
    const ROWS: usize = 300;
    let row =
        message(b'D', &[&[0, 2, 0, 0, 0, 4][..], b"4711", &[0, 0, 0, 24], &[b'x'; 24]].concat());
    let rows = row.repeat(ROWS);
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        let mut rest = black_box(&rows[..]);
        let mut walked = 0;
        while let Ok(Some((_, length))) = server_header(rest) {
            rest = rest.get(length..).unwrap_or_default();
            walked += 1;
        }
        walked
    });
}

/// The whole way of a prepared statement through the session and back, without log and sockets.
#[divan::bench(sample_size = 100)]
fn prepared_series_through_a_session(bencher: Bencher<'_, '_>) {
    let verdicts = Verdicts::new(Arc::new(policy()));
    let prepare = [
        message(b'P', b"s\0SELECT id, name, balance FROM accounts WHERE id = $1\0\0\x01\0\0\0\x17"),
        message(b'S', b""),
    ];
    let prepared = [message(b'1', b""), message(b'Z', b"I")].concat();
    let answers = [message(b'2', b""), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
    let series = bind_execute_sync();
    let mut conversation = Conversation::new(&verdicts);
    conversation.say(&prepare.concat());
    conversation.hear(&prepared);
    bencher.bench_local(|| {
        conversation.say(black_box(&series));
        conversation.hear(black_box(&answers));
    });
}

struct Conversation<'a> {
    session: Option<Session>,
    judge: &'a Verdicts,
    out: Outbox,
}

impl<'a> Conversation<'a> {
    fn new(judge: &'a Verdicts) -> Self {
        Self { session: Some(Session::new(Pins::default())), judge, out: Outbox::default() }
    }

    fn say(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(frame) = next_client_frame(rest).unwrap() {
            let mut ports = Ports { judge: &mut &*self.judge, ledger: &mut NoLog };
            let session = self.session.take().expect("a session");
            self.session = Some(session.on_client(frame, &mut ports, &mut self.out).unwrap());
            rest = rest.get(frame.raw.len()..).unwrap_or_default();
        }
        let sent = self.out.pending_for_server().len();
        assert!(sent > 0, "nothing goes up");
        self.out.sent_to_server(sent);
    }

    fn hear(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(frame) = next_server_frame(rest).unwrap() {
            let session = self.session.take().expect("a session");
            self.session = Some(session.on_server(frame, &mut NoLog, &mut self.out).unwrap());
            rest = rest.get(frame.raw.len()..).unwrap_or_default();
        }
        let given = self.out.pending_for_client().len();
        self.out.sent_to_client(given);
    }
}

struct NoLog;

impl Ledger for NoLog {
    fn record(&mut self, _: &Entry<'_>) -> Result<Receipt, AuditUnavailable> {
        Ok(Receipt { event: String::new() })
    }

    fn follow_up(&mut self, _: &Entry<'_>) {}
}

fn bind_execute_sync() -> Vec<u8> {
    let bind = [&b"\0s\0\0\0\0\x01\0\0\0\x04"[..], b"4711", b"\0\0"].concat();
    [message(b'B', &bind), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short");
    [&[kind][..], &length.to_be_bytes(), body].concat()
}
