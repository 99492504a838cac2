//! The part of a line that speaks of an HTTP request.
//!
//! A query may hold secrets (`?os_password=`, a token) and texts that people search for, so only the
//! values of parameters that say how an answer is shaped are kept; of the others the name stays.

use crate::audit::event::Http;
use crate::audit::json::{Json, MAX_NAME_BYTES};

/// Most bytes of a path: 2 KiB, the longest that is judged.
const MAX_PATH_BYTES: usize = 2048;

/// Most bytes of a query as it is kept.
const MAX_QUERY_BYTES: usize = 1024;

/// Parameters that only say how much of an answer is wanted, and in which form.
const SHOWN: [&str; 9] = [
    "expand",
    "fields",
    "fieldsByKeys",
    "maxResults",
    "orderBy",
    "redirect",
    "startAt",
    "updateHistory",
    "validateQuery",
];

pub(super) fn push_http(request: &Http<'_>, json: &mut Json<'_>) {
    let (path, query) = match request.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (request.target, None),
    };
    json.raw(r#","http":{"request":{"method":"#).text(request.method, MAX_NAME_BYTES);
    json.raw(r#","body":{"size":"#).number(request.body_bytes).raw("}}");
    if let Some(status) = request.status {
        json.raw(r#","response":{"status_code":"#).number(status.into());
        if let Some(bytes) = request.response_bytes {
            json.raw(r#","body":{"size":"#).number(bytes).raw("}");
        }
        json.raw("}");
    }
    json.raw(r#"},"url":{"path":"#).text(path, MAX_PATH_BYTES);
    if let Some(query) = query {
        json.raw(r#","query":"#).text(&masked(query), MAX_QUERY_BYTES);
    }
    json.raw(r#"},"jira":{"operation":"#).text(request.operation, MAX_NAME_BYTES);
    json.name(r#","issue":"#, issue_of(path)).raw("}");
}

fn masked(query: &str) -> String {
    let mut kept = String::with_capacity(query.len().min(MAX_QUERY_BYTES));
    for pair in query.split('&') {
        if !kept.is_empty() {
            kept.push('&');
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // A name that is none may be the secret itself.
        let name = if is_plain_name(name) { name } else { "*" };
        let value = if SHOWN.contains(&name) { value } else { "*" };
        kept.extend([name, "=", value]);
        if kept.len() > MAX_QUERY_BYTES {
            break;
        }
    }
    kept
}

fn is_plain_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    name.len() <= 32 && name.bytes().all(is_plain)
}

/// The issue that the path names: what stands behind `issue` and looks like a key or an id.
fn issue_of(path: &str) -> Option<&str> {
    let mut segments = path.split('/').skip_while(|segment| *segment != "issue").skip(1);
    let named = segments.next()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let has_digit = named.bytes().any(|byte| byte.is_ascii_digit());
    (has_digit && named.len() <= 64 && named.bytes().all(is_plain)).then_some(named)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::push_http;
    use crate::audit::event::Http;
    use crate::audit::json::Json;

    fn pushed(request: &Http<'_>) -> Value {
        let mut line = b"{\"v\":1".to_vec();
        push_http(request, &mut Json(&mut line));
        line.push(b'}');
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn a_request_is_written_down_with_its_issue_and_without_what_may_be_a_secret() {
        let target = "/rest/api/2/issue/ABC-1?fields=summary&os_password=hush&jql=salary\
                      &eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9eyJ&hu%73h=1";
        let written = pushed(&Http {
            method: "GET",
            target,
            operation: "issue",
            body_bytes: 0,
            status: Some(200),
            response_bytes: Some(12),
        });

        assert_eq!(
            written,
            json!({
                "v": 1,
                "http": {
                    "request": { "method": "GET", "body": { "size": 0 } },
                    "response": { "status_code": 200, "body": { "size": 12 } },
                },
                "url": {
                    "path": "/rest/api/2/issue/ABC-1",
                    "query": "fields=summary&os_password=*&jql=*&*=*&*=*",
                },
                "jira": { "operation": "issue", "issue": "ABC-1" },
            })
        );
    }

    #[test]
    fn an_endless_target_makes_a_short_line() {
        let target = format!("/{}?{}", "a".repeat(100_000), "a=b&".repeat(100_000));
        let written = pushed(&Http {
            method: "GET",
            target: &target,
            operation: "(unknown)",
            body_bytes: 0,
            status: None,
            response_bytes: None,
        });

        assert!(written.to_string().len() < 4_000);
    }
}
