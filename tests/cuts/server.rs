//! A server that follows a script: it knows the extended protocol and transactions, and of SQL just
//! what the conversations here say. Like PostgreSQL it answers at Flush, Sync or an error.

use std::collections::HashMap;

use rowarden::postgres::frame::{Frame, next_client_frame};
use rowarden::postgres::handshake::message;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Serves until it is said goodbye to; returns all that it has heard.
pub(crate) async fn serve(mut stream: DuplexStream, cut: usize) -> Vec<u8> {
    let (mut heard, mut read, mut server) = (Vec::new(), 0, Server::default());
    while stream.read_buf(&mut heard).await.is_ok_and(|count| count > 0) {
        while let Ok(Some(frame)) = next_client_frame(&heard[read..]) {
            read += frame.raw.len();
            match server.hear(frame) {
                Turn::Goodbye => return heard,
                Turn::Listens => {}
                Turn::Speaks => {
                    send_cut(&mut stream, &std::mem::take(&mut server.answer), cut).await;
                }
            }
        }
    }
    heard
}

/// Sends bytes in segments of `cut`.
pub(crate) async fn send_cut(stream: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8], cut: usize) {
    for segment in bytes.chunks(cut) {
        // The gate may have ended the session already.
        if stream.write_all(segment).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Whose turn it is.
enum Turn {
    Goodbye,
    Listens,
    Speaks,
}

struct Server {
    statements: HashMap<String, String>,
    portals: HashMap<String, String>,
    tx: u8,
    skipping: bool,
    answer: Vec<u8>,
}

impl Default for Server {
    fn default() -> Self {
        let (statements, portals) = Default::default();
        Self { statements, portals, tx: b'I', skipping: false, answer: Vec::new() }
    }
}

/// The texts in a body up to their zero bytes.
fn texts(body: &[u8]) -> impl Iterator<Item = String> {
    body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned())
}

impl Server {
    fn hear(&mut self, frame: Frame<'_>) -> Turn {
        let mut words = texts(frame.body);
        let mut word = || words.next().unwrap();
        match frame.kind {
            b'X' => return Turn::Goodbye,
            b'S' => {
                self.skipping = false;
                self.say(b'Z', &[self.tx]);
                return Turn::Speaks;
            }
            _ if self.skipping => return Turn::Listens,
            b'H' => return Turn::Speaks,
            b'P' => {
                self.statements.insert(word(), word());
                self.say(b'1', b"");
            }
            b'B' => {
                let (portal, statement) = (word(), word());
                let sql = self.statements.get(&statement).cloned();
                self.portals.insert(portal, sql.expect("the gate knows the names"));
                self.say(b'2', b"");
            }
            b'D' => self.describe(&word()),
            b'C' => self.say(b'3', b""),
            b'E' => self.run(&self.portals[&word()].clone()),
            other => panic!("the gate sends no {}", char::from(other)),
        }
        if self.skipping { Turn::Speaks } else { Turn::Listens }
    }

    fn say(&mut self, kind: u8, body: &[u8]) {
        self.answer.extend(message(kind, body));
    }

    fn describe(&mut self, target: &str) {
        let (kind, name) = target.split_at(1);
        let sql = if kind == "S" { &self.statements[name] } else { &self.portals[name] };
        let has_rows = sql.starts_with("SELECT");
        if kind == "S" {
            self.say(b't', &[0, 0]);
        }
        if has_rows { self.say(b'T', &[0, 0]) } else { self.say(b'n', b"") }
    }

    fn run(&mut self, sql: &str) {
        let verb = sql.split([' ', ';']).next().unwrap();
        match (verb, self.tx) {
            ("ROLLBACK", _) | ("COMMIT", b'E') => self.end_transaction("ROLLBACK"),
            ("COMMIT", _) => self.end_transaction("COMMIT"),
            (_, b'E') => self.fail("25P02"),
            ("BEGIN", _) => {
                self.tx = b'T';
                self.say(b'C', b"BEGIN\0");
            }
            ("SELECT", _) if sql.contains("int4in") => self.fail("22P02"),
            ("SELECT", _) if sql.contains("1/0") => self.fail("22012"),
            ("SELECT", _) => {
                for row in 0..sql.len() % 5 {
                    self.say(b'D', &[&[0, 0], sql.repeat(row).as_bytes()].concat());
                }
                self.say(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mhello\0\0");
                self.say(b'C', b"SELECT 2\0");
            }
            ("COPY", _) => {
                self.say(b'H', &[0, 0, 0]);
                self.say(b'd', b"a row\n");
                self.say(b'c', b"");
                self.say(b'C', b"COPY 1\0");
            }
            ("SET", _) => {
                self.say(b'S', b"application_name\0cuts\0");
                self.say(b'C', b"SET\0");
            }
            (other, _) => panic!("no part of the conversation: {other}"),
        }
    }

    fn end_transaction(&mut self, tag: &str) {
        self.tx = b'I';
        self.say(b'C', &[tag.as_bytes(), b"\0"].concat());
    }

    fn fail(&mut self, sqlstate: &str) {
        let words = format!("SERROR\0VERROR\0C{sqlstate}\0Mno\0\0");
        self.say(b'E', words.as_bytes());
        self.skipping = true;
        if self.tx == b'T' {
            self.tx = b'E';
        }
    }
}
