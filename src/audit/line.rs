//! The exact bytes of a line.
//!
//! A line is made of three parts: a head that only the log can know (sequence number, time, id), a
//! body that says what happened, and in the body what is the same on every line of a session and
//! is therefore rendered once. Keys stand in one fixed order. Written by hand, because a line
//! is made before every statement: a serialiser costs as much as the write itself.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::audit::event::{Decision, Entry, Protocol, Query, Response, SessionFacts};
use crate::audit::http::push_http;
use crate::audit::json::{Json, MAX_NAME_BYTES};
use crate::audit::redact::{Redacted, SqlText, redact};

/// The schema version. Adding a field keeps it; renaming or retyping one raises it.
const VERSION: u64 = 1;

/// Most bytes of a sentence: 1 KiB.
const MAX_SENTENCE_BYTES: usize = 1024;

/// Most bytes of a statement's text: what redaction leaves, and what masking may add to it.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// Who writes the log, and by which policy it judges.
#[derive(Clone, Debug)]
pub struct GateFacts {
    /// The gate's name.
    pub name: String,
    /// One run of the process.
    pub instance: Uuid,
    /// `sha256:` and the hash of the policy in force.
    pub policy_id: String,
    /// The policy's name.
    pub policy_name: String,
}

/// What every line of a session (or of the process) repeats, rendered once.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `gate`, and `policy` without its end.
    gate: Vec<u8>,
    session: Option<SessionPart>,
}

#[derive(Clone, Debug)]
struct SessionPart {
    /// `session` without its end.
    session: Vec<u8>,
    /// The end of `session`, `actor`, `client` and `server`.
    peers: Vec<u8>,
    /// `db` without its end; `None` where HTTP is spoken.
    db: Option<Vec<u8>>,
}

