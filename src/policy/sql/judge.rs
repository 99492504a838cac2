//! The judge: two parsers, PostgreSQL's own grammar decides.

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::sync::Arc;

use pg_raw_parse::{Node, nodes};

use crate::policy::file::{Policy, SecondOpinion};
use crate::policy::reason::Reason;
use crate::policy::sql::expression::Findings;
use crate::policy::sql::identity::judge_identity;
use crate::policy::sql::prescan::{Caps, ScanRefusal, prescan};
use crate::policy::sql::second_reader::{FirstReading, Opinion, second_opinion, sees_write};
use crate::policy::sql::statement::{Parameters, Reading, is_reset, read_statement};
use crate::policy::sql::{
    Digest, JudgedSql, Judgement, Piece, SyntaxSince, World, digest, position,
};
use crate::policy::verdict::{Cleared, Denial, SqlFault, Verdict};

/// Most names of relations, and of functions, that the audit log takes from one text.
const MAX_NAMES: usize = 64;

/// Judges a text that may hold any number of statements.
///
/// Needs a stack of 64 MiB: both parsers and the walk recurse, and the caps of the scan before them
/// are measured for that. Texts near the longest take a tenth of a second, half a second at worst.
#[must_use]
pub fn judge_sql(policy: &Policy, text: &[u8]) -> JudgedSql {
    judge_sql_in(policy, World::Offline, text)
}

/// The same, where the database is known.
#[must_use]
pub fn judge_sql_in(policy: &Policy, world: World<'_>, text: &[u8]) -> JudgedSql {
    let caps = Caps { bytes: policy.limits.statement_bytes, ..Caps::default() };
    match prescan(text, caps) {
        Ok(text) => judge_text(policy, world, text),
        Err(refusal) => {
            let fingerprint = digest::fingerprint(&String::from_utf8_lossy(text));
            let digest = Digest { fingerprint, ..Digest::default() };
            JudgedSql { verdict: Verdict::Deny(scan_denial(refusal)), digest: Arc::new(digest) }
        }
    }
}

fn scan_denial(refusal: ScanRefusal) -> Denial {
    let (reason, operation) = match refusal {
        ScanRefusal::Encoding => (Reason::SqlEncoding, "text that is not UTF-8"),
        ScanRefusal::Nul => (Reason::SqlEncoding, "text with a zero byte"),
        ScanRefusal::TooLong => (Reason::SqlTooLarge, "text beyond the limit"),
        ScanRefusal::TooDeep(_) => (Reason::SqlTooLarge, "text nested beyond the limit"),
        ScanRefusal::TooMany(_) => (Reason::SqlTooLarge, "text with more parts than the limit"),
    };
    Denial::new(reason, operation, "limits")
}

fn judge_text(policy: &Policy, world: World<'_>, text: &str) -> JudgedSql {
    // The bindings panic where PostgreSQL's walker meets a node it does not know. Nothing that they
    // were doing is used afterwards.
    let judged = catch_unwind(|| match pg_raw_parse::parse(text) {
        Ok(tree) => read_tree(policy, world, text, &tree),
        Err(error) => unparsed(text, &error.to_string()),
    });
    judged.unwrap_or_else(|_| {
        let fingerprint = digest::fingerprint(text);
        let denial = Denial::new(Reason::SqlUnparsed, "unknown syntax", "statements");
        JudgedSql {
            verdict: Verdict::Deny(denial),
            digest: Arc::new(Digest { fingerprint, ..Digest::default() }),
        }
    })
}

/// PostgreSQL would not take it either, so it is never sent; the client reads PostgreSQL's words. If
/// the second parser sees a write in it, it counts as an attempt.
fn unparsed(text: &str, error: &str) -> JudgedSql {
    let message = parser_message(error).to_owned();
    let reparse = |text: &str| {
        let error = pg_raw_parse::parse(text).err()?.to_string();
        Some(parser_message(&error).to_owned())
    };
    let verdict = if sees_write(text) {
        Verdict::Deny(Denial::new(Reason::SqlUnparsed, "unreadable statement", "statements"))
    } else {
        let position = position::error_position(text, &message, reparse);
        Verdict::Fault(SqlFault { sqlstate: "42601", message, position })
    };
    let digest = Digest {
        fingerprint: digest::fingerprint(text),
        operation: "unparsed".to_owned(),
        ..Digest::default()
    };
    JudgedSql { verdict, digest: Arc::new(digest) }
}

