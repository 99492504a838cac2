//! The request target: canonical or refused, never normalised.
//!
//! Servers, servlets and frameworks behind a gate take paths apart in ways of their own: they decode
//! twice, drop `;parameters`, merge slashes, climb `..`. Whoever normalises and forwards must do it
//! exactly as all of them do. So nothing is repaired here: a path in which two readers could see two
//! things is refused, and what is forwarded is written anew from the parts that were judged.
//!
//! RFC 3986 names the parts; RFC 9112, section 3.2, the forms of a target.

use std::borrow::Cow;

/// Longest target, in bytes: what common servers take as a request line (Tomcat's limit is 8 KiB).
pub const MAX_TARGET_BYTES: usize = 8_000;

/// Longest path, in bytes. The longest known one is an attachment's with a file name of 255 bytes, each
/// escaped.
const MAX_PATH_BYTES: usize = 2_048;

/// Most query parameters. No known operation has more than thirty.
const MAX_PARAMETERS: usize = 128;

/// Query parameters, decoded, in the order in which they were sent.
pub(super) type Pairs<'t> = Vec<(Cow<'t, str>, Cow<'t, str>)>;

/// A target that every reader reads alike, taken apart and decoded.
#[derive(Debug)]
pub(super) struct Target<'t> {
    /// The segments of the path, at least one.
    pub(super) segments: Vec<Cow<'t, str>>,
    /// What stands behind `?`.
    pub(super) query: Pairs<'t>,
}

/// What is wrong with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetFault {
    /// The path is not canonical.
    Path,
    /// Only the slash at the end keeps the path from being canonical.
    PathSlash,
    /// The query cannot be decoded in one way only.
    Query,
    /// There are more parameters than any operation has.
    QueryCount,
    /// It is longer than [`MAX_TARGET_BYTES`], or its path than 2 KiB.
    Size,
}

impl<'t> Target<'t> {
    /// Takes a target in origin form apart.
    pub(super) fn parse(target: &'t [u8]) -> Result<Self, TargetFault> {
        let (path, query) = split(target)?;
        Ok(Self { segments: segments(path)?, query: pairs(query)? })
    }

    /// The segments of a path that ends in a slash it should not have. Good for the name in a refusal
    /// and for nothing else.
    pub(super) fn segments_before_slash(target: &'t [u8]) -> Option<Vec<Cow<'t, str>>> {
        let (path, _) = split(target).ok()?;
        segments(path.strip_suffix(b"/")?).ok()
    }
}

/// Path and query of a target in absolute form (RFC 9112, section 3.2.2), as clients write it that take
/// the gate for their proxy; `None` for any other form. Whether the host is the right one is for the
/// caller to say, who also knows it from the Host field. There is no way to come by `https://`: that
/// would be asked for by CONNECT.
#[must_use]
pub fn origin_form(target: &[u8]) -> Option<&[u8]> {
    let behind = target.strip_prefix(b"http://")?;
    let slash = behind.iter().position(|byte| *byte == b'/')?;
    let (host, rest) = behind.split_at(slash);
    let is_plain = |byte: &u8| is_unreserved(*byte) || b":[]".contains(byte);
    (!host.is_empty() && host.iter().all(is_plain)).then_some(rest)
}

fn split(target: &[u8]) -> Result<(&[u8], &[u8]), TargetFault> {
    if target.len() > MAX_TARGET_BYTES {
        return Err(TargetFault::Size);
    }
    let mark = target.iter().position(|byte| *byte == b'?');
    let (path, query) = target.split_at(mark.unwrap_or(target.len()));
    if path.len() > MAX_PATH_BYTES {
        return Err(TargetFault::Size);
    }
    Ok((path, query.get(1..).unwrap_or_default()))
}

fn segments(path: &[u8]) -> Result<Vec<Cow<'_, str>>, TargetFault> {
    let inner = path.strip_prefix(b"/").ok_or(TargetFault::Path)?;
    if let Some(before) = inner.strip_suffix(b"/")
        && segments(path.get(..=before.len()).unwrap_or_default()).is_ok()
    {
        return Err(TargetFault::PathSlash);
    }
    inner.split(|byte| *byte == b'/').map(|raw| segment(raw).ok_or(TargetFault::Path)).collect()
}

