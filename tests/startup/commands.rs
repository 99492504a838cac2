//! Our own program, as an operator makes certificates and users with it, and reloads them.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rowarden::demo::client::{Client, Login};
use rowarden::listen::Address;

use crate::support::gate::Trail;
use crate::support::recorder::Recorder;
use crate::support::tls::{Certificates, Shows, secure};
use crate::support::wait_for;

fn rowarden(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowarden"));
    let command = command.args(arguments).env_remove("ROWARDEN_LOG").stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that has nothing to read may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn certificates_are_made_once_and_their_keys_are_private() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("certs");
    let name = made.to_str().unwrap();

    assert_eq!(rowarden(&["certs", name], "").status.code(), Some(0));

    let before = fs::read(made.join("ca.key")).unwrap();
    for key in ["ca.key", "server.key", "client.key"] {
        assert_eq!(mode(&made.join(key)), 0o600, "{key}");
    }
    let again = rowarden(&["certs", name], "");
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("ca.crt"));
    assert_eq!(fs::read(made.join("ca.key")).unwrap(), before, "nothing is written over");
}

#[test]
fn a_user_is_added_by_a_password_that_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    let name = file.to_str().unwrap();

    let added = rowarden(&["user", "add", "ann", "--users", name], "zqsecret\n");
    assert_eq!(added.status.code(), Some(0), "{added:?}");
    assert_eq!(mode(&file), 0o600);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("\nann:SCRAM-SHA-256$4096:") && text.contains("\n*:seed:"), "{text}");
    assert!(!text.contains("zqsecret"));

    for (arguments, input, exit) in [
        (&["ann"][..], "another\n", 1),
        (&["bob"], "\n", 64),
        (&["bob"], "", 64),
        (&["b:b"], "secret\n", 64),
        (&[""], "secret\n", 64),
    ] {
        let all = [&["user", "add", "--users", name], arguments].concat();
        let refused = rowarden(&all, input);
        assert_eq!(refused.status.code(), Some(exit), "{arguments:?} {refused:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text, "{arguments:?}");
    }
    let all = ["user", "add", "--users", name, "ann", "--replace"];
    assert_eq!(rowarden(&all, "another\n").status.code(), Some(0));
    let replaced = fs::read_to_string(&file).unwrap();
    assert_eq!(replaced.lines().count(), text.lines().count());
    assert_ne!(replaced, text);
}

/// A running gate, as an operator runs it.
struct Serving {
    process: Child,
    address: Address,
    log: BufReader<ChildStderr>,
}

impl Serving {
    fn start(config: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_rowarden"))
            .args(["serve", "--config"])
            .arg(config)
            .env_remove("ROWARDEN_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let nowhere = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut serving = Self { process, address: nowhere, log };
        let line = serving.read_until("listening on ");
        let (_, address) = line.split_once("listening on ").unwrap();
        let address = address.split_whitespace().next().unwrap();
        serving.address = Address::Tcp(address.parse().unwrap());
        serving
    }

    fn read_until(&mut self, words: &str) -> String {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "it ended early");
        }
        line
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.signal("TERM");
        let _ = self.process.wait();
    }
}

#[test]
fn certificates_and_users_are_read_again_on_sighup_and_a_bad_file_changes_nothing() {
    let certificates = Certificates::new();
    let server = Recorder::trusting();
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    let add = |name, password| {
        let all = ["user", "add", name, "--users", users.to_str().unwrap()];
        assert_eq!(rowarden(&all, password).status.code(), Some(0));
    };
    add("ann", "anns secret\n");
    let password = folder.path().join("password");
    fs::write(&password, "secret\n").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let config = folder.path().join("gate.toml");
    let [cert, key] = ["server.crt", "server.key"].map(|name| certificates.file(name));
    let text = format!(
        "[postgres]\nlisten = \"127.0.0.1:0\"\nupstream = \"postgres://{}\"\nauth = \"users\"\n\
         users = \"file:users\"\nupstream_user = \"gate\"\nupstream_password = \"file:password\"\n\
         tls = {{ mode = \"require\", cert = \"{}\", key = \"{}\" }}\n[audit]\ndir = \"audit\"\n",
        server.upstream(),
        cert.display(),
        key.display()
    );
    fs::write(&config, text).unwrap();
    let mut gate = Serving::start(&config);
    let shows = certificates.client(Shows::Nothing, &["postgresql"]);
    let address = gate.address.clone();
    let login = |user: &str, password: &str| {
        let stream = secure(&address, &shows).unwrap();
        Client::over(stream).enter(&Login::new(user, password, "app"))
    };
    let open = login("ann", "anns secret").unwrap();
    assert!(login("bob", "bobs secret").is_err());

    add("bob", "bobs secret\n");
    gate.signal("HUP");
    gate.read_until("users: read again");
    assert!(login("bob", "bobs secret").is_ok());
    fs::write(&users, "nonsense\n").unwrap();
    fs::write(&key, "nonsense\n").unwrap();
    fs::write(&password, "").unwrap();
    gate.signal("HUP");
    gate.read_until("the gate's own password: not read again");

    assert!(login("bob", "bobs secret").is_ok());
    drop(open);
    let audit = folder.path().join("audit");
    let reloads = wait_for("the reloads to be in the log", || {
        let outline = Trail::read(&audit).outline();
        let reloads = outline.into_iter().filter(|line| line.contains("reloaded"));
        let reloads: Vec<String> = reloads.collect();
        (reloads.len() == 6).then_some(reloads)
    });
    let ends = ["cert.reloaded none ok", "users.reloaded none ok", "users.reloaded none ok"];
    let kept = ["cert.reloaded error ok", "users.reloaded error ok", "users.reloaded error ok"];
    assert_eq!(reloads, [ends, kept].concat());
}

