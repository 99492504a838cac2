//! The pump between two in-memory streams: verdicts and what the client reads do not depend on how
//! bytes are cut, buffers are bounded, and each way to end a session is told from the others.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop where it stands"
)]

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::{Just, Strategy, prop_oneof, proptest};
use proptest::{collection, prop_assert, prop_assert_eq};
use rowarden::audit::event::{AuditUnavailable, Entry, Ledger, Receipt};
use rowarden::policy::reason::Reason;
use rowarden::policy::sql::{Digest, JudgedSql};
use rowarden::policy::verdict::{Denial, SqlFault, Verdict};
use rowarden::postgres::frame::{ProtocolViolation, next_client_frame};
use rowarden::postgres::handshake::message;
use rowarden::postgres::pump::{End, Pump, Side};
use rowarden::postgres::reply::Complaint;
use rowarden::postgres::session::{Judge, Pins, Ports, Session};
use rowarden::postgres::wire::Wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// Says no to everything: what goes to the server is then the gate's own.
struct Never;

impl Judge for Never {
    fn judge(&mut self, text: &[u8]) -> Arc<JudgedSql> {
        let verdict = if text.starts_with(b"?") {
            let message = "syntax error at or near \"?\"".to_owned();
            Verdict::Fault(SqlFault { sqlstate: "42601", message, position: Some(1) })
        } else {
            Verdict::Deny(Denial::new(Reason::SqlWriteStatement, "DELETE", "statements"))
        };
        Arc::new(JudgedSql { verdict, digest: Arc::new(Digest::default()) })
    }

    fn stamp(&mut self) -> u64 {
        0
    }

    fn judge_types(&mut self, _: &[u8]) -> Option<Denial> {
        None
    }
}

#[derive(Default)]
struct Notes(Vec<String>);

impl Ledger for Notes {
    fn record(&mut self, entry: &Entry<'_>) -> Result<Receipt, AuditUnavailable> {
        self.0.push(format!("{:?} {:?} {:?}", entry.kind, entry.decision, entry.reason));
        Ok(Receipt { event: self.0.len().to_string() })
    }

    fn follow_up(&mut self, entry: &Entry<'_>) {
        self.0.push(format!("{:?} {:?}", entry.kind, entry.response));
    }
}

/// A server that knows Close, Flush and Sync, fails every statement, and says a few things of its
/// own. Like PostgreSQL it answers at Flush, Sync or an error.
async fn serve(mut stream: DuplexStream, cut: usize) -> Vec<u8> {
    let (mut heard, mut read, mut answer, mut skipping) = (Vec::new(), 0, Vec::new(), false);
    while stream.read_buf(&mut heard).await.is_ok_and(|count| count > 0) {
        while let Ok(Some(frame)) = next_client_frame(&heard[read..]) {
            read += frame.raw.len();
            match frame.kind {
                b'X' => return heard,
                b'S' => {
                    skipping = false;
                    answer.extend(message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mhello\0\0"));
                    answer.extend(message(b'Z', b"I"));
                }
                _ if skipping => {}
                b'P' => {
                    answer.extend(message(b'E', b"SERROR\0VERROR\0C22P02\0Mbad\0\0"));
                    skipping = true;
                }
                b'C' => answer.extend(message(b'3', b"")),
                b'H' => {}
                other => panic!("unexpected {other}"),
            }
            if frame.kind != b'C' {
                send_cut(&mut stream, &std::mem::take(&mut answer), cut).await;
            }
        }
    }
    heard
}

async fn send_cut(stream: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8], cut: usize) {
    for segment in bytes.chunks(cut) {
        // The gate may have ended the session already.
        if stream.write_all(segment).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn pump_to_end<C, S>(pump: &mut Pump<C, S>, notes: &mut Notes) -> End
where
    C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    poll_fn(|context| pump.poll(context, &mut Ports { judge: &mut Never, ledger: &mut *notes }))
        .await
}

fn join(client: DuplexStream, server: DuplexStream) -> Pump<DuplexStream, DuplexStream> {
    Pump::new(Wire::new(client), Wire::new(server), Session::new(Pins::default()), b"")
}

/// What the client read, what was written down, what the server heard.
type Seen = (Vec<u8>, Vec<String>, Vec<u8>);

/// A whole conversation, with segments of `cut` bytes and pipes of `room` bytes.
async fn converse(script: &[u8], cut: usize, room: usize) -> Seen {
    let (client, gate_client) = duplex(room);
    let (gate_server, server) = duplex(room);
    let gate = async {
        let mut notes = Notes::default();
        let mut pump = join(gate_client, gate_server);
        let end = pump_to_end(&mut pump, &mut notes).await;
        notes.0.push(format!("{end:?}"));
        let last_word = match end {
            End::Violation(_, violation) => {
                Some(Complaint::of_postgres("08P01", violation.to_string()).as_fatal())
            }
            _ => None,
        };
        pump.close(end, last_word.as_ref()).await;
        notes.0
    };
    let (mut reading, mut writing) = tokio::io::split(client);
    let reader = async {
        let mut seen = Vec::new();
        reading.read_to_end(&mut seen).await.map(|_| seen).expect("in memory")
    };
    let writer = send_cut(&mut writing, script, cut);
    let (seen, notes, heard, ()) = tokio::join!(reader, gate, serve(server, cut), writer);
    (seen, notes, heard)
}

/// A message of a series, none of which would be let through with a statement in it.
fn in_series() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(message(b'P', b"a\0delete from t\0\0\0")),
        Just(message(b'P', b"\0? nonsense\0\0\0")),
        Just(message(b'B', b"\0a\0\0\0\0\0\0\0")),
        Just(message(b'D', b"Sa\0")),
        Just(message(b'E', b"p\0\0\0\0\0")),
        Just(message(b'C', b"Sa\0")),
        Just(message(b'H', b"")),
    ]
}

