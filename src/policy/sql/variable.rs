//! SET and RESET, in all their forms, and the one `set_config` whose setting's name comes from a
//! table.

use pg_raw_parse::const_val::ConstValue;
use pg_raw_parse::raw::VariableSetKind as Kind;
use pg_raw_parse::{Node, nodes};

use crate::policy::reason::Reason;
use crate::policy::sql::PieceKind;
use crate::policy::sql::expression::{Findings, split_name};
use crate::policy::sql::function::{judge_as_set, string_constant};
use crate::policy::sql::setting::{Change, NewValue, judge_change, searched_by};
use crate::policy::sql::statement::{Reading, snapshots_pass};
use crate::policy::sql::transaction::{self, Modes};
use crate::policy::verdict::Denial;

/// Reads a SET or RESET.
pub(super) fn read_set(set: &nodes::VariableSetStmt, findings: &mut Findings<'_>) -> Reading {
    let name = set.name().unwrap_or_default();
    match set.kind {
        Kind::VAR_SET_VALUE => change(name, &words_of(set), findings),
        Kind::VAR_SET_DEFAULT | Kind::VAR_RESET => change(name, &NewValue::Default, findings),
        Kind::VAR_RESET_ALL => {
            findings.habit(Denial::new(Reason::SqlSetting, "RESET ALL", "habits"));
            Reading::of(PieceKind::Quiet, "RESET")
        }
        Kind::VAR_SET_MULTI => read_multi(name, set, findings),
        _ => refuse(name, findings),
    }
}

fn refuse(name: &str, findings: &mut Findings<'_>) -> Reading {
    let operation = format!("SET {name}");
    findings.refuse(Denial::new(Reason::SqlSetting, operation, "settings"));
    Reading::of(PieceKind::Quiet, "SET")
}

fn change(name: &str, value: &NewValue, findings: &mut Findings<'_>) -> Reading {
    let reading = Reading::of(PieceKind::Quiet, "SET");
    findings.searched.extend(searched_by(name, value));
    match judge_change(findings.policy, name, value) {
        Ok(Change::Plain) => reading,
        Ok(Change::Instead(text, habit)) => {
            findings.habit(habit.as_opening);
            Reading { rewritten: Some(text.to_owned()), ..reading }
        }
        Ok(Change::Habit(habit)) => {
            findings.habit(habit.as_opening);
            reading
        }
        Err(denial) => {
            findings.refuse(denial);
            reading
        }
    }
}

/// The words that a SET gives a setting; `Unknown` if one of them is not a constant.
fn words_of(set: &nodes::VariableSetStmt) -> NewValue {
    let words: Option<Vec<String>> = set.args().iter().map(word_of).collect();
    words.map_or(NewValue::Unknown, NewValue::Words)
}

fn word_of(node: Node<'_>) -> Option<String> {
    let Node::A_Const(constant) = node else { return None };
    match constant.val()? {
        ConstValue::String(text) | ConstValue::Float(text) => Some(text.to_owned()),
        ConstValue::Integer(number) => Some(number.to_string()),
        ConstValue::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}

fn read_multi(name: &str, set: &nodes::VariableSetStmt, findings: &mut Findings<'_>) -> Reading {
    let modes = || std::iter::once(Modes::read(set.args().iter()));
    match name {
        "TRANSACTION" => transaction::read_set("SET TRANSACTION", modes(), findings),
        "SESSION CHARACTERISTICS" => {
            let verb = "SET SESSION CHARACTERISTICS AS TRANSACTION";
            transaction::read_set(verb, modes(), findings)
        }
        "TRANSACTION SNAPSHOT" if snapshots_pass(findings) => {
            Reading::of(PieceKind::Quiet, "SET TRANSACTION SNAPSHOT")
        }
        _ => refuse(name, findings),
    }
}

/// `SELECT set_config(name, '…', false) FROM pg_settings WHERE name = '…'`: how pg_dump changes a
/// setting that older servers do not have. The name is in the condition, so it is known all the same.
pub(super) fn know_dump_setting(select: &nodes::SelectStmt, findings: &mut Findings<'_>) {
    let Some((call, name)) = dump_setting(select) else { return };
    let Some(value) = call.args().get(1) else { return };
    findings.known_settings.insert(call.location);
    if let Some(denial) = judge_as_set(findings, name, value) {
        findings.refuse(denial);
    }
}

fn dump_setting(select: &nodes::SelectStmt) -> Option<(&nodes::FuncCall, &str)> {
    let mut targets = select.target_list().iter();
    let (Some(target), None) = (targets.next(), targets.next()) else { return None };
    let Node::FuncCall(call) = target.val() else { return None };
    let name_is_the_column = call.args().len() == 3
        && call.args().first().and_then(column_name) == Some("name")
        && matches!(split_name(call.funcname()), (None | Some("pg_catalog"), Some("set_config")));
    let mut from = select.from_clause().iter();
    let (Some(Node::RangeVar(table)), None) = (from.next(), from.next()) else { return None };
    let from_settings = table.relname() == Some("pg_settings")
        && matches!(table.schemaname(), None | Some("pg_catalog"))
        && table.alias().is_none();
    let Node::A_Expr(condition) = select.where_clause() else { return None };
    let compares = split_name(condition.name()) == (None, Some("="))
        && condition.kind == pg_raw_parse::raw::A_Expr_Kind::AEXPR_OP
        && column_name(condition.lexpr()) == Some("name");
    let name = string_constant(condition.rexpr())?;
    let alone = select.with_clause().is_none() && select.larg().is_none();
    (name_is_the_column && from_settings && compares && alone).then_some((call, name))
}

fn column_name(node: Node<'_>) -> Option<&str> {
    let Node::ColumnRef(column) = node else { return None };
    if column.fields().len() == 1 { column.fields().first()?.as_str() } else { None }
}
