//! The configuration file: every mistake at once, every default, every form of an address.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};

use rowarden::audit::log::Mode;
use rowarden::audit::redact::SqlText;
use rowarden::cli::report::{self, Colours};
use rowarden::config::Config;
use rowarden::config::jira::CredentialConfig;
use rowarden::jira::limits::Limits;
use rowarden::policy::document::Mistakes;
use rowarden::policy::jira::operation::Group;

const FILE: &str = "/etc/rowarden/rowarden.toml";

fn parse(text: &str) -> Result<Config, Mistakes> {
    Config::parse(text, Path::new(FILE))
}

fn with_listen_and_upstream(listen: &str, upstream: &str) -> String {
    format!("[postgres]\nlisten = {listen}\nupstream = \"{upstream}\"\n[audit]\ndir = \"audit\"\n")
}

fn places(text: &str) -> Vec<(usize, usize, String)> {
    let mistakes = parse(text).expect_err("there are mistakes");
    mistakes
        .iter()
        .map(|mistake| {
            let (line, column) = mistake.line_and_column(text);
            (line, column, mistake.message.clone())
        })
        .collect()
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_with_line_and_column() {
    let text = r#"policy-dir = "policy"
[postgres]
lisen = "127.0.0.1:6432"
upstream = "mysql://db"
auth = "users"
max_connections = 0
tls = { mode = "require", cert = "a" }
[jira]
listen = "127.0.0.1:8181"
[audit]
mode = "writen"
"#;

    let found = places(text);

    let expected = [
        (1, 1, "unknown key `policy-dir`"),
        (2, 1, "`listen` is missing in `postgres`"),
        (3, 1, "unknown key `lisen` in `postgres`"),
        (4, 12, "`upstream` is not the address of a PostgreSQL server"),
        (5, 8, "`auth = \"users\"` needs `users`"),
        (5, 8, "`auth = \"users\"` needs `upstream_user`"),
        (6, 19, "`max_connections` must be between 1 and 100000"),
        (7, 16, "encryption needs a certificate and its key: `cert` and `key`"),
        (8, 1, "`upstream` is missing in `jira`"),
        (10, 1, "`dir` is missing in `audit`"),
        (11, 8, "`mode` must be one of \"written\", \"durable\""),
    ];
    let found: Vec<_> = found.iter().map(|(l, c, message)| (*l, *c, message.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_misspelt_key_is_answered_with_the_right_one() {
    let text =
        "[postgres]\nlisten = \"127.0.0.1:1\"\nupstrem = \"unix:/tmp\"\n[audit]\ndir = \"a\"\n";

    let mistakes = parse(text).unwrap_err();

    let helps: Vec<_> = mistakes.iter().filter_map(|mistake| mistake.help.as_deref()).collect();
    assert_eq!(helps, ["did you mean `upstream`?"]);
}

#[test]
fn a_gate_without_a_log_and_a_log_without_a_gate_are_mistakes() {
    assert_eq!(
        places("policy_dir = \"policy\"\n"),
        [
            (1, 1, "`[postgres]` and `[jira]` are missing: there is no gate to serve".to_owned()),
            (1, 1, "`[audit]` is missing: nothing passes that cannot be recorded".to_owned()),
        ]
    );
}

#[test]
fn the_shortest_file_gets_every_default() {
    let config = parse(&with_listen_and_upstream("\"127.0.0.1:6432\"", "postgres://db")).unwrap();

    assert_eq!(config.policy_dir, None);
    assert_eq!(config.postgres.unwrap().max_connections, 2000);
    assert_eq!(config.jira, None);
    assert_eq!(config.audit.mode, Mode::Written);
    assert_eq!(config.audit.sql, SqlText::Normalized);
}

#[test]
fn relative_folders_are_relative_to_the_file() {
    let text = with_listen_and_upstream("\"unix:gate.sock\"", "unix:run:5433");
    let config = parse(&format!("policy_dir = \"policy\"\n{text}")).unwrap();

    assert_eq!(config.policy_dir, Some(PathBuf::from("/etc/rowarden/policy")));
    assert_eq!(config.audit.dir, PathBuf::from("/etc/rowarden/audit"));
    let postgres = config.postgres.unwrap();
    assert_eq!(postgres.listen[0].to_string(), "/etc/rowarden/gate.sock");
    let server = postgres.upstream.addresses[0].to_string();
    assert_eq!(server, "/etc/rowarden/run/.s.PGSQL.5433");
}

#[test]
fn encryption_and_logins_that_can_be_are_accepted() {
    for tls in [
        "tls = { mode = \"disable\" }",
        "tls = { mode = \"allow\" }",
        "tls = { mode = \"disable\", cert = \"c\", key = \"k\" }",
        "upstream_tls = { mode = \"disable\" }",
        "upstream_tls = { mode = \"require\" }",
        "upstream_tls = { mode = \"verify-full\" }",
        "upstream_tls = { mode = \"verify-full\", ca = \"a\", cert = \"c\", key = \"k\" }",
        "auth = \"users\"\nusers = \"file:u\"\nupstream_user = \"gate\"",
        "proxy_protocol_from = [\"10.0.0.0/8\", \"::1\"]",
        "auth = \"passthrough\"",
    ] {
        let text = with_listen_and_upstream("\"127.0.0.1:6432\"", "postgres://db");
        let text = text.replace("[postgres]\n", &format!("[postgres]\n{tls}\n"));
        assert!(parse(&text).is_ok(), "{tls}");
    }
}

#[test]
fn encryption_and_logins_that_cannot_be_are_mistakes() {
    for tls in [
        "tls = { mode = \"allow\", cert = \"c\" }",
        "tls = { mode = \"allow\", key = \"k\" }",
        "tls = { mode = \"require\" }",
        "tls = { mode = \"mutual\", cert = \"c\", key = \"k\" }",
        "tls = { mode = \"require\", cert = \"c\", key = \"k\", client_ca = \"a\" }",
        "tls = { mode = \"require\", cert = \"\", key = \"k\" }",
        "tls = { mode = \"verify-full\" }",
        "tls = {}",
        "tls = true",
        "upstream_tls = { mode = \"require\", ca = \"a\" }",
        "upstream_tls = { mode = \"verify-full\", cert = \"c\" }",
        "users = \"file:u\"",
        "auth = \"users\"\nusers = \"u\"\nupstream_user = \"gate\"",
        "auth = \"users\"\nusers = \"env:U\"\nupstream_user = \"gate\"",
        "auth = \"users\"\nusers = \"file:u\"\nupstream_user = \"gate\"\nupstream_password = \"hunter2\"",
        "proxy_protocol_from = [\"10.0.0.1/8\"]",
        "upstream_tls = { mode = \"allow\" }",
    ] {
        let text = with_listen_and_upstream("\"127.0.0.1:6432\"", "postgres://db");
        let text = text.replace("[postgres]\n", &format!("[postgres]\n{tls}\n"));
        assert_eq!(places(&text).len(), 1, "{tls}");
    }
}

#[test]
fn every_form_of_a_listen_address_is_understood() {
    for (written, understood) in [
        ("\"127.0.0.1:6432\"", "127.0.0.1:6432"),
        ("\"localhost:6432\"", "127.0.0.1:6432 [::1]:6432"),
        ("\"[::1]:6432\"", "[::1]:6432"),
        ("\"0.0.0.0:0\"", "0.0.0.0:0"),
        ("\"/run/gate/.s.PGSQL.6432\"", "/run/gate/.s.PGSQL.6432"),
        ("\"unix:/run/gate.sock\"", "/run/gate.sock"),
        ("[\"127.0.0.1:1\", \"/a\"]", "127.0.0.1:1 /a"),
    ] {
        let config = parse(&with_listen_and_upstream(written, "postgres://db"));
        let listen = config.expect(written).postgres.unwrap().listen;
        let shown: Vec<_> = listen.iter().map(ToString::to_string).collect();
        assert_eq!(shown.join(" "), understood, "{written}");
    }
}

#[test]
fn every_form_of_a_server_address_is_understood() {
    for (written, understood) in [
        ("postgres://127.0.0.1", "127.0.0.1:5432"),
        ("postgres://db.example.com:5433", "db.example.com:5433"),
        ("postgresql://db/", "db:5432"),
        ("postgres://[::1]:5433", "[::1]:5433"),
        ("postgres://[::1]", "[::1]:5432"),
        ("postgres://a,b:5433,[::1]", "a:5432 b:5433 [::1]:5432"),
        ("unix:/var/run/postgresql", "/var/run/postgresql/.s.PGSQL.5432"),
        ("unix:/tmp/:5433", "/tmp/.s.PGSQL.5433"),
        ("unix:/tmp/.s.PGSQL.5444", "/tmp/.s.PGSQL.5444"),
    ] {
        let config = parse(&with_listen_and_upstream("\"127.0.0.1:6432\"", written));
        let addresses = config.expect(written).postgres.unwrap().upstream.addresses;
        let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown.join(" "), understood, "{written}");
    }
}

#[test]
fn what_is_no_listen_address_is_a_mistake_of_its_own() {
    let long = format!("\"/{}\"", "x".repeat(107));
    for written in [
        "\"\"",
        "\"6432\"",
        "\"127.0.0.1\"",
        "\"::1\"",
        "\"*:6432\"",
        "\"db.example.com:6432\"",
        "\"localhost\"",
        "\"localhost:70000\"",
        "\"localhost:+1\"",
        "\"unix:\"",
        long.as_str(),
        "[]",
        "[\"localhost:1\", \"127.0.0.1:1\"]",
        "6432",
    ] {
        let text = with_listen_and_upstream(written, "postgres://db");
        let found = places(&text);
        assert_eq!((found.len(), found[0].0), (1, 2), "{written} {found:?}");
    }
}

#[test]
fn what_is_no_server_address_is_a_mistake_of_its_own() {
    for written in [
        "",
        "127.0.0.1:5432",
        "postgres://",
        "postgres://a,",
        "postgres://db:0",
        "postgres://db:x",
        "postgres://::1",
        "postgres://[::1",
        "postgres://[::1]x",
        "postgres://me:secret@db",
        "mysql://me:secret@db",
        "postgres://db/app",
        "postgres:///?host=/tmp",
        "postgres://%2Ftmp",
        "unix:",
        "unix:/tmp:x",
    ] {
        let text = with_listen_and_upstream("\"127.0.0.1:6432\"", written);
        let found = places(&text);
        assert_eq!((found.len(), found[0].0), (1, 3), "{written} {found:?}");
        assert!(!found[0].2.contains("secret"), "a password is not repeated");
    }
}

#[test]
fn a_gate_cannot_be_its_own_server() {
    for (listen, upstream) in [
        ("\"127.0.0.1:6432\"", "postgres://127.0.0.1:6432"),
        ("\"localhost:6432\"", "postgres://db,localhost:6432"),
        ("\"[::1]:6432\"", "postgres://[::1]:6432"),
        ("\"/tmp/.s.PGSQL.5432\"", "unix:/tmp"),
    ] {
        let found = places(&with_listen_and_upstream(listen, upstream));
        assert_eq!((found.len(), found[0].0), (1, 3), "{listen} {upstream} {found:?}");
    }
}

#[test]
fn the_report_shows_line_column_and_a_caret() {
    let text = "# ü\n[postgres]\nlisten = \"ü\"\nupstream = \"postgres://db\"\nfoo = 1\n[audit]\ndir = \"a\"\n";
    let mistakes = parse(text).unwrap_err();

    let mut shown = Vec::new();
    report::for_people(Path::new("gate.toml"), text, &mistakes, Colours::Off, &mut shown).unwrap();

    let shown = String::from_utf8(shown).unwrap();
    for part in ["gate.toml:3:10", "gate.toml:5:1", "foo = 1", "^"] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "no colours");
}

#[test]
fn programs_read_one_object_for_each_mistake() {
    let text = "policy_dirr = 1\n[postgres]\nlisten = \"127.0.0.1:1\"\nupstream = \"postgres://db\"\n[audit]\ndir = \"a\"\n";
    let mistakes = parse(text).unwrap_err();

    let mut shown = Vec::new();
    report::for_programs(Path::new("gate.toml"), text, &mistakes, &mut shown).unwrap();

    assert_eq!(
        String::from_utf8(shown).unwrap(),
        "{\"file\":\"gate.toml\",\"line\":1,\"column\":1,\"message\":\"unknown key `policy_dirr`\",\
         \"help\":\"did you mean `policy_dir`?\"}\n"
    );
}

/// What a run of the program gave: exit code, standard output, standard error.
fn rowarden(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_rowarden"))
        .args(arguments)
        .output()
        .expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn written(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("gate.toml");
    std::fs::write(&file, text).expect("a file");
    let name = file.to_str().expect("UTF-8").to_owned();
    (folder, name)
}

#[test]
fn wrong_arguments_and_wrong_configurations_end_with_64() {
    let (_folder, file) = written("nothing = 1\n");

    for arguments in [
        &[][..],
        &["frobnicate"],
        &["check"],
        &["check", "--config", "/nowhere/gate.toml"],
        &["check", "--config", &file],
        &["explain", "no-such-reason"],
    ] {
        let (exit, out, err) = rowarden(arguments);
        assert_eq!(exit, Some(64), "{arguments:?}");
        assert_eq!(out, "", "{arguments:?}");
        assert_ne!(err, "", "{arguments:?}");
    }
}

#[test]
fn check_prints_for_programs_on_standard_output() {
    let (_folder, file) = written("nothing = 1\n");

    let (exit, out, err) = rowarden(&["check", "--json", "--config", &file]);

    assert_eq!((exit, err.as_str()), (Some(64), ""));
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["file"] == file.as_str() && line["line"] == 1));
}

#[test]
fn a_sound_configuration_ends_with_0() {
    let text = with_listen_and_upstream("\"127.0.0.1:6432\"", "postgres://127.0.0.1:5432");
    let (_folder, file) = written(&text);

    let (exit, out, err) = rowarden(&["check", "--config", &file]);

    assert_eq!((exit, err.as_str()), (Some(0), ""));
    assert!(out.contains("no mistakes") && out.contains("127.0.0.1:6432"), "{out}");
}

/// A server that answers whatever it is sent with `answer`, and hangs up.
fn server_that_says(answer: &'static [u8]) -> u16 {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = [0; 8];
        stream.read_exact(&mut request).expect("a request");
        assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47]);
        stream.write_all(answer).expect("an answer");
    });
    port
}

