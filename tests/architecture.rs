//! The shape of the code, held by reading it as text: which way imports point, what pure modules
//! may not name, and that a newcomer finds every file from `lib.rs` and from the walk in docs.
//!
//! A failure says what to move. Tests inside a file (from `#[cfg(test)]` on) are not looked at: they
//! may use what they like.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// How far down the road a module stands. Imports go to the same rank or a lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The rules.
    Policy,
    /// What is written down about a decision.
    Event,
    /// A gate as far as it needs no world.
    PureGate,
    /// What moves bytes, reads files and asks the clock.
    Io,
    /// The demo, which uses the gates as anybody would.
    Demo,
    /// The command line.
    Cli,
    /// `main.rs`.
    Main,
}

const PURE_GATE: [&str; 13] = [
    "catalog",
    "dismissal",
    "frame",
    "handshake",
    "message",
    "outbox",
    "posture",
    "prepared",
    "reply",
    "scram",
    "session",
    "startup",
    "users",
];
const PURE_JIRA: [&str; 9] =
    ["access", "framing", "headers", "outbox", "refusal", "reply", "request", "rewrite", "site"];
const PURE_AUDIT: [&str; 10] =
    ["event", "export", "http", "json", "line", "merkle", "note", "redact", "report", "schema"];

/// What a pure module may not name, word by word.
const IMPURE_WORDS: [&str; 15] = [
    "File",
    "Instant",
    "Mutex",
    "RwLock",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "ToSocketAddrs",
    "UdpSocket",
    "UnixListener",
    "UnixStream",
    "async",
    "await",
    "tokio",
    "tracing",
];

/// What it may not write either. An address or a point in time as a value is no socket and no clock;
/// asking for the present one is.
const IMPURE_FORMS: [&str; 4] = ["::now(", "std::env", "std::fs", "std::process"];

/// The rank of a path of modules, such as `["postgres", "session", "simple"]`.
fn rank_of(modules: &[&str]) -> Option<Rank> {
    match modules {
        ["policy", ..] => Some(Rank::Policy),
        ["audit", part, ..] if PURE_AUDIT.contains(part) => Some(Rank::Event),
        ["postgres", part, ..] if PURE_GATE.contains(part) => Some(Rank::PureGate),
        ["jira", part, ..] if PURE_JIRA.contains(part) => Some(Rank::PureGate),
        ["audit" | "config" | "dial" | "jira" | "listen" | "postgres", ..] => Some(Rank::Io),
        ["demo", ..] => Some(Rank::Demo),
        ["cli", ..] => Some(Rank::Cli),
        ["main"] => Some(Rank::Main),
        _ => None,
    }
}

struct SourceFile {
    /// As in the repository: `src/postgres/frame.rs`.
    path: String,
    /// The code with comments and text literals blanked and the tests at its foot cut off.
    code: String,
    /// Everything, as it stands.
    text: String,
}

impl SourceFile {
    fn modules(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        path.split('/').filter(|part| *part != "mod").collect()
    }

    fn rank(&self) -> Rank {
        rank_of(&self.modules()).unwrap_or_else(|| {
            panic!(
                "{} has no place in the order of imports: give its module a rank in \
                 tests/architecture.rs, and a chapter in docs/LIFE_OF_A_QUERY.md",
                self.path
            )
        })
    }

    fn is_pure(&self) -> bool {
        // `postgres/mod.rs` and `audit/mod.rs` only list their parts.
        self.rank() <= Rank::PureGate
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, into);
        } else if is_rust(&path) {
            into.push(path);
        }
    }
}

fn source_files() -> Vec<SourceFile> {
    let mut paths = Vec::new();
    collect(&root().join("src"), &mut paths);
    assert!(paths.len() > 10, "src/ was not found");
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let without_tests = text.split("\n#[cfg(test)]").next().unwrap();
            SourceFile { path, code: code_only(without_tests), text }
        })
        .collect()
}

/// The modules proper: `lib.rs` lists them and stands outside the order.
fn module_files() -> Vec<SourceFile> {
    source_files().into_iter().filter(|file| file.path != "src/lib.rs").collect()
}

/// Blanks line comments and text literals, so that prose is free to speak of sockets and clocks.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if let Some(raw) = raw_literal(rest) {
            code.push_str("\"\"");
            rest = &rest[raw..];
        } else if next == '"' {
            code.push_str("\"\"");
            rest = &rest[plain_literal(rest)..];
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            // A quote as a character literal opens nothing.
            rest = rest[1..].split_once('\'').map_or("", |(_, behind)| behind);
        } else {
            code.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    code
}

