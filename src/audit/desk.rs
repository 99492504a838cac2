//! Where sessions hand in lines: one writer, used by one thread at a time, for which nobody waits
//! long.
//!
//! Whoever records takes the writer off the desk, writes, and puts it back; the lock is never held
//! over a system call. If the write sticks, it is this one thread that sticks. Everybody else finds
//! the desk empty, and is refused as soon as the writer has been away for [`PATIENCE`]: see
//! docs/decisions/0005-audit-before-the-act.md.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::audit::event::{AuditUnavailable, Receipt};
use crate::audit::writer::{End, Writer};

/// How long anybody waits for the writer, and how long it may be away before nobody waits at all.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// How long a result may wait for a record to take it along, and a line for its checkpoint.
const SETTLE_AFTER: Duration = Duration::from_secs(1);

/// Lines after which a checkpoint is due before its time.
const LINES_PER_CHECKPOINT: u64 = 1_024;

/// Most bytes of results that are put down beside an absent writer: 1 MiB.
const MAX_ASIDE_BYTES: usize = 1024 * 1024;

/// The desk.
pub(super) struct Desk {
    top: Mutex<Top>,
    /// The writer is back.
    back: Condvar,
    /// The keeper has something to do.
    wake: Condvar,
}

struct Top {
    /// `None` while somebody writes.
    writer: Option<Box<Writer>>,
    taken_at: Instant,
    waiting: u32,
    /// Results that came while the writer was away.
    aside: Vec<(Duration, Vec<u8>)>,
    aside_bytes: usize,
    lost: u64,
    refused: u64,
    /// Why nothing is taken although it could be written.
    barred: Option<&'static str>,
    /// How far the file goes.
    end: End,
    sealed_seq: u64,
    /// The keeper has been told that a checkpoint is due.
    seal_called: bool,
    keeper_sleeps: bool,
    stopping: bool,
    group: Group,
}

/// Records that share one wait for the disk.
#[derive(Default)]
struct Group {
    next_ticket: u64,
    /// Not yet in anybody's hand.
    waiting: Vec<(u64, Duration, Vec<u8>)>,
    /// Written, or not, and not yet fetched.
    done: HashMap<u64, Result<Receipt, AuditUnavailable>>,
}

/// What the keeper is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// To flush and to seal, and then to end.
    Last,
    /// To flush and to seal.
    Settle,
}

impl Desk {
    pub(super) fn new(writer: Writer) -> Self {
        let end = writer.end();
        let top = Top {
            writer: Some(Box::new(writer)),
            taken_at: Instant::now(),
            waiting: 0,
            aside: Vec::new(),
            aside_bytes: 0,
            lost: 0,
            refused: 0,
            barred: None,
            end,
            sealed_seq: end.next_seq,
            seal_called: false,
            group: Group::default(),
            keeper_sleeps: false,
            stopping: false,
        };
        Self { top: Mutex::new(top), back: Condvar::new(), wake: Condvar::new() }
    }

    /// Writes a body before it returns.
    pub(super) fn record(&self, body: &[u8]) -> Result<Receipt, AuditUnavailable> {
        self.with(Bar::Minded, |writer| writer.record(body, since_epoch()))?
    }

    /// As [`record`](Self::record), with one wait for the disk for all who ask at the same time.
    /// Waits for the disk as long as that takes; call it where waiting is allowed.
    pub(super) fn record_in_group(&self, body: Vec<u8>) -> Result<Receipt, AuditUnavailable> {
        let mut top = self.lock();
        let ticket = top.group.next_ticket;
        top.group.next_ticket += 1;
        top.group.waiting.push((ticket, since_epoch(), body));
        drop(top);
        loop {
            let taken = self.with(Bar::Minded, |writer| self.write_group(writer));
            let mut top = self.lock();
            if let Some(outcome) = top.group.done.remove(&ticket) {
                return outcome;
            }
            let waits = top.group.waiting.iter().position(|(waiting, ..)| *waiting == ticket);
            if let (Err(AuditUnavailable), Some(place)) = (taken, waits) {
                top.group.waiting.remove(place);
                return Err(AuditUnavailable);
            }
            // In somebody's hand, who is in the middle of a write: it may still succeed.
            if taken.is_err() {
                top.waiting += 1;
                let waited = self.back.wait_timeout(top, PATIENCE);
                waited.unwrap_or_else(PoisonError::into_inner).0.waiting -= 1;
            }
        }
    }

