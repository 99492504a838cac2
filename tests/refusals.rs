//! Refusals that no SQL text can reach, seen from outside: the bytes that a client or a server sends
//! go in, and what the gate says, records and (not) sends on comes out. `tests/cases/protocol.toml`
//! names these tests.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::poll_fn;
use std::sync::Arc;

use rowarden::audit::event::{AuditUnavailable, Entry, Ledger, Receipt};
use rowarden::policy::limits::{Budget, Haste};
use rowarden::policy::reason::Reason;
use rowarden::policy::sql::{Digest, JudgedSql};
use rowarden::policy::verdict::{Denial, Verdict};
use rowarden::postgres::frame::{ProtocolViolation, next_client_frame, next_server_frame};
use rowarden::postgres::outbox::Outbox;
use rowarden::postgres::pump::{End, Pump};
use rowarden::postgres::session::{Judge, Pins, Ports, Session};
use rowarden::postgres::startup::{Opening, StartupRefusal};
use rowarden::postgres::wire::Wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::Instant;

/// Says no to everything.
struct DenyAll;

impl Judge for DenyAll {
    fn judge(&mut self, _: &[u8]) -> Arc<JudgedSql> {
        let denial = Denial::new(Reason::SqlWriteStatement, "DELETE", "statements");
        Arc::new(JudgedSql { verdict: Verdict::Deny(denial), digest: Arc::new(Digest::default()) })
    }

    fn stamp(&mut self) -> u64 {
        0
    }

    fn judge_types(&mut self, _: &[u8]) -> Option<Denial> {
        None
    }
}

/// A log that works or does not, and the reasons that were written into it.
struct Log {
    works: bool,
    reasons: Vec<Reason>,
}

impl Ledger for Log {
    fn record(&mut self, entry: &Entry<'_>) -> Result<Receipt, AuditUnavailable> {
        if !self.works {
            return Err(AuditUnavailable);
        }
        assert_eq!(entry.upstream_contacted, Some(false));
        self.reasons.extend(entry.reason);
        Ok(Receipt { event: "the-event".to_owned() })
    }

