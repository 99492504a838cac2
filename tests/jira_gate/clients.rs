//! Who asks: tokens, shares, and what happens when nothing can be written down.

use std::io::Write;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::mpsc;

use rowarden::audit::event::{AuditUnavailable, Auditor, Entry, Ledger, Receipt, SessionFacts};
use rowarden::jira::limits::Limits;
use rowarden::policy::reason::Reason;

use crate::client::{ask, exchange, head, last, post, read_answer};
use crate::gate::GateSetup;
use crate::site::{Site, Then, connect, json};

fn with(authorization: &str) -> String {
    last("GET /rest/api/2/myself").replace("Basic dTp0", authorization)
}

#[test]
fn clients_borrow_the_credential_by_their_tokens_and_are_logged_by_their_names() {
    let site = Site::plain();
    let gate = GateSetup::before(&site).lending_to("ci:t\nbob:t2\n").start();

    let basic = ask(&gate, with("Basic dTp0"));
    let bearer = ask(&gate, with("Bearer t2"));
    let wrong = ask(&gate, with("Bearer of-the-site"));
    let without =
        ask(&gate, last("GET /rest/api/2/myself").replace("Authorization: Basic dTp0\r\n", ""));

    assert_eq!((basic.status, bearer.status), (200, 200));
    for refused in [wrong, without] {
        assert_eq!((refused.status, refused.reason()), (401, Reason::AuthFailed));
        assert!(refused.field("www-authenticate").is_some());
    }
    let seen = site.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.field("authorization") == Some("Bearer of-the-site")));
    let trail = gate.stop();
    let requests = trail.of_kind("http.request");
    assert_eq!(requests[0]["actor"]["user"], "ci");
    assert_eq!(requests[0]["actor"]["method"], "token");
    assert_eq!(requests[1]["actor"]["user"], "bob");
    let text: String = trail.0.iter().map(ToString::to_string).collect();
    assert!(!text.contains("of-the-site") && !text.contains("dTp0"), "{text}");
}

fn limits(at_once: u32, per_second: u32, refusals: u32) -> Limits {
    Limits {
        concurrent_requests: NonZeroU32::new(at_once),
        requests_per_second: NonZeroU32::new(per_second),
        refusals_per_minute: NonZeroU32::new(refusals),
    }
}

#[test]
fn a_thousand_refusals_cost_no_read() {
    let site = Site::plain();
    let gate = GateSetup::before(&site).with_limits(limits(0, 0, 1000)).start();
    let write = post("/rest/api/2/issue", "{}").replace("Connection: close\r\n", "");
    let mut stream = connect(gate.address());

    for _ in 0..1000 {
        stream.write_all(write.as_bytes()).unwrap();
        assert_eq!(read_answer(&mut stream, "POST").unwrap().status, 403);
    }
    let read = ask(&gate, last("GET /rest/api/2/myself"));
    stream.write_all(write.as_bytes()).unwrap();
    let beyond = read_answer(&mut stream, "POST").unwrap();

    assert_eq!(read.status, 200);
    assert_eq!((beyond.status, beyond.reason()), (429, Reason::LimitRefusals));
    assert_eq!(beyond.field("connection"), Some("close"));
    assert!(beyond.field("retry-after").is_some());
    assert_eq!(site.lines(), ["GET /rest/api/2/myself HTTP/1.1"]);
}

#[test]
fn too_many_requests_at_once_are_told_to_come_again() {
    let (arrived, asked) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel::<()>();
    let sides = std::sync::Mutex::new((arrived, may_leave));
    let site = Site::answering(move |_| {
        let sides = sides.lock().unwrap();
        sides.0.send(()).unwrap();
        sides.1.recv().unwrap();
        (json("{}"), Then::Keep)
    });
    let gate = GateSetup::before(&site).with_limits(limits(1, 0, 0)).start();
    let mut first = connect(gate.address());
    first.write_all(last("GET /rest/api/2/myself").as_bytes()).unwrap();
    asked.recv().unwrap();

    let second = ask(&gate, last("GET /rest/api/2/field"));
    leave.send(()).unwrap();
    let answered = read_answer(&mut first, "GET").unwrap();

    assert_eq!((second.status, second.reason()), (429, Reason::LimitRate));
    assert_eq!(second.field("retry-after"), Some("1"));
    assert_eq!(answered.status, 200);
}

#[test]
fn a_gate_without_a_free_place_says_so() {
    let site = Site::plain();
    let gate = GateSetup::before(&site).with_room_for(1).start();
    let mut first = connect(gate.address());
    first.write_all((head("GET /rest/api/2/myself") + "\r\n").as_bytes()).unwrap();
    assert_eq!(read_answer(&mut first, "GET").unwrap().status, 200);

    let second = ask(&gate, last("GET /rest/api/2/field"));

    assert_eq!((second.status, second.reason()), (503, Reason::LimitConnections));
    assert_eq!(site.seen().len(), 1);
}

/// A log that cannot be written.
struct Full;

impl Auditor for Full {
    fn open(&self, _: SessionFacts) -> Box<dyn Ledger + Send> {
        Box::new(Full)
    }
}

impl Ledger for Full {
    fn record(&mut self, _: &Entry<'_>) -> Result<Receipt, AuditUnavailable> {
        Err(AuditUnavailable)
    }

    fn follow_up(&mut self, _: &Entry<'_>) {}
}

#[test]
fn what_cannot_be_recorded_does_not_happen() {
    let site = Site::plain();
    let gate = GateSetup::before(&site).recording_by(Arc::new(Full)).start();

    let read = ask(&gate, last("GET /rest/api/2/myself"));
    let write = ask(&gate, post("/rest/api/2/issue", "{}"));

    assert_eq!((read.status, read.reason()), (503, Reason::AuditUnavailable));
    assert_eq!(write.status, 403);
    assert!(site.seen().is_empty());
}

#[test]
fn pipelined_requests_are_answered_in_order_and_idle_connections_end_with_the_gate() {
    let site = Site::plain();
    let gate = GateSetup::before(&site).start();
    let read = head("GET /rest/api/2/myself") + "\r\n";
    let write = post("/rest/api/2/issue", "{}").replace("Connection: close\r\n", "");

    let answers = exchange(&gate, format!("{read}{write}{read}{}", last("GET /rest/api/2/field")));
    let mut idle = connect(gate.address());
    idle.write_all(read.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut idle, "GET").unwrap().status, 200);
    gate.stop();

    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 403, 200, 200]);
    assert_eq!(read_answer(&mut idle, "GET"), None);
}
