//! From a request to a verdict: path, operation, query, body, in this order.
//!
//! The order is by what must be known first: without a canonical path there is no operation, without
//! an operation nobody knows which parameters and which body it takes. The body comes last so that
//! the caller need not read the body of what is refused.

use crate::policy::jira::body::{self, BodyFault};
use crate::policy::jira::operation::{Class, Operation, ReplyRule};
use crate::policy::jira::query::append_known;
use crate::policy::jira::router::Method;
use crate::policy::jira::table::JiraPolicy;
use crate::policy::jira::target::{Target, TargetFault, push_segment};
use crate::policy::reason::Reason;
use crate::policy::verdict::Cleared;

/// A request of which all but the body has been judged a read.
#[derive(Debug)]
pub struct Routed<'p> {
    operation: &'p Operation,
    method: ReadMethod,
    target: String,
}

/// How a read is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMethod {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
}

impl ReadMethod {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
        }
    }
}

/// What a request may carry behind its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyRule {
    /// One JSON object.
    Json {
        /// Its longest length, in bytes.
        max_bytes: usize,
    },
    /// Nothing.
    None,
}

/// A read, as it is sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JiraRead {
    /// The operation's name.
    pub operation: String,
    /// The method.
    pub method: ReadMethod,
    /// Path and query, written anew from what was judged; without the context path of the site.
    pub target: String,
    /// The judged bytes of a body in JSON.
    pub body: Option<Vec<u8>>,
    /// How the answer is dealt with.
    pub reply: ReplyRule,
}

/// A refusal, with what the client and the auditor need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JiraDenial {
    /// Why.
    pub reason: Reason,
    /// The operation by name, or the method of what has none. Never the client's text.
    pub operation: String,
    /// The rule that decided, as a path: `write`, `groups.dev-status`.
    pub rule: &'static str,
    /// What exactly is wrong, in a sentence.
    pub note: String,
}

impl JiraDenial {
    fn new(
        reason: Reason,
        operation: impl Into<String>,
        rule: &'static str,
        note: impl Into<String>,
    ) -> Self {
        Self { reason, operation: operation.into(), rule, note: note.into() }
    }

    /// The sentence that the client reads.
    #[must_use]
    pub fn message(&self) -> String {
        format!(
            "JIRA modification not permitted. This gate is read-only: it passes known reads and \
             nothing else. Attempted operation: {}",
            self.operation
        )
    }
}

/// Judges all but the body of a request. `target` is the target in origin form, as it came on the wire.
///
/// # Errors
/// The refusal, if it is not a read.
pub fn route<'p>(
    policy: &'p JiraPolicy,
    method: &str,
    target: &[u8],
) -> Result<Routed<'p>, JiraDenial> {
    let (asked, known) = match (method, Method::from_name(method)) {
        ("HEAD", _) => ("HEAD", Method::Get),
        (_, Some(known)) => (known.name(), known),
        (_, None) => return Err(unknown_method(method)),
    };
    let parsed = match Target::parse(target) {
        Ok(parsed) => parsed,
        Err(fault) => return Err(refuse_target(policy, asked, known, target, fault)),
    };
    let Some(operation) = policy.find(known, &parsed.segments) else {
        let note = "No operation of this method and path is known here.";
        let name = format!("{asked} (unknown operation)");
        return Err(JiraDenial::new(Reason::JiraUnknownOperation, name, "operations", note));
    };
    refuse_class(policy, operation)?;
    let method = match (asked, known) {
        ("HEAD", _) => ReadMethod::Head,
        (_, Method::Post) => ReadMethod::Post,
        _ => ReadMethod::Get,
    };
    let mut target = String::with_capacity(target.len() + 16);
    for segment in &parsed.segments {
        target.push('/');
        push_segment(&mut target, segment);
    }
    append_known(&operation.query, &parsed.query, &mut target).map_err(|fault| {
        JiraDenial::new(Reason::JiraQuery, &operation.name, "query", fault.note())
    })?;
    Ok(Routed { operation, method, target })
}

fn unknown_method(method: &str) -> JiraDenial {
    let shown = ["CONNECT", "OPTIONS", "TRACE"].into_iter().find(|known| *known == method);
    let note = "Only GET, HEAD and the POSTs of known reads pass; methods are written in capitals.";
    let name = shown.unwrap_or("(unknown method)");
    JiraDenial::new(Reason::JiraMethod, name, "methods", note)
}

fn refuse_target(
    policy: &JiraPolicy,
    asked: &str,
    known: Method,
    target: &[u8],
    fault: TargetFault,
) -> JiraDenial {
    // Some clients end their DELETEs in a slash. They should read the name of what they asked for.
    if fault == TargetFault::PathSlash
        && let Some(path) = Target::segments_before_slash(target)
        && let Some(operation) = policy.find(known, &path)
        && operation.class == Class::Write
    {
        return refuse_write(operation);
    }
    let name = format!("{asked} (unreadable target)");
    let (reason, rule, note) = match fault {
        TargetFault::Path => (
            Reason::JiraPath,
            "path",
            "The path is not canonical: write it without dot segments, empty segments, `;`, `\\` and \
             needless or odd escapes.",
        ),
        TargetFault::PathSlash => (Reason::JiraPath, "path", "The path must not end in a slash."),
        TargetFault::Query => {
            (Reason::JiraQueryEncoding, "query", "The query is not percent-encoded UTF-8.")
        }
        TargetFault::QueryCount => {
            (Reason::JiraQuery, "query", "No operation has that many parameters.")
        }
        TargetFault::Size => (Reason::JiraTargetSize, "target", "The target is too long."),
    };
    JiraDenial::new(reason, name, rule, note)
}

