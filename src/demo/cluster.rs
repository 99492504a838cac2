//! A throw-away PostgreSQL cluster: real, private, gone with us.
//!
//! It lives in a folder that only its owner can enter and listens on a unix socket in there, so the
//! only way in from outside is the gate: the demo shows the deployment that it preaches. It trades
//! durability for speed (`fsync=off`), because nothing in it is worth keeping.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::demo::client::reply::{Reply, ServerError};
use crate::demo::client::{Client, ClientError, Login, message};
use crate::demo::finder::Installation;
use crate::demo::scratch::{Account, Launch, Scratch};
use crate::listen::Address;

/// The port in the socket's name when there is no TCP: PostgreSQL's own.
const DEFAULT_PORT: u16 = 5432;

/// How long a cluster may take to be made, and to be ready: both take a second or two on an idle
/// machine, and continuous integration is not idle.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often a starting server is asked.
const POLL: Duration = Duration::from_millis(20);

/// The role that `initdb` makes.
const SUPERUSER: &str = "postgres";

/// How the server asks for a password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authentication {
    /// MD5, which old servers still use. The demo's own client does not speak it.
    Md5,
    /// In the clear.
    Password,
    /// As it should be.
    #[default]
    ScramSha256,
    /// Not at all.
    Trust,
}

impl Authentication {
    const fn method(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Password => "password",
            Self::ScramSha256 => "scram-sha-256",
            Self::Trust => "trust",
        }
    }
}

/// What kind of cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// How it asks for passwords.
    pub authentication: Authentication,
    /// Whether it listens on a loopback port as well.
    pub tcp: bool,
    /// More settings, as in `postgresql.conf`.
    pub settings: Vec<(String, String)>,
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// `initdb` failed; this is what it said.
    #[error("initdb failed:\n{log}")]
    Initdb {
        /// The end of its output.
        log: String,
    },
    /// A step on our side failed.
    #[error("cannot {doing}")]
    Io {
        /// Which.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The server ended before it was ready; this is what it said.
    #[error("the server ended while starting:\n{log}")]
    Server {
        /// The end of its log.
        log: String,
    },
    /// The server was not ready in time; this is what it said.
    #[error("the server was not ready in time:\n{log}")]
    Slow {
        /// The end of its log.
        log: String,
    },
}

/// Says which step failed.
fn while_doing(doing: &'static str) -> impl FnOnce(io::Error) -> ClusterError {
    move |source| ClusterError::Io { doing, source }
}

/// A running cluster. It stops, and its folder vanishes, on drop and when this process dies.
#[derive(Debug)]
pub struct Cluster {
    scratch: Scratch,
    password: String,
    port: u16,
    tcp: bool,
}

impl Cluster {
    /// Makes a cluster and waits until it answers.
    ///
    /// # Errors
    /// When `initdb` or the server fails; nothing is left behind.
    pub fn start(
        installation: &Installation,
        options: &ClusterOptions,
    ) -> Result<Self, ClusterError> {
        let scratch = Scratch::new().map_err(while_doing("make a folder for the cluster"))?;
        let account = scratch.hand_over().map_err(while_doing("find an account without powers"))?;
        let password = Uuid::new_v4().simple().to_string();
        let mut cluster = Self { scratch, password, port: DEFAULT_PORT, tcp: options.tcp };
        cluster.initdb(installation, options, account)?;
        cluster.start_server(installation, options, account)?;
        Ok(cluster)
    }

