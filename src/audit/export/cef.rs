//! ArcSight's Common Event Format, version 0: one line of `key=value`.

use crate::audit::export::Event;

/// Keys of the dictionary and the fields behind them.
const FIELDS: [(&str, &str); 15] = [
    ("externalId", "id"),
    ("act", "decision"),
    ("reason", "reason"),
    ("suser", "actor.user"),
    ("duser", "db.user"),
    ("src", "client.address"),
    ("spt", "client.port"),
    ("dhost", "server.address"),
    ("dpt", "server.port"),
    ("requestMethod", "http.request.method"),
    ("request", "url.path"),
    ("requestClientApplication", "actor.app"),
    ("in", "bytes.in"),
    ("out", "bytes.out"),
    ("outcome", "db.response.status_code"),
];

/// Custom texts: key, label, field.
const CUSTOM: [(&str, &str, &str); 5] = [
    ("cs1", "policy", "policy.id"),
    ("cs2", "database", "db.namespace"),
    ("cs3", "fingerprint", "db.query.fingerprint"),
    ("cs4", "operation", "db.operation.name"),
    ("cs5", "session", "session.id"),
];

pub(super) fn export(event: &Event<'_>) -> String {
    let version = event.text("gate.version").unwrap_or_default();
    let name = event.text("message").unwrap_or_default();
    // 0 to 10 in the steps that CEF calls low, medium, high and very high.
    let severity = [0, 3, 5, 8, 10].get(usize::from(event.severity())).copied().unwrap_or(10);
    let mut line = format!(
        "CEF:0|rowarden|rowarden|{}|{}|{}|{severity}|",
        header(version),
        header(event.kind()),
        header(name)
    );
    let millis = event.time().map_or(0, jiff::Timestamp::as_millisecond);
    push(&mut line, "rt", &millis.to_string());
    for (key, path) in FIELDS {
        push_field(&mut line, key, event, path);
    }
    for (key, label, path) in CUSTOM {
        if event.get(path).is_some() {
            push_field(&mut line, key, event, path);
            push(&mut line, &format!("{key}Label"), label);
        }
    }
    for (key, label, path) in
        [("cn1", "returned_rows", "db.response.returned_rows"), ("cn2", "seq", "seq")]
    {
        if event.get(path).is_some() {
            push_field(&mut line, key, event, path);
            push(&mut line, &format!("{key}Label"), label);
        }
    }
    if let Some(statement) = event.statement() {
        push(&mut line, "msg", statement);
    }
    line.truncate(line.trim_end().len());
    line
}

fn push_field(line: &mut String, key: &str, event: &Event<'_>, path: &str) {
    // `src` is an address; what comes over a unix socket has none.
    let is_address = key != "src" || event.text(path).is_some_and(|text| !text.starts_with('['));
    match event.get(path) {
        Some(serde_json::Value::String(text)) if is_address => push(line, key, text),
        Some(number @ serde_json::Value::Number(_)) => push(line, key, &number.to_string()),
        _ => {}
    }
}

fn push(line: &mut String, key: &str, value: &str) {
    line.push_str(key);
    line.push('=');
    for character in value.chars() {
        match character {
            '\\' | '=' => line.extend(['\\', character]),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            other => line.push(other),
        }
    }
    line.push(' ');
}

/// A header field: a bar ends it, and it has no lines.
fn header(value: &str) -> String {
    let value = value.replace(['\n', '\r'], " ");
    value.replace('\\', "\\\\").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::header;

    #[test]
    fn no_text_ends_a_header_field() {
        assert_eq!(header("a|b\\c\nd"), "a\\|b\\\\c d");
    }
}
