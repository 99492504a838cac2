//! The log that a running gate writes.
//!
//! The body of a line is made by whoever has something to say; the [desk](super::desk) sees that it
//! is written by one at a time, and the [keeper](super::keeper) does behind their backs what need
//! not be done before the act.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use uuid::Uuid;

use crate::audit::archive::Archivist;
use crate::audit::desk::Desk;
use crate::audit::event::{
    AuditUnavailable, Auditor, Decision, Entry, Kind, Ledger, Receipt, SessionFacts,
};
use crate::audit::keeper::{Keeper, Start};
use crate::audit::line::{Facts, GateFacts, push_body};
use crate::audit::process::Process;
use crate::audit::redact::SqlText;
use crate::audit::segment::{self, Opened};
use crate::audit::writer::Writer;

pub use crate::audit::keeping::Keeping;
pub use crate::audit::segment::{Loss, OnLoss, OpenError};
pub use crate::audit::writer::Mode;

/// How often somebody looks whether the log is stuck; well below the patience of the desk.
const WATCH_EVERY: Duration = Duration::from_millis(25);

/// Most statements of a session whose duration is being taken. Beyond it, the oldest result says
/// no duration.
const MAX_TIMED: usize = 4096;

thread_local! {
    /// The body of the line that this thread is making.
    static BODY: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

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
    /// How long lines are kept.
    pub keeping: Keeping,
}

/// An open log. Dropping it writes what waits, signs for it, and lets go of the directory.
pub struct AuditLog {
    desk: Arc<Desk>,
    mode: Mode,
    sql: SqlText,
    gate: GateFacts,
    process: Arc<Process>,
    threads: Vec<JoinHandle<()>>,
    _lock: File,
}

impl AuditLog {
    /// Opens the log in a directory, where the last process left it. A line torn by a crash is cut
    /// off, and that is the first thing recorded.
    ///
    /// # Errors
    /// When the directory cannot be used, is in use, holds something else than a log, or a log that
    /// has lost lines.
    pub fn open(settings: AuditSettings) -> Result<Self, OpenError> {
        let AuditSettings { dir, mode, sql, keeping, .. } = settings;
        let Opened { file, first_seq, length, cut, loss, edge, signer, lock } =
            segment::open(&dir, keeping.on_loss)?;
        let gate = GateFacts {
            name: settings.gate_name,
            instance: Uuid::now_v7(),
            policy_id: settings.policy_id,
            policy_name: settings.policy_name,
        };
        let io = |source| OpenError::Io { path: dir.clone(), source };
        let reading = file.try_clone().map_err(io)?;
        let facts = Facts::of_process(&gate);
        let writer = Writer::new(Box::new(file), length, edge.size(), mode, facts.clone());
        let desk = Arc::new(Desk::new(writer));
        let process = Arc::new(Process { desk: Arc::clone(&desk), facts });
        let archivist = Archivist::new(Arc::clone(&process), keeping);
        let start = Start { dir: dir.clone(), file: reading, first_seq, length, edge, signer };
        let keeper = Keeper::new(start, Arc::clone(&desk), keeping, archivist);
        let mut log = Self { desk, mode, sql, gate, process, threads: Vec::new(), _lock: lock };
        log.start("audit-keeper", move || keeper.run()).map_err(io)?;
        let (desk, runtime) = (Arc::clone(&log.desk), Handle::try_current().ok());
        log.start("audit-watch", move || watch(&desk, runtime.as_ref())).map_err(io)?;
        log.record_start(cut, loss).map_err(|_| OpenError::CannotWrite(dir))?;
        Ok(log)
    }

