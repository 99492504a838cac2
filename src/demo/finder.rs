//! Finds a PostgreSQL on this machine, or says how to install one.
//!
//! Nothing is ever downloaded unasked: who runs a security tool should see every program that it
//! brings along. A folder that was named explicitly is used or refused, never silently replaced by
//! another one.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest major version that the gate is made for.
const OLDEST_MAJOR: u32 = 14;

/// What a folder must hold to be of use.
const PROGRAMS: [&str; 2] = ["initdb", "postgres"];

/// Folders with one folder a version in them, and what follows behind the version.
const PACKAGE_FOLDERS: [(&str, &str); 6] = [
    ("/usr/lib/postgresql", "bin"), // Debian, Ubuntu
    ("/usr", "bin"),                // PGDG's RPMs: /usr/pgsql-17/bin
    ("/opt/homebrew/opt", "bin"),   // Homebrew on Apple silicon
    ("/usr/local/opt", "bin"),      // Homebrew on Intel
    ("/Library/PostgreSQL", "bin"), // EDB's installer on macOS
    ("/opt/PostgreSQL", "bin"),     // EDB's installer on Linux
];

/// A usable PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The folder that holds `initdb` and `postgres`.
    pub bin: PathBuf,
    /// 15.
    pub major: u32,
    /// `15.18`, as the server names itself.
    pub version: String,
}

/// Why there is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FinderError {
    /// Nowhere.
    #[error("no PostgreSQL {OLDEST_MAJOR} or newer was found; install it with: {install}")]
    Missing {
        /// The line to run on this system.
        install: String,
    },
    /// Where it was said to be, it is not.
    #[error("no PostgreSQL {OLDEST_MAJOR} or newer in `{}`, which {named_by} names; install it with: {install}", bin.display())]
    NotThere {
        /// The folder.
        bin: PathBuf,
        /// `--pg-bin` or `$PG_BIN`.
        named_by: &'static str,
        /// The line to run on this system.
        install: String,
    },
}

/// Where to look. [`Search::here`] asks this process's environment.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The folder that `--pg-bin` names.
    pub argument: Option<PathBuf>,
    /// `$PG_BIN`.
    pub variable: Option<PathBuf>,
    /// `$PATH`.
    pub path: OsString,
    /// Where packages put their versions.
    pub package_folders: Vec<(PathBuf, &'static str)>,
}

impl Search {
    /// Looks where this process would.
    #[must_use]
    pub fn here(argument: Option<PathBuf>) -> Self {
        Self {
            argument,
            variable: env::var_os("PG_BIN").filter(|bin| !bin.is_empty()).map(PathBuf::from),
            path: env::var_os("PATH").unwrap_or_default(),
            package_folders: PACKAGE_FOLDERS.map(|(root, bin)| (PathBuf::from(root), bin)).to_vec(),
        }
    }

    /// Finds the first usable installation: named ones, `$PATH`, `pg_config`, then the newest
    /// package.
    ///
    /// # Errors
    /// When there is none, or none where it was said to be.
    pub fn find(&self) -> Result<Installation, FinderError> {
        let named = [(&self.argument, "--pg-bin"), (&self.variable, "$PG_BIN")];
        for (bin, named_by) in named {
            if let Some(bin) = bin {
                return inspect(bin).ok_or_else(|| FinderError::NotThere {
                    bin: bin.clone(),
                    named_by,
                    install: self.install_line(),
                });
            }
        }
        let on_path = env::split_paths(&self.path).find_map(|folder| inspect(&folder));
        on_path
            .or_else(|| self.by_pg_config())
            .or_else(|| self.newest_package())
            .ok_or_else(|| FinderError::Missing { install: self.install_line() })
    }

    fn by_pg_config(&self) -> Option<Installation> {
        let program = self.on_path("pg_config")?;
        let output = Command::new(program).arg("--bindir").output().ok()?;
        inspect(Path::new(String::from_utf8(output.stdout).ok()?.trim()))
    }

    fn newest_package(&self) -> Option<Installation> {
        let versions = self.package_folders.iter().flat_map(|(root, bin)| {
            let entries = fs::read_dir(root).into_iter().flatten().flatten();
            entries.map(move |entry| entry.path().join(bin))
        });
        versions.filter_map(|bin| inspect(&bin)).max_by_key(|found| found.major)
    }

    /// The exact line that installs PostgreSQL on this system.
    fn install_line(&self) -> String {
        const LINES: [(&str, &str); 5] = [
            ("brew", "brew install postgresql"),
            ("apt-get", "apt-get install -y postgresql"),
            ("dnf", "dnf install -y postgresql-server"),
            ("apk", "apk add postgresql"),
            ("pacman", "pacman -S --noconfirm postgresql"),
        ];
        let known = LINES.into_iter().find(|(installer, _)| self.on_path(installer).is_some());
        match known {
            Some(("brew", line)) => line.to_owned(),
            Some((_, line)) if self.on_path("sudo").is_some() => format!("sudo {line}"),
            Some((_, line)) => line.to_owned(),
            None => "your system's package manager (package `postgresql`)".to_owned(),
        }
    }