    fn write_group(&self, writer: &mut Writer) {
        let group = std::mem::take(&mut self.lock().group.waiting);
        if group.is_empty() {
            return;
        }
        let bodies = group.iter().map(|(_, since_epoch, body)| (body.as_slice(), *since_epoch));
        let receipts = writer.record_all(bodies);
        let mut top = self.lock();
        for (at, (ticket, ..)) in group.iter().enumerate() {
            let receipt = receipts.as_ref().ok().and_then(|receipts| receipts.get(at).cloned());
            top.group.done.insert(*ticket, receipt.ok_or(AuditUnavailable));
        }
    }

    /// Takes a body that may wait.
    pub(super) fn follow_up(&self, body: &[u8]) {
        let mut top = self.lock();
        let now = since_epoch();
        let Some(writer) = &mut top.writer else {
            return top.put_aside(now, body);
        };
        writer.follow_up(body, now);
        if !writer.is_full() {
            return self.wake_keeper(&mut top);
        }
        drop(top);
        // Without the writer it waits for whoever has it.
        let _ = self.with(Bar::Passed, |writer| writer.flush(since_epoch()));
    }

    /// Lends the writer out. Waits for it for a while, but not for one that is stuck.
    pub(super) fn with<T>(
        &self,
        bar: Bar,
        act: impl FnOnce(&mut Writer) -> T,
    ) -> Result<T, AuditUnavailable> {
        let mut pen = Pen { desk: self, writer: Some(self.take(bar)?) };
        pen.writer.as_deref_mut().map(act).ok_or(AuditUnavailable)
    }

    fn take(&self, bar: Bar) -> Result<Box<Writer>, AuditUnavailable> {
        let mut top = self.lock();
        if bar == Bar::Minded && top.barred.is_some() {
            top.refused += 1;
            return Err(AuditUnavailable);
        }
        let mut deadline = None;
        loop {
            if let Some(writer) = top.writer.take() {
                top.taken_at = Instant::now();
                return Ok(writer);
            }
            let now = Instant::now();
            let mine = *deadline.get_or_insert(now + PATIENCE);
            let left = mine.min(top.taken_at + PATIENCE).saturating_duration_since(now);
            if left.is_zero() {
                top.refused += u64::from(bar == Bar::Minded);
                return Err(AuditUnavailable);
            }
            top.waiting += 1;
            let waited = self.back.wait_timeout(top, left);
            top = waited.unwrap_or_else(PoisonError::into_inner).0;
            top.waiting -= 1;
        }
    }

    fn put_back(&self, mut writer: Box<Writer>) {
        let mut top = self.lock();
        let (refused, lost) = (std::mem::take(&mut top.refused), std::mem::take(&mut top.lost));
        if refused > 0 {
            writer.count_refused(refused);
        }
        if lost > 0 {
            writer.count_lost(lost);
        }
        top.aside_bytes = 0;
        for (since_epoch, body) in std::mem::take(&mut top.aside) {
            writer.follow_up(&body, since_epoch);
        }
        top.end = writer.end();
        top.writer = Some(writer);
        if top.waiting > 0 {
            self.back.notify_all();
        }
        self.wake_keeper(&mut top);
    }

