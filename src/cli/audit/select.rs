//! Which lines a command works on.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use clap::Args;
use jiff::Timestamp;

use crate::audit::files::{self, Segment};
use crate::audit::filter::{Filter, time_of};
use crate::cli::Exit;
use crate::cli::audit::{Place, Progress, bad_argument, failed};

/// The lines that somebody wants.
#[derive(Args, Debug)]
pub(super) struct Selection {
    #[command(flatten)]
    pub(super) place: Place,
    /// Terms that must all hold: decision=deny 'db.query.text~drop table' since=24h. Operators: = !=
    /// ~ (contains) > >= < <=; a comma means or
    #[arg(value_name = "TERM")]
    pub(super) terms: Vec<String>,
}

impl Selection {
    /// The filter; whoever asks has been told if it cannot be understood.
    pub(super) fn filter(&self, more: &[&str]) -> Result<Filter, Exit> {
        let terms: Vec<String> = self.terms.iter().map(|term| quoted(term)).collect();
        let text = [&terms.join(" "), &more.join(" ")].map(String::as_str).join(" ");
        // The clock is asked here, at the edge.
        Filter::parse(&text, Timestamp::now()).map_err(bad_argument)
    }

    /// Hands each line that passes to `take`, in order, until it breaks.
    ///
    /// # Errors
    /// The outer one when `take` fails; the inner one, after the operator has been told, when there
    /// are no lines to be had.
    pub(super) fn for_each(
        &self,
        filter: &Filter,
        out: &mut impl Write,
        mut take: impl FnMut(&[u8], &mut dyn Write) -> io::Result<ControlFlow<()>>,
    ) -> io::Result<Result<(), Exit>> {
        let dir = match self.place.folder(out)? {
            Ok(dir) => dir,
            Err(exit) => return Ok(Err(exit)),
        };
        let segments = match wanted_segments(&dir, filter) {
            Ok(segments) => segments,
            Err(error) => return Ok(Err(failed(&error))),
        };
        let mut progress = Progress::start();
        for segment in segments {
            let read = segment.read(|piece| {
                progress.add(piece.len() as u64);
                filter.select(piece, |line| match take(line, &mut *out) {
                    Ok(ControlFlow::Continue(())) => ControlFlow::Continue(()),
                    ended => ControlFlow::Break(ended),
                })
            });
            match read {
                Err(error) => return Ok(Err(failed(&error))),
                Ok(ControlFlow::Break(ended)) => return ended.map(|_| Ok(())),
                Ok(ControlFlow::Continue(())) => {}
            }
        }
        Ok(Ok(()))
    }
}

/// A shell has taken the quotes off a term with spaces in it.
fn quoted(term: &str) -> String {
    let is_one_term = term.contains(char::is_whitespace) && !term.contains('"');
    let terms = term.split_whitespace().filter(|word| word.contains(['=', '~', '<', '>'])).count();
    match term.find(['=', '~', '<', '>']) {
        Some(at) if is_one_term && terms == 1 => {
            let (path, value) = term.split_at_checked(at + 1).unwrap_or((term, ""));
            format!("{path}\"{value}\"")
        }
        _ => term.to_owned(),
    }
}

/// The segments that may hold lines that pass. One is too old if the next begins too early.
fn wanted_segments(dir: &Path, filter: &Filter) -> Result<Vec<Segment>, files::FilesError> {
    let mut segments = files::segments(dir)?;
    let too_old = |next: &Segment| {
        first_line(next)
            .is_some_and(|line| time_of(&line).is_some_and(|time| filter.is_before(time)))
    };
    let first = (1..segments.len()).rfind(|&at| segments.get(at).is_some_and(too_old));
    segments.drain(..first.unwrap_or(0));
    Ok(segments)
}

fn first_line(segment: &Segment) -> Option<Vec<u8>> {
    match segment.read_lines(|line| ControlFlow::Break(line.to_vec())) {
        Ok(ControlFlow::Break(line)) => Some(line),
        _ => None,
    }
}
