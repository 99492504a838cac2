//! Shows the mistakes of a file: to people with the line, the column and a caret, to programs as
//! one JSON object a line.

use std::io::{self, Write};
use std::path::Path;

use ariadne::{CharSet, IndexType, Label, Report, ReportKind, Source};
use serde::Serialize;

use crate::policy::document::{Mistake, Mistakes};

/// Whether to use colours; they are for terminals only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// Escape sequences.
    On,
    /// Plain text.
    Off,
}

/// One mistake for programs. A mistake that concerns the file as a whole has no place.
#[derive(Serialize)]
struct JsonMistake<'a> {
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    message: &'a str,
    help: Option<&'a str>,
}

/// Writes the mistakes of a file for people.
///
/// # Errors
/// When `out` cannot be written.
pub fn for_people(
    file: &Path,
    text: &str,
    mistakes: &Mistakes,
    colours: Colours,
    out: &mut impl Write,
) -> io::Result<()> {
    let name = file.display().to_string();
    for mistake in mistakes {
        let report = report(&name, text, mistake, colours);
        report.write((name.as_str(), Source::from(text)), &mut *out)?;
    }
    Ok(())
}

/// Plain characters, so that the caret is a caret wherever the report is shown.
fn report<'a>(
    name: &'a str,
    text: &str,
    mistake: &Mistake,
    colours: Colours,
) -> Report<'a, (&'a str, std::ops::Range<usize>)> {
    let config = ariadne::Config::default()
        .with_color(colours == Colours::On)
        .with_char_set(CharSet::Ascii)
        .with_index_type(IndexType::Byte);
    let place = (name, caret_place(text, mistake));
    let label = Label::new(place.clone()).with_message(mistake.help.as_deref().unwrap_or("here"));
    Report::build(ReportKind::Error, place)
        .with_config(config)
        .with_message(&mistake.message)
        .with_label(label)
        .finish()
}

/// A caret needs a character to stand under: an empty place is widened to the one that follows.
fn caret_place(text: &str, mistake: &Mistake) -> std::ops::Range<usize> {
    let place = mistake.place.clone();
    let next = text.get(place.start..).and_then(|rest| rest.chars().next());
    let end = place.start + next.map_or(0, char::len_utf8);
    place.start..place.end.max(end)
}

/// Writes the mistakes of a file for programs.
///
/// # Errors
/// When `out` cannot be written.
pub fn for_programs(
    file: &Path,
    text: &str,
    mistakes: &Mistakes,
    out: &mut impl Write,
) -> io::Result<()> {
    for mistake in mistakes {
        let (line, column) = mistake.line_and_column(text);
        let json = JsonMistake {
            file: file.display().to_string(),
            line: Some(line),
            column: Some(column),
            message: &mistake.message,
            help: mistake.help.as_deref(),
        };
        writeln!(out, "{}", serde_json::to_string(&json)?)?;
    }
    Ok(())
}

/// Writes for programs what is wrong with a file as a whole.
///
/// # Errors
/// When `out` cannot be written.
pub fn whole_file_for_programs(file: &Path, message: &str, out: &mut impl Write) -> io::Result<()> {
    let file = file.display().to_string();
    let json = JsonMistake { file, line: None, column: None, message, help: None };
    writeln!(out, "{}", serde_json::to_string(&json)?)
}
