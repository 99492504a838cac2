//! `rowarden audit` on a log with every kind of event (tests/outside/every_kind.jsonl), as people and
//! programs use it.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rowarden::audit::event::{Decision, Entry, Kind};
use rowarden::audit::log::{AuditLog, AuditSettings, Keeping, Mode};
use rowarden::audit::redact::SqlText;
use rowarden::audit::schema;
use serde_json::Value;
use tempfile::TempDir;

const EVERY_KIND: &str = include_str!("outside/every_kind.jsonl");

/// Fields of ECS 8.17 that may be used; from Elastic's published list.
const ECS_FIELDS: [&str; 40] = [
    "@timestamp",
    "destination.address",
    "destination.ip",
    "destination.port",
    "ecs.version",
    "error.code",
    "event.action",
    "event.category",
    "event.dataset",
    "event.duration",
    "event.hash",
    "event.id",
    "event.kind",
    "event.module",
    "event.outcome",
    "event.reason",
    "event.sequence",
    "event.severity",
    "event.type",
    "http.request.method",
    "http.response.status_code",
    "message",
    "observer.name",
    "observer.product",
    "observer.type",
    "observer.version",
    "related.user",
    "rule.id",
    "rule.ruleset",
    "source.address",
    "source.ip",
    "source.port",
    "tls.cipher",
    "tls.version",
    "transaction.id",
    "url.path",
    "url.query",
    "user.name",
    "user_agent.original",
    "user_agent.name",
];

fn log() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("audit-00000000000000000000.jsonl"), EVERY_KIND).unwrap();
    dir
}

fn rowarden(command: &str, dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rowarden"))
        .args(["audit", command, "--dir"])
        .arg(dir)
        .args(arguments)
        .output()
        .unwrap()
}

