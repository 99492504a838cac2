//! The log, checked by an implementation of transparency logs that is not ours: Go's `sumdb/note` and
//! `sumdb/tlog`, as Debian packages them (tests/outside/auditcheck.go).
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rowarden::audit::log::Keeping;
use rowarden::audit::{keys, verify};
use rowarden::demo::client::{Client, Login};
use support::gate::{GateSetup, socket_of};
use support::talk::add_owner;
use tempfile::TempDir;

const GO: &str = "/usr/lib/go-1.19/bin/go";

/// Go's checker, built.
struct Checker {
    folder: TempDir,
}

impl Checker {
    fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/outside/auditcheck.go");
        let built = Command::new(GO)
            .args(["build", "-o"])
            .arg(folder.path().join("auditcheck"))
            .arg(source)
            .env("GO111MODULE", "off")
            .env("GOPATH", "/usr/share/gocode")
            .env("GOCACHE", folder.path().join("cache"))
            .current_dir(folder.path())
            .output();
        let built = built.unwrap_or_else(|error| {
            panic!("{error}: apt-get install golang-1.19-go golang-golang-x-mod-dev")
        });
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Self { folder }
    }

    /// What it says; it must be content.
    fn run(&self, arguments: &[&str]) -> String {
        let ran = Command::new(self.folder.path().join("auditcheck")).args(arguments).output();
        let ran = ran.unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        assert!(ran.status.success(), "{arguments:?}: {said}");
        said
    }
}

/// A gate's log of reads, writes and mistakes, in several segments.
fn mixed_run(folder: &Path) -> PathBuf {
    let cluster = support::cluster();
    add_owner(&cluster, "ann", "secret");
    let audit = folder.join("audit");
    let keeping = Keeping { segment_bytes: 64 * 1024, ..Keeping::default() };
    let setup = GateSetup::before(&[socket_of(&cluster)]);
    let gate = setup.recording_in(&audit).keeping(keeping).start();
    let mut client = Client::connect(gate.address(), &Login::new("ann", "secret", "ann")).unwrap();
    for round in 0..40 {
        for sql in ["SELECT 1", "DELETE FROM pg_class", "SELEC", "BEGIN", "COMMIT"] {
            client.query(&format!("{sql} -- {round}")).unwrap();
        }
        client.extended("SELECT $1::int", &[Some("4")]).unwrap();
    }
    drop(client);
    gate.stop();
    audit
}

#[test]
fn an_implementation_that_is_not_ours_agrees_and_refuses_every_change() {
    let checker = Checker::build();
    let folder = tempfile::tempdir().unwrap();
    let audit = mixed_run(folder.path());
    let dir = audit.to_str().unwrap();
    let key = keys::verifier(&audit).unwrap();
    let whole = verify::verify(&audit, &key, None, |_| ()).unwrap();
    assert_eq!(whole.next, whole.signed);

    let said = checker.run(&["verify", dir]);

    assert_eq!(said, format!("{} lines match\n", whole.next));
    for seq in [0, 1, whole.next / 2, whole.next - 1] {
        let file = folder.path().join("proof");
        fs::write(&file, verify::prove(&audit, &key, seq).unwrap()).unwrap();
        let said = checker.run(&["proof", dir, file.to_str().unwrap()]);
        assert_eq!(said, format!("line {seq} of {} is proved\n", whole.next));
    }
    let said = checker.run(&["mutate", dir, "10000"]);
    assert!(said.starts_with("10000 of 10000 changes are refused"), "{said}");
    println!("{said}");
}
