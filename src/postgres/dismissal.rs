//! Why a connection ends before it has become a session: what is written down, and what the client
//! reads.

use crate::audit::event::{Decision, Entry, Kind, Receipt, Response};
use crate::policy::reason::Reason;
use crate::postgres::frame::ProtocolViolation;
use crate::postgres::reply::Complaint;
use crate::postgres::startup::StartupRefusal;

/// Why a connection ends before it has become a session.
#[derive(Debug, thiserror::Error)]
pub enum Dismissal {
    /// The client went away, or wanted no session.
    #[error("the client is done")]
    ClientLeft,
    /// All places are taken.
    #[error("too many connections")]
    Full,
    /// The principal has as many sessions as it may have.
    #[error("too many connections of this principal")]
    FullForPrincipal,
    /// The start-up packet was refused.
    #[error(transparent)]
    Refused(#[from] StartupRefusal),
    /// The TLS handshake failed, or did not name this protocol.
    #[error("the TLS handshake failed")]
    Handshake,
    /// The login took too long.
    #[error("the login took too long")]
    TimedOut,
    /// The audit log cannot be written.
    #[error("the audit log cannot be written")]
    Unrecorded,
    /// The server said no, and the client has read it in the server's words.
    #[error("the server refused the login with SQLSTATE `{0}`")]
    ServerRefused(String),
    /// The server cannot be reached, or went away during the login.
    #[error("the server cannot be reached")]
    ServerDown,
    /// A message that has no place in a login, from either side.
    #[error("{0} during login")]
    Violation(#[from] ProtocolViolation),
    /// The server's way to authenticate does not pass a gate.
    #[error("the server asks for an authentication method that does not pass a gate")]
    Method,
    /// The server wants channel binding, which this gate cannot pass on, and the client noticed that
    /// it was not offered.
    #[error("the client could bind to the channel, and that does not pass a gate")]
    BindingCut,
    /// The client is bound to another channel than ours.
    #[error("SCRAM channel binding does not hold")]
    ClientBinding,
    /// The gate's user gave a wrong password, or is none of the gate's users.
    #[error("password authentication failed")]
    WrongPassword(String),
    /// The server did not take the gate's own login.
    #[error("the server refused the gate's own login with SQLSTATE `{0}`")]
    GateRefused(String),
    /// The server asks for, or does, what nobody does that may have the gate's credential.
    #[error("the server is not trusted with the gate's login: it wants {0}")]
    Untrusted(&'static str),
    /// The system has no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// The session that the server opened is not pinned to reading.
    #[error("pin `{0}` does not hold")]
    Unpinned(&'static str),
    /// The server did not say what its catalog holds.
    #[error("the catalog of the database could not be read")]
    CatalogUnread,
    /// The role holds powers that the policy does not accept.
    #[error("the role holds powers: {0}")]
    Powers(String),
    /// `pg_catalog` is not searched first, by the client's own wish.
    #[error("search_path asked for by the client hides pg_catalog")]
    ClientSearchPath,
    /// `pg_catalog` is not searched first, by a setting of the role or database.
    #[error("search_path of the role or database hides pg_catalog")]
    RoleSearchPath,
}

const CATALOG_FIRST: &str = "Leave pg_catalog out of search_path, or put it first.";

const OWN_USERS: &str = "Check name and password; the operator of this gate keeps them.";
const CHECK_CERTIFICATE: &str =
    "Somebody may stand between this client and the gate; compare the gate's certificate.";
const TELL_OPERATOR: &str = "Tell the operator of this gate the event number above.";

impl Dismissal {
    /// The reason under which it is logged; `None` if there is nothing to log.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::ClientLeft => return None,
            Self::Full | Self::FullForPrincipal => Reason::LimitConnections,
            Self::Refused(refusal) => refusal.reason(),
            Self::Handshake => Reason::ProtoTlsHandshake,
            Self::Method | Self::ServerRefused(_) | Self::TimedOut | Self::WrongPassword(_) => {
                Reason::AuthFailed
            }
            Self::BindingCut | Self::ClientBinding | Self::Untrusted(_) => {
                Reason::AuthChannelBinding
            }
            Self::CatalogUnread | Self::NoRandomness => Reason::Internal,
            Self::Unrecorded => Reason::AuditUnavailable,
            Self::GateRefused(_) | Self::ServerDown => Reason::UpstreamDown,
            Self::Violation(violation) => violation.reason(),
            Self::Unpinned(_) => Reason::Tripwire,
            Self::Powers(_) | Self::RoleSearchPath => Reason::Posture,
            Self::ClientSearchPath => Reason::ProtoStartup,
        })
    }

    /// What is written down. `message` is this dismissal as text.
    #[must_use]
    pub fn entry<'a>(&'a self, message: &'a str) -> Option<Entry<'a>> {
        let reason = self.reason()?;
        let (kind, decision) = match self {
            Self::Full | Self::Handshake | Self::Refused(_) => (Kind::SessionOpen, Decision::Deny),
            Self::Violation(_) => (Kind::DbProtocolViolation, Decision::Deny),
            Self::BindingCut
            | Self::ClientBinding
            | Self::ClientSearchPath
            | Self::FullForPrincipal
            | Self::Powers(_)
            | Self::RoleSearchPath
            | Self::WrongPassword(_) => (Kind::SessionAuth, Decision::Deny),
            Self::CatalogUnread
            | Self::ClientLeft
            | Self::GateRefused(_)
            | Self::Method
            | Self::NoRandomness
            | Self::ServerDown
            | Self::ServerRefused(_)
            | Self::TimedOut
            | Self::Unpinned(_)
            | Self::Unrecorded
            | Self::Untrusted(_) => (Kind::SessionAuth, Decision::Error),
        };
        let response = match self {
            Self::GateRefused(sqlstate) | Self::ServerRefused(sqlstate) => {
                Some(Response { sqlstate, rows: 0, bytes_out: 0 })
            }
            _ => None,
        };
        // A denied start-up packet has not left the gate; later ones have, but not what is denied.
        let contacted = (decision == Decision::Deny).then_some(false);
        Some(Entry {
            reason: Some(reason),
            response,
            upstream_contacted: contacted,
            ..Entry::plain(kind, decision, message)
        })
    }

    /// What the client reads before the connection is closed; nothing where it has read enough, or
    /// where PostgreSQL says nothing.
    #[must_use]
    pub fn complaint(&self, receipt: Option<&Receipt>) -> Option<Complaint> {
        let reason = self.reason()?;
        let words = match self {
            Self::ClientLeft | Self::Handshake | Self::ServerRefused(_) => return None,
            Self::Refused(refusal) => return refusal.complaint(receipt),
            Self::Full => "sorry, too many clients already",
            Self::FullForPrincipal => "too many connections for this principal",
            Self::TimedOut => {
                let words = "canceling authentication due to timeout";
                return Some(Complaint::of_postgres("57014", words).as_fatal());
            }
            Self::Unrecorded => {
                "the audit log of this gate cannot be written, so nothing is let through"
            }
            Self::ServerDown => "the database behind this gate cannot be reached",
            Self::Violation(violation) => {
                let words = violation.to_string();
                return Some(Complaint::fault(reason, &words, receipt).as_fatal());
            }
            Self::Method => {
                "the server offers only authentication methods that are bound to its own connection and do not pass this gate"
            }
            Self::CatalogUnread => {
                "the gate could not read the catalog of this database, and without it no name can be judged"
            }
            Self::BindingCut => {
                "this gate cannot pass on channel binding, and the server refuses a login that was made without it"
            }
            Self::ClientBinding => "SCRAM channel binding does not hold",
            Self::WrongPassword(user) => {
                let words = format!("password authentication failed for user \"{user}\"");
                let complaint = Complaint::fault(reason, &words, receipt).as_fatal();
                return Some(complaint.with_hint(OWN_USERS));
            }
            Self::GateRefused(_) => "the gate cannot log in to the database behind it",
            Self::Untrusted(_) => "the gate does not trust the database behind it with its login",
            Self::NoRandomness => "the gate has no random bytes to log anybody in with",
            Self::Unpinned(_) => "the gate refuses a database session that is not read-only",
            Self::Powers(_) => "this role holds powers that the gate does not accept",
            Self::ClientSearchPath | Self::RoleSearchPath => {
                "search_path names pg_catalog, but not first"
            }
        };
        let complaint = Complaint::fault(reason, words, receipt).as_fatal();
        Some(match self {
            Self::ClientSearchPath | Self::RoleSearchPath => complaint.with_hint(CATALOG_FIRST),
            Self::ClientBinding => complaint.with_hint(CHECK_CERTIFICATE),
            Self::Untrusted(_) => complaint.with_hint(TELL_OPERATOR),
            _ => complaint,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Dismissal;
    use crate::audit::event::{Decision, Kind};
    use crate::policy::reason::Reason;
    use crate::postgres::frame::ProtocolViolation;

    #[test]
    fn the_server_s_own_refusal_is_logged_with_its_code_and_not_worded_again() {
        let refused = Dismissal::ServerRefused("28P01".to_owned());
        let entry = refused.entry("refused").expect("logged");

        assert_eq!((entry.kind, entry.decision), (Kind::SessionAuth, Decision::Error));
        assert_eq!(entry.reason, Some(Reason::AuthFailed));
        assert_eq!(entry.response.map(|response| response.sqlstate), Some("28P01"));
        assert!(refused.complaint(None).is_none());
    }

    #[test]
    fn the_client_reads_which_limit_it_met() {
        let states = [
            (Dismissal::Full, "53300"),
            (Dismissal::ServerDown, "57P03"),
            (Dismissal::Unrecorded, "58030"),
            (Dismissal::TimedOut, "57014"),
            (Dismissal::ClientSearchPath, "22023"),
            (Dismissal::Powers("superuser".to_owned()), "28000"),
            (Dismissal::Violation(ProtocolViolation::BadLength), "08P01"),
        ];
        for (dismissal, sqlstate) in states {
            let complaint = dismissal.complaint(None).expect("worded");
            assert_eq!(complaint.sqlstate(), sqlstate, "{dismissal}");
        }
    }

    #[test]
    fn a_client_that_left_is_neither_logged_nor_answered() {
        assert!(Dismissal::ClientLeft.entry("").is_none());
        assert!(Dismissal::ClientLeft.complaint(None).is_none());
    }
}
