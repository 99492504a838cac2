//! Where PostgreSQL would say that the syntax error is.
//!
//! A client learns the place of a syntax error from the server's field `P`, in characters from 1,
//! and shows it under the statement. The binding to `libpg_query` hands out the message only, so the
//! place is found again by the nature of the parser: it reads from left to right and stops at the
//! first token that fits nothing, so every text that ends at that token or behind it fails alike,
//! and every text that ends before it fails otherwise or not at all. That makes it a binary search
//! over the tokens which read like the one in the message.

use crate::policy::sql::lexer::{Lexer, Token, TokenKind};

/// Bytes that may be parsed in search of one place. Enough for some sixty tries in a text of 64 KiB,
/// which no binary search needs; the place in a megabyte is not worth twenty parses of it.
const MAX_PARSED_BYTES: usize = 4 << 20;

/// The position, in characters from 1, that belongs to PostgreSQL's error `message` on `text`.
///
/// `parse` gives the error message for a text, or `None` if it parses. The answer is `None` if the
/// message names no place or the search would cost too much.
#[must_use]
pub fn error_position(
    text: &str,
    message: &str,
    parse: impl Fn(&str) -> Option<String>,
) -> Option<usize> {
    if message.ends_with(" at end of input") {
        return Some(character_number(text, text.len()));
    }
    let quoted = message.split_once(" at or near \"")?.1.strip_suffix('"')?;
    // The scanner quotes what it could not end up to the end of the text.
    if message.starts_with("unterminated ") && text.ends_with(quoted) {
        return Some(character_number(text, text.len() - quoted.len()));
    }
    let place = first_failing(text, quoted, |prefix| parse(prefix).as_deref() == Some(message))?;
    Some(character_number(text, place))
}

/// The first token that reads `quoted` and at whose end a text already `fails` alike.
fn first_failing(text: &str, quoted: &str, fails: impl Fn(&str) -> bool) -> Option<usize> {
    let candidates = candidates(text, quoted);
    let mut budget = MAX_PARSED_BYTES;
    let (mut low, mut high, mut found) = (0, candidates.len(), None);
    while low < high {
        let middle = low.midpoint(high);
        let candidate = candidates.get(middle)?;
        let prefix = text.get(..candidate.start + quoted.len())?;
        let longer = text.get(..candidate.next_end)?;
        budget = budget.checked_sub(prefix.len() + longer.len())?;
        if fails(prefix) && fails(longer) {
            found = Some(candidate.start);
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    found
}

/// A token that the message may mean.
struct Candidate {
    start: usize,
    /// The end of the token behind it: the parser reads ahead of `WITH`, `NOT` and a few others, and
    /// takes `timestamp with` for an error only if no `time` follows.
    next_end: usize,
}

fn candidates(text: &str, quoted: &str) -> Vec<Candidate> {
    let tokens = || Lexer::new(text.as_bytes()).filter(|token| is_seen_by_parser(*token));
    let next_ends = tokens().skip(1).map(|token| token.end).chain([text.len()]);
    tokens()
        .zip(next_ends)
        .filter(|(token, _)| reads(text, *token, quoted))
        .map(|(token, next_end)| Candidate { start: token.start, next_end })
        .collect()
}

/// Numbers may end elsewhere than ours: PostgreSQL quotes `4e-` or `1a` as junk, and cuts `1a.b`
/// before the dot.
fn reads(text: &str, token: Token, quoted: &str) -> bool {
    let exactly = text.get(token.start..token.end) == Some(quoted);
    let begins = || text.get(token.start..).is_some_and(|rest| rest.starts_with(quoted));
    exactly || (token.kind == TokenKind::Number && quoted.len() > 1 && begins())
}

const fn is_seen_by_parser(token: Token) -> bool {
    !matches!(token.kind, TokenKind::Comment(_) | TokenKind::Whitespace)
}

fn character_number(text: &str, byte: usize) -> usize {
    text.get(..byte).unwrap_or(text).chars().count() + 1
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::error_position;

    fn message(text: &str) -> Option<String> {
        let error = pg_raw_parse::parse(text).err()?.to_string();
        Some(error.strip_prefix("Invalid statement: ").unwrap_or(&error).to_owned())
    }

    fn position(text: &str) -> Option<usize> {
        error_position(text, &message(text)?, message)
    }

    /// Each position was read off the field `P` of a PostgreSQL 15 server.
    #[test]
    fn positions_are_those_of_a_server() {
        for (text, expected) in [
            ("selec 1", 1),
            ("select 1 1", 10),
            ("select 1 from from t", 15),
            ("select 1; select 1 from from t", 25),
            ("select 'é' from (", 18),
            ("select (1 -- c", 15),
            ("select ( /* c */ ", 18),
            ("select 'a'' from t", 8),
            ("select 'ü', \"a", 13),
            ("select 1 /* a /* b */", 10),
            ("select $a$ x $b$", 8),
            ("select a::b :c", 13),
            ("select 1a", 8),
            ("select 'a' 'b'", 12),
            ("select 1, 1a.b", 11),
            ("select 1e5, 1e-", 13),
            ("select sum(/ 1) /* / */", 12),
            ("select timestamp with time zone 'a', timestamp with 'b'", 48),
        ] {
            assert_eq!(position(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_message_without_a_place_has_no_position() {
        assert_eq!(position("(select 1 limit 1) limit 2"), None);
    }

    #[test]
    fn the_place_is_found_in_few_tries() {
        let text = format!("select {} a a a", "a, ".repeat(5_000));
        let tries = Cell::new(0);
        let counted = |prefix: &str| {
            tries.set(tries.get() + 1);
            message(prefix)
        };

        let found = error_position(&text, "syntax error at or near \"a\"", counted);

        assert_eq!(found, Some("select ".len() + 15_000 + " a a ".len() + 1));
        assert!(tries.get() < 30);
    }

    #[test]
    fn the_search_gives_up_rather_than_parse_a_megabyte_again_and_again() {
        let text = format!("select {} a a", "a, ".repeat(330_000));
        let parsed = Cell::new(0);

        let found = error_position(&text, "syntax error at or near \"a\"", |prefix| {
            parsed.set(parsed.get() + prefix.len());
            None
        });

        assert_eq!(found, None);
        assert!(parsed.get() <= super::MAX_PARSED_BYTES);
    }
}
