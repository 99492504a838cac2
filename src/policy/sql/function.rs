//! Which functions a query may call, by name.
//!
//! Functions of `pg_catalog` by the reviewed table; others only when the policy lists them. A name
//! without a schema is taken for the one of `pg_catalog`, which is searched first.

use pg_raw_parse::const_val::ConstValue;
use pg_raw_parse::raw::{A_Expr_Kind, SubLinkType};
use pg_raw_parse::{Node, nodes};

use crate::policy::file::BuiltinFunction;
use crate::policy::reason::Reason;
use crate::policy::sql::expression::{Findings, split_name};
use crate::policy::sql::setting::{self, Change, NewValue};
use crate::policy::verdict::Denial;

/// Judges one call. A refusal goes into the findings.
pub(super) fn judge_call(findings: &mut Findings<'_>, call: &nodes::FuncCall) {
    let (schema, Some(name)) = split_name(call.funcname()) else { return };
    findings.functions.insert(name.to_owned());
    let policy = findings.policy;
    let refusal = match (schema, name) {
        (None | Some("pg_catalog"), "set_config") => {
            // The one shape in which the walk does not know the setting's name is judged with the
            // whole statement.
            (!findings.known_settings.contains(&call.location))
                .then(|| judge_set_config(findings, call))
                .flatten()
        }
        (None | Some("pg_catalog"), _) => match policy.builtin_function(name) {
            BuiltinFunction::Reads => builtin_refusal(findings, schema, name, call),
            BuiltinFunction::Refused(_) => Some(refused(name)),
            // The second walk looks it up.
            BuiltinFunction::Unknown if !findings.is_offline() => None,
            BuiltinFunction::Unknown if schema.is_some() => Some(refused(name)),
            BuiltinFunction::Unknown if policy.lists_function(None, name) => None,
            BuiltinFunction::Unknown => Some(user_code(schema, name)),
        },
        (Some(_), _) if !findings.is_offline() || policy.lists_function(schema, name) => None,
        (Some(_), _) => Some(user_code(schema, name)),
    };
    if let Some(denial) = refusal {
        findings.refuse(denial);
    }
}

/// Tables samples are made by these; no value can be handed to them, and `system` may be a column.
const SAMPLING_METHODS: [&str; 2] = ["bernoulli", "system"];

/// Judges the names behind a value in brackets. What cannot be a row has no columns: there a name must
/// be that of a function that passes.
pub(super) fn judge_field(findings: &mut Findings<'_>, field: &nodes::A_Indirection) {
    for name in field.indirection() {
        judge_notation(findings, name);
    }
    if !findings.is_offline() {
        return;
    }
    let mut names = field.indirection().iter().map(Node::as_str);
    let name = match shape(field.arg()) {
        // An element of such a value is no row either.
        Shape::Builtin => names.find_map(|name| name),
        Shape::Scalar => names.next().flatten(),
        Shape::Unknown => None,
    };
    let Some(name) = name else { return };
    let policy = findings.policy;
    let passes = matches!(policy.builtin_function(name), BuiltinFunction::Reads)
        || policy.lists_function(None, name);
    if !passes {
        findings.functions.insert(name.to_owned());
        findings.refuse(user_code(None, name));
    }
}

/// What is certain about a value without a look into the catalog.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Of a type of PostgreSQL's own that has no columns, or an array of it.
    Builtin,
    /// No row; but it may be an array of rows.
    Scalar,
    /// It may be a row.
    Unknown,
}

fn shape(value: Node<'_>) -> Shape {
    match value {
        Node::A_Const(_)
        | Node::BoolExpr(_)
        | Node::BooleanTest(_)
        | Node::GroupingFunc(_)
        | Node::NullTest(_)
        | Node::SQLValueFunction(_) => Shape::Builtin,
        Node::TypeCast(cast) => cast.type_name().map_or(Shape::Unknown, |named| {
            let names: Vec<&str> = named.names().iter().filter_map(nodes::String::sval).collect();
            match names.as_slice() {
                ["pg_catalog", name] | [name] if is_scalar_type(name) => Shape::Builtin,
                _ => Shape::Unknown,
            }
        }),
        // NULLIF hands a row through. No operator of PostgreSQL's makes one.
        Node::A_Expr(operation) if operation.kind != A_Expr_Kind::AEXPR_NULLIF => Shape::Scalar,
        Node::A_ArrayExpr(_) | Node::ParamRef(_) => Shape::Scalar,
        Node::SubLink(link) if link.sub_link_type != SubLinkType::EXPR_SUBLINK => Shape::Scalar,
        _ => Shape::Unknown,
    }
}

/// Whether a type of PostgreSQL's own has no columns; an array of it has none either.
#[must_use]
pub fn is_scalar_type(name: &str) -> bool {
    SCALAR_TYPES.binary_search(&name).is_ok()
}