#[test]
fn the_probe_tells_postgresql_from_what_is_none() {
    for (answer, expected) in
        [(&b"N"[..], Some(0)), (b"S", Some(0)), (b"HTTP/1.1 400", Some(69)), (b"", Some(69))]
    {
        let upstream = format!("postgres://127.0.0.1:{}", server_that_says(answer));
        let (_folder, file) = written(&with_listen_and_upstream("\"127.0.0.1:6432\"", &upstream));

        let (exit, _, err) = rowarden(&["check", "--probe", "--config", &file]);

        assert_eq!(exit, expected, "{answer:?} {err}");
        assert_eq!(err.is_empty(), expected == Some(0), "{err}");
    }
}

#[test]
fn the_probe_takes_the_first_server_that_answers() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = closed.local_addr().expect("an address").port();
    drop(closed);
    let upstream = format!("postgres://127.0.0.1:{nobody},127.0.0.1:{}", server_that_says(b"N"));
    let (_folder, file) = written(&with_listen_and_upstream("\"127.0.0.1:6432\"", &upstream));

    assert_eq!(rowarden(&["check", "--probe", "--config", &file]).0, Some(0));
}

#[test]
fn every_reason_is_explained() {
    for reason in rowarden::policy::reason::Reason::ALL {
        let (exit, out, _) = rowarden(&["explain", "--json", reason.code()]);
        let meaning: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((exit, meaning["reason"].as_str()), (Some(0), Some(reason.code())));
        assert_eq!(meaning["explanation"].as_str(), Some(reason.explanation()));
    }
}