fn said(command: &str, dir: &Path, arguments: &[&str]) -> String {
    let output = rowarden(command, dir, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_query_prints_the_lines_that_pass_byte_for_byte() {
    let dir = log();

    let found = said("query", dir.path(), &["--json", "decision=deny", "db.operation.name=DELETE"]);

    let expected: String = EVERY_KIND
        .split_inclusive('\n')
        .filter(|line| line.contains(r#""decision":"deny""#) && line.contains(r#""name":"DELETE""#))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(said("query", dir.path(), &["--json"]), EVERY_KIND);
    let all = EVERY_KIND.lines().count();
    assert_eq!(said("query", dir.path(), &["--count"]), format!("{all}\n"));
}

#[test]
fn the_committed_schema_is_that_of_the_lines() {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/policy/audit-event.schema.json");

    let printed = Command::new(env!("CARGO_BIN_EXE_rowarden")).args(["audit", "schema"]).output();

    let printed = String::from_utf8(printed.unwrap().stdout).unwrap();
    let committed = fs::read_to_string(committed).unwrap();
    assert_eq!(committed, printed, "run: rowarden audit schema > policy/audit-event.schema.json");
}

#[test]
fn every_kind_is_valid_and_a_line_with_a_fault_is_not() {
    for line in events(EVERY_KIND) {
        assert_eq!(schema::fault_of(&line), None, "{line}");
    }
    let denied = events(EVERY_KIND).into_iter().find(|line| line["decision"] == "deny").unwrap();
    for (path, value) in [
        ("/seq", Value::from(-1)),
        ("/kind", "db.surprise".into()),
        ("/upstream/contacted", true.into()),
        ("/gate", serde_json::json!({ "name": "x", "version": "y" })),
        ("/policy", serde_json::json!({ "id": "x", "surprise": 1 })),
    ] {
        let mut line = denied.clone();
        *line.pointer_mut(path).unwrap() = value;
        assert!(schema::fault_of(&line).is_some(), "{path}: {line}");
    }
}

#[test]
fn a_query_prints_columns() {
    let dir = log();

    let columns = ["--csv", "--fields", "kind,actor.user", "seq<15", "seq>12"];
    let found = said("query", dir.path(), &columns);

    assert_eq!(found, "kind,actor.user\nsession.open,ann\nsession.open,\n");
}

#[test]
fn a_filter_that_cannot_be_understood_ends_with_64() {
    let dir = log();

    let output = rowarden("query", dir.path(), &["deny"]);

    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`deny` is not a term"));
}

#[test]
fn a_folder_without_a_log_is_an_error_that_names_it() {
    for command in ["query", "report", "tail", "verify"] {
        let output = rowarden(command, Path::new("/nowhere"), &[]);

        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere"), "{command}");
    }
}

#[test]
fn the_tail_shows_the_newest_lines_and_only_refusals_if_asked() {
    let dir = log();

    let newest = said("tail", dir.path(), &["-n", "2"]);
    assert_eq!(newest.lines().count(), 2);
    assert!(newest.ends_with("told\n") && newest.contains("gate.stop"), "{newest}");
    let refused = said("tail", dir.path(), &["-n", "3", "--deny", "--json"]);
    assert_eq!(events(&refused).len(), 3);
    assert!(events(&refused).iter().all(|event| event["decision"] == "deny"));
}

#[test]
fn whoever_follows_sees_lines_as_they_come_also_in_a_new_segment() {
    let dir = tempfile::tempdir().unwrap();
    let keeping = Keeping { segment_bytes: 1, ..Keeping::default() };
    let settings = AuditSettings {
        dir: dir.path().to_owned(),
        mode: Mode::Written,
        sql: SqlText::Normalized,
        gate_name: "gate".to_owned(),
        policy_id: "sha256:00".to_owned(),
        policy_name: "readonly".to_owned(),
        keeping,
    };
    let log = AuditLog::open(settings).unwrap();
    let say = |message: &str| {
        log.record(&Entry::plain(Kind::GateStart, Decision::None, message)).unwrap();
    };
    say("before");
    let mut follower = Command::new(env!("CARGO_BIN_EXE_rowarden"))
        .args(["audit", "tail", "--follow", "--json", "--dir"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["message"], "before");

    // Each line begins a segment within a second; the follower sees every one, in order.
    for number in 0..4 {
        say(&number.to_string());
        let seen = next();
        assert_eq!(seen["seq"], number + 1);
        assert_eq!(seen["message"], number.to_string());
    }

    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn every_kind_is_exported_in_every_format_as_one_line() {
    let dir = log();
    for format in ["ocsf", "ecs", "cef", "otlp"] {
        let exported = said("export", dir.path(), &["--format", format]);

        assert_eq!(exported.lines().count(), EVERY_KIND.lines().count(), "{format}");
    }
}

#[test]
fn ecs_is_made_of_fields_of_ecs() {
    let dir = log();

    let exported = said("export", dir.path(), &["--format", "ecs"]);

    for event in events(&exported) {
        let mut paths = Vec::new();
        collect_paths(&event, "", &mut paths);
        for path in paths {
            let known = ECS_FIELDS.contains(&path.as_str()) || path.starts_with("rowarden.");
            assert!(known, "`{path}` is no field of ECS: {event}");
        }
    }
}

fn collect_paths(value: &Value, path: &str, into: &mut Vec<String>) {
    match value.as_object() {
        None => into.push(path.to_owned()),
        Some(fields) => {
            for (key, inner) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect_paths(inner, &path, into);
            }
        }
    }
}

#[test]
fn ocsf_says_of_a_refused_delete_that_it_was_blocked() {
    let dir = log();

    let arguments = ["--format", "ocsf", "db.operation.name=DELETE", "decision=deny"];
    let exported = events(&said("export", dir.path(), &arguments));

    assert_eq!(exported.len(), 1);
    let event = &exported[0];
    assert_eq!((&event["class_uid"], &event["activity_id"]), (&6005.into(), &7.into()));
    assert_eq!((&event["action_id"], &event["disposition_id"]), (&2.into(), &2.into()));
    assert_eq!(event["status_detail"], "sql-write-statement");
    assert_eq!(event["firewall_rule"]["uid"], "statements");
}

#[test]
fn cef_has_one_meaning_however_the_values_look() {
    let dir = log();

    let exported = said("export", dir.path(), &["--format", "cef", "kind=db.protocol_violation"]);

    assert!(
        exported.starts_with(
            "CEF:0|rowarden|rowarden|0.1.0|db.protocol_violation|told in two lines|8|"
        )
    );
    let exported = said("export", dir.path(), &["--format", "cef", "db.operation.name=DELETE"]);
    assert!(exported.contains(r"msg=delete from orders where note \= $1"), "{exported}");
}

#[test]
fn the_report_is_a_page_in_each_form() {
    let dir = log();

    let html = said("report", dir.path(), &["--format", "html"]);
    assert!(html.starts_with("<!DOCTYPE html>") && html.contains("sql-write-statement"));
    assert!(html.contains("NOT VERIFIED"), "a log without its key is not verified");
    let markdown = said("report", dir.path(), &[]);
    assert!(markdown.starts_with("# Audit report") && markdown.contains("| ann |"), "{markdown}");
    let json: Value =
        serde_json::from_str(&said("report", dir.path(), &["--format", "json"])).unwrap();
    assert!(json["tables"].is_array());
}
