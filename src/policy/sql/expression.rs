//! What a query is made of: a walk over every node of it, default deny.
//!
//! PostgreSQL's own walker visits the children, so nothing is overlooked that its planner would see;
//! a node of a kind that is not listed here is refused. The walk goes on after a refusal, so that the
//! audit log names all relations and functions. The first refusal is the one that is told.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use pg_raw_parse::list::NodeList;
use pg_raw_parse::walk::{Recurse, walk_manual};
use pg_raw_parse::{Node, nodes};

use crate::policy::file::Policy;
use crate::policy::reason::Reason;
use crate::policy::sql::function;
use crate::policy::sql::{Habit, SyntaxSince, World};
use crate::policy::verdict::Denial;

/// What was found in a statement.
pub(super) struct Findings<'p> {
    pub(super) policy: &'p Policy,
    pub(super) world: World<'p>,
    /// Relations named, by their last name; names of CTEs are among them.
    pub(super) relations: BTreeSet<String>,
    /// Functions named, by their last name.
    pub(super) functions: BTreeSet<String>,
    /// Schemas that the statement makes the session search.
    pub(super) searched: Vec<String>,
    /// Names of CTEs.
    pub(super) ctes: BTreeSet<String>,
    /// The first refusal.
    pub(super) refusal: Option<Denial>,
    /// The first `$n`: its place in bytes of the text, and n.
    pub(super) first_parameter: Option<(i32, i32)>,
    /// The highest n, 0 if there is none.
    pub(super) highest_parameter: i32,
    /// Relations of which some columns are not shown: alias, relation.
    pub(super) guarded: Vec<Guarded<'p>>,
    /// The newest syntax in it that older servers take for the call of a function.
    pub(super) syntax_since: Option<SyntaxSince>,
    /// The refusal, if the statement opens a session.
    pub(super) habit: Option<Habit>,
    /// Places of calls of `set_config` that were judged together with their statement.
    pub(super) known_settings: BTreeSet<i32>,
    /// Places of the functions that stand in FROM, where their columns can be told apart.
    pub(super) in_from: BTreeSet<i32>,
}

/// A relation of which some columns are not shown.
pub(super) struct Guarded<'p> {
    pub(super) alias: String,
    pub(super) columns: &'p [String],
}

impl<'p> Findings<'p> {
    pub(super) fn new(policy: &'p Policy, world: World<'p>) -> Self {
        Self {
            policy,
            world,
            searched: Vec::new(),
            relations: BTreeSet::new(),
            functions: BTreeSet::new(),
            ctes: BTreeSet::new(),
            refusal: None,
            first_parameter: None,
            highest_parameter: 0,
            guarded: Vec::new(),
            syntax_since: None,
            habit: None,
            known_settings: BTreeSet::new(),
            in_from: BTreeSet::new(),
        }
    }

    /// Whether names cannot be looked up.
    pub(super) const fn is_offline(&self) -> bool {
        matches!(self.world, World::Offline)
    }

    pub(super) fn refuse(&mut self, denial: Denial) {
        self.refusal.get_or_insert(denial);
    }

    /// Notes that the statement is a habit.
    pub(super) fn habit(&mut self, as_opening: Denial) {
        self.habit.get_or_insert(Habit { as_opening });
    }

    /// Walks a query or an expression, the node itself included.
    pub(super) fn read(&mut self, node: Node<'_>) {
        if matches!(node, Node::None) {
            return;
        }
        self.visit(node);
        walk_manual::<()>(node, |child| {
            self.visit(child);
            ControlFlow::Continue(Recurse::Yes)
        });
    }