#[test]
fn an_output_that_nobody_reads_is_no_error() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_rowarden"))
        .args(["explain", "posture"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());

    let output = child.wait_with_output().expect("it ends");

    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn a_statement_is_judged_without_a_server() {
    for (sql, decision) in [("SELECT 1", "allow"), ("INSERT INTO t VALUES (1)", "deny")] {
        let (exit, out, _) = rowarden(&["explain", "sql", "--json", sql]);
        let answer: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((exit, answer["decision"].as_str()), (Some(0), Some(decision)), "{sql}");
        let keys = ["decision", "reason", "operation", "rule", "sqlstate", "message", "hint"];
        assert!(keys.iter().all(|key| answer.get(key).is_some()), "{out}");
    }
}

#[test]
fn a_file_of_statements_is_judged_line_by_line_until_one_is_none() {
    let lines = "\"SELECT 1\"\n{\"sql\": \"DELETE FROM t\", \"why\": 1}\n[1]\n\"SELECT 2\"\n";
    let (_folder, file) = written(lines);

    let (exit, out, err) = rowarden(&["explain", "sql", "--file", &file]);

    assert_eq!(exit, Some(64));
    let decisions: Vec<_> = out.lines().filter_map(|line| line.get(..20)).collect();
    assert_eq!(decisions, ["{\"decision\":\"allow\",", "{\"decision\":\"deny\",\""]);
    assert!(err.contains("line 3"), "{err}");
}

#[test]
fn a_request_is_judged_without_a_site_with_the_groups_of_a_configuration() {
    let text = "[jira]\nlisten = '127.0.0.1:1'\nupstream = 'http://127.0.0.1:2'\ngroups = ['dev-status']\n[audit]\ndir = 'a'\n";
    let (_folder, file) = written(text);
    let asks_for_group = ["GET", "/rest/dev-status/1.0/issue/detail?issueId=1"];

    let opened = rowarden(
        &[&["explain", "http", "--json", "--config", &file], &asks_for_group[..]].concat(),
    );
    let closed = rowarden(&[&["explain", "http", "--json"], &asks_for_group[..]].concat());
    let write = rowarden(&["explain", "http", "DELETE", "/rest/api/2/issue/A-1"]);

    assert!(opened.1.contains("\"decision\":\"allow\""), "{opened:?}");
    assert!(closed.1.contains("\"reason\":\"jira-sensitive\""), "{closed:?}");
    assert!(write.1.starts_with("deny      delete_issue\n"), "{write:?}");
    assert_eq!((opened.0, closed.0, write.0), (Some(0), Some(0), Some(0)));
}

#[test]
fn rules_of_an_operator_add_reads_and_open_no_write() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let rules = folder.path().join("jira-rules.toml");
    let ask = |target: &str| rowarden(&["explain", "http", "--policy", dir, "GET", target]);

    std::fs::write(
        &rules,
        "read = [{ name = 'mine', request = 'GET /rest/mine/1.0/things/{id}' }]\n",
    )
    .unwrap();
    let added = ask("/rest/mine/1.0/things/7");
    std::fs::write(&rules, "read = [{ name = 'mine', request = 'GET /browse/{key}' }]\n").unwrap();
    let opened = ask("/browse/A-1");

    assert!(added.1.starts_with("allow     mine\n"), "{added:?}");
    assert_eq!(opened.0, Some(64), "{opened:?}");
    assert!(opened.2.contains("this would change what `browse` means"), "{opened:?}");
}

