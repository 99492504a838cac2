//! D1 to D16: what is known to go wrong in proxies before JIRA.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use rowarden::jira::doorway::Patience;
use rowarden::listen::certificate::{read_certificates, read_key};
use rowarden::listen::tls::{TlsDemand, TlsDoor, provider};
use rowarden::policy::reason::Reason;
use rustls::ServerConfig;

use crate::client::{Answer, ask, exchange, head, last, post, read_all, read_answer};
use crate::gate::{GateSetup, LiveGate};
use crate::site::{Site, Then, answer, connect};
use crate::support::tls::{Certificates, Shows, shake_hands, wrap};
use crate::support::wait_for;

const WRITE: &str = "POST /rest/api/2/issue HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Basic dTp0\r\n\
                     Content-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"fields\":{}}";

/// A gate before a site that answers `{}`.
fn plain() -> (Site, LiveGate) {
    let site = Site::plain();
    let gate = GateSetup::before(&site).start();
    (site, gate)
}

/// Each of these is refused for this reason, ends its connection, and reaches no site.
fn refused_for_good(reason: Reason, requests: &[String]) -> Vec<Answer> {
    let (site, gate) = plain();
    let answers: Vec<Answer> = requests
        .iter()
        .map(|request| {
            let answers = exchange(&gate, request);
            assert_eq!(answers.len(), 1, "{request:?}: {answers:?}");
            assert_eq!(answers[0].reason(), reason, "{request:?}");
            assert_eq!(answers[0].field("connection"), Some("close"), "{request:?}");
            answers[0].clone()
        })
        .collect();
    assert!(site.seen().is_empty(), "{:?}", site.seen());
    let trail = gate.stop();
    let refused: Vec<_> = trail.of_kind("http.request");
    assert_eq!(refused.len(), requests.len());
    for (line, answer) in refused.iter().zip(&answers) {
        assert_eq!(line["reason"], reason.code());
        assert_eq!(line["decision"], "deny");
        assert_eq!(line["upstream"]["contacted"], false);
        assert_eq!(line["id"], answer.json()["event"]);
    }
    answers
}

#[test]
fn d01_a_length_that_can_be_read_in_two_ways_reaches_no_site() {
    let search = head("POST /rest/api/2/search") + "Content-Type: application/json\r\n";
    let requests: Vec<String> = [
        "Content-Length: 10\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 10",
        "Content-Length: 10\r\nContent-Length: 10",
        "Content-Length: 10\r\nContent-Length: 11",
        "Content-Length: +10",
        "Content-Length: 10,10",
        "Content-Length: 0xa",
        "Content-Length:  10",
        "Content-Length: 010",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: \u{b}chunked",
    ]
    .iter()
    .map(|fields| format!("{search}{fields}\r\n\r\n{{\"jql\":\"\"}}{WRITE}"))
    .chain([search.replace("1.1", "1.0") + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
    .collect();

    let answers = refused_for_good(Reason::HttpFraming, &requests);

    assert!(answers.iter().all(|answer| [400, 501].contains(&answer.status)), "{answers:?}");
}

#[test]
fn d01_a_chunked_read_arrives_with_one_length_and_the_write_behind_it_is_judged_alone() {
    let (site, gate) = plain();
    let search = head("POST /rest/api/2/search") + "Content-Type: application/json\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n\r\na\r\n{\"jql\":\"\"}\r\n0\r\n\r\n";

    let answers = exchange(&gate, format!("{search}{chunked}{WRITE}{}", last("GET /x")));

    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 403, 403]);
    assert_eq!(answers[1].json()["operation"], "create_issue");
    let seen = site.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].field("content-length"), Some("10"));
    assert_eq!(seen[0].field("transfer-encoding"), None);
    assert_eq!(seen[0].body, b"{\"jql\":\"\"}");
}

#[test]
fn d01_chunks_with_extensions_trailers_or_bare_line_ends_reach_no_site() {
    let head = head("POST /rest/api/2/search")
        + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let requests: Vec<String> = [
        "a;x=y\r\n{\"jql\":\"\"}\r\n0\r\n\r\n",
        "a\n{\"jql\":\"\"}\n0\n\n",
        "0xa\r\n{\"jql\":\"\"}\r\n0\r\n\r\n",
        "a\r\n{\"jql\":\"\"}0\r\n\r\n",
        "a\r\n{\"jql\":\"\"}\r\n0\r\nX-HTTP-Method-Override: PUT\r\n\r\n",
    ]
    .iter()
    .map(|body| format!("{head}{body}{WRITE}"))
    .collect();

    refused_for_good(Reason::HttpFraming, &requests);
}

