//! Where PostgreSQL would say that the syntax error is.
//!
//! A client learns the place of a syntax error from the server's field `P`, in characters from 1,
//! and shows it under the statement. The binding to libpg_query hands out the message only, so the
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
    let candidates: Vec<usize> = Lexer::new(text.as_bytes())
        .filter(|token| reads(text, *token, quoted))
        .map(|token| token.start)
        .collect();
    let mut budget = MAX_PARSED_BYTES;
    let (mut low, mut high, mut found) = (0, candidates.len(), None);
    while low < high {
        let middle = low.midpoint(high);
        let start = *candidates.get(middle)?;
        let prefix = text.get(..start + quoted.len())?;
        budget = budget.checked_sub(prefix.len())?;
        if fails(prefix) {
            found = Some(start);
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    found
}

/// Whether the message may mean this token. What the scanner refuses, or reads ahead of, may end
/// elsewhere than our token; an identifier always ends alike.
fn reads(text: &str, token: Token, quoted: &str) -> bool {
    let starts_alike = text.get(token.start..).is_some_and(|rest| rest.starts_with(quoted));
    let ends_alike = token.end - token.start == quoted.len();
    starts_alike && (ends_alike || token.kind != TokenKind::Identifier)
}

fn character_number(text: &str, byte: usize) -> usize {
    text.get(..byte).unwrap_or(text).chars().count() + 1
}
