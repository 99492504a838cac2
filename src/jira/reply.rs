//! The head of the site's answer: what the client gets to see of it, and what becomes of the body.
//!
//! An answer that would lead the client around the gate, or that two readers could end at different
//! places, is no answer: the client reads 502.

use hyper::StatusCode;
use hyper::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, LINK, LOCATION,
    TRANSFER_ENCODING, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};

use crate::jira::headers;
use crate::jira::refusal::Refusal;
use crate::jira::rewrite::SiteNames;
use crate::jira::site::SiteUrl;
use crate::policy::jira::judge::ReadMethod;
use crate::policy::jira::operation::ReplyRule;
use crate::policy::reason::Reason;

/// Most bytes of the answer's header fields: 64 KiB. JIRA's have two or three.
const MAX_FIELD_BYTES: usize = 64 * 1024;

/// Where JIRA Cloud keeps the bytes of attachments. Its redirects there carry a signature of their
/// own, good for that one file.
const MEDIA_HOSTS: [&str; 1] = ["api.media.atlassian.com"];

/// What becomes of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// There is none.
    Nothing,
    /// It passes as it is.
    Pass,
    /// URLs in it are rewritten.
    Rewrite,
}

/// The head of the answer as the client gets it. What frames the body is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub fields: HeaderMap,
    /// What becomes of the body.
    pub treatment: Treatment,
}

/// What was asked for, as far as the answer depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// How.
    pub method: ReadMethod,
    /// What the operation's answers are.
    pub reply: ReplyRule,
    /// The site that answers.
    pub site: &'q SiteUrl,
    /// What its URLs become.
    pub names: &'q SiteNames,
}

/// Reads the head of an answer.
///
/// # Errors
/// The refusal that the client gets in its place.
pub fn read(
    question: &Question<'_>,
    status: StatusCode,
    site: &HeaderMap,
) -> Result<Answer, Refusal> {
    if status.is_informational() {
        return Err(refuse("It switches to another protocol."));
    }
    if site.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
        > MAX_FIELD_BYTES
    {
        return Err(refuse("Its header is too large."));
    }
    if site.contains_key(TRANSFER_ENCODING) && site.contains_key(CONTENT_LENGTH)
        || site.get_all(CONTENT_LENGTH).iter().nth(1).is_some()
    {
        return Err(refuse("The length of its body is ambiguous."));
    }
    let mut fields = headers::to_client(site);
    if let Some(location) = site.get(LOCATION) {
        fields.insert(LOCATION, location_at_the_gate(question, location)?);
    }
    for link in site.get_all(LINK) {
        fields.append(LINK, links_at_the_gate(question.names, link)?);
    }
    if status == StatusCode::UNAUTHORIZED {
        // The site's own challenge names the site.
        fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"JIRA\""));
    }
    let treatment = treatment(question, status, site)?;
    // A head alone says what would be rewritten, too.
    if may_be_rewritten(question.reply, site) {
        weaken_etag(&mut fields);
    } else {
        // A page that the site shows is none of the gate's.
        fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    Ok(Answer { status, fields, treatment })
}

fn refuse(note: &str) -> Refusal {
    let note = format!("The answer of JIRA cannot be passed on. {note}");
    Refusal::new(Reason::UpstreamAnswer, "answer", note)
}

fn treatment(
    question: &Question<'_>,
    status: StatusCode,
    site: &HeaderMap,
) -> Result<Treatment, Refusal> {
    let has_none = question.method == ReadMethod::Head
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    if has_none {
        return Ok(Treatment::Nothing);
    }
    if !may_be_rewritten(question.reply, site) {
        return Ok(Treatment::Pass);
    }
    // It was asked for identity. To inflate it would let 32 KiB become 32 MiB in here.
    if site.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(refuse("It is compressed although that was not asked for."));
    }
    Ok(Treatment::Rewrite)
}

