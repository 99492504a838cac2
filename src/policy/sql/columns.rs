//! Columns that are not shown: whoever names such a relation must not name the column, nor take the
//! whole row, by star, by the relation's own name, or through an alias of a join.

use std::ops::ControlFlow;

use pg_raw_parse::list::NodeList;
use pg_raw_parse::walk::{Recurse, walk_manual};
use pg_raw_parse::{Node, nodes};

use crate::policy::file::BuiltinFunction;
use crate::policy::reason::Reason;
use crate::policy::sql::expression::{Findings, Guarded, split_name};
use crate::policy::verdict::Denial;

/// Refuses a query that shows what is not shown. Called after the walk, which has noted the guarded
/// relations.
pub(super) fn judge_columns(findings: &mut Findings<'_>, query: Node<'_>) {
    if findings.guarded.is_empty() {
        return;
    }
    let mut shown = None;
    let mut look = |node: Node<'_>| {
        shown = shown.take().or_else(|| shows(node, findings));
    };
    look(query);
    walk_manual::<()>(query, |node| {
        look(node);
        ControlFlow::Continue(Recurse::Yes)
    });
    if let Some(what) = shown {
        findings.refuse(Denial::new(Reason::SqlRelation, what, "columns"));
    }
}

/// What a node shows that it must not.
fn shows(node: Node<'_>, findings: &Findings<'_>) -> Option<String> {
    match node {
        Node::ColumnRef(column) => column_shows(column.fields(), findings),
        // The alias of a join is a name for whole rows too, and a natural join compares what is not
        // shown.
        Node::JoinExpr(join)
            if (join.alias().is_some() || join.is_natural) && holds_guarded(node, findings) =>
        {
            Some("whole rows of a join".to_owned())
        }
        Node::JoinExpr(join) => {
            let named = join.using_clause().iter().filter_map(nodes::String::sval);
            named.into_iter().find_map(|name| hidden_column(name, &findings.guarded))
        }
        Node::SelectStmt(select) => {
            let guarded = select.from_clause().iter().any(|item| holds_guarded(item, findings));
            let star = select.target_list().iter().any(|target| is_bare_star(target.val()));
            (guarded && star).then(|| "SELECT *".to_owned())
        }
        _ => None,
    }
}

fn column_shows(fields: &NodeList, findings: &Findings<'_>) -> Option<String> {
    let guarded = findings.guarded.as_slice();
    let names: Vec<&str> = fields.iter().filter_map(Node::as_str).collect();
    let last = *names.last()?;
    // `row.to_json` hands the whole row to a function.
    if let [.., row, name] = names.as_slice()
        && guarded.iter().any(|relation| relation.alias == *row)
        && is_function(findings, name)
    {
        return Some(format!("whole rows of {row}"));
    }
    let whole_row = guarded.iter().any(|relation| relation.alias == last);
    if whole_row {
        return Some(format!("whole rows of {last}"));
    }
    (names.len() == fields.len()).then(|| hidden_column(last, guarded)).flatten()
}

/// Whether a name behind a row is a function. `oid` is one too, but takes no row, and the catalog's
/// tables have a column of that name.
fn is_function(findings: &Findings<'_>, name: &str) -> bool {
    if name == "oid" {
        return false;
    }
    findings.policy.builtin_function(name) != BuiltinFunction::Unknown
        || findings.policy.lists_function(None, name)
}

fn hidden_column(name: &str, guarded: &[Guarded<'_>]) -> Option<String> {
    let hidden =
        guarded.iter().any(|relation| relation.columns.iter().any(|column| column == name));
    hidden.then(|| format!("column {name}"))
}

fn is_bare_star(node: Node<'_>) -> bool {
    matches!(node, Node::ColumnRef(column)
        if column.fields().len() == 1 && matches!(column.fields().first(), Some(Node::A_Star(_))))
}

/// Whether an item of FROM is a guarded relation, by itself or in a join.
fn holds_guarded(item: Node<'_>, findings: &Findings<'_>) -> bool {
    let policy = findings.policy;
    match item {
        Node::RangeVar(relation) => relation
            .relname()
            .is_some_and(|name| policy.hidden_columns(relation.schemaname(), name).is_some()),
        Node::JoinExpr(join) => {
            holds_guarded(join.larg(), findings) || holds_guarded(join.rarg(), findings)
        }
        Node::RangeTableSample(sample) => holds_guarded(sample.relation(), findings),
        Node::RangeFunction(range) => range.functions().iter().any(|pair| {
            let Node::NodeList(pair) = pair else { return true };
            let Some(Node::FuncCall(call)) = pair.first() else { return false };
            let (schema, name) = split_name(call.funcname());
            name.is_some_and(|name| policy.hidden_columns(schema, name).is_some())
        }),
        _ => false,
    }
}
