//! Every reason for a refusal is explained to the person who reads it, and something ends in it.
//!
//! A reason needs a chapter in SECURITY.md under its code, and a case in `tests/cases/*.toml` with
//! `denied = "code"`. What no SQL text can reach (the protocol, limits, the log) names a test instead
//! of a statement: `test = "name_of_a_test_function"`.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rowarden::policy::reason::Reason;

/// Every table in every file of `tests/cases`, with the file's name.
fn cases() -> Vec<(String, toml::Table)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(root().join("tests/cases"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let file: toml::Table = toml::from_str(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|fault| panic!("tests/cases/{name}: {fault}"));
        for case in file.get("case").and_then(toml::Value::as_array).into_iter().flatten() {
            cases.push((name.clone(), case.as_table().unwrap().clone()));
        }
    }
    cases
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The chapters of SECURITY.md that have a reason's code as their title.
fn chapters() -> BTreeMap<String, String> {
    let security = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    security
        .split("\n### ")
        .skip(1)
        .map(|chapter| {
            let (title, body) = chapter.split_once('\n').unwrap();
            let body = body.split("\n## ").next().unwrap();
            (title.trim().to_owned(), body.to_owned())
        })
        .collect()
}

fn collect_sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

fn text<'a>(case: &'a toml::Table, key: &str) -> Option<&'a str> {
    case.get(key).and_then(toml::Value::as_str)
}

#[test]
fn every_reason_has_a_chapter_that_says_what_why_and_what_instead() {
    let chapters = chapters();

    let mut faults = Vec::new();
    for reason in Reason::ALL {
        let code = reason.code();
        let Some(chapter) = chapters.get(code) else {
            faults.push(format!("SECURITY.md has no chapter `### {code}`"));
            continue;
        };
        for part in ["**What.**", "**Why.**", "**Instead.**"] {
            if !chapter.contains(part) {
                faults.push(format!("SECURITY.md, {code}: no {part}"));
            }
        }
        if !chapter.contains(&format!("`{}`", reason.sqlstate())) {
            faults.push(format!(
                "SECURITY.md, {code}: the SQLSTATE is `{}`, which the chapter does not say",
                reason.sqlstate()
            ));
        }
    }

    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_reason_is_the_end_of_a_case() {
    let cases = cases();

    let missing: Vec<String> = Reason::ALL
        .iter()
        .filter(|reason| !cases.iter().any(|(_, case)| text(case, "denied") == Some(reason.code())))
        .map(|reason| {
            format!(
                "no case in tests/cases ends in `{}`: add one with its SQL, or to protocol.toml \
                 with the name of a test",
                reason.code()
            )
        })
        .collect();

    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
}

#[test]
fn every_case_ends_in_a_reason_that_exists_and_says_why_it_is_there() {
    let mut faults = Vec::new();
    for (file, case) in cases() {
        let shown = ["sql", "http", "test"]
            .into_iter()
            .find_map(|key| text(&case, key))
            .unwrap_or("(nothing)");
        if let Some(code) = text(&case, "denied")
            && Reason::from_code(code).is_none()
        {
            faults.push(format!("{file}: `{shown}`: no reason has the code `{code}`"));
        }
        if text(&case, "why").is_none() {
            faults.push(format!("{file}: `{shown}`: no `why`"));
        }
    }

    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_test_that_a_case_names_is_there() {
    let mut sources = String::new();
    collect_sources(&root().join("tests"), &mut sources);
    collect_sources(&root().join("src"), &mut sources);

    let gone: Vec<String> = cases()
        .iter()
        .filter_map(|(file, case)| Some((file, text(case, "test")?)))
        .filter(|(_, test)| {
            !["#[test]", "#[tokio::test]", "#[tokio::test(start_paused = true)]"].iter().any(
                |mark| {
                    sources.split(mark).skip(1).any(|behind| {
                        let head: String = behind.chars().take(400).collect();
                        head.split('{')
                            .next()
                            .is_some_and(|head| head.contains(&format!("fn {test}(")))
                    })
                },
            )
        })
        .map(|(file, test)| format!("{file} names the test `{test}`, which is nowhere"))
        .collect();

    assert!(gone.is_empty(), "\n{}\n", gone.join("\n"));
}