    /// The folder that holds the socket.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The socket itself.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket_folder().join(format!(".s.PGSQL.{}", self.port))
    }

    /// The way in that passes no gate.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::Unix(self.socket())
    }

    /// The loopback port, if the cluster was asked to have one.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.then_some(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
    }

    /// The login of the superuser `postgres`.
    #[must_use]
    pub fn superuser(&self, database: &str) -> Login {
        Login::new(SUPERUSER, &self.password, database)
    }

    /// The superuser's password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The number of the server's process.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.scratch.process_id()
    }

    /// Connects as the superuser, past every gate.
    ///
    /// # Errors
    /// When the server does not let us in.
    pub fn connect(&self, database: &str) -> Result<Client, ClientError> {
        Client::connect(&self.address(), &self.superuser(database))
    }

    /// Runs a string of statements as the superuser; an error of the server's is an error here.
    ///
    /// # Errors
    /// When the server refuses, or cannot be reached.
    pub fn execute(&self, database: &str, sql: &str) -> Result<Reply, ClientError> {
        Ok(self.connect(database)?.query(sql)?.into_result()?)
    }

    fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    fn initdb(
        &mut self,
        installation: &Installation,
        options: &ClusterOptions,
        account: Option<Account>,
    ) -> Result<(), ClusterError> {
        let password_file = self.scratch.path().join("password");
        self.write_password(&password_file, account)
            .map_err(while_doing("write the password file"))?;
        let mut arguments: Vec<OsString> = vec!["-D".into(), self.data().into()];
        arguments.extend(
            ["-N", "--encoding=UTF8", "--locale=C", "-U", SUPERUSER, "-A"].map(OsString::from),
        );
        arguments.extend([options.authentication.method().into(), "--pwfile".into()]);
        arguments.push(password_file.clone().into());
        let launch = Launch {
            program: &installation.bin.join("initdb"),
            arguments,
            account,
            stop_signal: "TERM",
            log: "initdb.log",
        };
        self.scratch.start(&launch).map_err(while_doing("start initdb"))?;
        let status = self.scratch.finish(PATIENCE).map_err(while_doing("wait for initdb"))?;
        if !status.success() {
            return Err(ClusterError::Initdb { log: self.scratch.log_tail(launch.log) });
        }
        fs::remove_file(password_file).map_err(while_doing("remove the password file"))
    }

    fn write_password(&self, file: &Path, account: Option<Account>) -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut handle = options.write(true).create_new(true).mode(0o600).open(file)?;
        handle.write_all(self.password.as_bytes())?;
        account.map_or(Ok(()), |account| self.scratch.give(file, account))
    }

    /// Starts the server; with TCP several times if need be, because a port that was free a moment
    /// ago may be another's now.
    fn start_server(
        &mut self,
        installation: &Installation,
        options: &ClusterOptions,
        account: Option<Account>,
    ) -> Result<(), ClusterError> {
        const TRIES: usize = 5;
        for _ in 1..TRIES {
            match self.try_server(installation, options, account) {
                Err(ClusterError::Server { log }) if log.contains("could not bind") => {}
                outcome => return outcome,
            }
        }
        self.try_server(installation, options, account)
    }

    fn try_server(
        &mut self,
        installation: &Installation,
        options: &ClusterOptions,
        account: Option<Account>,
    ) -> Result<(), ClusterError> {
        if options.tcp {
            self.port = free_port().map_err(while_doing("find a free port"))?;
        }
        let mut arguments: Vec<OsString> = vec!["-D".into(), self.data().into(), "-k".into()];
        arguments.push(self.socket_folder().into());
        for (name, value) in self.settings(options) {
            arguments.extend(["-c".into(), format!("{name}={value}").into()]);
        }
        let launch = Launch {
            program: &installation.bin.join("postgres"),
            arguments,
            account,
            stop_signal: "QUIT",
            log: "server.log",
        };
        self.scratch.start(&launch).map_err(while_doing("start the server"))?;
        self.wait_until_ready(launch.log)
    }

    fn settings(&self, options: &ClusterOptions) -> Vec<(String, String)> {
        let fixed = [
            ("listen_addresses", if options.tcp { "127.0.0.1" } else { "" }),
            ("port", &self.port.to_string()),
            ("unix_socket_permissions", "0700"),
            ("fsync", "off"),
            ("synchronous_commit", "off"),
            ("full_page_writes", "off"),
        ];
        let fixed = fixed.map(|(name, value)| (name.to_owned(), value.to_owned()));
        fixed.into_iter().chain(options.settings.iter().cloned()).collect()
    }

    fn wait_until_ready(&mut self, log: &str) -> Result<(), ClusterError> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let ended = self.scratch.has_ended().map_err(while_doing("look at the server"))?;
            if ended.is_some() {
                return Err(ClusterError::Server { log: self.scratch.log_tail(log) });
            }
            if is_ready(&self.address()) {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        Err(ClusterError::Slow { log: self.scratch.log_tail(log) })
    }
}

/// Whether a server asks us who we are. One that is still starting says 57P03 instead.
fn is_ready(address: &Address) -> bool {
    const CANNOT_CONNECT_NOW: &str = "57P03";
    let answer = Client::open(address).and_then(|mut client| {
        client.send(&message::start_up(&[("user", SUPERUSER), ("database", SUPERUSER)]))?;
        client.receive()
    });
    match answer {
        Ok(answer) if answer.tag == b'E' => {
            ServerError::decode(&answer.body).sqlstate != CANNOT_CONNECT_NOW
        }
        Ok(answer) => answer.tag == b'R',
        Err(_) => false,
    }
}

/// A loopback port that nobody listens on at this moment.
///
/// # Errors
/// When the system has none left.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
