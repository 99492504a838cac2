//! What of a statement's text the log may keep (`[audit] sql`).
//!
//! A log that security people read must not become the place where secrets leak from. So the
//! default keeps the shape of a statement and none of its literals, and whatever is kept goes
//! through [`masked`]. That is a second line only: `full` logs literals, as its name says, and no
//! pattern finds every secret among them.

use std::borrow::Cow;

use crate::audit::event::{Decision, Query};

/// Most bytes of a text that are kept: 8 KiB, more than any person reads.
const MAX_TEXT_BYTES: usize = 8 * 1024;

/// How much of a statement is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SqlText {
    /// No text; the fingerprint alone tells statements apart. A text that cannot be normalised
    /// leaves the hash of the text itself.
    Fingerprint,
    /// The text as sent, literals and all; only passwords are masked, as far as they are found.
    Full,
    /// Literals become `$n`, comments go. A text that cannot be normalised leaves none.
    #[default]
    Normalized,
    /// As `Fingerprint`, and no hash of a text that could not be normalised either: whoever can
    /// guess the text could check the guess.
    Off,
}

/// What the line says of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redacted<'a> {
    /// The text, if any is kept.
    pub text: Option<Cow<'a, str>>,
    /// Whether an end is missing.
    pub truncated: bool,
    /// The hash, if any is kept.
    pub fingerprint: Option<&'a str>,
}

/// What is kept of `query`. A refused statement is evidence: it is kept normalised even where the
/// mode keeps no text.
#[must_use]
pub fn redact<'a>(mode: SqlText, decision: Decision, query: &Query<'a>) -> Redacted<'a> {
    let normalized = query.digest.normalized.as_deref();
    let evidence = decision == Decision::Deny;
    let kept = match mode {
        SqlText::Full => query.text,
        SqlText::Normalized => normalized,
        SqlText::Fingerprint | SqlText::Off => normalized.filter(|_| evidence),
    };
    let hashed = mode != SqlText::Off || normalized.is_some() || evidence;
    let fingerprint = Some(query.digest.fingerprint.as_str());
    // Cut first: a literal that loses its end is masked to the end.
    let cut = kept.map(|text| text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or(text));
    Redacted {
        text: cut.map(masked),
        truncated: kept.is_some_and(|text| text.len() > MAX_TEXT_BYTES),
        fingerprint: fingerprint.filter(|hash| hashed && !hash.is_empty()),
    }
}

/// The text with `'***'` for what looks like a password: a literal behind a name that ends in
/// `password`, and any literal or comment with a password or a connection URL inside.
fn masked(text: &str) -> Cow<'_, str> {
    if !mentions_password(text) && !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    let mut secret_next = false;
    while !rest.is_empty() {
        let (token, length) = token(rest);
        let (piece, behind) = rest.split_at_checked(length).unwrap_or((rest, ""));
        match token {
            Token::Comment if holds_secret(piece) => kept.push_str("/* *** */"),
            Token::Literal if secret_next || holds_secret(piece) => kept.push_str("'***'"),
            Token::Comment | Token::Literal | Token::Name | Token::Other | Token::Space => {
                kept.push_str(piece);
            }
        }
        match token {
            Token::Name => secret_next = names_secret(piece),
            Token::Other => secret_next = false,
            // PostgreSQL joins literals that only white space parts.
            Token::Comment | Token::Literal | Token::Space => {}
        }
        rest = behind;
    }
    Cow::Owned(kept)
}

fn mentions_password(text: &str) -> bool {
    let starts = |window: &[u8; 8]| window[0] | 0x20 == b'p';
    let mut windows = text.as_bytes().array_windows::<8>();
    windows.any(|window| starts(window) && window.eq_ignore_ascii_case(b"password"))
}

fn names_secret(name: &str) -> bool {
    let name = name.trim_matches('"').as_bytes();
    name.last_chunk::<8>().is_some_and(|end| end.eq_ignore_ascii_case(b"password"))
}

/// Connection strings (`password=…`), URLs (`postgres://user:…@host`), function bodies and JSON.
fn holds_secret(piece: &str) -> bool {
    let inside = piece.strip_prefix('\'').map_or(piece, |inside| inside.trim_end_matches('\''));
    let assigns = inside.contains(['=', '\'', '"', ':']);
    let signs_in = inside.split_once("://").is_some_and(|(_, behind)| behind.contains('@'));
    signs_in || (assigns && mentions_password(inside))
}

