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
    /// How deeply `(` and `[` may nest, counted together.
    pub nesting: usize,
    /// Bytes that the server's scanner may read in vain (see [`Lexer::rescanned`]).
    pub rescanned: usize,
    /// Tokens without a comma or semicolon between them on their own level, white space and comments
    /// apart. Bounds every chain (`a AND b AND …`, `1 + 1 + …`, `UNION`, `::`), which parsers hold as
    /// a tree as deep as the chain is long; libpg_query walks it without looking at its stack. Half
    /// as many links took 24 MiB of stack there; a server with its default `max_stack_depth` gives
    /// up far below that.
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
