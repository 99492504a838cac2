//! Which lines somebody wants to see: `decision=deny actor.user=ann db.query.text~"drop table"`.
//!
//! Terms by field path, all of which must hold. Most lines are thrown out by their bytes alone: a
//! line that should hold `"user":"ann"` somewhere and does not is not parsed. That works because
//! lines are written by us, without spaces and with keys in one order; what is left is parsed and
//! judged by its values.

use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;
use memchr::memmem::{self, Finder};
use serde_json::Value;

use crate::audit::files::lines_of;

/// A filter, understood.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    terms: Vec<Term>,
    /// Times as in the lines, which sort as texts.
    since: Option<String>,
    until: Option<String>,
    /// What a line that passes must hold, byte for byte.
    needles: Vec<Finder<'static>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Term {
    path: Vec<String>,
    operator: Operator,
    /// One of these.
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    AtLeast,
    AtMost,
    Contains,
    Equal,
    Less,
    More,
    NotEqual,
}

const OPERATORS: [(&str, Operator); 7] = [
    ("!=", Operator::NotEqual),
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("=", Operator::Equal),
    ("~", Operator::Contains),
    (">", Operator::More),
    ("<", Operator::Less),
];

/// A filter that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A term has no operator.
    #[error(
        "`{0}` is not a term such as decision=deny, db.response.returned_rows>100 or url.path~issue"
    )]
    Operator(String),
    /// A quote is not closed.
    #[error("a quote is not closed in `{0}`")]
    Quote(String),
    /// A time is none.
    #[error(
        "`{0}` is neither a time such as 2026-11-24T10:00:00Z nor a while ago such as 90s, 15m, 24h or 7d"
    )]
    Time(String),
    /// A number was expected.
    #[error("`{0}` is not a number")]
    Number(String),
}

impl Filter {
    /// Reads a filter. `now` is what `since=24h` is counted from.
    ///
    /// # Errors
    /// The first term that cannot be understood.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for word in words(text)? {
            filter.add(&word, now)?;
        }
        filter.needles = filter.terms.iter().filter_map(Term::needle).collect();
        Ok(filter)
    }

    fn add(&mut self, word: &str, now: Timestamp) -> Result<(), FilterError> {
        let (path, operator, value) =
            split(word).ok_or_else(|| FilterError::Operator(word.to_owned()))?;
        match (path, operator) {
            ("since", Operator::Equal) => self.since = Some(time(value, now)?),
            ("until", Operator::Equal) => self.until = Some(time(value, now)?),
            _ => {
                let compares = matches!(
                    operator,
                    Operator::AtLeast | Operator::AtMost | Operator::Less | Operator::More
                );
                if compares && value.parse::<i64>().is_err() {
                    return Err(FilterError::Number(value.to_owned()));
                }
                let values = if compares || operator == Operator::Contains {
                    vec![value.to_owned()]
                } else {
                    value.split(',').map(str::to_owned).collect()
                };
                let path = path.split('.').map(str::to_owned).collect();
                self.terms.push(Term { path, operator, values });
            }
        }
        Ok(())
    }

    /// Whether every line passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty() && self.since.is_none() && self.until.is_none()
    }

    /// Whether lines of this time are too old.
    #[must_use]
    pub fn is_before(&self, time: &str) -> bool {
        self.since.as_deref().is_some_and(|since| time < since)
    }

    /// Hands out the lines of a piece that pass, until `take` breaks.
    pub fn select<'a, B>(
        &self,
        piece: &'a [u8],
        mut take: impl FnMut(&'a [u8]) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let Some((first, others)) = self.needles.split_first() else {
            let lines = lines_of(piece);
            return lines.filter(|line| self.passes(line)).try_for_each(take);
        };
        let mut rest = piece;
        while let Some(at) = first.find(rest) {
            let (before, behind) = rest.split_at(at);
            let start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
            let end = memchr::memchr(b'\n', behind).map_or(rest.len(), |newline| at + newline);
            let line = rest.get(start..end).unwrap_or_default();
            if others.iter().all(|needle| needle.find(line).is_some()) && self.passes(line) {
                take(line)?;
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        ControlFlow::Continue(())
    }

    fn passes(&self, line: &[u8]) -> bool {
        self.is_in_time(line) && (self.terms.is_empty() || self.holds(line))
    }

    fn is_in_time(&self, line: &[u8]) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let Some(time) = time_of(line) else { return false };
        let is_late_enough = self.since.as_deref().is_none_or(|since| time >= since);
        is_late_enough && self.until.as_deref().is_none_or(|until| time < until)
    }

    fn holds(&self, line: &[u8]) -> bool {
        let Ok(line) = serde_json::from_slice::<Value>(line) else { return false };
        self.terms.iter().all(|term| term.holds(&line))
    }
}

