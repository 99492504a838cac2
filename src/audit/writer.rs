//! The end of a segment: numbers lines, and appends them whole or not at all.
//!
//! Lines collect in one buffer and leave it in one write. A line gets its sequence number when it
//! enters the buffer, so the order in the file is the order of the numbers. When a write fails, the
//! file is cut back to its last good length, the entry that asked for the write is forgotten
//! together with its number, and results that were waiting wait on: no number is ever lost or
//! used twice.
//!
//! INVARIANT: `pending` holds whole lines, numbered up to `next_seq`, none of which is in the file;
//! the file holds `length` bytes of whole lines, or `torn` is true.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use uuid::{ContextV7, Timestamp, Uuid};

use crate::audit::event::{AuditUnavailable, Decision, Entry, Kind, Receipt};
use crate::audit::line::{Facts, SecondText, push_body, push_head};
use crate::audit::redact::SqlText;
use crate::policy::reason::Reason;

/// From this many bytes on, results do not wait for the next record.
const FLUSH_BYTES: usize = 64 * 1024;

/// Most bytes of results that wait while the log cannot be written: 1 MiB, some 2,000 results.
const MAX_PENDING_BYTES: usize = 1024 * 1024;

/// When a record counts as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// When it is on the disk: survives a power loss.
    Durable,
    /// When the operating system has it: survives the death of the process.
    #[default]
    Written,
}

/// What a segment is on: a file that grows at its end.
pub(super) trait Storage: Send {
    /// Appends all of `bytes`, or fails after a part of them.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// Returns when everything is on the disk.
    fn sync(&mut self) -> io::Result<()>;
}

impl Storage for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        // One write(2), unless the system takes only a part.
        self.write_all(bytes)?;
        // A file that has lost its name takes every line and keeps none.
        if self.metadata()?.nlink() == 0 { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Whether the last write succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Good,
    /// What could not be written since.
    Failing {
        refused: u64,
        lost: u64,
    },
}

/// How far a segment has been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    /// Its length in bytes.
    pub(super) length: u64,
    /// The number behind its last line.
    pub(super) next_seq: u64,
}

/// The one place from which the log is written.
pub(super) struct Writer {
    storage: Box<dyn Storage>,
    length: u64,
    torn: bool,
    next_seq: u64,
    /// The number behind the last line in the file.
    written_seq: u64,
    pending: Vec<u8>,
    mode: Mode,
    health: Health,
    process: Facts,
    second: SecondText,
    ids: ContextV7,
}

impl Writer {
    /// Goes on at the end of a segment of `length` good bytes.
    pub(super) fn new(
        storage: Box<dyn Storage>,
        length: u64,
        next_seq: u64,
        mode: Mode,
        process: Facts,
    ) -> Self {
        Self {
            storage,
            length,
            torn: false,
            next_seq,
            written_seq: next_seq,
            pending: Vec::with_capacity(FLUSH_BYTES),
            mode,
            health: Health::Good,
            process,
            second: SecondText::default(),
            ids: ContextV7::new(),
        }
    }

    /// Writes a body, and everything that waits, before it returns.
    pub(super) fn record(
        &mut self,
        body: &[u8],
        since_epoch: Duration,
    ) -> Result<Receipt, AuditUnavailable> {
        let receipts = self.record_all(std::iter::once((body, since_epoch)))?;
        receipts.into_iter().next().ok_or(AuditUnavailable)
    }

    /// Writes bodies, each with its time, and everything that waits, at once: all or none.
    pub(super) fn record_all<'a>(
        &mut self,
        bodies: impl Iterator<Item = (&'a [u8], Duration)>,
    ) -> Result<Vec<Receipt>, AuditUnavailable> {
        let (length, seq) = (self.pending.len(), self.next_seq);
        let mut receipts = Vec::new();
        for (body, since_epoch) in bodies {
            if receipts.is_empty() {
                self.note_recovery(since_epoch);
            }
            receipts.push(Receipt { event: self.push(body, since_epoch).to_string() });
        }
        match self.write_out() {
            Ok(()) => Ok(receipts),
            Err(error) => {
                self.pending.truncate(length);
                self.next_seq = seq;
                self.fail(&error);
                self.count(|refused, _| *refused += receipts.len() as u64);
                Err(AuditUnavailable)
            }
        }
    }

