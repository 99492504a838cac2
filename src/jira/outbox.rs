//! Where requests to the site are made, and the only place: from a [`Cleared`], so that nothing goes
//! up that was not judged, and nothing but what was judged.

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Uri};

use crate::jira::headers;
use crate::jira::site::SiteUrl;
use crate::policy::jira::judge::{JiraRead, ReadMethod};
use crate::policy::jira::operation::ReplyRule;
use crate::policy::verdict::Cleared;

/// A request for the site. Its parts are private: only [`SiteBound::new`] makes one.
///
/// ```compile_fail
/// use rowarden::jira::outbox::SiteBound;
/// let forged = SiteBound { method: hyper::Method::DELETE };
/// ```
#[derive(Clone, Debug)]
pub struct SiteBound {
    method: Method,
    target: Uri,
    fields: HeaderMap,
    body: Bytes,
    read: ReadMethod,
    reply: ReplyRule,
}

impl SiteBound {
    /// Writes a read down as a request to `site`. `client` are the fields of the client's request.
    /// `None` if it cannot be written, which the judge's targets always can.
    #[must_use]
    pub fn new(
        cleared: Cleared<JiraRead>,
        site: &SiteUrl,
        client: &HeaderMap,
        authorization: Option<HeaderValue>,
    ) -> Option<Self> {
        let read = cleared.into_request();
        let mut fields = headers::to_site(client, read.reply);
        fields.insert(HOST, HeaderValue::from_str(&site.authority()).ok()?);
        if let Some(authorization) = authorization {
            fields.insert(AUTHORIZATION, authorization);
        }
        if read.body.is_some() {
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let target = if site.path().is_empty() {
            Uri::from_maybe_shared(Bytes::from(read.target)).ok()?
        } else {
            Uri::try_from(format!("{}{}", site.path(), read.target)).ok()?
        };
        let method = match read.method {
            ReadMethod::Get => Method::GET,
            ReadMethod::Head => Method::HEAD,
            ReadMethod::Post => Method::POST,
        };
        let body = read.body.map_or_else(Bytes::new, Bytes::from);
        Some(Self { method, target, fields, body, read: read.method, reply: read.reply })
    }

    /// How it asks.
    #[must_use]
    pub const fn method(&self) -> ReadMethod {
        self.read
    }

    /// How its answer is dealt with.
    #[must_use]
    pub const fn reply(&self) -> ReplyRule {
        self.reply
    }

    /// The request, to be written by a client of HTTP. It frames the body by its length.
    #[must_use]
    pub fn to_request<B: From<Bytes>>(&self) -> Request<B> {
        let mut request = Request::new(B::from(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.fields.clone();
        request
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::header::{HeaderMap, HeaderValue};

    use super::SiteBound;
    use crate::policy::jira::judge::route;
    use crate::policy::jira::table::JiraPolicy;

    #[test]
    fn a_read_goes_up_below_the_context_path_with_the_gates_own_fields() {
        let policy = JiraPolicy::shipped().unwrap();
        let routed = route(&policy, "POST", b"/rest/api/2/search").unwrap();
        let body = Some(b"{\"jql\":\"\"}".to_vec());
        let cleared = routed.clear(body, Some("application/json; charset=utf-8")).unwrap();
        let site = "https://jira.example:8443/jira".parse().unwrap();
        let mut client = HeaderMap::new();
        client.insert("host", HeaderValue::from_static("gate"));
        client.insert("authorization", HeaderValue::from_static("Bearer gate-token"));
        client.insert("content-length", HeaderValue::from_static("10"));

        let credential = Some(HeaderValue::from_static("Bearer pat"));
        let bound = SiteBound::new(cleared, &site, &client, credential).unwrap();
        let request = bound.to_request::<Bytes>();

        assert_eq!(
            (request.method().as_str(), request.uri().to_string().as_str()),
            ("POST", "/jira/rest/api/2/search")
        );
        assert_eq!(request.headers()["host"], "jira.example:8443");
        assert_eq!(request.headers()["authorization"], "Bearer pat");
        assert_eq!(request.headers()["content-type"], "application/json");
        assert!(!request.headers().contains_key("content-length"));
        assert_eq!(request.body().as_ref(), b"{\"jql\":\"\"}");
    }
}
