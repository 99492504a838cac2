//! What becomes of the site's answers.

use std::io::Write;
use std::time::Duration;

use rowarden::policy::reason::Reason;

use crate::client::{ask, head, last, read_all};
use crate::gate::GateSetup;
use crate::site::{Site, Then, answer, connect, json};

const READ: &str = "GET /rest/api/2/issue/ABC-1";

#[test]
fn urls_of_the_site_are_rewritten_and_every_other_byte_stays() {
    let before = "{ \"self\" : \"https:\\/\\/jira.internal\\/rest\\/1\",\"n\":1.10e+400,\"n\":2,\r\n\
                  \"description\":\"https://jira.internal/x\",\"self\":\"https://other/x\"}";
    let after = before.replace("https:\\/\\/jira.internal", "http:\\/\\/gate.test");
    let site = Site::answering(move |_| {
        (
            answer(
                "200 OK",
                "Content-Type: application/json\r\nETag: \"1\"\r\nSet-Cookie: a=b\r\n",
                before.as_bytes(),
            ),
            Then::Keep,
        )
    });
    let gate = GateSetup::before(&site).start();

    let answer = ask(&gate, last(READ));

    assert_eq!(String::from_utf8(answer.body.clone()).unwrap(), after);
    assert_eq!(answer.field("content-length"), Some(after.len().to_string().as_str()));
    assert_eq!(answer.field("etag"), Some("W/\"1\""));
    assert_eq!(answer.field("set-cookie"), None);
    assert_eq!(site.seen()[0].field("accept-encoding"), Some("identity"));
    let trail = gate.stop();
    let line = trail.of_kind("http.response")[0];
    assert_eq!(line["http"]["response"]["status_code"], 200);
    assert_eq!(line["http"]["response"]["body"]["size"], after.len());
    assert_eq!(line["jira"]["issue"], "ABC-1");
    assert!(line["timing"]["total_us"].is_u64(), "{line}");
}

#[test]
fn a_long_answer_is_rewritten_as_it_passes() {
    let issue = "{\"self\":\"https://jira.internal/rest/api/2/issue/1\",\"summary\":\"text\"},";
    let long = format!("[{}1]", issue.repeat(20_000));
    let rewritten = long.replace("https://jira.internal", "http://gate.test");
    let site = Site::answering(move |_| (json(&long), Then::Keep));
    let gate = GateSetup::before(&site).start();

    let chunked = ask(&gate, last(READ));
    let old = ask(&gate, last(READ).replace("HTTP/1.1", "HTTP/1.0"));

    assert_eq!(chunked.field("transfer-encoding"), Some("chunked"));
    assert_eq!(old.field("transfer-encoding"), None);
    assert_eq!(old.field("content-length"), None);
    assert!(chunked.body == rewritten.as_bytes() && old.body == rewritten.as_bytes());
}

#[test]
fn a_range_of_a_file_and_its_bytes_pass_untouched() {
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let file = bytes.clone();
    let site = Site::answering(move |seen| {
        let kind = if seen.line.contains("attachment") { "application/json" } else { "image/png" };
        (
            answer(
                "206 Partial Content",
                &format!("Content-Type: {kind}\r\nETag: \"1\"\r\n"),
                &file,
            ),
            Then::Keep,
        )
    });
    let gate = GateSetup::before(&site).start();
    let ranged =
        |request: &str| format!("{}Range: bytes=0-99\r\nConnection: close\r\n\r\n", head(request));

    let file = ask(&gate, ranged("GET /rest/api/3/attachment/content/7"));
    let image = ask(&gate, ranged(READ));

    assert!(file.body == bytes && image.body == bytes);
    assert_eq!((file.status, file.field("etag")), (206, Some("\"1\"")));
    assert_eq!(file.field("content-length"), Some("300000"));
    assert_eq!(site.seen()[0].field("range"), Some("bytes=0-99"));
    assert_eq!(site.seen()[1].field("range"), None);
}

