//! What all sessions of one principal may use together, and the cancel requests of one address.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU32;

use rowarden::demo::client::reply::{Reply, ServerError};
use rowarden::demo::client::{Client, ClientError, Login, message};
use rowarden::demo::cluster::Cluster;
use rowarden::listen::Address;
use rowarden::policy::limits::{Limits, Share};
use support::gate::{GateSetup, LiveGate, socket_of};
use support::talk::{add_owner, reason_and_event, trusting};
use support::wait_for;

/// Runs until it is cancelled, behind a row that is longer than the server's buffer.
const ENDLESS: &str = "\
SELECT repeat('x', 20000) UNION ALL \
SELECT count(*)::text FROM pg_proc a, pg_proc b, pg_proc c";

struct Bench {
    _cluster: Cluster,
    gate: LiveGate,
}

impl Bench {
    fn with(limits: Limits) -> Self {
        let cluster = support::cluster_with(&trusting());
        add_owner(&cluster, "ann", "");
        add_owner(&cluster, "bob", "");
        let gate = GateSetup::before(&[socket_of(&cluster)]).limited_to(limits).start();
        Self { _cluster: cluster, gate }
    }

    fn sharing(share: Share) -> Self {
        Self::with(Limits { principal: share, ..Limits::default() })
    }

    fn try_connect(&self, role: &str) -> Result<Client, ClientError> {
        Client::connect(self.gate.address(), &Login::new(role, "", role))
    }

    fn client(&self, role: &str) -> Client {
        self.try_connect(role).unwrap()
    }

    /// That this error is the gate's own, for this reason, and in the audit log.
    fn check(&self, error: &ServerError, sqlstate: &str, expected: &str) {
        let (reason, event) = reason_and_event(error.detail.as_deref().unwrap());
        assert_eq!((error.sqlstate.as_str(), reason), (sqlstate, expected));
        let trail = self.gate.trail();
        let line = trail.event(event);
        assert_eq!((&line["reason"], &line["decision"]), (&expected.into(), &"deny".into()));
        assert_eq!(line["actor"]["user"], "ann");
    }
}

const fn most(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

fn answer(client: &mut Client) -> Reply {
    client.query("SELECT 42").unwrap()
}

#[test]
fn a_principal_has_so_many_sessions_and_others_have_their_own() {
    let bench = Bench::sharing(Share { connections: most(1), ..Share::default() });
    let mut first = bench.client("ann");

    let Err(ClientError::Refused(error)) = bench.try_connect("ann") else { panic!("let in") };

    bench.check(&error, "53300", "limit-connections");
    assert_eq!(error.severity, "FATAL");
    assert_eq!(answer(&mut first).value(), Some("42"));
    assert_eq!(answer(&mut bench.client("bob")).value(), Some("42"));
    drop(first);
    wait_for("the seat of the one who left", || bench.try_connect("ann").ok());
}

#[test]
fn a_statement_too_many_is_refused_and_the_session_goes_on() {
    let bench = Bench::sharing(Share { concurrent_statements: most(1), ..Share::default() });
    let (mut long, mut short) = (bench.client("ann"), bench.client("ann"));
    long.send(&message::query(ENDLESS)).unwrap();
    assert_eq!(long.receive().unwrap().tag, b'T', "under way");

    let simple = answer(&mut short);
    let extended = short.extended("SELECT 42", &[]).unwrap();

    for refused in [simple, extended] {
        assert_eq!(refused.status, Some('I'));
        bench.check(&refused.error.unwrap(), "53400", "limit-rate");
    }
    assert_eq!(answer(&mut bench.client("bob")).value(), Some("42"), "another principal");
    drop(long);
    wait_for("the end of the long one", || {
        (answer(&mut short).value() == Some("42")).then_some(())
    });
}

#[test]
fn a_principal_begins_so_many_statements_in_a_second() {
    let bench = Bench::sharing(Share { statements_per_second: most(20), ..Share::default() });
    let mut client = bench.client("ann");
    assert_eq!(client.query("BEGIN").unwrap().status, Some('T'));
    // Sent at once, so that no machine is too slow to go beyond the limit.
    client.send(&message::query("SELECT 42").repeat(500)).unwrap();
    let replies: Vec<_> = support::talk::hear(&mut client, 500);

    let rows = replies.iter().filter(|message| message.tag == b'D').count();
    let errors = replies.iter().filter(|message| message.tag == b'E').count();

    assert!(rows >= 19 && errors > 0 && rows + errors == 500, "{rows} and {errors}");
    wait_for("the next second", || {
        (client.query("ROLLBACK").unwrap().status == Some('I')).then_some(())
    });
    wait_for("the next second", || (answer(&mut client).value() == Some("42")).then_some(()));
}

#[test]
fn a_thousand_refusals_do_not_keep_anybody_from_reading() {
    let bench = Bench::with(Limits::default());
    let mut client = bench.client("ann");
    for _ in 0..1_000 {
        let error = client.query("DELETE FROM pg_class").unwrap().error.unwrap();
        assert_eq!(error.sqlstate, "25006");
    }
    assert_eq!(answer(&mut client).value(), Some("42"));
}

#[test]
fn beyond_the_limit_of_refusals_reads_are_served_as_before() {
    let bench = Bench::sharing(Share { refusals_per_minute: most(3), ..Share::default() });
    let mut client = bench.client("ann");
    for _ in 0..5 {
        let refused = client.query("DELETE FROM pg_class").unwrap();
        assert_eq!(refused.error.unwrap().sqlstate, "25006", "late, and as before");
        assert_eq!(answer(&mut client).value(), Some("42"));
    }
    assert_eq!(answer(&mut bench.client("ann")).value(), Some("42"));
}

#[test]
fn cancel_requests_of_one_address_are_heard_so_many_times_in_a_minute() {
    let cancels = Limits { cancel_requests_per_minute: most(2), ..Limits::default() };
    let bench = Bench::with(cancels);
    let Address::Tcp(address) = bench.gate.address() else { panic!("a loopback port") };
    let guess = [&16_u32.to_be_bytes()[..], &[4, 0xd2, 0x16, 0x2e], &[7; 8]].concat();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&guess).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        assert_eq!(said, b"", "nothing is ever said to who cancels");
    }
    assert_eq!(answer(&mut bench.client("ann")).value(), Some("42"));
    let trail = bench.gate.stop();
    assert_eq!(trail.of_kind("db.cancel").len(), 2);
    let unheard = trail.of_kind("limit.hit");
    assert!(!unheard.is_empty() && unheard.iter().all(|line| line["reason"] == "limit-rate"));
}
