//! Whatever the gate would send on it judges the same again, and two readers cannot read it differently.
//!
//! Targets are put together from pieces of known ones and from what hides in hostile ones; the fuzz
//! target `target` does the same with more patience.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::LazyLock;

use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use rowarden::policy::jira::judge::route;
use rowarden::policy::jira::operation::Group;
use rowarden::policy::jira::table::JiraPolicy;

static POLICY: LazyLock<JiraPolicy> =
    LazyLock::new(|| JiraPolicy::shipped().unwrap().open(Group::ALL));

/// Pieces of paths, good and bad.
fn piece() -> impl Strategy<Value = String> {
    let known = [
        "rest",
        "api",
        "2",
        "3",
        "latest",
        "agile",
        "1.0",
        "servicedeskapi",
        "issue",
        "ABC-1",
        "10001",
        "comment",
        "project",
        "ABC",
        "field",
        "search",
        "jql",
        "board",
        "sprint",
        "user",
        "worklog",
        "secure",
        "attachment",
        "r%C3%A9sum%C3%A9.pdf",
        "a%20b",
        "a:b@c",
    ];
    let hostile = [
        "..", ".", "", "%2e%2e", ".%2e", "..;", "a;b", "%2f", "%5c", "\\", "%00", "%", "%25",
        "%61", "...", "%c0%ae", "%ff", "?", "#", "%0d%0a", " ", "%20",
    ];
    prop_oneof![
        8 => prop::sample::select(known.to_vec()).prop_map(ToOwned::to_owned),
        2 => prop::sample::select(hostile.to_vec()).prop_map(ToOwned::to_owned),
        1 => "[ -~]{0,6}",
    ]
}

fn query() -> impl Strategy<Value = String> {
    let names = [
        "jql",
        "fields",
        "expand",
        "startAt",
        "maxResults",
        "updateHistory",
        "updateHistor%79",
        "UPDATEHISTORY",
        "os_username",
        "_method",
        "redirect",
        "accountId",
    ];
    let values =
        ["", "1", "true", "False", "a+b", "%20", "%22a%26b%22", "%ff", "a;b", "*all", "ü", "%00"];
    let pair = (prop::sample::select(names.to_vec()), prop::sample::select(values.to_vec()))
        .prop_map(|(name, value)| format!("{name}={value}"));
    prop::collection::vec(pair, 0..4).prop_map(|pairs| pairs.join("&"))
}

/// A known beginning, pieces, a query or none.
fn target() -> impl Strategy<Value = Vec<u8>> {
    let begin =
        ["/rest/api/2/issue/ABC-1", "/rest/api/latest", "/rest/agile/1.0/board", "/secure", ""];
    let begin = prop::sample::select(begin.to_vec());
    (begin, prop::collection::vec(piece(), 0..6), query(), any::<bool>()).prop_map(
        |(begin, pieces, query, asks)| {
            let mut target = begin.to_owned();
            for piece in pieces {
                target.push('/');
                target.push_str(&piece);
            }
            if asks {
                target.push('?');
                target.push_str(&query);
            }
            target.into_bytes()
        },
    )
}

proptest! {
    #[test]
    fn what_is_sent_on_is_the_same_request_to_every_reader(target in target()) {
        for method in ["GET", "HEAD"] {
            let Ok(routed) = route(&POLICY, method, &target) else { continue };
            let operation = routed.operation().to_owned();
            let sent = routed.clear(None, None).unwrap().request().target.clone();

            let again = route(&POLICY, method, sent.as_bytes()).unwrap();
            prop_assert_eq!(again.operation(), &operation);
            let sent_again = again.clear(None, None).unwrap().request().target.clone();
            prop_assert_eq!(&sent_again, &sent);
            let (path, query) = sent.split_once('?').unwrap_or((&sent, ""));
            for hostile in ["//", "/.", ";", "\\", "#", "%2F", "%5C", "%00", "%25", "%2E"] {
                prop_assert!(!path.contains(hostile), "{}", sent);
            }
            for pair in query.split('&').filter(|pair| pair.starts_with("updateHistory")) {
                prop_assert_eq!(pair, "updateHistory=false");
            }
        }
    }

    #[test]
    fn no_method_but_those_of_reads_passes(target in target(), method in "[A-Za-z]{1,8}") {
        if let Ok(routed) = route(&POLICY, &method, &target) {
            prop_assert!(["GET", "HEAD", "POST"].contains(&method.as_str()), "{}", routed.operation());
        }
    }
}
