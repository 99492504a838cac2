//! Elastic Common Schema 8. What has no place there stands under `rowarden`, as in the line.

use serde_json::{Value, json};

use crate::audit::export::{Event, Object};

/// Fields of ours and where they go.
const FIELDS: [(&str, &str); 21] = [
    ("message", "message"),
    ("id", "event.id"),
    ("seq", "event.sequence"),
    ("kind", "event.action"),
    ("reason", "event.reason"),
    ("policy.rule", "rule.id"),
    ("policy.id", "rule.ruleset"),
    ("actor.user", "user.name"),
    ("actor.app", "user_agent.original"),
    ("client.address", "source.address"),
    ("client.port", "source.port"),
    ("client.tls.version", "tls.version"),
    ("client.tls.cipher", "tls.cipher"),
    ("server.address", "destination.address"),
    ("server.port", "destination.port"),
    ("db.response.status_code", "error.code"),
    ("http.request.method", "http.request.method"),
    ("http.response.status_code", "http.response.status_code"),
    ("url.path", "url.path"),
    ("url.query", "url.query"),
    ("session.id", "transaction.id"),
];

pub(super) fn export(event: &Event<'_>) -> Value {
    let mut ecs = Object::default();
    ecs.set_some("@timestamp", event.text("time")).set("ecs.version", "8.17.0");
    for (from, to) in FIELDS {
        ecs.set_some(to, event.get(from).cloned());
    }
    if event.text("db.response.status_code") == Some("00000") {
        ecs.0.remove("error");
    }
    for (from, to) in [("client.address", "source.ip"), ("server.address", "destination.ip")] {
        let address = event.text(from);
        ecs.set_some(to, address.filter(|text| text.parse::<std::net::IpAddr>().is_ok()));
    }
    ecs.set("event.kind", if event.severity() >= 2 { "alert" } else { "event" });
    ecs.set("event.category", categories(event)).set("event.type", types(event));
    ecs.set("event.outcome", if event.succeeded() { "success" } else { "failure" });
    ecs.set("event.severity", u64::from(event.severity()));
    ecs.set("event.module", "rowarden").set("event.dataset", "rowarden.audit");
    ecs.set("event.hash", event.leaf.as_str());
    let nanos = event.number("timing.total_us").map(|micros| micros.saturating_mul(1000));
    ecs.set_some("event.duration", nanos);
    ecs.set("observer.product", "rowarden").set("observer.type", "proxy");
    ecs.set_some("observer.name", event.text("gate.name"));
    ecs.set_some("observer.version", event.text("gate.version"));
    let related = ["actor.user", "db.user"].iter().filter_map(|path| event.text(path));
    let mut related: Vec<&str> = related.collect();
    related.dedup();
    if !related.is_empty() {
        ecs.set("related.user", json!(related));
    }
    for path in ["decision", "db", "jira", "mcp", "upstream", "bytes"] {
        ecs.set_some(&format!("rowarden.{path}"), event.get(path).cloned());
    }
    ecs.into_value()
}

fn categories(event: &Event<'_>) -> Value {
    match event.kind().split_once('.') {
        Some(("db", _)) => json!(["database"]),
        Some(("http" | "mcp", "protocol_violation")) => json!(["network", "web"]),
        Some(("http" | "mcp", _)) => json!(["web", "api"]),
        Some(("session", "auth")) => json!(["authentication"]),
        Some(("session", _)) => json!(["session"]),
        _ => json!(["configuration", "process"]),
    }
}

fn types(event: &Event<'_>) -> Value {
    match (event.kind(), event.decision()) {
        (_, "deny") => json!(["access", "denied"]),
        ("session.open" | "session.auth" | "gate.start", _) => json!(["start"]),
        ("session.close" | "gate.stop", _) => json!(["end"]),
        (_, "allow") => json!(["access", "allowed"]),
        (_, "error") => json!(["error"]),
        _ => json!(["info"]),
    }
}
