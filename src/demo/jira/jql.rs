//! The part of JQL that people use: comparisons of fields, `AND`, `OR`, `NOT`, brackets, `ORDER BY`.

use std::iter::Peekable;

use crate::demo::jira::store::{Issue, PROJECTS};

/// A search that was understood.
#[derive(Debug)]
pub(super) struct Search {
    filter: Expression,
    order: Vec<(String, Direction)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Down,
    Up,
}

#[derive(Debug)]
enum Expression {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Clause(String, Comparison, Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Contains,
    Empty,
    In,
    Less,
    More,
}

/// What is wrong with a search, in words like JIRA's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct JqlFault(pub(super) String);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Mark(&'static str),
    Quoted(String),
    Word(String),
}

impl Search {
    /// Reads a search; an empty one finds everything.
    pub(super) fn parse(text: &str) -> Result<Self, JqlFault> {
        let mut reader = Reader { tokens: tokens(text)?.into_iter().peekable() };
        let filter = match reader.tokens.peek() {
            None => Expression::All(Vec::new()),
            Some(token) if is_word(token, "order") => Expression::All(Vec::new()),
            Some(_) => reader.any()?,
        };
        let order = reader.order()?;
        match reader.tokens.next() {
            None => Ok(Self { filter, order }),
            Some(token) => Err(unexpected(Some(&token))),
        }
    }

    /// What is found, in order.
    pub(super) fn find<'i>(&self, issues: impl Iterator<Item = &'i Issue>) -> Vec<&'i Issue> {
        let mut found: Vec<_> = issues.filter(|issue| self.filter.holds(issue)).collect();
        for (field, direction) in self.order.iter().rev() {
            let key = |issue: &Issue| sort_key(issue, field);
            found.sort_by(|one, other| match direction {
                Direction::Up => key(one).cmp(&key(other)),
                Direction::Down => key(other).cmp(&key(one)),
            });
        }
        found
    }
}

impl Expression {
    fn holds(&self, issue: &Issue) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(issue)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(issue)),
            Self::Not(part) => !part.holds(issue),
            Self::Clause(field, comparison, wanted) => {
                let values = values_of(issue, field).unwrap_or_default();
                let any = |fits: &dyn Fn(&str, &str) -> bool| {
                    values.iter().any(|value| {
                        wanted
                            .iter()
                            .any(|wanted| fits(&value.to_lowercase(), &wanted.to_lowercase()))
                    })
                };
                match comparison {
                    Comparison::Contains => any(&|value, wanted| value.contains(wanted)),
                    Comparison::Empty => values.is_empty(),
                    Comparison::In => any(&|value, wanted| value == wanted),
                    Comparison::Less => any(&|value, wanted| value < wanted),
                    Comparison::More => any(&|value, wanted| value > wanted),
                }
            }
        }
    }
}

/// The values of a field, as names, keys and numbers; `None` if there is no such field.
fn values_of(issue: &Issue, field: &str) -> Option<Vec<String>> {
    let one = |text: &str| vec![text.to_owned()];
    Some(match field.to_lowercase().as_str() {
        "assignee" => issue.assignee.iter().cloned().collect(),
        "comment" => issue.comments.iter().map(|note| note.body.clone()).collect(),
        "component" | "duedate" | "due" | "fixversion" | "sprint" => Vec::new(),
        "created" | "createddate" => one(&issue.created),
        "description" => one(&issue.description),
        "id" | "issue" | "issuekey" | "key" => vec![issue.key.clone(), issue.id.to_string()],
        "issuetype" | "type" => vec![issue.kind.name.to_owned(), issue.kind.id.to_string()],
        "labels" => issue.labels.clone(),
        "epic link" | "parent" => issue.parent.iter().cloned().collect(),
        "priority" => one(issue.priority.name),
        "project" => {
            let project = issue.project;
            vec![project.key.to_owned(), project.name.to_owned(), project.id.to_string()]
        }
        "reporter" | "creator" => one(&issue.reporter),
        "resolution" => issue.resolution.map(|it| it.name.to_owned()).into_iter().collect(),
        "status" => vec![issue.status.name.to_owned(), issue.status.id.to_string()],
        "statuscategory" => {
            let done = if issue.status.key == "new" { "To Do" } else { issue.status.name };
            let name = if issue.status.key == "done" { "Done" } else { done };
            vec![name.to_owned(), issue.status.key.to_owned()]
        }
        "summary" => one(&issue.summary),
        "text" => {
            let notes = issue.comments.iter().map(|note| note.body.clone());
            [issue.summary.clone(), issue.description.clone()].into_iter().chain(notes).collect()
        }
        "updated" | "updateddate" => one(&issue.updated),
        "voter" => issue.votes.iter().cloned().collect(),
        "watcher" => issue.watchers.iter().cloned().collect(),
        _ => return None,
    })
}