/// JSON in UTF-8, unless it is the content of a file, which belongs to whoever wrote it.
#[must_use]
pub fn may_be_rewritten(reply: ReplyRule, site: &HeaderMap) -> bool {
    let Some(written) = site.get(CONTENT_TYPE).and_then(|written| written.to_str().ok()) else {
        return false;
    };
    let (media_type, parameters) = written.split_once(';').unwrap_or((written, ""));
    let media_type = media_type.trim().to_ascii_lowercase();
    let is_json = media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"));
    let parameters = parameters.to_ascii_lowercase();
    let charset = parameters.split(';').find_map(|parameter| {
        parameter.trim().strip_prefix("charset=").map(|charset| charset.trim_matches('"'))
    });
    reply == ReplyRule::Plain && is_json && charset.is_none_or(|charset| charset == "utf-8")
}

/// Bytes that change on the way cannot keep a tag that promises the same bytes (RFC 9110 section
/// 8.8.1).
fn weaken_etag(fields: &mut HeaderMap) {
    let Some(strong) = fields.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else {
        return;
    };
    let weak = [b"W/", strong.as_bytes()].concat();
    match HeaderValue::from_bytes(&weak) {
        Ok(weak) => fields.insert(ETAG, weak),
        Err(_) => fields.remove(ETAG),
    };
}

fn location_at_the_gate(
    question: &Question<'_>,
    location: &HeaderValue,
) -> Result<HeaderValue, Refusal> {
    let elsewhere = || refuse("It leads somewhere else.");
    let url = location.to_str().map_err(|_| elsewhere())?;
    if let Some(url) = question.names.at_the_gate(url) {
        return HeaderValue::from_str(&url).map_err(|_| elsewhere());
    }
    if url.strip_prefix('/').is_some_and(|path| !path.starts_with(['/', '\\'])) {
        let behind = url.strip_prefix(question.site.path());
        let behind = behind.filter(|behind| behind.starts_with('/')).ok_or_else(elsewhere)?;
        return HeaderValue::from_str(behind).map_err(|_| elsewhere());
    }
    let is_media = MEDIA_HOSTS.iter().any(|host| {
        url.strip_prefix("https://")
            .and_then(|url| url.strip_prefix(host))
            .is_some_and(|rest| rest.starts_with('/'))
    });
    if question.reply == ReplyRule::Attachment && is_media {
        return Ok(location.clone());
    }
    Err(elsewhere())
}

