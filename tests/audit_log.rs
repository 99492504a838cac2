//! The audit log on a real file system: what a restart, a crash, a second process and a full disk
//! make of it.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests are tests, too")]

#[path = "support/disk.rs"]
mod disk;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk::Tmpfs;
use rowarden::audit::event::{
    AuditUnavailable, AuthMethod, Decision, Entry, Kind, Ledger, Query, Response, SessionFacts,
    TxState,
};
use rowarden::audit::log::{AuditLog, AuditSettings, Mode, OpenError};
use rowarden::audit::redact::SqlText;
use rowarden::policy::sql::Digest;
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

fn settings(dir: &Path) -> AuditSettings {
    AuditSettings {
        dir: dir.to_owned(),
        mode: Mode::Written,
        sql: SqlText::Normalized,
        gate_name: "gate".to_owned(),
        policy_id: "sha256:00".to_owned(),
        policy_name: "readonly".to_owned(),
    }
}

fn open(dir: &Path) -> AuditLog {
    AuditLog::open(settings(dir)).unwrap()
}

fn say(log: &AuditLog, message: &str) -> Result<String, AuditUnavailable> {
    log.record(&Entry::plain(Kind::GateStart, Decision::None, message)).map(|receipt| receipt.event)
}

fn facts(user: &str) -> SessionFacts {
    SessionFacts {
        session: Uuid::now_v7(),
        client: Some(([127, 0, 0, 1], 40_000).into()),
        server: "/run/postgresql/.s.PGSQL.5432".to_owned(),
        tls: None,
        principal: Some(user.to_owned()),
        user: Some(user.to_owned()),
        database: Some("app".to_owned()),
        application: None,
        method: AuthMethod::Passthrough,
    }
}

fn segment(dir: &Path, first_seq: u64) -> PathBuf {
    dir.join(format!("audit-{first_seq:020}.jsonl"))
}

/// All lines of the first segment, after a check that they are whole and numbered without a gap.
fn lines(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(segment(dir, 0)).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "torn");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (at, line) in lines.iter().enumerate() {
        assert_eq!(line["seq"], at);
    }
    lines
}

fn why(outcome: Result<AuditLog, OpenError>) -> String {
    outcome.err().expect("the log must not open").to_string()
}

#[test]
fn numbers_go_on_without_a_gap_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let first = open(dir.path());
    let event = say(&first, "one").unwrap();
    say(&first, "two").unwrap();
    drop(first);

    say(&open(dir.path()), "three").unwrap();

    let lines = lines(dir.path());
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["id"], event);
    assert_eq!(lines[2]["message"], "three");
    assert_ne!(lines[0]["gate"]["instance"], lines[2]["gate"]["instance"]);
}

#[test]
fn only_the_owner_can_look_into_the_log() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("a/b");
    let log = open(&dir);

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&segment(&dir, 0)), 0o600);
    drop(log);
}

#[test]
fn a_torn_line_is_cut_off_and_the_cut_is_recorded() {
    let dir = TempDir::new().unwrap();
    say(&open(dir.path()), "whole").unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(segment(dir.path(), 0)).unwrap();
    // Longer than one look backwards.
    file.write_all(&vec![b'x'; 200_000]).unwrap();

    say(&open(dir.path()), "after").unwrap();

    let lines = lines(dir.path());
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["kind"], "gate.crash_recovered");
    assert_eq!(lines[1]["message"], "200000 bytes of a torn line were cut off the log");
}

#[test]
fn a_log_that_is_nothing_but_a_torn_line_begins_anew() {
    let dir = TempDir::new().unwrap();
    fs::write(segment(dir.path(), 0), "{\"v\":1,\"seq\":0").unwrap();

    drop(open(dir.path()));

    assert_eq!(lines(dir.path())[0]["kind"], "gate.crash_recovered");
}

#[test]
fn the_newest_segment_is_written_on() {
    let dir = TempDir::new().unwrap();
    fs::write(segment(dir.path(), 5), "{\"seq\":5}\n{\"seq\":6}\n").unwrap();
    fs::write(segment(dir.path(), 7), "").unwrap();

    say(&open(dir.path()), "seven").unwrap();

    let text = fs::read_to_string(segment(dir.path(), 7)).unwrap();
    assert!(text.starts_with("{\"v\":1,\"seq\":7,"), "{text}");
}

#[test]
fn a_log_that_somebody_has_changed_is_not_opened_and_the_file_is_named() {
    for (files, file, what) in [
        (vec![(0, "{\"seq\":0}\nnonsense\n")], 0, "its last line has no number"),
        (vec![(0, "{\"seq\":1}\n")], 0, "its first line is not number 0"),
        (vec![(4, "{\"seq\":4}\n{\"seq\":3}\n")], 4, "its last line is number 3"),
        (vec![(0, "{\"seq\":0}\n"), (2, "")], 2, "it begins with 2, but 1 comes next"),
        (vec![(0, "{\"seq\":0}\n{"), (1, "")], 0, "its last line has no end"),
    ] {
        let dir = TempDir::new().unwrap();
        for (first_seq, text) in files {
            fs::write(segment(dir.path(), first_seq), text).unwrap();
        }

        let error = why(AuditLog::open(settings(dir.path())));

        let file = segment(dir.path(), file);
        assert_eq!(error, format!("the audit file `{}` is damaged: {what}", file.display()));
    }
}