#[test]
fn d02_a_body_where_none_belongs_is_refused_and_its_bytes_are_no_request() {
    let sized = format!("Content-Length: {}\r\n\r\n{WRITE}", WRITE.len());
    let chunked = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let requests: Vec<String> = ["GET", "HEAD"]
        .iter()
        .flat_map(|method| {
            let head = head(&format!("{method} /rest/api/2/issue/ABC-1"));
            [format!("{head}{sized}"), format!("{head}{chunked}")]
        })
        .filter(|request| !request.starts_with("HEAD"))
        .collect();

    refused_for_good(Reason::JiraBody, &requests);
}

#[test]
fn d02_the_gate_answers_expectations_itself() {
    let (site, gate) = plain();
    let post = post("/rest/api/2/search", "{\"jql\":\"\"}");
    let expecting = |what: &str| post.replace("\r\n\r\n", &format!("\r\nExpect: {what}\r\n\r\n"));

    let continued = exchange(&gate, expecting("100-continue"));
    let refused = ask(&gate, expecting("200-ok"));
    let write = WRITE.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    let without_body =
        write.split_once('{').unwrap().0.replace("Host:", "Connection: close\r\nHost:");
    let denied = exchange(&gate, without_body);

    let statuses: Vec<u16> = continued.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [100, 200]);
    assert_eq!((refused.status, refused.reason()), (417, Reason::HttpHeader));
    // Without 100: the write is denied before its body is asked for.
    assert_eq!(denied.iter().map(|answer| answer.status).collect::<Vec<_>>(), [403]);
    assert_eq!(site.lines(), ["POST /rest/api/2/search HTTP/1.1"]);
    assert_eq!(site.seen()[0].field("expect"), None);
}

#[test]
fn d03_nothing_becomes_a_tunnel_and_no_field_is_named_away() {
    let read = head("GET /rest/api/2/myself");
    let upgrades = [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "Connection: keep-alive, upgrade\r\n\r\n",
        "Upgrade: x\r\n\r\n",
    ];
    let requests: Vec<String> = upgrades
        .iter()
        .map(|fields| format!("{read}{fields}GET /rest/api/2/field HTTP/1.1\r\n\r\n"))
        .collect();
    refused_for_good(Reason::HttpUpgrade, &requests);

    let (site, gate) = plain();
    for request in
        ["CONNECT gate.test:443", "CONNECT /rest/api/2/myself", "TRACE /rest/api/2/myself"]
    {
        let answer = ask(&gate, last(request));
        assert_eq!((answer.status, answer.reason()), (403, Reason::JiraMethod), "{request}");
    }
    let hops = "Connection: close, Authorization, Accept\r\nTE: trailers\r\nKeep-Alive: timeout=9\r\n\
                Proxy-Authorization: Basic eDp5\r\nAccept: application/json\r\n\r\n";
    assert_eq!(ask(&gate, format!("{read}{hops}")).status, 200);

    let seen = site.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].field("authorization"), Some("Basic dTp0"));
    assert_eq!(seen[0].field("accept"), Some("application/json"));
    for absent in ["connection", "te", "keep-alive", "proxy-authorization", "upgrade"] {
        assert_eq!(seen[0].field(absent), None, "{absent}");
    }
}

#[test]
fn d04_malformed_and_oversized_heads_reach_no_site() {
    let read = head("GET /rest/api/2/myself");
    let many = "X: a\r\n".repeat(200);
    let large = format!("X: {}\r\n", "a".repeat(17_000));
    let long = format!("GET /rest/api/2/search?jql={}", "a".repeat(9_000));
    let requests = [
        (format!("{read}X: a\n\r\n"), 400),
        (read.replace("\r\n", "\n") + "\n", 400),
        (format!("{read}X: a\r\n b\r\n\r\n"), 400),
        (format!("{read}X: a\0b\r\n\r\n"), 400),
        (format!("{read}X: a\rb\r\n\r\n"), 400),
        (format!("{read}X : a\r\n\r\n"), 400),
        (format!("{read}: a\r\n\r\n"), 400),
        (format!("{read}{large}\r\n"), 431),
        (format!("{read}{many}\r\n"), 431),
        (last(&long), 414),
        (last("GET  /rest/api/2/myself"), 400),
        (last("GET /rest/api/2/myself").replace("1.1", "1.2"), 505),
        ("\u{16}\u{3}\u{1}\0\u{5}hello".to_owned(), 400),
    ];
    let texts: Vec<String> = requests.iter().map(|(request, _)| request.clone()).collect();

    let answers = refused_for_good(Reason::HttpFraming, &texts);

    for (answer, (request, status)) in answers.iter().zip(&requests) {
        assert_eq!(answer.status, *status, "{request:.80}");
    }
}

