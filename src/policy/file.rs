//! A policy file, as written and as meant.
//!
//! [`Policy::parse`] reads `readonly.toml`; the shipped one is built in ([`Policy::shipped`]). What a
//! policy can say is closed: it lists settings, functions and relations. No key opens a write.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::policy::document::{self, Mistakes, Placed, Section};
use crate::policy::limits::Limits;

/// The policy that is built in.
const SHIPPED: &str = include_str!("../../policy/readonly.toml");

/// Names of `pg_catalog` functions of which no overload is VOLATILE, reviewed.
const BUILTIN_FUNCTIONS: &str = include_str!("../../policy/builtin_functions.txt");

/// Classes of `functions.refuse` that an operator's policy may open. Functions of all others can never
/// be called a read: no key opens a write.
const MAY_BE_OPENED: [&str; 5] =
    ["large-objects", "server-files", "server-insides", "sleeps", "snapshots"];

/// Settings that the judge handles itself; a policy that lists them would promise what it cannot
/// keep.
const HANDLED_BY_THE_GATE: [&str; 8] = [
    "application_name",
    "client_encoding",
    "default_transaction_read_only",
    "role",
    "search_path",
    "session_authorization",
    "standard_conforming_strings",
    "transaction_read_only",
];

/// What happens when the second parser cannot read a statement that the first one calls a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondOpinion {
    /// The first one decides.
    Advisory,
    /// The statement is refused.
    Required,
}

/// What happens to a session whose role has dangerous powers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PosturePolicy {
    /// It is turned away at login.
    Refuse,
    /// It is served and noted.
    Warn,
}

/// Whether `SET TRANSACTION SNAPSHOT` passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshots {
    /// It does; parallel dumps need it.
    Allow,
    /// It does not.
    Refuse,
}

/// How a listed setting may be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SettingRule {
    /// To any value.
    Any,
    /// To any length of time but none.
    Bound(Vec<String>),
    /// To one of the first values, or to one of the second ones once the session is under way.
    Values(Vec<String>, Vec<String>),
}

/// What is known about a function of `pg_catalog`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltinFunction<'p> {
    /// It only reads.
    Reads,
    /// It does more; the word says what.
    Refused(&'p str),
    /// Nobody has looked at it, or `pg_catalog` has none of this name.
    Unknown,
}

/// The rules in force.
#[derive(Debug)]
pub struct Policy {
    id: String,
    name: String,
    /// What an unread second opinion means.
    pub second_opinion: SecondOpinion,
    /// What dangerous powers of the role mean.
    pub posture: PosturePolicy,
    /// Whether `SET TRANSACTION SNAPSHOT` passes.
    pub snapshots: Snapshots,
    /// What one client may use.
    pub limits: Limits,
    settings: HashMap<String, SettingRule>,
    reads: HashSet<String>,
    refused: HashMap<String, String>,
    listed: HashMap<String, HashSet<String>>,
    extensions: HashMap<String, HashSet<String>>,
    never_columns: HashSet<String>,
    hidden_columns: HashMap<String, Vec<HiddenColumns>>,
    hidden_relations: Vec<(String, String)>,
    listed_relations: Vec<(String, String)>,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// All mistakes in it, with their places.
    pub fn parse(text: &str) -> Result<Self, Mistakes> {
        let floor = document::read(SHIPPED, read_floor)?;
        let mut policy = document::read(text, |root| read_policy(root, &floor))?;
        policy.id = identity(text);
        Ok(policy)
    }

    /// The policy that is built in.
    ///
    /// # Errors
    /// Never in a build whose tests have run: they read the same text.
    pub fn shipped() -> Result<Self, Mistakes> {
        Self::parse(SHIPPED)
    }

    /// `sha256:` and the hash of the policy's text and the built-in list, in hex. Equal texts have
    /// equal ids, so an auditor can prove which rules were in force.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name that the file gives itself.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The settings that a client may change, in some way.
    pub fn listed_settings(&self) -> impl Iterator<Item = &str> {
        self.settings.keys().map(String::as_str)
    }

    pub(super) fn setting(&self, name: &str) -> Option<&SettingRule> {
        self.settings.get(name)
    }

