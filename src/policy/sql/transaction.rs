//! Transaction control. Every transaction is read-only whatever it is called: READ WRITE is made READ
//! ONLY where drivers say it out of habit, and refused as an opening.

use std::fmt::Write as _;

use pg_raw_parse::const_val::ConstValue;
use pg_raw_parse::raw::TransactionStmtKind as Kind;
use pg_raw_parse::{Node, nodes};

use crate::policy::reason::Reason;
use crate::policy::sql::expression::Findings;
use crate::policy::sql::statement::Reading;
use crate::policy::sql::{Chain, PieceKind};
use crate::policy::verdict::Denial;

const RULE: &str = "transactions";

/// Reads BEGIN, COMMIT and their kin.
pub(super) fn read(statement: &nodes::TransactionStmt, findings: &mut Findings<'_>) -> Reading {
    let chain = if statement.chain { Chain::Chain } else { Chain::NoChain };
    match statement.kind {
        Kind::TRANS_STMT_BEGIN => read_begin("BEGIN", statement, findings),
        Kind::TRANS_STMT_START => read_begin("START TRANSACTION", statement, findings),
        Kind::TRANS_STMT_COMMIT => Reading::of(PieceKind::Commit(chain), "COMMIT"),
        Kind::TRANS_STMT_ROLLBACK => Reading::of(PieceKind::Rollback(chain), "ROLLBACK"),
        Kind::TRANS_STMT_SAVEPOINT => Reading::of(PieceKind::Savepoint, "SAVEPOINT"),
        Kind::TRANS_STMT_RELEASE => Reading::of(PieceKind::Release, "RELEASE"),
        Kind::TRANS_STMT_ROLLBACK_TO => Reading::of(PieceKind::RollbackTo, "ROLLBACK TO"),
        // A prepared transaction outlives its session and blocks others.
        Kind::TRANS_STMT_PREPARE => refuse("PREPARE TRANSACTION", findings),
        Kind::TRANS_STMT_COMMIT_PREPARED => refuse("COMMIT PREPARED", findings),
        Kind::TRANS_STMT_ROLLBACK_PREPARED => refuse("ROLLBACK PREPARED", findings),
        _ => refuse("transaction control", findings),
    }
}

fn refuse(operation: &'static str, findings: &mut Findings<'_>) -> Reading {
    findings.refuse(Denial::new(Reason::SqlTransactionEscape, operation, RULE));
    Reading::of(PieceKind::Quiet, operation)
}

fn read_begin(
    verb: &str,
    statement: &nodes::TransactionStmt,
    findings: &mut Findings<'_>,
) -> Reading {
    let modes = Modes::read(statement.options().iter());
    modes.into_reading(verb, PieceKind::Begin, findings)
}

/// `SET TRANSACTION …` and `SET SESSION CHARACTERISTICS AS TRANSACTION …`.
pub(super) fn read_set(
    verb: &str,
    modes: impl Iterator<Item = Modes>,
    findings: &mut Findings<'_>,
) -> Reading {
    modes.last().unwrap_or_default().into_reading(verb, PieceKind::Quiet, findings)
}

/// What a transaction is asked to be.
#[derive(Debug, Default)]
pub(super) struct Modes {
    access: Access,
    isolation: Option<String>,
    deferrable: Option<&'static str>,
    understood: Understood,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Access {
    #[default]
    Unsaid,
    ReadOnly,
    ReadWrite,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Understood {
    #[default]
    All,
    NotAll,
}

impl Modes {
    /// Reads a list of modes. READ WRITE once is READ WRITE, whatever else is said.
    pub(super) fn read<'a>(options: impl Iterator<Item = Node<'a>>) -> Self {
        let mut modes = Self::default();
        for option in options {
            let Node::DefElem(option) = option else {
                modes.understood = Understood::NotAll;
                continue;
            };
            let Node::A_Const(value) = option.arg() else {
                modes.understood = Understood::NotAll;
                continue;
            };
            modes.add(option.defname().unwrap_or_default(), value.val());
        }
        modes
    }

    fn add(&mut self, name: &str, value: Option<ConstValue<'_>>) {
        match (name, value) {
            ("transaction_isolation", Some(ConstValue::String(level))) => {
                self.isolation = Some(level.to_ascii_uppercase());
            }
            ("transaction_read_only", Some(ConstValue::Integer(0))) => {
                self.access = Access::ReadWrite;
            }
            ("transaction_read_only", Some(ConstValue::Integer(1))) => {
                if self.access == Access::Unsaid {
                    self.access = Access::ReadOnly;
                }
            }
            ("transaction_deferrable", Some(ConstValue::Integer(0))) => {
                self.deferrable = Some("NOT DEFERRABLE");
            }
            ("transaction_deferrable", Some(ConstValue::Integer(1))) => {
                self.deferrable = Some("DEFERRABLE");
            }
            _ => self.understood = Understood::NotAll,
        }
    }

    fn into_reading(self, verb: &str, kind: PieceKind, findings: &mut Findings<'_>) -> Reading {
        if self.understood == Understood::NotAll {
            return refuse("transaction mode", findings);
        }
        let reading = Reading::of(kind, verb);
        match self.access {
            Access::Unsaid | Access::ReadOnly => reading,
            Access::ReadWrite => {
                let operation = format!("{verb} READ WRITE");
                let as_opening = Denial::new(Reason::SqlTransactionEscape, operation, RULE);
                findings.habit(as_opening);
                Reading { rewritten: Some(self.as_read_only(verb)), ..reading }
            }
        }
    }

    fn as_read_only(&self, verb: &str) -> String {
        let mut text = verb.to_owned();
        if let Some(level) = &self.isolation {
            // Writing to a string does not fail. The grammar knows four levels and no others.
            let _ = write!(text, " ISOLATION LEVEL {level}");
        }
        text.push_str(" READ ONLY");
        if let Some(deferrable) = self.deferrable {
            text.push(' ');
            text.push_str(deferrable);
        }
        text
    }
}