#[test]
fn d05_only_the_configuration_says_where_a_request_goes() {
    let close = "Connection: close\r\n\r\n";
    let read = |target: &str, hosts: &str| {
        format!("GET {target} HTTP/1.1\r\n{hosts}Authorization: Basic dTp0\r\n{close}")
    };
    let target = "/rest/api/2/myself";
    let requests: Vec<String> = [
        (target, "Host: evil.example\r\n"),
        (target, "Host: a@gate.test\r\n"),
        (target, "Host: gate.test/evil\r\n"),
        (target, "Host:\r\n"),
        (target, ""),
        ("http://evil.example/rest/api/2/myself", "Host: gate.test\r\n"),
        ("http://u:p@gate.test/rest/api/2/myself", "Host: gate.test\r\n"),
        ("https://gate.test/rest/api/2/myself", "Host: gate.test\r\n"),
        ("http://gate.test/rest/api/2/myself", "Host: evil.example\r\n"),
    ]
    .iter()
    .map(|(target, hosts)| read(target, hosts))
    .collect();
    refused_for_good(Reason::HttpHost, &requests);
    let twice = read(target, "Host: gate.test\r\nHost: gate.test\r\n");
    assert_eq!(refused_for_good(Reason::HttpHeader, &[twice])[0].status, 400);

    let (site, gate) = plain();
    let overrides = "X-Forwarded-Host: evil.example\r\nX-Original-URL: /rest/api/2/webhook\r\n\
                     X-Rewrite-URL: /secure/admin\r\nX-HTTP-Method-Override: DELETE\r\n\
                     X-HTTP-Method_Override: DELETE\r\nCookie: a=b\r\n";
    let own = ask(
        &gate,
        read("http://gate.test/rest/api/2/myself", &format!("Host: gate.test\r\n{overrides}")),
    );
    let proxied = format!("http://127.0.0.1:{}{target}", site.port());
    let through = ask(&gate, read(&proxied, &format!("Host: 127.0.0.1:{}\r\n", site.port())));
    let denied = ask(&gate, last("GET /rest/api/2/issue/ABC-1?_method=DELETE"));

    assert_eq!((own.status, through.status, denied.status), (200, 200, 403));
    for seen in site.seen() {
        assert_eq!(seen.line, format!("GET {target} HTTP/1.1"));
        assert_eq!(seen.field("host"), Some(format!("127.0.0.1:{}", site.port()).as_str()));
        let names: Vec<&str> = seen.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert!(
            names.iter().all(|name| ["host", "authorization", "accept-encoding"].contains(name)),
            "{names:?}"
        );
    }
    assert_eq!(site.seen().len(), 2);
}

#[test]
fn d06_a_path_that_is_not_canonical_is_never_forwarded() {
    let (site, gate) = plain();
    for target in [
        "//rest/api/2/myself",
        "/rest/./api/2/myself",
        "/rest/api/2/search/../issue",
        "/rest/api/2/search/%2e%2e/issue",
        "/rest/api/2/search/.%2e/issue",
        "/rest/api/2%2fmyself",
        "/rest/api/2/issue/%5cABC-1",
        "/rest/api/2/myself;jsessionid=1",
        "/rest/api/3/issue/%2e%2e/",
        "/rest/api/2/search/%252e%252e/issue",
        "/rest/api/2/issue/ABC-1%00",
        "/rest/api/2/issue/%c0%ae%c0%ae/issue",
        "/rest/api/2/myself.",
        "/REST/api/2/myself",
        "/rest/api/2/my%73elf",
    ] {
        for request in [format!("GET {target}"), format!("POST {target}")] {
            let answer = ask(&gate, last(&request));
            assert!([400, 403].contains(&answer.status), "{request}: {answer:?}");
            answer.reason();
        }
    }
    let fragment = ask(&gate, last("GET /rest/api/2/myself#/../issue"));

    assert_eq!(fragment.reason(), Reason::HttpFraming);
    assert!(site.seen().is_empty(), "{:?}", site.seen());
}