/// The time of a line, which stands near its beginning.
#[must_use]
pub fn time_of(line: &[u8]) -> Option<&str> {
    let head = line.get(..line.len().min(128))?;
    let at = memmem::find(head, br#""time":""#)? + br#""time":""#.len();
    let rest = line.get(at..)?;
    let end = memchr::memchr(b'"', rest)?;
    std::str::from_utf8(rest.get(..end)?).ok()
}

impl Term {
    /// `"user":"ann"`: a value that may be written in one way only.
    fn needle(&self) -> Option<Finder<'static>> {
        let ([value], Operator::Equal) = (self.values.as_slice(), self.operator) else {
            return None;
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:@ ".contains(&byte);
        // A number and a text that look alike are written differently; a list holds no key.
        let is_text = value.parse::<f64>().is_err() && !matches!(value.as_str(), "true" | "false");
        if value.is_empty() || !value.bytes().all(is_plain) || !is_text {
            return None;
        }
        let needle = match self.path.last()?.as_str() {
            "collections" | "functions" => format!("\"{value}\""),
            key => format!("\"{key}\":\"{value}\""),
        };
        Some(Finder::new(needle.as_bytes()).into_owned())
    }

    fn holds(&self, line: &Value) -> bool {
        let found = self.path.iter().try_fold(line, |value, key| value.get(key));
        match self.operator {
            Operator::Equal => found.is_some_and(|found| self.is_one_of(found)),
            Operator::NotEqual => !found.is_some_and(|found| self.is_one_of(found)),
            Operator::Contains => found.is_some_and(|found| self.is_part_of(found)),
            Operator::AtLeast => self.compares(found, |found, value| found >= value),
            Operator::AtMost => self.compares(found, |found, value| found <= value),
            Operator::Less => self.compares(found, |found, value| found < value),
            Operator::More => self.compares(found, |found, value| found > value),
        }
    }

    fn is_one_of(&self, found: &Value) -> bool {
        match found {
            Value::Array(items) => items.iter().any(|item| self.is_one_of(item)),
            Value::String(text) => self.values.contains(text),
            other => self.values.contains(&other.to_string()),
        }
    }

    fn is_part_of(&self, found: &Value) -> bool {
        let is_in = |text: &str| {
            self.values.iter().any(|value| text.to_lowercase().contains(&value.to_lowercase()))
        };
        match found {
            Value::Array(items) => items.iter().any(|item| self.is_part_of(item)),
            Value::String(text) => is_in(text),
            other => is_in(&other.to_string()),
        }
    }

    fn compares(&self, found: Option<&Value>, holds: impl Fn(i64, i64) -> bool) -> bool {
        let found = found.and_then(Value::as_i64);
        let value = self.values.first().and_then(|value| value.parse().ok());
        found.zip(value).is_some_and(|(found, value)| holds(found, value))
    }
}

/// Words parted by spaces; quotes hold a word together and are not part of it.
fn words(text: &str) -> Result<Vec<String>, FilterError> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut is_quoted = false;
    for character in text.chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            _ if character.is_whitespace() && !is_quoted => {
                words.push(std::mem::take(&mut word));
            }
            _ => word.push(character),
        }
    }
    if is_quoted {
        return Err(FilterError::Quote(text.to_owned()));
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    Ok(words)
}

