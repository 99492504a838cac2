//! SQL text as PostgreSQL's own scanner cuts it, in one pass and without recursion.
//!
//! The rules are those of `scan.l` with `standard_conforming_strings = on`, which the gate pins: the
//! corners where other lexers go astray (an `E''` string that goes on in the next line keeps its
//! backslashes, `a$$` is an identifier, a carriage return ends a `--` comment) are where attacks
//! hide. Two modules look at text before or without a parser and must agree on what a literal is:
//! [`prescan`](crate::policy::sql::prescan) and [`digest`](crate::policy::sql::digest).
//!
//! Nothing here judges. Text that ends inside a token yields [`TokenKind::Unterminated`]; the parser
//! finds the words for it.

/// One token, as a range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// `-- …` or `/* … */`, with how deeply the latter nests.
    Comment(usize),
    /// A keyword or an identifier without quotes.
    Identifier,
    /// `42`, `.5`, `1e10`, `0x1F`.
    Number,
    /// `+`, `<->`, `::`.
    Operator,
    /// `$1`.
    Parameter,
    /// One byte that stands for itself: `(`, `,`, `;`.
    Punctuation(u8),
    /// `"name"`, `U&"name"`.
    QuotedIdentifier,
    /// A string of any kind, with the lines it goes on in: `'…'`, `E'…'`, `B'…'`, `$tag$…$tag$`.
    String,
    /// A string, identifier or comment whose end is missing; reaches to the end of the text. Carries
    /// how deeply a comment nests, 0 for the others.
    Unterminated(usize),
    /// White space.
    Whitespace,
}

/// Cuts a text into tokens that cover it without a gap.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    operator_run_end: usize,
    rescanned: usize,
}

/// How a quoted thing treats what is between its quotes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Backslash,
    Doubled,
}