#[test]
fn d07_a_read_by_post_passes_and_a_write_in_disguise_does_not() {
    let (site, gate) = plain();
    let search = ask(&gate, post("/rest/api/3/search", "{\"jql\":\"project = ABC\"}"));
    let history = ask(&gate, last("GET /rest/api/2/issue/ABC-1?updateHistory=true"));

    for (request, operation) in [
        (post("/rest/api/3/issue", "{\"fields\":{}}"), "create_issue"),
        (post("/rest/api/2/issue/ABC-1/comment", "{\"body\":\"x\"}"), "add_comment"),
        (last("DELETE /rest/api/2/issue/ABC-1"), "delete_issue"),
    ] {
        let answer = ask(&gate, request);
        assert_eq!((answer.status, answer.reason()), (403, Reason::JiraWrite), "{operation}");
        assert_eq!(answer.json()["operation"], operation);
    }
    for request in
        [post("/rest/auth/1/session", "{}"), last("GET /secure/Logout.jspa"), last("GET /logout")]
    {
        assert_eq!(ask(&gate, request).status, 403);
    }

    assert_eq!((search.status, history.status), (200, 200));
    assert_eq!(
        site.lines(),
        [
            "POST /rest/api/3/search HTTP/1.1",
            "GET /rest/api/2/issue/ABC-1?updateHistory=false HTTP/1.1",
        ]
    );
}

#[test]
fn d08_what_is_not_in_the_table_is_refused_and_redirects_stay_at_the_gate() {
    let site = Site::answering(|seen| {
        let location = match seen.line.split(' ').nth(1).unwrap() {
            "/rest/api/2/myself" => "https://jira.internal/login.jsp",
            "/rest/api/3/attachment/content/7" => "https://api.media.atlassian.com/file/7?token=x",
            _ => "http://169.254.169.254/",
        };
        (answer("302 Found", &format!("Location: {location}\r\n"), b""), Then::Keep)
    });
    let gate = GateSetup::before(&site).start();

    for request in [
        post("/gateway/api/graphql", "{\"query\":\"mutation{a}\"}"),
        post("/graphql", "{}"),
        post("/rest/api/3/bulk/issues/delete", "{}"),
        post("/rest/agile/1.0/sprint", "{}"),
        post("/rest/servicedeskapi/request", "{}"),
        last("GET /plugins/servlet/oauth/authorize"),
        last("GET /rest/nosuch/1.0/x"),
    ] {
        assert_eq!(ask(&gate, request).status, 403);
    }
    assert!(site.seen().is_empty(), "{:?}", site.seen());

    let own = ask(&gate, last("GET /rest/api/2/myself"));
    let elsewhere = ask(&gate, last("GET /rest/api/2/field"));
    let media = ask(&gate, last("GET /rest/api/3/attachment/content/7"));

    assert_eq!((own.status, own.field("location")), (302, Some("http://gate.test/login.jsp")));
    assert_eq!((elsewhere.status, elsewhere.reason()), (502, Reason::UpstreamAnswer));
    assert_eq!(media.status, 302);
    assert_eq!(media.field("location"), Some("https://api.media.atlassian.com/file/7?token=x"));
}

#[test]
fn d09_an_answer_that_could_be_read_in_two_ways_is_not_passed_on() {
    let answers: Vec<Vec<u8>> = vec![
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 20\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_vec(),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nraw".to_vec(),
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\n{{}}", "a".repeat(200_000)).into_bytes(),
        "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10_000).into_bytes(),
        answer("200 OK", "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", b"\x1f\x8b"),
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{}".to_vec(),
        b"not http at all\r\n\r\n".to_vec(),
    ];
    for bytes in answers {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        let site = Site::answering(move |_| (bytes.clone(), Then::Close));
        let gate = GateSetup::before(&site).start();

        let answer = ask(&gate, last("GET /rest/api/2/myself"));

        assert_eq!(answer.status, 502, "{shown}: {answer:?}");
        assert!(
            [Reason::UpstreamAnswer, Reason::UpstreamDown].contains(&answer.reason()),
            "{shown}"
        );
    }
}

#[test]
fn d09_an_endless_answer_flows_no_faster_than_its_client_and_ends_with_it() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 10737418240\r\n\r\n";
    let site = Site::answering(move |_| ([head.as_bytes(), b"a"].concat(), Then::Repeat));
    let gate = GateSetup::before(&site).start();
    let mut stream = connect(gate.address());

    stream.write_all(last("GET /rest/api/3/attachment/content/7").as_bytes()).unwrap();
    let mut some = vec![0; 100_000];
    stream.read_exact(&mut some).unwrap();
    drop(stream);

    wait_for("the site can write no more", || (site.ended() > 0).then_some(()));
}

