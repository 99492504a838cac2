//! The log that a running gate writes.
//!
//! One lock around the [writer](super::writer), because one file has one end: a record holds it for
//! the time of one write(2), in mode `durable` for the time of one fdatasync as well. The body of a
//! line is made outside of the lock. A thread of its own sees to it that results reach the file
//! within a second when no record takes them along, and that a log that could not be written is
//! tried again.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::audit::event::{
    AuditUnavailable, Auditor, Decision, Entry, Kind, Ledger, Receipt, SessionFacts,
};
use crate::audit::line::{Facts, GateFacts, push_body};
use crate::audit::redact::SqlText;
use crate::audit::segment;
use crate::audit::writer::Writer;

pub use crate::audit::segment::OpenError;
pub use crate::audit::writer::Mode;

/// How long a result may wait for a record to take it along.
const FLUSH_AFTER: Duration = Duration::from_secs(1);

/// Most statements of a session whose duration is being taken. Beyond it, the oldest result says
/// no duration.
const MAX_TIMED: usize = 4096;

/// A line's buffer that has grown beyond this gives its memory back.
const BODY_BYTES: usize = 16 * 1024;

/// Where and how to write.
#[derive(Clone, Debug)]
pub struct AuditSettings {
    /// The directory; made if it is not there.
    pub dir: PathBuf,
    /// When a record counts as written.
    pub mode: Mode,
    /// How much of a statement is kept.
    pub sql: SqlText,
    /// The gate's name.
    pub gate_name: String,
    /// `sha256:` and the hash of the policy in force.
    pub policy_id: String,
    /// The policy's name.
    pub policy_name: String,
}

/// An open log. Dropping it writes what waits and lets go of the directory.
pub struct AuditLog {
    shared: Arc<Shared>,
    sql: SqlText,
    gate: GateFacts,
    process: Facts,
    flusher: Option<JoinHandle<()>>,
    _lock: File,
}

impl AuditLog {
    /// Opens the log in a directory, where the last process left it. A line torn by a crash is cut
    /// off, and that is the first thing recorded.
    ///
    /// # Errors
    /// When the directory cannot be used, is in use, or holds something else than a log.
    pub fn open(settings: AuditSettings) -> Result<Self, OpenError> {
        let opened = segment::open(&settings.dir)?;
        let gate = GateFacts {
            name: settings.gate_name,
            instance: Uuid::now_v7(),
            policy_id: settings.policy_id,
            policy_name: settings.policy_name,
        };
        let process = Facts::of_process(&gate);
        let (length, next_seq) = (opened.length, opened.next_seq);
        let writer =
            Writer::new(Box::new(opened.file), length, next_seq, settings.mode, process.clone());
        let shared = Arc::new(Shared::new(writer));
        let flusher = spawn_flusher(&shared)
            .map_err(|source| OpenError::Io { path: settings.dir.clone(), source })?;
        let flusher = Some(flusher);
        let log = Self { shared, sql: settings.sql, gate, process, flusher, _lock: opened.lock };
        if opened.cut > 0 {
            tracing::warn!(bytes = opened.cut, "a torn line was cut off the audit log");
            log.record_cut(opened.cut).map_err(|_| OpenError::CannotWrite(settings.dir))?;
        }
        Ok(log)
    }

    fn record_cut(&self, bytes: u64) -> Result<Receipt, AuditUnavailable> {
        let message = format!("{bytes} bytes of a torn line were cut off the log");
        self.record(&Entry::plain(Kind::GateCrashRecovered, Decision::Error, &message))
    }

    /// Records something that the process does.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn record(&self, entry: &Entry<'_>) -> Result<Receipt, AuditUnavailable> {
        let mut body = Vec::new();
        push_body(entry, self.sql, &self.process, None, &mut body);
        self.shared.record(&body)
    }

    /// The ledger of one session.
    #[must_use]
    pub fn session(self: &Arc<Self>, facts: &SessionFacts) -> SessionLedger {
        SessionLedger {
            log: Arc::clone(self),
            facts: Facts::of_session(&self.gate, facts),
            body: Vec::new(),
            timed: VecDeque::new(),
        }
    }
}

impl Auditor for Arc<AuditLog> {
    fn open(&self, facts: SessionFacts) -> Box<dyn Ledger + Send> {
        Box::new(self.session(&facts))
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.wake.notify_one();
        if let Some(flusher) = self.flusher.take() {
            // It has nothing to say; if it panicked, the process has said so.
            let _ = flusher.join();
        }
    }
}

/// Writes down what happens in one session.
pub struct SessionLedger {
    log: Arc<AuditLog>,
    facts: Facts,
    body: Vec<u8>,
    /// When each statement was let through, by its ordinal, in order.
    timed: VecDeque<(u64, Instant)>,
}

impl SessionLedger {
    fn make_body(&mut self, entry: &Entry<'_>, total_us: Option<u64>) {
        self.body.clear();
        self.body.shrink_to(BODY_BYTES);
        push_body(entry, self.log.sql, &self.facts, total_us, &mut self.body);
    }