#[test]
fn head_follows_get_without_a_length_that_might_change() {
    let site = Site::answering(|seen| {
        let kind = if seen.line.contains("attachment") { "image/png" } else { "application/json" };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 99\r\n\r\n");
        (head.into_bytes(), Then::Keep)
    });
    let gate = GateSetup::before(&site).start();
    let heads = |target: &str| {
        let mut stream = connect(gate.address());
        stream.write_all(last(&format!("HEAD {target}")).as_bytes()).unwrap();
        let mut answers = read_all(&mut stream, "HEAD");
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    };

    let json = heads("/rest/api/2/issue/ABC-1");
    let image = heads("/rest/api/3/attachment/content/7");
    let refused = heads("/rest/api/2/nosuch");

    assert_eq!((json.status, json.field("content-length")), (200, None));
    assert_eq!(json.field("transfer-encoding"), None);
    assert_eq!((image.status, image.field("content-length")), (200, Some("99")));
    assert_eq!(refused.status, 403);
    assert_eq!(site.seen()[0].line, "HEAD /rest/api/2/issue/ABC-1 HTTP/1.1");
}

#[test]
fn answers_without_a_body_and_errors_of_the_site_pass() {
    let site = Site::answering(|seen| {
        let bytes = match seen.line.split(' ').nth(1).unwrap() {
            "/rest/api/2/myself" => answer(
                "404 Not Found",
                "Content-Type: application/json\r\n",
                b"{\"errorMessages\":[]}",
            ),
            "/rest/api/2/field" => answer(
                "429 Too Many Requests",
                "Retry-After: 5\r\nX-RateLimit-Remaining: 0\r\n",
                b"",
            ),
            _ => b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n".to_vec(),
        };
        (bytes, Then::Keep)
    });
    let gate = GateSetup::before(&site).start();

    let missing = ask(&gate, last("GET /rest/api/2/myself"));
    let busy = ask(&gate, last("GET /rest/api/2/field"));
    let same = ask(&gate, last(READ));

    assert_eq!((missing.status, missing.body.as_slice()), (404, &b"{\"errorMessages\":[]}"[..]));
    assert_eq!((busy.status, busy.field("retry-after")), (429, Some("5")));
    assert_eq!(busy.field("x-ratelimit-remaining"), Some("0"));
    assert_eq!((same.status, same.body.len()), (304, 0));
    assert_eq!(site.seen().len(), 3);
}

#[test]
fn a_site_that_is_away_or_silent_is_told_apart() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = GateSetup::before_url(&format!("http://{closed}")).start();
    let silent = Site::answering(|_| (Vec::new(), Then::Wait));
    let silent_gate =
        GateSetup::before(&silent).waiting_for_answers(Duration::from_millis(200)).start();
    let rude = Site::answering(|_| (Vec::new(), Then::Close));
    let rude_gate = GateSetup::before(&rude).start();

    let unreachable = ask(&away, last(READ));
    let late = ask(&silent_gate, last(READ));
    let cut = ask(&rude_gate, last(READ));

    assert_eq!((unreachable.status, unreachable.reason()), (502, Reason::UpstreamDown));
    assert_eq!((late.status, late.reason()), (504, Reason::UpstreamTimeout));
    assert_eq!((cut.status, cut.reason()), (502, Reason::UpstreamDown));
    assert!(!String::from_utf8(unreachable.body).unwrap().contains("127.0.0.1"));
    let trail = silent_gate.stop();
    assert_eq!(trail.of_kind("http.request")[0]["decision"], "allow");
    assert_eq!(trail.of_kind("http.response")[0]["decision"], "error");
}

#[test]
fn a_connection_that_the_site_closed_while_it_waited_costs_no_read() {
    let site = Site::answering(|_| (json("{}"), Then::Close));
    let gate = GateSetup::before(&site).start();

    for _ in 0..20 {
        assert_eq!(ask(&gate, last(READ)).status, 200);
    }

    assert_eq!(site.seen().len(), 20);
}