    /// Takes a body that may wait, and does not touch the file.
    pub(super) fn follow_up(&mut self, body: &[u8], since_epoch: Duration) {
        if self.pending.len() + body.len() > MAX_PENDING_BYTES {
            self.count_lost(1);
        } else {
            self.push(body, since_epoch);
        }
    }

    /// Whether so much waits that it should not wait for the next record.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= FLUSH_BYTES && self.health == Health::Good
    }

    /// Takes note of records that were refused while this writer was stuck in a write.
    pub(super) fn count_refused(&mut self, records: u64) {
        self.falter();
        self.count(|refused, _| *refused += records);
    }

    /// Takes note of results that nobody could take.
    pub(super) fn count_lost(&mut self, results: u64) {
        self.falter();
        self.count(|_, lost| *lost += results);
    }

    /// What of the segment is in the file.
    pub(super) const fn end(&self) -> End {
        End { length: self.length, next_seq: self.written_seq }
    }

    /// Goes on in another, empty segment. Nothing may be waiting.
    pub(super) fn switch(&mut self, storage: Box<dyn Storage>) {
        debug_assert!(self.pending.is_empty() && !self.torn);
        self.storage = storage;
        self.length = 0;
    }

    /// Writes everything that waits. Finds out, too, whether a log that could not be written can
    /// be written again.
    pub(super) fn flush(&mut self, since_epoch: Duration) {
        let (length, seq) = (self.pending.len(), self.next_seq);
        self.note_recovery(since_epoch);
        if let Err(error) = self.write_out() {
            self.pending.truncate(length);
            self.next_seq = seq;
            self.fail(&error);
        }
    }

    /// Whether a [`flush`](Self::flush) would change nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.health == Health::Good
    }

    fn push(&mut self, body: &[u8], since_epoch: Duration) -> Uuid {
        let (secs, nanos) = (since_epoch.as_secs(), since_epoch.subsec_nanos());
        let id = Uuid::new_v7(Timestamp::from_unix(&self.ids, secs, nanos));
        push_head(self.next_seq, since_epoch, id, &mut self.second, &mut self.pending);
        self.pending.extend_from_slice(body);
        self.pending.push(b'\n');
        self.next_seq += 1;
        id
    }

    /// The first line after a failure tells the auditor what is not in the log.
    fn note_recovery(&mut self, since_epoch: Duration) {
        let Health::Failing { refused, lost } = self.health else {
            return;
        };
        let message = format!(
            "the log can be written again; {refused} records were refused and {lost} results lost"
        );
        let entry = Entry {
            reason: Some(Reason::AuditUnavailable),
            ..Entry::plain(Kind::GateRecovered, Decision::Error, &message)
        };
        let mut body = Vec::new();
        push_body(&entry, SqlText::Off, &self.process, None, &mut body);
        self.push(&body, since_epoch);
    }

    fn write_out(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.mend()?;
        if let Err(error) = self.append() {
            self.torn = true;
            // A failure here is met again, and told, before the next write.
            let _ = self.mend();
            return Err(error);
        }
        self.length += self.pending.len() as u64;
        self.written_seq = self.next_seq;
        self.pending.clear();
        self.pending.shrink_to(FLUSH_BYTES);
        if self.health != Health::Good {
            self.health = Health::Good;
            tracing::info!("the audit log can be written again");
        }
        Ok(())
    }

    fn append(&mut self) -> io::Result<()> {
        self.storage.append(&self.pending)?;
        match self.mode {
            Mode::Durable => self.storage.sync(),
            Mode::Written => Ok(()),
        }
    }

    /// Cuts off what a failed write has left.
    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.storage.cut(self.length)?;
            self.torn = false;
        }
        Ok(())
    }

    fn fail(&mut self, error: &io::Error) {
        if self.health == Health::Good {
            tracing::error!(%error, "the audit log cannot be written; nothing passes until it can");
        }
        self.falter();
    }

    fn falter(&mut self) {
        if self.health == Health::Good {
            self.health = Health::Failing { refused: 0, lost: 0 };
        }
    }

    fn count(&mut self, add: impl FnOnce(&mut u64, &mut u64)) {
        if let Health::Failing { refused, lost } = &mut self.health {
            add(refused, lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use serde_json::Value;
    use uuid::Uuid;

    use super::{FLUSH_BYTES, MAX_PENDING_BYTES, Mode, Storage, Writer};
    use crate::audit::event::AuditUnavailable;
    use crate::audit::line::{Facts, GateFacts};

    const NOW: Duration = Duration::new(1_795_514_400, 0);

    /// A disk with so much room, whose faults the test chooses.
    #[derive(Default)]
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
        cut_fails: bool,
        sync_fails: bool,
        appends: usize,
    }

    #[derive(Clone, Default)]
    struct SharedDisk(Arc<Mutex<Disk>>);

    impl SharedDisk {
        fn set(&self, change: impl FnOnce(&mut Disk)) {
            change(&mut self.0.lock().unwrap());
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().bytes.clone()).unwrap()
        }

        fn lines(&self) -> Vec<Value> {
            let text = self.text();
            assert!(text.is_empty() || text.ends_with('\n'), "torn: {text}");
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }

        /// What each line says, after a check that no number is missing.
        fn messages(&self) -> Vec<String> {
            let lines = self.lines();
            for (at, line) in lines.iter().enumerate() {
                assert_eq!(line["seq"], at);
            }
            lines.iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
        }
    }

    impl Storage for SharedDisk {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            let mut disk = self.0.lock().unwrap();
            disk.appends += 1;
            let taken = bytes.len().min(disk.room);
            disk.room -= taken;
            disk.bytes.extend_from_slice(&bytes[..taken]);
            if taken < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }

        fn cut(&mut self, length: u64) -> io::Result<()> {
            let mut disk = self.0.lock().unwrap();
            if disk.cut_fails {
                return Err(io::ErrorKind::Other.into());
            }
            disk.bytes.truncate(usize::try_from(length).unwrap());
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            if self.0.lock().unwrap().sync_fails {
                return Err(io::ErrorKind::Other.into());
            }
            Ok(())
        }
    }

    fn body(message: &str) -> Vec<u8> {
        format!(r#","message":"{message}"}}"#).into_bytes()
    }

    fn writer(mode: Mode, room: usize) -> (Writer, SharedDisk) {
        let disk = SharedDisk::default();
        disk.set(|disk| disk.room = room);
        let gate = GateFacts {
            name: "gate".to_owned(),
            instance: Uuid::nil(),
            policy_id: "sha256:00".to_owned(),
            policy_name: "readonly".to_owned(),
        };
        let process = Facts::of_process(&gate);
        (Writer::new(Box::new(disk.clone()), 0, 0, mode, process), disk)
    }

    #[test]
    fn results_go_out_before_the_next_record_in_one_write() {
        let (mut writer, disk) = writer(Mode::Written, usize::MAX);
        writer.follow_up(&body("first"), NOW);
        writer.follow_up(&body("second"), NOW);
        assert!(disk.lines().is_empty());

        let receipt = writer.record(&body("third"), NOW).unwrap();

        assert_eq!(disk.messages(), ["first", "second", "third"]);
        assert_eq!(disk.lines()[2]["id"], receipt.event);
        assert_eq!(disk.0.lock().unwrap().appends, 1);
        assert!(writer.is_settled());
    }

    #[test]
    fn many_results_do_not_wait_for_a_record() {
        let (mut writer, disk) = writer(Mode::Written, usize::MAX);
        let long = "x".repeat(FLUSH_BYTES / 2);

        writer.follow_up(&body(&long), NOW);
        assert!(!writer.is_full());
        writer.follow_up(&body(&long), NOW);

        assert!(writer.is_full());
        writer.flush(NOW);
        assert_eq!(disk.lines().len(), 2);
    }

    #[test]
    fn a_full_disk_refuses_records_leaves_no_torn_line_and_records_resume_with_space() {
        let (mut writer, disk) = writer(Mode::Written, 300);
        writer.record(&body("before"), NOW).unwrap();
        writer.follow_up(&body("result"), NOW);
        disk.set(|disk| disk.room = 200);

        assert_eq!(writer.record(&body("refused"), NOW), Err(AuditUnavailable));
        assert_eq!(writer.record(&body("refused"), NOW), Err(AuditUnavailable));
        assert_eq!(disk.messages(), ["before"]);

        disk.set(|disk| disk.room = usize::MAX);
        writer.record(&body("after"), NOW).unwrap();

        let told = "the log can be written again; 2 records were refused and 0 results lost";
        assert_eq!(disk.messages(), ["before", "result", told, "after"]);
        assert_eq!(disk.lines()[2]["kind"], "gate.recovered");
    }

    #[test]
    fn a_tail_that_cannot_be_cut_is_repaired_before_the_next_write() {
        let (mut writer, disk) = writer(Mode::Written, 10);
        disk.set(|disk| disk.cut_fails = true);
        assert_eq!(writer.record(&body("torn"), NOW), Err(AuditUnavailable));
        assert_eq!(disk.text().len(), 10);

        disk.set(|disk| disk.room = usize::MAX);
        assert_eq!(writer.record(&body("still torn"), NOW), Err(AuditUnavailable));
        assert_eq!(disk.text().len(), 10);

        disk.set(|disk| disk.cut_fails = false);
        writer.record(&body("good"), NOW).unwrap();
        assert_eq!(disk.messages().last().unwrap(), "good");
        assert_eq!(disk.messages().len(), 2);
    }

    #[test]
    fn a_durable_record_that_does_not_reach_the_disk_is_refused_and_gone() {
        let (mut writer, disk) = writer(Mode::Durable, usize::MAX);
        disk.set(|disk| disk.sync_fails = true);

        assert_eq!(writer.record(&body("lost"), NOW), Err(AuditUnavailable));

        assert!(disk.lines().is_empty());
        disk.set(|disk| disk.sync_fails = false);
        writer.record(&body("kept"), NOW).unwrap();
        assert_eq!(disk.messages().last().unwrap(), "kept");
    }

    #[test]
    fn results_wait_up_to_a_bound_and_the_log_says_how_many_it_lost() {
        let (mut writer, disk) = writer(Mode::Written, 0);
        assert_eq!(writer.record(&body("refused"), NOW), Err(AuditUnavailable));
        let long = "x".repeat(MAX_PENDING_BYTES / 2 - 1024);
        for _ in 0..4 {
            writer.follow_up(&body(&long), NOW);
        }
        assert_eq!(writer.record(&body("refused"), NOW), Err(AuditUnavailable));

        disk.set(|disk| disk.room = usize::MAX);
        writer.flush(NOW);

        let messages = disk.messages();
        assert_eq!(messages.len(), 3);
        assert_eq!(
            messages[2],
            "the log can be written again; 2 records were refused and 2 results lost"
        );
        assert!(writer.is_settled());
    }

    #[test]
    fn a_flush_that_fails_loses_nothing() {
        let (mut writer, disk) = writer(Mode::Written, 50);
        writer.follow_up(&body("result"), NOW);

        writer.flush(NOW);
        writer.flush(NOW);

        assert!(disk.lines().is_empty());
        assert!(!writer.is_settled());
        disk.set(|disk| disk.room = usize::MAX);
        writer.flush(NOW);
        assert_eq!(disk.messages()[0], "result");
        assert_eq!(disk.messages().len(), 2);
    }
}
