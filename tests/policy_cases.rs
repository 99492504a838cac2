//! What is judged how: every case of `tests/cases/*.toml` that holds a statement or an HTTP request.
//!
//! A statement is judged as the first one of a session unless the case says `on_the_way = true`. A
//! request is judged with all groups closed but those in `open`; `sent` is the target that goes up.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use rowarden::policy::file::Policy;
use rowarden::policy::jira::judge::{JiraDenial, route};
use rowarden::policy::jira::operation::Group;
use rowarden::policy::jira::table::JiraPolicy;
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
    http: Option<String>,
    body: Option<String>,
    #[serde(default = "json")]
    content_type: String,
    #[serde(default)]
    open: Vec<String>,
    sent: Option<String>,
}

fn json() -> String {
    "application/json".to_owned()
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

/// The operation and the target that goes up, or the refusal.
fn judge_http(
    shipped: &JiraPolicy,
    case: &Case,
    http: &str,
) -> Result<(String, String), JiraDenial> {
    let groups = case.open.iter().map(|name| Group::from_name(name).unwrap());
    let policy = shipped.clone().open(groups);
    let (method, target) = http.split_once(' ').unwrap();
    let body = case.body.as_ref().map(|body| body.clone().into_bytes());
    let cleared =
        route(&policy, method, target.as_bytes())?.clear(body, Some(&case.content_type))?;
    let read = cleared.request();
    Ok((read.operation.clone(), read.target.clone()))
}

fn check_http(shipped: &JiraPolicy, case: &Case, file: &str) -> Option<String> {
    let http = case.http.as_deref()?;
    let (found, operation, sent) = match judge_http(shipped, case, http) {
        Ok((operation, sent)) => (None, operation, Some(sent)),
        Err(denial) => (Some(denial.reason.code().to_owned()), denial.operation, None),
    };
    let target = http.split_once(' ').map(|(_, target)| target.to_owned());
    let expected = if case.denied.is_some() { None } else { case.sent.clone().or(target) };
    let named_right = case.operation.is_none() || case.operation.as_ref() == Some(&operation);
    (found != case.denied || !named_right || sent != expected).then(|| {
        format!("{file}: {}\n  {http}\n  found {found:?} {operation}, sent {sent:?}", case.why)
    })
}

#[test]
fn every_request_is_judged_as_its_case_says() {
    let shipped = JiraPolicy::shipped().unwrap();

    let (requests, wrong) =
        over_all_cases(|case, file| (case.http.is_some(), check_http(&shipped, case, file)));

    assert!(requests > 20, "only {requests} cases");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How many cases were meant, and what is wrong with them.
fn over_all_cases(check: impl Fn(&Case, &str) -> (bool, Option<String>)) -> (usize, Vec<String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut meant = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let cases: Cases = toml::from_str(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|fault| panic!("{file}: {fault}"));
        for case in &cases.case {
            let (is_meant, fault) = check(case, &file);
            meant += usize::from(is_meant);
            wrong.extend(fault);
        }
    }
    (meant, wrong)
}

#[test]
fn every_case_is_judged_as_it_says() {
    let stack = 64 << 20;
    let run = std::thread::Builder::new().stack_size(stack).spawn(|| {
        let policy = Policy::shipped().unwrap();
        over_all_cases(|case, file| (case.sql.is_some(), check(&policy, case, file)))
    });

    let (judged, wrong) = run.unwrap().join().unwrap();

    assert!(judged > 100, "only {judged} cases");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
