//! The table of operations, as written (`policy/jira.toml`) and as meant.
//!
//! What the table can say is closed: an operation reads, reads what only an opened group shows, or
//! writes. What the built-in table calls a write can be called nothing else by any file.

use std::collections::BTreeSet;

use crate::policy::document::{self, Mistakes, Placed, Section};
use crate::policy::jira::operation::{Class, Group, Operation, ReplyRule};
use crate::policy::jira::query::Parameter;
use crate::policy::jira::router::{Method, Router};
use crate::policy::jira::template::Template;

/// The table that is built in.
const SHIPPED: &str = include_str!("../../../policy/jira.toml");

/// Who has an operation: JIRA Cloud's platform API 2 and 3, Data Center's API 2, JIRA Service
/// Management, JIRA Software (boards, sprints, what builds report), or pages beside the APIs.
const APIS: [&str; 5] = ["cloud", "data-center", "service-management", "software", "web"];

/// The rules in force for JIRA.
#[derive(Clone, Debug)]
pub struct JiraPolicy {
    texts: Vec<String>,
    groups: BTreeSet<Group>,
    operations: Vec<Operation>,
    router: Router<usize>,
}

/// An entry and where it stands.
type Entry = Placed<Operation>;

impl JiraPolicy {
    /// Reads a table that takes the place of the built-in one. All groups are closed.
    ///
    /// # Errors
    /// All mistakes in it, with their places; also every read of something that the built-in table
    /// knows as a write.
    pub fn parse(text: &str) -> Result<Self, Mistakes> {
        let floor = Self::shipped()?;
        Self::read(text, |root, entries| refuse_opened_writes(root, entries, &floor.operations))
    }

    /// The table that is built in.
    ///
    /// # Errors
    /// Never in a build whose tests have run: they read the same text.
    pub fn shipped() -> Result<Self, Mistakes> {
        Self::read(SHIPPED, |_, _| {})
    }

    fn read(
        text: &str,
        check: impl FnOnce(&mut Section<'_, '_>, &[Entry]),
    ) -> Result<Self, Mistakes> {
        let entries = document::read(text, |root| {
            let entries = read_table(root);
            refuse_conflicts(root, &entries);
            check(root, &entries);
            Some(entries)
        })?;
        Ok(Self::of(vec![text.to_owned()], entries.into_iter().map(|entry| entry.value).collect()))
    }

    /// Adds the operator's own operations, written like the table: those of an app, say.
    ///
    /// # Errors
    /// All mistakes in them. Whatever meets an operation that is known already is one: what is known
    /// stays as it is, a write above all.
    pub fn with_rules(self, text: &str) -> Result<Self, Mistakes> {
        let entries = document::read(text, |root| {
            let entries = read_table(root);
            refuse_conflicts(root, &entries);
            for entry in &entries {
                let met = self.operations.iter().find(|known| meets(&entry.value, known));
                if let Some(known) = met {
                    let words = format!("this would change what `{}` means", known.name);
                    root.mistake(entry.place.clone(), words);
                }
            }
            Some(entries)
        })?;
        let Self { mut texts, groups, mut operations, .. } = self;
        texts.push(text.to_owned());
        operations.extend(entries.into_iter().map(|entry| entry.value));
        Ok(Self { groups, ..Self::of(texts, operations) })
    }

    /// Opens groups of sensitive reads.
    #[must_use]
    pub fn open(mut self, groups: impl IntoIterator<Item = Group>) -> Self {
        self.groups.extend(groups);
        self
    }

    /// The texts that make the rules, for the policy's id.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(String::as_str)
    }

    /// Whether a group is open.
    pub(super) fn is_open(&self, group: Group) -> bool {
        self.groups.contains(&group)
    }

    /// The operation that a request asks for.
    pub(super) fn find(&self, method: Method, path: &[impl AsRef<str>]) -> Option<&Operation> {
        self.router.find(method, path).and_then(|index| self.operations.get(index))
    }

    fn of(texts: Vec<String>, operations: Vec<Operation>) -> Self {
        let mut router = Router::default();
        for (index, operation) in operations.iter().enumerate() {
            router.add(operation.method, &operation.template, index);
        }
        Self { texts, groups: BTreeSet::new(), operations, router }
    }
}

/// Whether some request could be either.
fn meets(one: &Operation, other: &Operation) -> bool {
    one.method == other.method && one.template.meets(&other.template)
}

