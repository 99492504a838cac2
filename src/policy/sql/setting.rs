//! Which settings a client may change, and to what.
//!
//! The same rules hold for SET, RESET, `set_config()` and the start-up packet: a setting is the same
//! setting however it is spelled. Names are compared as the server does, without regard to ASCII
//! case. A value that is not known here (a parameter of a prepared statement) passes only where any
//! value would.

use crate::policy::file::{Policy, SettingRule};
use crate::policy::reason::Reason;
use crate::policy::sql::Habit;
use crate::policy::verdict::Denial;

const RULE: &str = "settings";

/// What a setting is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NewValue {
    /// What it was when the session began: `TO DEFAULT`, RESET, NULL in `set_config`.
    Default,
    /// These words, as a list for `search_path` and one otherwise.
    Words(Vec<String>),
    /// Only the server will know.
    Unknown,
}

/// A change of a setting that passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// As it is.
    Plain,
    /// Harmless, but an opening that no tool makes.
    Habit(Habit),
    /// With this text instead: another name of the same encoding. A habit too.
    Instead(&'static str, Habit),
}

/// Judges a change of one setting.
pub(super) fn judge_change(
    policy: &Policy,
    name: &str,
    value: &NewValue,
) -> Result<Change, Denial> {
    let setting = name.to_ascii_lowercase();
    match setting.as_str() {
        "application_name" => plain_if(is_printable(value), &setting),
        "client_encoding" => client_encoding(value),
        // A RESET of this one makes the transaction writable on 14 and 15, even after a query.
        "transaction_read_only" if *value == NewValue::Default => Err(escape(&setting)),
        "default_transaction_read_only" | "transaction_read_only" => read_only(&setting, value),
        "search_path" => plain_if(is_safe_path(value), &setting),
        "standard_conforming_strings" if *value == NewValue::Default => Ok(Change::Plain),
        "standard_conforming_strings" => plain_if(is_true(value), &setting),
        _ => listed(policy, &setting, value),
    }
}

/// Judges a setting in a start-up packet: what only passes on the way does not pass here.
///
/// # Errors
/// The refusal, naming the setting.
pub fn judge_startup_setting(policy: &Policy, name: &str, value: &str) -> Result<(), Denial> {
    let value = if name.eq_ignore_ascii_case("search_path") {
        split_path(value).map_or(NewValue::Unknown, NewValue::Words)
    } else {
        NewValue::Words(vec![value.to_owned()])
    };
    match judge_change(policy, name, &value)? {
        Change::Plain => Ok(()),
        Change::Habit(habit) | Change::Instead(_, habit) => Err(habit.as_opening),
    }
}

fn listed(policy: &Policy, setting: &str, value: &NewValue) -> Result<Change, Denial> {
    let Some(rule) = policy.setting(setting) else { return Err(refused(setting)) };
    let word = match (value, rule) {
        (NewValue::Default, _) | (_, SettingRule::Any) => return Ok(Change::Plain),
        (NewValue::Unknown, _) => return Err(refused(setting)),
        (NewValue::Words(words), _) => words.join(", ").to_ascii_lowercase(),
    };
    let (passes, later) = match rule {
        SettingRule::Any => (true, [].as_slice()),
        SettingRule::Bound(later) => (is_bound(&word), later.as_slice()),
        SettingRule::Values(always, later) => (always.contains(&word), later.as_slice()),
    };
    if passes {
        Ok(Change::Plain)
    } else if later.contains(&word) {
        Ok(Change::Habit(Habit { as_opening: refused(setting) }))
    } else {
        Err(refused(setting))
    }
}

fn plain_if(passes: bool, setting: &str) -> Result<Change, Denial> {
    if passes { Ok(Change::Plain) } else { Err(refused(setting)) }
}

fn refused(setting: &str) -> Denial {
    Denial::new(Reason::SqlSetting, format!("SET {}", shown(setting)), RULE)
}

fn escape(setting: &str) -> Denial {
    Denial::new(Reason::SqlTransactionEscape, format!("SET {}", shown(setting)), "transactions")
}

/// A name that a client chose, short and without control characters.
fn shown(setting: &str) -> String {
    setting.chars().filter(|character| !character.is_control()).take(63).collect()
}

/// Encodings whose trailing bytes can be a backslash or a quote make two readers see different
/// strings; UTF-8 cannot.
fn client_encoding(value: &NewValue) -> Result<Change, Denial> {
    match value {
        NewValue::Default => Ok(Change::Plain),
        NewValue::Words(words) => match words.as_slice() {
            [word] => match known_encoding(word) {
                Some(Encoding::Utf8) => Ok(Change::Plain),
                Some(Encoding::SqlAscii) => {
                    let habit = Habit { as_opening: refused("client_encoding") };
                    Ok(Change::Instead("SET client_encoding TO 'UTF8'", habit))
                }
                None => Err(refused("client_encoding")),
            },
            _ => Err(refused("client_encoding")),
        },
        NewValue::Unknown => Err(refused("client_encoding")),
    }
}

/// Encodings that are taken as UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// What clients without a locale say.
    SqlAscii,
    /// UTF-8.
    Utf8,
}

