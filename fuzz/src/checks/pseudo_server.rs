//! A server as far as a session can tell: it answers every message of the extended protocol as
//! PostgreSQL does, with the same rules for names, portals and transactions, and says something odd
//! in between when it is told to. It holds no data.

use std::collections::{HashMap, VecDeque};

use rowarden::policy::sql::{Chain, Hold, PieceKind};
use rowarden::postgres::frame::Frame;
use rowarden::postgres::message::{Bind, ClientMessage, Parse, Target};

use super::sql::one_read;
use super::wire::{message, texts};

/// The gate's own statement that fails.
pub(super) const FAIL: &str =
    "SELECT pg_catalog.int4in('rowarden refused a statement in this transaction')";

const ROWS_OF_A_QUERY: u32 = 3;

/// How deep EXECUTE may nest before the server's stack is at its end.
const MOST_EXECUTES: usize = 16;

/// What the server does before or instead of its next answer.
pub(super) enum Oddity {
    /// Fails with this severity.
    Error(&'static str),
    /// Fails to commit at the next Sync.
    NoCommit,
    /// Says this first.
    Say(Vec<u8>),
}

/// A statement: its text, and what running it does.
#[derive(Clone)]
struct Statement {
    text: String,
    does: Does,
}

#[derive(Clone)]
enum Does {
    Nothing,
    Fail,
    Run(PieceKind),
}

#[derive(Clone)]
struct Portal {
    statement: Statement,
    rows: u32,
    hold: Hold,
}

/// An error that the server answers with.
struct Failure(&'static str);

#[derive(Default)]
pub(super) struct PseudoServer {
    statements: HashMap<String, Statement>,
    portals: HashMap<String, Portal>,
    block: Block,
    mood: Mood,
    /// A transaction has ended since the last Sync.
    ended: bool,
    cannot_commit: bool,
    oddities: VecDeque<Oddity>,
    said: Vec<u8>,
    bound: Option<String>,
}

/// Whether it carries out what it is sent.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Willing,
    /// An error was answered: it drops everything until Sync.
    Skipping,
    /// It has closed the connection.
    Gone,
}

/// Its transaction block, as ReadyForQuery tells.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Block {
    #[default]
    None,
    Open,
    Failed,
}

impl PseudoServer {
    /// What ReadyForQuery says now.
    pub(super) const fn status(&self) -> u8 {
        match self.block {
            Block::None => b'I',
            Block::Open => b'T',
            Block::Failed => b'E',
        }
    }

    /// Whether it has closed the connection.
    pub(super) fn is_gone(&self) -> bool {
        self.mood == Mood::Gone
    }

    /// The text that the last Bind has made a portal of.
    pub(super) const fn take_bound(&mut self) -> Option<String> {
        self.bound.take()
    }

    pub(super) fn will(&mut self, oddity: Oddity) {
        self.oddities.push_back(oddity);
    }

    /// Its answer to a message.
    ///
    /// # Panics
    /// When the message is one that a gate never sends, or a transaction has ended and the next one
    /// begins without a Sync between them.
    pub(super) fn answer(&mut self, frame: Frame<'_>) -> Vec<u8> {
        let message = ClientMessage::read(frame).expect("a message that can be read");
        let syncs = matches!(message, ClientMessage::Sync | ClientMessage::Terminate);
        assert!(syncs || !self.ended, "a transaction has ended, and {message:?} follows");
        match (self.mood, &message) {
            (Mood::Gone, _) => {}
            (_, ClientMessage::Terminate) => self.mood = Mood::Gone,
            (_, ClientMessage::Sync) => self.sync(),
            (Mood::Skipping, _) => {}
            (Mood::Willing, message) => {
                let done = self.be_odd(message).and_then(|()| self.run(message));
                if let Err(failure) = done {
                    self.fail("ERROR", failure.0);
                }
            }
        }
        std::mem::take(&mut self.said)
    }

    fn sync(&mut self) {
        (self.mood, self.ended) = (Mood::Willing, false);
        if self.block == Block::None {
            self.end_transaction();
            if std::mem::take(&mut self.cannot_commit) {
                self.say(b'E', &complaint("ERROR", "40001"));
            }
        }
        self.say(b'Z', &[self.status()]);
    }

