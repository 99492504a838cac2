//! What leaves a session: bytes for the server, bytes for the client.
//!
//! Bytes for the server are made here and nowhere else, each from a proof that its text was judged,
//! from the protocol's own words (Sync, Flush), or from the closed list of the gate's own
//! statements. There is no way in for raw bytes:
//!
//! ```compile_fail
//! use rowarden::postgres::outbox::Outbox;
//! let mut outbox = Outbox::default();
//! outbox.to_server.extend_from_slice(b"Q\0\0\0\x10DROP TABLE t\0");
//! ```

use std::sync::Arc;

use crate::audit::event::Receipt;
use crate::policy::sql::{CursorFormat, Judgement};
use crate::policy::verdict::Cleared;
use crate::postgres::message::{Bind, Target};
use crate::postgres::prepared::{Portal, Prepared};

/// A statement that the gate sends on its own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnStatement {
    /// Opens the block around a string of several statements.
    Begin,
    /// Closes it.
    Commit,
    /// Fails on purpose, so that an open transaction is aborted here and there alike.
    Fail,
    /// Closes a failed block.
    Rollback,
}

impl OwnStatement {
    const fn text(self) -> &'static str {
        match self {
            Self::Begin => "BEGIN READ ONLY",
            Self::Commit => "COMMIT",
            // The text is for whoever reads the server's log.
            Self::Fail => {
                "SELECT pg_catalog.int4in('rowarden refused a statement in this transaction')"
            }
            Self::Rollback => "ROLLBACK",
        }
    }
}

/// Bytes that wait to be sent.
#[derive(Debug, Default)]
pub struct Outbox {
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

impl Outbox {
    /// Whether nothing waits to be sent, to either side.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.to_server.is_empty() && self.to_client.is_empty()
    }

    /// Bytes for the client.
    pub const fn client(&mut self) -> &mut Vec<u8> {
        &mut self.to_client
    }

    /// Bytes that wait for the client.
    #[must_use]
    pub fn pending_for_client(&self) -> &[u8] {
        &self.to_client
    }

    /// Bytes that wait for the server.
    #[must_use]
    pub fn pending_for_server(&self) -> &[u8] {
        &self.to_server
    }

    /// The first `count` bytes have gone to the client.
    pub fn sent_to_client(&mut self, count: usize) {
        drop_front(&mut self.to_client, count);
    }

    /// The first `count` bytes have gone to the server.
    pub fn sent_to_server(&mut self, count: usize) {
        drop_front(&mut self.to_server, count);
    }

    /// Sends a judged statement by Parse. The receipt proves that the verdict is in the log.
    pub fn forward_parse(
        &mut self,
        name: &str,
        cleared: &Cleared<Arc<Judgement>>,
        parameter_types: &[u8],
        _recorded: &Receipt,
    ) {
        let judgement = cleared.request();
        let text = judgement
            .pieces
            .first()
            .and_then(|piece| piece.rewritten.as_deref())
            .unwrap_or(&judgement.text);
        self.parse(name, text, parameter_types);
    }

    /// Sends one statement of a judged string, to run at once: Parse, Bind, Execute, and Describe
    /// where rows may come.
    pub fn forward_piece(
        &mut self,
        cleared: &Cleared<Arc<Judgement>>,
        index: usize,
        run: Run,
        _recorded: &Receipt,
    ) {
        let judgement = cleared.request();
        let Some(piece) = judgement.pieces.get(index) else { return };
        // A single statement goes as the client wrote it, comments and semicolon included.
        let alone = if judgement.pieces.len() == 1 {
            Some(&*judgement.text)
        } else {
            judgement.text.get(piece.start..piece.end)
        };
        let Some(text) = piece.rewritten.as_deref().or(alone) else { return };
        self.parse("", text, &[0, 0]);
        self.run_unnamed(run, piece.generic_plan_parameters);
    }

    /// Sends a Bind as the client wrote it.
    pub fn forward_bind(&mut self, bind: &Bind<'_>, _of: &Prepared) {
        self.to_server.extend_from_slice(bind.raw);
    }

