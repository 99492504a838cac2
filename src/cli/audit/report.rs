//! `rowarden audit report`: a period on one page.

use std::io::{self, Write};
use std::ops::ControlFlow;

use clap::{Args, ValueEnum};

use crate::audit::report::{self, Form};
use crate::audit::{keys, verify};
use crate::cli::Exit;
use crate::cli::audit::select::Selection;
use crate::cli::audit::with_causes;

/// Say on one page what happened: who, what, what was refused and why, and whether the log is whole
#[derive(Args, Debug)]
pub(super) struct Report {
    #[command(flatten)]
    selection: Selection,
    /// Count from then on: a time, or a while ago such as 7d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// A self-contained page, Markdown, or one JSON object
    #[arg(long, value_enum, default_value = "md")]
    format: Word,
}

/// The forms as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Word {
    Html,
    Json,
    Md,
}

pub(super) fn run(report: &Report, out: &mut impl Write) -> io::Result<Exit> {
    let since = report.since.as_ref().map(|since| format!("since={since}"));
    let more: Vec<&str> = since.as_deref().into_iter().collect();
    let filter = match report.selection.filter(&more) {
        Ok(filter) => filter,
        Err(exit) => return Ok(exit),
    };
    let mut counted = report::Report::default();
    let read = report.selection.for_each(&filter, out, |line, _| {
        counted.add(line);
        Ok(ControlFlow::Continue(()))
    })?;
    if let Err(exit) = read {
        return Ok(exit);
    }
    let chain = match report.selection.place.folder(out)? {
        Ok(dir) => chain(&dir),
        Err(exit) => return Ok(exit),
    };
    let form = match report.format {
        Word::Html => Form::Html,
        Word::Json => Form::Json,
        Word::Md => Form::Markdown,
    };
    out.write_all(counted.page(&chain, form).as_bytes())?;
    Ok(Exit::Good)
}

/// What a verification finds, in a sentence.
fn chain(dir: &std::path::Path) -> String {
    let key = match keys::verifier(dir) {
        Ok(key) => key,
        Err(error) => return format!("NOT VERIFIED: {}", with_causes(&error)),
    };
    match verify::verify(dir, &key, None, |_| ()) {
        Ok(whole) => format!("whole: {} lines, {} of them signed for", whole.next, whole.signed),
        Err(broken) => format!("NOT WHOLE: {}", with_causes(&broken)),
    }
}
