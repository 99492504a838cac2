//! `rowarden user`: who may come in where the gate itself checks (`auth = "users"`).
//!
//! The password comes from the terminal or from standard input and never from an argument, which
//! every process of the machine can see. What is kept is a verifier.

use std::fs::{self, File};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use tempfile::NamedTempFile;

use crate::cli::{Exit, complain};
use crate::postgres::gatekeeper::random;
use crate::postgres::scram::{ITERATIONS, Verifier};
use crate::postgres::users::{Users, check_name};

/// What the file begins with.
const HEAD: &str = "\
# Users of the gate, one a line: NAME:VERIFIER. `rowarden user add` writes it.
# The line `*` keeps it a secret who is in here.
";

/// Keep the users of a gate with `auth = "users"`
#[derive(Args, Debug)]
pub struct User {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Add(Add),
}

/// Let somebody in; the password is asked for, or read from standard input
#[derive(Args, Debug)]
struct Add {
    /// The name under which they log in
    name: String,
    /// The users file; made if it is not there
    #[arg(long, value_name = "FILE")]
    users: PathBuf,
    /// Give somebody who is in the file already a new password
    #[arg(long)]
    replace: bool,
}

/// Keeps the file.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(user: &User, out: &mut impl Write) -> io::Result<Exit> {
    let Action::Add(add) = &user.action;
    match add_user(add) {
        Ok(done) => {
            writeln!(out, "{done}")?;
            Ok(Exit::Good)
        }
        Err((exit, message)) => {
            complain(&message);
            Ok(exit)
        }
    }
}

fn add_user(add: &Add) -> Result<String, (Exit, String)> {
    let wrong = |message: String| (Exit::BadConfiguration, message);
    let failed = |error: io::Error| (Exit::Failed, format!("`{}`: {error}", add.users.display()));
    check_name(&add.name).map_err(|what| wrong(what.to_owned()))?;
    let seed = random().map_err(|error| (Exit::Failed, error.to_string()))?;
    let text = match fs::read_to_string(&add.users) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("{HEAD}*:seed:{}\n", BASE64.encode(seed))
        }
        Err(error) => return Err(failed(error)),
    };
    let users = Users::parse(&text, seed).map_err(|mistakes| {
        let all: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        wrong(format!("`{}`, {}", add.users.display(), all.join("; ")))
    })?;
    if users.contain(&add.name) && !add.replace {
        let file = add.users.display();
        let message = format!("`{}` is in `{file}` already; `--replace` changes it", add.name);
        return Err((Exit::Failed, message));
    }
    let password = read_password().map_err(|error| wrong(error.to_string()))?;
    let salt = random::<16>().map_err(|error| (Exit::Failed, error.to_string()))?;
    let verifier = Verifier::of(password.expose_secret(), &salt, ITERATIONS);
    let text = with_user(&text, &add.name, &verifier);
    write_over(&add.users, &text).map_err(failed)?;
    Ok(format!("`{}` may come in; a running gate reads the file again on SIGHUP", add.name))
}

/// The file's text with this user in it, in the old place if there was one.
fn with_user(text: &str, name: &str, verifier: &Verifier) -> String {
    let line = format!("{name}:{}", verifier.to_text());
    let is_old = |old: &str| old.split_once(':').is_some_and(|(known, _)| known == name);
    let mut lines: Vec<&str> =
        text.lines().map(|old| if is_old(old) { line.as_str() } else { old }).collect();
    if !text.lines().any(is_old) {
        lines.push(&line);
    }
    lines.join("\n") + "\n"
}

/// Twice from a terminal, once from anything else.
fn read_password() -> io::Result<SecretString> {
    let password = if io::stdin().is_terminal() {
        let first = SecretString::from(rpassword::prompt_password("Password: ")?);
        let again = SecretString::from(rpassword::prompt_password("Once more: ")?);
        if first.expose_secret() != again.expose_secret() {
            return Err(io::Error::other("the two passwords differ"));
        }
        first
    } else {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        let password = line.trim_end_matches(['\r', '\n']);
        SecretString::from(password)
    };
    let is_one = !password.expose_secret().is_empty() && !password.expose_secret().contains('\0');
    is_one.then_some(password).ok_or_else(|| io::Error::other("a password is missing"))
}

/// Whole or not at all, its owner's alone, and the owner stays the same.
fn write_over(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    if let Ok(old) = File::open(path).and_then(|old| old.metadata()) {
        fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::with_user;
    use crate::postgres::scram::{ITERATIONS, Verifier};

    #[test]
    fn a_user_is_added_at_the_end_and_changed_in_place() {
        let verifier = Verifier::of("secret", b"salt", ITERATIONS);
        let line = format!("ann:{}", verifier.to_text());

        let added = with_user("# head\nbob:x", "ann", &verifier);
        assert_eq!(added, format!("# head\nbob:x\n{line}\n"));
        assert_eq!(with_user("ann:old\nbob:x\n", "ann", &verifier), format!("{line}\nbob:x\n"));
    }
}