/// Numbers of keys count as numbers.
fn sort_key(issue: &Issue, field: &str) -> (String, u64) {
    if ["key", "issuekey", "id"].contains(&field.to_lowercase().as_str()) {
        let (project, number) = issue.key.rsplit_once('-').unwrap_or((&issue.key, "0"));
        return (project.to_owned(), number.parse().unwrap_or_default());
    }
    let value = values_of(issue, field).and_then(|values| values.into_iter().next());
    (value.unwrap_or_default(), issue.id)
}

fn tokens(text: &str) -> Result<Vec<Token>, JqlFault> {
    const MARKS: [&str; 11] = ["!=", "!~", ">=", "<=", "(", ")", ",", "=", "~", ">", "<"];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some(mark) = MARKS.into_iter().find(|mark| rest.starts_with(mark)) {
            tokens.push(Token::Mark(mark));
            rest = rest.get(mark.len()..).unwrap_or_default();
        } else if first == '"' || first == '\'' {
            let inner = rest.get(1..).unwrap_or_default();
            let end = inner.find(first).ok_or_else(|| JqlFault("A quote is not closed.".into()))?;
            let (quoted, behind) = inner.split_at(end);
            tokens.push(Token::Quoted(quoted.to_owned()));
            rest = behind.get(1..).unwrap_or_default();
        } else {
            let ends = |c: char| c.is_whitespace() || "!=~<>(),\"'".contains(c);
            let end = rest.find(ends).filter(|end| *end > 0).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            tokens.push(Token::Word(word.to_owned()));
            rest = behind;
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(written) if written.eq_ignore_ascii_case(word))
}

fn unexpected(token: Option<&Token>) -> JqlFault {
    let found = match token {
        None => "the end of the query".to_owned(),
        Some(Token::Mark(mark)) => format!("'{mark}'"),
        Some(Token::Quoted(text) | Token::Word(text)) => format!("'{text}'"),
    };
    JqlFault(format!("Error in the JQL Query: did not expect {found}."))
}

struct Reader {
    tokens: Peekable<std::vec::IntoIter<Token>>,
}

impl Reader {
    fn takes(&mut self, word: &str) -> bool {
        self.tokens.next_if(|token| is_word(token, word)).is_some()
    }

    fn mark(&mut self, mark: &'static str) -> bool {
        self.tokens.next_if(|token| *token == Token::Mark(mark)).is_some()
    }

    fn any(&mut self) -> Result<Expression, JqlFault> {
        let mut parts = vec![self.all()?];
        while self.takes("or") {
            parts.push(self.all()?);
        }
        Ok(Expression::Any(parts))
    }

    fn all(&mut self) -> Result<Expression, JqlFault> {
        let mut parts = vec![self.one()?];
        while self.takes("and") {
            parts.push(self.one()?);
        }
        Ok(Expression::All(parts))
    }

    fn one(&mut self) -> Result<Expression, JqlFault> {
        if self.takes("not") || self.mark("!") {
            return Ok(Expression::Not(Box::new(self.one()?)));
        }
        if self.mark("(") {
            let inner = self.any()?;
            return if self.mark(")") { Ok(inner) } else { Err(unexpected(self.tokens.peek())) };
        }
        let field = self.text()?;
        let (comparison, negated) = self.comparison()?;
        let wanted = match comparison {
            Comparison::Empty => {
                let word = self.text()?;
                let is_empty = ["empty", "null"].contains(&word.to_lowercase().as_str());
                if !is_empty {
                    return Err(unexpected(Some(&Token::Word(word))));
                }
                Vec::new()
            }
            _ if self.mark("(") => self.list()?,
            _ => vec![self.value()?],
        };
        clause(field, comparison, wanted, negated)
    }

