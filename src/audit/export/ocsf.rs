//! OCSF 1.8.0. What has no place there stands under `unmapped`, as in the line.

use serde_json::{Value, json};

use crate::audit::export::{Event, Object};

/// A class with the activities that we know of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    ApiActivity = 6003,
    ApplicationLifecycle = 6002,
    Authentication = 3002,
    DatastoreActivity = 6005,
    HttpActivity = 4002,
}

const OTHER: u64 = 99;

impl Class {
    fn of(kind: &str) -> Self {
        match kind {
            "session.auth" | "session.close" => Self::Authentication,
            "session.open" => Self::DatastoreActivity,
            "http.protocol_violation" => Self::HttpActivity,
            _ if kind.starts_with("db.") => Self::DatastoreActivity,
            _ if kind.starts_with("http.") || kind.starts_with("mcp.") => Self::ApiActivity,
            _ => Self::ApplicationLifecycle,
        }
    }

    fn activity(self, event: &Event<'_>) -> u64 {
        match self {
            Self::ApiActivity => match event.text("http.request.method") {
                Some("GET" | "HEAD" | "OPTIONS") => 2,
                Some("POST") if event.decision() == "allow" => 2,
                Some("POST") => 1,
                Some("PUT" | "PATCH") => 3,
                Some("DELETE") => 4,
                _ => OTHER,
            },
            Self::ApplicationLifecycle => match event.kind() {
                "gate.start" => 3,
                "gate.stop" => 4,
                "policy.loaded" | "cert.reloaded" => 8,
                _ => OTHER,
            },
            Self::Authentication => {
                if event.kind() == "session.auth" {
                    1
                } else {
                    2
                }
            }
            Self::DatastoreActivity => match (event.kind(), event.text("db.operation.name")) {
                ("session.open", _) => 3,
                ("db.statement" | "db.response", Some(operation)) => attempted(operation),
                ("db.statement" | "db.response", None) => 4,
                _ => OTHER,
            },
            Self::HttpActivity => OTHER,
        }
    }
}

/// What a statement would have done.
fn attempted(operation: &str) -> u64 {
    match operation.split(' ').next().unwrap_or_default() {
        "SELECT" | "SHOW" | "TABLE" | "VALUES" => 1,
        "UPDATE" | "MERGE" => 2,
        "INSERT" | "COPY" => 5,
        "CREATE" => 6,
        "DELETE" | "DROP" | "TRUNCATE" => 7,
        _ => 4,
    }
}

pub(super) fn export(event: &Event<'_>) -> Value {
    let class = Class::of(event.kind());
    let mut ocsf = Object::default();
    set_base(event, class, &mut ocsf);
    set_control(event, &mut ocsf);
    match class {
        Class::ApiActivity => set_api(event, &mut ocsf),
        Class::ApplicationLifecycle => {
            ocsf.set("app", json!({ "name": "rowarden", "vendor_name": "rowarden" }));
        }
        Class::Authentication => {
            let name = event.text("actor.user").unwrap_or("(unknown)");
            ocsf.set("user.name", name);
            ocsf.set_some("session.uid", event.text("session.id"));
            ocsf.set("service.name", event.text("db.namespace").unwrap_or("rowarden"));
        }
        Class::DatastoreActivity => set_datastore(event, &mut ocsf),
        Class::HttpActivity => {
            let method = event.text("http.request.method").unwrap_or("(unknown)");
            ocsf.set("http_request.http_method", method);
        }
    }
    if !matches!(class, Class::ApplicationLifecycle) {
        set_peers(event, class, &mut ocsf);
    }
    ocsf.into_value()
}

