//! The audit log on a real file system: what a restart, a crash, a second process and a full disk
//! make of it.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rowarden::audit::event::{
    AuditUnavailable, AuthMethod, Decision, Entry, Kind, Ledger, Protocol, Query, Response,
    SessionFacts, TxState,
};
use rowarden::audit::keys;
use rowarden::audit::log::{AuditLog, AuditSettings, Keeping, Mode, OnLoss, OpenError};
use rowarden::audit::redact::SqlText;
use rowarden::audit::schema;
use rowarden::audit::verify::{self, Broken, Whole};
use rowarden::policy::sql::Digest;
use serde_json::Value;
use support::disk::Tmpfs;
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
        keeping: Keeping::default(),
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
        protocol: Protocol::Postgres,
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
        assert_eq!(schema::fault_of(line), None, "{line}");
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
    drop(open(dir.path()));
    fs::write(segment(dir.path(), 0), "{\"v\":1,\"seq\":0").unwrap();

    drop(open(dir.path()));

    assert_eq!(lines(dir.path())[0]["kind"], "gate.crash_recovered");
}

#[test]
fn a_log_that_somebody_has_changed_is_not_opened_and_the_file_is_named() {
    for (files, file, what) in [
        (vec![(0, "{\"v\":1,\"seq\":0,}\nnonsense\n")], 0, "it has no line 1"),
        (vec![(0, "{\"v\":1,\"seq\":1,}\n")], 0, "it has no line 0"),
        (vec![(0, "{\"v\":1,\"seq\":0,}\n"), (2, "")], 2, "it begins with 2, but 1 comes next"),
        (vec![(4, "{\"v\":1,\"seq\":4,}\n")], 4, "no checkpoint says what stood before it"),
        (vec![(0, "{\"v\":1,\"seq\":0,}\n{"), (1, "")], 1, "the line before it has no end"),
    ] {
        let dir = TempDir::new().unwrap();
        keys::make(dir.path()).unwrap();
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
    keys::make(dir.path()).unwrap();

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

fn verified(dir: &Path) -> Result<Whole, Broken> {
    verify::verify(dir, &keys::verifier(dir).unwrap(), None, |_| ())
}

/// A log of so many lines, closed.
fn log_of(lines: usize) -> TempDir {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    for number in 0..lines {
        say(&log, &number.to_string()).unwrap();
    }
    dir
}

fn accepting_loss(dir: &Path) -> AuditSettings {
    let keeping = Keeping { on_loss: OnLoss::Accept, ..Keeping::default() };
    AuditSettings { keeping, ..settings(dir) }
}

fn cut_to(dir: &Path, lines: usize) {
    let text = fs::read_to_string(segment(dir, 0)).unwrap();
    let kept: String = text.split_inclusive('\n').take(lines).collect();
    fs::write(segment(dir, 0), kept).unwrap();
}

#[test]
fn a_closed_log_is_signed_for_to_its_end() {
    let dir = log_of(7);

    let whole = verified(dir.path()).unwrap();

    assert_eq!((whole.first, whole.next, whole.signed), (0, 7, 7));
}

#[test]
fn the_private_key_is_the_owner_s_alone() {
    let dir = log_of(1);
    let key = dir.path().join("checkpoint.key");

    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = why(AuditLog::open(settings(dir.path())));
    assert!(error.contains("can be read by others"), "{error}");
}

#[test]
fn a_log_whose_key_is_gone_gets_no_new_one() {
    let dir = log_of(1);
    fs::remove_file(dir.path().join("checkpoint.key")).unwrap();

    let error = why(AuditLog::open(settings(dir.path())));

    assert!(error.starts_with("the key `"), "{error}");
}

#[test]
fn a_log_shorter_than_its_checkpoint_starts_only_if_the_loss_is_accepted() {
    let dir = log_of(9);
    cut_to(dir.path(), 4);

    let error = why(AuditLog::open(settings(dir.path())));
    assert!(
        error.contains("it ends before line 4, but its checkpoint has seen 9 lines"),
        "{error}"
    );
    assert!(error.contains("--accept-loss"), "{error}");
    assert!(matches!(verified(dir.path()), Err(Broken::Short { found: 4, signed: 9 })));
    say(&AuditLog::open(accepting_loss(dir.path())).unwrap(), "after").unwrap();

    let text = fs::read_to_string(segment(dir.path(), 9)).unwrap();
    let after: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&after[0]["kind"], &after[0]["seq"]), (&"audit.gap".into(), &9.into()));
    assert_eq!(after[1]["message"], "after");
    assert!(matches!(verified(dir.path()), Err(Broken::Gap { from: 4, to: 8 })));
    open(dir.path());
}

#[test]
fn a_log_without_its_checkpoint_starts_only_if_the_loss_is_accepted() {
    let dir = log_of(2);
    for name in ["checkpoint", "checkpoint.tree"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }

    let error = why(AuditLog::open(settings(dir.path())));

    assert!(error.contains("its checkpoint is missing"), "{error}");
    drop(AuditLog::open(accepting_loss(dir.path())).unwrap());
    assert_eq!(lines(dir.path())[2]["kind"], "audit.gap");
    assert!(verified(dir.path()).is_ok());
}

