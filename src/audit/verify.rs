//! Is this log whole? Every line is hashed again, and the tree must pass through every checkpoint.
//!
//! Nothing of the running gate is needed, only the files and the public key. What the files cannot
//! tell is whether lines behind the newest checkpoint have gone together with newer checkpoints:
//! that takes a checkpoint that was kept elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::audit::files::{self, FilesError, Segment, seq_of};
use crate::audit::merkle::{Edge, Hash, ProofBuilder, leaf_hash, root_of_proof};
use crate::audit::note::{Checkpoint, NoteError, Verifier, proof_text};

/// What was found in a log that is whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// The number of the first line that was read.
    pub first: u64,
    /// The number behind the last.
    pub next: u64,
    /// Lines before this one are signed for.
    pub signed: u64,
    /// How many checkpoints agree.
    pub checkpoints: usize,
    /// Bytes of a line that is being written, or was torn.
    pub torn: u64,
}

/// Why a log is not whole.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A line is not what it was.
    #[error("lines {from} to {to} are not what they were when they were signed for")]
    Changed {
        /// The first line that may have been changed.
        from: u64,
        /// The last.
        to: u64,
    },
    /// A checkpoint cannot be trusted.
    #[error("the checkpoint `{}` is not to be trusted", .file.display())]
    Checkpoint {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: NoteError,
    },
    /// The folder is not that of a log.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Lines are missing; the log says so itself.
    #[error("lines {from} to {to} are missing, which was accepted when the gate was started")]
    Gap {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The operating system refuses.
    #[error("`{}` cannot be read", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is not where it should be.
    #[error("line {seq} is missing or out of place in `{}`", .file.display())]
    Line {
        /// Its number.
        seq: u64,
        /// Where it should be.
        file: PathBuf,
    },
    /// There is no checkpoint.
    #[error("there is no checkpoint `{}`", .0.display())]
    NoCheckpoint(PathBuf),
    /// The line cannot be proved.
    #[error("line {seq} cannot be proved: {why}")]
    NoProof {
        /// Its number.
        seq: u64,
        /// Why not.
        why: &'static str,
    },
    /// The end is missing.
    #[error("the log ends before line {found}, but {signed} lines were signed for")]
    Short {
        /// The number behind the last line.
        found: u64,
        /// How many there were.
        signed: u64,
    },
}

/// Verifies the log in a folder. `known` is a checkpoint that was kept elsewhere: the log must agree
/// with it, and is read from the last segment on that begins before it. `progress` is told the
/// bytes of lines that were read.
///
/// # Errors
/// What is wrong, at the first place at which it shows.
pub fn verify(
    dir: &Path,
    key: &Verifier,
    known: Option<&Checkpoint>,
    mut progress: impl FnMut(u64),
) -> Result<Whole, Broken> {
    // First the checkpoints, then the lines: a log that is being written only grows.
    let newest = checkpoint(dir, key)?;
    let mut roots = BTreeMap::from([(newest.size, newest.root)]);
    if let Some(known) = known {
        add_root(&mut roots, known)?;
    }
    let segments = files::segments(dir)?;
    let from = first_to_read(&segments, known.map_or(0, |known| known.size));
    let mut walk = Walk { roots, ..Walk::default() };
    for (at, segment) in segments.iter().enumerate().skip(from) {
        walk.enter(dir, key, segment, at == from)?;
        walk.read(segment, at + 1 == segments.len(), &mut progress)?;
    }
    walk.finish(newest.size)
}

fn add_root(roots: &mut BTreeMap<u64, Hash>, known: &Checkpoint) -> Result<(), Broken> {
    match roots.insert(known.size, known.root) {
        Some(other) if other != known.root => {
            Err(Broken::Changed { from: 0, to: known.size.saturating_sub(1) })
        }
        _ => Ok(()),
    }
}

/// The last segment that begins at or before a line.
fn first_to_read(segments: &[Segment], seq: u64) -> usize {
    segments.iter().rposition(|segment| segment.first_seq <= seq).unwrap_or(0)
}

/// The newest checkpoint of a log.
///
/// # Errors
/// When there is none that can be trusted.
pub fn checkpoint(dir: &Path, key: &Verifier) -> Result<Checkpoint, Broken> {
    let path = dir.join(files::CHECKPOINT);
    checkpoint_in(&path, key)?.ok_or(Broken::NoCheckpoint(path))
}

/// The checkpoint in a file, if there is one.
///
/// # Errors
/// When it cannot be trusted.
pub fn checkpoint_in(path: &Path, key: &Verifier) -> Result<Option<Checkpoint>, Broken> {
    let note = match fs::read_to_string(path) {
        Ok(note) => note,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Broken::Io { path: path.to_owned(), source }),
    };
    let untrusted = |source| Broken::Checkpoint { file: path.to_owned(), source };
    key.open(&note).map(Some).map_err(untrusted)
}

/// The way through the lines.
#[derive(Default)]
struct Walk {
    edge: Edge,
    /// What the tree must be at which size.
    roots: BTreeMap<u64, Hash>,
    /// Where the last of them was passed.
    agreed: u64,
    whole: Whole,
}

