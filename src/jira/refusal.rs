//! What a refused client reads: one JSON object for people, for programs and for JIRA's own client
//! libraries, which show `errorMessages`.

use serde::Serialize;

use crate::jira::framing::FramingFault;
use crate::policy::jira::judge::JiraDenial;
use crate::policy::reason::Reason;

/// Whether the connection may carry another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It ends with this answer: nobody can be sure where the next request begins.
    Close,
    /// It goes on.
    Keep,
}

/// A request that goes no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The HTTP status (RFC 9110 section 15): that of the reason, or a narrower one.
    pub status: u16,
    /// The operation by its name, or the method of what has none. Never the client's text.
    pub operation: String,
    /// The rule that decided.
    pub rule: &'static str,
    /// What exactly is wrong, in a sentence.
    pub note: String,
    /// What becomes of the connection.
    pub connection: Connection,
    /// After how many seconds it may be tried again.
    pub retry_after: Option<u64>,
}

/// The object that the client reads (DESIGN of refusals: one for every front).
#[derive(Serialize)]
struct Body<'a> {
    error: &'static str,
    message: &'a str,
    operation: &'a str,
    reason: &'static str,
    event: Option<&'a str>,
    hint: &'static str,
    note: &'a str,
    #[serde(rename = "errorMessages")]
    error_messages: [&'a str; 1],
    errors: Empty,
}

#[derive(Serialize)]
struct Empty {}

impl Refusal {
    /// A refusal by the road itself, before or after the judge.
    #[must_use]
    pub fn new(reason: Reason, rule: &'static str, note: impl Into<String>) -> Self {
        Self {
            reason,
            status: reason.http_status(),
            operation: "(unknown)".to_owned(),
            rule,
            note: note.into(),
            connection: Connection::Keep,
            retry_after: None,
        }
    }

    /// With another status than that of the reason.
    #[must_use]
    pub const fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Of this operation.
    #[must_use]
    pub fn of(mut self, operation: &str) -> Self {
        operation.clone_into(&mut self.operation);
        self
    }

    /// As the last answer on its connection.
    #[must_use]
    pub const fn closing(mut self) -> Self {
        self.connection = Connection::Close;
        self
    }

    /// To be tried again after so many seconds.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The sentence that says that nothing was done, and of what.
    #[must_use]
    pub fn message(&self) -> String {
        let what = match self.reason {
            Reason::AuditUnavailable | Reason::Internal => "Nothing was sent to JIRA.",
            Reason::AuthFailed => "This gate does not know you.",
            Reason::LimitConnections | Reason::LimitRate | Reason::LimitRefusals => {
                "A limit of this gate is met."
            }
            Reason::UpstreamAnswer | Reason::UpstreamDown | Reason::UpstreamTimeout => {
                "JIRA did not answer as it should."
            }
            _ => {
                "JIRA modification not permitted. This gate is read-only: it passes known reads and nothing else."
            }
        };
        format!("{what} Attempted operation: {}", self.operation)
    }

    /// The body of the answer. `event` is the number of the line in the audit log; there is none
    /// when the log could not be written.
    #[must_use]
    pub fn body(&self, event: Option<&str>) -> Vec<u8> {
        let message = self.message();
        let body = Body {
            error: "SECURITY_VIOLATION",
            message: &message,
            operation: &self.operation,
            reason: self.reason.code(),
            event,
            hint: self.reason.hint(),
            note: &self.note,
            error_messages: [&message],
            errors: Empty {},
        };
        // Nothing in it can fail to be written; an empty answer would still be a refusal.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

impl From<JiraDenial> for Refusal {
    fn from(denial: JiraDenial) -> Self {
        let status = denial.reason.http_status();
        Self {
            reason: denial.reason,
            status,
            operation: denial.operation,
            rule: denial.rule,
            note: denial.note,
            connection: Connection::Keep,
            retry_after: None,
        }
    }
}

impl From<FramingFault> for Refusal {
    fn from(fault: FramingFault) -> Self {
        let status = match fault {
            FramingFault::HeadTooLarge => 431,
            FramingFault::BodyTooSlow | FramingFault::HeadTooSlow => 408,
            FramingFault::RequestLineTooLong => 414,
            FramingFault::TransferEncoding => 501,
            FramingFault::Version => 505,
            FramingFault::BodyTooShort
            | FramingFault::Chunk
            | FramingFault::Field
            | FramingFault::Length
            | FramingFault::LineEnd
            | FramingFault::RequestLine
            | FramingFault::Target => 400,
        };
        let note = format!("The request cannot be read in one way only: {fault}.");
        Self::new(Reason::HttpFraming, "framing", note)
            .with_status(status)
            .of("(unreadable request)")
            .closing()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Connection, Refusal};
    use crate::jira::framing::FramingFault;
    use crate::policy::jira::judge::route;
    use crate::policy::jira::table::JiraPolicy;

    #[test]
    fn a_refused_write_is_told_by_name_in_words_that_jira_clients_show() {
        let policy = JiraPolicy::shipped().unwrap();
        let refusal = Refusal::from(route(&policy, "POST", b"/rest/api/2/issue").unwrap_err());

        let body: Value = serde_json::from_slice(&refusal.body(Some("0197"))).unwrap();

        assert_eq!(refusal.status, 403);
        assert_eq!(body["error"], "SECURITY_VIOLATION");
        assert_eq!(body["operation"], "create_issue");
        assert_eq!(body["reason"], "jira-write");
        assert_eq!(body["event"], "0197");
        assert_eq!(body["errorMessages"], json!([body["message"]]));
        assert_eq!(body["errors"], json!({}));
        let message = body["message"].as_str().unwrap();
        assert!(message.starts_with("JIRA modification not permitted."), "{message}");
        assert!(message.ends_with("Attempted operation: create_issue"), "{message}");
    }

    #[test]
    fn a_request_that_can_be_read_in_two_ways_ends_its_connection() {
        let refusal = Refusal::from(FramingFault::Length);

        assert_eq!((refusal.status, refusal.connection), (400, Connection::Close));
    }
}