#[test]
fn files_that_cannot_be_used_keep_the_gate_from_starting_and_are_named() {
    let certificates = Certificates::new();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gate.toml");
    let file = |name: &str| certificates.file(name).display().to_string();
    let tls = |cert: &str, key: &str| {
        format!("tls = {{ mode = \"allow\", cert = \"{cert}\", key = \"{key}\" }}")
    };
    let exposed = folder.path().join("exposed.key");
    fs::copy(certificates.file("server.key"), &exposed).unwrap();
    fs::set_permissions(&exposed, fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = exposed.display().to_string();
    let users = folder.path().join("users");
    fs::write(&users, "").unwrap();
    fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).unwrap();
    let of_users = "auth = \"users\"\nupstream_user = \"gate\"\nusers = \"file:";

    for (keys, named) in [
        (tls(&file("server.crt"), "gone.key"), "gone.key"),
        (tls(&file("server.key"), &file("server.key")), "no certificate"),
        (tls(&file("server.crt"), &file("server.crt")), "readable"),
        (tls(&file("server.crt"), &file("client.key")), "cannot be used together"),
        (tls(&file("server.crt"), &exposed), "chmod 600"),
        (format!("{of_users}gone\""), "gone"),
        (format!("{of_users}{exposed}\""), "chmod 600"),
        (format!("{of_users}{}\"", file("server.key")), "line 1: not of the form"),
        (format!("{of_users}users\"\nupstream_password = \"file:gone\""), "upstream_password"),
        (format!("{of_users}users\"\nupstream_password = \"file:{exposed}\""), "chmod 600"),
        ("upstream_tls = { mode = \"verify-full\", ca = \"gone.crt\" }".to_owned(), "gone.crt"),
    ] {
        let text = format!(
            "[postgres]\nlisten = \"127.0.0.1:0\"\nupstream = \"postgres://127.0.0.1:1\"\n{keys}\n\
             [audit]\ndir = \"audit\"\n"
        );
        fs::write(&config, text).unwrap();
        for command in ["check", "serve"] {
            let refused = rowarden(&[command, "--config", config.to_str().unwrap()], "");
            let said = String::from_utf8_lossy(&refused.stderr);
            assert_eq!(refused.status.code(), Some(64), "{keys}: {said}");
            // A certificate in place of a key is one that others may read, too.
            let named = if named == "readable" { "chmod 600" } else { named };
            assert!(said.contains(named), "{keys}: {said}");
        }
    }
}

#[test]
fn check_says_who_is_let_in_and_what_becomes_of_channel_binding() {
    let certificates = Certificates::new();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gate.toml");
    let [cert, key, ca] =
        ["server.crt", "server.key", "ca.crt"].map(|name| certificates.file(name));
    let text = format!(
        "[postgres]\nlisten = \"127.0.0.1:0\"\nupstream = \"postgres://127.0.0.1:1\"\n\
         tls = {{ mode = \"require\", cert = \"{}\", key = \"{}\" }}\n\
         upstream_tls = {{ mode = \"verify-full\", ca = \"{}\" }}\n[audit]\ndir = \"audit\"\n",
        cert.display(),
        key.display(),
        ca.display()
    );
    fs::write(&config, text).unwrap();

    let checked = rowarden(&["check", "--config", config.to_str().unwrap()], "");

    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let said = String::from_utf8_lossy(&checked.stdout);
    for words in
        ["tls       required", "encrypted, known by its certificate", "channel_binding=disable"]
    {
        assert!(said.contains(words), "{said}");
    }
}
