//! The linear look at SQL text before any parser sees it: what would exhaust a parser, or the server
//! behind the gate, is refused here.
//!
//! Parsers recurse, build trees that recurse when they are dropped, and try alternatives; the
//! server's own scanner reads some texts in quadratic time and cannot be interrupted while it does.
//! So size, nesting and length are bounded first, by a scan that itself needs no stack and no memory
//! and reads each byte a bounded number of times. It judges shape only, never meaning: a text that
//! ends inside a string passes, because the parser words that error as PostgreSQL does.

use crate::policy::sql::lexer::{Lexer, Token, TokenKind};

/// The bounds of [`prescan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Bytes of the whole text.
    pub bytes: usize,
    /// How deeply `/*` may nest.
    pub comment_depth: usize,
    /// How deeply `(` and `[`, counted together, and `CASE` may nest.
    pub nesting: usize,
    /// Bytes that the server's scanner may read in vain (see [`Lexer::rescanned`]).
    pub rescanned: usize,
    /// Tokens without a comma or semicolon between them on their own level, white space and comments
    /// apart. Bounds every chain (`a AND b AND …`, `1 + 1 + …`, `UNION`, `::`), which parsers hold as
    /// a tree as deep as the chain is long; `libpg_query` walks it without looking at its stack. Measured: 49,000 links
    /// overflow a stack of 16 MiB and fit one of 32 MiB; a server with its default
    /// `max_stack_depth` gives up at 5,000 `+` and between 10,000 and 30,000 `::`.
    pub run: usize,
    /// Tokens of the whole text, white space and comments apart.
    pub tokens: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            bytes: 1 << 20,
            comment_depth: 32,
            nesting: 500,
            rescanned: 1 << 20,
            run: 60_000,
            tokens: 400_000,
        }
    }
}

/// Why a text never reaches a parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanRefusal {
    /// Not UTF-8.
    Encoding,
    /// Holds a zero byte.
    Nul,
    /// Nests too deeply.
    TooDeep(Nested),
    /// Longer than the cap.
    TooLong,
    /// Holds too much of something.
    TooMany(Counted),
}

/// What nests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nested {
    /// `(` and `[`.
    Brackets,
    /// `CASE`.
    Cases,
    /// `/*`.
    Comments,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Operands and operators in one chain.
    ChainLinks,
    /// Operator characters in a row, or comments opened in a row.
    OperatorCharacters,
    /// Tokens.
    Tokens,
}

/// Bounds `text` and hands it on as UTF-8.
///
/// # Errors
///
/// Refuses what is not UTF-8, holds a zero byte or exceeds one of `caps`.
pub fn prescan(text: &[u8], caps: Caps) -> Result<&str, ScanRefusal> {
    if text.len() > caps.bytes {
        return Err(ScanRefusal::TooLong);
    }
    if text.contains(&0) {
        return Err(ScanRefusal::Nul);
    }
    let utf8 = str::from_utf8(text).map_err(|_| ScanRefusal::Encoding)?;

    let mut lexer = Lexer::new(text);
    let mut shape = Shape::default();
    while let Some(token) = lexer.next() {
        if token.kind == TokenKind::Identifier {
            shape.take_word(text.get(token.start..token.end).unwrap_or_default(), caps)?;
        }
        shape.take(token, caps)?;
        if lexer.rescanned() > caps.rescanned {
            return Err(ScanRefusal::TooMany(Counted::OperatorCharacters));
        }
    }
    Ok(utf8)
}

/// What has been counted so far.
#[derive(Default)]
struct Shape {
    tokens: usize,
    /// `CASE` without its `END`.
    cases: usize,
    level: Level,
    /// The levels around the present one, outermost first.
    around: Vec<Level>,
}

/// The tokens on one level of brackets. A run includes what its own brackets held, so that
/// `((… + 1) + 1) + 1` is as long as the tree that it makes is deep.
#[derive(Clone, Copy, Default)]
struct Level {
    run: usize,
    longest: usize,
}

impl Level {
    const fn end_run(self) -> Self {
        let longest = if self.run > self.longest { self.run } else { self.longest };
        Self { run: 0, longest }
    }
}

