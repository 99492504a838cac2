//! A line for people: when, what was decided, why, who, and about what.

use serde_json::Value;

use crate::cli::report::Colours;

/// Shows a line; one that is none is shown as it stands.
pub(super) fn show(line: &[u8], colours: Colours) -> String {
    let Ok(event) = serde_json::from_slice::<Value>(line) else {
        return String::from_utf8_lossy(line).into_owned();
    };
    let text = |path: &str| field(&event, path);
    let decision = text("decision");
    let reason = text("reason");
    let reason = if reason == "ok" { String::new() } else { reason };
    let who = [text("actor.user"), text("db.namespace")].join("@");
    let who = who.trim_matches('@');
    format!(
        "{} {} {:<24} {:<28} {:<20} {}",
        text("time"),
        painted(&decision, colours),
        text("kind"),
        reason,
        who,
        about(&event)
    )
}

/// A field by its path, as text; empty if it is not there.
pub(super) fn field(event: &Value, path: &str) -> String {
    match path.split('.').try_fold(event, |value, key| value.get(key)) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// What it is about: the statement, the request, how it ended, or the sentence.
fn about(event: &Value) -> String {
    let response = field(event, "db.response.status_code");
    if !response.is_empty() {
        let rows = field(event, "db.response.returned_rows");
        return format!("{response}, {rows} rows, {} us", field(event, "timing.total_us"));
    }
    let places = ["db.query.text", "db.query.summary", "jira.operation", "url.path", "message"];
    let found = places.iter().map(|place| field(event, place)).find(|text| !text.is_empty());
    found.unwrap_or_default()
}

fn painted(decision: &str, colours: Colours) -> String {
    let word = format!("{decision:<5}");
    let colour = match decision {
        "allow" => "32",
        "deny" => "1;31",
        "error" => "33",
        _ => "2",
    };
    match colours {
        Colours::On => format!("\u{1b}[{colour}m{word}\u{1b}[0m"),
        Colours::Off => word,
    }
}