    /// Whether the writer has been away for longer than anybody waits.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_away() && self.lock().taken_at.elapsed() >= PATIENCE
    }

    /// Whether somebody has the writer at the moment.
    pub(super) fn is_away(&self) -> bool {
        self.lock().writer.is_none()
    }

    /// Refuses all records, or takes them again.
    pub(super) fn bar(&self, why: Option<&'static str>) {
        let before = std::mem::replace(&mut self.lock().barred, why);
        match (before, why) {
            (None, Some(why)) => tracing::error!("{why}; nothing passes until this is over"),
            (Some(_), None) => tracing::info!("the audit log can be trusted again"),
            _ => {}
        }
    }

    /// Says that the checkpoint covers all lines before this one.
    pub(super) fn sealed(&self, next_seq: u64) {
        let mut top = self.lock();
        top.sealed_seq = next_seq;
        top.seal_called = false;
    }

    /// How far the file goes.
    pub(super) fn end(&self) -> End {
        self.lock().end
    }

    /// Waits until there is something to do, and then for a second or 1,024 lines, so that a busy
    /// log is not sealed line by line.
    pub(super) fn await_duty(&self) -> Duty {
        let mut top = self.lock();
        top.keeper_sleeps = top.is_settled();
        let idle = |top: &mut Top| top.keeper_sleeps && !top.stopping;
        top = self.wake.wait_while(top, idle).unwrap_or_else(PoisonError::into_inner);
        let early = |top: &mut Top| !top.stopping && !top.is_seal_due();
        let waited = self.wake.wait_timeout_while(top, SETTLE_AFTER, early);
        top = waited.unwrap_or_else(PoisonError::into_inner).0;
        if top.stopping { Duty::Last } else { Duty::Settle }
    }

    /// Tells the keeper, and whoever else waits for it, that this is the end.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_all();
    }

    /// Sleeps until this is the end, or for a while; says whether it is the end.
    pub(super) fn sleep(&self, most: Duration) -> bool {
        let top = self.lock();
        let waited = self.wake.wait_timeout_while(top, most, |top| !top.stopping);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }

    fn wake_keeper(&self, top: &mut Top) {
        if top.keeper_sleeps && !top.is_settled() {
            top.keeper_sleeps = false;
            self.wake.notify_all();
        } else if !top.seal_called && top.is_seal_due() {
            top.seal_called = true;
            self.wake.notify_all();
        }
    }

    /// A poisoned lock is taken like any: nothing that can panic is done under it.
    fn lock(&self) -> MutexGuard<'_, Top> {
        self.top.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Top {
    fn put_aside(&mut self, since_epoch: Duration, body: &[u8]) {
        if self.aside_bytes + body.len() > MAX_ASIDE_BYTES {
            self.lost += 1;
        } else {
            self.aside_bytes += body.len();
            self.aside.push((since_epoch, body.to_vec()));
        }
    }

    fn is_settled(&self) -> bool {
        let is_settled = self.writer.as_ref().is_some_and(|writer| writer.is_settled());
        is_settled && self.sealed_seq == self.end.next_seq && self.barred.is_none()
    }

    fn is_seal_due(&self) -> bool {
        self.end.next_seq - self.sealed_seq >= LINES_PER_CHECKPOINT
    }
}

/// Whether a bar counts for whoever takes the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bar {
    Minded,
    /// For what must be done before the bar can be lifted.
    Passed,
}

/// The writer, in somebody's hand. It goes back when it is dropped, also by a panic.
pub(super) struct Pen<'a> {
    desk: &'a Desk,
    writer: Option<Box<Writer>>,
}

impl Drop for Pen<'_> {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.desk.put_back(writer);
        }
    }
}

