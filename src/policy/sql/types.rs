//! The types of values in a statement, as far as they can be known without asking the server: columns
//! of known relations, constants, casts, calls that can only be one thing.
//!
//! Used for one purpose: to rule out that the server chooses somebody's overload of an operator or a
//! function. So a wrong guess would be a hole, and whatever is not certain is `Unknown`.

use std::collections::BTreeSet;

use pg_raw_parse::const_val::ConstValue;
use pg_raw_parse::list::NodeList;
use pg_raw_parse::raw::{A_Expr_Kind, SQLValueFunctionOp, SubLinkType};
use pg_raw_parse::{Node, nodes};

use crate::policy::catalog::facts::{FunctionFact, Oid, OperatorFact};
use crate::policy::catalog::overload::{ArgumentType, Standing};
use crate::policy::catalog::{Catalog, Named, Reach};
use crate::policy::sql::expression::split_name;

const BOOL: Oid = Oid(16);
const INT4: Oid = Oid(23);
const TEXT: Oid = Oid(25);
const NUMERIC: Oid = Oid(1700);
const BIT: Oid = Oid(1560);
const NAME: Oid = Oid(19);
const DATE: Oid = Oid(1082);
const TIMETZ: Oid = Oid(1266);
const TIME: Oid = Oid(1083);
const TIMESTAMPTZ: Oid = Oid(1184);
const TIMESTAMP: Oid = Oid(1114);

/// What an item of FROM offers under its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) alias: Option<String>,
    pub(super) columns: Columns,
}

/// The columns of a source or of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    /// All of them, in order.
    Known(Vec<(String, ArgumentType)>),
    /// Nobody knows.
    Opaque,
}

impl Columns {
    fn find(&self, name: &str) -> Found {
        match self {
            Self::Opaque => Found::Perhaps,
            Self::Known(columns) => columns
                .iter()
                .find(|(known, _)| known == name)
                .map_or(Found::Not, |(_, of)| Found::Column(*of)),
        }
    }

    /// Under the names that an alias gives the first of them.
    pub(super) fn renamed(self, names: &NodeList) -> Self {
        if names.is_empty() {
            return self;
        }
        match self {
            Self::Opaque => Self::Opaque,
            Self::Known(mut columns) => {
                for (column, name) in columns.iter_mut().zip(names.iter()) {
                    match name.as_str() {
                        Some(name) => name.clone_into(&mut column.0),
                        None => return Self::Opaque,
                    }
                }
                Self::Known(columns)
            }
        }
    }
}

/// Whether a source has a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It has, of this type.
    Column(ArgumentType),
    /// It has not.
    Not,
    /// Nobody knows.
    Perhaps,
}

/// How deep a value is looked into: 24 calls and operators inside one another. The type of what is
/// deeper is not known, so that long chains do not cost the square of their length.
const DEPTH: u8 = 24;

/// The sources in sight, the innermost query's last.
pub(super) struct Scopes<'w> {
    pub(super) catalog: &'w Catalog,
    pub(super) reach: &'w Reach,
    /// Names of WITH queries: a relation of such a name may be another.
    pub(super) ctes: &'w BTreeSet<String>,
    pub(super) levels: Vec<Vec<Source>>,
}

