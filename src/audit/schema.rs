//! The JSON schema of a line: every field there is, and no other.
//!
//! Made from the types that lines are made of. It is committed (policy/audit-event.schema.json) for
//! those who read the log elsewhere; a test holds the two together, and every line of a test run
//! against this table.

use serde_json::{Map, Value, json};

use crate::audit::event::{AuthMethod, Decision, Kind, TxState};

/// What a field holds.
#[derive(Clone, Copy)]
enum Shape {
    Bool,
    /// A code in lower case: the list of reasons is in SECURITY.md and grows.
    Code,
    Text,
    Texts,
    /// A whole number that is not negative.
    Whole,
    /// One of these.
    Word(fn() -> Vec<&'static str>),
}

/// On which lines a field stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Always,
    /// Where its subject exists.
    Sometimes,
}

use Presence::{Always, Sometimes};
use Shape::{Bool, Code, Text, Texts, Whole, Word};

/// A path, or what is left of it, and what stands there.
type Field<'a> = (&'a str, Shape, Presence);

/// Every field by its path.
const FIELDS: &[Field<'static>] = &[
    ("v", Whole, Always),
    ("seq", Whole, Always),
    ("time", Text, Always),
    ("id", Text, Always),
    ("kind", Word(kinds), Always),
    ("decision", Word(decisions), Always),
    ("reason", Code, Always),
    ("severity", Word(severities), Always),
    ("message", Text, Always),
    ("gate.name", Text, Always),
    ("gate.version", Text, Always),
    ("gate.instance", Text, Always),
    ("policy.id", Text, Always),
    ("policy.name", Text, Sometimes),
    ("policy.rule", Text, Sometimes),
    ("session.id", Text, Sometimes),
    ("session.statement", Whole, Sometimes),
    ("actor.user", Text, Sometimes),
    ("actor.method", Word(methods), Sometimes),
    ("actor.credential", Text, Sometimes),
    ("actor.app", Text, Sometimes),
    ("client.address", Text, Sometimes),
    ("client.port", Whole, Sometimes),
    ("client.tls.version", Text, Sometimes),
    ("client.tls.cipher", Text, Sometimes),
    ("client.tls.alpn", Text, Sometimes),
    ("client.tls.cert_sha256", Text, Sometimes),
    ("server.address", Text, Sometimes),
    ("server.port", Whole, Sometimes),
    ("server.name", Text, Sometimes),
    ("server.tls.version", Text, Sometimes),
    ("server.tls.verified", Bool, Sometimes),
    ("db.system.name", Text, Sometimes),
    ("db.namespace", Text, Sometimes),
    ("db.user", Text, Sometimes),
    ("db.message", Text, Sometimes),
    ("db.query.text", Text, Sometimes),
    ("db.query.summary", Text, Sometimes),
    ("db.query.fingerprint", Text, Sometimes),
    ("db.query.bytes", Whole, Sometimes),
    ("db.query.truncated", Bool, Sometimes),
    ("db.operation.name", Text, Sometimes),
    ("db.statements", Whole, Sometimes),
    ("db.collections", Texts, Sometimes),
    ("db.collections_more", Whole, Sometimes),
    ("db.functions", Texts, Sometimes),
    ("db.functions_more", Whole, Sometimes),
    ("db.tx", Word(transactions), Sometimes),
    ("db.response.status_code", Text, Sometimes),
    ("db.response.returned_rows", Whole, Sometimes),
    ("http.request.method", Text, Sometimes),
    ("http.request.body.size", Whole, Sometimes),
    ("http.route", Text, Sometimes),
    ("http.response.status_code", Whole, Sometimes),
    ("http.response.body.size", Whole, Sometimes),
    ("url.path", Text, Sometimes),
    ("url.query", Text, Sometimes),
    ("jira.operation", Text, Sometimes),
    ("jira.project", Text, Sometimes),
    ("jira.issue", Text, Sometimes),
    ("mcp.method", Text, Sometimes),
    ("mcp.tool", Text, Sometimes),
    ("mcp.session", Text, Sometimes),
    ("upstream.contacted", Bool, Sometimes),
    ("upstream.gate_action", Text, Sometimes),
    ("timing.decide_ns", Whole, Sometimes),
    ("timing.total_us", Whole, Sometimes),
    ("bytes.in", Whole, Sometimes),
    ("bytes.out", Whole, Sometimes),
    ("trace.id", Text, Sometimes),
    ("span.id", Text, Sometimes),
];

/// Words for what this version does not write yet and readers should know.
const COMING_KINDS: [&str; 11] = [
    "admin.action",
    "audit.checkpoint",
    "audit.sink_down",
    "audit.sink_up",
    "gate.degraded",
    "http.protocol_violation",
    "http.request",
    "http.response",
    "mcp.call",
    "mcp.protocol_violation",
    "policy.rejected",
];