fn parser_message(error: &str) -> &str {
    error.strip_prefix("Invalid statement: ").unwrap_or(error)
}

fn read_tree(
    policy: &Policy,
    world: World<'_>,
    text: &str,
    tree: &pg_raw_parse::ParseResult,
) -> JudgedSql {
    let statements: Vec<&nodes::RawStmt> = tree.iter().collect();
    // A string of nothing but clean-up is what pools send; its members alone are not that.
    let all_reset = statements.iter().all(|statement| is_reset(statement.stmt()));
    let cleaning = if statements.len() > 1 && all_reset { Cleaning::Only } else { Cleaning::No };
    let mut reader = TextReader::new(policy, world, text);
    for statement in &statements {
        reader.read(statement, cleaning);
    }
    if reader.refusal.is_none()
        && let World::Database { catalog, reach, .. } = world
    {
        // Names are looked up wherever the text itself may have led the search.
        let reach = reach.widened(&reader.searched);
        reader.refusal = statements.iter().find_map(|statement| {
            judge_identity(policy, (catalog, &reach), &reader.ctes, statement.stmt())
        });
    }
    reader.finish()
}

/// Whether a text does nothing but put the session back to where it began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cleaning {
    No,
    Only,
}

/// Reads the statements of a text one after another.
struct TextReader<'t> {
    policy: &'t Policy,
    world: World<'t>,
    text: &'t str,
    pieces: Vec<Piece>,
    refusal: Option<Denial>,
    relations: BTreeSet<String>,
    functions: BTreeSet<String>,
    ctes: BTreeSet<String>,
    operation: Option<String>,
    syntax_since: Option<SyntaxSince>,
    searched: Vec<String>,
    /// Bytes and characters of the text that are counted already.
    counted: (usize, usize),
}

impl<'t> TextReader<'t> {
    const fn new(policy: &'t Policy, world: World<'t>, text: &'t str) -> Self {
        Self {
            policy,
            world,
            text,
            pieces: Vec::new(),
            refusal: None,
            relations: BTreeSet::new(),
            functions: BTreeSet::new(),
            ctes: BTreeSet::new(),
            operation: None,
            syntax_since: None,
            searched: Vec::new(),
            counted: (0, 0),
        }
    }

    fn read(&mut self, statement: &nodes::RawStmt, cleaning: Cleaning) {
        let mut findings = Findings::new(self.policy, self.world);
        let reading = match statement.stmt() {
            Node::SelectStmt(_) if cleaning == Cleaning::Only => Reading::of_reset(&mut findings),
            node => read_statement(node, &mut findings),
        };
        if cleaning == Cleaning::Only {
            findings.habit = None;
        }
        let refused = findings.refusal.is_some();
        // The most privileged verb of the text: that of the first statement that is refused.
        if self.operation.is_none() || (refused && self.refusal.is_none()) {
            let verb = findings.refusal.as_ref().map(|denial| denial.operation.clone());
            self.operation = Some(verb.unwrap_or_else(|| reading.operation.clone()));
        }
        self.relations.append(&mut findings.relations);
        self.functions.append(&mut findings.functions);
        self.ctes.append(&mut findings.ctes);
        self.searched.append(&mut findings.searched);
        if self.refusal.is_none() {
            self.refusal = findings.refusal.take();
        }
        let newest = self.syntax_since.into_iter().chain(findings.syntax_since);
        self.syntax_since = newest.max_by_key(|since| since.major);
        let piece = self.piece(statement, reading, &mut findings);
        self.pieces.push(piece);
    }