/// The wall clock; a clock before 1970 reads as 1970.
pub(super) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::sync::{Arc, Mutex};
    use std::thread;

    use serde_json::Value;
    use uuid::Uuid;

    use super::{Bar, Desk, since_epoch};
    use crate::audit::event::AuditUnavailable;
    use crate::audit::line::{Facts, GateFacts};
    use crate::audit::writer::{Mode, Storage, Writer};

    /// Says when a write begins, and ends it when it is told to.
    struct Sticky {
        begun: Sender<()>,
        leave: Receiver<()>,
        bytes: Arc<Mutex<Vec<u8>>>,
    }

    impl Storage for Sticky {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            // Once the test has ended nobody listens, and nobody holds us up.
            let _ = self.begun.send(());
            let _ = self.leave.recv();
            self.bytes.lock().unwrap().extend_from_slice(bytes);
            Ok(())
        }

        fn cut(&mut self, _length: u64) -> io::Result<()> {
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Bench {
        desk: Desk,
        begun: Receiver<()>,
        leave: Sender<()>,
        bytes: Arc<Mutex<Vec<u8>>>,
    }

    impl Bench {
        fn set_up(mode: Mode) -> Self {
            let ((tell, begun), (leave, permission)) = (mpsc::channel(), mpsc::channel());
            let bytes = Arc::new(Mutex::new(Vec::new()));
            let gate = GateFacts {
                name: "gate".to_owned(),
                instance: Uuid::nil(),
                policy_id: "sha256:00".to_owned(),
                policy_name: "readonly".to_owned(),
            };
            let storage = Sticky { begun: tell, leave: permission, bytes: Arc::clone(&bytes) };
            let facts = Facts::of_process(&gate);
            let writer = Writer::new(Box::new(storage), 0, 0, mode, facts);
            Self { desk: Desk::new(writer), begun, leave, bytes }
        }

        fn messages(&self) -> Vec<String> {
            let bytes = self.bytes.lock().unwrap();
            let lines = std::str::from_utf8(&bytes).unwrap().lines();
            let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
            let lines: Vec<Value> = lines.collect();
            assert!(lines.iter().enumerate().all(|(at, line)| line["seq"] == at));
            lines.iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
        }
    }

    fn body(message: &str) -> Vec<u8> {
        format!(r#","message":"{message}"}}"#).into_bytes()
    }

    #[test]
    fn while_one_write_is_stuck_all_others_are_refused_and_nothing_of_theirs_is_written() {
        let bench = Bench::set_up(Mode::Written);
        thread::scope(|scope| {
            let stuck = scope.spawn(|| bench.desk.record(&body("stuck")));
            bench.begun.recv().unwrap();

            assert_eq!(bench.desk.record(&body("waited in vain")), Err(AuditUnavailable));
            assert!(bench.desk.is_stuck());
            assert_eq!(bench.desk.record(&body("did not wait")), Err(AuditUnavailable));
            bench.desk.follow_up(&body("a result"));

            bench.leave.send(()).unwrap();
            assert!(stuck.join().unwrap().is_ok());
        });

        assert!(!bench.desk.is_stuck());
        bench.leave.send(()).unwrap();
        bench.desk.record(&body("after")).unwrap();
        let told = "the log can be written again; 2 records were refused and 0 results lost";
        // The result had its number before the loss was told.
        assert_eq!(bench.messages(), ["stuck", "a result", told, "after"]);
    }

    #[test]
    fn records_that_wait_for_the_disk_together_are_written_together() {
        let bench = Bench::set_up(Mode::Durable);
        thread::scope(|scope| {
            let first = scope.spawn(|| bench.desk.record_in_group(body("first")));
            bench.begun.recv().unwrap();
            let others = ["second", "third"].map(|name| {
                let desk = &bench.desk;
                scope.spawn(move || desk.record_in_group(body(name)))
            });
            while bench.desk.lock().group.waiting.len() < 2 {
                thread::yield_now();
            }

            bench.leave.send(()).unwrap();
            bench.leave.send(()).unwrap();

            assert!(first.join().unwrap().is_ok());
            assert!(others.into_iter().all(|other| other.join().unwrap().is_ok()));
        });

        // One write for the first, one for the others.
        assert_eq!(bench.begun.try_iter().count(), 1);
        assert_eq!(bench.messages().len(), 3);
    }

    #[test]
    fn a_barred_log_takes_no_records_until_the_bar_is_lifted() {
        let bench = Bench::set_up(Mode::Written);
        drop(bench.leave);
        bench.desk.bar(Some("the log is gone"));

        assert_eq!(bench.desk.record(b"}"), Err(AuditUnavailable));
        assert!(bench.desk.with(Bar::Passed, |writer| writer.flush(since_epoch())).is_ok());
        bench.desk.bar(None);

        assert!(bench.desk.record(b"}").is_ok());
    }
}