impl Walk {
    /// Goes on in the next segment, or begins with it.
    fn enter(
        &mut self,
        dir: &Path,
        key: &Verifier,
        segment: &Segment,
        is_first: bool,
    ) -> Result<(), Broken> {
        let first = segment.first_seq;
        let boundary = checkpoint_in(&files::boundary_path(dir, first), key)?;
        let edge = boundary.as_ref().and_then(|boundary| boundary.edge.as_ref());
        let edge = edge.filter(|edge| edge.size() == first);
        let out_of_place = || Broken::Line { seq: self.edge.size(), file: segment.path.clone() };
        match edge {
            Some(edge) if is_first => {
                self.edge = edge.clone();
                (self.agreed, self.whole.first) = (first, first);
            }
            Some(_) if first > self.edge.size() => {
                return Err(Broken::Gap { from: self.edge.size(), to: first.saturating_sub(1) });
            }
            _ if first != self.edge.size() => return Err(out_of_place()),
            _ => {}
        }
        if let Some(boundary) = boundary {
            add_root(&mut self.roots, &boundary)?;
        }
        self.check_root()
    }

    fn read(
        &mut self,
        segment: &Segment,
        is_newest: bool,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), Broken> {
        let wrong = |seq| Broken::Line { seq, file: segment.path.clone() };
        let read = segment.read(|piece| {
            progress(piece.len() as u64);
            if !piece.ends_with(b"\n") {
                self.whole.torn = piece.len() as u64;
                let seq = self.edge.size();
                return if is_newest {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(wrong(seq))
                };
            }
            files::lines_of(piece).try_for_each(|line| {
                if seq_of(line) != Some(self.edge.size()) {
                    return ControlFlow::Break(wrong(self.edge.size()));
                }
                self.edge.push(leaf_hash(line));
                self.check_root().map_or_else(ControlFlow::Break, ControlFlow::Continue)
            })
        });
        match read.map_err(|source| Broken::Io { path: segment.path.clone(), source })? {
            ControlFlow::Break(broken) => Err(broken),
            ControlFlow::Continue(()) => Ok(()),
        }
    }

    fn check_root(&mut self) -> Result<(), Broken> {
        let size = self.edge.size();
        match self.roots.get(&size) {
            None => Ok(()),
            Some(root) if *root == self.edge.root() => {
                self.agreed = size;
                self.whole.checkpoints += 1;
                Ok(())
            }
            Some(_) => Err(Broken::Changed { from: self.agreed, to: size.saturating_sub(1) }),
        }
    }

    fn finish(mut self, signed: u64) -> Result<Whole, Broken> {
        let found = self.edge.size();
        match self.roots.last_key_value() {
            Some((size, _)) if *size > found => Err(Broken::Short { found, signed: *size }),
            _ => {
                if found == 0 {
                    // An empty log has no segment through which the walk could have come.
                    self.check_root()?;
                }
                self.whole.next = found;
                self.whole.signed = signed;
                Ok(self.whole)
            }
        }
    }
}

/// Proves that a line is in the log, with all that is needed to check it elsewhere; see
/// [`proof_text`].
///
/// # Errors
/// When the line is not there, is not signed for yet, or the log is not whole.
pub fn prove(dir: &Path, key: &Verifier, seq: u64) -> Result<String, Broken> {
    let no_proof = |why| Broken::NoProof { seq, why };
    let path = dir.join(files::CHECKPOINT);
    let note =
        fs::read_to_string(&path).map_err(|source| Broken::Io { path: path.clone(), source })?;
    let newest =
        key.open(&note).map_err(|source| Broken::Checkpoint { file: path.clone(), source })?;
    if seq >= newest.size {
        return Err(no_proof("no checkpoint covers it; there is one every second"));
    }
    let segments = files::segments(dir)?;
    let from = first_to_read(&segments, seq);
    let segments = segments.get(from..).unwrap_or_default();
    let mut walk = Walk::default();
    let oldest = segments.first().ok_or_else(|| no_proof("the log has no lines"))?;
    walk.enter(dir, key, oldest, true)?;
    let builder = ProofBuilder::new(seq, newest.size, &walk.edge);
    let mut builder = builder.ok_or_else(|| no_proof("it has been removed"))?;
    let mut line = Vec::new();
    for segment in segments {
        let read = segment.read_lines(|next| {
            if seq_of(next) == Some(seq) {
                line = next.to_vec();
            }
            builder.push(leaf_hash(next));
            ControlFlow::<()>::Continue(())
        });
        let _ = read.map_err(|source| Broken::Io { path: segment.path.clone(), source })?;
    }
    let proof = builder.finish().ok_or_else(|| no_proof("lines behind it are missing"))?;
    let root = root_of_proof(seq, newest.size, leaf_hash(&line), &proof);
    if root == Some(newest.root) {
        Ok(proof_text(seq, &line, &proof, &note))
    } else {
        Err(Broken::Changed { from: walk.agreed, to: newest.size.saturating_sub(1) })
    }
}
