//! `rowarden audit query`: the lines that answer a question.

use std::io::{self, Write};
use std::ops::ControlFlow;

use clap::Args;
use serde_json::Value;

use crate::cli::Exit;
use crate::cli::audit::human::{field, show};
use crate::cli::audit::select::Selection;
use crate::cli::report::Colours;

/// Columns that answer most questions.
const FIELDS: &str = "time,kind,decision,reason,severity,actor.user,client.address,db.namespace,\
                      db.operation.name,db.query.summary,jira.operation,session.id,id";

/// Find lines
#[derive(Args, Debug)]
pub(super) struct Query {
    #[command(flatten)]
    selection: Selection,
    /// Print the lines as they stand, one JSON object each
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print the fields as comma-separated values
    #[arg(long)]
    csv: bool,
    /// The columns of --csv, as field paths parted by commas
    #[arg(long, value_name = "PATHS", default_value = FIELDS)]
    fields: String,
    /// Stop after so many lines
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// Print how many lines there are, and none of them
    #[arg(long, conflicts_with_all = ["csv", "json", "limit"])]
    count: bool,
}

pub(super) fn run(query: &Query, out: &mut impl Write) -> io::Result<Exit> {
    let filter = match query.selection.filter(&[]) {
        Ok(filter) => filter,
        Err(exit) => return Ok(exit),
    };
    let fields: Vec<&str> = query.fields.split(',').collect();
    if query.csv {
        writeln!(out, "{}", query.fields)?;
    }
    let mut found = 0_u64;
    let read = query.selection.for_each(&filter, out, |line, out| {
        found += 1;
        if query.limit.is_some_and(|most| found > most) {
            return Ok(ControlFlow::Break(()));
        }
        if query.json {
            out.write_all(line)?;
            out.write_all(b"\n")?;
        } else if query.csv {
            writeln!(out, "{}", csv(line, &fields))?;
        } else if !query.count {
            writeln!(out, "{}", show(line, Colours::Off))?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if query.count && read.is_ok() {
        writeln!(out, "{found}")?;
    }
    Ok(read.err().unwrap_or(Exit::Good))
}

fn csv(line: &[u8], fields: &[&str]) -> String {
    let event: Value = serde_json::from_slice(line).unwrap_or_default();
    let cells: Vec<String> = fields.iter().map(|path| cell(&field(&event, path))).collect();
    cells.join(",")
}

/// RFC 4180. A text that a spreadsheet would take for a formula begins with a quote mark, so that a
/// client cannot have one carried out on the auditor's desk.
fn cell(text: &str) -> String {
    let text = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{cell, csv};

    #[test]
    fn cells_are_quoted_and_no_formula_survives() {
        assert_eq!(cell("plain"), "plain");
        assert_eq!(cell("a,b"), "\"a,b\"");
        assert_eq!(cell("say \"a\""), "\"say \"\"a\"\"\"");
        assert_eq!(cell("=cmd()"), "'=cmd()");
    }

    #[test]
    fn a_field_that_is_not_there_is_an_empty_cell() {
        let line = br#"{"kind":"db.statement","db":{"statements":2}}"#;

        assert_eq!(csv(line, &["kind", "actor.user", "db.statements"]), "db.statement,,2");
    }
}
