//! Cancelling on a real server: by the gate's own keys and no others, and on behalf of clients that
//! have gone.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rowarden::demo::client::{Client, message};
use rowarden::demo::cluster::Cluster;
use rowarden::listen::Address;
use rowarden::postgres::upstream::UpstreamAddress;
use support::gate::{GateSetup, LiveGate, socket_of};
use support::recorder::login_answers;
use support::talk::{add_owner, fields, greet, hear, only, start_up, trusting};
use support::tap::Tap;
use support::wait_for;

/// Runs until it is cancelled: some 10^10 rows, none of which is kept. Before that one row that is
/// longer than the server's buffer (8 KiB): who has heard of it knows that the query is under way. A
/// cancel request that comes between Parse and Execute is lost on the server.
const ENDLESS: &str = "\
SELECT repeat('x', 20000) UNION ALL \
SELECT count(*)::text FROM pg_proc a, pg_proc b, pg_proc c";

/// The code in the place of a protocol version: 80877102.
const CANCEL_REQUEST: [u8; 4] = [4, 0xd2, 0x16, 0x2e];

fn cluster_with_ann() -> Cluster {
    let cluster = support::cluster_with(&trusting());
    add_owner(&cluster, "ann", "");
    cluster
}

/// A session of ann's with a key.
struct Session {
    client: Client,
    /// Process id and secret, as the client was told.
    key: Vec<u8>,
}

impl Session {
    fn open(address: &Address) -> Self {
        let (client, heard) = greet(address, &start_up(0, &[("user", "ann")]));
        let key = only(&heard, b'K').body.clone();
        Self { client, key }
    }

    fn pid(&self) -> u32 {
        u32::from_be_bytes(*self.key.first_chunk().unwrap())
    }

    /// Begins the endless query, and waits until the server is at work on it.
    fn begin(&mut self, cluster: &Cluster) {
        self.client.send(&message::query(ENDLESS)).unwrap();
        assert_eq!(self.client.receive().unwrap().tag, b'T');
        assert!(is_at_work(cluster, self.pid()));
    }

    /// The SQLSTATE with which the query ended; the session lives on.
    fn end(&mut self) -> String {
        let heard = hear(&mut self.client, 1);
        assert_eq!(self.client.query("SELECT 42").unwrap().value(), Some("42"));
        fields(&only(&heard, b'E').body)[&'C'].clone()
    }
}

/// Whether this process of the server runs the endless query.
fn is_at_work(cluster: &Cluster, pid: u32) -> bool {
    let count = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND state = 'active' AND query LIKE '%pg_proc c%'"
    );
    cluster.execute("postgres", &count).unwrap().value() == Some("1")
}

/// Asks for a cancellation and waits until the gate has closed the connection, which it does when
/// the request has been dealt with.
fn cancel(address: &Address, key: &[u8]) {
    let Address::Tcp(address) = address else { panic!("a loopback port") };
    let length = u32::try_from(key.len() + 8).unwrap();
    let packet = [&length.to_be_bytes()[..], &CANCEL_REQUEST, key].concat();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&packet).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"", "nothing is ever said to who cancels");
}

fn cancels(gate: &LiveGate) -> Vec<String> {
    let outline = gate.trail().outline().into_iter();
    outline.filter(|line| line.starts_with("db.cancel")).collect()
}

#[test]
fn a_key_cancels_its_own_query_and_nobody_else_s() {
    let cluster = cluster_with_ann();
    let gate = GateSetup::before(&[socket_of(&cluster)]).start();
    let mut mine = Session::open(gate.address());
    let mut other = Session::open(gate.address());
    mine.begin(&cluster);
    other.begin(&cluster);

    cancel(gate.address(), &mine.key);

    assert_eq!(mine.end(), "57014");
    assert!(is_at_work(&cluster, other.pid()));
    cancel(gate.address(), &other.key);
    assert_eq!(other.end(), "57014");
    assert_eq!(cancels(&gate), ["db.cancel allow ok"; 2]);
}

#[test]
fn a_wrong_key_does_nothing() {
    let cluster = cluster_with_ann();
    let gate = GateSetup::before(&[socket_of(&cluster)]).start();
    let mut mine = Session::open(gate.address());
    let idle = Session::open(gate.address());
    mine.begin(&cluster);

    let pid = mine.pid().to_be_bytes();
    let guess = [&pid[..], &[0; 4]].concat();
    let other_secret = [&pid[..], &idle.key[4..]].concat();
    let longer = [&mine.key[..], &[0; 28]].concat();
    for wrong in [&guess, &other_secret, &longer, &idle.key] {
        cancel(gate.address(), wrong);
        assert!(is_at_work(&cluster, mine.pid()));
    }

    let seen = ["none ok", "none ok", "none ok", "allow ok"].map(|end| format!("db.cancel {end}"));
    assert_eq!(cancels(&gate), seen, "the last one was the key of an idle session");
    cancel(gate.address(), &mine.key);
    assert_eq!(mine.end(), "57014");
}

#[test]
fn a_key_ends_with_its_session() {
    let cluster = cluster_with_ann();
    let gate = GateSetup::before(&[socket_of(&cluster)]).start();
    let gone = Session::open(gate.address());
    let key = gone.key.clone();

    drop(gone);

    wait_for("the key to be forgotten", || {
        cancel(gate.address(), &key);
        cancels(&gate).iter().any(|line| line == "db.cancel none ok").then_some(())
    });
}

