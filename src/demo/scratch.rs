//! A folder and a process that do not outlive us, however we end.
//!
//! `Drop` does not run when a process is killed, so the cleaning is not ours: a small shell, the
//! watcher, reads from a pipe that only we hold. When we end, by whatever signal, the pipe ends; the
//! watcher then stops the process that it was told of and removes the folder. `Drop` uses the same
//! way: it closes the pipe and waits, so the way that matters is the way that is always walked.
//!
//! Why not `setpriv --pdeathsig`: that signal comes when the *thread* that started the child ends,
//! which in a test or a thread pool is long before the process does; it exists on Linux only; and it
//! leaves the folder.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often a process is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(20);

/// Waits for the end of its input. Each line names the signal that stops the process in our charge
/// and its number; an empty line says that there is none now. The process gets five seconds, then
/// it is killed; its own children may need a moment longer, hence the loop around `rm`. A process
/// that has ended but that nobody reaps (as in containers without an init) is not waited for.
const WATCHER: &str = r#"
trap '' HUP INT TERM
is_running() { kill -0 "$pid" && ! grep -qs '^State:.*Z' "/proc/$pid/status"; }
while read -r a b; do signal=$a pid=$b; done
if [ -n "$pid" ]; then
  kill -s "$signal" "$pid"
  tries=0
  while is_running && [ "$tries" -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
  [ "$tries" -lt 100 ] || kill -s KILL "$pid"
fi
tries=0
while [ -e "$1" ] && [ "$tries" -lt 100 ]; do
  rm -rf -- "$1" || sleep 0.05
  tries=$((tries + 1))
done
"#;

/// Waits for a word from us before it becomes the program: if we end between starting it and
/// telling the watcher of it, it ends too.
const STARTER: &str = r#"read -r go && exec "$@" </dev/null"#;

/// An account without powers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account for programs that refuse to run as root: `postgres` if there is one, else
    /// `nobody`.
    fn unprivileged() -> Option<Self> {
        let accounts = fs::read_to_string("/etc/passwd").ok()?;
        Self::named("postgres", &accounts).or_else(|| Self::named("nobody", &accounts))
    }

    fn named(name: &str, accounts: &str) -> Option<Self> {
        let mut fields = accounts
            .lines()
            .map(|line| line.split(':'))
            .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
        let (uid, gid) = (fields.nth(1)?, fields.next()?);
        Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    }
}

/// A program to start.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// Its path.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// As whom; `None` is as ourselves.
    pub account: Option<Account>,
    /// The signal that makes it stop at once, in order: `QUIT`.
    pub stop_signal: &'static str,
    /// Where its output goes, inside the folder.
    pub log: &'static str,
}

/// A folder that only we can read, and at most one process at a time that works in it.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    watcher: Child,
    /// The pipe; `None` only while dropping.
    orders: Option<ChildStdin>,
    process: Option<Child>,
}

impl Scratch {
    /// Makes the folder (0700) and starts its watcher.
    ///
    /// # Errors
    /// When there is no room for a folder, or no shell.
    pub fn new() -> io::Result<Self> {
        let private = fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("rowarden-").permissions(private).tempdir()?;
        let mut watcher = Command::new("sh")
            .args(["-c", WATCHER, "rowarden-watcher"])
            .arg(folder.path())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Out of reach of a Ctrl-C or a kill that means our process group.
            .process_group(0)
            .spawn()?;
        let orders = watcher.stdin.take();
        Ok(Self { folder: folder.keep(), watcher, orders, process: None })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The number of the process that works here.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Gives the folder to an unprivileged account if we are root, and says which one; `None` when
    /// we are not root.
    ///
    /// # Errors
    /// When there is no such account.
    pub fn hand_over(&self) -> io::Result<Option<Account>> {
        // The folder is ours since a moment ago, so its owner is who we are.
        const ROOT: u32 = 0;
        if fs::metadata(&self.folder)?.uid() != ROOT {
            return Ok(None);
        }
        let account = Account::unprivileged()
            .ok_or_else(|| io::Error::other("neither `postgres` nor `nobody` is in /etc/passwd"))?;
        self.give(&self.folder, account)?;
        Ok(Some(account))
    }

    /// Gives a file in the folder to the account.
    ///
    /// # Errors
    /// When we may not.
    pub fn give(&self, file: &Path, account: Account) -> io::Result<()> {
        chown(file, Some(account.uid), Some(account.gid))
    }

    /// Starts a program; one that is still running here is stopped with us, not by this.
    ///
    /// # Errors
    /// When it cannot be started or the watcher is gone; then nothing is left running.
    pub fn start(&mut self, launch: &Launch<'_>) -> io::Result<()> {
        let log = File::create(self.folder.join(launch.log))?;
        let mut command = Command::new("sh");
        command
            .args(["-c", STARTER, "sh"])
            .arg(launch.program)
            .args(&launch.arguments)
            .current_dir(&self.folder)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        // What the user has set for clients (PGDATA, PGPORT, …) must not steer a server of ours.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_for_postgres(name)) {
            command.env_remove(name);
        }
        if let Some(account) = launch.account {
            command.gid(account.gid).uid(account.uid);
        }
        let mut process = command.spawn()?;
        let go = process.stdin.take();
        let ordered = self.order(&format!("{} {}", launch.stop_signal, process.id()));
        self.process = Some(process);
        ordered?;
        go.map_or(Ok(()), |mut go| go.write_all(b"go\n"))
    }