fn sorted(words: impl IntoIterator<Item = &'static str>) -> Vec<&'static str> {
    let mut words: Vec<&'static str> = words.into_iter().collect();
    words.sort_unstable();
    words.dedup();
    words
}

fn kinds() -> Vec<&'static str> {
    sorted(Kind::ALL.iter().map(|kind| kind.code()).chain(COMING_KINDS))
}

fn decisions() -> Vec<&'static str> {
    sorted(Decision::ALL.iter().map(|decision| decision.code()).chain(["observe"]))
}

fn severities() -> Vec<&'static str> {
    vec!["info", "low", "medium", "high", "critical"]
}

fn methods() -> Vec<&'static str> {
    sorted(AuthMethod::ALL.iter().map(|method| method.code()).chain([
        "mcp_oauth",
        "spiffe",
        "token",
    ]))
}

fn transactions() -> Vec<&'static str> {
    sorted(TxState::ALL.iter().map(|state| state.code()))
}

/// The schema as JSON (draft 2020-12).
#[must_use]
pub fn json_schema() -> Value {
    let mut root = object(FIELDS.iter().copied());
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
        root.insert("title".to_owned(), "A line of rowarden's audit log".into());
        // A denial says whether anything of it was sent: nothing. A statement that met its limit had
        // been sent, and was then stopped on the server.
        let stopped = json!({
            "properties": {
                "kind": { "const": "limit.hit" },
                "upstream": {
                    "properties": { "gate_action": { "const": "cancel" } },
                    "required": ["gate_action"],
                },
            },
            "required": ["upstream"],
        });
        let denied = json!({ "properties": { "decision": { "const": "deny" } }, "not": stopped });
        root.insert("if".to_owned(), denied);
        let contacted =
            json!({ "properties": { "contacted": { "const": false } }, "required": ["contacted"] });
        root.insert(
            "then".to_owned(),
            json!({ "properties": { "upstream": contacted }, "required": ["upstream"] }),
        );
    }
    root
}

fn object<'a>(fields: impl Iterator<Item = Field<'a>>) -> Value {
    let mut groups: Vec<(&str, Vec<Field<'a>>)> = Vec::new();
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (path, shape, presence) in fields {
        let (key, rest) =
            path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
        if presence == Always && !required.contains(&key) {
            required.push(key);
        }
        match (rest, groups.iter_mut().find(|(group, _)| *group == key)) {
            (None, _) => {
                properties.insert(key.to_owned(), value(shape));
            }
            (Some(rest), Some((_, group))) => group.push((rest, shape, presence)),
            (Some(rest), None) => groups.push((key, vec![(rest, shape, presence)])),
        }
    }
    for (key, group) in groups {
        properties.insert(key.to_owned(), object(group.into_iter()));
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn value(shape: Shape) -> Value {
    match shape {
        Bool => json!({ "type": "boolean" }),
        Code => json!({ "type": "string", "pattern": "^[a-z][a-z-]*$" }),
        Text => json!({ "type": "string" }),
        Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Whole => json!({ "type": "integer", "minimum": 0 }),
        Word(words) => json!({ "enum": words() }),
    }
}

/// What is wrong with a line by this schema; `None` if nothing is.
#[must_use]
pub fn fault_of(line: &Value) -> Option<String> {
    let missing = FIELDS.iter().find(|(path, _, presence)| {
        *presence == Always && path.split('.').try_fold(line, |at, key| at.get(key)).is_none()
    });
    if let Some((path, ..)) = missing {
        return Some(format!("`{path}` is missing"));
    }
    let contacted = line.get("upstream").and_then(|upstream| upstream.get("contacted"));
    let denied = line.get("decision").is_some_and(|decision| decision == "deny");
    // A statement that met its limit had been sent, and was then stopped on the server.
    let action = line.get("upstream").and_then(|upstream| upstream.get("gate_action"));
    let stopped = line.get("kind").is_some_and(|kind| kind == "limit.hit")
        && action.is_some_and(|action| action == "cancel");
    if denied && !stopped && contacted != Some(&Value::Bool(false)) {
        return Some("a denial does not say that nothing of it was sent".to_owned());
    }
    fault_in(line, "")
}

fn fault_in(value: &Value, path: &str) -> Option<String> {
    if let Some((_, shape, _)) = FIELDS.iter().find(|(known, ..)| *known == path) {
        return (!fits(value, *shape)).then(|| format!("`{path}` is {value}"));
    }
    let Some(fields) = value.as_object() else { return Some(format!("`{path}` is no field")) };
    fields.iter().find_map(|(key, inner)| {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        fault_in(inner, &path)
    })
}

fn fits(value: &Value, shape: Shape) -> bool {
    match shape {
        Bool => value.is_boolean(),
        Code => value.as_str().is_some_and(is_code),
        Text => value.is_string(),
        Texts => value.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
        Whole => value.is_u64(),
        Word(words) => value.as_str().is_some_and(|word| words().contains(&word)),
    }
}

fn is_code(text: &str) -> bool {
    let is_right = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(is_right)
}
