//! The second walk, where the database is known: every name is looked up in its catalog, and a
//! statement that may reach unproved code is refused.
//!
//! The first walk has let through what is a read if all names mean what they say. Here a name may
//! turn out to be somebody's: a function, an operator (IN, BETWEEN, LIKE, CASE and JOIN USING have
//! one too), the check of a domain, a cast, a view, the policy of a table, a column that is none.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use pg_raw_parse::list::NodeList;
use pg_raw_parse::walk::{Recurse, walk_manual};
use pg_raw_parse::{Node, nodes};

use crate::policy::catalog::facts::{CastContext, Item, Oid};
use crate::policy::catalog::overload::{ArgumentType, Standing};
use crate::policy::catalog::{Catalog, Named, Reach};
use crate::policy::file::{BuiltinFunction, Policy};
use crate::policy::reason::Reason;
use crate::policy::sql::expression::split_name;
use crate::policy::sql::types::{Found, Scopes};
use crate::policy::verdict::Denial;

/// Functions that make a value of a type that is not written in the statement: their second argument
/// names it, or it is that of a row.
const MAKES_ANY_TYPE: [&str; 6] = [
    "domain_in",
    "domain_recv",
    "pg_input_error_info",
    "pg_input_is_valid",
    "record_in",
    "record_recv",
];

/// Functions that fill a row of the type of their first argument.
const FILLS_A_ROW: [&str; 5] = [
    "json_populate_record",
    "json_populate_recordset",
    "jsonb_populate_record",
    "jsonb_populate_recordset",
    "jsonb_populate_record_valid",
];

/// `json` and `jsonb`: functions that make them look for a cast by themselves.
const JSON_TYPES: [Oid; 2] = [Oid(114), Oid(3802)];

/// Looks up every name in a statement. `None` if all of it is known to read only.
pub(super) fn judge_identity(
    policy: &Policy,
    (catalog, reach): (&Catalog, &Reach),
    ctes: &BTreeSet<String>,
    statement: Node<'_>,
) -> Option<Denial> {
    let mut walk = Walk {
        policy,
        scopes: Scopes { catalog, reach, ctes, levels: Vec::new() },
        handled: BTreeSet::new(),
        cast_to: BTreeSet::new(),
        fills_a_row: Fills::Nothing,
        peeking: Peeking::No,
        refusal: None,
    };
    walk.statement(statement);
    walk.judge_handled();
    walk.refusal
}

/// Whether a row is filled from text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fills {
    Nothing,
    Rows,
}

pub(super) struct Walk<'w> {
    policy: &'w Policy,
    pub(super) scopes: Scopes<'w>,
    /// The types of which there are values in the statement.
    pub(super) handled: BTreeSet<Oid>,
    /// The types to which something is cast.
    cast_to: BTreeSet<Oid>,
    fills_a_row: Fills,
    pub(super) peeking: Peeking,
    pub(super) refusal: Option<Denial>,
}

/// Whether a query is read for its columns only, before it is read for itself. One inside it is not:
/// queries nested in queries would be read twice as often at each step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Peeking {
    No,
    Yes,
}

