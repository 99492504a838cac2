//! The gate under test: our own program with `serve`, as anybody would deploy it.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use uuid::Uuid;

use crate::demo::client::{Client, ClientError, Login};
use crate::demo::cluster::free_port;
use crate::demo::scratch::{Launch, Scratch};
use crate::listen::Address;

/// How long the gate may take until it lets a client in.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a starting gate is asked.
const POLL: Duration = Duration::from_millis(20);

/// Where the gate's own output goes.
const LOG: &str = "gate.log";

/// Why there is no gate.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// A step on our side failed.
    #[error("cannot start the gate: {0}")]
    Io(#[from] io::Error),
    /// It ended, or lets nobody in; this is what it said.
    #[error("the gate does not let a client in ({why}); it said:\n{log}")]
    Unusable {
        /// What the client saw, or that it ended.
        why: String,
        /// The end of its log.
        log: String,
    },
    /// The file for it could not be written.
    #[error("cannot write the gate's configuration: {0}")]
    Written(#[from] toml::ser::Error),
}

/// The configuration file, as the gate reads it.
#[derive(Serialize)]
struct File<'a> {
    postgres: Postgres,
    jira: Jira<'a>,
    audit: Audit<'a>,
}

#[derive(Serialize)]
struct Jira<'a> {
    listen: String,
    upstream: &'a str,
    credential: String,
    clients: String,
}

#[derive(Serialize)]
struct Postgres {
    listen: String,
    upstream: String,
}

#[derive(Serialize)]
struct Audit<'a> {
    dir: &'a Path,
}

/// What the gate stands before.
#[derive(Clone, Copy, Debug)]
pub struct Behind<'a> {
    /// The folder with the database server's socket.
    pub socket_folder: &'a Path,
    /// The URL of the JIRA site.
    pub site: &'a str,
    /// What the site takes from the gate, which keeps it to itself.
    pub site_token: &'a str,
}

/// A running gate. It stops, and its folder vanishes, on drop and when this process dies.
#[derive(Debug)]
pub struct Gate {
    scratch: Scratch,
    port: u16,
    jira_port: u16,
    jira_token: String,
}

impl Gate {
    /// Starts `program serve` in front of the server and the site, and waits until `login` is let in.
    /// `program` is our own when `None`.
    ///
    /// # Errors
    /// When the gate ends or lets nobody in; nothing is left behind.
    pub fn start(
        program: Option<&Path>,
        behind: Behind<'_>,
        login: &Login,
    ) -> Result<Self, GateError> {
        const TRIES: usize = 3;
        let program = program.map_or_else(env::current_exe, |program| Ok(program.to_owned()))?;
        for _ in 1..TRIES {
            match Self::try_start(&program, behind, login) {
                // The port may have become another's between looking and listening.
                Err(GateError::Unusable { log, .. }) if log.contains("in use") => {}
                outcome => return outcome,
            }
        }
        Self::try_start(&program, behind, login)
    }

    fn try_start(program: &Path, behind: Behind<'_>, login: &Login) -> Result<Self, GateError> {
        let mut gate = Self {
            scratch: Scratch::new()?,
            port: free_port()?,
            jira_port: free_port()?,
            jira_token: Uuid::new_v4().simple().to_string(),
        };
        let config = gate.write_config(behind)?;
        gate.scratch.start(&Launch {
            program,
            arguments: vec!["serve".into(), "--config".into(), config.into()],
            account: None,
            stop_signal: "TERM",
            log: LOG,
        })?;
        gate.wait_until_open(login)?;
        Ok(gate)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> Address {
        Address::Tcp(self.socket_address())
    }

    /// The same as an address of TCP.
    #[must_use]
    pub const fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }

    /// Where it listens for clients of JIRA.
    #[must_use]
    pub const fn jira_address(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), self.jira_port)
    }

    /// What it takes from clients of JIRA. The site does not know it.
    #[must_use]
    pub fn jira_token(&self) -> &str {
        &self.jira_token
    }

    /// The folder of its audit log.
    #[must_use]
    pub fn audit_folder(&self) -> PathBuf {
        self.scratch.path().join("audit")
    }

    /// Waits until the gate ends by itself, which it should not.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn watch(&mut self) -> io::Result<String> {
        /// Nobody waits for this answer.
        const SELDOM: Duration = Duration::from_millis(500);
        while self.scratch.has_ended()?.is_none() {
            thread::sleep(SELDOM);
        }
        Ok(self.scratch.log_tail(LOG))
    }

    fn write_config(&self, behind: Behind<'_>) -> Result<PathBuf, GateError> {
        let audit = self.audit_folder();
        let credential = self.write("site-credential", &format!("Bearer {}", behind.site_token))?;
        let clients = self.write("gate-tokens", &format!("tour:{}\n", self.jira_token))?;
        let text = toml::to_string(&File {
            postgres: Postgres {
                listen: self.socket_address().to_string(),
                upstream: format!("unix:{}", behind.socket_folder.display()),
            },
            jira: Jira {
                listen: self.jira_address().to_string(),
                upstream: behind.site,
                credential: format!("file:{}", credential.display()),
                clients: format!("file:{}", clients.display()),
            },
            audit: Audit { dir: &audit },
        })?;
        Ok(self.write("rowarden.toml", &text)?)
    }

    /// Writes a file that only we can read.
    fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.scratch.path().join(name);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    }

    fn wait_until_open(&mut self, login: &Login) -> Result<(), GateError> {
        let deadline = Instant::now() + PATIENCE;
        let mut why = String::new();
        while Instant::now() < deadline {
            if let Some(status) = self.scratch.has_ended()? {
                why = format!("it ended: {status}");
                break;
            }
            match Client::connect(&self.address(), login) {
                Ok(_) => return Ok(()),
                Err(ClientError::Io(error)) => why = error.to_string(),
                Err(refusal) => {
                    why = refusal.to_string();
                    break;
                }
            }
            thread::sleep(POLL);
        }
        Err(GateError::Unusable { why, log: self.scratch.log_tail(LOG) })
    }
}