    fn visit(&mut self, node: Node<'_>) {
        match node {
            Node::RangeVar(relation) => self.relation(relation),
            Node::FuncCall(call) => function::judge_call(self, call),
            Node::ParamRef(parameter) => self.parameter(parameter.location, parameter.number),
            Node::A_Expr(expression) => self.operator(expression.name()),
            Node::A_Indirection(field) => function::judge_field(self, field),
            // Of a single name the server makes no call, and of several only the last can be one.
            Node::ColumnRef(column) if column.fields().len() > 1 => {
                column.fields().iter().next_back().into_iter().for_each(|name| {
                    function::judge_notation(self, name);
                });
            }
            Node::SubLink(link) => self.operator(link.oper_name()),
            Node::SortBy(sort) => self.operator(sort.use_op()),
            Node::RangeFunction(range) => self.range_function(range),
            Node::RangeTableSample(sample) => self.sampling(sample),
            Node::CommonTableExpr(cte) => self.cte(cte),
            Node::LockingClause(_) => {
                let operation = "SELECT ... FOR UPDATE/SHARE";
                self.refuse(Denial::new(Reason::SqlLock, operation, "statements"));
            }
            Node::IntoClause(_) => self.write("SELECT INTO"),
            Node::InsertStmt(_) => self.write("INSERT"),
            Node::UpdateStmt(_) => self.write("UPDATE"),
            Node::DeleteStmt(_) => self.write("DELETE"),
            Node::MergeStmt(_) => self.write("MERGE"),
            other if is_plain(other) => self.note_syntax(other),
            _ => self.write("unknown syntax"),
        }
    }

    fn note_syntax(&mut self, node: Node<'_>) {
        let (major, word) = match node {
            Node::JsonArrayAgg(_) => (16, "json_arrayagg"),
            Node::JsonArrayConstructor(_) | Node::JsonArrayQueryConstructor(_) => {
                (16, "json_array")
            }
            Node::JsonObjectAgg(_) => (16, "json_objectagg"),
            Node::JsonObjectConstructor(_) => (16, "json_object"),
            Node::JsonFuncExpr(_) => (17, "json_value, json_query or json_exists"),
            Node::JsonParseExpr(_) => (17, "json"),
            Node::JsonScalarExpr(_) => (17, "json_scalar"),
            Node::JsonSerializeExpr(_) => (17, "json_serialize"),
            Node::JsonTable(_) => (17, "json_table"),
            Node::MergeSupportFunc(_) => (17, "merge_action"),
            _ => return,
        };
        if self.syntax_since.is_none_or(|known| known.major < major) {
            self.syntax_since = Some(SyntaxSince { major, word });
        }
    }

    fn write(&mut self, operation: &'static str) {
        self.refuse(Denial::new(Reason::SqlWriteStatement, operation, "statements"));
    }

    fn relation(&mut self, relation: &nodes::RangeVar) {
        let Some(name) = relation.relname() else { return };
        self.relations.insert(name.to_owned());
        let schema = relation.schemaname();
        if self.policy.hides_relation(schema, name) {
            let operation = format!("relation {name}");
            self.refuse(Denial::new(Reason::SqlRelation, operation, "relations"));
        }
        if let Some(columns) = self.policy.hidden_columns(schema, name) {
            self.guard(name, relation.alias(), columns);
        }
    }

    /// Notes a relation of which some columns are not shown. An alias that renames columns would
    /// hide which is which.
    fn guard(&mut self, name: &str, alias: Option<&nodes::Alias>, columns: &'p [String]) {
        if alias.is_some_and(|alias| !alias.colnames().is_empty()) {
            let operation = format!("columns of {name} under other names");
            self.refuse(Denial::new(Reason::SqlRelation, operation, "columns"));
        }
        let alias = alias.and_then(nodes::Alias::aliasname).unwrap_or(name);
        self.guarded.push(Guarded { alias: alias.to_owned(), columns });
    }

    fn range_function(&mut self, range: &nodes::RangeFunction) {
        // Each item is a list of the call and its column definitions.
        let calls = range.functions().iter().filter_map(|item| match item {
            Node::NodeList(pair) => pair.first(),
            _ => None,
        });
        for call in calls {
            let Node::FuncCall(call) = call else { continue };
            self.in_from.insert(call.location);
            let (schema, name) = split_name(call.funcname());
            if let Some(columns) = name.and_then(|name| self.policy.hidden_columns(schema, name)) {
                self.guard(name.unwrap_or_default(), range.alias(), columns);
            }
        }
    }

    fn sampling(&mut self, sample: &nodes::RangeTableSample) {
        let (schema, name) = split_name(sample.method());
        self.functions.extend(name.map(ToOwned::to_owned));
        let builtin = matches!(schema, None | Some("pg_catalog"))
            && matches!(name, Some("bernoulli" | "system"));
        let listed = name.is_some_and(|name| self.policy.lists_function(schema, name));
        if !builtin && !listed && self.is_offline() {
            let operation = format!("sampling method {}", name.unwrap_or_default());
            self.refuse(Denial::new(Reason::SqlUserCode, operation, "functions.listed"));
        }
    }