impl<'w> Walk<'w> {
    pub(super) const fn catalog(&self) -> &'w Catalog {
        self.scopes.catalog
    }

    pub(super) fn refuse(&mut self, operation: String) {
        self.refusal
            .get_or_insert_with(|| Denial::new(Reason::SqlUserCode, operation, "functions.listed"));
    }

    /// The parts of a statement that name anything; the first walk has let through no other statement
    /// that does.
    fn statement(&mut self, node: Node<'_>) {
        match node {
            Node::SelectStmt(_) => self.read(node),
            Node::CopyStmt(copy) => {
                if let Some(relation) = copy.relation() {
                    self.relation(relation);
                }
                self.read(copy.query());
            }
            Node::DeclareCursorStmt(declare) => self.read(declare.query()),
            Node::ExplainStmt(explain) => self.statement(explain.query()),
            Node::PrepareStmt(prepare) => {
                for named in prepare.argtypes() {
                    self.type_named(named);
                }
                self.read(prepare.query());
            }
            Node::ExecuteStmt(execute) => self.read_list(execute.params()),
            Node::LockStmt(lock) => self.read_list(lock.relations()),
            _ => {}
        }
    }

    pub(super) fn read(&mut self, node: Node<'_>) {
        match node {
            Node::None => {}
            Node::SelectStmt(select) => {
                self.select(select);
            }
            node => {
                self.visit(node);
                self.children(node);
            }
        }
    }

    /// What is below a node; queries are read with the sources of FROM in sight.
    pub(super) fn children(&mut self, node: Node<'_>) {
        walk_manual::<()>(node, |child| {
            ControlFlow::Continue(match child {
                Node::SelectStmt(select) => {
                    self.select(select);
                    Recurse::No
                }
                child => {
                    self.visit(child);
                    Recurse::Yes
                }
            })
        });
    }

    pub(super) fn read_list(&mut self, list: &NodeList) {
        for node in list {
            self.read(node);
        }
    }

    fn visit(&mut self, node: Node<'_>) {
        match node {
            // Outside FROM: COPY and LOCK.
            Node::RangeVar(relation) => {
                self.relation(relation);
            }
            Node::FuncCall(call) => self.call(call),
            Node::A_Expr(operation) => self.operation(operation),
            Node::SubLink(link) => self.sub_link(link),
            Node::CaseExpr(case)
                if !matches!(case.arg(), Node::None) && self.has_suspect(None, "=") =>
            {
                let left = self.scopes.of(case.arg());
                for when in case.args() {
                    let Node::CaseWhen(when) = when else { continue };
                    let right = self.scopes.of(when.expr());
                    self.operator(None, "=", Some(left), right);
                }
            }
            Node::SortBy(sort) => {
                if let (schema, Some(name)) = split_name(sort.use_op()) {
                    let of = self.scopes.of(sort.node());
                    self.operator(schema, name, Some(of), of);
                }
            }
            Node::TypeName(named) => self.type_named(named),
            Node::TypeCast(cast) => {
                if let Some(named) = cast.type_name() {
                    self.type_named(named);
                    self.casts_to(named);
                }
            }
            Node::ColumnRef(column) => self.notation_of_column(column),
            Node::A_Indirection(field) => {
                for name in field.indirection().iter().filter_map(Node::as_str) {
                    self.notation(name);
                }
            }
            _ => {}
        }
    }

    fn call(&mut self, call: &nodes::FuncCall) {
        let (schema, Some(name)) = split_name(call.funcname()) else { return };
        let named = Named { schema, name };
        let standing = self.standing_of(named, call);
        // `name(value)` is a cast when there is such a type and no such function.
        let types: Vec<Oid> =
            self.catalog().types(named, self.scopes.reach).map(|fact| fact.oid).collect();
        if call.args().len() == 1 {
            for of in &types {
                self.make(*of, name);
                self.cast_to.insert(*of);
            }
        }
        match standing {
            Standing::Clear => {}
            Standing::Missing if !types.is_empty() || self.is_of_newer_server(named) => {}
            Standing::Suspect | Standing::Missing => self.refuse_function(schema, name),
        }
        let results: Vec<u32> = self
            .catalog()
            .functions(named, self.scopes.reach)
            .map(|function| function.result)
            .collect();
        for of in results {
            self.catalog().types_within(Oid(of), &mut self.handled);
        }
        if matches!(schema, None | Some("pg_catalog")) {
            if FILLS_A_ROW.contains(&name) {
                self.fills_a_row = Fills::Rows;
            }
            if MAKES_ANY_TYPE.contains(&name) && self.catalog().has_suspect_input() {
                self.refuse(format!("function {name}"));
            }
        }
    }

    fn standing_of(&self, named: Named<'_>, call: &nodes::FuncCall) -> Standing {
        let alone = self.by_name_alone(named);
        let has_names = call.args().iter().any(|value| matches!(value, Node::NamedArgExpr(_)));
        if alone != Standing::Suspect || has_names || call.func_variadic {
            return alone;
        }
        let direct = call.args().iter().map(|value| self.scopes.of(value));
        let ordered = call.agg_order().iter().map(|sort| self.scopes.of(sort.node()));
        let arguments: Vec<ArgumentType> =
            if call.agg_within_group { direct.chain(ordered).collect() } else { direct.collect() };
        self.catalog().judge_call(named, &arguments, self.scopes.reach)
    }

    fn refuse_function(&mut self, schema: Option<&str>, name: &str) {
        let prefix = schema.map(|schema| format!("{schema}.")).unwrap_or_default();
        self.refuse(format!("function {prefix}{name}"));
    }

    /// A function that another version of PostgreSQL has: this server says that it is not there.
    fn is_of_newer_server(&self, named: Named<'_>) -> bool {
        matches!(named.schema, None | Some("pg_catalog"))
            && self.policy.builtin_function(named.name) == BuiltinFunction::Reads
    }

    /// Where arguments are named or spread, every candidate counts.
    fn by_name_alone(&self, named: Named<'_>) -> Standing {
        let mut found = self.catalog().functions(named, self.scopes.reach).peekable();
        if found.peek().is_none() {
            return Standing::Missing;
        }
        if self.catalog().has_suspect_function(named, self.scopes.reach) {
            Standing::Suspect
        } else {
            Standing::Clear
        }
    }

    pub(super) fn sampling(&mut self, sample: &nodes::RangeTableSample) {
        let (schema, Some(name)) = split_name(sample.method()) else { return };
        if matches!((schema, name), (None | Some("pg_catalog"), "bernoulli" | "system")) {
            return;
        }
        match self.by_name_alone(Named { schema, name }) {
            Standing::Clear => {}
            Standing::Suspect | Standing::Missing => self.refuse(format!("sampling method {name}")),
        }
    }

    pub(super) fn type_named(&mut self, named: &nodes::TypeName) {
        for of in self.types_of(named) {
            let name = named.names().iter().next_back().and_then(nodes::String::sval);
            self.make(of, name.unwrap_or_default());
        }
    }

    fn casts_to(&mut self, named: &nodes::TypeName) {
        for of in self.types_of(named) {
            self.cast_to.insert(of);
        }
    }

    /// Every type that the name may stand for, and arrays of it.
    fn types_of(&self, written: &nodes::TypeName) -> Vec<Oid> {
        let parts: Vec<&str> = written.names().iter().filter_map(nodes::String::sval).collect();
        let named = match parts.as_slice() {
            [name] => Named { schema: None, name },
            [.., schema, name] => Named { schema: Some(schema), name },
            [] => return Vec::new(),
        };
        self.catalog().types(named, self.scopes.reach).map(|fact| fact.oid).collect()
    }

    /// A value of this type is made.
    fn make(&mut self, of: Oid, name: &str) {
        if self.catalog().is_suspect(Item::Input(of)) {
            self.refuse(format!("type {name}"));
        }
        self.catalog().types_within(of, &mut self.handled);
    }

    fn notation_of_column(&mut self, column: &nodes::ColumnRef) {
        let names: Vec<&str> = column.fields().iter().filter_map(Node::as_str).collect();
        let name = match names.as_slice() {
            // A whole row, which a literal beside it makes the server fill another like it from.
            [name] if self.scopes.is_source(name) => {
                self.fills_a_row = Fills::Rows;
                return;
            }
            [] | [_] => return,
            // A star takes all columns; it is no name.
            _ if names.len() != column.fields().len() => return,
            [row, name] | [_, row, name] => match self.scopes.find(row, name) {
                Found::Column(_) => return,
                Found::Not | Found::Perhaps => name,
            },
            [.., name] => name,
        };
        self.notation(name);
    }

    /// `value.name` calls a function of one argument when there is no such column.
    fn notation(&mut self, name: &str) {
        let named = Named { schema: None, name };
        let suspect = self.catalog().functions(named, self.scopes.reach).any(|function| {
            let least = function.arguments.len().saturating_sub(function.defaults);
            let takes_one =
                (least <= 1 && !function.arguments.is_empty()) || function.variadic != 0;
            takes_one && self.catalog().is_suspect_user_code(function)
        });
        if suspect {
            self.refuse_function(None, name);
        }
    }

    /// What the server does by itself with values of the types in the statement.
    fn judge_handled(&mut self) {
        let fills = self.fills_a_row;
        let suspect = self.handled.iter().copied().find(|of| {
            self.catalog().is_suspect(Item::Output(*of))
                || (fills == Fills::Rows && self.catalog().is_suspect(Item::Input(*of)))
        });
        if let Some(fact) = suspect.and_then(|of| self.catalog().type_of(of)) {
            self.refuse(format!("type {}", fact.name));
        }
        let cast = self.catalog().suspect_casts().find(|cast| {
            let here = |of: Oid| of.is_builtin() || self.handled.contains(&of);
            let asked = cast.context != CastContext::Explicit
                || JSON_TYPES.contains(&cast.target)
                || self.cast_to.contains(&cast.target);
            asked && here(cast.source) && here(cast.target)
        });
        if let Some(cast) = cast {
            let name = |of: Oid| self.catalog().type_of(of).map_or("?", |fact| fact.name.as_str());
            self.refuse(format!("cast from {} to {}", name(cast.source), name(cast.target)));
        }
    }
}
