//! The parts of a request, held to one reading, before anybody asks what they want.
//!
//! Every check here is about *whom* the request is for and *how* it is framed; what it asks for is
//! the judge's business. A field that comes twice is refused where another reader would take the
//! other one of the two.

use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST,
    HeaderMap, HeaderName, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

use crate::jira::refusal::Refusal;
use crate::jira::site::{Scheme, SiteUrl};
use crate::policy::reason::Reason;

/// Fields of which two readers may take different ones.
const SINGLE: [HeaderName; 6] =
    [AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST];

/// The names that the gate answers to, and the site's.
#[derive(Clone, Debug)]
pub struct Names {
    own: Vec<OwnName>,
    upstream: SiteUrl,
}

/// A host, on one port or on any.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OwnName {
    host: String,
    port: Option<u16>,
}

impl Names {
    /// `own` are `host:port` or `host` for any port, in lower case.
    #[must_use]
    pub fn new(own: impl IntoIterator<Item = String>, upstream: SiteUrl) -> Self {
        let own = own
            .into_iter()
            .map(|name| match name.rsplit_once(':') {
                Some((host, port)) if !port.ends_with(']') => {
                    OwnName { host: host.to_owned(), port: port.parse().ok() }
                }
                _ => OwnName { host: name, port: None },
            })
            .collect();
        Self { own, upstream }
    }

    fn is_own(&self, host: &str) -> bool {
        let Some((host, port)) = split_host(host) else { return false };
        self.own.iter().any(|own| {
            let is_port = |own| match port {
                Some(port) => own == port,
                // Who speaks TLS, here or before the gate, leaves out another port.
                None => own == Scheme::Http.default_port() || own == Scheme::Https.default_port(),
            };
            own.host.eq_ignore_ascii_case(host) && own.port.is_none_or(is_port)
        })
    }

    /// Whether it is the site, as a client would write it that uses the gate as its HTTP proxy. Such
    /// a client can only ask in clear text, whatever the site speaks.
    fn is_site(&self, host: &str) -> bool {
        let clear = format!("{}://{host}", Scheme::Http.name()).parse::<SiteUrl>();
        clear.is_ok_and(|clear| clear.path().is_empty() && clear.host() == self.upstream.host())
            && (self.upstream.has_authority(host)
                || split_host(host).is_some_and(|(_, port)| {
                    port.is_none_or(|port| port == Scheme::Http.default_port())
                }))
    }
}

/// Host and port of an authority, as far as it names one.
fn split_host(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            (host, Some(port.parse().ok().filter(|_| is_number)?))
        }
        _ => (authority, None),
    };
    (!host.is_empty()).then_some((host, port))
}

/// A request for this gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'r> {
    /// The method, as it came.
    pub method: &'r str,
    /// The target in origin form, without the context path of the site.
    pub target: &'r str,
    /// The type of the body.
    pub content_type: Option<&'r str>,
    /// Whether a body is announced, be it an empty one.
    pub body: Announced,
}

/// Whether a body comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// One comes, of a length that is known or not.
    Body(Option<u64>),
    /// None comes.
    Nothing,
}

/// Reads the parts of a request.
///
/// # Errors
/// The refusal, when they are not for this gate or can be read in two ways.
pub fn read<'r>(parts: &'r Parts, names: &Names) -> Result<Asked<'r>, Refusal> {
    let fields = &parts.headers;
    refuse_twins(fields)?;
    refuse_upgrade(fields)?;
    refuse_expectation(fields)?;
    let target = target_for_us(parts, names)?;
    if fields.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        let note = "The body must not be compressed.";
        return Err(Refusal::new(Reason::JiraBodyType, "body", note).closing());
    }
    let content_type = match fields.get(CONTENT_TYPE) {
        Some(written) => Some(written.to_str().map_err(|_| {
            Refusal::new(Reason::JiraBodyType, "body", "The type of the body is not text.")
        })?),
        None => None,
    };
    Ok(Asked { method: parts.method.as_str(), target, content_type, body: announced(fields) })
}

fn refuse_twins(fields: &HeaderMap) -> Result<(), Refusal> {
    for name in &SINGLE {
        if fields.get_all(name).iter().nth(1).is_some() {
            let note = format!("`{name}` comes twice.");
            return Err(Refusal::new(Reason::HttpHeader, "headers", note).closing());
        }
    }
    Ok(())
}

fn refuse_upgrade(fields: &HeaderMap) -> Result<(), Refusal> {
    let named = fields.get_all(CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(UPGRADE.as_str().as_bytes()))
    });
    if named || fields.contains_key(UPGRADE) {
        let note = "Another protocol on this connection could not be judged.";
        return Err(Refusal::new(Reason::HttpUpgrade, "upgrade", note).closing());
    }
    Ok(())
}

/// The gate answers `100-continue` itself; nothing else can be expected of it.
fn refuse_expectation(fields: &HeaderMap) -> Result<(), Refusal> {
    match fields.get(EXPECT) {
        Some(expected) if !expected.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            let note = "Only `Expect: 100-continue` is understood.";
            Err(Refusal::new(Reason::HttpHeader, "headers", note).with_status(417).closing())
        }
        _ => Ok(()),
    }
}