fn is_same(one: &Operation, other: &Operation) -> bool {
    one.method == other.method && one.template == other.template
}

/// No read may meet a write of the same table, save one that takes whatever nobody else wants; and no
/// request may stand there twice.
fn refuse_conflicts(root: &mut Section<'_, '_>, entries: &[Entry]) {
    for (index, Placed { value: entry, place }) in entries.iter().enumerate() {
        let before = entries.iter().take(index);
        if let Some(same) = before.map(|other| &other.value).find(|other| is_same(entry, other)) {
            let words = format!("this request is that of `{}` already", same.name);
            root.mistake(place.clone(), words);
        }
        if entry.class == Class::Write {
            continue;
        }
        let mut writes = entries.iter().map(|other| &other.value);
        let met = writes.find(|other| {
            other.class == Class::Write && !other.template.is_open() && meets(entry, other)
        });
        if let Some(write) = met {
            let words = format!("a path of this read is one of the write `{}`", write.name);
            root.mistake(place.clone(), words);
        }
    }
}

/// Nothing that `known` calls a write may be called anything else.
fn refuse_opened_writes(root: &mut Section<'_, '_>, entries: &[Entry], known: &[Operation]) {
    let writes = || known.iter().filter(|known| known.class == Class::Write);
    for Placed { value: entry, place } in entries {
        let is_known_read =
            known.iter().any(|known| known.class != Class::Write && is_same(entry, known));
        if entry.class == Class::Write || is_known_read {
            continue;
        }
        if let Some(write) = writes().find(|write| meets(entry, write)) {
            let words = format!("`{}` is a write and no file can make a read of it", write.name);
            root.mistake(place.clone(), words);
        }
    }
}

fn read_table(root: &mut Section<'_, '_>) -> Vec<Entry> {
    let mut entries = root.sections("read", |entry| read_entry(entry, Class::Read));
    entries.extend(root.sections("write", |entry| read_entry(entry, Class::Write)));
    root.section("sensitive", |groups| {
        for group in Group::ALL {
            let class = Class::Sensitive(group);
            entries.extend(groups.sections(group.name(), |entry| read_entry(entry, class)));
        }
        Some(())
    });
    entries
}

fn read_entry(entry: &mut Section<'_, '_>, class: Class) -> Option<Entry> {
    let place = entry.place();
    let name = entry.required("name", Section::string);
    let request = entry.required("request", Section::string);
    let query = read_words(entry, "query", "a parameter that may pass", Parameter::parse);
    let has_body = entry.has("body");
    let members = read_words(entry, "body", "a member", |word| Some(word.to_owned()));
    let reply = entry.word("reply", &[("attachment", ReplyRule::Attachment)]);
    // For whoever reads the table; requests to all of them are judged alike.
    read_words(entry, "apis", "an API", |word| APIS.contains(&word).then_some(()));
    entry.string("note");
    let (method, template) = read_request(entry, &request?)?;
    let name = read_name(entry, name?)?;
    refuse_what_has_no_place(entry, &place, class, method, &template, has_body);
    let value = Operation {
        name,
        method,
        template,
        class,
        query,
        body: has_body.then_some(members),
        reply: reply.map_or(ReplyRule::Plain, |word| word.value),
    };
    Some(Placed { value, place })
}

fn read_name(entry: &mut Section<'_, '_>, name: Placed<String>) -> Option<String> {
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=64).contains(&name.value.len()) && name.value.bytes().all(is_name) {
        return Some(name.value);
    }
    let words = format!("`{}` is no name: write_it_like_this", name.value);
    entry.mistake(name.place, words);
    None
}

/// `GET /rest/api/{2|3|latest}/field`
fn read_request(
    entry: &mut Section<'_, '_>,
    request: &Placed<String>,
) -> Option<(Method, Template)> {
    let place = request.place.clone();
    let Some((method, path)) = request.value.split_once(' ') else {
        entry.mistake(place, "`request` must be a method, a space and a path");
        return None;
    };
    let Some(method) = Method::from_name(method) else {
        entry.mistake(place, format!("`{method}` is no method that operations have"));
        return None;
    };
    match Template::parse(path) {
        Ok(template) => Some((method, template)),
        Err(fault) => {
            entry.mistake(place, fault.to_string());
            None
        }
    }
}