    fn piece(
        &mut self,
        statement: &nodes::RawStmt,
        reading: Reading,
        findings: &mut Findings<'_>,
    ) -> Piece {
        let start = usize::try_from(statement.stmt_location).unwrap_or_default();
        let end = match usize::try_from(statement.stmt_len) {
            Ok(length) if length > 0 => start + length,
            // The last statement without a semicolon has no length of its own.
            _ => self.text.len(),
        };
        let chars_before = self.count_to(start);
        let first_parameter = match (reading.parameters, findings.first_parameter) {
            (Parameters::OfTheClient, Some((location, number))) => {
                let place = usize::try_from(location).unwrap_or_default();
                let before = self.text.get(start..place).map_or(0, |part| part.chars().count());
                u32::try_from(number).ok().map(|number| (number, chars_before + before + 1))
            }
            _ => None,
        };
        let generic_plan_parameters = match reading.parameters {
            Parameters::Unbound => u16::try_from(findings.highest_parameter).unwrap_or_default(),
            Parameters::OfTheClient | Parameters::OfTheStatement => 0,
        };
        Piece {
            start,
            end,
            chars_before,
            rewritten: reading.rewritten,
            kind: reading.kind,
            first_parameter,
            generic_plan_parameters,
            habit: findings.habit.take(),
        }
    }

    /// Characters before this byte; called with growing places, so that a text is counted once.
    fn count_to(&mut self, place: usize) -> usize {
        let (bytes, characters) = self.counted;
        let more = self.text.get(bytes..place).map_or(0, |part| part.chars().count());
        self.counted = (place.max(bytes), characters + more);
        self.counted.1
    }

    fn finish(mut self) -> JudgedSql {
        if self.refusal.is_none() {
            self.refusal = self.second_opinion();
        }
        let digest = Arc::new(self.digest());
        let verdict = match self.refusal {
            Some(denial) => Verdict::Deny(denial),
            None => Verdict::Allow(Cleared::grant(Arc::new(Judgement {
                text: Arc::from(self.text),
                pieces: self.pieces,
                digest: Arc::clone(&digest),
                syntax_since: self.syntax_since,
                searched: self.searched,
                stamp: match self.world {
                    World::Database { stamp, .. } => stamp,
                    World::Offline => 0,
                },
            }))),
        };
        JudgedSql { verdict, digest }
    }

    fn second_opinion(&mut self) -> Option<Denial> {
        let mut first = FirstReading {
            statements: self.pieces.len(),
            relations: std::mem::take(&mut self.relations),
            functions: std::mem::take(&mut self.functions),
        };
        let mut opinion = second_opinion(self.text, &first);
        if opinion == Opinion::CannotRead && self.pieces.len() > 1 {
            first.statements = 1;
            opinion = self.opinion_of_each(&first);
        }
        self.relations = first.relations;
        self.functions = first.functions;
        match (opinion, self.policy.second_opinion) {
            (Opinion::Agrees, _) | (Opinion::CannotRead, SecondOpinion::Advisory) => None,
            (Opinion::CannotRead, SecondOpinion::Required) => {
                let operation = "statement that only one parser can read";
                Some(Denial::new(Reason::SqlParserDifferential, operation, "second_opinion"))
            }
            (Opinion::SeesMore(what), _) => {
                let operation = format!("statement in which a second parser sees {what}");
                Some(Denial::new(Reason::SqlParserDifferential, operation, "second_opinion"))
            }
        }
    }

    /// One statement that the second parser cannot read must not hide the others from it.
    fn opinion_of_each(&self, first: &FirstReading) -> Opinion {
        let texts = self.pieces.iter().filter_map(|piece| self.text.get(piece.start..piece.end));
        let mut opinions = texts.map(|text| second_opinion(text, first));
        opinions
            .find(|opinion| matches!(opinion, Opinion::SeesMore(_)))
            .unwrap_or(Opinion::CannotRead)
    }

    fn digest(&self) -> Digest {
        let operation = self.operation.clone().unwrap_or_default();
        let named = self.relations.difference(&self.ctes);
        let relations: Vec<String> = named.take(MAX_NAMES).cloned().collect();
        let mut summary = operation.clone();
        for relation in relations.iter().take(8) {
            summary.push(' ');
            summary.push_str(relation);
        }
        let normalized = digest::normalized(self.text);
        Digest {
            fingerprint: digest::fingerprint(normalized.as_deref().unwrap_or(self.text)),
            normalized,
            operation,
            summary,
            statements: self.pieces.len(),
            relations,
            functions: self.functions.iter().take(MAX_NAMES).cloned().collect(),
        }
    }
}
