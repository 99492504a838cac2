//! Secrets that the configuration names and does not hold.
//!
//! They come from a file that nobody else may read, or from the environment; never from the
//! configuration itself, which is copied about, and never from an argument, which others see.

use std::path::{Path, PathBuf};
use std::{env, fmt, fs};

use secrecy::SecretString;

use crate::listen::certificate::{FileError, check_private};

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file, less a line break at its end.
    File(PathBuf),
    /// In a variable of the environment.
    Variable(String),
}

/// A secret that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is not there, or others can read it.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is nothing in it.
    #[error("{0} is empty or not there")]
    Empty(String),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "file:{}", path.display()),
            Self::Variable(name) => write!(formatter, "env:{name}"),
        }
    }
}

impl SecretSource {
    /// Understands `file:PATH` and `env:NAME`; paths are relative to `folder`. `None` for anything
    /// else, such as the secret itself.
    #[must_use]
    pub fn parse(written: &str, folder: &Path) -> Option<Self> {
        match written.split_once(':')? {
            ("file", path) if !path.is_empty() => Some(Self::File(folder.join(path))),
            ("env", name) if !name.is_empty() => Some(Self::Variable(name.to_owned())),
            _ => None,
        }
    }

    /// Fetches the secret.
    ///
    /// # Errors
    /// When it is not there, is empty, or others can read its file.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        let (found, place) = match self {
            Self::File(path) => {
                check_private(path)?;
                let text = fs::read_to_string(path)
                    .map_err(|source| FileError::Unreadable { path: path.clone(), source })?;
                (text, format!("`{}`", path.display()))
            }
            Self::Variable(name) => {
                (env::var(name).unwrap_or_default(), format!("the variable `{name}`"))
            }
        };
        let secret = found.strip_suffix('\n').unwrap_or(&found);
        let secret = secret.strip_suffix('\r').unwrap_or(secret);
        if secret.is_empty() {
            return Err(SecretError::Empty(place));
        }
        Ok(SecretString::from(secret))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use secrecy::ExposeSecret;

    use super::SecretSource;

    #[test]
    fn a_secret_is_named_and_never_written() {
        let parse = |written| SecretSource::parse(written, Path::new("/etc"));
        assert_eq!(parse("file:a"), Some(SecretSource::File("/etc/a".into())));
        assert_eq!(parse("file:/run/a"), Some(SecretSource::File("/run/a".into())));
        assert_eq!(parse("env:A"), Some(SecretSource::Variable("A".to_owned())));
        for written in ["hunter2", "file:", "env:", "http://x", ""] {
            assert_eq!(parse(written), None, "{written}");
        }
    }

    #[test]
    fn a_line_break_at_the_end_is_not_part_of_it_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, " s3cret \n").unwrap();
        let source = SecretSource::File(path.clone());

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(source.read().is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let secret = source.read().unwrap();
        assert_eq!(secret.expose_secret(), " s3cret ");
        assert!(!format!("{secret:?}").contains("s3cret"));
        fs::write(&path, "\n").unwrap();
        assert!(source.read().is_err());
    }
}