fn set_base(event: &Event<'_>, class: Class, ocsf: &mut Object) {
    let class_uid = class as u64;
    let activity = class.activity(event);
    let time = event.time().map_or(0, jiff::Timestamp::as_millisecond);
    ocsf.set("class_uid", class_uid).set("category_uid", class_uid / 1000);
    ocsf.set("activity_id", activity).set("type_uid", class_uid * 100 + activity);
    ocsf.set("time", time).set("severity_id", u64::from(event.severity()) + 1);
    ocsf.set_some("message", event.text("message"));
    ocsf.set("metadata.version", "1.8.0").set("metadata.profiles", json!(["security_control"]));
    ocsf.set("metadata.product.name", "rowarden").set("metadata.product.vendor_name", "rowarden");
    ocsf.set_some("metadata.product.version", event.text("gate.version"));
    ocsf.set_some("metadata.uid", event.text("id"));
    ocsf.set_some("metadata.sequence", event.number("seq"));
    ocsf.set_some("metadata.correlation_uid", event.text("session.id"));
    ocsf.set("status_id", if event.succeeded() { 1 } else { 2 });
    ocsf.set_some("status_detail", event.text("reason"));
    let status = event.text("db.response.status_code").map(str::to_owned);
    let http_status = event.number("http.response.status_code").map(|code| code.to_string());
    ocsf.set_some("status_code", status.or(http_status));
    ocsf.set_some("duration", event.number("timing.total_us").map(|micros| micros / 1000));
    let leaf = json!({ "algorithm_id": OTHER, "algorithm": "RFC 6962 leaf", "value": event.leaf });
    ocsf.set("raw_data_hash", leaf);
    let mut unmapped = Object::default();
    for path in
        ["kind", "decision", "gate", "actor", "client", "db", "http", "mcp", "upstream", "bytes"]
    {
        unmapped.set_some(path, event.get(path).cloned());
    }
    ocsf.set("unmapped", unmapped.into_value());
}

/// The profile `security_control`.
fn set_control(event: &Event<'_>, ocsf: &mut Object) {
    let ids = match event.decision() {
        "allow" => Some((1, 1)),
        "deny" => Some((2, 2)),
        "observe" => Some((3, 17)),
        _ => None,
    };
    if let Some((action, disposition)) = ids {
        ocsf.set("action_id", action).set("disposition_id", disposition);
    }
    ocsf.set_some("policy.uid", event.text("policy.id"));
    ocsf.set_some("policy.name", event.text("policy.name"));
    ocsf.set("policy.is_applied", true);
    ocsf.set_some("firewall_rule.uid", event.text("policy.rule"));
}

fn set_datastore(event: &Event<'_>, ocsf: &mut Object) {
    let name = event.text("db.namespace").unwrap_or("(unknown)");
    ocsf.set("database", json!({ "name": name, "type_id": 1 }));
    if let Some(statement) = event.statement() {
        ocsf.set("query_info.query_string", statement);
        // One of the two must be there.
        match event.text("db.query.fingerprint") {
            Some(fingerprint) => ocsf.set("query_info.uid", fingerprint),
            None => ocsf.set("query_info.name", event.kind()),
        };
        ocsf.set_some("query_info.bytes", event.number("db.query.bytes"));
    }
}

fn set_api(event: &Event<'_>, ocsf: &mut Object) {
    let names = ["jira.operation", "mcp.tool", "mcp.method", "kind"];
    let operation = names.iter().find_map(|name| event.text(name)).unwrap_or_default();
    ocsf.set("api.operation", operation);
    ocsf.set_some("http_request.http_method", event.text("http.request.method"));
    ocsf.set_some("http_request.url.path", event.text("url.path"));
    ocsf.set_some("http_response.code", event.number("http.response.status_code"));
}

fn set_peers(event: &Event<'_>, class: Class, ocsf: &mut Object) {
    if class != Class::HttpActivity {
        match event.text("actor.user") {
            Some(user) => ocsf.set("actor.user.name", user),
            None => ocsf.set("actor.app_name", event.text("actor.app").unwrap_or("(unknown)")),
        };
    }
    set_endpoint(event, "client", "src_endpoint", ocsf);
    if event.get("server").is_some() {
        set_endpoint(event, "server", "dst_endpoint", ocsf);
    }
}

/// An address, or the name of what has none.
fn set_endpoint(event: &Event<'_>, from: &str, to: &str, ocsf: &mut Object) {
    let address = event.text(&format!("{from}.address")).unwrap_or("(unknown)");
    let is_ip = address.parse::<std::net::IpAddr>().is_ok();
    ocsf.set(&format!("{to}.{}", if is_ip { "ip" } else { "name" }), address);
    ocsf.set_some(&format!("{to}.port"), event.number(&format!("{from}.port")));
}