impl<'a> Lexer<'a> {
    /// At the start of `text`.
    #[must_use]
    pub const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, operator_run_end: 0, rescanned: 0 }
    }

    /// Bytes that PostgreSQL's scanner has looked at and put back so far.
    ///
    /// At an operator or a `/*` it reads the whole run of operator characters before it keeps the
    /// first two, so `/*/*/*…` costs it the square of the length, without a check for interrupts.
    #[must_use]
    pub const fn rescanned(&self) -> usize {
        self.rescanned
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    fn end_of(&self, at: usize, belongs: impl Fn(u8) -> bool) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        at + rest.iter().take_while(|byte| belongs(**byte)).count()
    }

    fn first(&self, at: usize, wanted: impl Fn(u8) -> bool) -> Option<usize> {
        let rest = self.text.get(at..)?;
        rest.iter().position(|byte| wanted(*byte)).map(|offset| at + offset)
    }

    fn starts_with(&self, at: usize, prefix: &[u8]) -> bool {
        self.text.get(at..).is_some_and(|rest| rest.starts_with(prefix))
    }

    /// The token at the current place: its kind and end.
    fn scan(&mut self, first: u8) -> (TokenKind, usize) {
        let (start, next) = (self.at, self.byte(self.at + 1));
        match (first, next) {
            _ if is_space(first) => (TokenKind::Whitespace, self.end_of(start, is_space)),
            (b'-', Some(b'-')) => (TokenKind::Comment(0), self.line_comment(start)),
            (b'/', Some(b'*')) => self.block_comment(start),
            (b'\'', _) => self.string(start + 1, Escapes::Doubled),
            (b'e' | b'E', Some(b'\'')) => self.string(start + 2, Escapes::Backslash),
            (b'b' | b'B' | b'n' | b'N' | b'x' | b'X', Some(b'\'')) => {
                self.string(start + 2, Escapes::Doubled)
            }
            (b'u' | b'U', Some(b'&')) if self.byte(start + 2) == Some(b'\'') => {
                self.string(start + 3, Escapes::Doubled)
            }
            (b'u' | b'U', Some(b'&')) if self.byte(start + 2) == Some(b'"') => {
                self.quoted_identifier(start + 3)
            }
            (b'"', _) => self.quoted_identifier(start + 1),
            (b'$', _) => self.dollar(start),
            (b'.', Some(b'0'..=b'9')) | (b'0'..=b'9', _) => (TokenKind::Number, self.number(start)),
            _ if is_identifier_start(first) => {
                (TokenKind::Identifier, self.end_of(start, is_identifier_part))
            }
            _ if is_operator(first) => (TokenKind::Operator, self.operator(start)),
            (b':', Some(b':' | b'=')) | (b'.', Some(b'.')) => (TokenKind::Operator, start + 2),
            _ => (TokenKind::Punctuation(first), start + 1),
        }
    }

    fn line_comment(&self, start: usize) -> usize {
        self.first(start, is_newline).unwrap_or(self.text.len())
    }

    fn block_comment(&mut self, start: usize) -> (TokenKind, usize) {
        let (mut at, mut depth, mut deepest) = (start, 0_usize, 0_usize);
        loop {
            match (self.byte(at), self.byte(at + 1)) {
                (Some(b'/'), Some(b'*')) => {
                    self.count_rescan(at, 2);
                    depth += 1;
                    deepest = deepest.max(depth);
                    at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        return (TokenKind::Comment(deepest), at);
                    }
                }
                (Some(_), _) => at += 1,
                (None, _) => return (TokenKind::Unterminated(deepest), self.text.len()),
            }
        }
    }

    /// From behind the opening quote to behind the closing one of the last continued piece.
    fn string(&self, start: usize, escapes: Escapes) -> (TokenKind, usize) {
        let mut at = start;
        while let Some(quote) = self.closing_quote(at, b'\'', escapes) {
            match self.continuation(quote + 1) {
                Some(inside) => at = inside,
                None => return (TokenKind::String, quote + 1),
            }
        }
        (TokenKind::Unterminated(0), self.text.len())
    }

    fn quoted_identifier(&self, start: usize) -> (TokenKind, usize) {
        self.closing_quote(start, b'"', Escapes::Doubled)
            .map_or((TokenKind::Unterminated(0), self.text.len()), |quote| {
                (TokenKind::QuotedIdentifier, quote + 1)
            })
    }

    fn closing_quote(&self, start: usize, quote: u8, escapes: Escapes) -> Option<usize> {
        let mut at = start;
        loop {
            at = self.first(at, |byte| {
                byte == quote || (byte == b'\\' && escapes == Escapes::Backslash)
            })?;
            let goes_on = self.byte(at) == Some(b'\\') || self.byte(at + 1) == Some(quote);
            if !goes_on {
                return Some(at);
            }
            at += 2;
        }
    }

    /// Where the string goes on, if a quote follows behind white space with a newline in it
    /// (`quotecontinue` of `scan.l`; comments to the end of the line count as white space).
    fn continuation(&self, start: usize) -> Option<usize> {
        let (mut at, mut newline_seen) = (start, false);
        loop {
            match self.byte(at)? {
                b'\'' => return newline_seen.then_some(at + 1),
                byte if is_newline(byte) => {
                    newline_seen = true;
                    at += 1;
                }
                byte if is_space(byte) => at += 1,
                b'-' if self.starts_with(at, b"--") => at = self.line_comment(at),
                _ => return None,
            }
        }
    }

    fn dollar(&self, start: usize) -> (TokenKind, usize) {
        if self.byte(start + 1).is_some_and(|byte| byte.is_ascii_digit()) {
            let end = self.end_of(start + 1, |byte| byte.is_ascii_digit());
            return (TokenKind::Parameter, end);
        }
        let Some(tag) = self.dollar_tag(start) else {
            return (TokenKind::Punctuation(b'$'), start + 1);
        };
        // A tag holds no `$`, so comparing at every `$` reads each byte at most twice.
        let mut at = start + tag.len();
        while let Some(dollar) = self.first(at, |byte| byte == b'$') {
            if self.starts_with(dollar, tag) {
                return (TokenKind::String, dollar + tag.len());
            }
            at = dollar + 1;
        }
        (TokenKind::Unterminated(0), self.text.len())
    }

    /// `$tag$` with both dollars.
    fn dollar_tag(&self, start: usize) -> Option<&'a [u8]> {
        let end = match self.byte(start + 1)? {
            first if is_identifier_start(first) => {
                self.end_of(start + 1, |byte| byte != b'$' && is_identifier_part(byte))
            }
            _ => start + 1,
        };
        (self.byte(end) == Some(b'$')).then(|| self.text.get(start..=end)).flatten()
    }

    /// A number with whatever letters stick to it, which PostgreSQL refuses as junk.
    fn number(&self, start: usize) -> usize {
        let digits = |at| self.end_of(at, |byte| byte != b'$' && is_identifier_part(byte));
        let mut at = digits(start);
        if self.byte(at) == Some(b'.') && self.byte(at + 1) != Some(b'.') {
            at = digits(at + 1);
        }
        let exponent = self.byte(at - 1).is_some_and(|last| matches!(last, b'e' | b'E'));
        let signed = matches!(self.byte(at), Some(b'+' | b'-'))
            && self.byte(at + 1).is_some_and(|digit| digit.is_ascii_digit());
        if exponent && signed { digits(at + 1) } else { at }
    }

    /// The longest run of operator characters, less a comment in it and less trailing signs, as the
    /// SQL standard wants `1*-2` read.
    fn operator(&mut self, start: usize) -> usize {
        let run_end = self.operator_run_end(start);
        let run = self.text.get(start..run_end).unwrap_or_default();
        let opens_comment = |pair: &[u8]| pair == b"/*" || pair == b"--";
        let mut length = run.windows(2).position(opens_comment).unwrap_or(run.len()).max(1);
        let body = run.get(..length).unwrap_or_default();
        if !body.iter().any(|byte| b"~!@#^&|`?%".contains(byte)) {
            let signs = body.iter().rev().take_while(|byte| b"+-".contains(byte)).count();
            length = (length - signs).max(1);
        }
        self.count_rescan(start, length);
        start + length
    }

    fn operator_run_end(&mut self, at: usize) -> usize {
        if self.operator_run_end <= at {
            self.operator_run_end = self.end_of(at, is_operator);
        }
        self.operator_run_end
    }

    fn count_rescan(&mut self, start: usize, kept: usize) {
        let read = self.operator_run_end(start) - start;
        self.rescanned = self.rescanned.saturating_add(read.saturating_sub(kept));
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let first = self.byte(self.at)?;
        let start = self.at;
        let (kind, end) = self.scan(first);
        self.at = end;
        Some(Token { kind, start, end })
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

const fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

const fn is_identifier_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

const fn is_identifier_part(byte: u8) -> bool {
    is_identifier_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn is_operator(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::{Lexer, TokenKind};

    use proptest::prelude::{any, proptest};

    /// The tokens that are no white space, as written.
    fn cut(text: &str) -> Vec<&str> {
        Lexer::new(text.as_bytes())
            .filter(|token| token.kind != TokenKind::Whitespace)
            .map(|token| &text[token.start..token.end])
            .collect()
    }

    fn last_kind(text: &str) -> TokenKind {
        Lexer::new(text.as_bytes()).last().unwrap().kind
    }

    #[test]
    fn a_continued_escape_string_keeps_its_backslashes() {
        for gap in ["\n", "\r", " \t\n ", " -- c\n", "\n-- c\n--d\r"] {
            let string = format!("E'a'{gap}'\\''");
            let text = format!("{string}; DELETE FROM t --'");
            assert_eq!(cut(&text), [string.as_str(), ";", "DELETE", "FROM", "t", "--'"]);
        }
    }

    #[test]
    fn a_string_goes_on_only_behind_a_newline() {
        assert_eq!(cut("'a'\n'b'"), ["'a'\n'b'"]);
        assert_eq!(cut("'a' 'b'"), ["'a'", "'b'"]);
        assert_eq!(cut("'a' -- c"), ["'a'", "-- c"]);
        assert_eq!(cut("'a'\n/**/'b'"), ["'a'", "/**/", "'b'"]);
        assert_eq!(cut("$$a$$\n'b'"), ["$$a$$", "'b'"]);
    }

    #[test]
    fn a_backslash_is_a_plain_byte_outside_of_escape_strings() {
        for string in [r"'\'", r"B'\'", r"x'\'", r"N'\'", r"U&'\'", r#"U&"\""#, r#""\""#] {
            assert_eq!(cut(&format!("{string};")), [string, ";"]);
        }
        assert_eq!(cut(r"e'\';';"), [r"e'\';'", ";"]);
        assert_eq!(cut(r"ae'\';"), ["ae", r"'\'", ";"]);
    }

    #[test]
    fn doubled_quotes_stay_inside() {
        assert_eq!(cut(r#"'a''b' "c""d""#), ["'a''b'", r#""c""d""#]);
    }

    #[test]
    fn dollar_quotes_end_at_their_own_tag_only() {
        assert_eq!(cut("$é$ $e$ $$ $é$;"), ["$é$ $e$ $$ $é$", ";"]);
        assert_eq!(cut("$$a$b$$;"), ["$$a$b$$", ";"]);
        assert_eq!(cut("$a$$a$;"), ["$a$$a$", ";"]);
        assert_eq!(cut("a$$ b$c$ $1 $1$ $"), ["a$$", "b$c$", "$1", "$1", "$", "$"]);
    }

    #[test]
    fn a_carriage_return_ends_a_line_comment() {
        assert_eq!(cut("-- a\rb-- c\nd"), ["-- a", "b", "-- c", "d"]);
    }

    #[test]
    fn block_comments_nest() {
        assert_eq!(cut("/* /*/ */ ' **/ */a"), ["/* /*/ */ ' **/", "*/", "a"]);
        assert_eq!(last_kind("/*/*/**/*/*/"), TokenKind::Comment(3));
        assert_eq!(last_kind("/*/*/**/*/"), TokenKind::Unterminated(3));
    }

    #[test]
    fn operators_stop_before_comments_and_give_back_signs() {
        assert_eq!(cut("1+--c"), ["1", "+", "--c"]);
        assert_eq!(cut("1*/*c*/2"), ["1", "*", "/*c*/", "2"]);
        assert_eq!(cut("1*-+2 @-1"), ["1", "*", "-", "+", "2", "@-", "1"]);
        assert_eq!(cut("a::b:=c..d<=e"), ["a", "::", "b", ":=", "c", "..", "d", "<=", "e"]);
    }

    #[test]
    fn numbers_keep_their_sign_in_the_exponent_only() {
        assert_eq!(cut("1.5e-3-.5+1..2"), ["1.5e-3", "-", ".5", "+", "1", "..", "2"]);
        assert_eq!(cut("1.2.3 0x1F 1_000"), ["1.2", ".3", "0x1F", "1_000"]);
    }

    #[test]
    fn what_does_not_end_reaches_to_the_end() {
        for text in ["'a", r"E'\'", r"E'\", r#""a"#, r#"U&"a"#, "$a$ $b$", "'a'\n'b"] {
            assert_eq!(last_kind(text), TokenKind::Unterminated(0), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_covered_without_a_gap(
            text in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut at = 0;
            for token in Lexer::new(&text) {
                assert_eq!(token.start, at);
                assert!(token.end > at);
                at = token.end;
            }
            assert_eq!(at, text.len());
        }

        #[test]
        fn nasty_text_is_cut_at_character_boundaries(
            text in r#"[eEuU&$'"/*\-\\ \na1.é;:+@]{0,40}"#,
        ) {
            let pieces = Lexer::new(text.as_bytes()).map(|token| &text[token.start..token.end]);
            assert_eq!(pieces.collect::<String>(), text);
        }
    }
}
