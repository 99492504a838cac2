//! What becomes of closed segments: compressed at once, removed when their time is over or their
//! room is needed.
//!
//! Compressing changes the file and no line: leaves of the tree stay the bytes of the lines. Of a
//! removed segment the boundary stays, so that what is left can be proved to be the rest of the
//! same log.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::audit::event::{Decision, Entry, Kind};
use crate::audit::files::{self, Form, Segment};
use crate::audit::keeping::Keeping;
use crate::audit::process::Process;

/// zstd's own default: a seventh of the size at 300 MB/s.
const LEVEL: i32 = 3;

/// Looks after closed segments, one round at a time, on a thread of its own.
pub(super) struct Archivist {
    process: Arc<Process>,
    keeping: Keeping,
    round: Option<JoinHandle<()>>,
}

impl Archivist {
    pub(super) const fn new(process: Arc<Process>, keeping: Keeping) -> Self {
        Self { process, keeping, round: None }
    }

    /// Begins a round, unless one is under way, which leaves the rest to the next.
    pub(super) fn look_after(&mut self, dir: &Path) {
        if self.round.as_ref().is_some_and(|round| !round.is_finished()) {
            return;
        }
        self.finish();
        let (dir, keeping, process) = (dir.to_owned(), self.keeping, Arc::clone(&self.process));
        let work = move || {
            if let Err(error) = tidy(&dir, &keeping, &process) {
                tracing::warn!(%error, "old segments of the audit log could not be looked after");
            }
        };
        self.round = thread::Builder::new().name("audit-archivist".to_owned()).spawn(work).ok();
    }

    /// Waits for the round that is under way.
    pub(super) fn finish(&mut self) {
        if let Some(round) = self.round.take() {
            // It has nothing to say; if it panicked, the process has said so.
            let _ = round.join();
        }
    }
}

fn tidy(dir: &Path, keeping: &Keeping, process: &Process) -> io::Result<()> {
    let segments = files::segments(dir).map_err(io::Error::other)?;
    let Some((newest, closed)) = segments.split_last() else { return Ok(()) };
    for segment in closed {
        compress(dir, segment)?;
    }
    let segments = files::segments(dir).map_err(io::Error::other)?;
    let closed = segments.iter().filter(|segment| segment.first_seq < newest.first_seq);
    remove_old(closed, newest, keeping, process)
}

fn compress(dir: &Path, segment: &Segment) -> io::Result<()> {
    let plain = files::plain_path(dir, segment.first_seq);
    if segment.form == Form::Plain {
        let path = files::compressed_path(dir, segment.first_seq);
        let beside = path.with_added_extension("new");
        let mut encoder = zstd::Encoder::new(File::create(&beside)?, LEVEL)?;
        io::copy(&mut File::open(&plain)?, &mut encoder)?;
        let mut file = encoder.finish()?;
        file.flush()?;
        file.sync_all()?;
        if hash_of(zstd::Decoder::new(File::open(&beside)?)?)? != hash_of(File::open(&plain)?)? {
            return Err(io::Error::other("a compressed segment does not read back"));
        }
        fs::rename(&beside, &path)?;
        File::open(dir)?.sync_all()?;
    }
    match fs::remove_file(&plain) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn hash_of(mut from: impl Read) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(piece.get(..count).unwrap_or_default()),
        }
    }
}

/// Removes segments from the oldest on. That they go is in the log before they go.
fn remove_old<'a>(
    closed: impl Iterator<Item = &'a Segment>,
    newest: &Segment,
    keeping: &Keeping,
    process: &Process,
) -> io::Result<()> {
    let closed: Vec<(&Segment, fs::Metadata)> = closed
        .map(|segment| Ok((segment, fs::metadata(&segment.path)?)))
        .collect::<io::Result<_>>()?;
    let mut total: u64 = closed.iter().map(|(_, file)| file.len()).sum();
    total += fs::metadata(&newest.path)?.len();
    warn_of_bound(total, keeping);
    for (at, (segment, file)) in closed.iter().enumerate() {
        let age = file.modified()?.elapsed().unwrap_or(Duration::ZERO);
        let is_over = keeping.keep.is_some_and(|keep| age > keep);
        let is_too_much = keeping.max_bytes.is_some_and(|most| total > most);
        if !is_over && !is_too_much {
            break;
        }
        let next = closed.get(at + 1).map_or(newest.first_seq, |(next, _)| next.first_seq);
        let why = if is_over { "they are older than `keep`" } else { "of `max_bytes`" };
        let first = segment.first_seq;
        let message = format!(
            "lines {first} to {} are removed because {why}; the checkpoint behind them stays",
            next.saturating_sub(1)
        );
        let entry = Entry::plain(Kind::AuditRotated, Decision::None, &message);
        process.record(&entry).map_err(io::Error::other)?;
        fs::remove_file(&segment.path)?;
        total -= file.len();
    }
    Ok(())
}

fn warn_of_bound(total: u64, keeping: &Keeping) {
    let Some(most) = keeping.max_bytes.filter(|most| *most > 0) else { return };
    let percent = total.saturating_mul(100) / most;
    if percent >= 80 {
        let near = if percent >= 90 { "90" } else { "80" };
        tracing::warn!(bytes = total, max_bytes = most, "the audit log is {near} % of its bound");
    }
}
