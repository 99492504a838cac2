//! A statement as the audit log may keep it: without the data in it.
//!
//! libpg_query's own `normalize` leaves comments, the values of `SET`, `EXECUTE`, `COPY … TO` and
//! most utility statements, and integers in `ORDER BY` and types. Any of them may hold a secret, so
//! every literal is masked here by its shape alone, wherever it stands, and comments are dropped.
//! What is left are keywords, names and operators.

use std::fmt::Write;

use crate::policy::sql::lexer::{Lexer, Token, TokenKind};

use sha2::{Digest, Sha256};

/// `text` with `$n` in place of every literal, numbered on from its own parameters, without comments
/// and on one line.
///
/// `None` if PostgreSQL's grammar does not accept the text: then nobody can say what in it is a
/// name and what is a secret that has lost its quotes.
#[must_use]
pub fn normalized(text: &str) -> Option<String> {
    pg_raw_parse::parse(text).ok()?;
    mask(text)
}

/// The first 16 hex digits of the text's SHA-256.
#[must_use]
pub fn fingerprint(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    hash.iter().take(8).fold(String::with_capacity(16), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// `None` for a text that ends inside a token.
fn mask(text: &str) -> Option<String> {
    let mut next = highest_parameter(text).saturating_add(1);
    let mut masked = String::with_capacity(text.len());
    let mut gap = false;
    for token in Lexer::new(text.as_bytes()) {
        match token.kind {
            TokenKind::Comment(_) | TokenKind::Whitespace => {
                gap = !masked.is_empty();
                continue;
            }
            TokenKind::Unterminated(_) => return None,
            _ if std::mem::take(&mut gap) => masked.push(' '),
            _ => {}
        }
        if matches!(token.kind, TokenKind::Number | TokenKind::String) {
            write!(masked, "${next}").ok()?;
            next = next.saturating_add(1);
        } else {
            masked.push_str(written(text, token)?);
        }
    }
    Some(masked)
}

fn highest_parameter(text: &str) -> u32 {
    Lexer::new(text.as_bytes())
        .filter(|token| token.kind == TokenKind::Parameter)
        .filter_map(|token| written(text, token)?.get(1..)?.parse().ok())
        .max()
        .unwrap_or(0)
}

fn written(text: &str, token: Token) -> Option<&str> {
    text.get(token.start..token.end)
}