    /// What is known about a function of `pg_catalog`, by its name as PostgreSQL folds it.
    #[must_use]
    pub fn builtin_function(&self, name: &str) -> BuiltinFunction<'_> {
        if let Some(class) = self.refused.get(name) {
            BuiltinFunction::Refused(class)
        } else if self.reads.contains(name) {
            BuiltinFunction::Reads
        } else {
            BuiltinFunction::Unknown
        }
    }

    /// Whether the policy lists this function outside `pg_catalog`, for texts that are judged without
    /// the database: without a schema any schema that lists the name will do, and extensions may be in
    /// any.
    pub(super) fn lists_function(&self, schema: Option<&str>, name: &str) -> bool {
        let of_extension = || self.extensions.values().any(|names| holds(names, name));
        let listed = match schema {
            Some(schema) => self.listed.get(schema).is_some_and(|names| names.contains(name)),
            None => self.listed.values().any(|names| names.contains(name)),
        };
        listed || of_extension()
    }

    /// Whether the policy lists this function of this schema, by its name or with the types of its
    /// arguments: `name(integer, text)`.
    pub(super) fn lists_signature(&self, schema: &str, name: &str, arguments: &str) -> bool {
        self.listed.get(schema).is_some_and(|names| {
            names.contains(name) || names.contains(&format!("{name}({arguments})"))
        })
    }

    /// Whether people read with this extension: its operators and types are no user code.
    pub(super) fn lists_extension(&self, extension: &str) -> bool {
        self.extensions.contains_key(extension)
    }

    /// Whether a function of this extension only reads.
    pub(super) fn lists_extension_function(&self, extension: &str, name: &str) -> bool {
        self.extensions.get(extension).is_some_and(|names| holds(names, name))
    }

    /// Whether a view or foreign table passes whatever is behind it.
    pub(super) fn lists_relation(&self, schema: &str, name: &str) -> bool {
        self.listed_relations.iter().any(|known| known.0 == schema && known.1 == name)
    }

    /// Whether a client may give this setting any value.
    pub(super) fn any_value_passes(&self, setting: &str) -> bool {
        self.settings.get(setting) == Some(&SettingRule::Any)
    }

    /// Whether a name behind a dot is an extension's function rather than a column.
    pub(super) fn is_never_a_column(&self, name: &str) -> bool {
        self.never_columns.contains(name)
    }

    /// The columns that are not shown of a relation or row-returning function. Without a schema it may
    /// be that of any schema: the server finds it by the search path.
    pub(super) fn hidden_columns(&self, schema: Option<&str>, name: &str) -> Option<&[String]> {
        let listed = self.hidden_columns.get(name)?;
        let fits = |known: &&HiddenColumns| schema.is_none_or(|schema| schema == known.schema);
        listed.iter().find(fits).map(|known| known.columns.as_slice())
    }

    /// Whether a relation is not shown at all.
    pub(super) fn hides_relation(&self, schema: Option<&str>, name: &str) -> bool {
        let fits = |known: &(String, String)| {
            known.1 == name && schema.is_none_or(|schema| schema == known.0)
        };
        self.hidden_relations.iter().any(fits)
    }
}

/// Whether a name is among these, of which those with a star at the end stand for all that begin so.
fn holds(names: &HashSet<String>, name: &str) -> bool {
    let begins = |known: &String| {
        known.strip_suffix('*').is_some_and(|beginning| name.starts_with(beginning))
    };
    names.contains(name) || names.iter().any(begins)
}

/// What is not shown of the relation of this name in one schema.
#[derive(Debug)]
struct HiddenColumns {
    schema: String,
    columns: Vec<String>,
}

