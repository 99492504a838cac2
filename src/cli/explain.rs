//! `rowarden explain`: what a reason means.

use std::io::{self, Write};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use crate::cli::Exit;
use crate::policy::reason::Reason;

/// Tell what the reason of a refusal means
#[derive(Args, Debug)]
pub struct Explain {
    /// The reason, as in the refusal's DETAIL and in the audit log
    #[arg(value_parser = reason_parser())]
    reason: Reason,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn reason_parser() -> impl TypedValueParser<Value = Reason> {
    PossibleValuesParser::new(Reason::ALL.map(Reason::code))
        .try_map(|code| Reason::from_code(&code).ok_or("no such reason"))
}

/// What a reason means, as programs read it.
#[derive(Serialize)]
struct Meaning {
    reason: &'static str,
    sqlstate: &'static str,
    severity: &'static str,
    explanation: &'static str,
    hint: &'static str,
}

/// Explains.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(explain: &Explain, out: &mut impl Write) -> io::Result<Exit> {
    explain_reason(explain.reason, explain.json, out)
}

fn explain_reason(reason: Reason, json: bool, out: &mut impl Write) -> io::Result<Exit> {
    if json {
        let meaning = Meaning {
            reason: reason.code(),
            sqlstate: reason.sqlstate(),
            severity: reason.severity(),
            explanation: reason.explanation(),
            hint: reason.hint(),
        };
        serde_json::to_writer(&mut *out, &meaning)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{} (SQLSTATE {})\n", reason.code(), reason.sqlstate())?;
        writeln!(out, "{}\n\nInstead: {}", reason.explanation(), reason.hint())?;
    }
    Ok(Exit::Good)
}
