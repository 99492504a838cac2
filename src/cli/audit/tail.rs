//! `rowarden audit tail`: the newest lines, and those that come.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Args;

use crate::audit::files;
use crate::audit::filter::Filter;
use crate::cli::Exit;
use crate::cli::audit::failed;
use crate::cli::audit::human::show;
use crate::cli::audit::select::Selection;
use crate::cli::report::Colours;

/// How often somebody who follows looks for new lines.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Show the newest lines
#[derive(Args, Debug)]
pub(super) struct Tail {
    #[command(flatten)]
    selection: Selection,
    /// How many lines
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 20)]
    lines: usize,
    /// Go on with those that come, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Refusals only
    #[arg(long)]
    deny: bool,
    /// Print the lines as they stand, one JSON object each
    #[arg(long)]
    json: bool,
}

pub(super) fn run(tail: &Tail, out: &mut impl Write) -> io::Result<Exit> {
    let more: &[&str] = if tail.deny { &["decision=deny"] } else { &[] };
    let filter = match tail.selection.filter(more) {
        Ok(filter) => filter,
        Err(exit) => return Ok(exit),
    };
    let dir = match tail.selection.place.folder(out)? {
        Ok(dir) => dir,
        Err(exit) => return Ok(exit),
    };
    let print = Print { is_raw: tail.json, colours: colours() };
    // Before the first look, so that no line falls between.
    let mut end = match End::find(&dir) {
        Ok(end) => end,
        Err(error) => return Ok(failed(&error)),
    };
    let mut newest = VecDeque::new();
    let read = tail.selection.for_each(&filter, out, |line, _| {
        if end.is_behind(line) {
            return Ok(ControlFlow::Break(()));
        }
        newest.push_back(line.to_vec());
        if newest.len() > tail.lines {
            newest.pop_front();
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if let Err(exit) = read {
        return Ok(exit);
    }
    for line in newest {
        print.line(&line, out)?;
    }
    if !tail.follow {
        return Ok(Exit::Good);
    }
    loop {
        out.flush()?;
        thread::sleep(LOOK_EVERY);
        if let Err(error) = end.advance(&dir, &filter, |line| print.line(line, out)) {
            return Ok(failed(&error));
        }
    }
}

fn colours() -> Colours {
    if io::stdout().is_terminal() { Colours::On } else { Colours::Off }
}

struct Print {
    is_raw: bool,
    colours: Colours,
}

impl Print {
    fn line(&self, line: &[u8], out: &mut impl Write) -> io::Result<()> {
        if self.is_raw {
            out.write_all(line)?;
            return out.write_all(b"\n");
        }
        writeln!(out, "{}", show(line, self.colours))
    }
}

/// How far the log has been shown.
struct End {
    path: PathBuf,
    first_seq: u64,
    offset: u64,
    /// The first number that has not been shown; known once a line behind the end was.
    next_seq: u64,
}

impl End {
    /// The end of the log as it is now.
    fn find(dir: &Path) -> io::Result<Self> {
        let segments = files::segments(dir).map_err(io::Error::other)?;
        let newest = segments.last().ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        let mut end = Self {
            path: newest.path.clone(),
            first_seq: newest.first_seq,
            offset: 0,
            next_seq: newest.first_seq,
        };
        end.read(&mut |_| Ok(()), None)?;
        Ok(end)
    }

    fn is_behind(&self, line: &[u8]) -> bool {
        files::seq_of(line).is_some_and(|seq| seq >= self.next_seq)
    }

    /// Shows what has come, also in segments that have begun.
    fn advance(
        &mut self,
        dir: &Path,
        filter: &Filter,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if !self.path.exists() {
            return self.catch_up(dir, filter, take);
        }
        self.read(&mut take, Some(filter))?;
        let path = dir.join(format!("audit-{:020}.jsonl", self.next_seq));
        if self.next_seq > self.first_seq && path.exists() {
            // What was written before the next began.
            self.read(&mut take, Some(filter))?;
            (self.path, self.first_seq, self.offset) = (path, self.next_seq, 0);
            self.read(&mut take, Some(filter))?;
        }
        Ok(())
    }

    /// What was followed has been closed and compressed in the meantime.
    fn catch_up(
        &mut self,
        dir: &Path,
        filter: &Filter,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        for segment in files::segments(dir).map_err(io::Error::other)? {
            if segment.first_seq < self.first_seq {
                continue;
            }
            let mut offset = 0;
            let read = segment.read_lines(|line| {
                offset += line.len() as u64 + 1;
                let fresh = files::seq_of(line).is_some_and(|seq| seq >= self.next_seq);
                if !fresh {
                    return ControlFlow::Continue(());
                }
                self.next_seq += 1;
                filter.select(line, |line| flow(take(line)))
            });
            if let ControlFlow::Break(error) = read? {
                return Err(error);
            }
            (self.path, self.first_seq, self.offset) = (segment.path, segment.first_seq, offset);
        }
        Ok(())
    }

    fn read(
        &mut self,
        take: &mut impl FnMut(&[u8]) -> io::Result<()>,
        filter: Option<&Filter>,
    ) -> io::Result<()> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            // Compressed in the meantime: the next look catches up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut fresh = Vec::new();
        file.read_to_end(&mut fresh)?;
        let whole = memchr::memrchr(b'\n', &fresh).map_or(0, |newline| newline + 1);
        fresh.truncate(whole);
        self.offset += whole as u64;
        self.next_seq += memchr::memchr_iter(b'\n', &fresh).count() as u64;
        match filter.map(|filter| filter.select(&fresh, |line| flow(take(line)))) {
            Some(ControlFlow::Break(error)) => Err(error),
            _ => Ok(()),
        }
    }
}

fn flow(outcome: io::Result<()>) -> ControlFlow<io::Error> {
    outcome.map_or_else(ControlFlow::Break, ControlFlow::Continue)
}