#[test]
fn a_folder_without_a_policy_is_not_replaced_by_the_built_in_one() {
    let text = with_listen_and_upstream("\"127.0.0.1:6432\"", "postgres://db");
    let (folder, file) = written(&format!("policy_dir = \"none\"\n{text}"));
    let none = folder.path().to_str().expect("UTF-8");

    for arguments in [
        &["check", "--config", &file][..],
        &["explain", "sql", "--config", &file, "SELECT 1"],
        &["explain", "sql", "--policy", none, "SELECT 1"],
    ] {
        let (exit, out, err) = rowarden(arguments);
        assert_eq!((exit, out.as_str()), (Some(64), ""), "{arguments:?}");
        assert!(err.contains("readonly.toml"), "{err}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");

    let bound = rowarden::cli::serve::bind(&[rowarden::listen::Address::Tcp(address)]).await;

    let message = bound.err().expect("it is in use").to_string();
    assert_eq!(message, format!("cannot listen on `{address}`"));
}

fn jira(lines: &str) -> String {
    format!("[jira]\nlisten = \"127.0.0.1:8181\"\n{lines}\n[audit]\ndir = \"audit\"\n")
}

#[test]
fn a_jira_gate_needs_no_other_gate_and_gets_every_default() {
    let config = parse(&jira("upstream = \"https://jira.example/jira/\"")).unwrap();

    assert_eq!(config.postgres, None);
    let jira = config.jira.unwrap();
    assert_eq!(jira.upstream.to_string(), "https://jira.example/jira");
    assert_eq!(jira.credential, CredentialConfig::Passthrough);
    assert_eq!(jira.max_connections, 2000);
    assert_eq!(jira.limits, Limits::default());
    assert_eq!(jira.public_url, None);
    assert!(jira.hosts.is_empty() && jira.site_urls.is_empty() && jira.groups.is_empty());
}

#[test]
fn everything_that_a_jira_gate_can_be_told_is_understood() {
    let config = parse(&jira(
        r#"upstream = "http://localhost:8080"
hosts = ["Gate.test", "localhost:8181"]
public_url = "https://gate.example/jira"
site_urls = ["https://jira.example"]
groups = ["dev-status"]
credential = "file:secrets/jira"
clients = "env:GATE_TOKENS"
upstream_tls = { ca = "ca.crt" }
limits = { concurrent_requests = 5, refusals_per_minute = 0 }
tls = { mode = "disable" }"#,
    ))
    .unwrap();

    let jira = config.jira.unwrap();
    assert_eq!(jira.hosts, ["gate.test", "localhost:8181"]);
    assert_eq!(jira.public_url.unwrap().to_string(), "https://gate.example/jira");
    assert_eq!(jira.site_urls[0].to_string(), "https://jira.example");
    assert_eq!(jira.groups, [Group::DevStatus]);
    assert_eq!(jira.upstream_ca, Some(PathBuf::from("/etc/rowarden/ca.crt")));
    assert_eq!(jira.limits.concurrent_requests.map(u32::from), Some(5));
    assert_eq!(jira.limits.refusals_per_minute, None);
    let CredentialConfig::Held { credential, clients } = jira.credential else {
        panic!("the gate holds no credential");
    };
    assert_eq!(credential.to_string(), "file:/etc/rowarden/secrets/jira");
    assert_eq!(clients.to_string(), "env:GATE_TOKENS");
}

#[test]
fn mistakes_of_a_jira_gate_are_told_without_its_secrets() {
    for (lines, message) in [
        ("upstream = \"https://ann:hush@jira.example\"", "`upstream` is not the URL of a site"),
        (
            "upstream = \"http://127.0.0.1:8181\"",
            "`upstream` is the address that the gate itself listens on",
        ),
        ("upstream = \"http://a\"\nhosts = [\"a/b\"]", "`a/b` is not a host"),
        ("upstream = \"http://a\"\ngroups = [\"all\"]", "there is no group `all`"),
        (
            "upstream = \"http://a\"\ncredential = \"hush\"\nclients = \"file:c\"",
            "a secret is not written here, only where it is",
        ),
        (
            "upstream = \"http://a\"\ncredential = \"file:c\"",
            "`clients` is missing: to whom does the gate lend its credential?",
        ),
        (
            "upstream = \"http://a\"\nclients = \"file:c\"",
            "`clients` are for a gate that holds the credential itself",
        ),
        (
            "upstream = \"http://a\"\nlimits = { requests_per_second = -1 }",
            "`requests_per_second` must be between 0 and 1000000",
        ),
        (
            "upstream = \"http://a\"\nupstream_tls = { insecure = true }",
            "`ca` is missing in `upstream_tls`",
        ),
    ] {
        let found = places(&jira(lines));
        assert!(found.iter().any(|(_, _, found)| found == message), "{lines}: {found:?}");
        assert!(found.iter().all(|(_, _, found)| !found.contains("hush")), "{found:?}");
    }
}