/// Reads come by GET, or by POST with a body; a read that takes any path at all would be none.
fn refuse_what_has_no_place(
    entry: &mut Section<'_, '_>,
    place: &std::ops::Range<usize>,
    class: Class,
    method: Method,
    template: &Template,
    has_body: bool,
) {
    let message = match (class, method, has_body) {
        (Class::Write, ..) => return,
        (_, Method::Get, true) => "a GET takes no body",
        (_, Method::Post, false) => "a POST that reads must list the members of its `body`",
        (_, Method::Get | Method::Post, _) if template.is_open() => {
            "only a write may take all that is left of a path"
        }
        (_, Method::Get | Method::Post, _) => return,
        (_, Method::Delete | Method::Patch | Method::Put, _) => "a read is a GET or a POST",
    };
    entry.mistake(place.clone(), message);
}

/// A string of words, each of which must mean something. Absent, it is empty.
fn read_words<T>(
    entry: &mut Section<'_, '_>,
    key: &str,
    what: &str,
    meaning: impl Fn(&str) -> Option<T>,
) -> Vec<T> {
    let Some(written) = entry.string(key) else { return Vec::new() };
    let mut meant = Vec::new();
    for word in written.value.split_whitespace() {
        match meaning(word) {
            Some(value) => meant.push(value),
            None => entry.mistake(written.place.clone(), format!("`{word}` is not {what}")),
        }
    }
    meant
}

#[cfg(test)]
mod tests {
    use super::JiraPolicy;

    fn mistakes(text: &str) -> Vec<String> {
        let found = JiraPolicy::parse(text).unwrap_err();
        found.iter().map(|mistake| mistake.message.clone()).collect()
    }

    #[test]
    fn the_shipped_table_has_no_mistake() {
        JiraPolicy::shipped().unwrap();
    }

    #[test]
    fn every_mistake_in_a_table_is_found() {
        let text = "read = [\n\
            { name = \"Bad Name\", request = \"GET /a\" },\n\
            { name = \"a\", request = \"GET /a/{b:word}\" },\n\
            { name = \"a\", request = \"/a\" },\n\
            { name = \"a\", request = \"BREW /a\" },\n\
            { name = \"a\", request = \"PUT /a\" },\n\
            { name = \"a\", request = \"POST /a\" },\n\
            { name = \"a\", request = \"GET /a/{rest...}\" },\n\
            { name = \"a\", request = \"GET /a/b\", query = \"jql:what\", apis = \"cloud moon\" },\n\
            { name = \"a\", request = \"GET /a/b\", unknown = 1 },\n\
            ]\n";

        let found = mistakes(text);

        for part in [
            "`Bad Name` is no name",
            "`{b:word}` is no parameter",
            "`request` must be a method, a space and a path",
            "`BREW` is no method",
            "a read is a GET or a POST",
            "a POST that reads must list",
            "only a write may take all",
            "`jql:what` is not a parameter that may pass",
            "`moon` is not an API",
            "unknown key `unknown`",
            "this request is that of `a` already",
        ] {
            assert!(found.iter().any(|message| message.contains(part)), "{part}: {found:#?}");
        }
    }

    #[test]
    fn no_table_makes_a_read_of_a_known_write() {
        for request in
            ["GET /browse/{key}", "GET /plugins/servlet/mine", "GET /secure/Dashboard.jspa"]
        {
            let text = format!("read = [{{ name = \"mine\", request = \"{request}\" }}]");
            let found = mistakes(&text);
            assert!(found[0].contains("is a write"), "{request}: {found:?}");
        }
        let text =
            "read = [{ name = \"mine\", request = \"POST /rest/api/2/issue\", body = \"x\" }]";
        assert_eq!(mistakes(text), ["`create_issue` is a write and no file can make a read of it"]);
    }

    #[test]
    fn rules_of_the_operator_change_nothing_that_is_known() {
        let rules = |text: &str| JiraPolicy::shipped().unwrap().with_rules(text);

        let mine = "read = [{ name = \"mine\", request = \"GET /rest/mine/{1.0|latest}/things/{id:number}\" }]";
        assert!(rules(mine).is_ok());
        for request in ["GET /rest/api/2/issue/{key}", "GET /rest/{a}/{b}/{c}", "GET /browse/{key}"]
        {
            let text = format!("read = [{{ name = \"mine\", request = \"{request}\" }}]");
            let found = rules(&text).unwrap_err();
            assert!(found.to_string().contains("this would change what"), "{request}: {found}");
        }
    }
}
