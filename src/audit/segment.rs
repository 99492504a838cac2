//! The files of the log: found, checked and repaired on start.
//!
//! Only what a crash can leave is repaired: a last line without its end, a boundary that was not yet
//! signed. Whatever else is not as it must be was somebody's doing, so the log is not opened and the
//! operator looks. That goes for a log that is shorter than its checkpoint, too: a checkpoint is
//! signed only after its lines are on the disk, so no crash can take them away again.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::audit::files::{self, FilesError, Form, Segment, seq_of};
use crate::audit::keys::{self, KeyError};
use crate::audit::merkle::{Edge, leaf_hash};
use crate::audit::note::{Checkpoint, Extension, NoteError, Signer};

/// A log that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The first line could not be written.
    #[error("the audit log in `{}` cannot be written", .0.display())]
    CannotWrite(PathBuf),
    /// A checkpoint is not one of this log.
    #[error("the checkpoint `{}` is not to be trusted", .file.display())]
    Checkpoint {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: NoteError,
    },
    /// A file is not what the log has left there.
    #[error("the audit file `{}` is damaged: {what}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The folder cannot be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The operating system refuses.
    #[error("the audit log cannot use `{}`", .path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Checkpoints cannot be signed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Lines that were signed for are not there.
    #[error(
        "the audit log in `{}` has lost lines: {}; start with --accept-loss to go on and to have \
         the loss recorded", .dir.display(), .loss
    )]
    Lost {
        /// The folder.
        dir: PathBuf,
        /// What is missing.
        loss: Loss,
    },
    /// Somebody else writes here.
    #[error("another process writes the audit log in `{}`", .0.display())]
    Taken(PathBuf),
}

/// What a log has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// There is no checkpoint, so nobody can say how long the log was.
    #[error("its checkpoint is missing")]
    Checkpoint,
    /// The checkpoint speaks of lines that are not there.
    #[error("it ends before line {found}, but its checkpoint has seen {signed} lines")]
    Lines {
        /// The number behind the last line that is there.
        found: u64,
        /// How many there were.
        signed: u64,
    },
}

/// What to do about a log that has lost lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// Go on behind the gap, and record it.
    Accept,
    /// Do not start.
    #[default]
    Refuse,
}

/// A directory with a log, locked against other writers.
pub(super) struct Opened {
    /// The newest segment, open for appending.
    pub(super) file: File,
    /// The number of its first line.
    pub(super) first_seq: u64,
    /// Its length.
    pub(super) length: u64,
    /// Bytes of a torn line that were cut off.
    pub(super) cut: u64,
    /// What is missing before the next line.
    pub(super) loss: Option<Loss>,
    /// The tree of all lines; its size is the number of the next one.
    pub(super) edge: Edge,
    /// Signs for them.
    pub(super) signer: Signer,
    /// Holds the directory until it is dropped.
    pub(super) lock: File,
}

/// Opens the log in `dir`, which is made if it is not there.
pub(super) fn open(dir: &Path, on_loss: OnLoss) -> Result<Opened, OpenError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
    let lock = lock(dir)?;
    let segments = files::segments(dir)?;
    let signer = signer(dir, &segments)?;
    let mut rebuilt = Rebuilt::of(dir, &segments, &signer)?;
    let loss = rebuilt.loss();
    if let Some(loss) = loss
        && on_loss == OnLoss::Refuse
    {
        return Err(OpenError::Lost { dir: dir.to_owned(), loss });
    }
    let newest = newest(dir, &segments, &rebuilt.edge);
    let file = append_to(&newest.path).map_err(at(&newest.path))?;
    // Only now that it is known to be a log of ours.
    if rebuilt.torn > 0 {
        file.set_len(rebuilt.length).map_err(at(&newest.path))?;
    }
    let found = rebuilt.edge.size();
    let mut opened = Opened {
        file,
        first_seq: newest.first_seq,
        length: rebuilt.length,
        cut: rebuilt.torn,
        loss,
        edge: rebuilt.edge,
        signer,
        lock,
    };
    if let Some(signed) = rebuilt.signed.take().filter(|signed| signed.size > found) {
        opened.step_over(dir, signed)?;
    }
    opened.settle(dir)?;
    Ok(opened)
}