    fn cte(&mut self, cte: &nodes::CommonTableExpr) {
        self.ctes.extend(cte.ctename().map(ToOwned::to_owned));
        // The walker passes over the constants that mark a cycle.
        if let Some(cycle) = cte.cycle_clause() {
            self.read(cycle.cycle_mark_value());
            self.read(cycle.cycle_mark_default());
        }
    }

    fn parameter(&mut self, location: i32, number: i32) {
        self.highest_parameter = self.highest_parameter.max(number);
        if self.first_parameter.is_none_or(|(first, _)| location < first) {
            self.first_parameter = Some((location, number));
        }
    }

    /// An operator of another schema is a function that nobody here knows.
    fn operator(&mut self, name: &NodeList) {
        let (schema, operator) = split_name(name);
        if let (Some(schema), Some(operator)) = (schema, operator)
            && schema != "pg_catalog"
            && self.is_offline()
        {
            let operation = format!("operator {schema}.{operator}");
            self.refuse(Denial::new(Reason::SqlUserCode, operation, "functions.listed"));
        }
    }
}

/// Schema and last name of a qualified name; the database in front, if any, must be the present one.
pub(super) fn split_name(list: &NodeList) -> (Option<&str>, Option<&str>) {
    let mut names = list.iter().rev().map(Node::as_str);
    let name = names.next().flatten();
    (names.next().flatten(), name)
}

/// Kinds of nodes that queries are made of and that need no look of their own.
fn is_plain(node: Node<'_>) -> bool {
    matches!(
        node,
        Node::A_ArrayExpr(_)
            | Node::A_Const(_)
            | Node::A_Indices(_)
            | Node::A_Star(_)
            | Node::Alias(_)
            | Node::BitString(_)
            | Node::BoolExpr(_)
            | Node::Boolean(_)
            | Node::BooleanTest(_)
            | Node::CTECycleClause(_)
            | Node::CTESearchClause(_)
            | Node::CaseExpr(_)
            | Node::CaseWhen(_)
            | Node::CoalesceExpr(_)
            | Node::CollateClause(_)
            | Node::ColumnDef(_)
            | Node::ColumnRef(_)
            | Node::Float(_)
            | Node::GroupingFunc(_)
            | Node::GroupingSet(_)
            | Node::Integer(_)
            | Node::JoinExpr(_)
            | Node::JsonAggConstructor(_)
            | Node::JsonArgument(_)
            | Node::JsonArrayAgg(_)
            | Node::JsonArrayConstructor(_)
            | Node::JsonArrayQueryConstructor(_)
            | Node::JsonBehavior(_)
            | Node::JsonFormat(_)
            | Node::JsonFuncExpr(_)
            | Node::JsonIsPredicate(_)
            | Node::JsonKeyValue(_)
            | Node::JsonObjectAgg(_)
            | Node::JsonObjectConstructor(_)
            | Node::JsonOutput(_)
            | Node::JsonParseExpr(_)
            | Node::JsonReturning(_)
            | Node::JsonScalarExpr(_)
            | Node::JsonSerializeExpr(_)
            | Node::JsonTable(_)
            | Node::JsonTableColumn(_)
            | Node::JsonTablePathSpec(_)
            | Node::JsonValueExpr(_)
            | Node::MergeSupportFunc(_)
            | Node::MinMaxExpr(_)
            | Node::NamedArgExpr(_)
            | Node::NodeList(_)
            | Node::None
            | Node::NullTest(_)
            | Node::RangeSubselect(_)
            | Node::RangeTableFunc(_)
            | Node::RangeTableFuncCol(_)
            | Node::ResTarget(_)
            | Node::RowExpr(_)
            | Node::SQLValueFunction(_)
            | Node::SelectStmt(_)
            | Node::SetToDefault(_)
            | Node::String(_)
            | Node::TypeCast(_)
            | Node::TypeName(_)
            | Node::WindowDef(_)
            | Node::WithClause(_)
            | Node::XmlExpr(_)
            | Node::XmlSerialize(_)
    )
}
