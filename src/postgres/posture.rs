//! What a fresh session can do: the one question that the gate itself asks the server, and what it
//! makes of the answer.
//!
//! Read-only mode is a floor, not a wall: a superuser or a member of the file and program roles can
//! write through functions that are legal in it. The statement rules stop those; the posture is the
//! second layer. Every name in the question is qualified, so that no `search_path` can redirect it.

use crate::postgres::handshake::message;
use crate::postgres::session::PINNED;

/// The pins in the order of [`PINNED`], then what else is read, one row in all.
const QUESTION: &str = "\
SELECT pg_catalog.current_setting('default_transaction_read_only'), \
pg_catalog.current_setting('standard_conforming_strings'), \
pg_catalog.current_setting('client_encoding'), \
pg_catalog.current_setting('search_path'), \
pg_catalog.current_setting('server_version_num'), \
pg_catalog.current_setting('is_superuser'), \
(SELECT r.rolreplication FROM pg_catalog.pg_roles AS r \
WHERE r.rolname OPERATOR(pg_catalog.=) current_user), \
(SELECT pg_catalog.string_agg(r.rolname::pg_catalog.text, ', ') FROM pg_catalog.pg_roles AS r \
WHERE r.rolname OPERATOR(pg_catalog.=) ANY ('{pg_execute_server_program,pg_read_server_files,\
pg_write_server_files,pg_signal_backend,pg_write_all_data,pg_checkpoint,pg_maintain,\
pg_create_subscription}'::pg_catalog.name[]) AND pg_catalog.pg_has_role(r.oid, 'MEMBER'))";

/// The question, as it goes to the server.
#[must_use]
pub fn question() -> Vec<u8> {
    message(b'Q', &[QUESTION.as_bytes(), b"\0"].concat())
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posture {
    /// The `search_path` in force.
    pub search_path: String,
    /// The server's version as a number, `150006`.
    pub server_version: String,
    /// What the role can do that no read needs; empty if nothing.
    pub powers: Vec<String>,
    pins: [String; PINNED.len()],
}

impl Posture {
    /// The server's major version; 0 if what it says is no number.
    #[must_use]
    pub fn server_major(&self) -> u32 {
        self.server_version.parse::<u32>().unwrap_or_default() / 10_000
    }

    /// Reads the body of the `DataRow`; `None` if it is not the answer to the question.
    #[must_use]
    pub fn read(row: &[u8]) -> Option<Self> {
        let mut values = read_row(row)?.into_iter();
        let mut next = || values.next();
        let pins = [next()??, next()??, next()??];
        let (search_path, server_version) = (next()??, next()??);
        let (superuser, replication, roles) = (next()??, next()??, next()?);
        let mut powers = Vec::new();
        if superuser != "off" {
            powers.push("superuser".to_owned());
        }
        if replication != "f" {
            powers.push("replication".to_owned());
        }
        // A superuser counts as a member of every role; that is one power, not eight.
        powers.extend(roles.filter(|_| superuser == "off"));
        values.next().is_none().then_some(Self { search_path, server_version, powers, pins })
    }

    /// The first pin that does not hold.
    #[must_use]
    pub fn broken_pin(&self) -> Option<&'static str> {
        let pairs = PINNED.iter().zip(&self.pins);
        pairs.into_iter().find(|((_, right), value)| right != value).map(|((pin, _), _)| *pin)
    }
}

/// The values of a row in text format; `None` unless the body is exactly a row of UTF-8.
pub(in crate::postgres) fn read_row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        if length == -1 {
            values.push(None);
            rest = behind;
            continue;
        }
        let (value, behind) = behind.split_at_checked(usize::try_from(length).ok()?)?;
        values.push(Some(std::str::from_utf8(value).ok()?.to_owned()));
        rest = behind;
    }
    rest.is_empty().then_some(values)
}

/// Whether `pg_catalog` is searched before any other schema: first by name, or not named at all.
/// Otherwise a user's `lower(text)` would stand in for the built-in one that was judged.
#[must_use]
pub fn searches_catalog_first(search_path: &str) -> bool {
    let named = split_identifiers(search_path).iter().position(|name| name == "pg_catalog");
    named.is_none_or(|place| place == 0)
}

/// Splits a list of identifiers as the server does: commas separate, case is folded outside double
/// quotes, a doubled quote stands for itself.
fn split_identifiers(list: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut quoted = false;
    for character in list.chars() {
        match (character, names.last_mut()) {
            ('"', Some(_)) => quoted = !quoted,
            (',', _) if !quoted => names.push(String::new()),
            (space, _) if !quoted && space.is_ascii_whitespace() => {}
            (other, Some(name)) if quoted => name.push(other),
            (other, Some(name)) => name.push(other.to_ascii_lowercase()),
            (_, None) => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::{Posture, searches_catalog_first};

    fn row(values: &[Option<&str>]) -> Vec<u8> {
        let mut body = u16::try_from(values.len()).expect("few").to_be_bytes().to_vec();
        for value in values {
            match value {
                None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
                Some(text) => {
                    let length = i32::try_from(text.len()).expect("short");
                    body.extend_from_slice(&length.to_be_bytes());
                    body.extend_from_slice(text.as_bytes());
                }
            }
        }
        body
    }

    fn answer(read_only: &str, superuser: &str, roles: Option<&str>) -> Vec<u8> {
        let [path, version] = ["\"$user\", public", "150006"].map(Some);
        let pins = [read_only, "on", "UTF8"].map(Some);
        row(&[pins[0], pins[1], pins[2], path, version, Some(superuser), Some("f"), roles])
    }

    #[test]
    fn a_plain_role_holds_no_powers() {
        let posture = Posture::read(&answer("on", "off", None)).expect("whole");
        assert!(posture.powers.is_empty());
        assert_eq!(posture.broken_pin(), None);
        assert_eq!(posture.server_version, "150006");
    }

    #[test]
    fn superusers_and_members_of_file_roles_stand_out() {
        let powers = |body: &[u8]| Posture::read(body).expect("whole").powers;
        assert_eq!(powers(&answer("on", "on", Some("pg_checkpoint"))), ["superuser"]);
        let files = "pg_read_server_files";
        assert_eq!(powers(&answer("on", "off", Some(files))), [files]);
    }

    #[test]
    fn a_pin_that_does_not_hold_is_named() {
        let posture = Posture::read(&answer("off", "off", None)).expect("whole");
        assert_eq!(posture.broken_pin(), Some("default_transaction_read_only"));
    }

    #[test]
    fn a_row_that_is_not_the_answer_is_not_taken_for_it() {
        let whole = answer("on", "off", None);
        for end in 0..whole.len() {
            assert_eq!(Posture::read(&whole[..end]), None);
        }
        assert_eq!(Posture::read(&[&whole[..], b"x"].concat()), None);
        assert_eq!(Posture::read(&row(&[Some("on"); 9])), None);
    }

    #[test]
    fn pg_catalog_must_be_searched_first() {
        for path in ["", "\"$user\", public", "pg_catalog, a", " PG_Catalog,a", "\"pg_catalog\""] {
            assert!(searches_catalog_first(path), "{path}");
        }
        for path in
            ["a, pg_catalog", "a,\"pg_catalog\"", "\"\", PG_CATALOG", "\"a,\"\"b\",pg_catalog"]
        {
            assert!(!searches_catalog_first(path), "{path}");
        }
    }
}