impl Scopes<'_> {
    /// Whether a name is that of a source, and so may stand for a whole row.
    pub(super) fn is_source(&self, name: &str) -> bool {
        let mut sources = self.levels.iter().flatten();
        sources.any(|source| source.alias.as_deref() == Some(name))
    }

    /// Whether `row.name` is a column.
    pub(super) fn find(&self, row: &str, name: &str) -> Found {
        for level in self.levels.iter().rev() {
            let mut named =
                level.iter().filter(|source| source.alias.as_deref().is_none_or(|a| a == row));
            match (named.next(), named.next()) {
                (None, _) => {}
                (Some(Source { alias: Some(_), columns }), None) => return columns.find(name),
                _ => return Found::Perhaps,
            }
        }
        Found::Perhaps
    }

    fn find_anywhere(&self, name: &str) -> ArgumentType {
        for level in self.levels.iter().rev() {
            let mut found = Found::Not;
            for source in level {
                found = match (found, source.columns.find(name)) {
                    (found, Found::Not) => found,
                    (Found::Not, column) => column,
                    // In two of them: merged by USING, or an error.
                    (Found::Column(one), Found::Column(other)) if one == other => found,
                    _ => Found::Perhaps,
                };
            }
            match found {
                Found::Column(of) => return of,
                Found::Perhaps => return ArgumentType::Unknown,
                Found::Not => {}
            }
        }
        ArgumentType::Unknown
    }

    /// The type of a named type; none if the name may stand for several.
    pub(super) fn named_type(&self, written: &nodes::TypeName) -> ArgumentType {
        let parts: Vec<&str> = written.names().iter().filter_map(nodes::String::sval).collect();
        let named = match parts.as_slice() {
            _ if written.setof || written.pct_type => return ArgumentType::Unknown,
            [name] => Named { schema: None, name },
            [schema, name] => Named { schema: Some(schema), name },
            _ => return ArgumentType::Unknown,
        };
        let mut types = self.catalog.types(named, self.reach);
        let (Some(only), None) = (types.next(), types.next()) else { return ArgumentType::Unknown };
        if written.array_bounds().is_empty() {
            return ArgumentType::Known(only.oid);
        }
        let name = format!("_{}", only.name);
        let array = Named { schema: Some(&only.schema), name: &name };
        let mut arrays =
            self.catalog.types(array, self.reach).filter(|fact| fact.element == only.oid);
        arrays.next().map_or(ArgumentType::Unknown, |fact| ArgumentType::Known(fact.oid))
    }

    /// The type of a value.
    pub(super) fn of(&self, value: Node<'_>) -> ArgumentType {
        self.of_within(value, DEPTH)
    }

    fn of_within(&self, value: Node<'_>, depth: u8) -> ArgumentType {
        let Some(depth) = depth.checked_sub(1) else { return ArgumentType::Unknown };
        match value {
            Node::A_Const(constant) if constant.isnull => ArgumentType::Literal,
            Node::A_Const(constant) => match constant.val() {
                Some(ConstValue::Integer(_)) => ArgumentType::Known(INT4),
                Some(ConstValue::Float(text)) => number(text),
                Some(ConstValue::Boolean(_)) => ArgumentType::Known(BOOL),
                Some(ConstValue::String(_)) => ArgumentType::Literal,
                Some(ConstValue::BitString(_)) => ArgumentType::Known(BIT),
                _ => ArgumentType::Unknown,
            },
            Node::BoolExpr(_) | Node::NullTest(_) | Node::BooleanTest(_) => {
                ArgumentType::Known(BOOL)
            }
            Node::CollateClause(collated) => match self.of_within(collated.arg(), depth) {
                ArgumentType::Literal => ArgumentType::Known(TEXT),
                other => other,
            },
            Node::ColumnRef(column) => self.column(column.fields()),
            Node::TypeCast(cast) => {
                cast.type_name().map_or(ArgumentType::Unknown, |named| self.named_type(named))
            }
            Node::A_Expr(operation) => self.operation(operation, depth),
            Node::FuncCall(call) => self.call(call, depth),
            Node::CaseExpr(case) => {
                let results = case.args().iter().map(|when| match when {
                    Node::CaseWhen(when) => self.of_within(when.result(), depth),
                    _ => ArgumentType::Unknown,
                });
                let otherwise = match case.defresult() {
                    Node::None => ArgumentType::Literal,
                    value => self.of_within(value, depth),
                };
                common(results.chain([otherwise]))
            }
            Node::CoalesceExpr(coalesce) => {
                common(coalesce.args().iter().map(|v| self.of_within(v, depth)))
            }
            Node::MinMaxExpr(least) => {
                common(least.args().iter().map(|value| self.of_within(value, depth)))
            }
            Node::SQLValueFunction(function) => standard(function.op),
            Node::SubLink(link) => match link.sub_link_type {
                SubLinkType::EXISTS_SUBLINK
                | SubLinkType::ANY_SUBLINK
                | SubLinkType::ALL_SUBLINK => ArgumentType::Known(BOOL),
                _ => ArgumentType::Unknown,
            },
            _ => ArgumentType::Unknown,
        }
    }

    fn column(&self, fields: &NodeList) -> ArgumentType {
        let names: Vec<&str> = fields.iter().filter_map(Node::as_str).collect();
        if names.len() != fields.len() {
            return ArgumentType::Unknown;
        }
        match names.as_slice() {
            [name] => self.find_anywhere(name),
            [row, name] => match self.find(row, name) {
                Found::Column(of) => of,
                Found::Not | Found::Perhaps => ArgumentType::Unknown,
            },
            _ => ArgumentType::Unknown,
        }
    }

    fn operation(&self, operation: &nodes::A_Expr, depth: u8) -> ArgumentType {
        let (schema, Some(name)) = split_name(operation.name()) else {
            return ArgumentType::Unknown;
        };
        if operation.kind == A_Expr_Kind::AEXPR_NULLIF {
            return self.of_within(operation.lexpr(), depth);
        }
        if operation.kind != A_Expr_Kind::AEXPR_OP {
            // IN, LIKE, BETWEEN, ANY and the like give true or false; so must their operators.
            return ArgumentType::Known(BOOL);
        }
        let left = match operation.lexpr() {
            Node::None => None,
            value => Some(self.of_within(value, depth)),
        };
        let right = self.of_within(operation.rexpr(), depth);
        let named = Named { schema, name };
        if self.catalog.judge_operator(named, left, right, self.reach) != Standing::Clear {
            return ArgumentType::Unknown;
        }
        let of = |argument: ArgumentType, other: Option<ArgumentType>| match (argument, other) {
            (ArgumentType::Literal, Some(known @ ArgumentType::Known(_))) => known,
            (argument, _) => argument,
        };
        let (left, right) = (left.map(|left| of(left, Some(right))), of(right, left));
        let fits = |operator: &&OperatorFact| {
            let same = |wanted: Oid, given: ArgumentType| matches!(given, ArgumentType::Known(oid) if self.catalog.foundation(oid) == wanted);
            left.map_or(operator.left == Oid::NONE, |left| same(operator.left, left))
                && same(operator.right, right)
        };
        one(self.catalog.operators(named, self.reach).filter(fits).map(|found| found.result))
    }

    fn call(&self, call: &nodes::FuncCall, depth: u8) -> ArgumentType {
        let (schema, Some(name)) = split_name(call.funcname()) else {
            return ArgumentType::Unknown;
        };
        let arguments: Vec<ArgumentType> =
            call.args().iter().map(|value| self.of_within(value, depth)).collect();
        let named = Named { schema, name };
        if self.catalog.judge_call(named, &arguments, self.reach) != Standing::Clear {
            return ArgumentType::Unknown;
        }
        let fits = |function: &&FunctionFact| {
            function.arguments.len() == arguments.len()
                && function.variadic == 0
                && function.arguments.iter().zip(&arguments).all(
                    |(wanted, given)| matches!(given, ArgumentType::Known(oid) if oid.0 == *wanted),
                )
        };
        let exact = self.catalog.functions(named, self.reach).filter(fits);
        let found = one(exact.map(|function| Oid(function.result)));
        let found = match found {
            // All of them give the same, whichever is chosen.
            ArgumentType::Unknown => {
                one(self.catalog.functions(named, self.reach).map(|f| Oid(f.result)))
            }
            found => found,
        };
        match found {
            ArgumentType::Known(oid) if !self.is_fixed(oid) => ArgumentType::Unknown,
            found => found,
        }
    }

    /// Whether a type is what it says, and does not follow the arguments.
    fn is_fixed(&self, oid: Oid) -> bool {
        self.catalog.type_of(oid).is_some_and(|fact| fact.category != 'P' && fact.kind != 'c')
    }

    /// The type of an array's elements.
    pub(super) fn element(&self, array: ArgumentType) -> ArgumentType {
        match array {
            ArgumentType::Known(oid) => match self.catalog.type_of(self.catalog.foundation(oid)) {
                Some(fact) if fact.element != Oid::NONE => ArgumentType::Known(fact.element),
                _ => ArgumentType::Unknown,
            },
            // '{1,2}' becomes an array of whatever stands on the other side.
            ArgumentType::Literal => ArgumentType::Literal,
            ArgumentType::Unknown => ArgumentType::Unknown,
        }
    }
}

