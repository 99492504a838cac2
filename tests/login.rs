//! A login between two in-memory streams: what is passed on, what is not, and what ends it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop where it stands"
)]

use std::sync::Arc;

use rowarden::listen::Peer;
use rowarden::listen::stream::Stream;
use rowarden::policy::file::Policy;
use rowarden::policy::verdict::Denial;
use rowarden::postgres::cancel::CancelKeys;
use rowarden::postgres::catalogs::Catalogs;
use rowarden::postgres::dismissal::Dismissal;
use rowarden::postgres::entrance::Entrance;
use rowarden::postgres::frame::next_client_frame;
use rowarden::postgres::handshake::{Binding, Negotiation, message};
use rowarden::postgres::identity::Means;
use rowarden::postgres::login::{LoggedIn, Login};
use rowarden::postgres::startup::{FirstPacket, PinnedStartup, StartupMessage, StartupSettings};
use rowarden::postgres::upstream::UpstreamAddress;
use rowarden::postgres::wire::Wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::UnixStream;

struct Anything;

impl StartupSettings for Anything {
    fn judge_setting(&self, _: &str, _: &str) -> Result<(), Denial> {
        Ok(())
    }
}

const AUTHENTICATED: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const READY: &[u8] = b"Z\0\0\0\x05I";

fn reports(read_only: &str, key: &[u8]) -> Vec<u8> {
    let setting = format!("default_transaction_read_only\0{read_only}\0");
    let reports = [message(b'S', setting.as_bytes()), message(b'K', key), READY.to_vec()];
    [AUTHENTICATED.to_vec(), reports.concat()].concat()
}

/// The answer to the gate's own question.
fn posture(read_only: &str) -> Vec<u8> {
    let values = [read_only, "on", "UTF8", "\"$user\", public", "150006", "off", "f"];
    let mut row = vec![0, 8];
    for value in values {
        row.extend_from_slice(&u32::try_from(value.len()).expect("short").to_be_bytes());
        row.extend_from_slice(value.as_bytes());
    }
    row.extend_from_slice(&(-1_i32).to_be_bytes());
    [message(b'D', &row), message(b'C', b"SELECT 1\0"), READY.to_vec()].concat()
}

/// The answer to what the catalog holds: nothing.
fn catalog() -> Vec<u8> {
    let values = ["0", "ann", "public"];
    let mut row = vec![0, 3];
    for value in values {
        row.extend_from_slice(&u32::try_from(value.len()).expect("short").to_be_bytes());
        row.extend_from_slice(value.as_bytes());
    }
    [message(b'D', &row), message(b'C', b"SELECT 1\0"), READY.to_vec()].concat()
}

/// Runs a login in which the server says `opening`, then `answer` to the gate's question; returns
/// what came of it and what the client read.
async fn log_in(
    minor: u16,
    opening: &[u8],
    answer: &[u8],
) -> (Result<LoggedIn, Dismissal>, Vec<u8>) {
    log_in_to(minor, opening, [answer, &catalog()]).await
}