impl Facts {
    /// For what the process itself does.
    #[must_use]
    pub fn of_process(gate: &GateFacts) -> Self {
        let mut bytes = Vec::new();
        let mut json = Json(&mut bytes);
        json.raw(r#","gate":{"name":"#).text(&gate.name, MAX_NAME_BYTES);
        json.raw(r#","version":"#).text(env!("CARGO_PKG_VERSION"), MAX_NAME_BYTES);
        json.raw(r#","instance":"#).uuid(gate.instance);
        json.raw(r#"},"policy":{"id":"#).text(&gate.policy_id, MAX_NAME_BYTES);
        json.raw(r#","name":"#).text(&gate.policy_name, MAX_NAME_BYTES);
        Self { gate: bytes, session: None }
    }

    /// For what happens in a session.
    #[must_use]
    pub fn of_session(gate: &GateFacts, facts: &SessionFacts) -> Self {
        let part = SessionPart {
            session: session_bytes(facts),
            peers: peer_bytes(facts),
            db: (facts.protocol == Protocol::Postgres).then(|| db_bytes(facts)),
        };
        Self { session: Some(part), ..Self::of_process(gate) }
    }
}

fn session_bytes(facts: &SessionFacts) -> Vec<u8> {
    let mut bytes = Vec::new();
    Json(&mut bytes).raw(r#","session":{"id":"#).uuid(facts.session);
    bytes
}

fn peer_bytes(facts: &SessionFacts) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut json = Json(&mut bytes);
    json.raw(r#"},"actor":{"#);
    if let Some(user) = &facts.principal {
        json.raw(r#""user":"#).text(user, MAX_NAME_BYTES).raw(",");
    }
    json.raw(r#""method":"#).text(facts.method.code(), MAX_NAME_BYTES);
    json.name(r#","app":"#, facts.application.as_deref());
    json.raw(r#"},"client":{"address":"#);
    match facts.client {
        Some(peer) => {
            json.text(&peer.ip().to_string(), MAX_NAME_BYTES);
            json.raw(r#","port":"#).number(peer.port().into());
        }
        None => {
            json.raw(r#""[local]""#);
        }
    }
    if let Some(tls) = &facts.tls {
        json.raw(r#","tls":{"version":"#).text(tls.version, MAX_NAME_BYTES);
        json.raw(r#","cipher":"#).text(tls.cipher, MAX_NAME_BYTES);
        json.name(r#","cert_sha256":"#, tls.certificate.as_deref()).raw("}");
    }
    let (address, port) = split_port(&facts.server);
    json.raw(r#"},"server":{"address":"#).text(address, MAX_NAME_BYTES);
    if let Some(port) = port {
        json.raw(r#","port":"#).number(port.into());
    }
    json.raw("}");
    bytes
}

fn db_bytes(facts: &SessionFacts) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut json = Json(&mut bytes);
    json.raw(r#","db":{"system":{"name":"postgresql"}"#);
    json.name(r#","namespace":"#, facts.database.as_deref());
    json.name(r#","user":"#, facts.user.as_deref());
    bytes
}

/// `host:port` and `[::1]:port` taken apart; anything else, as the path of a socket, is all address.
fn split_port(server: &str) -> (&str, Option<u16>) {
    let parts = server
        .rsplit_once(':')
        .and_then(|(host, port)| port.parse::<u16>().ok().map(|port| (host, Some(port))));
    let (host, port) = parts.unwrap_or((server, None));
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    (bare.unwrap_or(host), port)
}

/// The text of the present second, kept because thousands of lines fall into one.
#[derive(Debug, Default)]
pub struct SecondText {
    second: u64,
    text: String,
}

impl SecondText {
    /// `2026-11-24T10:00:00`.
    fn of(&mut self, second: u64) -> &str {
        if self.second != second || self.text.is_empty() {
            let timestamp = i64::try_from(second).ok().map(Timestamp::from_second);
            let timestamp = timestamp.and_then(Result::ok).unwrap_or(Timestamp::MAX);
            self.text = timestamp.to_string();
            self.text.truncate("2026-11-24T10:00:00".len());
            self.second = second;
        }
        &self.text
    }
}

/// Appends what only the log knows. The body goes right behind it.
pub fn push_head(
    seq: u64,
    since_epoch: Duration,
    id: Uuid,
    second: &mut SecondText,
    into: &mut Vec<u8>,
) {
    let mut json = Json(into);
    json.raw(r#"{"v":"#).number(VERSION).raw(r#","seq":"#).number(seq);
    json.raw(r#","time":""#).raw(second.of(since_epoch.as_secs())).raw(".");
    json.micros(since_epoch.subsec_micros()).raw(r#"Z","id":"#).uuid(id);
}

/// Appends what happened, up to the end of the object; `total_us` is what the ledger has measured.
pub fn push_body(
    entry: &Entry<'_>,
    sql: SqlText,
    facts: &Facts,
    total_us: Option<u64>,
    into: &mut Vec<u8>,
) {
    let mut json = Json(into);
    json.raw(r#","kind":""#).raw(entry.kind.code());
    json.raw(r#"","decision":""#).raw(entry.decision.code());
    json.raw(r#"","reason":""#).raw(entry.reason.map_or("ok", |reason| reason.code()));
    json.raw(r#"","severity":""#).raw(severity(entry)).raw(r#"","message":"#);
    json.text(entry.message, MAX_SENTENCE_BYTES).bytes(&facts.gate);
    json.name(r#","rule":"#, entry.rule).raw("}");
    if let Some(part) = &facts.session {
        json.bytes(&part.session);
        if entry.statement > 0 {
            json.raw(r#","statement":"#).number(entry.statement);
        }
        json.bytes(&part.peers);
        if let Some(db) = &part.db {
            push_db(entry, sql, db, &mut json);
        }
    }
    if let Some(request) = &entry.http {
        push_http(request, &mut json);
    }
    push_upstream(entry, &mut json);
    push_timing(entry.decide_ns, total_us, &mut json);
    push_traffic(entry, &mut json);
    json.raw("}");
}

fn severity(entry: &Entry<'_>) -> &'static str {
    match (entry.decision, entry.reason) {
        (Decision::Allow | Decision::None, _) => "info",
        (Decision::Deny | Decision::Error, Some(reason)) => reason.severity(),
        (Decision::Deny | Decision::Error, None) => "low",
    }
}

fn push_db(entry: &Entry<'_>, sql: SqlText, db: &[u8], json: &mut Json<'_>) {
    json.bytes(db);
    if let Some(query) = &entry.query {
        push_query(query, &redact(sql, entry.decision, query), json);
    }
    if let Some(Response { sqlstate, rows, .. }) = &entry.response {
        json.raw(r#","response":{"status_code":"#).text(sqlstate, MAX_NAME_BYTES);
        json.raw(r#","returned_rows":"#).number(*rows).raw("}");
    }
    json.raw("}");
}

fn push_query(query: &Query<'_>, kept: &Redacted<'_>, json: &mut Json<'_>) {
    let digest = query.digest;
    json.raw(r#","message":"#).text(query.message.encode_utf8(&mut [0; 4]), MAX_NAME_BYTES);
    json.raw(r#","query":{"#);
    if let Some(text) = &kept.text {
        json.raw(r#""text":"#).text(text, MAX_TEXT_BYTES).raw(",");
    }
    if !digest.summary.is_empty() {
        json.raw(r#""summary":"#).text(&digest.summary, MAX_SENTENCE_BYTES).raw(",");
    }
    if let Some(fingerprint) = kept.fingerprint {
        json.raw(r#""fingerprint":"#).text(fingerprint, MAX_NAME_BYTES).raw(",");
    }
    json.raw(r#""bytes":"#).count(query.bytes);
    if kept.truncated {
        json.raw(r#","truncated":true"#);
    }
    json.raw("}");
    if !digest.operation.is_empty() {
        json.raw(r#","operation":{"name":"#).text(&digest.operation, MAX_NAME_BYTES).raw("}");
    }
    json.raw(r#","statements":"#).count(digest.statements);
    json.names("collections", &digest.relations);
    json.names("functions", &digest.functions);
    json.raw(r#","tx":""#).raw(query.tx.code()).raw("\"");
}

fn push_upstream(entry: &Entry<'_>, json: &mut Json<'_>) {
    // A denial that does not say so would be a fault of ours; what is known of every denial is
    // that nothing of it was sent.
    let denied = (entry.decision == Decision::Deny).then_some(false);
    let Some(contacted) = entry.upstream_contacted.or(denied) else {
        return;
    };
    json.raw(r#","upstream":{"contacted":"#).raw(if contacted { "true" } else { "false" });
    json.name(r#","gate_action":"#, entry.gate_action).raw("}");
}

fn push_timing(decide_ns: Option<u64>, total_us: Option<u64>, json: &mut Json<'_>) {
    match (decide_ns, total_us) {
        (None, None) => return,
        (Some(decide_ns), None) => json.raw(r#","timing":{"decide_ns":"#).number(decide_ns),
        (None, Some(total_us)) => json.raw(r#","timing":{"total_us":"#).number(total_us),
        (Some(decide_ns), Some(total_us)) => json
            .raw(r#","timing":{"decide_ns":"#)
            .number(decide_ns)
            .raw(r#","total_us":"#)
            .number(total_us),
    };
    json.raw("}");
}

fn push_traffic(entry: &Entry<'_>, json: &mut Json<'_>) {
    if let Some(traffic) = entry.traffic {
        json.raw(r#","bytes":{"in":"#).number(traffic.bytes_in);
        json.raw(r#","out":"#).number(traffic.bytes_out).raw("}");
    } else if let Some(response) = entry.response {
        json.raw(r#","bytes":{"out":"#).number(response.bytes_out).raw("}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::{Facts, GateFacts, SecondText, push_body, push_head, split_port};
    use crate::audit::event::{
        AuthMethod, Decision, Entry, Kind, Protocol, Query, Response, SessionFacts, Traffic,
        TxState,
    };
    use crate::audit::redact::SqlText;
    use crate::policy::reason::Reason;
    use crate::policy::sql::Digest;

    fn gate() -> GateFacts {
        GateFacts {
            name: "reports".to_owned(),
            instance: Uuid::nil(),
            policy_id: "sha256:00".to_owned(),
            policy_name: "readonly".to_owned(),
        }
    }

    fn session(application: &str) -> SessionFacts {
        SessionFacts {
            session: Uuid::max(),
            protocol: Protocol::Postgres,
            client: Some(([127, 0, 0, 1], 40_000).into()),
            server: "db.example:5432".to_owned(),
            tls: None,
            principal: Some("ann".to_owned()),
            user: Some("ann".to_owned()),
            database: Some("app".to_owned()),
            application: Some(application.to_owned()),
            method: AuthMethod::Passthrough,
        }
    }

    fn line(entry: &Entry<'_>, sql: SqlText, facts: &Facts, total_us: Option<u64>) -> String {
        let mut bytes = Vec::new();
        let time = Duration::new(1_795_514_400, 7_008);
        push_head(41, time, Uuid::nil(), &mut SecondText::default(), &mut bytes);
        push_body(entry, sql, facts, total_us, &mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    fn denied<'a>(text: &'a str, digest: &'a Digest) -> Entry<'a> {
        let query =
            Query { message: 'Q', text: Some(text), bytes: text.len(), digest, tx: TxState::Read };
        Entry {
            reason: Some(Reason::SqlWriteStatement),
            rule: Some("statements"),
            statement: 3,
            query: Some(query),
            gate_action: Some("abort"),
            ..Entry::plain(Kind::DbStatement, Decision::Deny, "refused")
        }
    }

    #[test]
    fn a_refused_write_is_written_down_in_full_and_in_this_order() {
        let digest = Digest {
            normalized: Some("delete from t where a = $1".to_owned()),
            fingerprint: "0123456789abcdef".to_owned(),
            operation: "DELETE".to_owned(),
            summary: "DELETE t".to_owned(),
            statements: 1,
            relations: vec!["t".to_owned()],
            functions: Vec::new(),
        };
        let facts = Facts::of_session(&gate(), &session("psql"));

        let written = line(&denied("delete", &digest), SqlText::Normalized, &facts, None);

        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            written,
            [
                r#"{"v":1,"seq":41,"time":"2026-11-24T10:00:00.000007Z","#,
                r#""id":"00000000-0000-0000-0000-000000000000","kind":"db.statement","#,
                r#""decision":"deny","reason":"sql-write-statement","severity":"medium","#,
                r#""message":"refused","gate":{"name":"reports","version":""#,
                version,
                r#"","instance":"00000000-0000-0000-0000-000000000000"},"#,
                r#""policy":{"id":"sha256:00","name":"readonly","rule":"statements"},"#,
                r#""session":{"id":"ffffffff-ffff-ffff-ffff-ffffffffffff","statement":3},"#,
                r#""actor":{"user":"ann","method":"passthrough","app":"psql"},"#,
                r#""client":{"address":"127.0.0.1","port":40000},"#,
                r#""server":{"address":"db.example","port":5432},"#,
                r#""db":{"system":{"name":"postgresql"},"namespace":"app","user":"ann","#,
                r#""message":"Q","query":{"text":"delete from t where a = $1","#,
                r#""summary":"DELETE t","fingerprint":"0123456789abcdef","bytes":6},"#,
                r#""operation":{"name":"DELETE"},"statements":1,"collections":["t"],"#,
                r#""tx":"read"},"upstream":{"contacted":false,"gate_action":"abort"}}"#,
            ]
            .concat()
        );
    }

    #[test]
    fn a_result_says_rows_status_time_and_bytes() {
        let entry = Entry {
            statement: 3,
            response: Some(Response { sqlstate: "00000", rows: 2, bytes_out: 99 }),
            ..Entry::plain(Kind::DbResponse, Decision::Allow, "answered")
        };
        let facts = Facts::of_session(&gate(), &session("psql"));

        let written: Value =
            serde_json::from_str(&line(&entry, SqlText::Off, &facts, Some(812))).unwrap();

        assert_eq!(
            written["db"]["response"],
            json!({ "status_code": "00000", "returned_rows": 2 })
        );
        assert_eq!(written["timing"], json!({ "total_us": 812 }));
        assert_eq!(written["bytes"], json!({ "out": 99 }));
        assert_eq!(written["reason"], "ok");
        assert_eq!(written["severity"], "info");
    }

    #[test]
    fn a_line_of_the_process_speaks_of_no_session() {
        let entry = Entry {
            traffic: Some(Traffic { bytes_in: 1, bytes_out: 2 }),
            ..Entry::plain(Kind::GateStop, Decision::None, "stopped")
        };

        let written: Value =
            serde_json::from_str(&line(&entry, SqlText::Off, &Facts::of_process(&gate()), None))
                .unwrap();

        for absent in ["session", "actor", "client", "server", "db", "upstream", "timing"] {
            assert_eq!(written.get(absent), None, "{absent}");
        }
        assert_eq!(written["bytes"], json!({ "in": 1, "out": 2 }));
        assert_eq!(written["policy"], json!({ "id": "sha256:00", "name": "readonly" }));
    }

    #[test]
    fn nothing_that_a_client_sends_can_end_a_line_or_move_a_cursor() {
        let hostile = "a\nb\r\x1b[2Jc\u{9b}2J\u{2028}\u{2029}\u{202e}\"\\\0\x7f é € \u{1f980}";
        let digest = Digest::default();
        let facts = Facts::of_session(&gate(), &session(hostile));

        let written = line(&denied(hostile, &digest), SqlText::Full, &facts, None);

        assert!(!written.contains(char::is_control));
        assert!(!written.contains(['\u{2028}', '\u{2029}', '\u{202e}']));
        assert!(written.contains(r"a\u000ab\u000d\u001b[2Jc\u009b2J\u2028\u2029\u202e\"));
        let read: Value = serde_json::from_str(&written).unwrap();
        assert_eq!(read["db"]["query"]["text"], hostile);
        assert_eq!(read["actor"]["app"], hostile);
    }

    #[test]
    fn an_8_mib_literal_and_endless_names_make_a_short_line() {
        let text = format!("select '{}'", "\x1b".repeat(8 << 20));
        let digest = Digest {
            relations: vec!["r".repeat(1 << 20); 70],
            functions: vec!["f".to_owned(); 64],
            ..Digest::default()
        };
        let facts = Facts::of_session(&gate(), &session(&"x".repeat(1 << 20)));

        let written = line(&denied(&text, &digest), SqlText::Full, &facts, None);

        assert!(written.len() < 80_000, "{}", written.len());
        let read: Value = serde_json::from_str(&written).unwrap();
        assert_eq!(read["db"]["query"]["truncated"], true);
        assert_eq!(read["db"]["query"]["bytes"], text.len());
        assert_eq!(read["db"]["collections"].as_array().unwrap().len(), 64);
        assert_eq!(read["db"]["collections_more"], 6);
        assert_eq!(read["db"].get("functions_more"), None);
    }

    #[test]
    fn a_denial_says_that_the_server_saw_nothing_of_it_even_if_the_entry_does_not() {
        let entry = Entry::plain(Kind::SessionOpen, Decision::Deny, "refused");

        let written = line(&entry, SqlText::Off, &Facts::of_process(&gate()), None);

        assert!(written.ends_with(r#","upstream":{"contacted":false}}"#), "{written}");
    }

    #[test]
    fn the_cached_second_follows_the_clock() {
        let mut second = SecondText::default();

        assert_eq!(second.of(0), "1970-01-01T00:00:00");
        assert_eq!(second.of(951_827_696), "2000-02-29T12:34:56");
        assert_eq!(second.of(951_827_697), "2000-02-29T12:34:57");
        assert_eq!(second.of(u64::MAX), "9999-12-30T22:00:00");
    }

    #[test]
    fn a_server_is_an_address_with_a_port_or_a_path() {
        assert_eq!(split_port("db:5432"), ("db", Some(5432)));
        assert_eq!(split_port("[::1]:5432"), ("::1", Some(5432)));
        assert_eq!(split_port("/run/pg/.s.PGSQL.5432"), ("/run/pg/.s.PGSQL.5432", None));
    }

    proptest::proptest! {
        #[test]
        fn any_text_comes_back_from_the_line(text in ".*") {
            let entry = Entry::plain(Kind::GateStart, Decision::None, &text);

            let written = line(&entry, SqlText::Off, &Facts::of_process(&gate()), None);

            proptest::prop_assert!(!written.contains(char::is_control));
            let read: Value = serde_json::from_str(&written).unwrap();
            proptest::prop_assert_eq!(read["message"].as_str(), Some(text.as_str()));
        }
    }
}