fn one(found: impl Iterator<Item = Oid>) -> ArgumentType {
    let mut result = ArgumentType::Unknown;
    for oid in found {
        match result {
            ArgumentType::Known(known) if known != oid => return ArgumentType::Unknown,
            _ => result = ArgumentType::Known(oid),
        }
    }
    result
}

/// The type that all of them have; literals follow the others.
fn common(types: impl Iterator<Item = ArgumentType>) -> ArgumentType {
    let mut result = ArgumentType::Literal;
    for of in types {
        result = match (result, of) {
            (ArgumentType::Literal, other) | (other, ArgumentType::Literal) => other,
            (one, other) if one == other => one,
            _ => return ArgumentType::Unknown,
        };
    }
    match result {
        // Left to itself the server takes it for text.
        ArgumentType::Literal => ArgumentType::Known(TEXT),
        other => other,
    }
}

/// A number that is no `integer`: `bigint` if it fits, `numeric` otherwise.
fn number(text: &str) -> ArgumentType {
    const INT8: Oid = Oid(20);
    let whole = text.bytes().all(|byte| byte.is_ascii_digit());
    match (whole, text.parse::<i64>()) {
        (true, Ok(_)) => ArgumentType::Known(INT8),
        // 0x1F and 1_000 on newer servers: either of the two.
        _ if text.bytes().any(|byte| matches!(byte, b'x' | b'X' | b'o' | b'b' | b'_')) => {
            ArgumentType::Unknown
        }
        _ => ArgumentType::Known(NUMERIC),
    }
}

fn standard(function: SQLValueFunctionOp::Type) -> ArgumentType {
    ArgumentType::Known(match function {
        SQLValueFunctionOp::SVFOP_CURRENT_DATE => DATE,
        SQLValueFunctionOp::SVFOP_CURRENT_TIME | SQLValueFunctionOp::SVFOP_CURRENT_TIME_N => TIMETZ,
        SQLValueFunctionOp::SVFOP_LOCALTIME | SQLValueFunctionOp::SVFOP_LOCALTIME_N => TIME,
        SQLValueFunctionOp::SVFOP_CURRENT_TIMESTAMP
        | SQLValueFunctionOp::SVFOP_CURRENT_TIMESTAMP_N => TIMESTAMPTZ,
        SQLValueFunctionOp::SVFOP_LOCALTIMESTAMP | SQLValueFunctionOp::SVFOP_LOCALTIMESTAMP_N => {
            TIMESTAMP
        }
        _ => NAME,
    })
}