fn identity(text: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(text.as_bytes());
    hash.update(BUILTIN_FUNCTIONS.as_bytes());
    let mut id = "sha256:".to_owned();
    for byte in hash.finalize() {
        // Writing to a string does not fail.
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// Function names with the class under which the shipped policy refuses them.
type Floor = HashMap<String, String>;

fn read_policy(root: &mut Section<'_, '_>, floor: &Floor) -> Option<Policy> {
    let name = root.required("name", Section::string);
    let opinions = [("advisory", SecondOpinion::Advisory), ("required", SecondOpinion::Required)];
    let second_opinion = root.word("second_opinion", &opinions);
    let posture =
        root.word("posture", &[("warn", PosturePolicy::Warn), ("refuse", PosturePolicy::Refuse)]);
    let limits = root.section("limits", |limits| Some(Limits::read(limits)));
    let words = [("allow", Snapshots::Allow), ("refuse", Snapshots::Refuse)];
    let snapshots = root.section("transactions", |transactions| {
        transactions.word("snapshots", &words).map(|word| word.value)
    });
    let settings = root.required("settings", |root, key| {
        root.section(key, |settings| Some(read_settings(settings)))
    });
    let functions = root.required("functions", |root, key| {
        root.section(key, |functions| Some(read_functions(functions, floor)))
    });
    let hidden_columns =
        root.section("columns", |columns| Some(read_columns(columns))).unwrap_or_default();
    let (hidden_relations, listed_relations) = root
        .section("relations", |relations| {
            Some((read_relations(relations, "refuse"), read_relations(relations, "listed")))
        })
        .unwrap_or_default();
    let functions = functions?;
    Some(Policy {
        id: String::new(),
        name: name?.value,
        second_opinion: second_opinion.map_or(SecondOpinion::Advisory, |word| word.value),
        posture: posture.map_or(PosturePolicy::Warn, |word| word.value),
        snapshots: snapshots.unwrap_or(Snapshots::Refuse),
        limits: limits.unwrap_or_default(),
        settings: settings?,
        reads: functions.reads,
        refused: functions.refused,
        listed: functions.listed,
        extensions: functions.extensions,
        never_columns: functions.never_columns,
        hidden_columns,
        hidden_relations,
        listed_relations,
    })
}

fn read_settings(section: &mut Section<'_, '_>) -> HashMap<String, SettingRule> {
    let mut rules = HashMap::new();
    for name in section.strings("any").map(|names| names.value).unwrap_or_default() {
        add_setting(section, &mut rules, name, SettingRule::Any);
    }
    let bounds = section.strings("bounds").map(|names| names.value).unwrap_or_default();
    let values = section.section("values", |values| Some(read_values(values))).unwrap_or_default();
    let mut on_the_way =
        section.section("on_the_way", |values| Some(read_values(values))).unwrap_or_default();
    for name in bounds {
        let later = on_the_way.remove(&name.value).map(|placed| placed.value);
        add_setting(section, &mut rules, name, SettingRule::Bound(later.unwrap_or_default()));
    }
    for (name, always) in values {
        let later = on_the_way.remove(&name).map(|placed| placed.value);
        let rule = SettingRule::Values(always.value, later.unwrap_or_default());
        add_setting(section, &mut rules, Placed { value: name, place: always.place }, rule);
    }
    for (name, later) in on_the_way {
        let rule = SettingRule::Values(Vec::new(), later.value);
        add_setting(section, &mut rules, Placed { value: name, place: later.place }, rule);
    }
    rules
}

fn add_setting(
    section: &mut Section<'_, '_>,
    rules: &mut HashMap<String, SettingRule>,
    name: Placed<String>,
    rule: SettingRule,
) {
    let setting = name.value;
    if HANDLED_BY_THE_GATE.contains(&setting.as_str()) {
        section.mistake(
            name.place,
            format!("`{setting}` is handled by the gate and cannot be listed"),
        );
    } else if setting != setting.to_ascii_lowercase() {
        section.mistake(name.place, format!("`{setting}` must be written in lower case"));
    } else if rules.insert(setting.clone(), rule).is_some() {
        section.mistake(name.place, format!("`{setting}` is listed twice"));
    }
}

fn read_values(section: &mut Section<'_, '_>) -> HashMap<String, Placed<Vec<String>>> {
    let mut values = HashMap::new();
    for name in section.keys() {
        let Some(list) = section.strings(&name.value) else { continue };
        let list = list.map(|list| list.into_iter().map(|value| value.value).collect());
        values.insert(name.value, list);
    }
    values
}

struct Functions {
    reads: HashSet<String>,
    refused: HashMap<String, String>,
    listed: HashMap<String, HashSet<String>>,
    extensions: HashMap<String, HashSet<String>>,
    never_columns: HashSet<String>,
}

fn read_functions(section: &mut Section<'_, '_>, floor: &Floor) -> Functions {
    let mut reads: HashSet<String> = BUILTIN_FUNCTIONS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(ToOwned::to_owned)
        .collect();
    for name in section.strings("reads").map(|names| names.value).unwrap_or_default() {
        let class = floor.get(&name.value);
        match class.filter(|class| !MAY_BE_OPENED.contains(&class.as_str())) {
            Some(class) => {
                let words = format!("`{}` can never be listed as a read: {class}", name.value);
                section.mistake(name.place, words);
            }
            None => {
                reads.insert(name.value);
            }
        }
    }
    let refused = section.section("refuse", |classes| Some(read_refused(classes)));
    let listed = section.section("listed", |schemas| {
        let mut listed = HashMap::new();
        for schema in schemas.keys() {
            let names = schemas.strings(&schema.value).into_iter().flat_map(values_of).collect();
            if schema.value == "pg_catalog" {
                let words = "functions of pg_catalog belong into `functions.reads`";
                schemas.mistake(schema.place, words);
            }
            listed.insert(schema.value, names);
        }
        Some(listed)
    });
    let extensions = section.section("extensions", |extensions| {
        let mut listed = HashMap::new();
        for extension in extensions.keys() {
            let names = extensions.strings(&extension.value).into_iter().flat_map(values_of);
            listed.insert(extension.value, names.collect());
        }
        Some(listed)
    });
    let never_columns = section.section("notation", |notation| {
        Some(notation.strings("refuse").into_iter().flat_map(values_of).collect())
    });
    Functions {
        reads,
        refused: refused.unwrap_or_default(),
        listed: listed.unwrap_or_default(),
        extensions: extensions.unwrap_or_default(),
        never_columns: never_columns.unwrap_or_default(),
    }
}

fn read_refused(classes: &mut Section<'_, '_>) -> HashMap<String, String> {
    let mut refused = HashMap::new();
    for class in classes.keys() {
        let names = classes.strings(&class.value).into_iter().flat_map(values_of);
        refused.extend(names.map(|name| (name, class.value.clone())));
    }
    refused
}

/// What the shipped policy refuses, by function.
fn read_floor(root: &mut Section<'_, '_>) -> Option<HashMap<String, String>> {
    root.skip_all_but("functions");
    root.section("functions", |functions| {
        functions.skip_all_but("refuse");
        functions.section("refuse", |classes| Some(read_refused(classes)))
    })
}

fn values_of(list: Placed<Vec<Placed<String>>>) -> impl Iterator<Item = String> {
    list.value.into_iter().map(|name| name.value)
}

fn read_columns(section: &mut Section<'_, '_>) -> HashMap<String, Vec<HiddenColumns>> {
    let mut hidden: HashMap<String, Vec<HiddenColumns>> = HashMap::new();
    for relation in section.keys() {
        let columns = section.strings(&relation.value).into_iter().flat_map(values_of).collect();
        if let Some((schema, name)) = qualified_name(section, &relation) {
            hidden.entry(name).or_default().push(HiddenColumns { schema, columns });
        }
    }
    hidden
}

fn read_relations(section: &mut Section<'_, '_>, key: &str) -> Vec<(String, String)> {
    let names = section.strings(key).map(|names| names.value).unwrap_or_default();
    names.iter().filter_map(|name| qualified_name(section, name)).collect()
}

/// Schema and name.
fn qualified_name(
    section: &mut Section<'_, '_>,
    name: &Placed<String>,
) -> Option<(String, String)> {
    if let Some((schema, relation)) = name.value.split_once('.')
        && !relation.contains('.')
    {
        return Some((schema.to_owned(), relation.to_owned()));
    }
    let words = format!("`{}` must be written as schema.name", name.value);
    section.mistake(name.place.clone(), words);
    None
}

#[cfg(test)]
mod tests {
    use super::{BuiltinFunction, Policy};

    #[test]
    fn the_shipped_policy_has_no_mistake() {
        let policy = Policy::shipped().unwrap();

        assert_eq!(policy.builtin_function("lower"), BuiltinFunction::Reads);
        assert_eq!(policy.builtin_function("pg_sleep"), BuiltinFunction::Refused("sleeps"));
        assert_eq!(policy.builtin_function("lower_of_tomorrow"), BuiltinFunction::Unknown);
        assert!(policy.id().starts_with("sha256:"));
    }

    #[test]
    fn a_policy_cannot_list_what_the_gate_pins() {
        let text =
            "name = \"x\"\n[settings]\nany = [\"default_transaction_read_only\"]\n[functions]\n";

        let mistakes = Policy::parse(text).unwrap_err();
        let found: Vec<_> = mistakes.iter().map(|mistake| mistake.message.clone()).collect();
        assert_eq!(
            found,
            ["`default_transaction_read_only` is handled by the gate and cannot be listed"]
        );
    }
}
