//! B, the rest: keys, peers that do not read, and what a hostile server may say.

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use rowarden::demo::client::message;
use rowarden::listen::Peer;
use rowarden::listen::limits::{Addresses, Hearing};
use rowarden::policy::file::Policy;
use rowarden::policy::limits::Limits;
use rowarden::policy::reason::Reason;
use rowarden::postgres::cancel::CancelKeys;
use rowarden::postgres::clock::Due;
use rowarden::postgres::pump::{End, Pump, Side};
use rowarden::postgres::session::{Pins, Ports, Session};
use rowarden::postgres::startup::{Encryption, FirstPacket, Opening, StartupRefusal};
use rowarden::postgres::upstream::{CancelTarget, UpstreamAddress};
use rowarden::postgres::verdicts::Verdicts;
use rowarden::postgres::wire::Wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::{Denials, holds, lying, query, run, talk};

/// A session that has sent a query, and what ends it when the server says `answer` and no more.
async fn ask_a_server_that_says(answer: &[u8]) -> (End, Vec<u8>) {
    let (mut client, gate_client) = duplex(1 << 20);
    let (gate_server, mut server) = duplex(1 << 20);
    let mut pump = pump(gate_client, gate_server, &Limits::default());
    client.write_all(&query("SELECT 1")).await.unwrap();
    server.write_all(answer).await.unwrap();
    server.shutdown().await.unwrap();
    let end = pump_to_end(&mut pump).await;
    let told = async {
        let mut told = Vec::new();
        client.read_to_end(&mut told).await.map(|_| told).unwrap()
    };
    let ((), told) = tokio::join!(pump.close(end, None), told);
    (end, told)
}

fn pump(
    client: DuplexStream,
    server: DuplexStream,
    limits: &Limits,
) -> Pump<DuplexStream, DuplexStream> {
    let session = Session::new(Pins::default()).within(limits);
    Pump::new(Wire::new(client), Wire::new(server), session, b"").within(limits)
}

async fn pump_to_end(pump: &mut Pump<DuplexStream, DuplexStream>) -> End {
    let judge = Verdicts::new(Arc::new(Policy::shipped().unwrap()));
    let mut denials = Denials::default();
    let mut ports = Ports { judge: &mut &judge, ledger: &mut denials };
    poll_fn(|context| pump.poll(context, &mut ports)).await
}

#[tokio::test(start_paused = true)]
async fn b12_a_hostile_server_ends_its_session_and_never_the_gate() {
    let begun = [message::frame(b'1', b""), message::frame(b'2', b"")].concat();
    let behind = |bytes: Vec<u8>| [begun.clone(), bytes].concat();
    let described = |bytes: Vec<u8>| behind([message::frame(b'T', &[0, 0]), bytes].concat());
    let faults = [
        // Lengths that are negative, too small, or more than is held as a whole.
        described(lying(b'D', 0xffff_fff0, b"")),
        described(lying(b'D', 3, b"")),
        behind(lying(b'S', 0x3fff_ffff, b"")),
        behind(lying(b'T', 0x3000_0000, b"")),
        // What fits no question, and what begins to take data in.
        message::frame(b'Z', b"I"),
        message::frame(b'D', b"\0\0"),
        behind(message::frame(b'C', b"INSERT 0 1\0")),
        message::frame(b'G', &[0, 0, 0]),
        message::frame(b'W', &[0, 0, 0]),
        message::frame(b'R', &[0, 0, 0, 3]),
        message::frame(b'V', b""),
        message::frame(0, b""),
        message::frame(b'S', b"no end"),
        message::frame(b'S', b"\xff\0\xff\0"),
        message::frame(b'S', b"default_transaction_read_only\0off\0"),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let (end, _) = ask_a_server_that_says(&fault).await;
        assert!(matches!(end, End::Violation(Side::Server, _)), "{number}: {end:?}");
    }
    // What is odd, and the client's to understand: an error without SQLSTATE, many columns, a row
    // with fewer fields than it says. It is passed on as it is.
    let many = message::frame(b'T', &u16::MAX.to_be_bytes());
    let odd = [many, message::frame(b'D', b"\xff\xff\xff\xff\xff\xff")].concat();
    let error = message::frame(b'E', b"SERROR\0Mno code\0\0");
    let (end, told) = ask_a_server_that_says(&behind([odd.clone(), error.clone()].concat())).await;
    assert_eq!(end, End::ServerLeft);
    assert_eq!(told, [odd, error].concat());
}

#[test]
fn b20_a_key_is_the_gate_s_own_and_guessing_is_slow() {
    let keys = Arc::new(CancelKeys::default());
    let target =
        |key| CancelTarget { dialer: None, address: UpstreamAddress::Tcp("h".into(), 1), key };
    let mine = keys.issue(7, 0, target(vec![1; 8]));
    let other = keys.issue(8, 2, target(vec![2; 8]));
    let secret = |message: &[u8]| message[9..].to_vec();
    let (my_secret, other_secret) = (secret(&mine.message()), secret(&other.message()));

    assert_eq!(keys.find(7, &my_secret), Some(target(vec![1; 8])), "its own session, and no other");
    assert_eq!(keys.find(8, &other_secret), Some(target(vec![2; 8])));
    for (pid, guess) in [(8, &my_secret), (7, &other_secret), (7, &vec![1; 4]), (7, &Vec::new())] {
        assert_eq!(keys.find(pid, guess), None);
    }
    drop(mine);
    assert_eq!(keys.find(7, &my_secret), None, "a key ends with its session");

    let addresses = Addresses::new(NonZeroU32::new(60));
    let peer = Peer::Tcp(([192, 0, 2, 1], 1).into());
    let heard = (0..1_000).filter(|_| addresses.hear(&peer) == Hearing::Heard).count();
    assert!((60..100).contains(&heard), "{heard} of 1,000 guesses at once");
}

