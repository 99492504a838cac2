//! Our own program as an operator runs it: what it says and how it ends when something is wrong, and
//! how it stops.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};

use rowarden::demo::client::{Client, Login};
use support::gate::Trail;
use support::serving::{Serving, rowarden};
use support::talk::{add_owner, fields};
use support::wait_for;
use tempfile::TempDir;

/// A folder with a configuration that names this policy, listener and server.
fn configured(policy_dir: Option<&str>, listen: &str, upstream: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gate.toml");
    let policy = policy_dir.map(|dir| format!("policy_dir = \"{dir}\"\n")).unwrap_or_default();
    let text = format!(
        "{policy}[postgres]\nlisten = \"{listen}\"\nupstream = \"{upstream}\"\n[audit]\ndir = \"audit\"\n"
    );
    fs::write(&file, text).unwrap();
    (folder, file)
}

/// Exit code and what stood on standard error.
fn ending(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_port_in_use_ends_with_1_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (folder, file) = configured(None, &address, "postgres://127.0.0.1:5432");

    let (exit, said) = ending(&mut rowarden(&["serve"], &file));

    assert_eq!(exit, Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on `{address}`")), "{said}");
    assert!(said.to_lowercase().contains("address already in use"), "{said}");
    assert!(!folder.path().join("audit").exists(), "no log is begun for a gate that never was");
}

#[test]
fn an_audit_log_that_cannot_be_opened_ends_with_1_and_is_named() {
    let (folder, file) = configured(None, "127.0.0.1:0", "postgres://127.0.0.1:5432");
    fs::write(folder.path().join("audit"), "a file").unwrap();

    let (exit, said) = ending(&mut rowarden(&["serve"], &file));

    assert_eq!(exit, Some(1), "{said}");
    assert!(said.contains("audit"), "{said}");
}

#[test]
fn a_policy_that_cannot_be_read_ends_with_64_and_is_named() {
    let (folder, file) = configured(Some("policy"), "127.0.0.1:0", "postgres://127.0.0.1:5432");
    let policy = folder.path().join("policy");

    for (what, made) in [("no folder", false), ("no file", true)] {
        if made {
            fs::create_dir(&policy).unwrap();
        }
        for command in ["serve", "check"] {
            let (exit, said) = ending(&mut rowarden(&[command], &file));
            assert_eq!(exit, Some(64), "{command}, {what}: {said}");
            assert!(said.contains("readonly.toml") && said.contains("cannot be read"), "{said}");
        }
    }
    // Bytes that are no text: whoever runs this may read any file, so permissions prove nothing.
    fs::write(policy.join("readonly.toml"), b"name = \"\xff\"\n").unwrap();
    let (exit, said) = ending(&mut rowarden(&["serve"], &file));
    assert_eq!(exit, Some(64), "{said}");
}

#[test]
fn a_policy_with_mistakes_ends_with_64_and_all_of_them() {
    let (folder, file) = configured(Some("policy"), "127.0.0.1:0", "postgres://127.0.0.1:5432");
    let policy = folder.path().join("policy");
    fs::create_dir(&policy).unwrap();
    let text = "name = \"x\"\nposture = \"relax\"\n[settings]\nany = [\"search_path\"]\n[functions]\nreads = [\"nextval\"]\n";
    fs::write(policy.join("readonly.toml"), text).unwrap();

    let (exit, said) = ending(&mut rowarden(&["serve"], &file));

    assert_eq!(exit, Some(64), "{said}");
    for place in ["readonly.toml:2:11", "readonly.toml:4:8", "readonly.toml:6:10"] {
        assert!(said.contains(place), "{place} is missing in {said}");
    }
}

#[test]
fn a_malformed_configuration_ends_with_64_and_all_mistakes_with_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gate.toml");
    let text = "\
[postgres]
listen = \"127.0.0.1\"
upstrem = \"postgres://127.0.0.1:5432\"
max_connections = 0
[audit]
dir = 7
mode = \"sometimes\"
";
    fs::write(&file, text).unwrap();

    for command in ["serve", "check"] {
        let (exit, said) = ending(&mut rowarden(&[command], &file));
        assert_eq!(exit, Some(64), "{said}");
        for line in [2, 3, 4, 6, 7] {
            let place = format!("gate.toml:{line}:");
            assert!(said.contains(&place), "{command}: {place} is missing in {said}");
        }
    }
}

