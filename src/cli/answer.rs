//! The verdict as `rowarden explain sql` shows it: to people, to programs, and one a line for a whole
//! file of statements.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::cli::{Exit, complain};
use crate::policy::reason::Reason;
use crate::policy::sql::{JudgedSql, Judgement, Past};
use crate::policy::verdict::{Denial, Verdict};

/// One line of a file of statements.
#[derive(Deserialize)]
#[serde(untagged)]
enum Statement {
    Bare(String),
    Object { sql: String },
}

impl Statement {
    fn into_sql(self) -> String {
        match self {
            Self::Bare(sql) | Self::Object { sql } => sql,
        }
    }
}

/// The verdict, as programs read it. Keys that a verdict has nothing for are null.
#[derive(Serialize)]
pub(super) struct Answer<'a> {
    decision: &'static str,
    reason: &'static str,
    operation: &'a str,
    rule: Option<&'static str>,
    sqlstate: Option<&'static str>,
    message: Option<String>,
    hint: Option<&'static str>,
}

impl<'a> Answer<'a> {
    /// What a session would be told whose first statement this is.
    pub(super) fn of(judged: &'a JudgedSql) -> Self {
        match &judged.verdict {
            Verdict::Allow(cleared) => Self::of_first(cleared.request(), judged),
            Verdict::Deny(denial) => Self::refusal(denial),
            Verdict::Fault(fault) => Self::fault(fault.sqlstate, fault.message.clone(), judged),
        }
    }

    fn of_first(judgement: &'a Judgement, judged: &'a JudgedSql) -> Self {
        if let Some(denial) = judgement.unmet_habit(Past::Nothing) {
            return Self::refusal(denial);
        }
        if let Some(name) = judgement.executes_unprepared() {
            let words = format!("prepared statement \"{name}\" does not exist");
            return Self::fault("26000", words, judged);
        }
        Self {
            decision: "allow",
            reason: "ok",
            operation: &judged.digest.operation,
            rule: None,
            sqlstate: None,
            message: None,
            hint: None,
        }
    }

    fn refusal(denial: &'a Denial) -> Self {
        Self {
            decision: "deny",
            reason: denial.reason.code(),
            operation: &denial.operation,
            rule: Some(denial.rule),
            sqlstate: Some(denial.reason.sqlstate()),
            message: Some(denial.message()),
            hint: Some(denial.reason.hint()),
        }
    }

    /// An error in PostgreSQL's own words.
    fn fault(sqlstate: &'static str, message: String, judged: &'a JudgedSql) -> Self {
        Self {
            decision: "deny",
            reason: Reason::SqlUnparsed.code(),
            operation: &judged.digest.operation,
            rule: None,
            sqlstate: Some(sqlstate),
            message: Some(message),
            hint: None,
        }
    }

    pub(super) fn print_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")
    }

    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{:<10}{}", self.decision, self.operation)?;
        let message = self.message.as_deref();
        let reason = self.message.is_some().then_some(self.reason);
        for (name, value) in [
            ("reason", reason),
            ("rule", self.rule),
            ("sqlstate", self.sqlstate),
            ("message", message),
            ("hint", self.hint),
        ] {
            if let Some(value) = value {
                writeln!(out, "  {name:<10}{value}")?;
            }
        }
        Ok(())
    }
}

/// Judges one statement a line. A line that holds none ends it: a statement that was skipped would
/// look like one that was judged.
pub(super) fn judge_lines(
    lines: impl BufRead,
    judge: impl Fn(&[u8]) -> JudgedSql,
    out: &mut impl Write,
) -> io::Result<Exit> {
    for (index, line) in lines.split(b'\n').enumerate() {
        let statement: Result<Statement, _> = serde_json::from_slice(&line?);
        let Ok(statement) = statement else {
            let number = index + 1;
            complain(&format!("line {number}: neither a JSON string nor an object with `sql`"));
            return Ok(Exit::BadConfiguration);
        };
        Answer::of(&judge(statement.into_sql().as_bytes())).print_json(out)?;
    }
    Ok(Exit::Good)
}
