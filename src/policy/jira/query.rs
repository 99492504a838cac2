//! Query parameters: each operation has a list of those that it knows, and there are no others.
//!
//! JIRA and what stands before it take parameters that no operation documents: `os_username` logs in,
//! `_method` turns a GET into something else, `jwt` and `access_token` are credentials. A list of what
//! is known needs no list of those.

use crate::policy::jira::target::{Pairs, push_query_text};

/// A query parameter that an operation knows: `startAt:int`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    name: String,
    value: Value,
    repeats: Repeats,
}

/// What a parameter holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// Whatever the client sends, it is sent on as `false`: `updateHistory=true` would write.
    False,
    /// `true` or `false`, in any case (Python writes `True`).
    Flag,
    /// A whole number, or nothing.
    Int,
    /// Text.
    Text,
}

/// Whether a parameter may come more than once. Where it may not, the first and the last one could be
/// taken by different readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeats {
    Never,
    Often,
}

/// Parameters that no file can make known: they log in, carry credentials or another method, whatever
/// operation they come with. In lower case; what ends in `_` stands for a family.
const NEVER: [&str; 7] =
    ["os_", "oauth_", "access_token", "jwt", "user_id", "_method", "httpmethod"];

/// The parameter that writes. It is known only so that it is sent on as `false`.
const WRITING: &str = "updateHistory";

impl Parameter {
    /// Reads a word of the table: `fields`, `startAt:int`, `validate:flag`, `accountId*`,
    /// `updateHistory:false`.
    pub(super) fn parse(word: &str) -> Option<Self> {
        let (word, repeats) = match word.strip_suffix('*') {
            Some(word) => (word, Repeats::Often),
            None => (word, Repeats::Never),
        };
        let (name, value) = match word.split_once(':') {
            None => (word, Value::Text),
            Some((name, "false")) => (name, Value::False),
            Some((name, "flag")) => (name, Value::Flag),
            Some((name, "int")) => (name, Value::Int),
            Some(_) => return None,
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        // A site that does not mind the case of a name must not see one either.
        let lower = name.to_ascii_lowercase();
        let writes =
            name.eq_ignore_ascii_case(WRITING) && !(name == WRITING && value == Value::False);
        let is_never = NEVER
            .into_iter()
            .any(|never| lower == never || never.ends_with('_') && lower.starts_with(never));
        let fits = !name.is_empty() && name.bytes().all(is_name) && !writes && !is_never;
        fits.then(|| Self { name: name.to_owned(), value, repeats })
    }

    /// As it is written in the query.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What is sent on for a value, or `None` if it is not of the type.
    fn accept<'v>(&self, value: &'v str) -> Option<&'v str> {
        match self.value {
            Value::False => Some("false"),
            Value::Text => Some(value),
            _ if value.is_empty() => Some(value),
            Value::Flag => ["true", "false"]
                .into_iter()
                .any(|word| value.eq_ignore_ascii_case(word))
                .then_some(value),
            Value::Int => {
                let digits = value.strip_prefix('-').unwrap_or(value);
                let is_int = (1..=19).contains(&digits.len())
                    && digits.bytes().all(|byte| byte.is_ascii_digit());
                is_int.then_some(value)
            }
        }
    }
}

/// Why a query is refused, in the words of the note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum QueryFault {
    Repeated(String),
    Type(String),
    Unknown(String),
}

impl QueryFault {
    pub(super) fn note(&self) -> String {
        match self {
            Self::Repeated(name) => format!("The parameter `{name}` comes more than once."),
            Self::Type(name) => format!("The parameter `{name}` has a value of another type."),
            Self::Unknown(name) if name.is_empty() => {
                "A parameter has a name that no operation knows.".to_owned()
            }
            Self::Unknown(name) => {
                format!("The parameter `{name}` is not known for this operation.")
            }
        }
    }
}

/// Judges a query and appends to `target` what is sent on, `?` included.
pub(super) fn append_known(
    known: &[Parameter],
    query: &Pairs<'_>,
    target: &mut String,
) -> Result<(), QueryFault> {
    let mut seen: Vec<&str> = Vec::new();
    for (name, value) in query {
        let Some(parameter) = known.iter().find(|parameter| parameter.name == **name) else {
            return Err(QueryFault::Unknown(showable(name)));
        };
        if seen.contains(&parameter.name()) && parameter.repeats == Repeats::Never {
            if parameter.value == Value::False {
                continue;
            }
            return Err(QueryFault::Repeated(parameter.name.clone()));
        }
        let Some(value) = parameter.accept(value) else {
            return Err(QueryFault::Type(parameter.name.clone()));
        };
        target.push(if seen.is_empty() { '?' } else { '&' });
        push_query_text(target, &parameter.name);
        target.push('=');
        push_query_text(target, value);
        seen.push(parameter.name());
    }
    Ok(())
}

/// The name if it can be shown to anybody; it is the client's text.
fn showable(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let shown = name.len() <= 40 && name.bytes().all(is_plain);
    if shown { name.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::{Parameter, QueryFault, append_known};
    use crate::policy::jira::target::Target;

    fn sent(known: &str, query: &str) -> Result<String, QueryFault> {
        let known: Vec<Parameter> =
            known.split_whitespace().map(|word| Parameter::parse(word).unwrap()).collect();
        let raw = format!("/x?{query}");
        let target = Target::parse(raw.as_bytes()).unwrap();
        let mut written = String::new();
        append_known(&known, &target.query, &mut written).map(|()| written)
    }

    #[test]
    fn known_parameters_are_sent_on_in_their_order() {
        let query =
            sent("jql startAt:int validate:flag", "startAt=-1&jql=a+%3D+%22%26%22&validate=True");
        assert_eq!(query.unwrap(), "?startAt=-1&jql=a%20%3D%20%22%26%22&validate=True");
        assert_eq!(sent("jql", "").unwrap(), "");
        assert_eq!(sent("jql", "jql=").unwrap(), "?jql=");
    }

    #[test]
    fn a_parameter_that_writes_is_sent_on_as_false_and_once() {
        for query in
            ["updateHistory", "updateHistory=TRUE", "updateHistory=false&updateHistory=true"]
        {
            assert_eq!(sent("updateHistory:false", query).unwrap(), "?updateHistory=false");
        }
    }

    #[test]
    fn no_table_makes_a_parameter_known_that_logs_in_or_writes() {
        for word in [
            "os_username",
            "os_authType:flag",
            "access_token",
            "_method*",
            "updateHistory:flag",
            "UpdateHistory:false",
        ] {
            assert_eq!(Parameter::parse(word), None, "{word}");
        }
        assert!(Parameter::parse("updateHistory:false").is_some());
        assert!(Parameter::parse("osversion").is_some());
    }

    #[test]
    fn what_is_unknown_repeated_or_of_another_type_is_refused() {
        let unknown = |name: &str| Err(QueryFault::Unknown(name.to_owned()));
        assert_eq!(sent("jql", "JQL=1"), unknown("JQL"));
        assert_eq!(sent("jql", "+jql=1"), unknown(""));
        assert_eq!(sent("jql", "jql=1&jql=2"), Err(QueryFault::Repeated("jql".to_owned())));
        assert_eq!(sent("id*", "id=1&id=2").unwrap(), "?id=1&id=2");
        for value in ["x", "1.5", "--1", "12345678901234567890"] {
            let found = sent("startAt:int", &format!("startAt={value}"));
            assert_eq!(found, Err(QueryFault::Type("startAt".to_owned())), "{value}");
        }
    }
}
