//! The half of the tour that goes to JIRA: reads that must be answered as without a gate, and writes
//! that must not arrive.
//!
//! The attacker holds what a client of the gate holds. The proof is the site's own count of changes.

use std::io;
use std::net::SocketAddr;

use serde_json::Value;

use crate::demo::jira::JiraSite;
use crate::demo::jira::client::{HttpAnswer, send};
use crate::demo::tour::jira_attacks::{JIRA_ATTACKS, JIRA_READS};
use crate::demo::tour::{Layer, Trail, TrailLine};

/// A request of the tour.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest {
    /// What it shows or attempts.
    pub title: &'static str,
    /// Method and target.
    pub line: &'static str,
    /// Header lines besides the usual ones, each with its end.
    pub headers: &'static str,
    /// The body.
    pub body: &'static str,
}

impl HttpRequest {
    /// The bytes on the wire.
    fn bytes(&self, host: SocketAddr, token: &str) -> Vec<u8> {
        let Self { line, headers, body, .. } = self;
        let closes = if headers.contains("Connection:") { "" } else { "Connection: close\r\n" };
        let typed = if headers.contains("Content-Type:") || body.is_empty() {
            ""
        } else {
            "Content-Type: application/json\r\n"
        };
        // What is smuggled wants a host and a credential, too.
        let body = body.replace("{host}", &host.to_string()).replace("{token}", token);
        let length = if body.is_empty() || headers.contains("Transfer-Encoding:") {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{closes}{typed}{headers}{length}\r\n{body}"
        )
        .into_bytes()
    }
}

/// How a read ended.
#[derive(Clone, Debug)]
pub struct HttpReadOutcome {
    /// Which.
    pub read: &'static HttpRequest,
    /// How long the answer was, in bytes.
    pub bytes: usize,
    /// What differs from the answer of the site itself, if anything.
    pub difference: Option<String>,
}

/// How an attack ended.
#[derive(Clone, Debug)]
pub struct HttpAttackOutcome {
    /// Which.
    pub attack: &'static HttpRequest,
    /// Who stopped it. What the site itself answers is an open door, whatever it says.
    pub layer: Layer,
    /// The operation that the refusal names.
    pub operation: String,
    /// How many changes arrived at the site.
    pub arrived: u64,
    /// The line in the audit log that tells of it.
    pub line: Option<TrailLine>,
}

impl HttpAttackOutcome {
    /// Whether the gate kept every promise.
    #[must_use]
    pub fn held(&self) -> bool {
        let Layer::Gate { reason, .. } = &self.layer else { return false };
        let is_right = |line: &TrailLine| line.decision == "deny" && line.reason == *reason;
        self.arrived == 0 && self.line.as_ref().is_some_and(is_right)
    }
}

/// What the tour found at JIRA.
#[derive(Clone, Debug)]
pub struct JiraReport {
    /// The reads.
    pub reads: Vec<HttpReadOutcome>,
    /// The attacks.
    pub attacks: Vec<HttpAttackOutcome>,
}

impl JiraReport {
    /// Whether every read was answered as without a gate, every attack stopped and written down, and
    /// nothing arrived.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.reads.iter().all(|read| read.difference.is_none())
            && self.attacks.iter().all(HttpAttackOutcome::held)
    }
}

/// Where the tour goes.
pub struct JiraTour<'a> {
    /// The site.
    pub site: &'a JiraSite,
    /// The credential that the site takes.
    pub site_token: &'a str,
    /// The gate and what it takes from clients; `None` for the control, which goes to the site itself.
    pub gate: Option<(SocketAddr, &'a str)>,
    /// The gate's audit log.
    pub trail: Option<Trail>,
}

impl JiraTour<'_> {
    /// Walks it.
    ///
    /// # Errors
    /// When a connection breaks.
    pub fn walk(&self) -> io::Result<JiraReport> {
        let reads = JIRA_READS.iter().map(|read| self.read(read)).collect::<io::Result<_>>()?;
        let attacks =
            JIRA_ATTACKS.iter().map(|attack| self.attack(attack)).collect::<io::Result<_>>()?;
        Ok(JiraReport { reads, attacks })
    }

    fn place(&self) -> (SocketAddr, &str) {
        self.gate.unwrap_or((self.site.address(), self.site_token))
    }

    fn read(&self, read: &'static HttpRequest) -> io::Result<HttpReadOutcome> {
        let (address, token) = self.place();
        let seen = send(address, &read.bytes(address, token))?;
        let direct = self.site.address();
        let expected = send(direct, &read.bytes(direct, self.site_token))?;
        // The gate's own address stands where the site would write its own, or clients would go around
        // it with what they hold.
        let at_the_gate = expected.body.replace(self.site.url(), &format!("http://{address}"));
        let same = seen.status == expected.status && seen.body == at_the_gate;
        let difference = (!same).then(|| differs(&seen));
        Ok(HttpReadOutcome { read, bytes: seen.body.len(), difference })
    }

    fn attack(&self, attack: &'static HttpRequest) -> io::Result<HttpAttackOutcome> {
        if self.gate.is_none() {
            self.site.restore();
        }
        let (address, token) = self.place();
        let before = self.site.writes();
        let answer = send(address, &attack.bytes(address, token))?;
        let arrived = self.site.writes() - before;
        let (layer, operation) = layer_of(&answer);
        let line = match (&layer, &self.trail) {
            (Layer::Gate { event, .. }, Some(trail)) => trail.find(event),
            _ => None,
        };
        Ok(HttpAttackOutcome { attack, layer, operation, arrived, line })
    }
}

/// The gate's refusals say so: `{"error":"SECURITY_VIOLATION",…}`. Everything else is the site's.
fn layer_of(answer: &HttpAnswer) -> (Layer, String) {
    let object: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    if text("error") == "SECURITY_VIOLATION" && answer.status >= 400 {
        return (Layer::Gate { reason: text("reason"), event: text("event") }, text("operation"));
    }
    (Layer::Open, String::new())
}

fn differs(seen: &HttpAnswer) -> String {
    match layer_of(seen).0 {
        Layer::Gate { reason, .. } => format!("refused: {reason}"),
        _ => format!("another answer than the site's own ({})", seen.status),
    }
}

#[cfg(test)]
mod tests {
    use super::layer_of;
    use crate::demo::jira::client::HttpAnswer;
    use crate::demo::tour::Layer;

    #[test]
    fn a_refusal_of_the_site_is_not_taken_for_the_gates() {
        let answer = |body: &str| HttpAnswer { status: 403, body: body.to_owned() };

        assert_eq!(layer_of(&answer("{\"errorMessages\":[\"no\"]}")).0, Layer::Open);
        let gate = answer(
            "{\"error\":\"SECURITY_VIOLATION\",\"reason\":\"jira-write\",\"event\":\"1\",\"operation\":\"x\"}",
        );
        let expected = Layer::Gate { reason: "jira-write".to_owned(), event: "1".to_owned() };
        assert_eq!(layer_of(&gate), (expected, "x".to_owned()));
    }
}
