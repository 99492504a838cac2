//! The shipped program on disks that fail: EIO, a disk that does not keep what it was given, a write
//! that does not return, a disk that becomes read-only; and the program killed in the middle of work.
//! Faults come from a FUSE file system (tests/outside/faultfs.py) and a real tmpfs, not from a mock.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::HashSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rowarden::audit::{files, keys, verify};
use rowarden::demo::client::{Client, Login};
use rowarden::demo::cluster::Cluster;
use support::disk::Tmpfs;
use support::serving::Serving;
use support::talk::add_owner;
use support::wait_for;
use tempfile::TempDir;

fn login() -> Login {
    Login::new("ann", "secret", "ann")
}

fn cluster() -> Cluster {
    let cluster = support::cluster();
    add_owner(&cluster, "ann", "secret");
    cluster
}

/// A configuration before this server, with the log in this folder.
fn configured(folder: &Path, cluster: &Cluster, audit: &Path) -> PathBuf {
    let file = folder.join("gate.toml");
    let text = format!(
        "[postgres]\nlisten = \"127.0.0.1:0\"\nupstream = \"unix:{}\"\n\
         [audit]\ndir = \"{}\"\nsql = \"full\"\n",
        cluster.socket_folder().display(),
        audit.display()
    );
    fs::write(&file, text).unwrap();
    file
}

/// A file system whose faults the test chooses. Gone with this value.
struct FaultyDisk {
    folder: TempDir,
    process: Child,
}

impl FaultyDisk {
    /// `None` where nobody may mount one.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        for name in ["behind", "disk"] {
            fs::create_dir(place(name)).unwrap();
        }
        fs::write(place("mode"), "ok").unwrap();
        let process = Command::new("/usr/bin/python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/outside/faultfs.py"))
            .args([place("behind"), place("disk"), place("mode")])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut disk = Self { folder, process };
        let mounted = wait_for("the disk, or that there is none", || {
            let mounts = fs::read_to_string("/proc/mounts").unwrap();
            let is_mounted = mounts.contains(disk.path().to_str().unwrap());
            let has_ended = disk.process.try_wait().unwrap().is_some();
            (is_mounted || has_ended).then_some(is_mounted)
        });
        mounted.then_some(disk)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn has_stalled(&self) -> bool {
        self.folder.path().join("mode.stalled").exists()
    }

    fn set(&self, mode: &str) {
        let beside = self.folder.path().join("mode.new");
        fs::write(&beside, mode).unwrap();
        fs::rename(beside, self.folder.path().join("mode")).unwrap();
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        self.set("ok");
        // Lazy: a failed test may still hold files open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn whole(audit: &Path) -> u64 {
    let key = keys::verifier(audit).unwrap();
    verify::verify(audit, &key, None, |_| ()).unwrap().next
}

/// All that stands in the log, as text.
fn text_of(audit: &Path) -> String {
    let mut text = String::new();
    for segment in files::segments(audit).unwrap() {
        let read = segment.read(|piece| {
            text.push_str(std::str::from_utf8(piece).unwrap());
            ControlFlow::<()>::Continue(())
        });
        assert!(read.unwrap().is_continue());
    }
    text
}

fn is_refused(client: &mut Client, sql: &str) -> bool {
    let reply = client.query(sql).unwrap();
    let refused = reply.error.map(|error| error.sqlstate);
    assert!(matches!(refused.as_deref(), None | Some("58030")), "{refused:?}");
    refused.is_some()
}

/// What holds of every disk that fails and recovers.
fn nothing_passes_while_it_fails(audit: &Path, fail: impl FnOnce(), recover: impl FnOnce()) {
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    let gate = Serving::start(&configured(folder.path(), &cluster, audit));
    let mut client = Client::connect(gate.address(), &login()).unwrap();
    assert!(!is_refused(&mut client, "SELECT 'before'"));
    fail();

    let mut passed = Vec::new();
    wait_for("a refusal", || {
        let sql = format!("SELECT 'during{}'", passed.len());
        if is_refused(&mut client, &sql) {
            return Some(());
        }
        passed.push(sql);
        None
    });
    assert!(is_refused(&mut client, "SELECT 'unheard'"));

    recover();
    wait_for("reads to resume by themselves", || {
        (!is_refused(&mut client, "SELECT 'after'")).then_some(())
    });
    drop(client);
    assert_eq!(gate.stop(), Some(0));
    let text = text_of(audit);
    for sql in &passed {
        assert!(text.contains(sql.as_str()), "acted on and not recorded: {sql}");
    }
    assert!(!text.contains("unheard"));
    assert!(text.contains("SELECT 'after'"));
    assert!(whole(audit) > 0);
}

#[test]
fn a_disk_with_errors_refuses_and_recovers() {
    let Some(disk) = FaultyDisk::mount() else { return not_here("FUSE") };
    let audit = disk.path().join("audit");

    nothing_passes_while_it_fails(&audit, || disk.set("eio"), || disk.set("ok"));
}

#[test]
fn a_disk_that_does_not_keep_what_it_was_given_refuses_and_recovers() {
    let Some(disk) = FaultyDisk::mount() else { return not_here("FUSE") };
    let audit = disk.path().join("audit");

    nothing_passes_while_it_fails(&audit, || disk.set("sync-eio"), || disk.set("ok"));
}