    fn follow_up(&mut self, _: &Entry<'_>) {}
}

fn working_log() -> Log {
    Log { works: true, reasons: Vec::new() }
}

fn session() -> Session {
    Session::new(Pins::default())
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

fn client_says(
    session: Session,
    bytes: &[u8],
    log: &mut Log,
    out: &mut Outbox,
) -> Result<Session, ProtocolViolation> {
    let frame = next_client_frame(bytes)?.unwrap();
    session.on_client(frame, &mut Ports { judge: &mut DenyAll, ledger: log }, out)
}

fn server_says(bytes: &[u8]) -> Option<ProtocolViolation> {
    let frame = next_server_frame(bytes).unwrap().unwrap();
    session().on_server(frame, &mut working_log(), &mut Outbox::default()).err()
}

fn told(out: &Outbox) -> String {
    String::from_utf8_lossy(out.pending_for_client()).into_owned()
}

#[test]
fn a_fast_path_call_is_refused_and_no_byte_of_it_goes_up() {
    // lowrite, by its number in pg_proc, with no arguments.
    let call = message(b'F', &[0, 0, 3, 0xbb, 0, 0, 0, 0, 0, 0]);
    let (mut log, mut out) = (working_log(), Outbox::default());

    client_says(session(), &call, &mut log, &mut out).unwrap();

    assert_eq!(log.reasons, [Reason::ProtoFastpath]);
    assert!(told(&out).contains("reason=proto-fastpath event=the-event"), "{}", told(&out));
    assert_eq!(out.pending_for_server(), b"");
}

#[test]
fn copy_data_that_nobody_asked_for_ends_the_session() {
    let (mut log, mut out) = (working_log(), Outbox::default());

    let end = client_says(session(), &message(b'd', b"1\tann\n"), &mut log, &mut out).err();

    assert_eq!(end, Some(ProtocolViolation::CopyOutOfPlace));
    assert_eq!(ProtocolViolation::CopyOutOfPlace.reason(), Reason::ProtoOutOfOrder);
    assert_eq!(out.pending_for_server(), b"");
}

#[test]
fn a_simple_query_inside_a_series_ends_the_session() {
    let (mut log, mut out) = (working_log(), Outbox::default());
    let session = client_says(session(), &message(b'C', b"Sa\0"), &mut log, &mut out).unwrap();
    let sent = out.pending_for_server().to_vec();

    let end = client_says(session, &message(b'Q', b"SELECT 1\0"), &mut log, &mut out).err();

    assert_eq!(end, Some(ProtocolViolation::QueryInSeries));
    assert_eq!(out.pending_for_server(), sent);
}

#[test]
fn a_pin_that_changes_under_way_trips_the_wire() {
    for report in [
        &b"default_transaction_read_only\0off\0"[..],
        b"standard_conforming_strings\0off\0",
        b"client_encoding\0SJIS\0",
    ] {
        assert_eq!(server_says(&message(b'S', report)), Some(ProtocolViolation::Tripwire));
    }
    assert_eq!(server_says(&message(b'S', b"default_transaction_read_only\0on\0")), None);
    assert_eq!(ProtocolViolation::Tripwire.reason(), Reason::Tripwire);
}

#[test]
fn a_copy_into_the_database_that_the_server_begins_trips_the_wire() {
    let end = server_says(&message(b'G', &[0, 0, 0]));

    assert_eq!(end.map(ProtocolViolation::reason), Some(Reason::Tripwire));
}

#[test]
fn an_answer_that_fits_no_question_ends_the_session() {
    let end = server_says(&message(b'1', b""));

    assert_eq!(end, Some(ProtocolViolation::UnexpectedAnswer));
    assert_eq!(ProtocolViolation::UnexpectedAnswer.reason(), Reason::Internal);
}

#[test]
fn a_statement_that_cannot_be_recorded_is_answered_with_58030_and_not_sent() {
    let (mut log, mut out) = (Log { works: false, reasons: Vec::new() }, Outbox::default());

    client_says(session(), &message(b'Q', b"DELETE FROM runs\0"), &mut log, &mut out).unwrap();

    assert!(told(&out).contains("C58030\0"), "{}", told(&out));
    assert!(out.pending_for_client().ends_with(b"Z\0\0\0\x05I"));
    assert_eq!(out.pending_for_server(), b"");
}

#[test]
fn a_protocol_that_nobody_speaks_is_refused() {
    for (major, minor) in [(2, 0), (4, 0), (0, 0)] {
        let version = (u32::from(major) << 16 | u32::from(minor)).to_be_bytes();
        let packet = [&17_u32.to_be_bytes()[..], &version, b"user\0ann\0"].concat();

        let refusal = Opening::default().on_packet(&packet, 0).err();

        assert_eq!(refusal, Some(StartupRefusal::Version(major, minor)));
    }
    assert_eq!(StartupRefusal::Version(4, 0).reason(), Reason::ProtoVersion);
}

/// Answers the first refusal at once, the second late, and lets nobody be refused a third time.
struct ThreeStrikes(Vec<Haste>);

impl Budget for ThreeStrikes {
    fn begin(&mut self, _: usize) -> Result<(), Reason> {
        Ok(())
    }

    fn end(&mut self) {}

    fn refuse(&mut self) -> Haste {
        self.0.pop().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_beyond_the_limit_are_answered_late_and_the_last_one_ends_the_session() {
    let (mut client, gate_client) = duplex(4096);
    let (gate_server, _server) = duplex(4096);
    let strikes = ThreeStrikes(vec![Haste::Never, Haste::Later, Haste::AtOnce]);
    let session = session().sharing(Box::new(strikes));
    let mut pump = Pump::new(Wire::new(gate_client), Wire::new(gate_server), session, b"");
    let gate = async {
        let mut log = working_log();
        let mut ports = Ports { judge: &mut DenyAll, ledger: &mut log };
        poll_fn(|context| pump.poll(context, &mut ports)).await
    };
    let begin = Instant::now();
    let talk = async {
        let mut waits = Vec::new();
        for _ in 0..2 {
            client.write_all(&message(b'Q', b"DELETE\0")).await.unwrap();
            let mut answer = [0; 4096];
            let _ = client.read(&mut answer).await.unwrap();
            waits.push(begin.elapsed().as_secs());
        }
        client.write_all(&message(b'Q', b"DELETE\0")).await.unwrap();
        waits
    };

    let (end, waits) = tokio::join!(gate, talk);

    assert_eq!(waits, [0, 1]);
    assert_eq!(end, End::Refused);
}