/// The encoding of this name by PostgreSQL's own rule (letters and digits count, case does not), if
/// it is one that is taken as UTF-8.
#[must_use]
pub fn known_encoding(name: &str) -> Option<Encoding> {
    let cleaned: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    match cleaned.to_ascii_lowercase().as_str() {
        "utf8" | "unicode" => Some(Encoding::Utf8),
        "sqlascii" => Some(Encoding::SqlAscii),
        _ => None,
    }
}

fn read_only(setting: &str, value: &NewValue) -> Result<Change, Denial> {
    match value {
        NewValue::Default => Ok(Change::Habit(Habit { as_opening: escape(setting) })),
        NewValue::Words(_) if is_true(value) => Ok(Change::Plain),
        NewValue::Words(_) | NewValue::Unknown => Err(escape(setting)),
    }
}

/// PostgreSQL's `parse_bool`: unambiguous beginnings of true, yes and on, and 1.
fn is_true(value: &NewValue) -> bool {
    let NewValue::Words(words) = value else { return false };
    let [word] = words.as_slice() else { return false };
    let word = word.to_ascii_lowercase();
    ["t", "tr", "tru", "true", "y", "ye", "yes", "on", "1"].contains(&word.as_str())
}

/// A length of time that is none of the many spellings of zero (`0ms`, `0x0`, `0.4us`).
fn is_bound(word: &str) -> bool {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = word.split_at(digits);
    !number.is_empty()
        && !number.starts_with('0')
        && ["", "ms", "s", "min", "h", "d"].contains(&unit.trim_start())
}

fn is_printable(value: &NewValue) -> bool {
    match value {
        NewValue::Default => true,
        NewValue::Words(words) => words.iter().all(|word| !word.chars().any(char::is_control)),
        NewValue::Unknown => false,
    }
}

/// `pg_catalog` is searched first, implicitly or explicitly, or `SELECT 1 = 1` may run user code. A
/// temporary schema may hold anybody's functions.
fn is_safe_path(value: &NewValue) -> bool {
    match value {
        NewValue::Default => true,
        NewValue::Unknown => false,
        NewValue::Words(words) => {
            let mut first = true;
            words.iter().all(|schema| {
                let safe = (schema != "pg_catalog" || first) && !schema.starts_with("pg_temp");
                first = false;
                safe
            })
        }
    }
}

/// The schemas that a change makes the session search, cut where the server cuts names.
pub(super) fn searched_by(name: &str, value: &NewValue) -> Vec<String> {
    match value {
        NewValue::Words(words) if name.eq_ignore_ascii_case("search_path") => {
            words.iter().map(|schema| clipped(schema).to_owned()).collect()
        }
        _ => Vec::new(),
    }
}

/// Names have at most 63 bytes (`NAMEDATALEN` less one); a character is not cut in two.
fn clipped(name: &str) -> &str {
    let end = (0..=63.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    end.and_then(|end| name.get(..end)).unwrap_or(name)
}

/// Splits the text of a `search_path` as the server does: commas, white space, quoted names.
/// `None` if it is not a list of names.
#[must_use]
pub fn split_path(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text.trim_matches(is_space);
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let (name, behind) = take_name(rest)?;
        names.push(name);
        rest = behind.trim_start_matches(is_space);
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start_matches(is_space),
            None if rest.is_empty() => return Some(names),
            None => return None,
        }
    }
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn take_name(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|character| character == ',' || is_space(character));
        let (name, behind) = text.split_at(end.unwrap_or(text.len()));
        return (!name.is_empty()).then(|| (name.to_ascii_lowercase(), behind));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (part, behind) = rest.split_once('"')?;
        name.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, NewValue, judge_change, split_path};
    use crate::policy::file::Policy;

    fn judge(name: &str, value: &str) -> Result<Change, String> {
        let policy = Policy::shipped().unwrap();
        let value = NewValue::Words(vec![value.to_owned()]);
        judge_change(&policy, name, &value).map_err(|denial| denial.operation)
    }

    #[test]
    fn every_spelling_of_zero_is_refused_as_a_bound() {
        for zero in ["0ms", "0x0", "00", "0.4", "-1", "", "1us", "0 s"] {
            assert!(judge("statement_timeout", zero).is_err(), "{zero}");
        }
        for bound in ["5000", "5s", "1 min"] {
            assert_eq!(judge("Statement_Timeout", bound), Ok(Change::Plain), "{bound}");
        }
    }

    #[test]
    fn only_true_can_be_said_of_read_only() {
        assert_eq!(judge("DEFAULT_transaction_read_only", "on"), Ok(Change::Plain));
        for word in ["off", "0", "false", "maybe", "o"] {
            assert!(judge("default_transaction_read_only", word).is_err(), "{word}");
        }
    }

    #[test]
    fn a_search_path_is_split_as_the_server_splits_it() {
        assert_eq!(split_path(""), Some(vec![]));
        let path = split_path(r#" "$user", Public ,"a""b" "#);
        assert_eq!(path, Some(vec!["$user".into(), "public".into(), "a\"b".into()]));
        assert_eq!(split_path("a b"), None);
        assert_eq!(split_path("a,"), None);
        assert_eq!(split_path("\"a"), None);
    }
}
