//! The reader of request targets and the judge behind it: what is sent on is canonical, and judged again
//! it is the same request.

use rowarden::policy::jira::judge::{BodyRule, route};
use rowarden::policy::jira::target::origin_form;

use super::jira_policy;

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"];

/// Judges `data` as a target, with each method. What stands behind a line feed is a body.
///
/// # Panics
/// When something is sent on that a second reader could read differently.
pub fn check(data: &[u8]) {
    let line = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (target, body) = data.split_at(line);
    let target = origin_form(target).unwrap_or(target);
    for method in METHODS {
        check_request(method, target, body.get(1..).unwrap_or_default());
    }
}

fn check_request(method: &str, target: &[u8], body: &[u8]) {
    let policy = jira_policy();
    let routed = match route(&policy, method, target) {
        Ok(routed) => routed,
        Err(denial) => {
            assert!(!denial.operation.is_empty() && !denial.note.is_empty());
            assert!(denial.reason.http_status() >= 400);
            return;
        }
    };
    let body = match routed.body_rule() {
        BodyRule::Json { .. } => Some(body.to_vec()),
        BodyRule::None => None,
    };
    let Ok(cleared) = routed.clear(body.clone(), Some("application/json")) else { return };
    let read = cleared.request();
    assert!(["GET", "HEAD", "POST"].contains(&read.method.name()), "{read:?}");
    check_canonical(&read.target);
    assert_eq!(read.body, body);
    if let Some(body) = &body {
        let object: serde_json::Value = serde_json::from_slice(body).expect("JSON");
        assert!(object.is_object());
    }

    let again = route(&policy, method, read.target.as_bytes()).expect("a read, judged again");
    let again = again.clear(body, Some("application/json")).expect("a read, judged again");
    assert_eq!(again.request(), read);
}

/// Nothing that anybody takes for something else than a plain path and parameters.
fn check_canonical(target: &str) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    assert!(path.starts_with('/') && target.is_ascii(), "{target}");
    for bad in ["//", "/.", "\\", ";", "#", "%2F", "%2E", "%5C", "%25", "%00", "%3B", " "] {
        assert!(!path.contains(bad), "{bad} in {target}");
    }
    assert!(!path.ends_with('/'), "{target}");
    for bad in ["?", ";", "#", "%00", " ", "+", "[", "]"] {
        assert!(!query.contains(bad), "{bad} in {target}");
    }
    let history = query.split('&').filter(|pair| pair.to_lowercase().starts_with("updatehistory"));
    assert!(history.clone().count() <= 1, "{target}");
    assert!(history.into_iter().all(|pair| pair == "updateHistory=false"), "{target}");
}