/// Path, operator and value: the first operator in the word parts it.
fn split(word: &str) -> Option<(&str, Operator, &str)> {
    let at = word.find(['!', '>', '<', '=', '~'])?;
    let (path, rest) = word.split_at_checked(at)?;
    let (text, operator) = OPERATORS.iter().find(|(text, _)| rest.starts_with(text))?;
    let value = rest.strip_prefix(text)?;
    (!path.is_empty()).then_some((path, *operator, value))
}

/// A time as in the lines.
fn time(written: &str, now: Timestamp) -> Result<String, FilterError> {
    let wrong = || FilterError::Time(written.to_owned());
    let time = match ago(written) {
        Some(ago) => now.checked_sub(ago).map_err(|_| wrong())?,
        None => written.parse().map_err(|_| wrong())?,
    };
    Ok(format!("{time:.6}"))
}

fn ago(written: &str) -> Option<Duration> {
    let (number, unit) = written.split_at_checked(written.len().checked_sub(1)?)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use jiff::Timestamp;

    use super::{Filter, FilterError};

    const LINES: &str = r#"{"v":1,"seq":0,"time":"2026-11-24T10:00:00.000000Z","decision":"allow","actor":{"user":"ann"},"db":{"user":"bob","response":{"returned_rows":7},"collections":["t","u"]}}
{"v":1,"seq":1,"time":"2026-11-24T11:00:00.000000Z","decision":"deny","actor":{"user":"bob"},"db":{"user":"ann","query":{"text":"DROP TABLE t"}}}
{"v":1,"seq":2,"time":"2026-11-24T12:00:00.000000Z","decision":"error","upstream":{"contacted":false}}
"#;

    fn now() -> Timestamp {
        "2026-11-24T12:30:00Z".parse().unwrap()
    }

    fn select(filter: &str) -> Vec<u64> {
        let filter = Filter::parse(filter, now()).unwrap();
        let mut found = Vec::new();
        let all = filter.select(LINES.as_bytes(), |line| {
            found.push(crate::audit::files::seq_of(line).unwrap());
            ControlFlow::<()>::Continue(())
        });
        assert!(all.is_continue());
        found
    }

    #[test]
    fn all_terms_must_hold_and_are_of_the_field_that_they_name() {
        for (filter, expected) in [
            ("", &[0, 1, 2][..]),
            ("decision=deny", &[1]),
            ("decision=deny,error", &[1, 2]),
            ("decision!=deny", &[0, 2]),
            ("actor.user=ann", &[0]),
            ("db.user=ann decision=deny", &[1]),
            ("db.user=ann decision=allow", &[]),
            ("db.query.text~\"drop table\"", &[1]),
            ("db.collections=u", &[0]),
            ("db.response.returned_rows>=7", &[0]),
            ("db.response.returned_rows>7", &[]),
            ("seq<2", &[0, 1]),
            ("seq=2", &[2]),
            ("upstream.contacted=false", &[2]),
            ("since=1h", &[2]),
            ("since=2026-11-24T11:00:00Z until=2026-11-24T12:00:00Z", &[1]),
            ("since=1d actor.user=bob", &[1]),
        ] {
            assert_eq!(select(filter), expected, "{filter}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        let error = |filter| Filter::parse(filter, now()).unwrap_err();

        assert_eq!(error("decision=deny ann"), FilterError::Operator("ann".to_owned()));
        assert_eq!(error("=deny"), FilterError::Operator("=deny".to_owned()));
        assert_eq!(error("a~\"b"), FilterError::Quote("a~\"b".to_owned()));
        assert_eq!(error("since=yesterday"), FilterError::Time("yesterday".to_owned()));
        assert_eq!(error("seq>x"), FilterError::Number("x".to_owned()));
    }
}