fn refuse_class(policy: &JiraPolicy, operation: &Operation) -> Result<(), JiraDenial> {
    match operation.class {
        Class::Read => Ok(()),
        Class::Sensitive(group) if policy.is_open(group) => Ok(()),
        Class::Sensitive(group) => {
            let note = format!("It belongs to the group `{}`, which is closed here.", group.name());
            Err(JiraDenial::new(Reason::JiraSensitive, &operation.name, group.rule(), note))
        }
        Class::Write => Err(refuse_write(operation)),
    }
}

fn refuse_write(operation: &Operation) -> JiraDenial {
    let note = "This gate has read-only access to JIRA.";
    JiraDenial::new(Reason::JiraWrite, &operation.name, "write", note)
}

impl Routed<'_> {
    /// The operation's name.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.operation.name
    }

    /// What the request may carry behind its head.
    #[must_use]
    pub fn body_rule(&self) -> BodyRule {
        match self.operation.body {
            Some(_) => BodyRule::Json { max_bytes: body::MAX_BODY_BYTES },
            None => BodyRule::None,
        }
    }

    /// Judges the body and lets the request through. No body is `None`; an empty one is one.
    ///
    /// # Errors
    /// The refusal, if the body is not what the operation takes.
    pub fn clear(
        self,
        body: Option<Vec<u8>>,
        content_type: Option<&str>,
    ) -> Result<Cleared<JiraRead>, JiraDenial> {
        match (&self.operation.body, &body) {
            (None, None) => {}
            (None, Some(_)) => {
                return Err(self.refuse_body(Reason::JiraBody, "This operation takes no body."));
            }
            (Some(_), None) => {
                return Err(self.refuse_body(Reason::JiraBody, "This operation needs a body."));
            }
            (Some(members), Some(bytes)) => {
                body::check(bytes, content_type, members)
                    .map_err(|fault| self.refuse_fault(fault))?;
            }
        }
        Ok(Cleared::grant(self.into_read(body)))
    }

    /// What would be sent on, save the body. For whoever explains; nothing is cleared by it.
    #[must_use]
    pub fn before_body(self) -> JiraRead {
        self.into_read(None)
    }

    fn into_read(self, body: Option<Vec<u8>>) -> JiraRead {
        JiraRead {
            operation: self.operation.name.clone(),
            method: self.method,
            target: self.target,
            body,
            reply: self.operation.reply,
        }
    }

    /// The refusal of a body that was announced, or grew, longer than [`BodyRule::Json`] allows.
    #[must_use]
    pub fn refuse_long_body(&self) -> JiraDenial {
        self.refuse_fault(BodyFault::Size)
    }

    fn refuse_fault(&self, fault: BodyFault) -> JiraDenial {
        match fault {
            BodyFault::Json(what) => {
                self.refuse_body(Reason::JiraBody, format!("The body {what}."))
            }
            BodyFault::Member => self.refuse_body(
                Reason::JiraBody,
                "The body has a member that is not known for this operation.",
            ),
            BodyFault::Size => self.refuse_body(Reason::JiraBodySize, "The body is too long."),
            BodyFault::Type => self
                .refuse_body(Reason::JiraBodyType, "The body must be application/json in UTF-8."),
        }
    }

    fn refuse_body(&self, reason: Reason, note: impl Into<String>) -> JiraDenial {
        JiraDenial::new(reason, &self.operation.name, "body", note)
    }
}

#[cfg(test)]
mod tests {
    use super::{BodyRule, route};
    use crate::policy::jira::table::JiraPolicy;
    use crate::policy::reason::Reason;

    #[test]
    fn a_body_that_is_too_long_is_refused() {
        let policy = JiraPolicy::shipped().unwrap();
        let search = || route(&policy, "POST", b"/rest/api/2/search").unwrap();
        let BodyRule::Json { max_bytes } = search().body_rule() else { panic!("no body") };
        let body = |length: usize| format!("{{\"jql\":\"{}\"}}", "x".repeat(length)).into_bytes();

        let long = search().clear(Some(body(max_bytes)), Some("application/json"));
        let fits = search().clear(Some(body(max_bytes - 10)), Some("application/json"));

        assert_eq!(long.unwrap_err().reason, Reason::JiraBodySize);
        assert_eq!(search().refuse_long_body().reason, Reason::JiraBodySize);
        assert_eq!(fits.unwrap().request().body, Some(body(max_bytes - 10)));
    }

    #[test]
    fn a_target_that_is_too_long_is_refused() {
        let policy = JiraPolicy::shipped().unwrap();
        let target = format!("/rest/api/2/search?jql={}", "x".repeat(8_000));

        let denial = route(&policy, "GET", target.as_bytes()).unwrap_err();

        assert_eq!(denial.reason, Reason::JiraTargetSize);
        assert_eq!(denial.operation, "GET (unreadable target)");
    }

    #[test]
    fn a_write_that_ends_in_a_slash_is_called_by_its_name() {
        let policy = JiraPolicy::shipped().unwrap();

        let denial = route(&policy, "POST", b"/rest/api/2/issue/").unwrap_err();

        assert_eq!((denial.reason, denial.operation.as_str()), (Reason::JiraWrite, "create_issue"));
        assert!(denial.message().ends_with("Attempted operation: create_issue"));
    }
}