#[test]
fn b21_where_tls_is_required_a_key_in_clear_is_not_looked_at() {
    let packet = [&16_u32.to_be_bytes()[..], &[4, 0xd2, 0x16, 0x2e], &[7; 8]].concat();
    let in_clear = Opening::new(Encryption::Required);

    let refused = in_clear.on_packet(&packet, 0).unwrap_err();

    assert_eq!(refused, StartupRefusal::Silent(Reason::ProtoTlsRequired));
    for heard in [in_clear.encrypted(), Opening::new(Encryption::Offered)] {
        let (_, first) = heard.on_packet(&packet, 0).unwrap();
        assert!(matches!(first, FirstPacket::Cancel { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn b22_a_client_that_reads_nothing_stops_the_server_and_is_let_go() {
    let (mut client, gate_client) = duplex(16 * 1024);
    let (gate_server, mut server) = duplex(16 * 1024);
    let limits = Limits { stall_time: Some(Duration::from_mins(3)), ..Limits::default() };
    let mut pump = pump(gate_client, gate_server, &limits);
    client.write_all(&query("COPY (SELECT 1) TO STDOUT")).await.unwrap();
    let flood = async {
        let begun = [message::frame(b'1', b""), message::frame(b'2', b"")].concat();
        server.write_all(&[begun, message::frame(b'H', &[0, 0, 0])].concat()).await.unwrap();
        let row = message::frame(b'd', &[b'x'; 1_000]);
        let mut sent = 0;
        while server.write_all(&row).await.is_ok() {
            sent += row.len();
        }
        sent
    };
    let begin = tokio::time::Instant::now();
    let gate = async {
        let end = pump_to_end(&mut pump).await;
        // Its streams close, or the server would never learn of it.
        drop(pump);
        (end, begin.elapsed())
    };

    let (sent, (end, after)) = tokio::join!(flood, gate);

    assert_eq!((end, after), (End::Overdue(Due::Stall), Duration::from_mins(3)));
    // Two pipes of 16 KiB, what the gate holds for the client, and one read on top.
    assert!(sent < (16 + 16 + 64 + 64) * 1024 + 2_000, "{sent} bytes were taken from the server");
}

#[tokio::test(start_paused = true)]
async fn b23_notices_and_reports_are_passed_on_in_order_whatever_was_refused() {
    let (mut client, gate_client) = duplex(1 << 20);
    let (gate_server, mut server) = duplex(1 << 20);
    let mut pump = pump(gate_client, gate_server, &Limits::default());
    let refused = [run("SELECT 1"), run("DELETE FROM t"), message::sync()].concat();
    client.write_all(&[refused, message::terminate()].concat()).await.unwrap();
    let notice = message::frame(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mhello\0\0");
    let report = message::frame(b'S', b"TimeZone\0UTC\0");
    let notified = message::frame(b'A', b"\0\0\0\x01channel\0\0");
    let complete = message::frame(b'C', b"SELECT 1\0");
    let error = message::frame(b'E', b"SERROR\0VERROR\0C22P02\0Mthe gate's own\0\0");
    let said = [
        notice.clone(),
        message::frame(b'1', b""),
        report.clone(),
        message::frame(b'2', b""),
        complete.clone(),
        notified.clone(),
        error,
        notice.clone(),
        message::frame(b'Z', b"I"),
    ];
    server.write_all(&said.concat()).await.unwrap();

    let end = pump_to_end(&mut pump).await;

    assert_eq!(end, End::Terminated);
    let told = async {
        let mut told = Vec::new();
        client.read_to_end(&mut told).await.map(|_| told).unwrap()
    };
    let ((), told) = tokio::join!(pump.close(end, None), told);
    let before = [
        notice.clone(),
        message::frame(b'1', b""),
        report,
        message::frame(b'2', b""),
        complete,
        notified,
    ]
    .concat();
    assert!(told.starts_with(&before), "in their order");
    assert_eq!(told[before.len()], b'E');
    assert!(holds(&told, "sql-write-statement") && !holds(&told, "the gate's own"));
    assert!(told.ends_with(&[notice, message::frame(b'Z', b"I")].concat()));
}

#[test]
fn b24_an_error_of_the_gate_shows_no_control_characters_and_no_insides() {
    for sql in ["DELETE FROM \"\x1b[31mred\"", "SET \"a\r\nb\" = 1", "SELECT \"\u{85}f\u{7}\"()"] {
        let seen = talk(&query(sql));
        for (letter, text) in seen.error() {
            let clean = !text.chars().any(|character| character.is_control() && character != '\n');
            assert!(clean, "{letter}: {text:?}");
            for inside in ["src/", ".rs", "panicked", "127.0.0.1", "localhost", ".s.PGSQL"] {
                assert!(!text.contains(inside), "{text}");
            }
        }
    }
    assert_eq!(talk(&query("DELETE FROM t")).denials, [Reason::SqlWriteStatement]);
}