/// The same with a server that answers the second question, of its catalog, with the second answer.
async fn log_in_to(
    minor: u16,
    opening: &[u8],
    answers: [&[u8]; 2],
) -> (Result<LoggedIn, Dismissal>, Vec<u8>) {
    let (mut client, gate_client) = duplex(4096);
    let (gate_server, server) = duplex(4096);
    let said = [("user", "ann"), ("_pq_.foo", "1")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    let parameters = said.into_iter().take(if minor > 2 { 2 } else { 1 }).collect();
    let startup = StartupMessage { minor, parameters };
    let pinned = PinnedStartup::rebuild(&startup, &Anything).expect("allowed");
    let (mut client_wire, mut server_wire) = (Wire::new(gate_client), Wire::new(gate_server));
    let login = Login {
        client: &mut client_wire,
        server: &mut server_wire,
        negotiation: Negotiation::new(&startup, &pinned),
        keys: &Arc::new(CancelKeys::default()),
        address: &UpstreamAddress::Tcp("db".to_owned(), 5432),
        catalogs: &Catalogs::new(Arc::new(Policy::shipped().expect("shipped"))),
        database: "ann",
        dialer: None,
        means: Means::Client(Binding::Cut),
    };

    let outcome = tokio::select! {
        outcome = login.run() => outcome,
        () = play_server(server, opening, answers) => panic!("the server stays until the end"),
    };
    drop(client_wire);
    let mut seen = Vec::new();
    client.read_to_end(&mut seen).await.expect("in memory");
    (outcome, seen)
}

async fn play_server(mut server: DuplexStream, opening: &[u8], answers: [&[u8]; 2]) {
    server.write_all(opening).await.expect("in memory");
    let nothing = [message(b'C', b"COMMIT\0"), READY.to_vec()].concat();
    let mut answers = answers.into_iter().chain([nothing.as_slice()]);
    let mut heard = Vec::new();
    while server.read_buf(&mut heard).await.is_ok_and(|count| count > 0) {
        if let Ok(Some(frame)) = next_client_frame(&heard) {
            assert_eq!(frame.kind, b'Q', "the gate's own questions and nothing else");
            let length = frame.raw.len();
            heard.drain(..length);
            server.write_all(answers.next().expect("three questions")).await.expect("in memory");
        }
    }
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn the_client_gets_a_key_of_the_gate_s_own_beside_the_server_s_process_id() {
    let key = [0, 0, 0, 7, 9, 9, 9, 9];
    let (outcome, seen) = log_in(0, &reports("on", &key), &posture("on")).await;
    let logged_in = outcome.expect("logged in");

    assert_eq!(seen, AUTHENTICATED, "nothing else before the session is known to be pinned");
    let own = logged_in.key.message();
    assert_eq!(own[..9], message(b'K', &key)[..9]);
    assert_ne!(own[9..], key[4..]);
    assert_eq!(logged_in.target.key, key);
    let told = [message(b'S', b"default_transaction_read_only\0on\0"), own, READY.to_vec()];
    assert_eq!(logged_in.for_client, told.concat());
}

#[tokio::test]
async fn a_session_that_is_not_read_only_is_refused_whether_reported_or_asked() {
    let key = [0; 8];
    for (reported, asked) in [("off", "on"), ("on", "off")] {
        let (outcome, _) = log_in(0, &reports(reported, &key), &posture(asked)).await;
        assert!(matches!(outcome, Err(Dismissal::Unpinned(_))), "{reported} {asked}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_the_question_gets_no_client() {
    let error = message(b'E', b"SERROR\0VERROR\0C42883\0Mno such function\0\0");
    let (outcome, seen) = log_in(0, &reports("on", &[0; 8]), &error).await;

    assert!(matches!(outcome, Err(Dismissal::Violation(_))));
    assert_eq!(seen, AUTHENTICATED, "the client did not ask, so it does not read the error");
}

#[tokio::test]
async fn without_its_catalog_no_session_is_opened() {
    let error = message(b'E', b"SERROR\0VERROR\0C57014\0Mtoo slow\0\0");
    let cut_short = [error, READY.to_vec()].concat();
    for answer in [cut_short.as_slice(), &posture("on")] {
        let opening = reports("on", &[0; 8]);
        let (outcome, seen) = log_in_to(0, &opening, [&posture("on"), answer]).await;

        assert!(matches!(outcome, Err(Dismissal::CatalogUnread)));
        assert_eq!(seen, AUTHENTICATED, "the client did not ask, so it does not read the error");
    }
}

#[tokio::test]
async fn a_refused_login_reaches_the_client_byte_for_byte() {
    let error = message(b'E', b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0\0");
    let (outcome, seen) = log_in(0, &error, b"").await;

    assert!(matches!(outcome, Err(Dismissal::ServerRefused(state)) if state == "28P01"));
    assert_eq!(seen, error);
}

#[tokio::test]
async fn an_older_server_s_version_is_told_once_and_before_authentication() {
    let older = message(b'v', &[0, 3, 0, 0, 0, 0, 0, 0]);
    let opening = [older.clone(), reports("on", &[0; 8])].concat();
    let (outcome, seen) = log_in(2, &opening, &posture("on")).await;
    let key = outcome.expect("logged in").key.message();

    assert_eq!(seen, [older, AUTHENTICATED.to_vec()].concat());
    assert_eq!(key.len(), 13, "a key of protocol 3.0");
}

#[tokio::test]
async fn grease_is_answered_with_3_2_and_the_unknown_option_when_the_server_speaks_it() {
    let (outcome, seen) = log_in(9999, &reports("on", &[0; 36]), &posture("on")).await;
    let key = outcome.expect("logged in").key.message();

    let told = message(b'v', b"\0\x03\0\x02\0\0\0\x01_pq_.foo\0");
    assert_eq!(seen, [told, AUTHENTICATED.to_vec()].concat());
    assert_eq!(key.len(), 41, "a key of protocol 3.2");
}

#[tokio::test]
async fn methods_that_do_not_pass_a_gate_end_the_login() {
    let bound = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0\0");
    let gss = message(b'R', b"\0\0\0\x07");
    for opening in [bound, gss] {
        let (outcome, seen) = log_in(0, &opening, b"").await;
        assert!(matches!(outcome, Err(Dismissal::Method)));
        assert!(seen.is_empty());
    }
}

#[tokio::test]
async fn encryption_is_declined_once_of_each_kind_and_the_client_goes_on_in_clear() {
    let (mut client, gate_client) = UnixStream::pair().expect("a pair");
    let mut wire = Wire::new(Stream::Unix(gate_client));
    let ask = async {
        for request in [80_877_103_u32, 80_877_104] {
            let packet = [8_u32.to_be_bytes(), request.to_be_bytes()].concat();
            client.write_all(&packet).await.expect("in memory");
            assert_eq!(client.read_u8().await.expect("in memory"), b'N');
        }
        let startup = b"\0\0\0\x12\0\x03\0\0user\0ann\0\0";
        for byte in startup {
            client.write_all(&[*byte]).await.expect("in memory");
            tokio::task::yield_now().await;
        }
    };

    let entrance = Entrance::default();
    let (first, ()) = tokio::join!(entrance.enter(&mut wire, &Peer::Unix), ask);

    assert!(matches!(first, Ok((FirstPacket::Startup(message), None)) if message.minor == 0));
}
