//! What a statement is: a list of what is allowed, each with what it does to the session.
//!
//! A statement that PostgreSQL's grammar learns tomorrow is refused until somebody has thought about
//! it.

use pg_raw_parse::list::{CastNodeList, NodeList};
use pg_raw_parse::{Node, nodes, raw};

use crate::policy::file::Snapshots;
use crate::policy::reason::Reason;
use crate::policy::sql::columns::judge_columns;
use crate::policy::sql::expression::Findings;
use crate::policy::sql::transaction;
use crate::policy::sql::variable;
use crate::policy::sql::verb::verb_of;
use crate::policy::sql::{CursorFormat, Explained, Hold, PieceKind};
use crate::policy::verdict::Denial;

/// `LOCK TABLE … IN ACCESS SHARE MODE`: what any SELECT takes.
const ACCESS_SHARE: i32 = 1;

/// A statement as the judge reads it. Whether it is refused stands in the findings.
pub(super) struct Reading {
    pub(super) kind: PieceKind,
    pub(super) rewritten: Option<String>,
    /// Whether `$n` is bound by the statement itself or by NULLs.
    pub(super) parameters: Parameters,
    /// The verb, for the log: `SELECT`, `INSERT`.
    pub(super) operation: String,
}

/// What `$n` stands for in a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameters {
    /// For what Bind brings; a simple query has none.
    OfTheClient,
    /// For whatever a later EXECUTE brings.
    OfTheStatement,
    /// For nothing: EXPLAIN (GENERIC_PLAN).
    Unbound,
}

impl Reading {
    pub(super) fn of(kind: PieceKind, operation: impl Into<String>) -> Self {
        Self {
            kind,
            rewritten: None,
            parameters: Parameters::OfTheClient,
            operation: operation.into(),
        }
    }
}

impl Reading {
    /// A SELECT of a string that only cleans up: `pg_advisory_unlock_all()`.
    pub(super) fn of_reset(findings: &mut Findings<'_>) -> Self {
        findings.functions.insert("pg_advisory_unlock_all".to_owned());
        Self::of(PieceKind::Query, "SELECT")
    }
}

/// Reads one statement.
pub(super) fn read_statement(node: Node<'_>, findings: &mut Findings<'_>) -> Reading {
    match node {
        Node::SelectStmt(select) => {
            variable::know_dump_setting(select, findings);
            read_query(node, findings);
            Reading::of(PieceKind::Query, "SELECT")
        }
        Node::CopyStmt(copy) => read_copy(copy, findings),
        Node::DeclareCursorStmt(declare) => read_declare(declare, findings),
        Node::ExplainStmt(explain) => read_explain(explain, findings),
        Node::PrepareStmt(prepare) => read_prepare(prepare, findings),
        Node::ExecuteStmt(execute) => {
            for parameter in execute.params() {
                findings.read(parameter);
            }
            let name = execute.name().unwrap_or_default().to_owned();
            Reading::of(PieceKind::Execute { name, explained: Explained::Plain }, "EXECUTE")
        }
        Node::TransactionStmt(transaction) => transaction::read(transaction, findings),
        Node::VariableSetStmt(set) => variable::read_set(set, findings),
        Node::VariableShowStmt(_) => Reading::of(PieceKind::UtilityRows, "SHOW"),
        Node::LockStmt(lock) => read_lock(lock, findings),
        Node::FetchStmt(fetch) => {
            let cursor = fetch.portalname().unwrap_or_default().to_owned();
            if fetch.ismove {
                Reading::of(PieceKind::Move(cursor), "MOVE")
            } else {
                Reading::of(PieceKind::Fetch(cursor), "FETCH")
            }
        }
        Node::ClosePortalStmt(close) => {
            Reading::of(PieceKind::CloseCursor(close.portalname().map(ToOwned::to_owned)), "CLOSE")
        }
        Node::DeallocateStmt(drop) => {
            let name = drop.name().filter(|_| !drop.isall).map(ToOwned::to_owned);
            Reading::of(PieceKind::Deallocate(name), "DEALLOCATE")
        }
        Node::DiscardStmt(discard) => read_discard(discard, findings),
        Node::UnlistenStmt(_) => {
            habit(findings, Reason::SqlMaintenance, "UNLISTEN");
            Reading::of(PieceKind::Quiet, "UNLISTEN")
        }
        other => refuse(other, findings),
    }
}

