//! The files of a log, by name, and how to read them.
//!
//! | file | what |
//! |---|---|
//! | `audit-N.jsonl` | a segment whose first line is number N, twenty digits, so that names sort as numbers do |
//! | `audit-N.jsonl.zst` | the same, closed and compressed (zstd) |
//! | `audit-N.checkpoint` | the signed tree of the lines before N, with its edge; stays when they go |
//! | `checkpoint` | the newest checkpoint, for others to take away |
//! | `checkpoint.tree` | the same with its edge, for the gate |
//!
//! Leaves of the tree are the bytes of the lines, compressed or not.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use memchr::memchr_iter;

/// How much is read at a time: 1 MiB. A line is never longer than 100 KiB.
const CHUNK_BYTES: usize = 1024 * 1024;

/// The newest checkpoint, for others.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// The newest checkpoint with its edge.
pub(super) const TREE: &str = "checkpoint.tree";

const PLAIN: &str = ".jsonl";
const COMPRESSED: &str = ".jsonl.zst";

/// A file of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The number of its first line.
    pub first_seq: u64,
    /// Where it is.
    pub path: PathBuf,
    /// Closed and compressed.
    pub form: Form,
}

/// How the lines are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// As they are.
    Plain,
    /// By zstd.
    Compressed,
}

pub(super) fn plain_path(dir: &Path, first_seq: u64) -> PathBuf {
    dir.join(format!("audit-{first_seq:020}{PLAIN}"))
}

pub(super) fn compressed_path(dir: &Path, first_seq: u64) -> PathBuf {
    dir.join(format!("audit-{first_seq:020}{COMPRESSED}"))
}

pub(super) fn boundary_path(dir: &Path, first_seq: u64) -> PathBuf {
    dir.join(format!("audit-{first_seq:020}.checkpoint"))
}

/// A folder that cannot be read as a log.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The operating system refuses.
    #[error("`{}` cannot be read", .path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file has the name of a segment, almost.
    #[error("the audit file `{}` is damaged: its name is not that of a segment", .0.display())]
    Name(PathBuf),
}

/// The segments of a folder in order. One that is there in both forms was being compressed when the
/// process died; the compressed one, which got its name when it was whole, counts.
///
/// # Errors
/// When the folder cannot be read, or a name in it is misleading.
pub fn segments(dir: &Path) -> Result<Vec<Segment>, FilesError> {
    let at = |source| FilesError::Io { path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(at)? {
        let path = entry.map_err(at)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.and_then(|name| name.strip_prefix("audit-")) else { continue };
        let (number, form) = if let Some(number) = name.strip_suffix(COMPRESSED) {
            (number, Form::Compressed)
        } else if let Some(number) = name.strip_suffix(PLAIN) {
            (number, Form::Plain)
        } else {
            continue;
        };
        let first_seq = number.parse().map_err(|_| FilesError::Name(path.clone()))?;
        found.push(Segment { first_seq, path, form });
    }
    found.sort_by_key(|segment| (segment.first_seq, std::cmp::Reverse(segment.form)));
    found.dedup_by_key(|segment| segment.first_seq);
    Ok(found)
}

impl Segment {
    /// Hands out the lines in pieces, each of whole lines with their newlines; what stands behind
    /// the last newline comes last, alone. Stops when `take` breaks.
    ///
    /// # Errors
    /// When the file cannot be read or decompressed.
    pub fn read<B>(
        &self,
        mut take: impl FnMut(&[u8]) -> ControlFlow<B>,
    ) -> io::Result<ControlFlow<B>> {
        match (self.form, File::open(&self.path)) {
            (Form::Plain, Ok(file)) => in_whole_lines(file, &mut take),
            (Form::Compressed, file) => in_whole_lines(zstd::Decoder::new(file?)?, &mut take),
            // It has been compressed since it was found.
            (Form::Plain, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                let file = File::open(self.path.with_added_extension("zst"))?;
                in_whole_lines(zstd::Decoder::new(file)?, &mut take)
            }
            (Form::Plain, Err(error)) => Err(error),
        }
    }

    /// Hands out each line, without its newline; as [`read`](Self::read).
    ///
    /// # Errors
    /// When the file cannot be read or decompressed.
    pub fn read_lines<B>(
        &self,
        mut take: impl FnMut(&[u8]) -> ControlFlow<B>,
    ) -> io::Result<ControlFlow<B>> {
        self.read(|piece| lines_of(piece).try_for_each(&mut take))
    }
}

/// The lines of a piece, without their newlines.
pub(super) fn lines_of(piece: &[u8]) -> impl Iterator<Item = &[u8]> {
    let torn = !piece.is_empty() && !piece.ends_with(b"\n");
    let ends = memchr_iter(b'\n', piece).chain(torn.then_some(piece.len()));
    ends.scan(0, |start, end| {
        let line = piece.get(*start..end);
        *start = end + 1;
        line
    })
}

/// Reads to the end in pieces of whole lines.
pub(super) fn in_whole_lines<B>(
    mut from: impl Read,
    take: &mut impl FnMut(&[u8]) -> ControlFlow<B>,
) -> io::Result<ControlFlow<B>> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            buffer.resize(filled * 2, 0);
        }
        let count = from.read(buffer.get_mut(filled..).unwrap_or_default())?;
        filled += count;
        let piece = buffer.get(..filled).unwrap_or_default();
        let whole = memchr::memrchr(b'\n', piece).map_or(0, |newline| newline + 1);
        let done = if count == 0 { filled } else { whole };
        if done > 0
            && let broken @ ControlFlow::Break(_) = take(piece.get(..done).unwrap_or_default())
        {
            return Ok(broken);
        }
        if count == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        buffer.copy_within(done..filled, 0);
        filled -= done;
    }
}