/// Every type of `pg_catalog` that is no row, no array and no pseudo-type, and the two pseudo-types
/// that a value can have; sorted. The grammar turns its own words (`integer`) into these names.
const SCALAR_TYPES: [&str; 84] = [
    "aclitem",
    "bit",
    "bool",
    "box",
    "bpchar",
    "bytea",
    "char",
    "cid",
    "cidr",
    "circle",
    "cstring",
    "date",
    "datemultirange",
    "daterange",
    "float4",
    "float8",
    "gtsvector",
    "inet",
    "int2",
    "int2vector",
    "int4",
    "int4multirange",
    "int4range",
    "int8",
    "int8multirange",
    "int8range",
    "interval",
    "json",
    "jsonb",
    "jsonpath",
    "line",
    "lseg",
    "macaddr",
    "macaddr8",
    "money",
    "name",
    "numeric",
    "nummultirange",
    "numrange",
    "oid",
    "oidvector",
    "path",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_lsn",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
    "pg_snapshot",
    "point",
    "polygon",
    "refcursor",
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
    "text",
    "tid",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "tsmultirange",
    "tsquery",
    "tsrange",
    "tstzmultirange",
    "tstzrange",
    "tsvector",
    "txid_snapshot",
    "unknown",
    "uuid",
    "varbit",
    "varchar",
    "xid",
    "xid8",
    "xml",
];

/// Judges a name behind a dot: `(value).name` and `row.name` are calls when there is no such column,
/// whatever the value is. A name of a function that does more than read is taken for the call.
pub(super) fn judge_notation(findings: &mut Findings<'_>, name: Node<'_>) {
    let Some(name) = name.as_str() else { return };
    let policy = findings.policy;
    let refusal = match policy.builtin_function(name) {
        _ if findings.is_offline() && policy.is_never_a_column(name) => Some(user_code(None, name)),
        _ if SAMPLING_METHODS.contains(&name) => None,
        BuiltinFunction::Refused(_) => Some(refused(name)),
        // A function that returns rows of which not all columns are shown.
        BuiltinFunction::Reads => policy
            .hidden_columns(Some("pg_catalog"), name)
            .map(|_| Denial::new(Reason::SqlRelation, format!("function {name}"), "columns")),
        BuiltinFunction::Unknown => None,
    };
    if let Some(denial) = refusal {
        findings.functions.insert(name.to_owned());
        findings.refuse(denial);
    }
}

/// What the name alone does not say.
fn builtin_refusal(
    findings: &Findings<'_>,
    schema: Option<&str>,
    name: &str,
    call: &nodes::FuncCall,
) -> Option<Denial> {
    // With two arguments it runs the second one as SQL.
    if name == "ts_rewrite" && (call.args().len() != 3 || call.func_variadic) {
        return Some(refused(name));
    }
    // Outside FROM its row comes back whole.
    let whole_row = findings.policy.hidden_columns(schema, name).is_some()
        && !findings.in_from.contains(&call.location);
    whole_row.then(|| Denial::new(Reason::SqlRelation, format!("function {name}"), "columns"))
}

fn refused(name: &str) -> Denial {
    Denial::new(Reason::SqlFunction, format!("function {name}"), "functions.refuse")
}

fn user_code(schema: Option<&str>, name: &str) -> Denial {
    let prefix = schema.map(|schema| format!("{schema}.")).unwrap_or_default();
    let operation = format!("function {prefix}{name}");
    Denial::new(Reason::SqlUserCode, operation, "functions.listed")
}

/// `set_config` is SET by another name, and judged as such.
fn judge_set_config(findings: &mut Findings<'_>, call: &nodes::FuncCall) -> Option<Denial> {
    let arguments: Vec<Node<'_>> = call.args().iter().collect();
    let [name, value, _] = arguments.as_slice() else { return Some(refused("set_config")) };
    let Some(name) = string_constant(*name).filter(|_| !call.func_variadic) else {
        return Some(refused("set_config"));
    };
    judge_as_set(findings, name, *value)
}

/// The same, for a setting whose name is known.
pub(super) fn judge_as_set(
    findings: &mut Findings<'_>,
    name: &str,
    value: Node<'_>,
) -> Option<Denial> {
    let value = match value {
        Node::A_Const(constant) if constant.isnull => NewValue::Default,
        other => match string_constant(other) {
            Some(text) if name.eq_ignore_ascii_case("search_path") => {
                setting::split_path(text).map_or(NewValue::Unknown, NewValue::Words)
            }
            Some(text) => NewValue::Words(vec![text.to_owned()]),
            None => NewValue::Unknown,
        },
    };
    findings.searched.extend(setting::searched_by(name, &value));
    match setting::judge_change(findings.policy, name, &value) {
        Ok(Change::Plain) => None,
        Ok(Change::Habit(habit)) => {
            findings.habit(habit.as_opening);
            None
        }
        // The text cannot be changed inside an expression.
        Ok(Change::Instead(..)) => {
            Some(Denial::new(Reason::SqlSetting, format!("SET {name}"), "settings"))
        }
        Err(denial) => Some(denial),
    }
}

/// The text of a string literal.
pub(super) fn string_constant(node: Node<'_>) -> Option<&str> {
    match node {
        Node::A_Const(constant) => match constant.val() {
            Some(ConstValue::String(text)) => Some(text),
            _ => None,
        },
        _ => None,
    }
}