/// `<URL>; rel="next", <URL>; …` (RFC 8288 section 3).
fn links_at_the_gate(names: &SiteNames, links: &HeaderValue) -> Result<HeaderValue, Refusal> {
    let unreadable = || refuse("Its links cannot be read.");
    let mut rest = links.to_str().map_err(|_| unreadable())?;
    let mut written = String::with_capacity(rest.len());
    while let Some((before, behind)) = rest.split_once('<') {
        let (url, behind) = behind.split_once('>').ok_or_else(unreadable)?;
        let gate = names.at_the_gate(url);
        written.extend([before, "<", gate.as_deref().unwrap_or(url), ">"]);
        rest = behind;
    }
    written.push_str(rest);
    HeaderValue::from_str(&written).map_err(|_| unreadable())
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use hyper::header::{HeaderMap, HeaderName, HeaderValue};

    use super::{Answer, Question, Treatment, read};
    use crate::jira::refusal::Refusal;
    use crate::jira::rewrite::SiteNames;
    use crate::jira::site::SiteUrl;
    use crate::policy::jira::judge::ReadMethod;
    use crate::policy::jira::operation::ReplyRule;
    use crate::policy::reason::Reason;

    fn answered(
        (method, reply): (ReadMethod, ReplyRule),
        status: u16,
        fields: &[(&str, &str)],
    ) -> Result<Answer, Refusal> {
        let site: SiteUrl = "https://jira.internal/jira".parse().unwrap();
        let names = SiteNames::new(vec![site.clone()], &"http://gate".parse().unwrap());
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        let question = Question { method, reply, site: &site, names: &names };
        read(&question, StatusCode::from_u16(status).unwrap(), &map)
    }

    const PLAIN: (ReadMethod, ReplyRule) = (ReadMethod::Get, ReplyRule::Plain);
    const FILE: (ReadMethod, ReplyRule) = (ReadMethod::Get, ReplyRule::Attachment);

    fn shown(answer: &Answer, name: &str) -> String {
        answer.fields.get(name).map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn json_is_rewritten_and_everything_else_passes() {
        for (question, kind, treatment) in [
            (PLAIN, "application/json", Treatment::Rewrite),
            (PLAIN, "Application/JSON; charset=UTF-8", Treatment::Rewrite),
            (PLAIN, "application/problem+json", Treatment::Rewrite),
            (PLAIN, "application/json; charset=utf-16", Treatment::Pass),
            (PLAIN, "image/png", Treatment::Pass),
            (FILE, "application/json", Treatment::Pass),
            ((ReadMethod::Head, ReplyRule::Plain), "application/json", Treatment::Nothing),
        ] {
            let answer = answered(question, 200, &[("content-type", kind)]).unwrap();
            assert_eq!(answer.treatment, treatment, "{kind}");
        }
        let json = ("content-type", "application/json");
        assert_eq!(answered(PLAIN, 304, &[json]).unwrap().treatment, Treatment::Nothing);
    }

    #[test]
    fn a_strong_tag_becomes_weak_where_bytes_may_change() {
        let tag = ("etag", "\"1\"");
        let json = answered(PLAIN, 200, &[("content-type", "application/json"), tag]).unwrap();
        let image = answered(PLAIN, 200, &[("content-type", "image/png"), tag]).unwrap();

        assert_eq!(shown(&json, "etag"), "W/\"1\"");
        assert_eq!(shown(&image, "etag"), "\"1\"");
        assert_eq!(shown(&image, "x-content-type-options"), "nosniff");
    }

    #[test]
    fn a_redirect_stays_at_the_gate_or_is_not_passed_on() {
        for (question, location, expected) in [
            (PLAIN, "https://jira.internal/jira/login.jsp", Some("http://gate/login.jsp")),
            (PLAIN, "/jira/login.jsp", Some("/login.jsp")),
            (PLAIN, "/login.jsp", None),
            (PLAIN, "https://jira.internal/login.jsp", None),
            (PLAIN, "http://169.254.169.254/", None),
            (PLAIN, "//evil.example/", None),
            (PLAIN, "/\\evil.example/", None),
            (PLAIN, "login.jsp", None),
            (PLAIN, "https://api.media.atlassian.com/file/x", None),
            (
                FILE,
                "https://api.media.atlassian.com/file/x",
                Some("https://api.media.atlassian.com/file/x"),
            ),
            (FILE, "https://api.media.atlassian.com.evil/file/x", None),
            (FILE, "https://evil.example/", None),
        ] {
            let answer = answered(question, 302, &[("location", location)]);
            match expected {
                Some(expected) => assert_eq!(shown(&answer.unwrap(), "location"), expected),
                None => assert_eq!(answer.unwrap_err().status, 502, "{location}"),
            }
        }
    }

    #[test]
    fn links_and_challenges_do_not_name_the_site() {
        let links = "<https://jira.internal/jira/a>; rel=\"next\", <https://other/b>; rel=prev";
        let answer = answered(PLAIN, 401, &[("link", links), ("www-authenticate", "OAuth x")]);

        let answer = answer.unwrap();

        assert_eq!(
            shown(&answer, "link"),
            "<http://gate/a>; rel=\"next\", <https://other/b>; rel=prev"
        );
        assert_eq!(shown(&answer, "www-authenticate"), "Basic realm=\"JIRA\"");
    }

    #[test]
    fn what_could_end_at_two_places_or_be_anything_inside_is_not_passed_on() {
        let large = "a".repeat(70_000);
        for (status, fields) in [
            (101, vec![("upgrade", "x")]),
            (200, vec![("content-length", "2"), ("content-length", "20")]),
            (200, vec![("content-length", "2"), ("transfer-encoding", "chunked")]),
            (200, vec![("content-type", "application/json"), ("content-encoding", "gzip")]),
            (200, vec![("x-a", large.as_str())]),
        ] {
            let refusal = answered(PLAIN, status, &fields).unwrap_err();
            assert_eq!((refusal.reason, refusal.status), (Reason::UpstreamAnswer, 502));
        }
    }
}