/// A read by any name: SELECT, VALUES, TABLE, WITH.
fn read_query(node: Node<'_>, findings: &mut Findings<'_>) {
    findings.read(node);
    judge_columns(findings, node);
}

/// A query where only a query may stand: under COPY, DECLARE, PREPARE, EXPLAIN.
fn read_inner(node: Node<'_>, findings: &mut Findings<'_>) {
    match node {
        Node::SelectStmt(_) => read_query(node, findings),
        other => {
            refuse(other, findings);
        }
    }
}

fn refuse(node: Node<'_>, findings: &mut Findings<'_>) -> Reading {
    let (operation, reason) = verb_of(node);
    findings.refuse(Denial::new(reason, operation, "statements"));
    if matches!(
        node,
        Node::InsertStmt(_) | Node::UpdateStmt(_) | Node::DeleteStmt(_) | Node::MergeStmt(_)
    ) {
        // For the names in it.
        findings.read(node);
    }
    Reading::of(PieceKind::Quiet, operation)
}

/// What pools and drivers send to clean a session up. As an opening nobody does.
fn habit(findings: &mut Findings<'_>, reason: Reason, operation: &str) {
    findings.habit(Denial::new(reason, operation, "habits"));
}

fn read_copy(copy: &nodes::CopyStmt, findings: &mut Findings<'_>) -> Reading {
    let (reason, operation) = match (copy.is_from, copy.is_program, copy.filename()) {
        (_, true, _) => (Some(Reason::SqlCopyProgram), "COPY PROGRAM"),
        (true, _, None) => (Some(Reason::SqlCopyIn), "COPY FROM STDIN"),
        (true, _, Some(_)) => (Some(Reason::SqlCopyIn), "COPY FROM file"),
        (false, _, Some(_)) => (Some(Reason::SqlCopyFile), "COPY TO file"),
        (false, _, None) => (None, "COPY"),
    };
    if let Some(reason) = reason {
        findings.refuse(Denial::new(reason, operation, "statements"));
    }
    if let Some(relation) = copy.relation() {
        findings.read(Node::RangeVar(relation));
        judge_copied_columns(copy.attlist(), findings);
    }
    if !matches!(copy.query(), Node::None) {
        read_inner(copy.query(), findings);
    }
    Reading::of(PieceKind::CopyOut, operation)
}

/// `COPY table` shows all columns unless it names some.
fn judge_copied_columns(columns: &NodeList, findings: &mut Findings<'_>) {
    let named: Vec<&str> = columns.iter().filter_map(Node::as_str).collect();
    let hidden = findings.guarded.iter().any(|relation| {
        named.is_empty() || named.iter().any(|name| relation.columns.iter().any(|h| h == name))
    });
    if hidden {
        findings.refuse(Denial::new(Reason::SqlRelation, "COPY of hidden columns", "columns"));
    }
}

fn read_declare(declare: &nodes::DeclareCursorStmt, findings: &mut Findings<'_>) -> Reading {
    read_inner(declare.query(), findings);
    let options = u32::try_from(declare.options).unwrap_or_default();
    let hold = if options & raw::CURSOR_OPT_HOLD == 0 { Hold::WithoutHold } else { Hold::WithHold };
    let format = if options & raw::CURSOR_OPT_BINARY == 0 {
        CursorFormat::Text
    } else {
        CursorFormat::Binary
    };
    let name = declare.portalname().unwrap_or_default().to_owned();
    Reading::of(PieceKind::DeclareCursor { name, hold, format }, "DECLARE")
}

/// EXPLAIN of a read. `EXPLAIN ANALYZE CREATE TABLE AS` writes even in a read-only transaction
/// (PostgreSQL 14 to 18), and an IMMUTABLE function runs without ANALYZE, so what is explained is
/// judged as if it ran.
fn read_explain(explain: &nodes::ExplainStmt, findings: &mut Findings<'_>) -> Reading {
    let mut reading = match explain.query() {
        Node::DeclareCursorStmt(declare) => {
            read_inner(declare.query(), findings);
            Reading::of(PieceKind::UtilityRows, "EXPLAIN")
        }
        node @ Node::ExecuteStmt(_) => {
            let inner = read_statement(node, findings);
            let kind = match inner.kind {
                PieceKind::Execute { name, .. } => {
                    PieceKind::Execute { name, explained: Explained::Explained }
                }
                other => other,
            };
            Reading::of(kind, "EXPLAIN")
        }
        other => {
            read_inner(other, findings);
            Reading::of(PieceKind::UtilityRows, "EXPLAIN")
        }
    };
    if has_option(explain.options(), "generic_plan") {
        reading.parameters = Parameters::Unbound;
    }
    reading
}

