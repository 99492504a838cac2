//! Bodies of the few POSTs that only read: one JSON object, read strictly.
//!
//! The bytes are sent on as they came, so they must mean the same to every reader: UTF-8, no member
//! twice (readers take the first or the last), no number that overflows, no depth that exhausts a
//! stack. RFC 8259, section 4, leaves repeated names open; that is why they are refused.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Longest body, in bytes. A search is a few KiB.
pub const MAX_BODY_BYTES: usize = 64 << 10;

/// Deepest nesting. A search has two levels, a workflow about ten.
const MAX_DEPTH: usize = 32;

/// What is wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BodyFault {
    /// Not one JSON object, or one with a member twice. The text is the reader's, without the body.
    Json(String),
    /// A member that the operation does not know.
    Member,
    /// More than [`MAX_BODY_BYTES`].
    Size,
    /// Not JSON in UTF-8 by its type.
    Type,
}

/// Judges a body by its type and by the members that it may have.
pub(super) fn check(
    body: &[u8],
    content_type: Option<&str>,
    members: &[String],
) -> Result<(), BodyFault> {
    if body.len() > MAX_BODY_BYTES {
        return Err(BodyFault::Size);
    }
    if !content_type.is_some_and(is_json) {
        return Err(BodyFault::Type);
    }
    let mut found = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(body);
    let object = Object { names: Some(&mut found), depth: 0 };
    let told = |error: serde_json::Error| BodyFault::Json(error.classify().describe());
    reader.deserialize_map(object).map_err(told)?;
    reader.end().map_err(told)?;
    if found.iter().all(|name| members.contains(name)) { Ok(()) } else { Err(BodyFault::Member) }
}

/// `application/json`, at most with `charset=utf-8` behind it.
fn is_json(content_type: &str) -> bool {
    let (media_type, parameter) = content_type.split_once(';').unwrap_or((content_type, ""));
    let parameter = parameter.trim_matches([' ', '\t']);
    let is_utf8 = parameter.split_once('=').is_some_and(|(name, value)| {
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        name.eq_ignore_ascii_case("charset") && value.eq_ignore_ascii_case("utf-8")
    });
    media_type.trim_matches([' ', '\t']).eq_ignore_ascii_case("application/json")
        && (parameter.is_empty() || is_utf8)
}

/// What kind of mistake it is, without quoting the body.
trait Describe {
    fn describe(self) -> String;
}

impl Describe for serde_json::error::Category {
    fn describe(self) -> String {
        match self {
            Self::Data => "has a member twice, is nested too deeply, or is no object",
            Self::Eof => "ends too early",
            Self::Io | Self::Syntax => "is not JSON",
        }
        .to_owned()
    }
}

/// Any value, at a depth.
struct Value {
    depth: usize,
}

/// An object, whose names are wanted at the top.
struct Object<'n> {
    names: Option<&'n mut Vec<String>>,
    depth: usize,
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value_seed(Value { depth: self.depth + 1 })?;
            if !seen.insert(name) {
                return Err(A::Error::custom("a member twice"));
            }
        }
        if let Some(names) = self.names {
            names.extend(seen);
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > MAX_DEPTH {
            return Err(D::Error::custom("too deep"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Value { depth: self.depth + 1 })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Object { names: None, depth: self.depth }.visit_map(map)
    }
}

#[cfg(test)]
mod tests {
    use super::{BodyFault, check, is_json};

    fn judged(body: &str) -> Result<(), BodyFault> {
        let members = ["jql", "fields", "maxResults"].map(str::to_owned);
        check(body.as_bytes(), Some("application/json"), &members)
    }

    #[test]
    fn one_object_of_known_members_passes() {
        for body in [
            "{}",
            "{\"jql\":\"\"}",
            " {\"jql\": \"\\u00e4\", \"fields\": [\"*all\", {\"a\": null}]}\r\n",
        ] {
            assert_eq!(judged(body), Ok(()), "{body}");
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let deep = format!("{{\"jql\":{}1{}}}", "[".repeat(40), "]".repeat(40));
        for body in [
            "",
            "[]",
            "1",
            "null",
            "{\"jql\"",
            "{} {}",
            "{}x",
            "\u{feff}{}",
            "{jql:1}",
            "{\"jql\":1,}",
            "{\"jql\":NaN}",
            "{\"jql\":1,\"jql\":2}",
            "{\"jql\":1,\"j\\u0071l\":2}",
            "{\"fields\":[{\"a\":1,\"a\":1}]}",
            "{\"maxResults\":1e999}",
            "{\"jql\":\"\\ud800\"}",
            "{\"jql\":\"a\nb\"}",
            "{/**/}",
            &deep,
        ] {
            assert!(matches!(judged(body), Err(BodyFault::Json(_))), "{body:?}");
        }
        let members = ["jql".to_owned()];
        let found = check(b"{\"jql\":\"\xff\"}", Some("application/json"), &members);
        assert!(matches!(found, Err(BodyFault::Json(_))));
    }

    #[test]
    fn a_member_that_nobody_knows_is_refused() {
        assert_eq!(judged("{\"update\":{}}"), Err(BodyFault::Member));
    }

    #[test]
    fn only_json_in_utf_8_is_a_type() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
        ] {
            assert!(is_json(good), "{good}");
        }
        for bad in [
            "",
            "text/json",
            "application/json; charset=utf-16",
            "application/json, text/html",
            "application/json; a=b",
            "application/json; charset=utf-8; x=y",
            "application/jsonp",
        ] {
            assert!(!is_json(bad), "{bad}");
        }
    }
}
