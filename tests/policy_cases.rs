//! What is judged how: every case of `tests/cases/*.toml` that holds a statement.
//!
//! A case is judged as the first statement of a session unless it says `on_the_way = true`.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use rowarden::policy::file::Policy;
use rowarden::policy::sql::{JudgedSql, Past, judge_sql};
use rowarden::policy::verdict::Verdict;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    why: String,
    sql: Option<String>,
    #[serde(rename = "test")]
    _test: Option<String>,
    denied: Option<String>,
    operation: Option<String>,
    fault: Option<String>,
    position: Option<usize>,
    #[serde(default)]
    on_the_way: bool,
}

/// What a client would be told: `allowed`, `denied CODE` or `fault SQLSTATE`.
fn outcome(judged: &JudgedSql, past: Past) -> (String, Option<String>, Option<usize>) {
    match &judged.verdict {
        Verdict::Allow(cleared) => match cleared.request().unmet_habit(past) {
            Some(denial) => {
                (format!("denied {}", denial.reason.code()), Some(denial.operation.clone()), None)
            }
            None => ("allowed".to_owned(), None, None),
        },
        Verdict::Deny(denial) => {
            (format!("denied {}", denial.reason.code()), Some(denial.operation.clone()), None)
        }
        Verdict::Fault(fault) => (format!("fault {}", fault.sqlstate), None, fault.position),
    }
}

fn check(policy: &Policy, case: &Case, file: &str) -> Option<String> {
    let sql = case.sql.as_deref()?;
    let past = if case.on_the_way { Past::Statement } else { Past::Nothing };
    let (found, operation, position) = outcome(&judge_sql(policy, sql.as_bytes()), past);
    let expected = match (&case.denied, &case.fault) {
        (Some(code), None) => format!("denied {code}"),
        (None, Some(sqlstate)) => format!("fault {sqlstate}"),
        (None, None) => "allowed".to_owned(),
        (Some(_), Some(_)) => panic!("{file}: {}: denied and fault at once", case.why),
    };
    let named_right = case.operation.is_none() || case.operation == operation;
    let placed_right = case.position.is_none() || case.position == position;
    (found != expected || !named_right || !placed_right).then(|| {
        format!("{file}: {}\n  {sql}\n  expected {expected} {:?}, found {found} {operation:?} at {position:?}", case.why, case.operation)
    })
}

#[test]
fn every_case_is_judged_as_it_says() {
    let stack = 64 << 20;
    let run = std::thread::Builder::new().stack_size(stack).spawn(|| {
        let policy = Policy::shipped().unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
        let mut judged = 0;
        let mut wrong = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            let cases: Cases = toml::from_str(&fs::read_to_string(&path).unwrap())
                .unwrap_or_else(|fault| panic!("{file}: {fault}"));
            judged += cases.case.iter().filter(|case| case.sql.is_some()).count();
            wrong.extend(cases.case.iter().filter_map(|case| check(&policy, case, &file)));
        }
        (judged, wrong)
    });

    let (judged, wrong) = run.unwrap().join().unwrap();

    assert!(judged > 100, "only {judged} cases");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
