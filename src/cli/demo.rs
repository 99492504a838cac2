//! `rowarden demo`: the whole thing in one command.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use crate::cli::{Exit, complain};
use crate::demo::{self, DemoError, DemoOptions};

/// Run the gates before a throw-away PostgreSQL and a stand-in for JIRA, attack them, and show that nothing changed
#[derive(Args, Debug)]
pub struct Demo {
    /// Stay up afterwards, and print how to connect
    #[arg(long)]
    keep: bool,
    /// Print the tour and its result only
    #[arg(long)]
    tour_only: bool,
    /// Run the stand-in for JIRA alone, without a gate, and print its URL and its token
    #[arg(long, conflicts_with_all = ["keep", "tour_only", "pg_bin"])]
    jira_only: bool,
    /// The folder of PostgreSQL's programs
    #[arg(long, value_name = "DIR")]
    pg_bin: Option<PathBuf>,
}

/// Runs the demo.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(demo: Demo, out: &mut impl Write) -> io::Result<Exit> {
    if demo.jira_only {
        return match demo::run_jira_only(out) {
            Err(DemoError::Output(error)) => Err(error),
            Err(error) => {
                complain(&error.to_string());
                Ok(Exit::Failed)
            }
            Ok(()) => Ok(Exit::Good),
        };
    }
    let options = DemoOptions {
        keep: demo.keep,
        tour_only: demo.tour_only,
        pg_bin: demo.pg_bin,
        ..DemoOptions::default()
    };
    match demo::run_to(&options, out) {
        Ok(report) if report.is_good() => Ok(Exit::Good),
        Ok(_) => Ok(Exit::Failed),
        Err(DemoError::Output(error)) => Err(error),
        Err(error) => {
            complain(&error.to_string());
            let missing = matches!(error, DemoError::Finder(_));
            Ok(if missing { Exit::ProgramMissing } else { Exit::Failed })
        }
    }
}
