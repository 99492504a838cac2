//! The configuration file: every mistake at once, every default, every form of an address.

use std::path::{Path, PathBuf};

use rowarden::cli::report::{self, Colours};
use rowarden::config::{AuditMode, AuditSql, Config};
use rowarden::policy::document::Mistakes;

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
tls = { mode = "require", cert = "a", key = "b" }
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
        (5, 8, "`auth = \"users\"` is not supported by this version"),
        (6, 19, "`max_connections` must be between 1 and 100000"),
        (7, 16, "`tls`: encryption is not supported by this version"),
        (8, 1, "`[jira]` is not supported by this version"),
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
            (1, 1, "`[postgres]` is missing: there is no gate to serve".to_owned()),
            (1, 1, "`[audit]` is missing: nothing passes that cannot be recorded".to_owned()),
        ]
    );
}

#[test]
fn the_shortest_file_gets_every_default() {
    let config = parse(&with_listen_and_upstream("\"127.0.0.1:6432\"", "postgres://db")).unwrap();

    assert_eq!(config.policy_dir, None);
    assert_eq!(config.postgres.max_connections, 2000);
    assert_eq!(config.audit.mode, AuditMode::Written);
    assert_eq!(config.audit.sql, AuditSql::Normalized);
}

#[test]
fn relative_folders_are_relative_to_the_file() {
    let text = with_listen_and_upstream("\"unix:gate.sock\"", "unix:run:5433");
    let config = parse(&format!("policy_dir = \"policy\"\n{text}")).unwrap();

    assert_eq!(config.policy_dir, Some(PathBuf::from("/etc/rowarden/policy")));
    assert_eq!(config.audit.dir, PathBuf::from("/etc/rowarden/audit"));
    assert_eq!(config.postgres.listen[0].to_string(), "/etc/rowarden/gate.sock");
    let server = config.postgres.upstream.addresses[0].to_string();
    assert_eq!(server, "/etc/rowarden/run/.s.PGSQL.5433");
}

#[test]
fn encryption_that_asks_for_nothing_is_accepted() {
    for tls in [
        "tls = { mode = \"disable\" }",
        "tls = { mode = \"allow\" }",
        "tls = { mode = \"disable\", cert = \"c\", key = \"k\" }",
        "upstream_tls = { mode = \"disable\" }",
        "auth = \"passthrough\"",
    ] {
        let text = with_listen_and_upstream("\"127.0.0.1:6432\"", "postgres://db");
        let text = text.replace("[postgres]\n", &format!("[postgres]\n{tls}\n"));
        assert!(parse(&text).is_ok(), "{tls}");
    }
}

#[test]
fn encryption_that_would_not_happen_is_a_mistake() {
    for tls in [
        "tls = { mode = \"allow\", cert = \"c\", key = \"k\" }",
        "tls = { mode = \"mutual\" }",
        "tls = { mode = \"verify-full\" }",
        "tls = {}",
        "tls = true",
        "upstream_tls = { mode = \"require\" }",
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
        let listen = config.expect(written).postgres.listen;
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
        let addresses = config.expect(written).postgres.upstream.addresses;
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