impl Shape {
    /// Parsers recurse into CASE as they do into brackets.
    fn take_word(&mut self, word: &[u8], caps: Caps) -> Result<(), ScanRefusal> {
        if word.eq_ignore_ascii_case(b"case") {
            self.cases += 1;
        } else if word.eq_ignore_ascii_case(b"end") {
            self.cases = self.cases.saturating_sub(1);
        }
        if self.cases > caps.nesting {
            return Err(ScanRefusal::TooDeep(Nested::Cases));
        }
        Ok(())
    }

    fn take(&mut self, token: Token, caps: Caps) -> Result<(), ScanRefusal> {
        match token.kind {
            TokenKind::Whitespace => return Ok(()),
            TokenKind::Comment(depth) => return within_comment_depth(depth, caps),
            TokenKind::Unterminated(depth) => within_comment_depth(depth, caps)?,
            TokenKind::Punctuation(b'(' | b'[') => self.open(caps)?,
            TokenKind::Punctuation(b')' | b']') => self.close(),
            TokenKind::Punctuation(b',' | b';') => self.level = self.level.end_run(),
            TokenKind::Identifier
            | TokenKind::Number
            | TokenKind::Operator
            | TokenKind::Parameter
            | TokenKind::Punctuation(_)
            | TokenKind::QuotedIdentifier
            | TokenKind::String => {}
        }
        self.count(caps)
    }

    fn open(&mut self, caps: Caps) -> Result<(), ScanRefusal> {
        self.around.push(std::mem::take(&mut self.level));
        if self.around.len() > caps.nesting {
            return Err(ScanRefusal::TooDeep(Nested::Brackets));
        }
        Ok(())
    }

    /// A bracket that closes nothing is the parser's to refuse.
    fn close(&mut self) {
        if let Some(outer) = self.around.pop() {
            let run = outer.run.saturating_add(self.level.end_run().longest);
            self.level = Level { run, ..outer };
        }
    }

    fn count(&mut self, caps: Caps) -> Result<(), ScanRefusal> {
        self.tokens += 1;
        self.level.run = self.level.run.saturating_add(1);
        if self.tokens > caps.tokens {
            return Err(ScanRefusal::TooMany(Counted::Tokens));
        }
        if self.level.run > caps.run {
            return Err(ScanRefusal::TooMany(Counted::ChainLinks));
        }
        Ok(())
    }
}