#[test]
fn a_file_that_is_not_a_log_is_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let text = "a list of ours\nwithout an end";
    fs::write(segment(dir.path(), 0), text).unwrap();

    why(AuditLog::open(settings(dir.path())));

    assert_eq!(fs::read_to_string(segment(dir.path(), 0)).unwrap(), text);
}

#[test]
fn a_file_with_the_name_of_no_segment_is_an_error() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("audit-old.jsonl"), "").unwrap();

    let error = why(AuditLog::open(settings(dir.path())));

    assert!(error.ends_with("is damaged: its name is not that of a segment"), "{error}");
}

#[test]
fn a_second_writer_is_refused_until_the_first_has_gone() {
    let dir = TempDir::new().unwrap();
    let first = open(dir.path());

    let error = why(AuditLog::open(settings(dir.path())));

    let expected = format!("another process writes the audit log in `{}`", dir.path().display());
    assert_eq!(error, expected);
    drop(first);
    open(dir.path());
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_that_names_it() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("file");
    fs::write(&dir, "").unwrap();

    let error = why(AuditLog::open(settings(&dir)));

    assert_eq!(error, format!("the audit log cannot use `{}`", dir.display()));
}

#[test]
fn records_of_eight_threads_stay_whole_and_without_a_gap() {
    let dir = TempDir::new().unwrap();
    let log = Arc::new(open(dir.path()));

    std::thread::scope(|scope| {
        for number in 0..8 {
            let mut ledger = log.session(&facts(&format!("user{number}")));
            scope.spawn(move || {
                for ordinal in 1..=100 {
                    read_once(&mut ledger, ordinal);
                }
            });
        }
    });
    drop(log);

    let lines = lines(dir.path());
    assert_eq!(lines.len(), 1600);
    for number in 0..8 {
        let user = format!("user{number}");
        let own = || lines.iter().filter(|line| line["actor"]["user"] == user);
        assert_eq!(own().filter(|line| line["kind"] == "db.statement").count(), 100);
        let results: Vec<_> = own().filter(|line| line["kind"] == "db.response").collect();
        assert_eq!(results.len(), 100);
        assert!(results.iter().all(|line| line["timing"]["total_us"].is_u64()));
    }
}

fn read_once(ledger: &mut dyn Ledger, ordinal: u64) {
    let digest = Digest { normalized: Some("select $1".to_owned()), ..Digest::default() };
    let query = Query {
        message: 'Q',
        text: Some("select 1"),
        bytes: 8,
        digest: &digest,
        tx: TxState::Idle,
    };
    let decided = Entry {
        statement: ordinal,
        query: Some(query),
        upstream_contacted: Some(true),
        ..Entry::plain(Kind::DbStatement, Decision::Allow, "let through")
    };
    ledger.record(&decided).unwrap();
    ledger.follow_up(&Entry {
        statement: ordinal,
        response: Some(Response { sqlstate: "00000", rows: 1, bytes_out: 30 }),
        ..Entry::plain(Kind::DbResponse, Decision::Allow, "answered")
    });
}

#[test]
fn a_durable_log_reads_like_any() {
    let dir = TempDir::new().unwrap();
    let log = AuditLog::open(AuditSettings { mode: Mode::Durable, ..settings(dir.path()) });

    say(&log.unwrap(), "durable").unwrap();

    assert_eq!(lines(dir.path())[0]["message"], "durable");
}

/// Where nobody may mount, `/dev/full` stands in: it takes no byte, so it shows the refusal but not
/// the recovery. The unit tests of the writer show that without any disk.
#[test]
fn a_full_disk_refuses_what_it_cannot_hold_and_reads_resume_with_space() {
    let Some(disk) = Tmpfs::mount() else {
        let mut full = fs::OpenOptions::new().append(true).open("/dev/full").unwrap();
        assert_eq!(full.write(b"x").unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        return;
    };
    let dir = disk.path().join("audit");
    let log = open(&dir);
    disk.fill();

    let written = (0..1000).take_while(|_| say(&log, "filling").is_ok()).count();

    assert!(written < 1000);
    assert_eq!(lines(&dir).len(), written);
    assert_eq!(say(&log, "refused"), Err(AuditUnavailable));
    disk.free();
    say(&log, "resumed").unwrap();
    drop(log);
    let lines = lines(&dir);
    assert_eq!(lines.len(), written + 2);
    assert_eq!(lines[written]["kind"], "gate.recovered");
    assert_eq!(lines[written + 1]["message"], "resumed");
}