/// As a file system does it on an error of its own: files that are open can no longer be written.
/// (`mount -o remount,ro` refuses to do that to them.)
#[test]
fn a_disk_that_becomes_read_only_refuses_and_recovers() {
    let Some(disk) = FaultyDisk::mount() else { return not_here("FUSE") };
    let audit = disk.path().join("audit");

    nothing_passes_while_it_fails(&audit, || disk.set("erofs"), || disk.set("ok"));
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let Some(disk) = Tmpfs::mount_of("256k") else { return not_here("tmpfs") };
    let audit = disk.path().join("audit");

    nothing_passes_while_it_fails(&audit, || disk.fill(), || disk.free());
}

#[test]
fn while_one_write_is_stuck_every_other_statement_is_refused_and_all_goes_on_when_it_returns() {
    let Some(disk) = FaultyDisk::mount() else { return not_here("FUSE") };
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    let audit = disk.path().join("audit");
    let gate = Serving::start(&configured(folder.path(), &cluster, &audit));
    let mut stuck = Client::connect(gate.address(), &login()).unwrap();
    let mut others: Vec<Client> =
        (0..6).map(|_| Client::connect(gate.address(), &login()).unwrap()).collect();
    disk.set("stall");

    let stuck = thread::spawn(move || {
        let answered = stuck.query("SELECT 'stuck'").unwrap().into_result().is_ok();
        drop(stuck);
        answered
    });
    wait_for("the write to be stuck", || disk.has_stalled().then_some(()));
    // Every one of them is answered while the write is still stuck, again and again: the test would
    // hang if one were not.
    for round in 0..3 {
        for (number, other) in others.iter_mut().enumerate() {
            assert!(is_refused(other, "SELECT 'other'"), "round {round}, client {number}");
        }
    }
    assert!(!stuck.is_finished(), "the write was not stuck");
    disk.set("ok");

    assert!(stuck.join().unwrap(), "it was recorded in the end, so it is carried out");
    for other in &mut others {
        wait_for("the others to go on", || (!is_refused(other, "SELECT 'later'")).then_some(()));
    }
    drop(others);
    assert_eq!(gate.stop(), Some(0));
    let text = text_of(&audit);
    assert!(text.contains("SELECT 'stuck'") && !text.contains("SELECT 'other'"));
    assert!(whole(&audit) > 0);
}

fn not_here(what: &str) {
    println!("{what} cannot be mounted here: this was not run");
}

/// `ROWARDEN_KILL_ROUNDS` says how often; few by default.
#[test]
fn no_answered_statement_is_missing_after_a_kill_and_the_log_verifies() {
    let rounds = std::env::var("ROWARDEN_KILL_ROUNDS").ok();
    let rounds: usize = rounds.map_or(3, |rounds| rounds.parse().unwrap());
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    let audit = folder.path().join("audit");
    let file = configured(folder.path(), &cluster, &audit);
    let mut answered = 0;
    for round in 0..rounds {
        let gate = Serving::start(&file);
        let heard = kill_under_load(gate, round);
        answered += heard.len();
        let text = text_of_torn(&audit);
        let recorded: HashSet<&str> = text.split('\'').filter(|part| is_token(part)).collect();
        for token in &heard {
            assert!(recorded.contains(token.as_str()), "answered and not recorded: {token}");
        }
    }
    assert_eq!(Serving::start(&file).stop(), Some(0));
    println!("{rounds} kills, {answered} statements answered, {} lines", whole(&audit));
    assert!(answered > rounds);
}

fn is_token(text: &str) -> bool {
    text.starts_with("kill-")
}

/// Four clients ask as fast as they can until the gate is dead; returns what was answered.
fn kill_under_load(mut gate: Serving, round: usize) -> Vec<String> {
    let is_warm = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let mut client = Client::connect(gate.address(), &login()).unwrap();
                let is_warm = &is_warm;
                scope.spawn(move || {
                    let mut heard = Vec::new();
                    while let Some(token) = ask(&mut client, round, number, heard.len()) {
                        heard.push(token);
                        // Another moment in every round.
                        is_warm.fetch_or(heard.len() > 20 + 13 * (round % 17), Ordering::SeqCst);
                    }
                    heard
                })
            })
            .collect();
        wait_for("load", || is_warm.load(Ordering::SeqCst).then_some(()));
        gate.kill();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

/// Asks for a text that no other statement asks for; `None` when there is no answer.
fn ask(client: &mut Client, round: usize, number: usize, count: usize) -> Option<String> {
    let token = format!("kill-{round}-{number}-{count}");
    let reply = client.query(&format!("SELECT '{token}'")).ok()?;
    (reply.value() == Some(token.as_str())).then_some(token)
}

/// As [`text_of`], with what may be torn at the end.
fn text_of_torn(audit: &Path) -> String {
    let mut text = String::new();
    for segment in files::segments(audit).unwrap() {
        let read = segment.read(|piece| {
            text.push_str(&String::from_utf8_lossy(piece));
            ControlFlow::<()>::Continue(())
        });
        assert!(read.unwrap().is_continue());
    }
    text
}
