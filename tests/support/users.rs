//! A gate that keeps its own users.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rowarden::postgres::credential::Credential;
use rowarden::postgres::gatekeeper::Gatekeeper;
use rowarden::postgres::identity::Auth;
use rowarden::postgres::scram::{ITERATIONS, Verifier};
use tempfile::NamedTempFile;

/// A line of a users file.
pub(crate) fn line(name: &str, password: &str) -> String {
    format!("{name}:{}\n", Verifier::of(password, b"sixteen bytes of", ITERATIONS).to_text())
}

/// A users file of its own, gone with this value, and the gatekeeper that reads it.
pub(crate) struct UsersFile {
    file: NamedTempFile,
    pub(crate) gatekeeper: Arc<Gatekeeper>,
}

impl UsersFile {
    pub(crate) fn with(text: &str) -> Self {
        let file = NamedTempFile::new().unwrap();
        write(file.path(), text);
        let gatekeeper = Arc::new(Gatekeeper::open(file.path().to_owned()).unwrap());
        Self { file, gatekeeper }
    }

    pub(crate) fn write(&self, text: &str) {
        write(self.file.path(), text);
    }

    /// Who checks, and logs in at the server as this role.
    pub(crate) fn auth(&self, role: &str, password: Option<&str>) -> Auth {
        let credential = Credential::new(role.to_owned(), password.map(Into::into));
        Auth::Users(Arc::clone(&self.gatekeeper), Arc::new(credential))
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