    fn start_timing(&mut self, statement: u64) {
        if self.timed.len() == MAX_TIMED {
            self.timed.pop_front();
        }
        self.timed.push_back((statement, Instant::now()));
    }

    /// Microseconds since the statement was let through. Answers come in the order of the
    /// statements, so those before it are forgotten; it itself may be answered again, piece by
    /// piece.
    fn timing(&mut self, statement: u64) -> Option<u64> {
        while self.timed.front().is_some_and(|(first, _)| *first < statement) {
            self.timed.pop_front();
        }
        let (_, since) = self.timed.front().filter(|(first, _)| *first == statement)?;
        u64::try_from(since.elapsed().as_micros()).ok()
    }
}

impl Ledger for SessionLedger {
    fn record(&mut self, entry: &Entry<'_>) -> Result<Receipt, AuditUnavailable> {
        self.make_body(entry, None);
        let receipt = self.log.shared.record(&self.body)?;
        if entry.kind == Kind::DbStatement && entry.decision == Decision::Allow {
            self.start_timing(entry.statement);
        }
        Ok(receipt)
    }

    fn follow_up(&mut self, entry: &Entry<'_>) {
        let total_us = self.timing(entry.statement);
        self.make_body(entry, total_us);
        self.log.shared.follow_up(&self.body);
    }
}

/// What the sessions and the flusher share.
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    writer: Writer,
    /// The flusher waits to be woken, for there was nothing to do.
    flusher_sleeps: bool,
    stopping: bool,
}

impl Shared {
    fn new(writer: Writer) -> Self {
        let state = State { writer, flusher_sleeps: false, stopping: false };
        Self { state: Mutex::new(state), wake: Condvar::new() }
    }

    /// A poisoned lock is taken like any: whoever panicked did so with a line half in the buffer at
    /// worst, and a log that stops for good would stop every read with it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, body: &[u8]) -> Result<Receipt, AuditUnavailable> {
        let mut state = self.lock();
        let recorded = state.writer.record(body, since_epoch());
        self.wake_flusher(&mut state);
        recorded
    }

    fn follow_up(&self, body: &[u8]) {
        let mut state = self.lock();
        state.writer.follow_up(body, since_epoch());
        self.wake_flusher(&mut state);
    }

    /// At most once a second, so that a busy gate does not pay for it.
    fn wake_flusher(&self, state: &mut State) {
        if state.flusher_sleeps && !state.writer.is_settled() {
            state.flusher_sleeps = false;
            self.wake.notify_one();
        }
    }

    /// The flusher's life.
    fn keep_flushing(&self) {
        let mut state = self.lock();
        while !state.stopping {
            state.flusher_sleeps = state.writer.is_settled();
            state = self
                .wake
                .wait_while(state, |state| state.flusher_sleeps && !state.stopping)
                .unwrap_or_else(PoisonError::into_inner);
            let waited = self.wake.wait_timeout_while(state, FLUSH_AFTER, |state| !state.stopping);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.writer.flush(since_epoch());
        }
        state.writer.flush(since_epoch());
    }
}

fn spawn_flusher(shared: &Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    thread::Builder::new().name("audit-flusher".to_owned()).spawn(move || shared.keep_flushing())
}

/// The wall clock; a clock before 1970 reads as 1970.
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::time::Duration;

    use uuid::Uuid;

    use super::{Shared, spawn_flusher};
    use crate::audit::line::{Facts, GateFacts};
    use crate::audit::writer::{Mode, Segment, Writer};

    /// Longer than any machine stalls; nobody waits for it unless the test fails.
    const PATIENCE: Duration = Duration::from_mins(1);

    /// Tells what is written, and refuses as long as the test has not given leave.
    struct Told {
        leave: Receiver<bool>,
        written: Sender<Vec<u8>>,
    }

    impl Segment for Told {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            if !self.leave.recv().unwrap_or(true) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.written.send(bytes.to_vec()).map_err(io::Error::other)
        }

        fn cut(&mut self, _length: u64) -> io::Result<()> {
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn results_reach_the_file_without_a_record_and_after_a_failure() {
        let ((may, leave), (written, read)) = (mpsc::channel(), mpsc::channel());
        let gate = GateFacts {
            name: "gate".to_owned(),
            instance: Uuid::nil(),
            policy_id: "sha256:00".to_owned(),
            policy_name: "readonly".to_owned(),
        };
        let segment = Box::new(Told { leave, written });
        let writer = Writer::new(segment, 0, 0, Mode::Written, Facts::of_process(&gate));
        let shared = Arc::new(Shared::new(writer));
        let flusher = spawn_flusher(&shared).unwrap();

        shared.follow_up(b"}");
        may.send(false).unwrap();
        may.send(true).unwrap();

        let lines = String::from_utf8(read.recv_timeout(PATIENCE).unwrap()).unwrap();
        assert_eq!(lines.lines().count(), 2);
        assert!(lines.contains("gate.recovered"));
        shared.lock().stopping = true;
        shared.wake.notify_one();
        flusher.join().unwrap();
    }
}