fn segment(raw: &[u8]) -> Option<Cow<'_, str>> {
    if !raw.iter().all(|byte| is_unreserved(*byte) || b"!$'()*+,=:@%".contains(byte)) {
        return None;
    }
    let text = decode(raw, Plus::IsPlus)?;
    // An escape that nobody needs is there to get past somebody.
    if escapes(raw).any(is_unreserved) || text.chars().any(may_not_be_in_a_segment) {
        return None;
    }
    // Empty, dots, and what becomes either where names lose dots and blanks at their end.
    if text.chars().all(|c| c == '.' || c.is_whitespace()) {
        return None;
    }
    Some(text)
}

/// What a second decoder or a servlet would take for something else than text.
fn may_not_be_in_a_segment(c: char) -> bool {
    c.is_control() || matches!(c, '/' | '\\' | '%' | ';' | '?' | '#')
}

fn pairs(query: &[u8]) -> Result<Pairs<'_>, TargetFault> {
    let allowed = |byte: &u8| is_unreserved(*byte) || b"!$&'()*+,=:@/?[]%".contains(byte);
    if !query.iter().all(allowed) {
        return Err(TargetFault::Query);
    }
    let pieces = query.split(|byte| *byte == b'&').filter(|piece| !piece.is_empty());
    if pieces.clone().count() > MAX_PARAMETERS {
        return Err(TargetFault::QueryCount);
    }
    pieces.map(|piece| pair(piece).ok_or(TargetFault::Query)).collect()
}

fn pair(piece: &[u8]) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let equals = piece.iter().position(|byte| *byte == b'=');
    let (name, value) = piece.split_at(equals.unwrap_or(piece.len()));
    let decoded = |raw| {
        // JQL may be written over several lines; no other control character is text.
        let is_text = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
        decode(raw, Plus::IsSpace).filter(|text| text.chars().all(is_text))
    };
    Some((decoded(name)?, decoded(value.get(1..).unwrap_or_default())?))
}

/// What `+` means: itself in a path (RFC 3986), a space in a query (HTML forms).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    IsPlus,
    IsSpace,
}

