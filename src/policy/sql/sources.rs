//! The sources of a query: what stands in FROM, in the order in which it comes in sight, and what
//! columns it offers.

use pg_raw_parse::{Node, nodes};

use crate::policy::catalog::Named;
use crate::policy::catalog::facts::{Item, Oid};
use crate::policy::catalog::overload::ArgumentType;
use crate::policy::sql::expression::split_name;
use crate::policy::sql::identity::Walk;
use crate::policy::sql::types::{Columns, Found, Source};

impl Walk<'_> {
    /// Reads a query and says what its columns are.
    pub(super) fn select(&mut self, select: &nodes::SelectStmt) -> Columns {
        self.scopes.levels.push(Vec::new());
        if let Some(with) = select.with_clause() {
            for cte in with.ctes() {
                self.read(cte.ctequery());
                if let Some(cycle) = cte.cycle_clause() {
                    self.read(cycle.cycle_mark_value());
                    self.read(cycle.cycle_mark_default());
                    let unknown = ArgumentType::Unknown;
                    self.operator(None, "<>", Some(unknown), unknown);
                }
            }
        }
        let mut columns = Columns::Opaque;
        for half in [select.larg(), select.rarg()].into_iter().flatten() {
            // Both halves have the same columns, but the types of the first may give way.
            self.select(half);
        }
        for item in select.from_clause() {
            self.source(item);
        }
        if select.larg().is_none() && !select.target_list().is_empty() {
            columns = self.columns_of(select);
        }
        for target in select.target_list() {
            self.read(Node::ResTarget(target));
        }
        for part in [
            select.where_clause(),
            select.having_clause(),
            select.limit_count(),
            select.limit_offset(),
        ] {
            self.read(part);
        }
        for list in [
            select.distinct_clause(),
            select.group_clause(),
            select.window_clause(),
            select.values_lists(),
        ] {
            self.read_list(list);
        }
        for sort in select.sort_clause() {
            self.read(Node::SortBy(sort));
        }
        self.scopes.levels.pop();
        columns
    }

    fn columns_of(&self, select: &nodes::SelectStmt) -> Columns {
        let mut columns = Vec::new();
        for target in select.target_list() {
            let name = match (target.name(), target.val()) {
                (Some(name), _) => name,
                (None, Node::ColumnRef(column)) => {
                    match column.fields().iter().next_back().and_then(Node::as_str) {
                        Some(name) => name,
                        None => return Columns::Opaque,
                    }
                }
                (None, _) => return Columns::Opaque,
            };
            let of = match self.scopes.of(target.val()) {
                // It becomes text, or what the other half of a UNION has.
                ArgumentType::Literal => ArgumentType::Unknown,
                of => of,
            };
            columns.push((name.to_owned(), of));
        }
        Columns::Known(columns)
    }

    fn offer(&mut self, alias: Option<&nodes::Alias>, name: Option<&str>, columns: Columns) {
        let written = alias.and_then(nodes::Alias::aliasname).or(name);
        let columns = match alias {
            Some(alias) => columns.renamed(alias.colnames()),
            None => columns,
        };
        if let Some(level) = self.scopes.levels.last_mut() {
            level.push(Source { alias: written.map(ToOwned::to_owned), columns });
        }
    }

    /// Reads an item of FROM and puts it in sight of what follows.
    fn source(&mut self, item: Node<'_>) {
        match item {
            Node::RangeVar(relation) => {
                let columns = self.relation(relation);
                self.offer(relation.alias(), relation.relname(), columns);
            }
            Node::RangeSubselect(sub) => {
                let columns = match sub.subquery() {
                    Node::SelectStmt(select) => self.select(select),
                    _ => Columns::Opaque,
                };
                self.offer(sub.alias(), None, columns);
            }
            Node::JoinExpr(join) => self.join(join),
            Node::RangeTableSample(sample) => {
                self.source(sample.relation());
                self.sampling(sample);
                self.read_list(sample.args());
                self.read(sample.repeatable());
            }
            Node::RangeFunction(range) => {
                self.children(item);
                let name = match range.functions().first() {
                    Some(Node::NodeList(pair)) => match pair.first() {
                        Some(Node::FuncCall(call)) => split_name(call.funcname()).1,
                        _ => None,
                    },
                    _ => None,
                };
                self.offer(range.alias(), name, Columns::Opaque);
            }
            Node::RangeTableFunc(table) => {
                self.children(item);
                for column in table.columns() {
                    // The walker passes over the types of columns.
                    column.type_name().into_iter().for_each(|named| self.type_named(named));
                }
                self.offer(table.alias(), None, Columns::Opaque);
            }
            other => {
                self.read(other);
                self.offer(None, None, Columns::Opaque);
            }
        }
    }

    fn join(&mut self, join: &nodes::JoinExpr) {
        let start = self.scopes.levels.last().map_or(0, Vec::len);
        self.source(join.larg());
        let middle = self.scopes.levels.last().map_or(0, Vec::len);
        self.source(join.rarg());
        let level = self.scopes.levels.last().map_or(&[][..], Vec::as_slice);
        let (left, right) = (level.get(start..middle), level.get(middle..));
        let pairs: Vec<(ArgumentType, ArgumentType)> = if join.is_natural {
            natural_pairs(left.unwrap_or_default(), right.unwrap_or_default())
        } else {
            let names = join.using_clause().iter().filter_map(nodes::String::sval);
            names
                .map(|name| {
                    (
                        column_in(left.unwrap_or_default(), name),
                        column_in(right.unwrap_or_default(), name),
                    )
                })
                .collect()
        };
        for (left, right) in pairs {
            self.operator(None, "=", Some(left), right);
        }
        self.read(join.quals());
        if join.alias().is_some() {
            self.offer(join.alias(), None, Columns::Opaque);
        }
        if join.join_using_alias().is_some() {
            self.offer(join.join_using_alias(), None, Columns::Opaque);
        }
    }

    /// Reads a relation's name, and says what columns it has.
    pub(super) fn relation(&mut self, relation: &nodes::RangeVar) -> Columns {
        let Some(name) = relation.relname() else { return Columns::Opaque };
        let named = Named { schema: relation.schemaname(), name };
        let candidates: Vec<_> = self.catalog().relations(named, self.scopes.reach).collect();
        for found in &candidates {
            // What came with the server is judged by name and column.
            if !found.oid.is_builtin() && self.catalog().is_suspect(Item::Relation(found.oid)) {
                self.refuse(format!("relation {name}"));
            }
            for (_, of) in self.catalog().columns(found.oid) {
                self.catalog().types_within(*of, &mut self.handled);
                self.compared(*of);
            }
            for fact in self
                .catalog()
                .types(Named { schema: Some(&found.schema), name: &found.name }, self.scopes.reach)
            {
                self.catalog().types_within(fact.oid, &mut self.handled);
            }
        }
        // The name may also be that of a WITH query; then the columns are others.
        match candidates.as_slice() {
            [only] if relation.schemaname().is_some() => self.columns_of_relation(only.oid),
            [only] if !self.may_be_cte(name) => self.columns_of_relation(only.oid),
            _ => Columns::Opaque,
        }
    }

    /// A literal beside an array or a row becomes one of the same type, and so do its parts. Beside a
    /// domain it becomes what the domain stands on, and no condition is asked.
    fn compared(&mut self, of: Oid) {
        let Some(fact) = self.catalog().type_of(of) else { return };
        if fact.kind != 'd' && self.catalog().is_suspect(Item::Input(of)) {
            self.refuse(format!("type {}", fact.name));
        }
    }

    fn columns_of_relation(&self, oid: Oid) -> Columns {
        let columns = self.catalog().columns(oid);
        let known = columns.iter().map(|(name, of)| (name.clone(), ArgumentType::Known(*of)));
        Columns::Known(known.collect())
    }

    fn may_be_cte(&self, name: &str) -> bool {
        self.scopes.ctes.contains(name)
    }
}

/// The types of the columns that two sides of a NATURAL JOIN share.
fn natural_pairs(left: &[Source], right: &[Source]) -> Vec<(ArgumentType, ArgumentType)> {
    let mut pairs = Vec::new();
    for source in left {
        let Columns::Known(columns) = &source.columns else {
            return vec![(ArgumentType::Unknown, ArgumentType::Unknown)];
        };
        for (name, of) in columns {
            match column_in_sources(right, name) {
                Found::Column(other) => pairs.push((*of, other)),
                Found::Perhaps => pairs.push((*of, ArgumentType::Unknown)),
                Found::Not => {}
            }
        }
    }
    pairs
}

fn column_in(sources: &[Source], name: &str) -> ArgumentType {
    match column_in_sources(sources, name) {
        Found::Column(of) => of,
        Found::Not | Found::Perhaps => ArgumentType::Unknown,
    }
}

fn column_in_sources(sources: &[Source], name: &str) -> Found {
    for source in sources {
        match &source.columns {
            Columns::Opaque => return Found::Perhaps,
            Columns::Known(columns) => {
                if let Some((_, of)) = columns.iter().find(|(known, _)| known == name) {
                    return Found::Column(*of);
                }
            }
        }
    }
    Found::Not
}
