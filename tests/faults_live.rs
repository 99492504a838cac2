//! An audit log that cannot be written: nothing passes, everybody is told, and reads resume by
//! themselves when it can be written again.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rowarden::audit::event::{AuditUnavailable, Auditor, Entry, Ledger, Receipt, SessionFacts};
use rowarden::demo::client::reply::Reply;
use rowarden::demo::client::{Client, ClientError, Login};
use rowarden::demo::cluster::Cluster;
use support::disk::Tmpfs;
use support::gate::{GateSetup, LiveGate, Trail};
use support::talk::add_owner;
use support::tap::{Tap, holds};

/// Statements until a full disk must be felt. The last page of the log may have some room left.
const MANY: usize = 1_000;

fn ann() -> Login {
    Login::new("ann", "secret", "ann")
}

/// A server, behind a tap.
struct Bench {
    _cluster: Cluster,
    tap: Tap,
}

impl Bench {
    fn set_up() -> Self {
        let cluster = support::cluster();
        add_owner(&cluster, "ann", "secret");
        let tap = Tap::before(&cluster.socket());
        Self { _cluster: cluster, tap }
    }

    fn setup(&self) -> GateSetup {
        GateSetup::before(&[self.tap.upstream()])
    }
}

fn sqlstate(reply: &Reply) -> Option<&str> {
    reply.error.as_ref().map(|error| error.sqlstate.as_str())
}

/// Reads until a read is refused because it could not be recorded; returns the text of that one.
fn read_until_refused(client: &mut Client) -> String {
    let attempt = |number: usize| {
        let text = format!("SELECT 'zq{number}x'");
        let reply = client.query(&text).unwrap();
        assert!(matches!(sqlstate(&reply), None | Some("58030")), "{reply:?}");
        assert_eq!(reply.status, Some('I'));
        reply.error.is_some().then_some(text)
    };
    (0..MANY).find_map(attempt).unwrap()
}

/// What holds for every log that fails and recovers.
fn nothing_passes_while_the_log_is_down(
    bench: &Bench,
    gate: &LiveGate,
    fail: impl FnOnce(),
    recover: impl FnOnce(),
) {
    let mut idle = Client::connect(gate.address(), &ann()).unwrap();
    let mut in_transaction = Client::connect(gate.address(), &ann()).unwrap();
    in_transaction.query("BEGIN; SELECT 1").unwrap().into_result().unwrap();
    fail();

    let refused = read_until_refused(&mut idle);

    assert!(!holds(&bench.tap.take(), &refused), "not recorded, and yet sent");
    let write = idle.query("DELETE FROM pg_class").unwrap();
    assert_eq!((sqlstate(&write), write.status), (Some("58030"), Some('I')));
    let inside = in_transaction.extended("SELECT 'zqinside'", &[]).unwrap();
    assert_eq!((sqlstate(&inside), inside.status), (Some("58030"), Some('E')));
    match Client::connect(gate.address(), &ann()) {
        Err(ClientError::Refused(error)) => assert_eq!(error.sqlstate, "58030"),
        other => panic!("{:?}", other.err()),
    }
    assert!(!holds(&bench.tap.take(), "zqinside"));

    recover();

    assert_eq!(idle.query("SELECT 42").unwrap().value(), Some("42"));
    let still_failed = in_transaction.query("SELECT 1").unwrap();
    assert_eq!((sqlstate(&still_failed), still_failed.status), (Some("25P02"), Some('E')));
    assert_eq!(in_transaction.query("ROLLBACK").unwrap().status, Some('I'));
    let mut new = Client::connect(gate.address(), &ann()).unwrap();
    assert_eq!(new.query("SELECT 42").unwrap().value(), Some("42"));
}

/// An audit log with a switch.
#[derive(Clone, Default)]
struct Switch(Arc<AtomicBool>);

impl Switch {
    fn fail(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn recover(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Auditor for Switch {
    fn open(&self, _: SessionFacts) -> Box<dyn Ledger + Send> {
        Box::new(self.clone())
    }
}

impl Ledger for Switch {
    fn record(&mut self, _: &Entry<'_>) -> Result<Receipt, AuditUnavailable> {
        if self.0.load(Ordering::SeqCst) {
            return Err(AuditUnavailable);
        }
        Ok(Receipt { event: "event".to_owned() })
    }

    fn follow_up(&mut self, _: &Entry<'_>) {}
}

#[test]
fn nothing_passes_while_no_record_is_taken_and_reads_resume_by_themselves() {
    let bench = Bench::set_up();
    let log = Switch::default();
    let gate = bench.setup().recording_by(Arc::new(log.clone())).start();

    nothing_passes_while_the_log_is_down(&bench, &gate, || log.fail(), || log.recover());
}

/// On a real full disk. Where nobody may mount one, the test above has shown the same with a log
/// that only says that it is full, and this one says what it could not do.
#[test]
fn nothing_passes_while_the_disk_is_full_and_reads_resume_by_themselves() {
    let Some(disk) = Tmpfs::mount() else {
        println!("no small disk can be mounted here: only a log that says so was full");
        return nothing_passes_while_no_record_is_taken_and_reads_resume_by_themselves();
    };
    let bench = Bench::set_up();
    let folder = disk.path().join("audit");
    let gate = bench.setup().recording_in(&folder).start();

    nothing_passes_while_the_log_is_down(&bench, &gate, || disk.fill(), || disk.free());

    let trail: Trail = gate.stop();
    let recovered = trail.of_kind("gate.recovered");
    assert!(!recovered.is_empty(), "{:?}", trail.outline());
    assert!(recovered.iter().all(|line| line["reason"] == "audit-unavailable"));
}
