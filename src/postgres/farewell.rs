//! Why a session has ended: what is written down, and the last word to the client.

use crate::audit::event::{Decision, Entry, Kind, Ledger};
use crate::policy::reason::Reason;
use crate::postgres::clock::Due;
use crate::postgres::pump::{End, Side};
use crate::postgres::reply::Complaint;
use crate::postgres::session::Pace;

/// The last word to the client and the sentence for `session.close`.
pub(super) fn settle(end: End, ledger: &mut dyn Ledger) -> (Option<Complaint>, &'static str) {
    match end {
        End::ClientLeft => (None, "the client closed the connection"),
        End::Refused => (Some(end_refused(ledger)), "a limit was met"),
        End::ServerLeft => (None, "the server closed the connection"),
        End::ServerRefused => (None, "the server ended the session"),
        End::Terminated => (None, "the client said goodbye"),
        End::ShutDown => {
            let words = "terminating connection due to administrator command";
            (Some(Complaint::of_postgres("57P01", words).as_fatal()), "the gate shuts down")
        }
        End::Overdue(due) => (Some(end_overdue(due, ledger)), "a limit was met"),
        End::Violation(side, violation) => {
            let message = violation.to_string();
            let (decision, contacted) = match side {
                Side::Client => (Decision::Deny, Some(false)),
                Side::Server => (Decision::Error, None),
            };
            let entry = Entry {
                reason: Some(violation.reason()),
                upstream_contacted: contacted,
                ..Entry::plain(Kind::DbProtocolViolation, decision, &message)
            };
            let receipt = ledger.record(&entry).ok();
            let complaint = Complaint::fault(violation.reason(), &message, receipt.as_ref());
            (Some(complaint.as_fatal()), "a message broke the protocol")
        }
    }
}

/// Writes down that a client has been refused too often, and words it.
fn end_refused(ledger: &mut dyn Ledger) -> Complaint {
    let words = "terminating connection: too many refusals";
    let entry = Entry {
        reason: Some(Reason::LimitRefusals),
        rule: Some("limits.principal"),
        gate_action: Some("close"),
        ..Entry::plain(Kind::LimitHit, Decision::Deny, words)
    };
    let receipt = ledger.record(&entry).ok();
    Complaint::fault(Reason::LimitRefusals, words, receipt.as_ref()).as_fatal()
}

/// Writes down that something lasted too long, and words it.
fn end_overdue(due: Due, ledger: &mut dyn Ledger) -> Complaint {
    let (reason, words) = match due {
        Due::Pace(Pace::Idle) => {
            (Reason::LimitIdle, "terminating connection due to idle-session timeout")
        }
        Due::Pace(Pace::IdleInTransaction) => {
            (Reason::LimitIdle, "terminating connection due to idle-in-transaction timeout")
        }
        Due::Pace(Pace::Settling | Pace::Working(_)) => {
            (Reason::LimitTime, "terminating connection: the server does not stop the statement")
        }
        Due::Look | Due::Stall => {
            (Reason::LimitStalled, "terminating connection on which nothing moves")
        }
    };
    let entry = Entry {
        reason: Some(reason),
        rule: Some("limits"),
        gate_action: Some("close"),
        ..Entry::plain(Kind::LimitHit, Decision::Deny, words)
    };
    let receipt = ledger.record(&entry).ok();
    let complaint = Complaint::fault(reason, words, receipt.as_ref()).as_fatal();
    match due {
        Due::Pace(Pace::IdleInTransaction) => complaint.with_sqlstate("25P03"),
        _ => complaint,
    }
}
