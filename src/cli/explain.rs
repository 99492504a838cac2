//! `rowarden explain`: the verdict on a statement or a request offline, and what a reason means.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::cli::answer::{Answer, judge_lines};
use crate::cli::explain_http::{self, Http};
use crate::cli::source::{self, Audience};
use crate::cli::{Exit, complain, on_judge_thread};
use crate::policy::file::Policy;
use crate::policy::reason::Reason;
use crate::policy::sql::judge_sql;

/// Tell the verdict on a statement or a request without a server, or what a reason means
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Explain {
    #[command(subcommand)]
    question: Option<Question>,
    /// The reason of a refusal, as in its DETAIL and in the audit log
    #[arg(required = true, value_parser = reason_parser())]
    reason: Option<Reason>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Question {
    Http(Http),
    Sql(Sql),
}

/// The verdict on SQL text
#[derive(Args, Debug)]
struct Sql {
    /// The text
    #[arg(required_unless_present = "file", conflicts_with = "file", allow_hyphen_values = true)]
    text: Option<OsString>,
    /// Judge each line of a file, a JSON string or an object with the key `sql`; prints one JSON
    /// object a line
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Judge by the policy of this configuration
    #[arg(long, value_name = "FILE", conflicts_with = "policy")]
    config: Option<PathBuf>,
    /// Judge by the policy in this folder
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn reason_parser() -> impl TypedValueParser<Value = Reason> {
    PossibleValuesParser::new(Reason::ALL.map(Reason::code))
        .try_map(|code| Reason::from_code(&code).ok_or("no such reason"))
}

/// Explains.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(explain: &Explain, out: &mut (impl Write + Send)) -> io::Result<Exit> {
    match (&explain.question, explain.reason) {
        (Some(Question::Http(http)), _) => explain_http::run(http, out),
        (Some(Question::Sql(sql)), _) => on_judge_thread(|| explain_sql(sql, out)),
        (None, Some(reason)) => explain_reason(reason, explain.json, out),
        // The parser of arguments asks for one of the two.
        (None, None) => Ok(Exit::BadConfiguration),
    }
}

fn explain_sql(sql: &Sql, out: &mut impl Write) -> io::Result<Exit> {
    let policy = match policy_for(sql, out)? {
        Ok(policy) => policy,
        Err(exit) => return Ok(exit),
    };
    let judge = |text: &[u8]| judge_sql(&policy, text);
    if let Some(file) = &sql.file {
        return match File::open(file) {
            Ok(lines) => judge_lines(BufReader::new(lines), judge, out),
            Err(error) => {
                complain(&format!("`{}` cannot be read: {error}", file.display()));
                Ok(Exit::BadConfiguration)
            }
        };
    }
    let judged = judge(sql.text.as_deref().unwrap_or_default().as_bytes());
    let answer = Answer::of(&judged);
    if sql.json {
        answer.print_json(out)?;
    } else {
        answer.print(out)?;
    }
    Ok(Exit::Good)
}

/// What a client is told beside the words, by whom it talks to.
fn codes(reason: Reason) -> String {
    if reason.code().starts_with("jira-") || reason.code().starts_with("http-") {
        format!("HTTP {}", reason.http_status())
    } else {
        format!("SQLSTATE {}", reason.sqlstate())
    }
}

fn policy_for(sql: &Sql, out: &mut impl Write) -> io::Result<Result<Policy, Exit>> {
    let config = match &sql.config {
        Some(file) => match source::read_config(file, Audience::People, out)? {
            Ok(config) => config.policy_dir,
            Err(exit) => return Ok(Err(exit)),
        },
        None => None,
    };
    let folder: Option<&Path> = sql.policy.as_deref().or(config.as_deref());
    source::read_policy_in(folder, Audience::People, out)
}

/// What a reason means, as programs read it.
#[derive(Serialize)]
struct Meaning {
    reason: &'static str,
    sqlstate: &'static str,
    status: u16,
    severity: &'static str,
    explanation: &'static str,
    hint: &'static str,
}

fn explain_reason(reason: Reason, json: bool, out: &mut impl Write) -> io::Result<Exit> {
    if json {
        let meaning = Meaning {
            reason: reason.code(),
            sqlstate: reason.sqlstate(),
            status: reason.http_status(),
            severity: reason.severity(),
            explanation: reason.explanation(),
            hint: reason.hint(),
        };
        serde_json::to_writer(&mut *out, &meaning)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{} ({})\n", reason.code(), codes(reason))?;
        writeln!(out, "{}\n\nInstead: {}", reason.explanation(), reason.hint())?;
    }
    Ok(Exit::Good)
}
