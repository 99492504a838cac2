//! Servers and clients that fail in every way that a network knows, on a real server behind a proxy
//! that fails on demand: nothing stays stuck, and nothing is left over.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use rowarden::demo::client::{Client, ClientError, Login, message};
use rowarden::demo::cluster::Cluster;
use rowarden::listen::Address;
use rowarden::policy::limits::Limits;
use support::faults::{Fault, FaultProxy};
use support::gate::{GateSetup, LiveGate};
use support::talk::{add_owner, trusting};
use support::wait_for;

/// More than the buffers between server, proxy, gate and client hold together.
const FLOOD: &str = "SELECT repeat('x', 1000) FROM generate_series(1, 200000)";

/// Runs until it is cancelled, behind rows that the client hears of.
const ENDLESS: &str = "\
SELECT repeat('x', 20000) UNION ALL \
SELECT count(*)::text FROM pg_proc a, pg_proc b, pg_proc c";

struct Bench {
    cluster: Cluster,
    proxy: FaultProxy,
    gate: LiveGate,
}

impl Bench {
    fn with(limits: Limits) -> Self {
        let cluster = support::cluster_with(&trusting());
        add_owner(&cluster, "ann", "");
        let proxy = FaultProxy::before(&cluster.socket());
        let gate = GateSetup::before(&[proxy.upstream()]).limited_to(limits).start();
        Self { cluster, proxy, gate }
    }

    fn try_connect(&self) -> Result<Client, ClientError> {
        Client::connect(self.gate.address(), &Login::new("ann", "", "ann"))
    }

    fn client(&self) -> Client {
        self.try_connect().unwrap()
    }

    /// A client that can be cut off without a word.
    fn bare_client(&self) -> TcpStream {
        let Address::Tcp(address) = self.gate.address() else { panic!("a loopback port") };
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&message::start_up(&[("user", "ann")])).unwrap();
        stream
    }

    fn serves(&self) {
        assert_eq!(self.client().query("SELECT 42").unwrap().value(), Some("42"));
    }

    /// Sessions of ann's on the server.
    fn sessions(&self) -> String {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'ann'";
        self.cluster.execute("postgres", count).unwrap().value().unwrap().to_owned()
    }

    /// Sockets of this process, tasks of the gate, connections of the proxy.
    fn holdings(&self) -> (usize, usize, usize) {
        let sockets = fs::read_dir("/proc/self/fd").unwrap().filter(|file| {
            let target = file.as_ref().ok().and_then(|file| fs::read_link(file.path()).ok());
            target.is_some_and(|target| target.to_string_lossy().starts_with("socket:"))
        });
        (sockets.count(), self.gate.tasks(), self.proxy.open())
    }

    /// What is held when no client is there: the same many times in a row.
    fn at_rest(&self) -> (usize, usize, usize) {
        self.serves();
        let mut seen = Vec::new();
        wait_for("the gate to be at rest", || {
            let now = self.holdings();
            seen.retain(|before| *before == now);
            seen.push(now);
            (seen.len() > 30 && now.2 == 0).then_some(now)
        })
    }

    /// Waits until no more is held than before.
    fn returns_to(&self, before: (usize, usize, usize)) {
        let mut now = before;
        let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for("everything to be as before", || {
                now = self.holdings();
                (now.0 <= before.0 && now.1 <= before.1 && now.2 <= before.2).then_some(())
            });
        }));
        assert!(settled.is_ok(), "sockets, tasks, connections: {now:?} and not {before:?}");
        wait_for("the server's sessions to end", || (self.sessions() == "0").then_some(()));
    }
}

#[test]
fn a_server_that_goes_in_the_middle_of_a_result_ends_its_session_and_later_ones_are_served() {
    let bench = Bench::with(Limits::default());
    let before = bench.at_rest();
    let mut stream = bench.bare_client();
    stream.write_all(&message::query(FLOOD)).unwrap();
    stream.read_exact(&mut vec![0; 100_000]).unwrap();

    bench.proxy.fail(Fault::Cut);
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);

    assert!(ended.is_ok(), "closed, and not left open");
    let refused = bench.try_connect();
    assert!(matches!(refused, Err(ClientError::Refused(error)) if error.sqlstate == "57P03"));
    drop(stream);
    bench.proxy.fail(Fault::None);
    bench.serves();
    bench.returns_to(before);
}

