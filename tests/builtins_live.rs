//! The shipped policy beside a real catalog: every function that the server has was looked at by
//! somebody, and every setting that the policy lists exists.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::thread;

use rowarden::policy::file::{BuiltinFunction, Policy};
use rowarden::policy::reason::Reason;
use rowarden::policy::sql::{is_scalar_type, judge_sql};
use rowarden::policy::verdict::Verdict;

/// Settings that came after PostgreSQL 15.
const NEWER_THAN_15: [&str; 6] = [
    "enable_distinct_reordering",
    "enable_group_by_reordering",
    "enable_presorted_aggregate",
    "enable_self_join_elimination",
    "restrict_nonsystem_relation_kind",
    "transaction_timeout",
];

/// Settings that a server has once an extension is loaded.
const OF_EXTENSIONS: [&str; 3] = [
    "pg_trgm.similarity_threshold",
    "pg_trgm.strict_word_similarity_threshold",
    "pg_trgm.word_similarity_threshold",
];

/// Functions that the judge knows more about than a name: with which arguments `ts_rewrite` runs
/// SQL, that `pg_stat_get_activity` shows what others are doing, that `set_config` is SET.
const JUDGED_BY_THEIR_ARGUMENTS: [&str; 3] = ["pg_stat_get_activity", "set_config", "ts_rewrite"];

/// Versions whose functions have all been looked at. Minor releases may bring new ones: 15.20 did.
const REVIEWED: RangeInclusive<u32> = 150_000..=150_018;

/// Whether each function of the server has its place in the policy. In any other server a function
/// that the policy does not know must be refused, and a new release must not fail the tests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reviewed {
    Yes,
    No,
}

fn review_of_the_server() -> Reviewed {
    let version = first_column("SHOW server_version_num");
    let version = version.first().unwrap().parse().unwrap();
    if REVIEWED.contains(&version) { Reviewed::Yes } else { Reviewed::No }
}

fn first_column(sql: &str) -> BTreeSet<String> {
    let reply = support::cluster().execute("postgres", sql).unwrap();
    let rows = reply.results[0].rows.iter();
    rows.map(|row| row[0].clone().unwrap()).collect()
}

/// The reason why a call without arguments is refused; `None` if it is let through.
fn refusal(policy: &Policy, name: &str) -> Option<Reason> {
    let call = format!("SELECT pg_catalog.\"{name}\"()");
    match judge_sql(policy, call.as_bytes()).verdict {
        Verdict::Allow(_) => None,
        Verdict::Deny(denial) => Some(denial.reason),
        Verdict::Fault(fault) => panic!("{call}: {fault:?}"),
    }
}

/// What is wrong with the verdict on this function; `None` if it is as the policy says.
fn fault_of(policy: &Policy, name: &str, reviewed: Reviewed) -> Option<String> {
    if JUDGED_BY_THEIR_ARGUMENTS.contains(&name) {
        return refusal(policy, name).is_none().then(|| format!("{name} passes by its name"));
    }
    let known = policy.builtin_function(name);
    match (known, refusal(policy, name)) {
        (BuiltinFunction::Reads, None)
        | (BuiltinFunction::Refused(_), Some(Reason::SqlFunction)) => None,
        (BuiltinFunction::Unknown, Some(Reason::SqlFunction)) if reviewed == Reviewed::No => None,
        (BuiltinFunction::Unknown, Some(Reason::SqlFunction)) => {
            Some(format!("{name}: nobody has looked at it"))
        }
        (known, verdict) => Some(format!("{name} is {known:?} and yet judged {verdict:?}")),
    }
}

#[test]
fn every_function_of_the_server_is_a_read_or_is_refused_by_name() {
    let names = first_column(
        "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace",
    );
    assert!(names.len() > 2_500, "{}", names.len());
    let reviewed = review_of_the_server();

    // The judge's parsers want a larger stack than a test's thread has.
    let judging = thread::Builder::new().stack_size(64 << 20).spawn(move || {
        let policy = Policy::shipped().unwrap();
        names.iter().filter_map(|name| fault_of(&policy, name, reviewed)).collect::<Vec<_>>()
    });
    let faults = judging.unwrap().join().unwrap();

    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_setting_that_the_policy_lists_exists_or_is_known_to_be_newer() {
    let known = first_column("SELECT lower(name) FROM pg_settings");
    let policy = Policy::shipped().unwrap();

    let unknown: BTreeSet<&str> =
        policy.listed_settings().filter(|name| !known.contains(*name)).collect();
    let newer: BTreeSet<&str> = NEWER_THAN_15.into_iter().chain(OF_EXTENSIONS).collect();

    assert!(unknown.is_subset(&newer), "{:?}", unknown.difference(&newer));
    let listed: BTreeSet<&str> = policy.listed_settings().collect();
    assert!(newer.is_subset(&listed), "no longer listed: {:?}", newer.difference(&listed));
}

#[test]
fn every_type_of_the_server_without_columns_is_known_as_such() {
    let types = first_column(
        "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace
         AND (typtype IN ('b', 'r', 'm') AND typcategory <> 'A' OR typname IN ('cstring', 'unknown'))",
    );
    assert!(types.len() > 80, "{}", types.len());

    let overlooked: Vec<_> = types.iter().filter(|name| !is_scalar_type(name)).collect();

    assert!(overlooked.is_empty(), "{overlooked:?}");
}

#[test]
fn no_row_of_the_server_is_taken_for_a_scalar() {
    let rows = first_column(
        "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace
         AND (typtype IN ('c', 'd') OR typname IN ('record', 'anyelement', 'anyarray'))",
    );
    assert!(rows.len() > 100, "{}", rows.len());

    let taken: Vec<_> = rows.iter().filter(|name| is_scalar_type(name)).collect();

    assert!(taken.is_empty(), "{taken:?}");
}
