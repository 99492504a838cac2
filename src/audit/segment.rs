//! The files of the log: found, checked and repaired on start.
//!
//! `audit-<first seq>.jsonl`, the number with leading zeros so that names sort as numbers do; the
//! newest is written on. Only what a crash can leave is repaired: a last line without its end.
//! Whatever else is not as it must be was somebody's doing, so the log is not opened and the
//! operator looks. Rotation begins a file here, and checkpoints are compared here before a line is
//! written.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// How much is read at first to find the last line: 64 KiB.
const TAIL_BYTES: u64 = 64 * 1024;

/// A log that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The first line could not be written.
    #[error("the audit log in `{}` cannot be written", .0.display())]
    CannotWrite(PathBuf),
    /// A file is not what the log has left there.
    #[error("the audit file `{}` is damaged: {what}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The operating system refuses.
    #[error("the audit log cannot use `{}`", .path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else writes here.
    #[error("another process writes the audit log in `{}`", .0.display())]
    Taken(PathBuf),
}

/// A directory with a log, locked against other writers.
pub(super) struct Opened {
    /// The newest segment, open for appending.
    pub(super) file: File,
    /// Its length.
    pub(super) length: u64,
    /// The number of the next line.
    pub(super) next_seq: u64,
    /// Bytes of a torn line that were cut off.
    pub(super) cut: u64,
    /// Holds the directory until it is dropped.
    pub(super) lock: File,
}

/// Opens the log in `dir`, which is made if it is not there.
pub(super) fn open(dir: &Path) -> Result<Opened, OpenError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
    let lock = lock(dir)?;
    let segments = segments(dir)?;
    check_order(&segments)?;
    let first_seq = segments.last().map_or(0, |newest| newest.first_seq);
    let path = dir.join(format!("audit-{first_seq:020}.jsonl"));
    let path = segments.last().map_or(path, |newest| newest.path.clone());
    let mut file = append_to(&path).map_err(at(&path))?;
    let tail = Tail::read(&mut file).map_err(at(&path))?;
    let next_seq = next_seq(first_seq, &file, &tail, &path)?;
    // Only now that it is known to be a log of ours.
    if tail.torn > 0 {
        file.set_len(tail.length).map_err(at(&path))?;
    }
    // The name of a new file and a new length must not be lost once lines are promised to be there.
    file.sync_all().map_err(at(&path))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))?;
    Ok(Opened { file, length: tail.length, next_seq, cut: tail.torn, lock })
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { path, source }
}

fn damaged(file: &Path, what: impl Into<String>) -> OpenError {
    OpenError::Damaged { file: file.to_owned(), what: what.into() }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Two writers would use every number twice.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = append_to(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Taken(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
    }
}

struct Named {
    first_seq: u64,
    path: PathBuf,
}

/// The segments in order.
fn segments(dir: &Path) -> Result<Vec<Named>, OpenError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let path = entry.map_err(at(dir))?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl"));
        if let Some(number) = number {
            let first_seq =
                number.parse().map_err(|_| damaged(&path, "its name is not that of a segment"))?;
            found.push(Named { first_seq, path });
        }
    }
    found.sort_by_key(|segment| segment.first_seq);
    Ok(found)
}

/// Each segment must begin where the one before it ends. The oldest may have been archived.
fn check_order(segments: &[Named]) -> Result<(), OpenError> {
    for pair in segments.windows(2) {
        let [older, newer] = pair else { continue };
        let mut file = File::open(&older.path).map_err(at(&older.path))?;
        let tail = Tail::read(&mut file).map_err(at(&older.path))?;
        if tail.torn > 0 {
            return Err(damaged(&older.path, "its last line has no end"));
        }
        let next = next_seq(older.first_seq, &file, &tail, &older.path)?;
        if next != newer.first_seq {
            let what = format!("it begins with {}, but {next} comes next", newer.first_seq);
            return Err(damaged(&newer.path, what));
        }
    }
    Ok(())
}

/// The number behind a segment's last line.
fn next_seq(first_seq: u64, file: &File, tail: &Tail, path: &Path) -> Result<u64, OpenError> {
    if tail.length == 0 {
        return Ok(first_seq);
    }
    let first = seq_of(&first_line(file).map_err(at(path))?);
    if first != Some(first_seq) {
        return Err(damaged(path, format!("its first line is not number {first_seq}")));
    }
    let last =
        seq_of(&tail.last_line).ok_or_else(|| damaged(path, "its last line has no number"))?;
    last.checked_add(1)
        .filter(|next| *next > first_seq)
        .ok_or_else(|| damaged(path, format!("its last line is number {last}")))
}

fn seq_of(line: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        seq: u64,
    }
    serde_json::from_slice::<Numbered>(line).ok().map(|line| line.seq)
}

fn first_line(file: &File) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut chunk = vec![0; 4096];
    loop {
        let count = file.read_at(&mut chunk, line.len() as u64)?;
        let read = chunk.get(..count).unwrap_or_default();
        let end = read.iter().position(|&byte| byte == b'\n');
        line.extend_from_slice(read.get(..end.unwrap_or(count)).unwrap_or_default());
        if end.is_some() || count == 0 {
            return Ok(line);
        }
    }
}

/// The end of a segment.
struct Tail {
    /// Bytes up to and with the last line end.
    length: u64,
    /// Bytes behind it.
    torn: u64,
    last_line: Vec<u8>,
}

impl Tail {
    /// Reads backwards, twice as far each time, until the last whole line is in sight.
    fn read(file: &mut File) -> io::Result<Self> {
        let total = file.metadata()?.len();
        let mut span = TAIL_BYTES;
        loop {
            let start = total.saturating_sub(span);
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.take(total - start).read_to_end(&mut bytes)?;
            let mut pieces = bytes.rsplitn(3, |&byte| byte == b'\n');
            let (torn, last, before) = (pieces.next(), pieces.next(), pieces.next());
            if before.is_some() || start == 0 {
                // Without a line end, all there is has no end.
                let torn = torn.unwrap_or_default().len() as u64;
                let last_line = last.unwrap_or_default().to_vec();
                return Ok(Self { length: total - torn, torn, last_line });
            }
            span = span.saturating_mul(2);
        }
    }
}
