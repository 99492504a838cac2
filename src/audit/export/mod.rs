//! The formats of others, each a pure function of the line: what a collector gets can be made again
//! from the log at any time, and nothing is in it that is not in the log.

mod cef;
mod ecs;
mod ocsf;
mod otlp;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::audit::merkle::leaf_hash;

/// Whose format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ArcSight Common Event Format, version 0.
    Cef,
    /// Elastic Common Schema 8.
    Ecs,
    /// Open Cybersecurity Schema Framework 1.8.0.
    Ocsf,
    /// One OTLP/HTTP JSON request with one log record.
    Otlp,
}

/// A line in a format; `None` if it is no line of a log.
#[must_use]
pub fn export(line: &[u8], format: Format) -> Option<String> {
    let event: Value = serde_json::from_slice(line).ok()?;
    let event = Event { fields: &event, leaf: hex(&leaf_hash(line)) };
    event.time()?;
    Some(match format {
        Format::Cef => cef::export(&event),
        Format::Ecs => ecs::export(&event).to_string(),
        Format::Ocsf => ocsf::export(&event).to_string(),
        Format::Otlp => otlp::export(&event).to_string(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A line, by the paths of its fields.
struct Event<'a> {
    fields: &'a Value,
    /// Its leaf in the tree of the log, in hex.
    leaf: String,
}

impl<'a> Event<'a> {
    fn get(&self, path: &str) -> Option<&'a Value> {
        path.split('.').try_fold(self.fields, |value, key| value.get(key))
    }

    fn text(&self, path: &str) -> Option<&'a str> {
        self.get(path)?.as_str()
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.get(path)?.as_u64()
    }

    fn time(&self) -> Option<Timestamp> {
        self.text("time")?.parse().ok()
    }

    fn kind(&self) -> &'a str {
        self.text("kind").unwrap_or_default()
    }

    fn decision(&self) -> &'a str {
        self.text("decision").unwrap_or_default()
    }

    /// 0 for what is only told, to 4 for what somebody must act on.
    fn severity(&self) -> u8 {
        match self.text("severity") {
            Some("low") => 1,
            Some("medium") => 2,
            Some("high") => 3,
            Some("critical") => 4,
            _ => 0,
        }
    }

    /// Whether what was attempted came about.
    fn succeeded(&self) -> bool {
        let is_refused = matches!(self.decision(), "deny" | "error");
        let sqlstate = self.text("db.response.status_code");
        let status = self.number("http.response.status_code");
        !is_refused
            && sqlstate.is_none_or(|code| code == "00000")
            && status.is_none_or(|status| status < 400)
    }

    /// What is kept of the statement: its text, or else what it is about.
    fn statement(&self) -> Option<&'a str> {
        let places = ["db.query.text", "db.query.summary", "db.operation.name"];
        self.get("db.query")?;
        Some(places.iter().find_map(|place| self.text(place)).unwrap_or("(not kept)"))
    }
}

/// An object that leaves out what is not there.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    /// Sets a field that may be inside others: `a.b`.
    fn set(&mut self, path: &str, value: impl Into<Value>) -> &mut Self {
        let mut place = &mut self.0;
        let mut keys = path.split('.').peekable();
        while let Some(key) = keys.next() {
            if keys.peek().is_none() {
                place.insert(key.to_owned(), value.into());
                break;
            }
            let inner = place.entry(key).or_insert_with(|| json!({}));
            match inner.as_object_mut() {
                Some(object) => place = object,
                None => break,
            }
        }
        self
    }

    fn set_some(&mut self, path: &str, value: Option<impl Into<Value>>) -> &mut Self {
        match value {
            Some(value) => self.set(path, value),
            None => self,
        }
    }

    fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}
