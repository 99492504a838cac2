//! A conversation around one message that fails: what state the session is in before, what is sent,
//! what the session is still good for afterwards.

use rowarden::demo::client::reply::Message;
use rowarden::demo::client::{Client, message};

use crate::support::talk::{fields, hear, only};

/// Stands behind a refused message in a pipeline.
pub(crate) const LATE: &str = "zqlate";

/// How the failing text is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// In a series, with COPY data behind its Sync.
    CopySeries,
    /// As a simple query, with COPY data behind it.
    CopyStream,
    /// Parse and Describe, as drivers prepare.
    Described,
    /// In a pipeline, behind a Flush.
    Flushed,
    /// In a series of its own, with a name.
    Named,
    /// In a pipeline, between two reads.
    Pipelined,
    /// As a simple query.
    Simple,
    /// In a series of its own.
    Unnamed,
}

impl Shape {
    /// The bytes.
    pub(crate) fn message(self, sql: &str) -> Vec<u8> {
        let series = run("", sql);
        let data = [message::copy_data(format!("100\t{sql}\n").as_bytes()), message::copy_done()];
        match self {
            Self::CopySeries => [series, message::sync(), data.concat(), message::sync()].concat(),
            Self::CopyStream => [message::query(sql), data.concat()].concat(),
            Self::Described => {
                let describe = message::frame(b'D', b"Sst\0");
                [message::parse("st", sql), describe, message::sync()].concat()
            }
            Self::Flushed => {
                let flush = message::frame(b'H', b"");
                [run("", "SELECT 'early'"), flush, series, message::sync()].concat()
            }
            Self::Named => [run("st", sql), message::sync()].concat(),
            Self::Pipelined => {
                let (early, late) =
                    (run("", "SELECT 'early'"), run("", &format!("SELECT '{LATE}'")));
                [early, series, late, message::sync()].concat()
            }
            Self::Simple => message::query(sql),
            Self::Unnamed => [series, message::sync()].concat(),
        }
    }

    /// A conversation of this shape in which nothing is said yet.
    pub(crate) const fn walk(self) -> Walk {
        let ready = if matches!(self, Self::CopySeries) { 2 } else { 1 };
        Walk { state: State::Idle, message: Vec::new(), ready }
    }

    /// Whether the refused text is what fails first. In a failed transaction that is the read before
    /// it, and whether the gate learns of that before or after it judges is a matter of time.
    pub(crate) const fn is_certain_in(self, state: State) -> bool {
        !(matches!(self, Self::Flushed | Self::Pipelined) && matches!(state, State::Failed))
    }
}

/// Parse, Bind, Describe, Execute.
fn run(name: &str, sql: &str) -> Vec<u8> {
    let bind = message::bind("", name, &[]);
    [message::parse(name, sql), bind, message::describe_portal(""), message::execute("")].concat()
}

/// Where the session stands, and how it is led out of there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// In a transaction that is committed behind the failure.
    Committed,
    /// In a transaction that has failed already.
    Failed,
    /// In no transaction.
    Idle,
    /// In a transaction that is asked once more, then rolled back.
    Open,
    /// In a transaction with a savepoint, to which it goes back.
    Savepoint,
}

impl State {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Committed, Self::Failed, Self::Idle, Self::Open, Self::Savepoint];

    const fn way_in(self) -> &'static [&'static str] {
        match self {
            Self::Committed | Self::Open => &["BEGIN"],
            Self::Failed => &["BEGIN", "SELECT 1/0"],
            Self::Idle => &[],
            Self::Savepoint => &["BEGIN", "SAVEPOINT a"],
        }
    }

    const fn way_out(self) -> &'static [&'static str] {
        match self {
            Self::Committed => &["COMMIT"],
            Self::Failed => &["ROLLBACK"],
            Self::Idle => &[],
            Self::Open => &["SELECT 'asked once more'", "ROLLBACK"],
            Self::Savepoint => &["ROLLBACK TO a", "SELECT 2", "COMMIT"],
        }
    }
}

/// What is said.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    pub(crate) state: State,
    pub(crate) message: Vec<u8>,
    /// How often ReadyForQuery comes for it.
    pub(crate) ready: usize,
}

/// Holds the conversation; returns what was heard, without the words of the failure, and the failure.
pub(crate) fn walk(client: &mut Client, steps: &Walk) -> (Vec<String>, Message) {
    let mut seen = Vec::new();
    for sql in steps.state.way_in() {
        seen.extend(ask(client, sql));
    }
    client.send(&steps.message).unwrap();
    let heard = hear(client, steps.ready);
    let failure = only(&heard, b'E').clone();
    seen.extend(heard.iter().map(|message| match message.tag {
        b'E' => "the failure".to_owned(),
        _ => outline(message),
    }));
    for sql in steps.state.way_out() {
        seen.extend(ask(client, sql));
    }
    seen.extend(ask(client, "ROLLBACK; SELECT 1"));
    (seen, failure)
}

fn ask(client: &mut Client, sql: &str) -> Vec<String> {
    client.send(&message::query(sql)).unwrap();
    hear(client, 1).iter().map(outline).collect()
}

/// A message in one line: of errors and notices the SQLSTATE, of others everything.
fn outline(message: &Message) -> String {
    let tag = char::from(message.tag);
    match message.tag {
        b'E' | b'N' => format!("{tag} {}", fields(&message.body)[&'C']),
        _ => format!("{tag} {}", String::from_utf8_lossy(&message.body)),
    }
}
