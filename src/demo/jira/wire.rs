//! Requests and answers of the stand-in, and the bad habits of what stands before a real JIRA: it
//! decodes, climbs and cuts paths as servlet containers do, and takes another method from a header or a
//! parameter. So an attack that the gate would let through does here what it would do there.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// A request, as the stand-in understands it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    /// The JSON of the body, or null.
    pub(super) body: Value,
    /// The body as it came.
    pub(super) raw: Bytes,
    /// What stands behind `Basic` (only the password of it) or `Bearer`.
    pub(super) token: Option<String>,
}

impl Asked {
    /// Understands a request.
    pub(super) fn of(method: &str, target: &str, headers: &HeaderMap, raw: Bytes) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: Vec<(String, String)> = query
            .split(['&', ';'])
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decode(name, true), decode(value, true)))
            .collect();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let parameter = query.iter().find(|(name, _)| name == "_method").map(|(_, value)| value);
        let other = text("x-http-method-override").or(parameter.map(String::as_str));
        Self {
            method: other.unwrap_or(method).to_owned(),
            path: climb(path),
            query,
            body: serde_json::from_slice(&raw).unwrap_or(Value::Null),
            raw,
            token: text(AUTHORIZATION.as_str()).and_then(token_of),
        }
    }

    /// The first of these that is there, as a parameter or as a member of the body.
    pub(super) fn first(&self, names: &[&str]) -> Option<&str> {
        let parameter = |name: &&str| {
            self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        let member = |name: &&str| self.body.get(*name).and_then(Value::as_str);
        names.iter().find_map(parameter).or_else(|| names.iter().find_map(member))
    }

    /// A list, however it is written, with commas.
    pub(super) fn list(&self, name: &str) -> String {
        let parameters = self.query.iter().filter(|(known, _)| known == name);
        let mut items: Vec<&str> = parameters.map(|(_, value)| value.as_str()).collect();
        match self.body.get(name) {
            Some(Value::Array(members)) => items.extend(members.iter().filter_map(Value::as_str)),
            Some(Value::String(member)) => items.push(member),
            _ => {}
        }
        items.join(",")
    }

    /// A whole number.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        let member = || self.body.get(name).and_then(Value::as_u64)?.try_into().ok();
        self.first(&[name]).and_then(|text| text.parse().ok()).or_else(member)
    }
}

/// The path as Tomcat hands it to a servlet.
fn climb(path: &str) -> Vec<String> {
    let mut segments: Vec<String> = Vec::new();
    let decoded: Vec<String> = path
        .split('/')
        .map(|segment| decode(segment.split(';').next().unwrap_or_default(), false))
        .collect();
    for segment in decoded.join("/").replace('\\', "/").split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other.to_owned()),
        }
    }
    segments
}

/// Percent escapes, decoded; what is none stays as it is.
fn decode(text: &str, plus_is_space: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let escaped = behind.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        match (first, escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            (b'+', _) if plus_is_space => {
                bytes.push(b' ');
                rest = behind;
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn token_of(authorization: &str) -> Option<String> {
    if let Some(token) = authorization.strip_prefix("Bearer ") {
        return Some(token.to_owned());
    }
    let pair = STANDARD.decode(authorization.strip_prefix("Basic ")?).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    status: StatusCode,
    media_type: String,
    body: Vec<u8>,
}

impl Answer {
    /// 200 and JSON.
    pub(super) fn json(value: &Value) -> Self {
        Self::bytes("application/json;charset=UTF-8", value.to_string().into_bytes())
    }

    /// 200 and bytes.
    pub(super) fn bytes(media_type: &str, body: Vec<u8>) -> Self {
        Self { status: StatusCode::OK, media_type: media_type.to_owned(), body }
    }

    /// 201 and JSON.
    pub(super) fn created(value: &Value) -> Self {
        Self { status: StatusCode::CREATED, ..Self::json(value) }
    }

    /// 204.
    pub(super) fn done() -> Self {
        Self { status: StatusCode::NO_CONTENT, media_type: String::new(), body: Vec::new() }
    }

    /// An error in JIRA's form.
    pub(super) fn error(status: u16, message: &str) -> Self {
        let body = json!({"errorMessages": [message], "errors": {}});
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, ..Self::json(&body) }
    }

    pub(super) fn into_response(self, method: &str) -> Response<Full<Bytes>> {
        let body = if method == "HEAD" { Bytes::new() } else { Bytes::from(self.body) };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = self.status;
        if let Ok(media_type) = HeaderValue::from_str(&self.media_type)
            && !self.media_type.is_empty()
        {
            response.headers_mut().insert(CONTENT_TYPE, media_type);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::climb;

    #[test]
    fn paths_are_climbed_as_servlet_containers_do() {
        for path in [
            "/rest/api/2/search/../issue",
            "/rest/api/2/search/%2e%2e/issue",
            "/rest/api/2/search/..;x=1/issue",
            "/rest//api/./2/iss%75e;a=b",
        ] {
            assert_eq!(climb(path), ["rest", "api", "2", "issue"], "{path}");
        }
    }
}
