//! `rowarden audit export`: the lines in a format of others.

use std::io::{self, Write};
use std::ops::ControlFlow;

use clap::{Args, ValueEnum};

use crate::audit::export::{self, Format};
use crate::cli::Exit;
use crate::cli::audit::select::Selection;
use crate::cli::complain;

/// Print lines in the format of a collector, one event a line
#[derive(Args, Debug)]
pub(super) struct Export {
    #[command(flatten)]
    selection: Selection,
    /// The format: OCSF 1.8.0, ECS 8, CEF 0 or OTLP/HTTP JSON
    #[arg(long, value_enum)]
    format: Word,
}

/// The formats as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Word {
    Cef,
    Ecs,
    Ocsf,
    Otlp,
}

impl From<Word> for Format {
    fn from(word: Word) -> Self {
        match word {
            Word::Cef => Self::Cef,
            Word::Ecs => Self::Ecs,
            Word::Ocsf => Self::Ocsf,
            Word::Otlp => Self::Otlp,
        }
    }
}

pub(super) fn run(export: &Export, out: &mut impl Write) -> io::Result<Exit> {
    let filter = match export.selection.filter(&[]) {
        Ok(filter) => filter,
        Err(exit) => return Ok(exit),
    };
    let mut strange = 0_u64;
    let read = export.selection.for_each(&filter, out, |line, out| {
        match export::export(line, export.format.into()) {
            Some(event) => writeln!(out, "{event}")?,
            None => strange += 1,
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if strange > 0 {
        complain(&format!("{strange} lines are no events and were left out"));
        return Ok(Exit::Failed);
    }
    Ok(read.err().unwrap_or(Exit::Good))
}