/// The number of a line: every line of ours begins `{"v":1,"seq":N,`.
#[must_use]
pub fn seq_of(line: &[u8]) -> Option<u64> {
    let text = line.strip_prefix(br#"{"v":1,"seq":"#)?;
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(text.get(..digits)?).ok()?;
    text.get(digits).filter(|byte| **byte == b',')?;
    number.parse().ok()
}

/// Replaces a small file, so that at any time one of the two is there, whole.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_added_extension("new");
    fs::write(&beside, text)?;
    File::open(&beside)?.sync_data()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};
    use std::ops::ControlFlow;

    use super::{in_whole_lines, lines_of, seq_of};

    /// Gives a few bytes at a time.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let most = into.len().min(3);
            (&mut self.0).read(&mut into[..most])
        }
    }

    fn lines(text: &str) -> Vec<String> {
        lines_from(Drops(text.as_bytes()))
    }

    fn lines_from(from: impl Read) -> Vec<String> {
        let mut found = Vec::new();
        let ended = in_whole_lines(from, &mut |piece: &[u8]| {
            found.extend(lines_of(piece).map(|line| String::from_utf8_lossy(line).into_owned()));
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(ended.unwrap(), ControlFlow::Continue(()));
        found
    }

    #[test]
    fn lines_come_whole_however_they_are_read() {
        assert_eq!(lines(""), [""; 0]);
        assert_eq!(lines("one\n"), ["one"]);
        assert_eq!(lines("one\n\nthree\ntorn"), ["one", "", "three", "torn"]);
    }

    #[test]
    fn a_line_longer_than_a_piece_is_one_line() {
        let long = "x".repeat(3 * super::CHUNK_BYTES);

        let text = format!("{long}\nshort\n");
        assert_eq!(lines_from(text.as_bytes()), [&long, "short"]);
    }

    #[test]
    fn only_a_line_of_a_log_has_a_number() {
        assert_eq!(seq_of(br#"{"v":1,"seq":42,"time":1}"#), Some(42));
        for other in ["", "{}", r#"{"seq":1}"#, r#"{"v":1,"seq":}"#, r#"{"v":1,"seq":1}"#] {
            assert_eq!(seq_of(other.as_bytes()), None, "{other}");
        }
    }
}