impl Opened {
    /// Begins a segment behind lines that are lost. The tree goes on as if they were there: its edge
    /// has been signed.
    fn step_over(&mut self, dir: &Path, signed: Checkpoint) -> Result<(), OpenError> {
        let path = dir.join(files::TREE);
        let edge = signed.edge.ok_or_else(|| damaged(&path, "it has no edge to go on from"))?;
        self.edge = edge;
        self.first_seq = self.edge.size();
        self.length = 0;
        let path = files::plain_path(dir, self.first_seq);
        self.file = append_to(&path).map_err(at(&path))?;
        let boundary = files::boundary_path(dir, self.first_seq);
        files::replace(&boundary, &self.signer.sign(&self.edge, Extension::Edge))
            .map_err(at(&boundary))
    }

    /// The name of a new file and a new length must not be lost once lines are promised to be there;
    /// and from the first line on there is a checkpoint that misses none.
    fn settle(&self, dir: &Path) -> Result<(), OpenError> {
        self.file.sync_all().map_err(at(dir))?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))?;
        write_checkpoints(dir, &self.signer, &self.edge).map_err(at(dir))
    }
}

/// Writes the newest checkpoint in both its forms. The lines must be on the disk.
pub(super) fn write_checkpoints(dir: &Path, signer: &Signer, edge: &Edge) -> io::Result<()> {
    files::replace(&dir.join(files::TREE), &signer.sign(edge, Extension::Edge))?;
    files::replace(&dir.join(files::CHECKPOINT), &signer.sign(edge, Extension::None))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { path, source }
}

fn damaged(file: &Path, what: impl Into<String>) -> OpenError {
    OpenError::Damaged { file: file.to_owned(), what: what.into() }
}