#[test]
fn d10_http_2_is_not_spoken_in_clear_text_nor_over_tls() {
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0".to_owned();
    let answers = refused_for_good(Reason::HttpFraming, &[preface]);
    assert_eq!(answers[0].status, 505);

    let certificates = Certificates::new();
    let site = Site::plain();
    let door = TlsDoor::open(certificates.files(TlsDemand::Require), &["http/1.1"]).unwrap();
    let gate = GateSetup::before(&site).encrypting(TlsDemand::Require, Arc::new(door)).start();
    let only_h2 = wrap(connect(gate.address()), &certificates.client(Shows::Nothing, &["h2"]));
    let both =
        wrap(connect(gate.address()), &certificates.client(Shows::Nothing, &["h2", "http/1.1"]));

    assert!(shake_hands(only_h2).is_err());
    let both = shake_hands(both).unwrap();
    assert_eq!(both.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(site.seen().is_empty());
}

#[test]
fn d11_frames_of_http_2_are_no_requests_even_if_they_spell_one() {
    // A HEADERS frame whose fields spell a request with a space and a line end in its path.
    let frame = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x30\x01\x05\0\0\0\x01GET /rest/api/2/myself HTTP/1.1\r\nHost: gate.test\r\n\r\n";
    let (site, gate) = plain();

    let answers = exchange(&gate, frame);

    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].status, answers[0].reason()), (505, Reason::HttpFraming));
    assert!(site.seen().is_empty());
}

#[test]
fn d12_slow_heads_and_slow_bodies_end_while_others_are_served() {
    let site = Site::plain();
    let short = Patience {
        head: Duration::from_millis(300),
        body: Duration::from_millis(300),
        ..Patience::default()
    };
    let gate = GateSetup::before(&site).with_patience(short).start();
    let slow_head = "GET /rest/api/2/myself HTTP/1.1\r\nHost: gate.test\r\nX: ";
    let slow_body = head("POST /rest/api/2/search")
        + "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    let mut waiting: Vec<_> = [slow_head, &slow_body]
        .iter()
        .cycle()
        .take(100)
        .map(|bytes| {
            let mut stream = connect(gate.address());
            stream.write_all(bytes.as_bytes()).unwrap();
            stream
        })
        .collect();
    let mut silent = connect(gate.address());

    assert_eq!(ask(&gate, last("GET /rest/api/2/myself")).status, 200);

    for stream in &mut waiting {
        let answers = read_all(stream, "GET");
        assert_eq!(answers.len(), 1);
        assert_eq!((answers[0].status, answers[0].reason()), (408, Reason::HttpFraming));
    }
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    assert_eq!(site.lines(), ["GET /rest/api/2/myself HTTP/1.1"]);
}

#[test]
fn d12_a_client_that_takes_nothing_is_given_up() {
    let site = Site::answering(|_| {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 1073741824\r\n\r\na";
        (head.as_bytes().to_vec(), Then::Repeat)
    });
    let short = Patience { stall: Duration::from_millis(300), ..Patience::default() };
    let gate = GateSetup::before(&site).with_patience(short).start();
    let mut stream = connect(gate.address());

    stream.write_all(last("GET /rest/api/3/attachment/content/7").as_bytes()).unwrap();

    wait_for("the answer is cut", || {
        gate.trail().of_kind("http.response").first().map(|line| {
            assert_eq!(line["decision"], "error");
            assert_eq!(line["message"], "the answer was cut off");
        })
    });
}

#[test]
fn d13_each_request_on_a_connection_has_its_own_credential() {
    let site = Site::plain();
    let gate = GateSetup::before(&site).start();
    let ann = "GET /rest/api/2/myself HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Basic YW5uOmE=\r\n\r\n";
    let bob = ann.replace("YW5uOmE=", "Ym9iOmI=");
    let nobody = ann.replace("Authorization: Basic YW5uOmE=\r\n", "");
    let doubtful = ann.replace("\r\n\r\n", "\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n");

    let answers = exchange(&gate, format!("{ann}{bob}{nobody}{ann}{doubtful}{ann}"));

    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 401, 200, 400]);
    let shown: Vec<_> =
        site.seen().iter().map(|seen| seen.field("authorization").unwrap().to_owned()).collect();
    assert_eq!(shown, ["Basic YW5uOmE=", "Basic Ym9iOmI=", "Basic YW5uOmE="]);
    let trail = gate.stop();
    let actors: Vec<_> = trail
        .of_kind("http.request")
        .iter()
        .map(|line| line["actor"]["user"].as_str().unwrap_or("-").to_owned())
        .collect();
    // Who asked before is not who asks now.
    assert_eq!(actors, ["ann", "bob", "-", "ann", "-"]);
}