    fn comparison(&mut self) -> Result<(Comparison, bool), JqlFault> {
        let token = self.tokens.next();
        Ok(match &token {
            Some(Token::Mark("=")) => (Comparison::In, false),
            Some(Token::Mark("!=")) => (Comparison::In, true),
            Some(Token::Mark("~")) => (Comparison::Contains, false),
            Some(Token::Mark("!~")) => (Comparison::Contains, true),
            Some(Token::Mark("<")) => (Comparison::Less, false),
            Some(Token::Mark(">=")) => (Comparison::Less, true),
            Some(Token::Mark(">")) => (Comparison::More, false),
            Some(Token::Mark("<=")) => (Comparison::More, true),
            Some(token) if is_word(token, "in") => (Comparison::In, false),
            Some(token) if is_word(token, "not") && self.takes("in") => (Comparison::In, true),
            Some(token) if is_word(token, "is") => (Comparison::Empty, self.takes("not")),
            other => return Err(unexpected(other.as_ref())),
        })
    }

    fn list(&mut self) -> Result<Vec<String>, JqlFault> {
        let mut values = vec![self.value()?];
        while self.mark(",") {
            values.push(self.value()?);
        }
        if self.mark(")") { Ok(values) } else { Err(unexpected(self.tokens.peek())) }
    }

    /// A text, or the one function that everybody uses.
    fn value(&mut self) -> Result<String, JqlFault> {
        let text = self.text()?;
        if self.mark("(") {
            while self.tokens.next_if(|token| *token != Token::Mark(")")).is_some() {}
            self.mark(")");
            return Ok(if text.eq_ignore_ascii_case("currentUser") { "ann".into() } else { text });
        }
        Ok(text)
    }

    fn text(&mut self) -> Result<String, JqlFault> {
        match self.tokens.next() {
            Some(Token::Quoted(text) | Token::Word(text)) => Ok(text),
            other => Err(unexpected(other.as_ref())),
        }
    }

    fn order(&mut self) -> Result<Vec<(String, Direction)>, JqlFault> {
        let mut order = Vec::new();
        if !self.takes("order") {
            return Ok(order);
        }
        if !self.takes("by") {
            return Err(unexpected(self.tokens.peek()));
        }
        loop {
            let field = self.text()?;
            let down = self.takes("desc");
            let direction = if down { Direction::Down } else { Direction::Up };
            if !down {
                self.takes("asc");
            }
            order.push((field, direction));
            if !self.mark(",") {
                return Ok(order);
            }
        }
    }
}

fn clause(
    field: String,
    comparison: Comparison,
    wanted: Vec<String>,
    negated: bool,
) -> Result<Expression, JqlFault> {
    if values_of(&Issue::new(0, "", PROJECTS[0], "", ""), &field).is_none() {
        let words = "does not exist or you do not have permission to view it.";
        return Err(JqlFault(format!("Field '{field}' {words}")));
    }
    // `= EMPTY` is another way to say `is EMPTY`.
    let empty = |word: &String| ["empty", "null"].contains(&word.to_lowercase().as_str());
    let comparison = if wanted.iter().any(empty) { Comparison::Empty } else { comparison };
    let clause = Expression::Clause(field, comparison, wanted);
    Ok(if negated { Expression::Not(Box::new(clause)) } else { clause })
}

#[cfg(test)]
mod tests {
    use super::Search;
    use crate::demo::jira::store::Store;

    fn found(jql: &str) -> Vec<String> {
        let store = Store::seeded();
        let search = Search::parse(jql).unwrap();
        search.find(store.issues.values()).into_iter().map(|issue| issue.key.clone()).collect()
    }

    #[test]
    fn searches_find_what_they_ask_for() {
        for (jql, keys) in [
            ("key = COMP-101", vec!["COMP-101"]),
            ("project = FARM", vec!["FARM-7"]),
            (
                "project=COMP and status = Open order by key desc",
                vec!["COMP-124", "COMP-123", "COMP-117"],
            ),
            ("summary ~ 'delete' or text ~ \"rotation\"", vec!["COMP-101", "COMP-123"]),
            ("project = COMP AND NOT (status in (Open, \"In Progress\"))", vec!["COMP-98"]),
            (
                "assignee is not EMPTY AND issuetype != Epic ORDER BY key",
                vec!["COMP-98", "COMP-101"],
            ),
            ("parent = COMP-123", vec!["COMP-124"]),
            ("reporter = currentUser() and project = FARM", vec!["FARM-7"]),
            ("created > 2030-01-01", vec![]),
        ] {
            assert_eq!(found(jql), keys, "{jql}");
        }
        assert_eq!(found("").len(), 7);
    }

    #[test]
    fn a_search_with_a_mistake_is_told_so() {
        for jql in [
            "nosuch = 1",
            "project =",
            "project = COMP AND",
            "(project = COMP",
            "project COMP",
            "'a",
        ] {
            assert!(Search::parse(jql).is_err(), "{jql}");
        }
    }
}
