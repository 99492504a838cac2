//! The table of operations and the router: whatever an operator writes, a known write stays one, and a
//! path leads to an operation that takes it.

use rowarden::policy::jira::judge::route;
use rowarden::policy::jira::table::JiraPolicy;
use rowarden::policy::reason::Reason;

/// Requests that write, whatever the rules say.
const WRITES: [(&str, &str); 8] = [
    ("POST", "/rest/api/2/issue"),
    ("PUT", "/rest/api/latest/issue/A-1"),
    ("DELETE", "/rest/api/3/issue/A-1/comment/1"),
    ("POST", "/rest/api/3/issue/bulk"),
    ("GET", "/browse/A-1"),
    ("GET", "/secure/Dashboard.jspa"),
    ("GET", "/plugins/servlet/a/b"),
    ("POST", "/gateway/api/graphql"),
];

/// Reads `data` as the rules of an operator, and as a table in place of the built-in one. Lines that
/// begin with a slash are paths that are then asked for.
///
/// # Panics
/// When a file makes a read of a known write.
pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (paths, rules): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with('/'));
    let rules = rules.join("\n");
    let shipped = || JiraPolicy::shipped().expect("the shipped table is right");
    for policy in [shipped().with_rules(&rules), JiraPolicy::parse(&rules)].into_iter().flatten() {
        for (method, target) in WRITES {
            assert!(route(&policy, method, target.as_bytes()).is_err(), "{method} {target}");
        }
        for path in &paths {
            for method in ["GET", "POST", "DELETE"] {
                check_known(&shipped(), &policy, method, path);
            }
        }
    }
}

/// What the built-in table knows as a write no other table lets through.
fn check_known(shipped: &JiraPolicy, policy: &JiraPolicy, method: &str, path: &str) {
    let known = route(shipped, method, path.as_bytes());
    if known.is_err_and(|denial| denial.reason == Reason::JiraWrite) {
        assert!(route(policy, method, path.as_bytes()).is_err(), "{method} {path}");
    }
}
