//! `rowarden audit`: what an auditor does with a log, without the gate that writes it.

mod export;
mod human;
mod proof;
mod query;
mod report;
mod select;
mod tail;

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use crate::audit::schema;
use crate::cli::source::{self, Audience};
use crate::cli::{Exit, complain};

/// How often people are told how far it is, if it takes that long at all.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Look into the audit log, and prove that it is whole
#[derive(Args, Debug)]
pub(super) struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Export(export::Export),
    Keygen(proof::Keygen),
    Prove(proof::Prove),
    Query(query::Query),
    Report(report::Report),
    /// Print the JSON schema of a line
    Schema,
    Tail(tail::Tail),
    Verify(proof::Verify),
}

/// Does what was asked.
///
/// # Errors
/// When `out` cannot be written.
pub(super) fn run(audit: &Audit, out: &mut impl Write) -> io::Result<Exit> {
    match &audit.command {
        Command::Export(export) => export::run(export, out),
        Command::Keygen(keygen) => proof::keygen(keygen, out),
        Command::Prove(prove) => proof::prove(prove, out),
        Command::Query(query) => query::run(query, out),
        Command::Report(report) => report::run(report, out),
        Command::Schema => {
            writeln!(out, "{:#}", schema::json_schema())?;
            Ok(Exit::Good)
        }
        Command::Tail(tail) => tail::run(tail, out),
        Command::Verify(verify) => proof::verify(verify, out),
    }
}

/// Where the log is.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Place {
    /// The configuration of the gate that writes it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Place {
    fn folder(&self, out: &mut impl Write) -> io::Result<Result<PathBuf, Exit>> {
        match (&self.dir, &self.config) {
            (Some(dir), _) => Ok(Ok(dir.clone())),
            (None, Some(config)) => {
                let config = source::read_config(config, Audience::People, out)?;
                Ok(config.map(|config| config.audit.dir))
            }
            (None, None) => Ok(Err(Exit::BadConfiguration)),
        }
    }
}

/// Tells people how many bytes have been read, every two seconds.
struct Progress {
    done: u64,
    told_at: Instant,
    is_for_people: bool,
}

impl Progress {
    fn start() -> Self {
        Self { done: 0, told_at: Instant::now(), is_for_people: io::stderr().is_terminal() }
    }

    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        if self.is_for_people && self.told_at.elapsed() >= PROGRESS_EVERY {
            self.told_at = Instant::now();
            // Standard error may be closed; there is nobody to tell then.
            let _ = write!(io::stderr(), "\r{} MB read", self.done / 1_000_000);
        }
    }
}

/// Says what is wrong with the log, and that this is the end.
fn failed(error: &(dyn std::error::Error + 'static)) -> Exit {
    complain(&with_causes(error));
    Exit::Failed
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

fn bad_argument(what: impl Display) -> Exit {
    complain(&what.to_string());
    Exit::BadConfiguration
}
