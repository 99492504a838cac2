//! Which header fields pass, in either direction: lists of what may, because nobody knows what a
//! server, or a filter before it, makes of the fields of tomorrow.
//!
//! This one rule closes method overrides, forwarded addresses, cookies, hop-by-hop tricks and names
//! with underscores. What frames a message is never copied: it is made anew.

use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, ACCEPT_RANGES, AGE, CACHE_CONTROL,
    CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_RANGE, CONTENT_TYPE, DATE,
    ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED, PRAGMA, RANGE, RETRY_AFTER, USER_AGENT, VARY, WARNING, X_CONTENT_TYPE_OPTIONS,
};

use crate::policy::jira::operation::ReplyRule;

/// What clients may tell the site about the answer they would like.
const FROM_CLIENT: [HeaderName; 6] = [
    ACCEPT,
    ACCEPT_LANGUAGE,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    USER_AGENT,
    HeaderName::from_static("x-experimentalapi"),
];

/// What the site may tell clients about the answer. Without cookies, which are credentials made of
/// the gate's own, and without what speaks for an origin (CORS, HSTS, Alt-Svc).
const FROM_SITE: [HeaderName; 23] = [
    ACCEPT_RANGES,
    AGE,
    CACHE_CONTROL,
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_RANGE,
    CONTENT_TYPE,
    DATE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    PRAGMA,
    RETRY_AFTER,
    VARY,
    WARNING,
    X_CONTENT_TYPE_OPTIONS,
    HeaderName::from_static("atl-request-id"),
    HeaderName::from_static("atl-traceid"),
    HeaderName::from_static("deprecation"),
    HeaderName::from_static("sunset"),
    HeaderName::from_static("x-arequestid"),
    HeaderName::from_static("x-ausername"),
];

/// The beginnings of names under which sites tell how much a client may still ask.
const FROM_SITE_BY_PREFIX: [&str; 2] = ["x-ratelimit-", "ratelimit"];

/// The fields of a request to the site, but for those that say whom it goes to and who asks.
#[must_use]
pub fn to_site(client: &HeaderMap, reply: ReplyRule) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(12);
    for name in &FROM_CLIENT {
        copy(client, name, &mut fields);
    }
    // What is compressed cannot be rewritten, and nothing here inflates anything.
    fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // Part of a rewritten answer would not be where the client looks for it.
    if reply == ReplyRule::Attachment
        && let Some(range) = client.get(RANGE).filter(|range| is_one_range(range))
    {
        fields.insert(RANGE, range.clone());
    }
    fields
}

/// One range in bytes (RFC 9110 section 14.1.2); many of them are an old way to tire a server.
fn is_one_range(range: &HeaderValue) -> bool {
    let Some((first, last)) =
        range.to_str().ok().and_then(|range| range.strip_prefix("bytes=")?.split_once('-'))
    else {
        return false;
    };
    let is_number = |text: &str| text.len() <= 19 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number(first) && is_number(last) && !(first.is_empty() && last.is_empty())
}

/// The fields of an answer that clients may see as they are.
#[must_use]
pub fn to_client(site: &HeaderMap) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(16);
    for (name, value) in site {
        let text = name.as_str();
        let passes = FROM_SITE.contains(name)
            || FROM_SITE_BY_PREFIX.iter().any(|prefix| text.starts_with(prefix));
        if passes {
            fields.append(name.clone(), value.clone());
        }
    }
    fields
}

fn copy(from: &HeaderMap, name: &HeaderName, into: &mut HeaderMap) {
    for value in from.get_all(name) {
        into.append(name.clone(), value.clone());
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderMap, HeaderName, HeaderValue};

    use super::{to_client, to_site};
    use crate::policy::jira::operation::ReplyRule;

    fn fields(written: &[(&str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in written {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            fields.append(name, HeaderValue::from_str(value).unwrap());
        }
        fields
    }

    #[test]
    fn only_wishes_about_the_answer_reach_the_site() {
        let client = fields(&[
            ("accept", "application/json"),
            ("authorization", "Basic eDp5"),
            ("connection", "accept"),
            ("cookie", "JSESSIONID=1"),
            ("range", "bytes=0-1"),
            ("user-agent", "curl"),
            ("x-atlassian-token", "no-check"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-http-method_override", "DELETE"),
        ]);

        let sent = to_site(&client, ReplyRule::Plain);

        let expected = fields(&[
            ("accept", "application/json"),
            ("user-agent", "curl"),
            ("accept-encoding", "identity"),
        ]);
        assert_eq!(sent, expected);
    }

    #[test]
    fn one_range_of_an_attachment_is_passed_on() {
        for (range, passes) in [
            ("bytes=0-99", true),
            ("bytes=5-", true),
            ("bytes=-5", true),
            ("bytes=-", false),
            ("bytes=0-1,5-9", false),
            ("bytes=a-b", false),
            ("lines=0-1", false),
        ] {
            let sent = to_site(&fields(&[("range", range)]), ReplyRule::Attachment);
            assert_eq!(sent.contains_key("range"), passes, "{range}");
        }
    }

    #[test]
    fn cookies_and_what_speaks_for_an_origin_stay_behind() {
        let site = fields(&[
            ("content-type", "application/json"),
            ("set-cookie", "a=b"),
            ("access-control-allow-origin", "*"),
            ("strict-transport-security", "max-age=1"),
            ("x-seraph-loginreason", "OK"),
            ("transfer-encoding", "chunked"),
            ("x-ratelimit-remaining", "0"),
            ("retry-after", "5"),
        ]);

        let shown = to_client(&site);

        let expected = fields(&[
            ("content-type", "application/json"),
            ("x-ratelimit-remaining", "0"),
            ("retry-after", "5"),
        ]);
        assert_eq!(shown, expected);
    }
}