#[test]
fn only_the_probe_asks_whether_the_server_is_there() {
    // Bound, and nobody listens: no other process can answer on it meanwhile.
    let dead = tokio::net::TcpSocket::new_v4().unwrap();
    dead.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = dead.local_addr().unwrap();
    let (_folder, file) = configured(None, "127.0.0.1:0", &format!("postgres://{address}"));

    let (exit, said) = ending(&mut rowarden(&["check", "--probe"], &file));
    assert_eq!(exit, Some(69), "{said}");
    assert!(said.contains(&address.to_string()), "the operator reads where: {said}");

    assert_eq!(ending(&mut rowarden(&["check"], &file)), (Some(0), String::new()));
    let gate = Serving::start(&file);
    let mut client = Client::open(gate.address()).unwrap();
    client.send(&support::talk::start_up(0, &[("user", "ann")])).unwrap();
    assert_eq!(fields(&client.receive().unwrap().body)[&'C'], "57P03");
    drop(client);
    assert_eq!(gate.stop(), Some(0));
}

#[test]
fn a_gate_that_is_told_to_stop_lets_transactions_end_and_writes_down_that_it_stopped() {
    let cluster = support::cluster();
    add_owner(&cluster, "ann", "secret");
    let upstream = format!("unix:{}", cluster.socket_folder().display());
    let (folder, file) = configured(None, "127.0.0.1:0", &upstream);
    let mut gate = Serving::start(&file);
    let (address, login) = (gate.address().clone(), Login::new("ann", "secret", "ann"));
    let mut idle = Client::connect(&address, &login).unwrap();
    let mut busy = Client::connect(&address, &login).unwrap();
    busy.query("BEGIN").unwrap().into_result().unwrap();

    gate.tell_to_stop();

    let told = idle.receive().unwrap();
    let told = fields(&told.body);
    assert_eq!((told[&'V'].as_str(), told[&'C'].as_str()), ("FATAL", "57P01"));
    drop(idle);
    wait_for("the door to close", || Client::open(&address).err());
    assert_eq!(busy.query("SELECT 42").unwrap().value(), Some("42"));
    assert_eq!(busy.query("COMMIT").unwrap().status, Some('I'));
    assert_eq!(fields(&busy.receive().unwrap().body)[&'C'], "57P01");
    drop(busy);
    assert_eq!(gate.wait(), Some(0));
    let trail = Trail::read(&folder.path().join("audit"));
    let outline = trail.outline();
    assert_eq!(outline[..2], ["gate.start none ok", "policy.loaded none ok"]);
    assert_eq!(trail.of_kind("session.close").len(), 2);
    assert_eq!(outline.last().map(String::as_str), Some("gate.stop none ok"));
}

#[test]
fn a_second_gate_does_not_write_into_the_log_of_the_first() {
    let (_folder, file) = configured(None, "127.0.0.1:0", "postgres://127.0.0.1:5432");
    let gate = Serving::start(&file);

    let (exit, said) = ending(&mut rowarden(&["serve"], &file));

    assert_eq!(exit, Some(1), "{said}");
    assert!(said.contains("another process writes the audit log"), "{said}");
    assert_eq!(gate.stop(), Some(0));
}

#[test]
fn a_promise_of_more_places_than_there_are_descriptors_ends_with_64_and_says_what_would_do() {
    let (folder, file) = configured(None, "127.0.0.1:0", "postgres://127.0.0.1:5432");
    let program = env!("CARGO_BIN_EXE_rowarden");
    let shell = format!("ulimit -n 1000 && exec {program} serve --config {}", file.display());

    let (exit, said) = ending(Command::new("sh").args(["-c", &shell]));

    assert_eq!(exit, Some(64), "{said}");
    let promise =
        "max_connections = 2000 needs 4200 file descriptors, and this process may have 1000";
    assert!(said.contains(promise) && said.contains("at most 400"), "{said}");
    assert!(!folder.path().join("audit").exists(), "no log is begun for a gate that never was");
}