#[test]
fn d14_secrets_in_queries_and_cookies_reach_neither_the_site_nor_the_log() {
    let (site, gate) = plain();
    let bare = "hush4".repeat(10);
    for query in ["os_username=ann&os_password=hush1", "access_token=hush2", "jwt=hush3", &bare] {
        let answer = ask(&gate, last(&format!("GET /rest/api/2/myself?{query}")));
        assert_eq!((answer.status, answer.reason()), (403, Reason::JiraQuery), "{query}");
    }
    let cookie =
        last("GET /rest/api/2/search?jql=hush5").replace("\r\n\r\n", "\r\nCookie: a=hush6\r\n\r\n");
    assert_eq!(ask(&gate, cookie).status, 200);

    let seen = site.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].field("cookie"), None);
    let trail = gate.stop();
    let text: String = trail.0.iter().map(ToString::to_string).collect();
    assert!(text.contains("os_username=*&os_password=*"), "{text}");
    for secret in ["hush", "dTp0"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[test]
fn d15_only_a_site_with_a_certificate_for_its_name_is_asked() {
    let (right, other) = (Certificates::new(), Certificates::new());
    let site = Site::encrypted(serving(&right));
    let url = |host: &str| format!("https://{host}:{}", site.port());
    let asked = |host: &str, authority: &Certificates| {
        let gate = GateSetup::before_url(&url(host)).trusting(authority.file("ca.crt")).start();
        ask(&gate, last("GET /rest/api/2/myself"))
    };

    let trusted = asked("localhost", &right);
    let unknown_authority = asked("localhost", &other);
    let wrong_name = asked("localhost.localdomain", &right);

    assert_eq!(trusted.status, 200);
    assert_eq!((unknown_authority.status, unknown_authority.reason()), (502, Reason::UpstreamDown));
    assert_eq!((wrong_name.status, wrong_name.reason()), (502, Reason::UpstreamDown));
    // The certificates of the machine do not vouch for it either.
    let by_the_machine = GateSetup::before_url(&url("localhost")).start();
    assert_eq!(ask(&by_the_machine, last("GET /rest/api/2/myself")).status, 502);
    assert_eq!(site.seen().len(), 1);
}

fn serving(certificates: &Certificates) -> Arc<ServerConfig> {
    let chain = read_certificates(&certificates.file("server.crt")).unwrap();
    let key = read_key(&certificates.file("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

#[test]
fn d16_a_handshake_in_single_bytes_is_taken_and_an_endless_one_is_not() {
    let certificates = Certificates::new();
    let site = Site::plain();
    let door = TlsDoor::open(certificates.files(TlsDemand::Allow), &["http/1.1"]).unwrap();
    let short = Patience { head: Duration::from_secs(2), ..Patience::default() };
    let gate = GateSetup::before(&site)
        .encrypting(TlsDemand::Allow, Arc::new(door))
        .with_patience(short)
        .start();
    let config = certificates.client(Shows::Nothing, &["http/1.1"]);
    let mut client =
        rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut socket = connect(gate.address());
    socket.set_nodelay(true).unwrap();

    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    for byte in hello {
        socket.write_all(&[byte]).unwrap();
    }
    let mut stream = shake_hands(rustls::StreamOwned::new(client, socket)).unwrap();
    stream.write_all(head("GET /rest/api/2/myself").as_bytes()).unwrap();
    stream.write_all(b"\r\n").unwrap();
    let secure = read_answer(&mut stream, "GET").unwrap();
    let clear = ask(&gate, last("GET /rest/api/2/field"));
    let mut endless = connect(gate.address());
    endless.write_all(b"\x16\x03\x01\xff\xff\x01").unwrap();

    assert_eq!((secure.status, clear.status), (200, 200));
    let mut told = Vec::new();
    // An alert of TLS, or nothing; a reset is an end, too.
    let _ = endless.read_to_end(&mut told);
    assert!(told.first().is_none_or(|first| *first == 21), "{told:?}");
    let trail = gate.stop();
    assert_eq!(trail.of_kind("http.request")[0]["client"]["tls"]["version"], "1.3");
}
