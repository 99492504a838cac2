//! Conversations of reads and refusals, judged by the shipped policy and answered by a server that
//! follows a script: what each side reads and what is written down does not depend on how the bytes
//! of either side are cut.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may stop where it stands"
)]

mod server;

use std::future::poll_fn;
use std::sync::Arc;

use proptest::prelude::{Just, Strategy, prop_oneof, proptest};
use proptest::{collection, option, prop_assert, prop_assert_eq, sample};
use rowarden::audit::event::{AuditUnavailable, Entry, Ledger, Receipt};
use rowarden::demo::client::message;
use rowarden::policy::file::Policy;
use rowarden::postgres::pump::{End, Pump};
use rowarden::postgres::session::{Pins, Ports, Session};
use rowarden::postgres::verdicts::Verdicts;
use rowarden::postgres::wire::Wire;
use server::{send_cut, serve};
use tokio::io::{AsyncReadExt, duplex};

/// Occurs in refused texts only.
const MARKER: &str = "zqrefused";

/// What was written down: verdicts before the act, results after it. Their order among each other
/// depends on when the server answers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Notes {
    verdicts: Vec<String>,
    results: Vec<String>,
}

impl Ledger for Notes {
    fn record(&mut self, entry: &Entry<'_>) -> Result<Receipt, AuditUnavailable> {
        let Entry { kind, decision, reason, statement, upstream_contacted, gate_action, .. } =
            entry;
        let text = entry.query.and_then(|query| query.text);
        self.verdicts.push(format!(
            "{statement} {kind:?} {decision:?} {reason:?} {upstream_contacted:?} {gate_action:?} {text:?}"
        ));
        // Of one length, like real ids.
        Ok(Receipt { event: format!("{:05}", self.verdicts.len()) })
    }

    fn follow_up(&mut self, entry: &Entry<'_>) {
        let Entry { statement, kind, decision, response, .. } = entry;
        self.results.push(format!("{statement} {kind:?} {decision:?} {response:?}"));
    }
}

/// How bytes are cut, and how much room the pipes have.
#[derive(Clone, Copy, Debug)]
struct Cuts {
    client: usize,
    server: usize,
    room: usize,
}

/// What came of a conversation.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    by_client: Vec<u8>,
    by_server: Vec<u8>,
    notes: Notes,
}

async fn converse(judge: &Verdicts, script: &[u8], cuts: Cuts) -> Seen {
    let (client, gate_client) = duplex(cuts.room);
    let (gate_server, server) = duplex(cuts.room);
    let gate = async {
        let mut notes = Notes::default();
        let session = Session::new(Pins::default());
        let mut pump = Pump::new(Wire::new(gate_client), Wire::new(gate_server), session, b"");
        let end = poll_fn(|context| {
            pump.poll(context, &mut Ports { judge: &mut &*judge, ledger: &mut notes })
        });
        assert_eq!(end.await, End::Terminated);
        pump.close(End::Terminated, None).await;
        notes
    };
    let (mut reading, mut writing) = tokio::io::split(client);
    let reader = async {
        let mut seen = Vec::new();
        reading.read_to_end(&mut seen).await.map(|_| seen).expect("in memory")
    };
    let writer = send_cut(&mut writing, script, cuts.client);
    let (by_client, notes, by_server, ()) =
        tokio::join!(reader, gate, serve(server, cuts.server), writer);
    Seen { by_client, by_server, notes }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}

fn judge() -> Verdicts {
    Verdicts::new(Arc::new(Policy::shipped().expect("shipped")))
}

fn query(sql: &str) -> Vec<u8> {
    message::query(&sql.replace("{m}", MARKER))
}

/// Parse, Bind, Describe, Execute under a name.
fn run(name: &str, sql: &str) -> Vec<u8> {
    let parse = message::parse(name, &sql.replace("{m}", MARKER));
    let bind = message::bind("", name, &[]);
    [parse, bind, message::describe_portal(""), message::execute("")].concat()
}

fn describe_statement() -> Vec<u8> {
    message::frame(b'D', b"Sa\0")
}

/// What the server does not fail, or has been sent as a whole before it can.
const SIMPLE: &[&str] = &[
    "SELECT 'a'",
    "SELECT 1; SELECT 22; SELECT 333",
    "SELECT 1/0",
    "SELECT 1; SELECT 1/0; SELECT 2",
    "BEGIN; SELECT 1; COMMIT; SELECT 22",
    "SELECT 1; BEGIN; SELECT 22; ROLLBACK",
    "COPY (SELECT 1) TO STDOUT",
    "SET application_name = 'cuts'",
    "",
    "SELECT $1",
    "? nonsense",
    "DELETE FROM {m}",
    "SELECT 1; DELETE FROM {m}; SELECT 2",
    "SELECT nextval('{m}')",
];

