//! The key that signs checkpoints, in the folder of the log: `checkpoint.key` for the gate alone,
//! `checkpoint.pub` for everybody who checks.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::audit::note::{NoteError, SEED_BYTES, Signer, Verifier};

const PRIVATE_FILE: &str = "checkpoint.key";
const PUBLIC_FILE: &str = "checkpoint.pub";

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is one already; signatures by it could no longer be made.
    #[error("`{}` is there already", .0.display())]
    Exists(PathBuf),
    /// The file cannot be read or written.
    #[error("the key `{}` cannot be used", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others could sign in the gate's name.
    #[error("`{}` can be read by others; `chmod 600` it, or make a new key if somebody has", .0.display())]
    Open(PathBuf),
    /// The file holds no key.
    #[error("`{}` does not hold a key of a log", .path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: NoteError,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::Io { path, source }
}

/// Whether the folder has a private key.
pub(super) fn has_key(dir: &Path) -> bool {
    dir.join(PRIVATE_FILE).exists()
}

/// Makes a key in the folder; returns the public half.
///
/// # Errors
/// When there is one already, or the files cannot be written.
pub fn make(dir: &Path) -> Result<Verifier, KeyError> {
    let path = dir.join(PRIVATE_FILE);
    let mut seed = [0; SEED_BYTES];
    let no_randomness = |_| at(&path)(io::Error::other("the system has no random bytes"));
    SystemRandom::new().fill(&mut seed).map_err(no_randomness)?;
    let wrong = |source| KeyError::Wrong { path: path.clone(), source };
    let signer = Signer::from_seed(&seed).map_err(wrong)?;
    write_new(&path, &signer.private_text(&seed), 0o600)?;
    write_new(&dir.join(PUBLIC_FILE), &signer.verifier().text(), 0o644)?;
    Ok(signer.verifier().clone())
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), KeyError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists(path.to_owned()),
        _ => at(path)(error),
    })?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(path))
}

/// The private key in the folder.
///
/// # Errors
/// When it is missing, is no key, or others can read it.
pub(super) fn signer(dir: &Path) -> Result<Signer, KeyError> {
    let path = dir.join(PRIVATE_FILE);
    let mode = fs::metadata(&path).map_err(at(&path))?.mode();
    if mode & 0o077 != 0 {
        return Err(KeyError::Open(path));
    }
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    Signer::parse(&text).map_err(|source| KeyError::Wrong { path, source })
}

/// The public key in a folder, or in a file that came another way: who can change the log can
/// change the key beside it, too.
///
/// # Errors
/// When it is missing or is no key.
pub fn verifier(place: &Path) -> Result<Verifier, KeyError> {
    let path = if place.is_dir() { place.join(PUBLIC_FILE) } else { place.to_owned() };
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    Verifier::parse(&text).map_err(|source| KeyError::Wrong { path, source })
}