/// Bytes of the plain literal at the front, quotes included.
fn plain_literal(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

/// Bytes of the raw literal at the front (`r"…"`, `r#"…"#`), if one stands there.
fn raw_literal(text: &str) -> Option<usize> {
    let behind = text.strip_prefix('r')?;
    let hashes = behind.len() - behind.trim_start_matches('#').len();
    let body = behind[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end)?;
    Some(1 + hashes + 1 + length + end.len())
}

/// Every `crate::a::b` in code, as its modules; `pub(in crate::…)` is a fence, not an import.
fn imports(code: &str) -> Vec<Vec<&str>> {
    code.match_indices("crate::")
        .filter(|(at, _)| {
            let before = &code[..*at];
            !before.ends_with("in ") && !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
        })
        .map(|(at, found)| {
            let path = &code[at + found.len()..];
            let end = path
                .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
                .unwrap_or(path.len());
            path[..end].split("::").filter(|part| !part.is_empty()).collect()
        })
        .collect()
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}

fn fail_if_any(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn imports_point_from_the_command_line_towards_the_rules() {
    let files = module_files();

    let mut faults = Vec::new();
    for file in &files {
        for import in imports(&file.code) {
            match rank_of(&import) {
                None => faults.push(format!(
                    "{}: crate::{} has no rank; name it in tests/architecture.rs",
                    file.path,
                    import.join("::")
                )),
                Some(rank) if rank > file.rank() => faults.push(format!(
                    "{} ({:?}) names crate::{} ({rank:?}): move what it needs down to its own \
                     rank, or let the caller hand it in",
                    file.path,
                    file.rank(),
                    import.join("::")
                )),
                Some(_) => {}
            }
        }
    }

    fail_if_any(&faults);
}

#[test]
fn imports_are_written_so_that_they_can_be_checked() {
    let mut faults = Vec::new();
    for file in &module_files() {
        for (form, instead) in [
            ("crate::{", "write one `use crate::module::..` a line"),
            ("super::super", "write the path from `crate::`"),
        ] {
            if file.code.contains(form) {
                faults.push(format!("{}: `{form}`: {instead}", file.path));
            }
        }
        let climbs = file.code.replace("pub(super)", "");
        if climbs.contains("super::") {
            faults.push(format!("{}: `super::`: write the path from `crate::`", file.path));
        }
    }

    fail_if_any(&faults);
}

#[test]
fn pure_modules_name_no_socket_clock_file_lock_or_async() {
    let mut faults = Vec::new();
    for file in module_files().iter().filter(|file| file.is_pure()) {
        let named = words(&file.code).filter(|word| IMPURE_WORDS.contains(word));
        let written = IMPURE_FORMS.into_iter().filter(|form| file.code.contains(form));
        for impure in named.chain(written) {
            faults.push(format!(
                "{} is pure and names `{impure}`: move that to the IO half and hand the value in",
                file.path
            ));
        }
    }

    fail_if_any(&faults);
}

#[test]
fn only_the_replies_name_pgwire() {
    let faults: Vec<String> = source_files()
        .iter()
        .filter(|file| file.path != "src/postgres/reply.rs")
        .filter(|file| words(&file.code).any(|word| word == "pgwire"))
        .map(|file| {
            format!("{} names pgwire: encode it in src/postgres/reply.rs instead", file.path)
        })
        .collect();

    fail_if_any(&faults);
}

#[test]
fn lib_lists_every_module_at_the_top() {
    let files = source_files();
    let lib = files.iter().find(|file| file.path == "src/lib.rs").unwrap();

    let faults: Vec<String> = files
        .iter()
        .filter_map(|file| file.path.trim_start_matches("src/").split('/').next())
        .map(|top| top.trim_end_matches(".rs"))
        .filter(|top| !["lib", "main"].contains(top))
        .filter(|top| !lib.code.contains(&format!("pub mod {top};")))
        .map(|top| format!("src/lib.rs does not list `{top}`: place it where traffic meets it"))
        .collect();

    fail_if_any(&faults);
}

#[test]
fn life_of_a_query_names_every_source_file_and_no_other() {
    let files = source_files();
    let walk = fs::read_to_string(root().join("docs/LIFE_OF_A_QUERY.md")).unwrap();

    let mut faults: Vec<String> = files
        .iter()
        .filter(|file| !walk.contains(&format!("`{}`", file.path)))
        .map(|file| {
            format!("docs/LIFE_OF_A_QUERY.md does not name `{}`: say what it is for", file.path)
        })
        .collect();
    for named in walk.split('`').filter(|word| word.starts_with("src/") && is_rust(Path::new(word)))
    {
        if !files.iter().any(|file| file.path == named) {
            faults.push(format!("docs/LIFE_OF_A_QUERY.md names `{named}`, which is gone"));
        }
    }

    fail_if_any(&faults);
}

#[test]
fn every_file_says_what_it_is_for_in_its_first_line() {
    let faults: Vec<String> = source_files()
        .iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| format!("{} has no `//!` head", file.path))
        .collect();

    fail_if_any(&faults);
}

#[test]
fn no_file_has_more_than_five_hundred_lines_before_its_tests() {
    let faults: Vec<String> = source_files()
        .iter()
        .filter_map(|file| {
            let lines = file.text.split("\n#[cfg(test)]").next().unwrap().lines().count();
            (lines > 500).then(|| format!("{} has {lines} lines: split it by idea", file.path))
        })
        .collect();

    fail_if_any(&faults);
}

#[test]
fn the_reader_of_this_test_sees_code_and_not_prose() {
    let code = code_only(
        "use crate::policy::reason::Reason; // tokio\nlet a = \"fs \\\" net\"; let q = '\"'; r#\"a\"b\"# File",
    );

    assert_eq!(imports(&code), [["policy", "reason", "Reason"]]);
    assert!(!words(&code).any(|word| ["tokio", "fs", "net"].contains(&word)));
    assert!(words(&code).any(|word| word == "File"));
    assert!(imports("pub(in crate::policy) fn grant()").is_empty());
}
