//! The thread behind the log: everything that no statement should pay for.
//!
//! It flushes what waits, hashes what has been written, has it put on the disk, and only then signs
//! a checkpoint for it: data that a power loss can take away must not be signed for. It begins new
//! segments, and has old ones compressed and removed. What it reads is the file, not a copy in
//! memory, so it notices when the file is not what was written.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::audit::archive::Archivist;
use crate::audit::desk::{Bar, Desk, Duty, since_epoch};
use crate::audit::event::AuditUnavailable;
use crate::audit::files;
use crate::audit::keeping::Keeping;
use crate::audit::merkle::{Edge, leaf_hash};
use crate::audit::note::{Extension, Signer};
use crate::audit::segment;
use crate::audit::writer::End;

/// How much is read at a time: 256 KiB.
const READ_BYTES: u64 = 256 * 1024;

/// How long nothing is tried again that has just failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The name of a segment that is not yet one.
const NEXT: &str = "segment.new";

/// The keeper and all it knows.
pub(super) struct Keeper {
    dir: PathBuf,
    desk: Arc<Desk>,
    signer: Signer,
    keeping: Keeping,
    archivist: Archivist,
    /// The tree of the lines that have been read.
    edge: Edge,
    /// What is not sealed to its end, oldest first; the last one is being written.
    segments: VecDeque<Followed>,
    opened_at: Instant,
}

/// A segment that is read while it is written.
struct Followed {
    file: File,
    path: PathBuf,
    /// How far it has been read.
    offset: u64,
    /// Where it ends, once it is closed.
    closed: Option<End>,
}