#[test]
fn a_changed_line_is_found_on_start_and_by_verification() {
    let dir = log_of(5);
    let text = fs::read_to_string(segment(dir.path(), 0)).unwrap();
    fs::write(segment(dir.path(), 0), text.replace("\"message\":\"2\"", "\"message\":\"3\""))
        .unwrap();

    let error = why(AuditLog::open(settings(dir.path())));

    assert!(error.ends_with("its lines are not those that its checkpoint has seen"), "{error}");
    assert!(matches!(verified(dir.path()), Err(Broken::Changed { from: 0, to: 4 })));
}

#[test]
fn an_old_checkpoint_put_back_does_not_hide_what_another_place_has_kept() {
    let dir = log_of(3);
    let key = keys::verifier(dir.path()).unwrap();
    let kept_here = fs::read_to_string(dir.path().join("checkpoint")).unwrap();
    let tree = fs::read_to_string(dir.path().join("checkpoint.tree")).unwrap();
    let log = open(dir.path());
    say(&log, "three").unwrap();
    drop(log);
    let elsewhere = verify::checkpoint(dir.path(), &key).unwrap();
    fs::write(dir.path().join("checkpoint"), kept_here).unwrap();
    fs::write(dir.path().join("checkpoint.tree"), tree).unwrap();
    cut_to(dir.path(), 3);

    assert!(verified(dir.path()).is_ok(), "the files alone cannot tell");
    let against = verify::verify(dir.path(), &key, Some(&elsewhere), |_| ());
    assert!(matches!(against, Err(Broken::Short { found: 3, signed: 4 })));
}

#[test]
fn a_line_is_proved_by_its_number() {
    let dir = log_of(6);
    let key = keys::verifier(dir.path()).unwrap();

    let proof = verify::prove(dir.path(), &key, 4).unwrap();

    assert!(proof.starts_with("c2sp.org/tlog-proof@v1\nextra "), "{proof}");
    assert!(proof.ends_with(&fs::read_to_string(dir.path().join("checkpoint")).unwrap()));
    assert!(matches!(verify::prove(dir.path(), &key, 6), Err(Broken::NoProof { seq: 6, .. })));
}

/// Small segments, closed at once.
fn rotating(dir: &Path, max_bytes: Option<u64>) -> AuditSettings {
    let keeping = Keeping { segment_bytes: 1, max_bytes, ..Keeping::default() };
    AuditSettings { keeping, ..settings(dir) }
}

fn names(dir: &Path, end: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let names = entries.map(|name| name.into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(end)).collect();
    names.sort();
    names
}

/// Records until there are so many closed segments, on disk as they will stay.
fn fill_segments(log: &AuditLog, dir: &Path, closed: usize) {
    let mut number = 0;
    support::wait_for("closed segments", || {
        say(log, &number.to_string()).unwrap();
        number += 1;
        (names(dir, ".zst").len() >= closed).then_some(())
    });
}

#[test]
fn closed_segments_are_compressed_and_the_log_is_one_as_before() {
    let dir = TempDir::new().unwrap();
    let log = AuditLog::open(rotating(dir.path(), None)).unwrap();
    fill_segments(&log, dir.path(), 2);
    drop(log);

    let whole = verified(dir.path()).unwrap();

    assert_eq!(whole.first, 0);
    assert!(whole.checkpoints >= 3, "{whole:?}");
    let key = keys::verifier(dir.path()).unwrap();
    for seq in [0, whole.next - 1] {
        assert!(verify::prove(dir.path(), &key, seq).is_ok(), "{seq}");
    }
    say(&open(dir.path()), "after a restart").unwrap();
    assert_eq!(verified(dir.path()).unwrap().next, whole.next + 1);
}

#[test]
fn beyond_its_bound_the_oldest_lines_go_and_the_rest_verifies() {
    let dir = TempDir::new().unwrap();
    let log = AuditLog::open(rotating(dir.path(), Some(1))).unwrap();
    let first = segment(dir.path(), 0);
    support::wait_for("the first segment goes", || {
        say(&log, "filling").unwrap();
        (!first.exists() && !names(dir.path(), ".checkpoint").is_empty()).then_some(())
    });
    drop(log);

    let whole = support::wait_for("a log without its oldest lines", || {
        say(&AuditLog::open(rotating(dir.path(), Some(1))).unwrap(), "more").unwrap();
        let whole = verified(dir.path()).unwrap();
        (whole.first > 0).then_some(whole)
    });

    assert!(whole.next > whole.first);
    let key = keys::verifier(dir.path()).unwrap();
    assert!(verify::prove(dir.path(), &key, whole.first).is_ok());
    assert!(matches!(verify::prove(dir.path(), &key, 0), Err(Broken::NoProof { .. })));
}

#[test]
fn a_log_that_is_moved_away_takes_no_more_records() {
    let dir = TempDir::new().unwrap();
    let (here, away) = (dir.path().join("audit"), dir.path().join("away"));
    let log = open(&here);
    say(&log, "here").unwrap();
    fs::rename(&here, &away).unwrap();

    support::wait_for("records are refused", || say(&log, "nowhere").err());
    fs::rename(&away, &here).unwrap();
    support::wait_for("records are taken again", || say(&log, "here again").ok());

    drop(log);
    assert!(verified(&here).is_ok());
}

#[test]
fn a_log_that_is_deleted_takes_not_one_record_more() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("audit");
    let log = open(&dir);
    say(&log, "here").unwrap();
    fs::remove_dir_all(&dir).unwrap();

    assert_eq!(say(&log, "nowhere"), Err(AuditUnavailable));
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