/// What masking needs to tell apart.
#[derive(Clone, Copy)]
enum Token {
    Comment,
    Literal,
    Name,
    Other,
    /// White space, and what may stand between a name and its value.
    Space,
}

/// The token at the start of a text that is not empty, and its length.
fn token(text: &str) -> (Token, usize) {
    let bytes = text.as_bytes();
    match bytes {
        [b'\'', ..] => (Token::Literal, quoted(bytes, 0, Escapes::Doubled)),
        [b'e' | b'E', b'\'', ..] => (Token::Literal, quoted(bytes, 1, Escapes::Backslash)),
        [b'b' | b'B' | b'n' | b'N' | b'x' | b'X', b'\'', ..] => {
            (Token::Literal, quoted(bytes, 1, Escapes::Doubled))
        }
        [b'u' | b'U', b'&', b'\'', ..] => (Token::Literal, quoted(bytes, 2, Escapes::Doubled)),
        [b'"', ..] => (Token::Name, quoted(bytes, 0, Escapes::Doubled)),
        [b'$', ..] => match dollar_quoted(text) {
            Some(length) => (Token::Literal, length),
            None => (Token::Other, 1),
        },
        [b'-', b'-', ..] => (Token::Comment, text.find('\n').unwrap_or(text.len())),
        [b'/', b'*', ..] => (Token::Comment, block_comment(bytes)),
        [b'=' | b'>' | b':' | b' ' | b'\t'..=b'\r', ..] => (Token::Space, 1),
        [b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.., ..] => {
            let end = bytes.iter().position(|&byte| !in_name(byte) && byte != b'$');
            (Token::Name, end.unwrap_or(bytes.len()))
        }
        _ => (Token::Other, 1),
    }
}

const fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// How a quoted token writes its own quote.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Backslash,
    Doubled,
}

/// Where the token ends whose opening quote stands at `open`; the end of the text if it is not
/// closed.
fn quoted(bytes: &[u8], open: usize, escapes: Escapes) -> usize {
    let Some((&quote, inside)) = bytes.get(open..).and_then(<[u8]>::split_first) else {
        return bytes.len();
    };
    let mut inside = inside.iter().enumerate().peekable();
    while let Some((at, &byte)) = inside.next() {
        if byte == b'\\' && escapes == Escapes::Backslash {
            inside.next();
        } else if byte == quote && inside.next_if(|(_, next)| **next == quote).is_none() {
            return open + 1 + at + 1;
        }
    }
    bytes.len()
}

/// The length of `$tag$…$tag$`, to the end of the text if it is not closed; `None` for a bare
/// dollar or a parameter.
fn dollar_quoted(text: &str) -> Option<usize> {
    let (tag, _) = text.get(1..)?.split_once('$')?;
    let is_tag = !tag.starts_with(|first: char| first.is_ascii_digit()) && tag.bytes().all(in_name);
    let open = tag.len() + 2;
    let fence = text.get(..open).filter(|_| is_tag)?;
    let inside = text.get(open..)?;
    Some(inside.find(fence).map_or(text.len(), |at| open + at + open))
}