fn within_comment_depth(depth: usize, caps: Caps) -> Result<(), ScanRefusal> {
    if depth > caps.comment_depth {
        return Err(ScanRefusal::TooDeep(Nested::Comments));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Caps, Counted, Nested, ScanRefusal, prescan};
    use crate::policy::sql::second_reader::{FirstReading, second_opinion};

    use pg_raw_parse::walk::walk;
    use proptest::prelude::{any, proptest};

    fn scan(text: &str) -> Result<&str, ScanRefusal> {
        prescan(text.as_bytes(), Caps::default())
    }

    fn refused_for(text: &str) -> ScanRefusal {
        scan(text).unwrap_err()
    }

    #[test]
    fn plain_and_unfinished_texts_pass() {
        for text in ["", "select 1", "select 'a", "select )", "/* a", "select $a$", "]]))", "é€"]
        {
            assert_eq!(scan(text), Ok(text));
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let caps = Caps::default();
        assert_eq!(prescan(b"select '\xff'", caps), Err(ScanRefusal::Encoding));
        assert_eq!(prescan(b"select '\xc0\x80'", caps), Err(ScanRefusal::Encoding));
        assert_eq!(prescan(b"select 1\0; delete from t", caps), Err(ScanRefusal::Nul));
    }

    #[test]
    fn a_text_beyond_a_mebibyte_is_refused() {
        assert!(scan(&" ".repeat(1 << 20)).is_ok());
        assert_eq!(refused_for(&" ".repeat((1 << 20) + 1)), ScanRefusal::TooLong);
    }

    #[test]
    fn brackets_nest_to_their_cap() {
        let nested = |pairs: usize| format!("select {}1", "([".repeat(pairs));
        assert!(scan(&nested(250)).is_ok());
        assert_eq!(refused_for(&nested(251)), ScanRefusal::TooDeep(Nested::Brackets));
        assert!(scan(&"()".repeat(1_000)).is_ok());
    }

    #[test]
    fn brackets_in_strings_names_and_comments_do_not_nest() {
        let brackets = "(".repeat(1_000);
        for text in [format!("'{brackets}'"), format!("\"{brackets}\""), format!("--{brackets}")] {
            assert!(scan(&text).is_ok());
        }
    }

    #[test]
    fn comments_nest_to_their_cap_whether_they_end_or_not() {
        let nested = |depth| "/* ".repeat(depth) + &"*/".repeat(depth);
        assert!(scan(&nested(32)).is_ok());
        assert_eq!(refused_for(&nested(33)), ScanRefusal::TooDeep(Nested::Comments));
        assert_eq!(refused_for(&"/* ".repeat(33)), ScanRefusal::TooDeep(Nested::Comments));
    }

    #[test]
    fn what_the_server_would_read_in_quadratic_time_is_refused() {
        let too_many = ScanRefusal::TooMany(Counted::OperatorCharacters);
        assert_eq!(refused_for(&format!("select 1{}1", "+-".repeat(2_000))), too_many);
        assert_eq!(refused_for(&"/**/".repeat(2_000)), too_many);
        assert!(scan(&"/**/ ".repeat(2_000)).is_ok());
        assert!(scan(&format!("select 1{}1", "+ -".repeat(2_000))).is_ok());
    }

    #[test]
    fn chains_of_every_kind_are_bounded() {
        let too_many = Err(ScanRefusal::TooMany(Counted::ChainLinks));
        for link in [" AND a", "+1", "::a", " UNION SELECT 1", "[1]", " NOT", " - ", " IN (a)"] {
            let text = format!("SELECT a{}", link.repeat(62_000));
            assert_eq!(scan(&text).map(str::len), too_many, "{link}");
        }
    }

    #[test]
    fn a_chain_may_not_hide_in_brackets_or_before_a_comma() {
        let chain = "+1".repeat(12_000);
        let (mut nested, mut argument) = ("1".to_owned(), "1".to_owned());
        for _ in 0..3 {
            nested = format!("({nested}){chain}");
            argument = format!("f({argument}{chain}, 1)");
        }
        let too_many = ScanRefusal::TooMany(Counted::ChainLinks);
        assert_eq!(refused_for(&nested), too_many);
        assert_eq!(refused_for(&argument), too_many);
    }

    #[test]
    fn long_lists_are_no_chains() {
        assert!(scan(&format!("select 1 where a in (1{})", ", 1".repeat(150_000))).is_ok());
        assert!(scan(&format!("values (1){}", ", (1)".repeat(90_000))).is_ok());
    }

    #[test]
    fn tokens_are_bounded() {
        assert_eq!(refused_for(&"1,".repeat(200_001)), ScanRefusal::TooMany(Counted::Tokens));
    }

    /// Parsing, walking and dropping the deepest trees that pass must not overflow, because an
    /// overflow ends the process.
    #[test]
    fn the_longest_chains_fit_the_stack_of_a_parser_thread() {
        let links =
            [("+1", 29_990), ("::a", 29_990), (" AND a", 29_990), (" UNION SELECT 1", 19_990)];
        for (link, count) in links {
            let text = format!("SELECT a{}", link.repeat(count));
            assert!(scan(&text).is_ok(), "{link}");
            let parser = std::thread::Builder::new().stack_size(64 << 20).spawn(move || {
                let tree = pg_raw_parse::parse(&text).unwrap();
                let mut nodes = 0;
                tree.stmts().for_each(|statement| walk(statement, |_| nodes += 1));
                let _ = second_opinion(&text, &FirstReading::default());
                nodes
            });
            assert!(parser.unwrap().join().unwrap() > count);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = prescan(&text, Caps::default());
        }
    }
}