/// A whole exchange, after which the session is idle.
fn exchange() -> impl Strategy<Value = Vec<u8>> {
    let series = collection::vec(in_series(), 0..6).prop_map(|mut messages| {
        messages.push(message(b'S', b""));
        messages.concat()
    });
    prop_oneof![
        series,
        Just(message(b'Q', b"delete from t\0")),
        Just(message(b'Q', b"? nonsense\0")),
        Just(message(b'Q', b"two\0strings\0")),
        Just(message(b'F', &[0; 14])),
    ]
}

fn last_message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(message(b'X', b"")),
        Just([message(b'X', b""), message(b'Q', b"delete from t\0")].concat()),
        Just(message(b'd', b"stray")),
        Just(message(b'y', b"")),
        Just(b"Q\x3f\xff\xff\xff".to_vec()),
    ]
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}

proptest! {
    #[test]
    fn verdicts_and_answers_do_not_depend_on_how_bytes_are_cut(
        exchanges in collection::vec(exchange(), 0..8),
        last in last_message(),
        cut in 1_usize..40,
        room in 1_usize..300,
    ) {
        // COPY data behind a refusal is dropped and does not end the session.
        let script = [exchanges.concat(), last, message(b'X', b"")].concat();

        let whole = block_on(converse(&script, script.len(), 1 << 20));
        let pieces = block_on(converse(&script, cut, room));

        // Harmless bytes that were on their way when a violation ended it may or may not arrive.
        prop_assert_eq!((whole.0, whole.1), (pieces.0, pieces.1));
        for heard in [whole.2, pieces.2] {
            prop_assert!(!heard.windows(6).any(|bytes| bytes == b"delete"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_stops_the_server_from_being_read() {
    let (_silent, gate_client) = duplex(1024);
    let (gate_server, mut server) = duplex(1024);
    let notice = message(b'N', &[&b"SNOTICE\0C00000\0M"[..], &[b'x'; 1000], b"\0\0"].concat());
    let mut sent = 0;

    let flood = async {
        loop {
            server.write_all(&notice).await.expect("the gate is there");
            sent += notice.len();
        }
    };
    let (mut pump, mut notes) = (join(gate_client, gate_server), Notes::default());
    let both = async { tokio::join!(flood, pump_to_end(&mut pump, &mut notes)) };
    // The clock moves only when nothing else can.
    let stuck = tokio::time::timeout(Duration::from_secs(1), both).await;

    assert!(stuck.is_err());
    assert!((64 * 1024..136 * 1024).contains(&sent), "{sent}");
}

#[tokio::test]
async fn a_client_that_leaves_while_the_server_works_leaves_a_busy_session() {
    let (mut client, gate_client) = duplex(1024);
    let (gate_server, _server) = duplex(1024);
    let mut pump = join(gate_client, gate_server);

    client.write_all(&message(b'S', b"")).await.expect("in memory");
    drop(client);

    assert_eq!(pump_to_end(&mut pump, &mut Notes::default()).await, End::ClientLeft);
    assert!(pump.is_busy());
}

#[tokio::test]
async fn a_client_that_leaves_an_idle_session_is_said_goodbye_for() {
    let (client, gate_client) = duplex(1024);
    let (gate_server, mut server) = duplex(1024);
    let mut pump = join(gate_client, gate_server);

    drop(client);
    let end = pump_to_end(&mut pump, &mut Notes::default()).await;
    let mut heard = Vec::new();
    let hear = async {
        server.read_buf(&mut heard).await.expect("in memory");
        drop(server);
    };
    assert!(!pump.is_busy());
    tokio::join!(pump.close(end, None), hear);

    assert_eq!((end, &heard[..]), (End::ClientLeft, &b"X\0\0\0\x04"[..]));
}

#[tokio::test]
async fn a_report_that_a_pin_has_changed_ends_the_session_and_the_client_is_told() {
    let (mut client, gate_client) = duplex(1024);
    let (gate_server, mut server) = duplex(1024);
    let mut pump = join(gate_client, gate_server);

    let flip = message(b'S', b"default_transaction_read_only\0off\0");
    server.write_all(&flip).await.expect("in memory");
    let end = pump_to_end(&mut pump, &mut Notes::default()).await;

    assert_eq!(end, End::Violation(Side::Server, ProtocolViolation::Tripwire));
    let word = Complaint::of_postgres("XX000", "a pinned setting changed").as_fatal();
    let mut seen = Vec::new();
    let hear = async {
        client.read_buf(&mut seen).await.expect("in memory");
        drop((client, server));
    };
    tokio::join!(pump.close(end, Some(&word)), hear);
    assert_eq!(seen.first(), Some(&b'E'), "the report itself is not passed on");
}

#[tokio::test]
async fn what_a_server_said_before_it_went_is_passed_on() {
    let (mut client, gate_client) = duplex(1024);
    let (gate_server, mut server) = duplex(1024);
    let mut pump = join(gate_client, gate_server);
    let fatal = message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0");

    server.write_all(&fatal).await.expect("in memory");
    drop(server);
    let end = pump_to_end(&mut pump, &mut Notes::default()).await;
    let mut seen = Vec::new();
    let hear = async {
        client.read_buf(&mut seen).await.expect("in memory");
        drop(client);
    };
    tokio::join!(pump.close(end, None), hear);

    assert_eq!((end, seen), (End::ServerRefused, fatal));
}

#[tokio::test]
async fn an_idle_session_ends_when_the_gate_shuts_down_and_one_at_work_does_not() {
    let (mut client, gate_client) = duplex(1024);
    let (gate_server, mut server) = duplex(1024);
    let (mut pump, mut notes) = (join(gate_client, gate_server), Notes::default());

    client.write_all(&message(b'S', b"")).await.expect("in memory");
    pump.end_when_idle();
    let answer = async {
        let mut heard = [0; 5];
        server.read_exact(&mut heard).await.expect("in memory");
        server.write_all(&message(b'Z', b"I")).await.expect("in memory");
    };
    let end = {
        // The session is idle before the Sync is heard only if nothing has come, and it has.
        let (end, ()) = tokio::join!(pump_to_end(&mut pump, &mut notes), answer);
        end
    };
    let mut seen = [0; 6];
    client.read_exact(&mut seen).await.expect("in memory");

    assert_eq!((end, &seen), (End::ShutDown, b"Z\0\0\0\x05I"));
}