fn has_option(options: &CastNodeList<nodes::DefElem>, name: &str) -> bool {
    options.iter().any(|option| option.defname() == Some(name))
}

fn read_prepare(prepare: &nodes::PrepareStmt, findings: &mut Findings<'_>) -> Reading {
    read_inner(prepare.query(), findings);
    let name = prepare.name().unwrap_or_default().to_owned();
    let parameters = Parameters::OfTheStatement;
    Reading { parameters, ..Reading::of(PieceKind::Prepare(name), "PREPARE") }
}

fn read_lock(lock: &nodes::LockStmt, findings: &mut Findings<'_>) -> Reading {
    if lock.mode != ACCESS_SHARE {
        findings.refuse(Denial::new(Reason::SqlLock, "LOCK TABLE", "statements"));
    }
    for relation in lock.relations() {
        findings.read(relation);
    }
    Reading::of(PieceKind::Quiet, "LOCK TABLE")
}

fn read_discard(discard: &nodes::DiscardStmt, findings: &mut Findings<'_>) -> Reading {
    let kind = match discard.target {
        raw::DiscardMode::DISCARD_ALL => {
            habit(findings, Reason::SqlSetting, "DISCARD ALL");
            PieceKind::DiscardAll
        }
        raw::DiscardMode::DISCARD_PLANS => PieceKind::Quiet,
        _ => {
            findings.refuse(Denial::new(Reason::SqlMaintenance, "DISCARD", "statements"));
            PieceKind::Quiet
        }
    };
    Reading::of(kind, "DISCARD")
}

/// Whether a statement only puts the session back to where it began: what pools send, in one string,
/// when they take a connection back (asyncpg). Such a string passes as a whole.
pub(super) fn is_reset(node: Node<'_>) -> bool {
    match node {
        Node::ClosePortalStmt(close) => close.portalname().is_none(),
        Node::DeallocateStmt(drop) => drop.isall,
        Node::UnlistenStmt(unlisten) => unlisten.conditionname().is_none(),
        Node::VariableSetStmt(set) => set.kind == raw::VariableSetKind::VAR_RESET_ALL,
        Node::SelectStmt(select) => unlocks_all(select),
        _ => false,
    }
}

/// `SELECT pg_advisory_unlock_all()` and nothing else: gives back locks that no session of the gate
/// can hold.
fn unlocks_all(select: &nodes::SelectStmt) -> bool {
    let Some(target) = select.target_list().iter().next() else { return false };
    let Node::FuncCall(call) = target.val() else { return false };
    let name: Vec<&str> = call.funcname().iter().filter_map(Node::as_str).collect();
    matches!(name.as_slice(), ["pg_advisory_unlock_all"] | ["pg_catalog", "pg_advisory_unlock_all"])
        && call.args().is_empty()
        && select.target_list().iter().count() == 1
        && select.from_clause().is_empty()
        && select.into_clause().is_none()
        && select.with_clause().is_none()
        && select.larg().is_none()
        && select.locking_clause().iter().next().is_none()
        && [
            select.where_clause(),
            select.having_clause(),
            select.limit_count(),
            select.limit_offset(),
        ]
        .into_iter()
        .all(|part| matches!(part, Node::None))
        && select.distinct_clause().is_empty()
        && select.group_clause().is_empty()
        && select.window_clause().is_empty()
        && select.sort_clause().iter().next().is_none()
        && call.over().is_none()
        && matches!(call.agg_filter(), Node::None)
        && call.agg_order().iter().next().is_none()
}

/// Whether the policy opens `SET TRANSACTION SNAPSHOT`.
pub(super) fn snapshots_pass(findings: &Findings<'_>) -> bool {
    findings.policy.snapshots == Snapshots::Allow
}