#[test]
fn the_key_has_the_server_s_process_id_and_a_secret_that_is_not_the_server_s() {
    let cluster = cluster_with_ann();
    let tap = Tap::before(&cluster.socket());
    let gate = GateSetup::before(&[tap.upstream()]).start();
    let mut mine = Session::open(gate.address());

    assert_eq!(mine.key.len(), 8, "of protocol 3.0");
    let asked = mine.client.query("SELECT pg_backend_pid()").unwrap();
    assert_eq!(asked.value(), Some(mine.pid().to_string().as_str()));
    mine.begin(&cluster);
    // At the server itself the gate's key is none.
    cancel_directly(&cluster, &mine.key);
    assert!(is_at_work(&cluster, mine.pid()));
    tap.take();
    cancel(gate.address(), &mine.key);
    assert_eq!(mine.end(), "57014");
    let sent = tap.take();
    let code = sent.windows(4).position(|bytes| bytes == CANCEL_REQUEST).unwrap();
    let (pid, secret) = sent[code + 4..code + 12].split_at(4);
    assert_eq!(pid, &mine.key[..4]);
    assert_ne!(secret, &mine.key[4..]);
}

fn cancel_directly(cluster: &Cluster, key: &[u8]) {
    let mut stream = std::os::unix::net::UnixStream::connect(cluster.socket()).unwrap();
    stream.write_all(&[&[0, 0, 0, 16][..], &CANCEL_REQUEST, key].concat()).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

/// A client as bare as can be, so that it can leave in any way.
fn bare_client(address: &Address) -> (TcpStream, u32) {
    let Address::Tcp(address) = address else { panic!("a loopback port") };
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&start_up(0, &[("user", "ann")])).unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"Z\0\0\0\x05I") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        heard.extend(byte);
    }
    let key = heard.windows(5).position(|bytes| bytes == b"K\0\0\0\x0c").unwrap();
    let pid = u32::from_be_bytes(heard[key + 5..key + 9].try_into().unwrap());
    (stream, pid)
}

#[test]
fn the_query_of_a_client_that_vanishes_is_cancelled() {
    let cluster = cluster_with_ann();
    let gate = GateSetup::before(&[socket_of(&cluster)]).start();

    // A client that closes, one that says goodbye first, one that had more to say, and one that had so
    // much more to say that the gate has not read it all.
    let more = message::query("SELECT 1");
    for last_words in [Vec::new(), message::terminate(), more.repeat(10), more.repeat(20_000)] {
        let (mut stream, pid) = bare_client(gate.address());
        stream.write_all(&message::query(ENDLESS)).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        assert!(is_at_work(&cluster, pid));

        stream.write_all(&last_words).unwrap();
        drop(stream);

        wait_for(&format!("the query to be cancelled behind {} bytes", last_words.len()), || {
            (!is_at_work(&cluster, pid)).then_some(())
        });
    }
    assert_eq!(gate.stop().of_kind("session.close").len(), 4);
}

/// Scripts send a query and close their half: `printf … | nc`.
#[test]
fn a_client_that_only_sends_no_more_gets_its_answers() {
    let cluster = cluster_with_ann();
    let gate = GateSetup::before(&[socket_of(&cluster)]).start();
    let slow = "SELECT 'first'; SELECT 'last' FROM generate_series(1, 2000000) OFFSET 1999999";
    let (mut stream, _) = bare_client(gate.address());
    stream.write_all(&[message::query(slow), message::query("SELECT 'more'")].concat()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();

    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();

    for word in ["first", "last", "more"] {
        assert!(heard.windows(word.len()).any(|bytes| bytes == word.as_bytes()), "{word}");
    }
    assert!(heard.ends_with(b"Z\0\0\0\x05I"), "the last answer is whole");
    let ends = gate.stop();
    assert_eq!(ends.of_kind("db.cancel").len(), 0);
}

/// Reads a packet without a type byte, or with one.
fn read_packet(stream: &mut TcpStream, type_bytes: usize) {
    let mut head = vec![0; type_bytes + 4];
    stream.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes(head[type_bytes..].try_into().unwrap()) - 4;
    stream.read_exact(&mut vec![0; length as usize]).unwrap();
}

/// Plays a server that does not hear the first cancel request, as PostgreSQL does not between Parse
/// and Execute, and closes its session at the second one.
fn play_a_server_that_loses_a_cancel(listener: &TcpListener) {
    let mut session = listener.accept().unwrap().0;
    for (asked, answer) in login_answers().into_iter().enumerate() {
        read_packet(&mut session, asked.min(1));
        session.write_all(&answer).unwrap();
    }
    for _ in 0..2 {
        let mut request = [0; 16];
        listener.accept().unwrap().0.read_exact(&mut request).unwrap();
        assert_eq!(request[4..8], CANCEL_REQUEST);
        assert_eq!(request[8..], [7; 8]);
    }
}

#[test]
fn a_cancel_that_the_server_loses_is_repeated_when_nobody_waits_for_the_query_any_more() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let gate = GateSetup::before(&[UpstreamAddress::Tcp("127.0.0.1".to_owned(), port)]).start();
    let (finished, heard) = mpsc::channel();
    let server = thread::spawn(move || {
        play_a_server_that_loses_a_cancel(&listener);
        finished.send(()).unwrap();
    });

    let mut stream = bare_client(gate.address()).0;
    stream.write_all(&message::query("SELECT 1")).unwrap();
    drop(stream);

    assert_eq!(heard.recv_timeout(Duration::from_mins(1)), Ok(()), "no second request came");
    server.join().unwrap();
}