    /// Sends Execute for a portal, with the client's own row limit.
    pub fn forward_execute(&mut self, frame: &[u8], _of: &Portal) {
        self.to_server.extend_from_slice(frame);
    }

    /// Sends Describe or Close for a name that the session knows.
    pub fn forward_target(&mut self, verb: Verb, target: &Target<'_>) {
        let (kind, name) = match target {
            Target::Portal(name) => (b'P', name),
            Target::Statement(name) => (b'S', name),
        };
        let start = self.open(verb as u8);
        self.to_server.push(kind);
        self.text(name);
        self.close(start);
    }

    /// Sends a statement of the gate's own: Parse, Bind, Execute.
    pub fn own(&mut self, statement: OwnStatement) {
        self.parse("", statement.text(), &[0, 0]);
        self.run_unnamed(Run { describe: Describe::No, format: CursorFormat::Text }, 0);
    }

    /// Sends Sync.
    pub fn sync(&mut self) {
        self.to_server.extend_from_slice(b"S\0\0\0\x04");
    }

    /// Sends Flush.
    pub fn flush(&mut self) {
        self.to_server.extend_from_slice(b"H\0\0\0\x04");
    }

    /// Sends Terminate.
    pub fn terminate(&mut self) {
        self.to_server.extend_from_slice(b"X\0\0\0\x04");
    }

    fn parse(&mut self, name: &str, text: &str, parameter_types: &[u8]) {
        let start = self.open(b'P');
        self.text(name);
        self.text(text);
        self.to_server.extend_from_slice(parameter_types);
        self.close(start);
    }

    fn run_unnamed(&mut self, run: Run, null_parameters: u16) {
        let start = self.open(b'B');
        // Unnamed portal, unnamed statement, no parameter formats.
        self.to_server.extend_from_slice(&[0, 0, 0, 0]);
        self.to_server.extend_from_slice(&null_parameters.to_be_bytes());
        for _ in 0..null_parameters {
            self.to_server.extend_from_slice(&(-1_i32).to_be_bytes());
        }
        let formats: &[u8] = match run.format {
            CursorFormat::Binary => &[0, 1, 0, 1],
            CursorFormat::Text => &[0, 0],
        };
        self.to_server.extend_from_slice(formats);
        self.close(start);
        if run.describe == Describe::Yes {
            self.to_server.extend_from_slice(b"D\0\0\0\x06P\0");
        }
        self.to_server.extend_from_slice(b"E\0\0\0\x09\0\0\0\0\0");
    }

    fn open(&mut self, kind: u8) -> usize {
        self.to_server.push(kind);
        let start = self.to_server.len();
        self.to_server.extend_from_slice(&[0; 4]);
        start
    }

    fn text(&mut self, text: &str) {
        self.to_server.extend_from_slice(text.as_bytes());
        self.to_server.push(0);
    }

    fn close(&mut self, start: usize) {
        let length = u32::try_from(self.to_server.len() - start).unwrap_or(u32::MAX);
        if let Some(field) = self.to_server.get_mut(start..start + 4) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    }
}

/// How a statement of a string is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whether its columns are asked for.
    pub describe: Describe,
    /// In which format its rows come.
    pub format: CursorFormat,
}

/// Whether a Describe goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Describe {
    /// No rows can come.
    No,
    /// Rows may come.
    Yes,
}

/// The verbs that take a statement or portal by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verb {
    /// Close.
    Close = b'C',
    /// Describe.
    Describe = b'D',
}

/// Capacity above which an emptied buffer is given back: 256 bytes, enough for a prepared statement
/// under way. An idle connection then holds close to nothing.
const KEEP_BYTES: usize = 256;

fn drop_front(buffer: &mut Vec<u8>, count: usize) {
    if count < buffer.len() {
        buffer.drain(..count);
        return;
    }
    buffer.clear();
    buffer.shrink_to(KEEP_BYTES);
}
