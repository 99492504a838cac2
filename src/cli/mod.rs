//! The command line: arguments in, exit code out.

mod access;
mod answer;
mod audit;
pub mod certs;
pub mod check;
pub mod demo;
pub mod explain;
mod explain_http;
mod gates;
pub mod report;
pub mod serve;
pub mod site;
mod source;
pub mod user;

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Stack of every thread that may judge SQL: 64 MiB, because parsers recurse as deep as the text is
/// nested. It is address space only until it is used.
const JUDGE_STACK_BYTES: usize = 64 << 20;

/// The read-only warden: stands in front of a database and lets every read pass and no write.
#[derive(Debug, Parser)]
#[command(name = "rowarden", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Certs(certs::Certs),
    Audit(audit::Audit),
    Check(check::Check),
    Demo(demo::Demo),
    Explain(explain::Explain),
    Serve(serve::Serve),
    User(user::User),
}

/// How a command ended. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Good,
    /// A check failed, or something went wrong under way.
    Failed,
    /// A program that is needed is not installed.
    ProgramMissing,
    /// The arguments, the configuration or the policy have mistakes.
    BadConfiguration,
    /// The server behind the gate cannot be reached.
    Unavailable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Good => 0,
            Exit::Failed => 1,
            Exit::ProgramMissing => 3,
            Exit::BadConfiguration => 64,
            Exit::Unavailable => 69,
        })
    }
}

/// Runs the command that the arguments name (the program's own name first).
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return answer_arguments(&error),
    };
    if let Err(exit) = start_log() {
        return exit;
    }
    let mut out = BufWriter::new(io::stdout());
    let ended = obey(arguments.command, &mut out).and_then(|exit| out.flush().map(|()| exit));
    match ended {
        Ok(exit) => exit,
        // Whoever read our output has had enough of it: `rowarden explain … | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Good,
        Err(error) => {
            complain(&error.to_string());
            Exit::Failed
        }
    }
}

fn obey(command: Command, out: &mut (impl Write + Send)) -> io::Result<Exit> {
    match command {
        Command::Certs(certs) => certs::run(&certs, out),
        Command::Audit(audit) => audit::run(&audit, out),
        Command::Check(check) => check::run(&check, out),
        Command::Demo(demo) => demo::run(demo, out),
        Command::Explain(explain) => explain::run(&explain, out),
        Command::Serve(serve) => serve::run(&serve, gates::run, out),
        Command::User(user) => user::run(&user, out),
    }
}

/// `--help` and `--version` are answers; everything else that clap says is about a mistake.
fn answer_arguments(error: &clap::Error) -> Exit {
    // Where it is printed to may be closed; there is nobody to tell then.
    let _ = error.print();
    if error.use_stderr() { Exit::BadConfiguration } else { Exit::Good }
}

/// What operators read goes to standard error; standard output belongs to the command's result.
fn start_log() -> Result<(), Exit> {
    let wanted = std::env::var("ROWARDEN_LOG").unwrap_or_default();
    let wanted = if wanted.is_empty() { "info" } else { wanted.as_str() };
    let filter = EnvFilter::try_new(wanted).map_err(|error| {
        complain(&format!("ROWARDEN_LOG is not a filter: {error}"));
        Exit::BadConfiguration
    })?;
    // Refused only when a log is set up already, which then stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .try_init();
    Ok(())
}

/// Tells the operator what is wrong.
fn complain(message: &str) {
    // Standard error may be closed; there is nobody to tell then.
    let _ = writeln!(io::stderr(), "rowarden: {message}");
}

/// Works on a thread on which SQL may be judged.
fn on_judge_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(JUDGE_STACK_BYTES);
        let worker = thread.spawn_scoped(scope, work)?;
        worker.join().unwrap_or_else(|_| Err(io::Error::other("the judge failed")))
    })
}

/// The runtime under the gates. It has one worker more than there are processors: one at a time may
/// be stuck in a write of the audit log, and the others go on.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors + 1)
        .enable_all()
        .thread_stack_size(JUDGE_STACK_BYTES)
        .build()
}