/// Transactions that end where they begin, whatever happens inside.
const TRANSACTIONS: &[&[&str]] = &[
    &["BEGIN", "SELECT 'in it'", "COMMIT"],
    &["BEGIN", "DELETE FROM {m}", "SELECT 1", "ROLLBACK"],
    &["BEGIN", "SELECT 1; DROP TABLE {m}", "COMMIT"],
    &["BEGIN", "SELECT 1/0", "DELETE FROM {m}", "COMMIT"],
];

const CONTROL: &[&str] = &["BEGIN", "COMMIT", "ROLLBACK"];

fn good_message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(run("a", "SELECT 'named'")),
        Just(run("", "SELECT 'unnamed'")),
        Just(run("", "BEGIN")),
        Just(run("", "COMMIT")),
        Just([run("b", "SELECT 'twice'"), message::execute("")].concat()),
        Just(run("", "COPY (SELECT 1) TO STDOUT")),
        Just(message::frame(b'C', b"Sb\0")),
        Just(message::frame(b'H', b"")),
    ]
}

/// After which nothing of the series counts.
fn bad_message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(run("", "SELECT 1/0")),
        Just(run("", "DELETE FROM {m}")),
        Just(run("c", "SELECT nextval('{m}')")),
        Just(run("", "? nonsense")),
        Just(message::bind("", "nobody", &[])),
        Just(message::frame(b'B', b"\0zqrefused\0\0\0\0")),
    ]
}

/// A series in which nothing fails but the last, and that leaves no transaction open.
fn calm_series() -> impl Strategy<Value = Vec<u8>> {
    let good = collection::vec(good_message(), 0..5);
    (good, option::of(bad_message())).prop_map(|(good, bad)| {
        let end = [message::sync(), query("ROLLBACK")].concat();
        [good.concat(), bad.unwrap_or_default(), end].concat()
    })
}

fn calm_exchange() -> impl Strategy<Value = Vec<u8>> {
    let transaction = |parts: &&[&str]| parts.iter().map(|part| query(part)).collect::<Vec<_>>();
    prop_oneof![
        sample::select(SIMPLE).prop_map(query),
        sample::select(TRANSACTIONS).prop_map(move |parts| transaction(&parts).concat()),
        calm_series(),
    ]
}

/// A series in which anything may fail anywhere, in whatever transaction.
fn wild_series() -> impl Strategy<Value = Vec<u8>> {
    let any = prop_oneof![3 => good_message(), 1 => bad_message(), 1 => Just(describe_statement())];
    collection::vec(any, 0..7).prop_map(|parts| [parts.concat(), message::sync()].concat())
}

fn wild_exchange() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        calm_exchange(),
        sample::select(CONTROL).prop_map(query),
        wild_series(),
        wild_series(),
    ]
}

fn cuts() -> impl Strategy<Value = Cuts> {
    (1_usize..60, 1_usize..60, 1_usize..400).prop_map(|(client, server, room)| Cuts {
        client,
        server,
        room,
    })
}

const WHOLE: Cuts = Cuts { client: usize::MAX, server: usize::MAX, room: 1 << 20 };

fn has_marker(bytes: &[u8]) -> bool {
    bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes())
}

proptest! {
    #[test]
    fn nothing_depends_on_cuts_as_long_as_the_server_has_the_last_word_of_a_series(
        exchanges in collection::vec(calm_exchange(), 0..8),
        cuts in cuts(),
    ) {
        let (judge, script) = (judge(), [exchanges.concat(), message::terminate()].concat());

        let whole = block_on(converse(&judge, &script, WHOLE));
        let pieces = block_on(converse(&judge, &script, cuts));

        prop_assert!(!has_marker(&whole.by_server));
        prop_assert_eq!(whole, pieces);
    }

    /// When the server fails in the middle of a series, what was sent and judged behind the failure
    /// is a matter of time. What the client reads is not.
    #[test]
    fn what_the_client_reads_never_depends_on_cuts(
        exchanges in collection::vec(wild_exchange(), 0..8),
        cuts in cuts(),
    ) {
        let (judge, script) = (judge(), [exchanges.concat(), message::terminate()].concat());

        let whole = block_on(converse(&judge, &script, WHOLE));
        let pieces = block_on(converse(&judge, &script, cuts));

        prop_assert!(!has_marker(&whole.by_server) && !has_marker(&pieces.by_server));
        prop_assert_eq!(without_events(&whole.by_client), without_events(&pieces.by_client));
    }
}

/// Event numbers count refusals, and a refusal behind a failure need not happen.
fn without_events(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let parts =
        text.split("event=").map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
    parts.collect::<Vec<_>>().join("event=")
}