/// The target in origin form, if the request is for this gate or, through it, for its site.
fn target_for_us<'r>(parts: &'r Parts, names: &Names) -> Result<&'r str, Refusal> {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    if !parts.headers.contains_key(HOST) {
        return Err(refuse_host().with_status(400));
    }
    match parts.uri.authority() {
        None if names.is_own(host) => Ok(target),
        // The method decides: an authority alone is what CONNECT asks for.
        Some(_) if parts.uri.scheme().is_none() && names.is_own(host) => Ok(target),
        Some(authority) if is_for_us(parts, authority, host, names) => {
            if !names.is_site(authority.as_str()) {
                return Ok(target);
            }
            let path = names.upstream.path();
            let rest = target.strip_prefix(path).filter(|rest| rest.starts_with('/'));
            rest.ok_or_else(refuse_host)
        }
        _ => Err(refuse_host()),
    }
}

/// An absolute target (RFC 9112 section 3.2.2): in clear text, and `Host` says the same.
fn is_for_us(parts: &Parts, authority: &Authority, host: &str, names: &Names) -> bool {
    let is_clear = parts.uri.scheme_str() == Some(Scheme::Http.name());
    let authority = authority.as_str();
    is_clear
        && split_host(authority).is_some()
        && (names.is_own(authority) || names.is_site(authority))
        && (names.is_own(host) || host.eq_ignore_ascii_case(authority))
}

fn refuse_host() -> Refusal {
    let note = "This gate does not answer to that name; the operator lists its names as `hosts`.";
    Refusal::new(Reason::HttpHost, "hosts", note).closing()
}

fn announced(fields: &HeaderMap) -> Announced {
    let length = fields.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    match length {
        Some(length) => Announced::Body(Some(length)),
        None if fields.contains_key(TRANSFER_ENCODING) => Announced::Body(None),
        None => Announced::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use hyper::http::request::{Builder, Parts};

    use super::{Announced, Names, read};
    use crate::jira::refusal::Refusal;
    use crate::policy::reason::Reason;

    fn names() -> Names {
        let own = ["gate.test", "127.0.0.1:8181", "[::1]:8181", "tls.test:443"].map(str::to_owned);
        Names::new(own, "http://jira.internal/jira".parse().unwrap())
    }

    fn parts(request: Builder) -> Parts {
        request.body(()).unwrap().into_parts().0
    }

    fn refused(request: Builder) -> Refusal {
        read(&parts(request), &names()).unwrap_err()
    }

    #[test]
    fn a_request_for_the_gate_or_through_it_for_the_site_is_read() {
        for (host, uri, target) in [
            ("gate.test", "/rest?a=b", "/rest?a=b"),
            ("GATE.test:9", "/rest", "/rest"),
            ("[::1]:8181", "/rest", "/rest"),
            ("tls.test", "/rest", "/rest"),
            ("gate.test", "http://gate.test/rest", "/rest"),
            ("jira.internal", "http://jira.internal/jira/rest", "/rest"),
            ("gate.test", "http://jira.internal:80/jira/rest", "/rest"),
        ] {
            let parts = parts(Request::get(uri).header("host", host));
            let asked = read(&parts, &names()).unwrap();
            assert_eq!((asked.method, asked.target), ("GET", target), "{host} {uri}");
            assert_eq!(asked.body, Announced::Nothing);
        }
    }

    #[test]
    fn a_request_for_anybody_else_is_refused() {
        for (host, uri) in [
            ("evil.example", "/rest"),
            ("", "/rest"),
            ("gate.test:99999", "/rest"),
            ("gate.test:", "/rest"),
            ("a@gate.test", "/rest"),
            ("127.0.0.1", "/rest"),
            ("tls.test:80", "/rest"),
            ("jira.internal", "/jira/rest"),
            ("gate.test", "http://evil.example/rest"),
            ("gate.test", "http://user@gate.test/rest"),
            ("gate.test", "https://jira.internal/jira/rest"),
            ("gate.test", "http://jira.internal/rest"),
            ("gate.test", "http://jira.internal:8080/jira/rest"),
            ("evil.example", "http://gate.test/rest"),
        ] {
            let refusal = refused(Request::get(uri).header("host", host));
            assert_eq!(refusal.reason, Reason::HttpHost, "{host} {uri}");
        }
    }

    #[test]
    fn fields_that_come_twice_and_upgrades_are_refused() {
        let ask = || Request::get("/rest").header("host", "gate.test");

        let twice = refused(ask().header("authorization", "a").header("authorization", "a"));
        assert_eq!(twice.reason, Reason::HttpHeader);
        for (name, value) in [("upgrade", "h2c"), ("connection", "keep-alive, Upgrade")] {
            assert_eq!(refused(ask().header(name, value)).reason, Reason::HttpUpgrade);
        }
        let expecting = refused(ask().header("expect", "200-ok"));
        assert_eq!((expecting.reason, expecting.status), (Reason::HttpHeader, 417));
        let packed = refused(ask().header("content-encoding", "gzip"));
        assert_eq!(packed.status, 415);
    }

    #[test]
    fn a_body_is_announced_by_its_length_or_by_chunks() {
        let ask = || Request::post("/rest").header("host", "gate.test");

        let sized = parts(ask().header("content-length", "5").header("expect", "100-Continue"));
        let chunked = parts(ask().header("transfer-encoding", "chunked"));

        assert_eq!(read(&sized, &names()).unwrap().body, Announced::Body(Some(5)));
        assert_eq!(read(&chunked, &names()).unwrap().body, Announced::Body(None));
    }
}