    fn be_odd(&mut self, message: &ClientMessage<'_>) -> Result<(), Failure> {
        if matches!(message, ClientMessage::Flush) {
            // It has no answer, so it cannot fail either.
            return Ok(());
        }
        while let Some(oddity) = self.oddities.pop_front() {
            match oddity {
                Oddity::Say(bytes) => self.said.extend_from_slice(&bytes),
                Oddity::NoCommit => self.cannot_commit = true,
                Oddity::Error("ERROR") => return Err(Failure("XX000")),
                Oddity::Error(severity) => {
                    self.fail(severity, "57P01");
                    self.mood = Mood::Gone;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn run(&mut self, message: &ClientMessage<'_>) -> Result<(), Failure> {
        if self.mood == Mood::Gone {
            return Ok(());
        }
        match message {
            ClientMessage::Parse(parse) => self.parse(parse),
            ClientMessage::Bind(bind) => self.bind(bind),
            ClientMessage::Describe(target) => self.describe(target),
            ClientMessage::Close(target) => {
                match target {
                    Target::Portal(name) => drop(self.portals.remove(*name)),
                    Target::Statement(name) => drop(self.statements.remove(*name)),
                }
                self.say(b'3', b"");
                Ok(())
            }
            ClientMessage::Execute(name) => self.execute(name),
            ClientMessage::Flush => Ok(()),
            ClientMessage::Copy
            | ClientMessage::FunctionCall
            | ClientMessage::Query(_)
            | ClientMessage::Sync
            | ClientMessage::Terminate => panic!("a gate never sends {message:?}"),
        }
    }

    fn parse(&mut self, parse: &Parse<'_>) -> Result<(), Failure> {
        if parse.name.is_empty() {
            self.statements.remove("");
        }
        let text = str::from_utf8(parse.sql).expect("UTF-8");
        let does = if text == FAIL {
            Does::Fail
        } else {
            one_read(text).map_or(Does::Nothing, |piece| Does::Run(piece.kind))
        };
        let statement = Statement { text: text.to_owned(), does };
        self.passes_in_block(&statement)?;
        if self.statements.contains_key(parse.name) {
            return Err(Failure("42P05"));
        }
        self.statements.insert(parse.name.to_owned(), statement);
        self.say(b'1', b"");
        Ok(())
    }

    /// In a failed transaction only its end passes.
    fn passes_in_block(&self, statement: &Statement) -> Result<(), Failure> {
        let ends = matches!(
            statement.does,
            Does::Run(PieceKind::Commit(_) | PieceKind::Rollback(_) | PieceKind::RollbackTo)
                | Does::Nothing
        );
        if self.block == Block::Failed && !ends { Err(Failure("25P02")) } else { Ok(()) }
    }

    fn bind(&mut self, bind: &Bind<'_>) -> Result<(), Failure> {
        let statement = self.statements.get(bind.statement).cloned().ok_or(Failure("26000"))?;
        self.passes_in_block(&statement)?;
        if matches!(statement.does, Does::Fail) {
            // The planner folds the call.
            return Err(Failure("22P02"));
        }
        let text = statement.text.clone();
        self.make_portal(bind.portal, statement, Hold::WithoutHold)?;
        self.bound = Some(text);
        self.say(b'2', b"");
        Ok(())
    }

    fn make_portal(&mut self, name: &str, statement: Statement, hold: Hold) -> Result<(), Failure> {
        if !name.is_empty() && self.portals.contains_key(name) {
            return Err(Failure("42P03"));
        }
        let portal = Portal { statement, rows: ROWS_OF_A_QUERY, hold };
        self.portals.insert(name.to_owned(), portal);
        Ok(())
    }

    fn describe(&mut self, target: &Target<'_>) -> Result<(), Failure> {
        let statement = match target {
            Target::Portal(name) => {
                self.portals.get(*name).ok_or(Failure("34000"))?.statement.clone()
            }
            Target::Statement(name) => {
                let statement = self.statements.get(*name).ok_or(Failure("26000"))?.clone();
                self.say(b't', &[0, 0]);
                statement
            }
        };
        if self.has_rows(&statement) {
            let mut body = texts(&[b"c"]);
            body.splice(0..0, [0, 1]);
            body.extend_from_slice(&[0; 18]);
            self.say(b'T', &body);
        } else {
            self.say(b'n', b"");
        }
        Ok(())
    }

    fn has_rows(&self, statement: &Statement) -> bool {
        match &statement.does {
            Does::Run(PieceKind::Query | PieceKind::UtilityRows) => true,
            Does::Run(PieceKind::Execute { name, .. }) => {
                let named = self.statements.get(name).map(|statement| &statement.does);
                matches!(named, Some(Does::Run(PieceKind::Query | PieceKind::UtilityRows)))
            }
            Does::Run(PieceKind::Fetch(cursor)) => self.portals.contains_key(cursor),
            Does::Run(_) | Does::Nothing | Does::Fail => false,
        }
    }

    fn execute(&mut self, name: &str) -> Result<(), Failure> {
        let portal = self.portals.get(name).cloned().ok_or(Failure("34000"))?;
        match &portal.statement.does {
            Does::Nothing => self.say(b'I', b""),
            Does::Fail => return Err(Failure("22P02")),
            Does::Run(kind) => {
                self.passes_in_block(&portal.statement)?;
                self.run_kind(name, kind)?;
            }
        }
        Ok(())
    }

    fn run_kind(&mut self, portal: &str, kind: &PieceKind) -> Result<(), Failure> {
        match kind {
            PieceKind::Query | PieceKind::UtilityRows => return self.rows(portal),
            PieceKind::Execute { name, .. } => return self.run_named(portal, name),
            PieceKind::CopyOut => {
                self.say(b'H', &[0, 0, 0]);
                self.say(b'd', b"row\n");
                self.say(b'c', b"");
            }
            PieceKind::Begin => {
                if self.block == Block::Open {
                    self.notice("25001");
                }
                self.block = Block::Open;
            }
            PieceKind::Commit(chain) | PieceKind::Rollback(chain) => self.end_block(*chain)?,
            PieceKind::Savepoint | PieceKind::Release | PieceKind::RollbackTo => {
                if self.block == Block::None {
                    return Err(Failure("25P01"));
                }
                self.block = Block::Open;
            }
            PieceKind::DeclareCursor { name, hold, .. } => {
                if self.block == Block::None && *hold == Hold::WithoutHold {
                    return Err(Failure("25P01"));
                }
                let statement = self.query_inside(portal);
                self.make_portal(name, statement, *hold)?;
            }
            PieceKind::Fetch(cursor) if self.portals.contains_key(cursor) => {
                self.say(b'D', &[0, 1, 0, 0, 0, 1, b'x']);
            }
            PieceKind::Fetch(cursor) | PieceKind::Move(cursor) => {
                self.portals.get(cursor).ok_or(Failure("34000"))?;
            }
            PieceKind::CloseCursor(Some(cursor)) => {
                self.portals.remove(cursor).ok_or(Failure("34000"))?;
            }
            // The portal that runs is not closed by its own statement.
            PieceKind::CloseCursor(None) => self.portals.retain(|name, _| name == portal),
            PieceKind::Prepare(name) => {
                if self.statements.contains_key(name) {
                    return Err(Failure("42P05"));
                }
                let statement = self.query_inside(portal);
                self.statements.insert(name.clone(), statement);
            }
            PieceKind::Deallocate(Some(name)) => {
                self.statements.remove(name).ok_or(Failure("26000"))?;
            }
            PieceKind::Deallocate(None) => self.statements.clear(),
            PieceKind::DiscardAll => {
                if self.block != Block::None {
                    return Err(Failure("25001"));
                }
                self.portals.retain(|name, _| name == portal);
                self.statements.clear();
            }
            PieceKind::Quiet => {}
        }
        self.say(b'C', b"DONE\0");
        Ok(())
    }

    /// EXECUTE may name a statement that is an EXECUTE itself, even the same one.
    fn run_named(&mut self, portal: &str, name: &str) -> Result<(), Failure> {
        let mut name = name.to_owned();
        for _ in 0..MOST_EXECUTES {
            match self.statements.get(&name).cloned().ok_or(Failure("26000"))?.does {
                Does::Run(PieceKind::Execute { name: next, .. }) => name = next,
                Does::Run(kind) => return self.run_kind(portal, &kind),
                Does::Nothing | Does::Fail => return Err(Failure("XX000")),
            }
        }
        Err(Failure("54001"))
    }

    /// The query that the statement of a portal names or opens.
    fn query_inside(&self, portal: &str) -> Statement {
        let text = self.portals.get(portal).map(|portal| portal.statement.text.clone());
        Statement { text: text.unwrap_or_default(), does: Does::Run(PieceKind::Query) }
    }

    fn rows(&mut self, name: &str) -> Result<(), Failure> {
        let portal = self.portals.get_mut(name).ok_or(Failure("34000"))?;
        let rows = std::mem::take(&mut portal.rows);
        for _ in 0..rows {
            self.say(b'D', &[0, 1, 0, 0, 0, 1, b'x']);
        }
        self.say(b'C', b"SELECT 3\0");
        Ok(())
    }

    fn end_block(&mut self, chain: Chain) -> Result<(), Failure> {
        if self.block == Block::None {
            if chain == Chain::Chain {
                return Err(Failure("25P01"));
            }
            self.notice("25P01");
        }
        self.end_transaction();
        self.block = if chain == Chain::Chain { Block::Open } else { Block::None };
        self.ended = true;
        Ok(())
    }

    fn end_transaction(&mut self) {
        self.portals.retain(|_, portal| portal.hold == Hold::WithHold);
    }

    fn notice(&mut self, sqlstate: &str) {
        let body = complaint("WARNING", sqlstate);
        self.say(b'N', &body);
    }

    fn fail(&mut self, severity: &str, sqlstate: &str) {
        let body = complaint(severity, sqlstate);
        self.say(b'E', &body);
        self.mood = Mood::Skipping;
        if self.block == Block::Open {
            self.block = Block::Failed;
        }
    }

    fn say(&mut self, kind: u8, body: &[u8]) {
        self.said.extend_from_slice(&message(kind, body));
    }
}

/// The body of an error or notice.
pub(super) fn complaint(severity: &str, sqlstate: &str) -> Vec<u8> {
    let fields = [
        format!("S{severity}"),
        format!("V{severity}"),
        format!("C{sqlstate}"),
        "Msaid by the server".to_owned(),
        "P1".to_owned(),
        String::new(),
    ];
    texts(&fields.each_ref().map(String::as_bytes))
}