#[test]
fn a_network_that_brings_one_byte_at_a_time_changes_nothing() {
    let bench = Bench::with(Limits::default());
    let mut plain = bench.client();
    bench.proxy.fail(Fault::Trickle);
    let mut slow = bench.client();
    for sql in
        ["SELECT oid, relname FROM pg_class ORDER BY 1", "SELECT 1; SELECT 1/0", "BEGIN; COMMIT"]
    {
        let (in_pieces, whole) = (slow.query(sql).unwrap(), plain.query(sql).unwrap());
        assert_eq!(format!("{in_pieces:?}"), format!("{whole:?}"));
        let (in_pieces, whole) = (slow.extended(sql, &[]), plain.extended(sql, &[]));
        assert_eq!(format!("{in_pieces:?}"), format!("{whole:?}"));
    }
}

#[test]
fn a_server_that_falls_silent_holds_neither_its_client_nor_the_gate() {
    let patience = Some(Duration::from_millis(200));
    let limits = Limits {
        statement_time: patience,
        login_time: Duration::from_millis(500),
        ..Limits::default()
    };
    let bench = Bench::with(limits);
    let before = bench.at_rest();
    let mut client = bench.client();
    client.query("SELECT 42").unwrap();
    bench.proxy.fail(Fault::Silence);

    client.send(&message::query("SELECT 42")).unwrap();
    let told = client.receive().unwrap();

    assert_eq!(told.tag, b'E', "told at once, though the server does not stop");
    assert!(String::from_utf8_lossy(&told.body).contains("reason=limit-time"));
    let refused = bench.try_connect();
    assert!(matches!(refused, Err(ClientError::Refused(error)) if error.sqlstate == "57014"));
    drop(client);
    bench.proxy.fail(Fault::None);
    bench.serves();
    bench.returns_to(before);
}

#[test]
fn both_sides_blocked_in_writing_go_on_when_one_of_them_reads() {
    const QUERIES: usize = 300;
    let bench = Bench::with(Limits::default());
    let mut stream = bench.bare_client();
    let long = format!("SELECT repeat('x', 50000) -- {}", "y".repeat(5_000));
    let mut writing = stream.try_clone().unwrap();
    let writer = thread::spawn(move || {
        writing.write_all(&message::query(&long).repeat(QUERIES)).unwrap();
        writing.write_all(&message::query("SELECT 'the last'")).unwrap();
        writing.shutdown(Shutdown::Write).unwrap();
    });
    // The gate has read what it keeps for later; then the client cannot write, nor the server.
    wait_for("the server to be at work", || (bench.sessions() == "1").then_some(()));

    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();

    writer.join().unwrap();
    let rows = heard.windows(11).filter(|bytes| bytes == b"C\0\0\0\x0dSELECT").count();
    assert_eq!(rows, QUERIES + 1);
    assert!(heard.windows(8).any(|bytes| bytes == b"the last"));
}

#[test]
fn whatever_fails_nothing_is_left_over() {
    let limits = Limits { stall_time: Some(Duration::from_millis(500)), ..Limits::default() };
    let bench = Bench::with(limits);
    let before = bench.at_rest();
    for round in 0..3 {
        let mut held = Vec::new();
        for kind in 0..24 {
            let mut stream = bench.bare_client();
            let said = match kind % 6 {
                // Nothing more; a query; an endless one; a flood that nobody reads; a transaction;
                // half a message.
                0 => Vec::new(),
                1 => message::query("SELECT 1"),
                2 => message::query(ENDLESS),
                3 => message::query(FLOOD),
                4 => message::query("BEGIN; SELECT 1"),
                _ => message::query("SELECT 1")[..7].to_vec(),
            };
            // Some have been turned away already: the server has gone.
            let _ = stream.write_all(&said);
            held.push(stream);
            if round == 1 && kind == 12 {
                bench.proxy.fail(Fault::Cut);
            }
        }
        drop(held);
        bench.proxy.fail(Fault::None);
    }
    bench.serves();
    bench.returns_to(before);
    let trail = bench.gate.stop();
    let (opened, closed) = (trail.of_kind("session.open"), trail.of_kind("session.close"));
    assert_eq!(opened.len(), closed.len(), "what was opened was closed");
}