/// Opens a file of lines for appending, 0600, and makes it if it is not there.
pub(super) fn append_to(path: &Path) -> io::Result<File> {
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

/// The key of the log. A new log gets a new one; a log whose key has gone does not: its checkpoints
/// could no longer be told from forged ones.
fn signer(dir: &Path, segments: &[Segment]) -> Result<Signer, OpenError> {
    if segments.is_empty() && !keys::has_key(dir) && !dir.join(files::TREE).exists() {
        keys::make(dir)?;
    }
    Ok(keys::signer(dir)?)
}

/// The segment to write on: the newest, unless it is closed or there is none.
fn newest(dir: &Path, segments: &[Segment], edge: &Edge) -> Segment {
    let first_seq = edge.size();
    let open = segments.last().filter(|segment| segment.form == Form::Plain).cloned();
    let path = files::plain_path(dir, first_seq);
    open.unwrap_or(Segment { first_seq, path, form: Form::Plain })
}

/// The tree of the lines that are there, made anew from the last boundary that is signed.
struct Rebuilt {
    edge: Edge,
    /// The newest checkpoint, if there is one.
    signed: Option<Checkpoint>,
    /// Bytes of whole lines in the newest segment, if it is not compressed.
    length: u64,
    /// Bytes of a torn line behind them.
    torn: u64,
}

impl Rebuilt {
    fn of(dir: &Path, segments: &[Segment], signer: &Signer) -> Result<Self, OpenError> {
        let newest = newest_checkpoint(dir, signer)?;
        let (from, edge) = last_boundary(dir, segments, signer)?;
        let mut rebuilt = Self { edge, signed: newest, length: 0, torn: 0 };
        for (at, segment) in segments.iter().enumerate().skip(from) {
            rebuilt.check_place(segment)?;
            if at > from {
                let boundary = files::boundary_path(dir, segment.first_seq);
                let note = signer.sign(&rebuilt.edge, Extension::Edge);
                files::replace(&boundary, &note).map_err(self::at(&boundary))?;
            }
            rebuilt.grow(segment)?;
        }
        Ok(rebuilt)
    }

    fn check_place(&self, segment: &Segment) -> Result<(), OpenError> {
        let (first, next) = (segment.first_seq, self.edge.size());
        if self.torn > 0 {
            return Err(damaged(&segment.path, "the line before it has no end"));
        }
        if first != next {
            return Err(damaged(
                &segment.path,
                format!("it begins with {first}, but {next} comes next"),
            ));
        }
        Ok(())
    }

    fn loss(&self) -> Option<Loss> {
        let found = self.edge.size();
        match &self.signed {
            Some(signed) if signed.size > found => Some(Loss::Lines { found, signed: signed.size }),
            Some(_) => None,
            None => (found > 0).then_some(Loss::Checkpoint),
        }
    }

    /// Adds the lines of a segment to the tree, which must pass through the checkpoint on its way.
    fn grow(&mut self, segment: &Segment) -> Result<(), OpenError> {
        (self.length, self.torn) = (0, 0);
        let read = segment.read(|piece| {
            if !piece.ends_with(b"\n") {
                self.torn = piece.len() as u64;
                return ControlFlow::Continue(());
            }
            self.length += piece.len() as u64;
            files::lines_of(piece).try_for_each(|line| self.push(line))
        });
        let at = at(&segment.path);
        match read.map_err(at)? {
            ControlFlow::Break(what) => return Err(damaged(&segment.path, what)),
            ControlFlow::Continue(()) => {
                self.check_root().map_err(|what| damaged(&segment.path, what))?;
            }
        }
        if segment.form == Form::Compressed {
            self.length = 0;
        }
        Ok(())
    }

    fn push(&mut self, line: &[u8]) -> ControlFlow<String> {
        if let Err(what) = self.check_root() {
            return ControlFlow::Break(what.to_owned());
        }
        if seq_of(line) != Some(self.edge.size()) {
            return ControlFlow::Break(format!("it has no line {}", self.edge.size()));
        }
        self.edge.push(leaf_hash(line));
        ControlFlow::Continue(())
    }

    fn check_root(&self) -> Result<(), &'static str> {
        let here = self.signed.as_ref().filter(|signed| signed.size == self.edge.size());
        match here {
            Some(signed) if signed.root != self.edge.root() => {
                Err("its lines are not those that its checkpoint has seen")
            }
            _ => Ok(()),
        }
    }
}

/// The last segment whose beginning is signed, and the tree of all lines before it.
fn last_boundary(
    dir: &Path,
    segments: &[Segment],
    signer: &Signer,
) -> Result<(usize, Edge), OpenError> {
    for (at, segment) in segments.iter().enumerate().rev() {
        let path = files::boundary_path(dir, segment.first_seq);
        if let Some(boundary) = checkpoint_at(&path, signer)? {
            let edge = boundary.edge.filter(|edge| edge.size() == segment.first_seq);
            let edge = edge.ok_or_else(|| damaged(&path, "it is not of this segment"))?;
            return Ok((at, edge));
        }
        if segment.first_seq == 0 {
            return Ok((at, Edge::default()));
        }
    }
    match segments.first() {
        None => Ok((0, Edge::default())),
        Some(oldest) => Err(damaged(&oldest.path, "no checkpoint says what stood before it")),
    }
}

/// The newest checkpoint: whichever of its two files got there last.
fn newest_checkpoint(dir: &Path, signer: &Signer) -> Result<Option<Checkpoint>, OpenError> {
    let tree = checkpoint_at(&dir.join(files::TREE), signer)?;
    let plain = checkpoint_at(&dir.join(files::CHECKPOINT), signer)?;
    Ok(match (tree, plain) {
        (Some(tree), Some(plain)) if plain.size > tree.size => Some(plain),
        (tree, plain) => tree.or(plain),
    })
}

fn checkpoint_at(path: &Path, signer: &Signer) -> Result<Option<Checkpoint>, OpenError> {
    let note = match fs::read_to_string(path) {
        Ok(note) => note,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    let checkpoint = signer.verifier().open(&note);
    let untrusted = |source| OpenError::Checkpoint { file: path.to_owned(), source };
    checkpoint.map(Some).map_err(untrusted)
}
