//! What a path looks like: literal segments and typed parameters.
//!
//! `/rest/api/{2|3|latest}/issue/{issueIdOrKey:issue}/comment/{id:number}`. A parameter takes one whole
//! segment; `{rest...}` at the end takes all that is left, and only refusals may have it.

use std::fmt;

/// Longest value of a parameter, in bytes after decoding. File names have 255 at most.
const MAX_VALUE_BYTES: usize = 512;

/// Longest issue key, in bytes. JIRA has at most 255 characters for a project key.
const MAX_KEY_BYTES: usize = 280;

/// What one segment of a path may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Segment {
    /// This word.
    Literal(Box<str>),
    /// One of these words: `{2|3|latest}`.
    OneOf(Box<[Box<str>]>),
    /// A whole number: `{id:number}`.
    Number,
    /// An issue's key or number: `{issueIdOrKey:issue}`.
    Issue,
    /// Any text that a canonical path can hold: `{username}`.
    Text,
    /// Whatever follows: `{rest...}`.
    Rest,
}

impl Segment {
    /// Whether this text, decoded, can stand here.
    pub(super) fn takes(&self, text: &str) -> bool {
        match self {
            Self::Literal(word) => **word == *text,
            Self::OneOf(words) => words.iter().any(|word| **word == *text),
            Self::Number => is_number(text),
            Self::Issue => is_number(text) || is_issue_key(text),
            Self::Text => text.len() <= MAX_VALUE_BYTES,
            Self::Rest => true,
        }
    }

    /// Whether some text fits both. Errs on the side of yes.
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Literal(word), other) | (other, Self::Literal(word)) => other.takes(word),
            (Self::OneOf(words), other) | (other, Self::OneOf(words)) => {
                words.iter().any(|word| other.takes(word))
            }
            _ => true,
        }
    }
}

/// `PROJ-123`: a letter, letters, digits or underscores, a hyphen, digits.
fn is_issue_key(text: &str) -> bool {
    let Some((project, number)) = text.rsplit_once('-') else { return false };
    text.len() <= MAX_KEY_BYTES
        && project.starts_with(|c: char| c.is_ascii_alphabetic())
        && project.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && is_number(number)
}

/// At most 19 digits, as a 64-bit number has.
fn is_number(text: &str) -> bool {
    (1..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A path with parameters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Template {
    segments: Vec<Segment>,
}

impl Template {
    /// Reads a template as written in the table.
    pub(super) fn parse(text: &str) -> Result<Self, TemplateFault> {
        let inner = text.strip_prefix('/').ok_or(TemplateFault::NoSlash)?;
        let segments: Vec<Segment> = inner.split('/').map(segment).collect::<Result<_, _>>()?;
        match segments.iter().position(|segment| *segment == Segment::Rest) {
            Some(at) if at + 1 < segments.len() => Err(TemplateFault::RestInside),
            _ => Ok(Self { segments }),
        }
    }

    /// The segments, at least one.
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether it takes any number of segments.
    pub(super) fn is_open(&self) -> bool {
        self.segments.last() == Some(&Segment::Rest)
    }

    /// Whether some path fits both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        for pair in self.segments.iter().zip(&other.segments) {
            match pair {
                (Segment::Rest, _) | (_, Segment::Rest) => return true,
                (one, two) if !one.meets(two) => return false,
                _ => {}
            }
        }
        self.segments.len() == other.segments.len()
    }
}

fn segment(text: &str) -> Result<Segment, TemplateFault> {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
        let is_dots = text.bytes().all(|byte| byte == b'.');
        return if is_word(text) && !is_dots {
            Ok(Segment::Literal(text.into()))
        } else {
            Err(TemplateFault::Word(text.to_owned()))
        };
    };
    if inner.contains('|') {
        let words: Box<[Box<str>]> = inner.split('|').map(Into::into).collect();
        return if words.iter().all(|word| is_word(word)) {
            Ok(Segment::OneOf(words))
        } else {
            Err(TemplateFault::Word(text.to_owned()))
        };
    }
    match inner.split_once(':') {
        None if inner.strip_suffix("...").is_some_and(is_word) => Ok(Segment::Rest),
        None if is_word(inner) => Ok(Segment::Text),
        Some((name, "issue")) if is_word(name) => Ok(Segment::Issue),
        Some((name, "number")) if is_word(name) => Ok(Segment::Number),
        None | Some(_) => Err(TemplateFault::Parameter(text.to_owned())),
    }
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TemplateFault {
    /// It does not begin with a slash.
    NoSlash,
    /// A parameter that nobody understands.
    Parameter(String),
    /// `{rest...}` is not at the end.
    RestInside,
    /// A literal segment that no path could hold.
    Word(String),
}

impl fmt::Display for TemplateFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSlash => write!(formatter, "a path begins with `/`"),
            Self::Parameter(text) => write!(
                formatter,
                "`{text}` is no parameter: write {{name}}, {{name:number}}, {{name:issue}}, \
                 {{one|other}} or, at the end, {{name...}}"
            ),
            Self::RestInside => {
                write!(formatter, "only the last segment may take all that is left")
            }
            Self::Word(text) => write!(formatter, "`{text}` cannot be a segment of a path"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Segment, Template, TemplateFault};

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    #[test]
    fn parameters_take_what_their_type_says() {
        let issue = Segment::Issue;
        for text in ["1", "ABC-1", "A1_B-99", "abc-1"] {
            assert!(issue.takes(text), "{text}");
        }
        for text in ["", "ABC", "ABC-", "-1", "1A-1", "ABC-1x", "ABC-1 ", "picker", "A-B-1", "Ä-1"]
        {
            assert!(!issue.takes(text), "{text}");
        }
        assert!(!issue.takes(&format!("{}-1", "A".repeat(300))));
        assert!(!Segment::Number.takes("-1"));
        assert!(!Segment::Number.takes("12345678901234567890"));
        assert!(!Segment::Text.takes(&"x".repeat(513)));
    }

    #[test]
    fn templates_meet_where_a_path_fits_both() {
        let comment = template("/rest/api/{2|3}/issue/{key:issue}/comment");
        assert!(comment.meets(&template("/rest/api/{3|latest}/issue/{key}/comment")));
        assert!(comment.meets(&template("/rest/{rest...}")));
        assert!(comment.meets(&template("/rest/api/2/issue/7/comment")));
        assert!(!comment.meets(&template("/rest/api/latest/issue/{key}/comment")));
        assert!(!comment.meets(&template("/rest/api/2/issue/picker/comment")));
        assert!(!comment.meets(&template("/rest/api/2/issue/{key}")));
    }

    #[test]
    fn a_template_with_a_mistake_is_none() {
        for (text, fault) in [
            ("rest", TemplateFault::NoSlash),
            ("/a//b", TemplateFault::Word(String::new())),
            ("/a/..", TemplateFault::Word("..".to_owned())),
            ("/a/{b:word}", TemplateFault::Parameter("{b:word}".to_owned())),
            ("/a/{}", TemplateFault::Parameter("{}".to_owned())),
            ("/a/{rest...}/b", TemplateFault::RestInside),
            ("/a/b%20", TemplateFault::Word("b%20".to_owned())),
        ] {
            assert_eq!(Template::parse(text), Err(fault), "{text}");
        }
    }
}