/// Decodes percent escapes once. `None` for a cut escape and for what is not UTF-8, overlong forms
/// included.
fn decode(raw: &[u8], plus: Plus) -> Option<Cow<'_, str>> {
    let stays = |byte: &u8| *byte != b'%' && (*byte != b'+' || plus == Plus::IsPlus);
    if raw.iter().all(stays) {
        return str::from_utf8(raw).ok().map(Cow::Borrowed);
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter();
    while let Some(byte) = bytes.next() {
        decoded.push(match *byte {
            b'%' => hex(*bytes.next()?)? << 4 | hex(*bytes.next()?)?,
            b'+' if plus == Plus::IsSpace => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// The bytes that stand escaped.
fn escapes(raw: &[u8]) -> impl Iterator<Item = u8> {
    raw.windows(3).filter_map(|three| match three {
        [b'%', high, low] => Some(hex(*high)? << 4 | hex(*low)?),
        _ => None,
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Appends a segment, escaped so that [`Target::parse`] reads it back.
pub(super) fn push_segment(into: &mut String, text: &str) {
    push_escaped(into, text, b"!$'()*+,=:@");
}

/// Appends the name or the value of a query parameter, escaped likewise.
pub(super) fn push_query_text(into: &mut String, text: &str) {
    push_escaped(into, text, b"!$'()*,:@/");
}

fn push_escaped(into: &mut String, text: &str, bare: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().map_or('0', char::from);
    for byte in text.bytes() {
        if is_unreserved(byte) || bare.contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.extend(['%', digit(byte >> 4), digit(byte & 0x0f)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Target, TargetFault, origin_form, push_query_text, push_segment};

    fn path(target: &str) -> Result<Vec<String>, TargetFault> {
        let target = Target::parse(target.as_bytes())?;
        Ok(target.segments.into_iter().map(String::from).collect())
    }

    #[test]
    fn a_plain_path_is_taken_apart() {
        assert_eq!(
            path("/rest/api/2/issue/A1_B-99").unwrap(),
            ["rest", "api", "2", "issue", "A1_B-99"]
        );
        assert_eq!(path("/a/r%C3%A9sum%c3%a9.pdf").unwrap(), ["a", "résumé.pdf"]);
        assert_eq!(path("/a/557058%3A7013").unwrap(), ["a", "557058:7013"]);
    }

    #[test]
    fn what_two_readers_could_read_differently_is_no_path() {
        for odd in [
            "",
            "a",
            "*",
            "//a",
            "/a//b",
            "/",
            "/.",
            "/a/..",
            "/a/.%2e",
            "/a/%2E%2e",
            "/a/...",
            "/a/..%20",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "/a%00",
            "/a%0a",
            "/a%7f",
            "/a%C2%85",
            "/a;b",
            "/a%3bb",
            "/a%25b",
            "/a%3f",
            "/a%23",
            "/a#b",
            "/%61",
            "/a%2",
            "/a%",
            "/a%g0",
            "/a%+1",
            "/a%ff",
            "/a%c0%ae",
            "/a%ed%a0%80",
            "/a|b",
            "/a^b",
            "/a\"b",
            "/a{b}",
            "/a b",
            "/a\u{e9}",
            "/a&b",
            "/a[b]",
        ] {
            assert_eq!(path(odd), Err(TargetFault::Path), "{odd:?}");
        }
    }

    #[test]
    fn an_absolute_form_has_a_plain_host() {
        assert_eq!(origin_form(b"http://jira.example:80/a?b"), Some(&b"/a?b"[..]));
        assert_eq!(origin_form(b"http://[::1]:80/"), Some(&b"/"[..]));
        for odd in [
            "http://",
            "http:///a",
            "http://host",
            "http://u@h/a",
            "http://h\\@e/",
            "https://h/a",
            "/a",
        ] {
            assert_eq!(origin_form(odd.as_bytes()), None, "{odd}");
        }
    }

    #[test]
    fn a_slash_at_the_end_is_known_as_such() {
        assert_eq!(path("/rest/api/"), Err(TargetFault::PathSlash));
        assert_eq!(path("/rest//"), Err(TargetFault::Path));
        let named = Target::segments_before_slash(b"/rest/api/?a=b").unwrap();
        assert_eq!(named, ["rest", "api"]);
        assert!(Target::segments_before_slash(b"/rest/../").is_none());
    }

    #[test]
    fn a_query_is_decoded_once() {
        let target = Target::parse(b"/a?jql=a+%3D%20%22b%26c%22&&x&y=1=2&%6aql=").unwrap();

        let expected = [("jql", "a = \"b&c\""), ("x", ""), ("y", "1=2"), ("jql", "")];
        let found: Vec<_> = target.query.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_query_that_cannot_be_decoded_is_none() {
        for odd in
            ["/a?b=%ff", "/a?b=%", "/a?b=1;c=2", "/a?b=%00", "/a?b#c", "/a?b=\u{e9}", "/a?b=\"c\""]
        {
            assert_eq!(Target::parse(odd.as_bytes()).err(), Some(TargetFault::Query), "{odd:?}");
        }
    }

    #[test]
    fn bounds_hold() {
        let long = format!("/{}", "a".repeat(2_048));
        assert_eq!(path(&long), Err(TargetFault::Size));
        let long = format!("/a?jql={}", "a".repeat(8_000));
        assert_eq!(path(&long), Err(TargetFault::Size));
        let many = format!("/a?{}", "a=1&".repeat(129));
        assert_eq!(path(&many), Err(TargetFault::QueryCount));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = "r\u{e9}sum\u{e9} (1)+2,=:@*~'!$&.pdf";
        let mut written = "/".to_owned();
        push_segment(&mut written, text);
        written.push('?');
        push_query_text(&mut written, text);
        written.push('=');
        push_query_text(&mut written, text);

        let target = Target::parse(written.as_bytes()).unwrap();

        assert_eq!(target.segments, [text]);
        assert_eq!(target.query[0], (text.into(), text.into()));
    }
}
