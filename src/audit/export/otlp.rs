//! OTLP/HTTP in JSON: what is sent to `/v1/logs`, one request with one record a line. Fields whose
//! path is a stable name of OpenTelemetry keep it; ours begin with `gate`.

use serde_json::{Value, json};

use crate::audit::export::Event;

/// The beginnings of paths that are OpenTelemetry's.
const SEMANTIC: [&str; 12] = [
    "client.address",
    "client.port",
    "db.namespace",
    "db.operation.name",
    "db.query.summary",
    "db.query.text",
    "db.response.returned_rows",
    "db.response.status_code",
    "db.system.name",
    "http.",
    "server.",
    "url.",
];

/// What stands in the record itself.
const ELSEWHERE: [&str; 5] = ["message", "time", "v", "trace.id", "span.id"];

pub(super) fn export(event: &Event<'_>) -> Value {
    let mut attributes = Vec::new();
    flatten(event.fields, "", &mut attributes);
    let nanos = event.time().map_or(0, jiff::Timestamp::as_nanosecond).to_string();
    let (number, text) = match event.severity() {
        0 => (9, "INFO"),
        1 => (10, "INFO2"),
        2 => (13, "WARN"),
        3 => (17, "ERROR"),
        _ => (21, "FATAL"),
    };
    let mut record = json!({
        "timeUnixNano": nanos,
        "observedTimeUnixNano": nanos,
        "severityNumber": number,
        "severityText": text,
        "eventName": format!("gate.{}", event.kind()),
        "body": { "stringValue": event.text("message").unwrap_or_default() },
        "attributes": attributes,
    });
    for (path, key) in [("trace.id", "traceId"), ("span.id", "spanId")] {
        if let (Some(id), Some(record)) = (event.text(path), record.as_object_mut()) {
            record.insert(key.to_owned(), id.into());
        }
    }
    let service = [("service.name", "rowarden"), ("service.version", version(event))];
    let service = service.map(|(key, value)| attribute(key, &Value::from(value)));
    json!({ "resourceLogs": [{
        "resource": { "attributes": service },
        "scopeLogs": [{ "scope": { "name": "rowarden.audit" }, "logRecords": [record] }],
    }]})
}

fn version<'a>(event: &Event<'a>) -> &'a str {
    event.text("gate.version").unwrap_or_default()
}

/// One attribute for each value, under its path.
fn flatten(value: &Value, path: &str, into: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(inner, &path, into);
            }
        }
        _ if ELSEWHERE.contains(&path) => {}
        leaf => into.push(attribute(&name(path), leaf)),
    }
}

fn name(path: &str) -> String {
    match path {
        "actor.user" => "user.name".to_owned(),
        "actor.app" => "user_agent.original".to_owned(),
        _ if SEMANTIC.iter().any(|name| path.starts_with(name)) => path.to_owned(),
        _ if path.starts_with("gate.") => path.to_owned(),
        _ => format!("gate.{path}"),
    }
}

fn attribute(key: &str, value: &Value) -> Value {
    json!({ "key": key, "value": any_value(value) })
}

/// Whole numbers are texts in OTLP's JSON: they have 64 bits, and JSON's numbers have not.
fn any_value(value: &Value) -> Value {
    match value {
        Value::Bool(truth) => json!({ "boolValue": truth }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        Value::Array(items) => {
            let items: Vec<Value> = items.iter().map(any_value).collect();
            json!({ "arrayValue": { "values": items } })
        }
        Value::String(text) => json!({ "stringValue": text }),
        other => json!({ "stringValue": other.to_string() }),
    }
}