    fn on_path(&self, program: &str) -> Option<PathBuf> {
        env::split_paths(&self.path).map(|folder| folder.join(program)).find(|file| file.is_file())
    }
}

/// The installation in this folder, if it is a usable one. Links are followed, because `initdb`
/// looks for its data files beside its true self.
fn inspect(folder: &Path) -> Option<Installation> {
    let bin = fs::canonicalize(folder.join("postgres")).ok()?.parent()?.to_owned();
    if !PROGRAMS.iter().all(|program| bin.join(program).is_file()) {
        return None;
    }
    let output = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    let version = version_in(&String::from_utf8(output.stdout).ok()?)?;
    let major = version.split_once('.').map_or(&*version, |(major, _)| major).parse().ok()?;
    (major >= OLDEST_MAJOR).then_some(Installation { bin, major, version })
}

/// `15.18` out of `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`; `19` out of `19beta1`.
fn version_in(announcement: &str) -> Option<String> {
    let words = announcement.strip_prefix("postgres (PostgreSQL) ")?;
    let version = words.trim_start().split(|sign: char| !(sign.is_ascii_digit() || sign == '.'));
    version.into_iter().next().filter(|version| !version.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::{FinderError, Search, version_in};

    fn pretend_program(file: &Path, says: &str) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn pretend_installation(bin: &Path, version: &str) {
        pretend_program(&bin.join("initdb"), "");
        pretend_program(&bin.join("postgres"), &format!("postgres (PostgreSQL) {version}"));
    }

    #[test]
    fn the_newest_package_is_taken_when_nothing_else_is_known() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9.6.24", "14.2", "17.1 (Debian 17.1-1)", "15.18"] {
            pretend_installation(&root.path().join(&version[..2]).join("bin"), version);
        }
        let search =
            Search { package_folders: vec![(root.path().to_owned(), "bin")], ..Search::default() };

        let found = search.find().unwrap();

        assert_eq!((found.major, found.version.as_str()), (17, "17.1"));
    }

    #[test]
    fn a_named_folder_is_used_or_refused_but_never_replaced() {
        let root = tempfile::tempdir().unwrap();
        pretend_installation(&root.path().join("good"), "16.4");
        pretend_installation(&root.path().join("old"), "13.9");
        let search = Search { path: root.path().join("good").into(), ..Search::default() };
        let argument = Search { argument: Some(root.path().join("old")), ..search.clone() };
        let variable = Search { variable: Some(root.path().join("none")), ..search.clone() };

        assert_eq!(search.find().unwrap().major, 16);
        for (search, expected) in [(argument, "--pg-bin"), (variable, "$PG_BIN")] {
            let error = search.find().unwrap_err();
            assert!(
                matches!(error, FinderError::NotThere { named_by, .. } if named_by == expected)
            );
        }
    }

    #[test]
    fn a_link_on_the_path_leads_to_the_folder_that_holds_everything() {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("16");
        pretend_installation(&bin, "16.4");
        let links = root.path().join("links");
        fs::create_dir(&links).unwrap();
        symlink(bin.join("postgres"), links.join("postgres")).unwrap();

        let found = Search { path: links.into(), ..Search::default() }.find().unwrap();

        assert_eq!(found.bin, fs::canonicalize(bin).unwrap());
    }

    #[test]
    fn pg_config_is_asked_when_the_path_holds_no_server() {
        let root = tempfile::tempdir().unwrap();
        pretend_installation(&root.path().join("16"), "16.4");
        let clients = root.path().join("clients");
        pretend_program(&clients.join("pg_config"), root.path().join("16").to_str().unwrap());

        let found = Search { path: clients.into(), ..Search::default() }.find().unwrap();

        assert_eq!(found.major, 16);
    }

    #[test]
    fn the_error_carries_the_line_to_run() {
        let root = tempfile::tempdir().unwrap();
        pretend_program(&root.path().join("apt-get"), "");
        let search = Search { path: root.path().into(), ..Search::default() };
        let as_root = search.find().unwrap_err().to_string();
        pretend_program(&root.path().join("sudo"), "");
        let as_user = search.find().unwrap_err().to_string();

        assert!(as_root.ends_with(": apt-get install -y postgresql"), "{as_root}");
        assert!(as_user.ends_with(": sudo apt-get install -y postgresql"), "{as_user}");
    }

    #[test]
    fn versions_are_read_as_servers_announce_them() {
        assert_eq!(version_in("postgres (PostgreSQL) 19beta1\n").as_deref(), Some("19"));
        assert_eq!(version_in("postgres (PostgreSQL) 18.1 (Homebrew)").as_deref(), Some("18.1"));
        assert_eq!(version_in("psql (PostgreSQL) 18.1"), None);
    }
}
