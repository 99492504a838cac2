//! What the tour found, as tables for people.

use std::io::{self, Write};

use crate::demo::tour::jira::{HttpAttackOutcome, JiraReport};
use crate::demo::tour::{AttackOutcome, Layer, ReadOutcome};

/// Everything that the tour found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The reads.
    pub reads: Vec<ReadOutcome>,
    /// The attacks.
    pub attacks: Vec<AttackOutcome>,
    /// The database's fingerprint before the tour.
    pub before: String,
    /// And after it.
    pub after: String,
    /// What was found at JIRA.
    pub jira: JiraReport,
}

impl Report {
    /// Whether every read was answered as without a gate, the gate stopped every attack and wrote it
    /// down, and nothing changed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.reads.iter().all(|read| read.difference.is_none())
            && self.attacks.iter().all(AttackOutcome::held)
            && self.before == self.after
            && self.jira.is_good()
    }

    /// Prints both tables.
    ///
    /// # Errors
    /// When nobody takes the output.
    pub fn print_tables(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "\n {:>2}  {:<66} {:>5}  answer", "#", "read", "rows")?;
        for (index, outcome) in self.reads.iter().enumerate() {
            let answer = outcome.difference.as_deref().unwrap_or("as on a direct connection");
            let (title, rows) = (outcome.read.title, outcome.rows);
            writeln!(out, " {:>2}  {title:<66} {rows:>5}  {answer}", index + 1)?;
        }
        writeln!(
            out,
            "\n {:>2}  {:<58} {:<9} {:<30} audit line",
            "#", "attempt, as the owner with the password", "sent by", "stopped by"
        )?;
        for (index, outcome) in self.attacks.iter().enumerate() {
            writeln!(
                out,
                " {:>2}  {:<58} {:<9} {:<30} {}{}",
                index + 1,
                outcome.attack.title,
                outcome.attack.delivery(),
                stopped_by(&outcome.layer),
                audit_line(outcome),
                remarks(outcome),
            )?;
        }
        self.jira.print_tables(out)
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// When nobody takes the output.
    pub fn print_summary(&self, out: &mut dyn Write) -> io::Result<()> {
        let answered = self.reads.iter().filter(|read| read.difference.is_none()).count();
        let by_gate = self.count(|outcome| matches!(outcome.layer, Layer::Gate { .. }));
        let by_server = self.count(|outcome| matches!(outcome.layer, Layer::Server { .. }));
        let open = self.count(|outcome| outcome.layer == Layer::Open);
        let written = self.count(|outcome| outcome.line.is_some());
        let lost = self.count(|outcome| outcome.session_lives == Some(false));
        let changed = self.count(|outcome| outcome.changed);
        writeln!(out)?;
        writeln!(out, "reads    {answered} of {} answered as without a gate", self.reads.len())?;
        writeln!(
            out,
            "attacks  {} tried: {by_gate} stopped by the gate, {by_server} only by the server, {open} not at all; \
             {written} in the audit log, {lost} cost the session",
            self.attacks.len()
        )?;
        writeln!(
            out,
            "data     {changed} attacks changed something; fingerprint before {}, after {}",
            self.before, self.after
        )?;
        self.jira.print_summary(out)?;
        let verdict = if self.is_good() { "the gate held" } else { "THE GATE DID NOT HOLD" };
        writeln!(out, "verdict  {verdict}")
    }

    fn count(&self, is_such: impl Fn(&AttackOutcome) -> bool) -> usize {
        self.attacks.iter().filter(|outcome| is_such(outcome)).count()
    }
}

impl JiraReport {
    fn print_tables(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "\n {:>2}  {:<66} {:>5}  answer", "#", "read of JIRA", "bytes")?;
        for (index, outcome) in self.reads.iter().enumerate() {
            let answer = outcome.difference.as_deref().unwrap_or("as the site itself answers");
            let (title, bytes) = (outcome.read.title, outcome.bytes);
            writeln!(out, " {:>2}  {title:<66} {bytes:>5}  {answer}", index + 1)?;
        }
        writeln!(
            out,
            "\n {:>2}  {:<48} {:<24} {:<29} audit line",
            "#", "attempt at JIRA, with a token of the gate", "operation", "stopped by"
        )?;
        for (index, outcome) in self.attacks.iter().enumerate() {
            let line = match (&outcome.line, &outcome.layer) {
                (Some(line), Layer::Gate { event, .. }) => {
                    format!("{}:{} {event}", line.file, line.number)
                }
                _ => "none".to_owned(),
            };
            let arrived = if outcome.arrived > 0 { "  IT ARRIVED" } else { "" };
            let (title, operation) = (outcome.attack.title, &outcome.operation);
            let by = stopped_by(&outcome.layer);
            let number = index + 1;
            writeln!(out, " {number:>2}  {title:<48} {operation:<24} {by:<29} {line}{arrived}")?;
        }
        Ok(())
    }

    fn print_summary(&self, out: &mut dyn Write) -> io::Result<()> {
        let answered = self.reads.iter().filter(|read| read.difference.is_none()).count();
        let by_gate = |it: &&HttpAttackOutcome| matches!(it.layer, Layer::Gate { .. });
        let stopped = self.attacks.iter().filter(by_gate).count();
        let arrived: u64 = self.attacks.iter().map(|outcome| outcome.arrived).sum();
        let (reads, attacks) = (self.reads.len(), self.attacks.len());
        writeln!(
            out,
            "JIRA     {answered} of {reads} reads answered as the site does; {attacks} attacks tried, \
             {stopped} stopped by the gate; {arrived} changes arrived at the site"
        )
    }
}