/// Why a checkpoint could not be made.
#[derive(Debug, thiserror::Error)]
enum SealError {
    #[error("the audit log has been moved away, removed or cut")]
    Gone,
    #[error("the disk does not keep the audit log")]
    Sync(#[source] io::Error),
    #[error("a checkpoint could not be written")]
    Checkpoint(#[source] io::Error),
}

/// What the keeper starts from.
pub(super) struct Start {
    pub(super) dir: PathBuf,
    pub(super) file: File,
    pub(super) first_seq: u64,
    pub(super) length: u64,
    pub(super) edge: Edge,
    pub(super) signer: Signer,
}

impl Keeper {
    pub(super) fn new(
        start: Start,
        desk: Arc<Desk>,
        keeping: Keeping,
        archivist: Archivist,
    ) -> Self {
        let path = files::plain_path(&start.dir, start.first_seq);
        let newest = Followed { file: start.file, path, offset: start.length, closed: None };
        Self {
            dir: start.dir,
            desk,
            signer: start.signer,
            keeping,
            archivist,
            edge: start.edge,
            segments: VecDeque::from([newest]),
            opened_at: Instant::now(),
        }
    }

    /// The keeper's life.
    pub(super) fn run(mut self) {
        self.archivist.look_after(&self.dir);
        loop {
            let duty = self.desk.await_duty();
            // If somebody is stuck with the writer, what is written can still be sealed.
            let _ = self.desk.with(Bar::Passed, |writer| writer.flush(since_epoch()));
            let sealed = self.seal();
            self.tell(&sealed);
            if duty == Duty::Last {
                break;
            }
            if sealed.is_err() {
                self.desk.sleep(RETRY_AFTER);
            } else if let Err(error) = self.rotate_if_due() {
                tracing::warn!(%error, "no new segment of the audit log; going on in the old one");
                self.desk.sleep(RETRY_AFTER);
            }
        }
        self.archivist.finish();
    }

    /// A log that cannot be trusted takes no more records. One that only lacks room for a
    /// checkpoint does: its lines are on the disk.
    fn tell(&self, sealed: &Result<(), SealError>) {
        match sealed {
            Ok(()) => self.desk.bar(None),
            Err(SealError::Checkpoint(error)) => {
                tracing::warn!(%error, "no checkpoint of the audit log could be written");
            }
            Err(SealError::Gone) => {
                self.desk.bar(Some("the audit log has been moved away, removed or cut"));
            }
            Err(error @ SealError::Sync(cause)) => {
                tracing::error!(%cause, "{error}");
                self.desk.bar(Some("the disk does not keep the audit log"));
            }
        }
    }

    /// Signs for everything that is written.
    fn seal(&mut self) -> Result<(), SealError> {
        while let Some(oldest) = self.segments.front_mut() {
            let end = oldest.closed.unwrap_or_else(|| self.desk.end());
            oldest.check_place()?;
            if self.edge.size() < end.next_seq {
                let (edge, offset) = oldest.read_to(end, self.edge.clone())?;
                oldest.file.sync_data().map_err(SealError::Sync)?;
                segment::write_checkpoints(&self.dir, &self.signer, &edge)
                    .map_err(SealError::Checkpoint)?;
                (self.edge, oldest.offset) = (edge, offset);
                self.desk.sealed(end.next_seq);
            }
            if oldest.closed.is_none() {
                break;
            }
            self.sign_boundary().map_err(SealError::Checkpoint)?;
            self.segments.pop_front();
            self.archivist.look_after(&self.dir);
        }
        Ok(())
    }

    /// Signs for the place at which the next segment begins, so that it can be checked without
    /// those before it.
    fn sign_boundary(&self) -> io::Result<()> {
        let path = files::boundary_path(&self.dir, self.edge.size());
        files::replace(&path, &self.signer.sign(&self.edge, Extension::Edge))?;
        File::open(&self.dir)?.sync_all()
    }

    fn rotate_if_due(&mut self) -> io::Result<()> {
        let is_long = self.desk.end().length >= self.keeping.segment_bytes;
        let is_old = self.opened_at.elapsed() >= self.keeping.segment_age;
        let has_lines = self.desk.end().length > 0;
        if has_lines && (is_long || is_old) { self.rotate() } else { Ok(()) }
    }

    /// Begins a segment. All that is done with the writer in hand is a flush and a rename.
    fn rotate(&mut self) -> io::Result<()> {
        let beside = self.dir.join(NEXT);
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = segment::append_to(&beside)?;
        let reading = file.try_clone()?;
        let dir = self.dir.as_path();
        let moved = self.desk.with(Bar::Passed, |writer| {
            writer.flush(since_epoch());
            if !writer.is_settled() {
                return Err(io::Error::other(AuditUnavailable));
            }
            let end = writer.end();
            fs::rename(&beside, files::plain_path(dir, end.next_seq))?;
            writer.switch(Box::new(file));
            Ok(end)
        });
        let end = moved.map_err(io::Error::other)??;
        if let Some(closed) = self.segments.back_mut() {
            closed.closed = Some(end);
        }
        let path = files::plain_path(&self.dir, end.next_seq);
        self.segments.push_back(Followed { file: reading, path, offset: 0, closed: None });
        self.opened_at = Instant::now();
        // The name must be on the disk before a line behind it is signed for.
        File::open(&self.dir)?.sync_all()
    }
}

impl Followed {
    /// Whether the file still has its name.
    fn check_place(&self) -> Result<(), SealError> {
        let place = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
        let own = self.file.metadata().map(|own| (own.dev(), own.ino())).ok();
        if own.is_some() && own == place(&self.path) { Ok(()) } else { Err(SealError::Gone) }
    }

    /// Adds what was written up to `end` to the tree; returns the tree and how far that was.
    fn read_to(&self, end: End, mut edge: Edge) -> Result<(Edge, u64), SealError> {
        let mut offset = self.offset;
        let mut piece = Vec::new();
        while offset < end.length {
            let held = piece.len();
            let count = (end.length - offset).min(READ_BYTES);
            piece.resize(held + usize::try_from(count).unwrap_or(0), 0);
            let fresh = piece.get_mut(held..).unwrap_or_default();
            self.file.read_exact_at(fresh, offset).map_err(|_| SealError::Gone)?;
            offset += count;
            let whole = memchr::memrchr(b'\n', &piece).map_or(0, |newline| newline + 1);
            for line in files::lines_of(piece.get(..whole).unwrap_or_default()) {
                edge.push(leaf_hash(line));
            }
            piece.drain(..whole);
        }
        if piece.is_empty() && edge.size() == end.next_seq {
            Ok((edge, offset))
        } else {
            Err(SealError::Gone)
        }
    }
}