/// The length of a comment with comments in it.
fn block_comment(bytes: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        at += match rest {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth = depth.saturating_sub(1);
                2
            }
            _ => 1,
        };
        if depth == 0 {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::{MAX_TEXT_BYTES, SqlText, masked, redact};
    use crate::audit::event::{Decision, Query, TxState};
    use crate::policy::sql::Digest;

    const RAW: &str = "select * from emp where name = 'Ann'";
    const NORMALIZED: &str = "select * from emp where name = $1";

    fn digest(normalized: Option<&str>) -> Digest {
        Digest {
            normalized: normalized.map(str::to_owned),
            fingerprint: "00ff".to_owned(),
            ..Digest::default()
        }
    }

    fn query<'a>(text: &'a str, digest: &'a Digest) -> Query<'a> {
        Query { message: 'Q', text: Some(text), bytes: text.len(), digest, tx: TxState::Idle }
    }

    fn text(mode: SqlText, decision: Decision, normalized: Option<&str>) -> Option<String> {
        let digest = digest(normalized);
        redact(mode, decision, &query(RAW, &digest)).text.map(std::borrow::Cow::into_owned)
    }

    #[test]
    fn each_mode_keeps_what_it_says_of_a_read() {
        let kept = |mode| text(mode, Decision::Allow, Some(NORMALIZED));

        assert_eq!(kept(SqlText::Normalized).as_deref(), Some(NORMALIZED));
        assert_eq!(kept(SqlText::Full).as_deref(), Some(RAW));
        assert_eq!(kept(SqlText::Fingerprint), None);
        assert_eq!(kept(SqlText::Off), None);
    }

    #[test]
    fn a_refused_statement_is_kept_normalised_where_no_text_is_kept() {
        for mode in [SqlText::Normalized, SqlText::Fingerprint, SqlText::Off] {
            let kept = text(mode, Decision::Deny, Some(NORMALIZED));

            assert_eq!(kept.as_deref(), Some(NORMALIZED), "{mode:?}");
        }
    }

    #[test]
    fn a_text_that_cannot_be_normalised_leaves_its_hash_but_no_literal() {
        let digest = digest(None);
        let query = query(RAW, &digest);

        let normalized = redact(SqlText::Normalized, Decision::Error, &query);
        assert_eq!((normalized.text, normalized.fingerprint), (None, Some("00ff")));
        assert_eq!(redact(SqlText::Off, Decision::Error, &query).fingerprint, None);
        assert_eq!(redact(SqlText::Off, Decision::Deny, &query).fingerprint, Some("00ff"));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let digest = digest(None);
        let long = "é".repeat(MAX_TEXT_BYTES);
        let odd = format!("x{long}");

        let kept = redact(SqlText::Full, Decision::Allow, &query(&odd, &digest));

        assert!(kept.truncated);
        assert_eq!(kept.text.map(|text| text.len()), Some(MAX_TEXT_BYTES - 1));
        assert!(!redact(SqlText::Full, Decision::Allow, &query(RAW, &digest)).truncated);
    }

    #[test]
    fn passwords_are_masked_however_they_are_quoted() {
        for (sql, kept) in [
            ("ALTER ROLE bob PASSWORD 'hunter2'", "ALTER ROLE bob PASSWORD '***'"),
            ("alter role bob password 'hun''ter2' x", "alter role bob password '***' x"),
            ("ALTER ROLE b PASSWORD E'hunter\\'2' y", "ALTER ROLE b PASSWORD '***' y"),
            ("PASSWORD U&'hunter2'", "PASSWORD '***'"),
            ("PASSWORD $t$hunter2$t$ z", "PASSWORD '***' z"),
            ("PASSWORD/* a /* b */ */'hunter2'", "PASSWORD/* a /* b */ */'***'"),
            ("PASSWORD 'hunter'\n'2'", "PASSWORD '***'\n'***'"),
            ("PASSWORD 'hunter2", "PASSWORD '***'"),
            (
                "OPTIONS (user 'bob', \"password\" 'hunter2')",
                "OPTIONS (user 'bob', \"password\" '***')",
            ),
            ("CONNECTION 'host=h password=hunter2'", "CONNECTION '***'"),
            ("dblink('postgres://bob:hunter2@h/d', 'select 1')", "dblink('***', 'select 1')"),
            ("DO $$ begin execute 'alter role b password ''hunter2'''; end $$", "DO '***'"),
            ("select 1 -- password: hunter2\n+ 1", "select 1 /* *** */\n+ 1"),
            ("where sslpassword => 'hunter2'", "where sslpassword => '***'"),
        ] {
            assert_eq!(masked(sql), kept);
        }
    }

    #[test]
    fn what_holds_no_password_is_not_touched() {
        for sql in [
            "select 'a', $1, $$b$$, \"c\" from d /* e */ where f = 'g'",
            "select column_name from c where column_name = 'password'",
            "alter role bob password $1",
            "select 'https://example.org/é'",
            "select password, 'x' from t",
        ] {
            assert_eq!(masked(sql), sql);
        }
    }

    proptest::proptest! {
        #[test]
        fn masking_takes_any_text(text in "\\PC*") {
            let text = format!("password {text}");
            masked(&text);
        }

        #[test]
        fn a_password_never_survives(
            before in "[a-z $/*-]{0,12}",
            secret in "[0-9]{6,12}",
            after in "[a-z '\"$/*-]{0,12}",
        ) {
            let text = format!("alter role b {before} password '{secret}'{after}");
            proptest::prop_assert!(!masked(&text).contains(&secret), "{text}");
        }
    }
}