    /// Whether the process has ended by itself.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn has_ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.process.as_mut().map(Child::try_wait).transpose()?.flatten();
        if status.is_some() {
            // Its number may soon be another's.
            self.process = None;
            self.order("")?;
        }
        Ok(status)
    }

    /// Waits for a process that ends by itself.
    ///
    /// # Errors
    /// When it has not ended in this time.
    pub fn finish(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.has_ended()? {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// The end of a program's log, for an error message.
    #[must_use]
    pub fn log_tail(&self, log: &str) -> String {
        const LINES: usize = 8;
        let text = fs::read(self.folder.join(log)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let mut last: Vec<&str> = lines.rev().take(LINES).collect();
        last.reverse();
        last.join("\n")
    }

    fn order(&mut self, line: &str) -> io::Result<()> {
        match &mut self.orders {
            Some(orders) => writeln!(orders, "{line}"),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.orders.take());
        // Reaped at once, so that the watcher sees it gone.
        while let Some(process) = &mut self.process {
            if !matches!(process.try_wait(), Ok(None)) {
                break;
            }
            if !matches!(self.watcher.try_wait(), Ok(None)) {
                // Someone has killed the watcher: then it is up to us.
                let _ = process.kill();
            }
            thread::sleep(POLL);
        }
        let _ = self.watcher.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn is_for_postgres(name: &OsString) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("PG"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;
    use std::time::Duration;

    use super::{Account, Launch, Scratch};

    fn sleeper(program: &Path) -> Launch<'_> {
        Launch {
            program,
            arguments: vec!["600".into()],
            account: None,
            stop_signal: "TERM",
            log: "log",
        }
    }

    #[test]
    fn a_program_that_ends_by_itself_is_waited_for_and_its_output_kept() {
        let mut scratch = Scratch::new().unwrap();
        let launch = Launch { arguments: vec!["hello".into()], ..sleeper(Path::new("echo")) };

        scratch.start(&launch).unwrap();
        let status = scratch.finish(Duration::from_secs(30)).unwrap();

        assert!(status.success());
        assert_eq!(scratch.log_tail("log"), "hello");
        assert_eq!(scratch.process_id(), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_a_failure_with_a_log() {
        let mut scratch = Scratch::new().unwrap();

        scratch.start(&sleeper(Path::new("/no/such/program"))).unwrap();
        let status = scratch.finish(Duration::from_secs(30)).unwrap();

        assert_eq!(status.code(), Some(127));
        assert!(scratch.log_tail("log").contains("/no/such/program"));
    }

    #[test]
    fn folder_and_process_vanish_even_when_the_watcher_has_been_killed() {
        let mut scratch = Scratch::new().unwrap();
        scratch.start(&sleeper(Path::new("sleep"))).unwrap();
        let folder = scratch.path().to_owned();
        let process = scratch.process_id().unwrap();
        let _ = scratch.watcher.kill();
        let _ = scratch.watcher.wait();

        drop(scratch);

        assert!(!folder.exists());
        let alive = Command::new("sh").args(["-c", &format!("kill -0 {process}")]).output();
        assert!(!alive.unwrap().status.success());
    }

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let accounts = "root:x:0:0::/:/bin/sh\npostgres2:x:7:8::/:\npostgres:x:101:104:,,,:/:\n";

        assert_eq!(Account::named("postgres", accounts), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(Account::named("post", accounts), None);
    }
}
