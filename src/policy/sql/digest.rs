//! A statement as the audit log may keep it: without the data in it.
//!
//! `libpg_query`'s own `normalize` leaves comments, the values of `SET`, `EXECUTE`, `COPY … TO` and
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

#[cfg(test)]
mod tests {
    use super::{fingerprint, normalized};

    fn normal(text: &str) -> String {
        normalized(text).unwrap()
    }

    #[test]
    fn literals_become_parameters_behind_the_texts_own() {
        assert_eq!(normal("select $2, 'a', 1.5 from t"), "select $2, $3, $4 from t");
        assert_eq!(normal("select 1 group by 1 order by 1"), "select $1 group by $2 order by $3");
        assert_eq!(normal("select '1'::varchar(20)"), "select $1::varchar($2)");
    }

    #[test]
    fn no_kind_of_literal_is_left() {
        for literal in [
            "'s3cret'",
            "'s3'\n'cret'",
            r"E's3\'cret'",
            "B'0101'",
            "X'5ec'",
            "N's3cret'",
            "$$s3cret$$",
            "$é$s3cret$é$",
            "U&'s3cret'",
            "0x5ec",
            "1_000",
            ".5",
            "1e-10",
        ] {
            assert_eq!(normal(&format!("select {literal}, a")), "select $1, a", "{literal}");
        }
    }

    #[test]
    fn utility_statements_lose_their_literals_too() {
        for (text, expected) in [
            ("CREATE ROLE x PASSWORD 's3cret'", "CREATE ROLE x PASSWORD $1"),
            ("SET x = 's3cret'", "SET x = $1"),
            ("EXECUTE p('s3cret')", "EXECUTE p($1)"),
            ("COPY t TO '/s3cret'", "COPY t TO $1"),
            ("DECLARE c CURSOR FOR SELECT 's3cret'", "DECLARE c CURSOR FOR SELECT $1"),
            ("EXPLAIN SELECT 's3cret'", "EXPLAIN SELECT $1"),
            ("NOTIFY c, 's3cret'", "NOTIFY c, $1"),
            ("DO $$ s3cret $$", "DO $1"),
        ] {
            assert_eq!(normal(text), expected);
        }
    }

    #[test]
    fn comments_are_dropped_and_lines_joined() {
        let text = "/* s3cret */ select a -- s3cret\n  /* /* s3cret */ */ from\n\tt -- s3cret";
        assert_eq!(normal(text), "select a from t");
    }

    #[test]
    fn names_are_kept_as_written() {
        let text = r#"select "It's", a$$, U&"\0061""#;
        assert_eq!(normal(text), text);
    }

    #[test]
    fn what_does_not_parse_is_not_kept() {
        assert_eq!(normalized("select s3cret from from"), None);
        assert_eq!(normalized("select 's3cret"), None);
    }

    #[test]
    fn a_fingerprint_is_the_head_of_the_hash() {
        assert_eq!(fingerprint("abc"), "ba7816bf8f01cfea");
    }
}