fn stopped_by(layer: &Layer) -> String {
    match layer {
        Layer::Gate { reason, .. } => format!("gate: {reason}"),
        Layer::Open => "OPEN".to_owned(),
        Layer::Server { sqlstate } => format!("SERVER: {sqlstate}"),
    }
}

fn audit_line(outcome: &AttackOutcome) -> String {
    match (&outcome.line, &outcome.layer) {
        (Some(line), Layer::Gate { event, .. }) => {
            format!("{}:{} {event}", line.file, line.number)
        }
        _ => "none".to_owned(),
    }
}

/// What went wrong beside the refusal.
fn remarks(outcome: &AttackOutcome) -> String {
    let mut remarks = String::new();
    if outcome.changed {
        remarks.push_str("  DATA CHANGED");
    }
    if outcome.session_lives == Some(false) {
        remarks.push_str("  SESSION LOST");
    }
    if let (Some(line), Layer::Gate { reason, .. }) = (&outcome.line, &outcome.layer)
        && (line.decision != "deny" || line.reason != *reason)
    {
        remarks.push_str("  WRITTEN DOWN OTHERWISE");
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::{AttackOutcome, HttpAttackOutcome, JiraReport, Layer, Report};
    use crate::demo::tour::attacks::ATTACKS;
    use crate::demo::tour::jira_attacks::JIRA_ATTACKS;
    use crate::demo::tour::{ReadOutcome, TrailLine, reads::READS};

    fn held() -> AttackOutcome {
        let line = TrailLine {
            file: "audit-1.jsonl".to_owned(),
            number: 7,
            decision: "deny".to_owned(),
            reason: "sql-write-statement".to_owned(),
        };
        AttackOutcome {
            attack: &ATTACKS[0],
            layer: Layer::Gate { reason: line.reason.clone(), event: "0192".to_owned() },
            changed: false,
            session_lives: Some(true),
            line: Some(line),
        }
    }

    fn report(attack: AttackOutcome) -> Report {
        let read = ReadOutcome { read: &READS[0], rows: 12, difference: None };
        let fingerprint = || "f".to_owned();
        Report {
            reads: vec![read],
            attacks: vec![attack],
            before: fingerprint(),
            after: fingerprint(),
            jira: JiraReport { reads: Vec::new(), attacks: vec![stopped()] },
        }
    }

    fn stopped() -> HttpAttackOutcome {
        let AttackOutcome { layer, line, .. } = held();
        HttpAttackOutcome {
            attack: &JIRA_ATTACKS[0],
            layer,
            operation: "create_issue".to_owned(),
            arrived: 0,
            line,
        }
    }

    #[test]
    fn a_report_is_good_only_if_everything_held() {
        let server = Layer::Server { sqlstate: "25006".to_owned() };
        let mut otherwise = held().line.unwrap();
        otherwise.decision = "allow".to_owned();

        assert!(report(held()).is_good());
        assert!(!report(AttackOutcome { layer: Layer::Open, ..held() }).is_good());
        assert!(!report(AttackOutcome { layer: server, ..held() }).is_good());
        assert!(!report(AttackOutcome { changed: true, ..held() }).is_good());
        assert!(!report(AttackOutcome { session_lives: Some(false), ..held() }).is_good());
        assert!(!report(AttackOutcome { line: None, ..held() }).is_good());
        assert!(!report(AttackOutcome { line: Some(otherwise), ..held() }).is_good());
        for bad in [
            HttpAttackOutcome { layer: Layer::Open, ..stopped() },
            HttpAttackOutcome { arrived: 1, ..stopped() },
            HttpAttackOutcome { line: None, ..stopped() },
        ] {
            let jira = JiraReport { reads: Vec::new(), attacks: vec![bad] };
            assert!(!Report { jira, ..report(held()) }.is_good());
        }
        assert!(!Report { after: "g".to_owned(), ..report(held()) }.is_good());
        let mut refused = report(held());
        refused.reads[0].difference = Some("ERROR 42501: no".to_owned());
        assert!(!refused.is_good());
    }

    #[test]
    fn the_table_names_attempt_layer_and_audit_line() {
        let mut out = Vec::new();
        report(held()).print_tables(&mut out).unwrap();
        report(held()).print_summary(&mut out).unwrap();

        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("gate: sql-write-statement"), "{text}");
        assert!(text.contains("audit-1.jsonl:7 0192"), "{text}");
        assert!(text.ends_with("verdict  the gate held\n"), "{text}");
    }
}