    fn start(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(work)?);
        Ok(())
    }

    /// What the start has found is the first thing recorded.
    fn record_start(&self, cut: u64, loss: Option<Loss>) -> Result<(), AuditUnavailable> {
        if let Some(loss) = loss {
            tracing::warn!(%loss, "going on with an audit log that has lost lines");
            let message = format!("the log has lost lines, which was accepted: {loss}");
            self.record(&Entry::plain(Kind::AuditGap, Decision::Error, &message))?;
        }
        if cut > 0 {
            tracing::warn!(bytes = cut, "a torn line was cut off the audit log");
            let message = format!("{cut} bytes of a torn line were cut off the log");
            self.record(&Entry::plain(Kind::GateCrashRecovered, Decision::Error, &message))?;
        }
        Ok(())
    }

    /// Records something that the process does.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn record(&self, entry: &Entry<'_>) -> Result<Receipt, AuditUnavailable> {
        self.process.record(entry)
    }

    /// The ledger of one session.
    #[must_use]
    pub fn session(self: &Arc<Self>, facts: &SessionFacts) -> SessionLedger {
        SessionLedger {
            log: Arc::clone(self),
            facts: Facts::of_session(&self.gate, facts),
            timed: VecDeque::new(),
        }
    }

    /// In mode `durable` a record waits for the disk. It does so where waiting is allowed: another
    /// thread takes over the other tasks of this one.
    fn record_body(&self, body: &mut Vec<u8>) -> Result<Receipt, AuditUnavailable> {
        match self.mode {
            Mode::Written => self.desk.record(body),
            Mode::Durable => {
                let body = std::mem::take(body);
                let runtime = Handle::try_current().map(|runtime| runtime.runtime_flavor());
                match runtime {
                    Ok(RuntimeFlavor::MultiThread) => {
                        tokio::task::block_in_place(|| self.desk.record_in_group(body))
                    }
                    _ => self.desk.record_in_group(body),
                }
            }
        }
    }
}

/// Sees to it that a worker that is stuck in a write does not take the runtime along. If it was the
/// one that had last waited for the sockets, nobody else may be doing so: a task that does nothing
/// wakes another worker, which then does.
fn watch(desk: &Desk, runtime: Option<&Handle>) {
    let mut was_stuck = false;
    while !desk.sleep(WATCH_EVERY) {
        let is_stuck = desk.is_stuck();
        match (was_stuck, is_stuck) {
            (false, true) => tracing::error!("the audit log is stuck in a write; nothing passes"),
            (true, false) => tracing::info!("the audit log is no longer stuck"),
            _ => {}
        }
        was_stuck = is_stuck;
        if let Some(runtime) = runtime.filter(|_| desk.is_away()) {
            runtime.spawn(std::future::ready(()));
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
        self.desk.stop();
        for thread in self.threads.drain(..) {
            // It has nothing to say; if it panicked, the process has said so.
            let _ = thread.join();
        }
    }
}

/// Writes down what happens in one session.
pub struct SessionLedger {
    log: Arc<AuditLog>,
    facts: Facts,
    /// When each statement was let through, by its ordinal, in order.
    timed: VecDeque<(u64, Instant)>,
}

impl SessionLedger {
    /// Lends out this thread's buffer with the body of a line in it. A buffer for each session
    /// would cost more than all else that is kept of an idle one.
    fn with_body<T>(
        &self,
        entry: &Entry<'_>,
        total_us: Option<u64>,
        act: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> T {
        let mut body = BODY.take();
        body.clear();
        push_body(entry, self.log.sql, &self.facts, total_us, &mut body);
        let done = act(&mut body);
        body.shrink_to(BODY_BYTES);
        BODY.set(body);
        done
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
        let receipt = self.with_body(entry, None, |body| self.log.record_body(body))?;
        let is_timed = matches!(entry.kind, Kind::DbStatement | Kind::HttpRequest);
        if is_timed && entry.decision == Decision::Allow {
            self.start_timing(entry.statement);
        }
        Ok(receipt)
    }

    fn follow_up(&mut self, entry: &Entry<'_>) {
        let total_us = self.timing(entry.statement);
        self.with_body(entry, total_us, |body| self.log.desk.follow_up(body));
    }
}
