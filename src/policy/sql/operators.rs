//! The operators of a statement, also those that it spells otherwise: IN, BETWEEN, LIKE, NULLIF, IS
//! DISTINCT FROM and rows are comparisons by name, and the name may be somebody's.

use pg_raw_parse::raw::{A_Expr_Kind, SubLinkType};
use pg_raw_parse::{Node, nodes};

use crate::policy::catalog::Named;
use crate::policy::catalog::overload::{ArgumentType, Standing};
use crate::policy::sql::expression::split_name;
use crate::policy::sql::identity::{Peeking, Walk};
use crate::policy::sql::types::Columns;

impl Walk<'_> {
    pub(super) fn operator(
        &mut self,
        schema: Option<&str>,
        name: &str,
        left: Option<ArgumentType>,
        right: ArgumentType,
    ) {
        let named = Named { schema, name };
        let standing = self.catalog().judge_operator(named, left, right, self.scopes.reach);
        // Of a name that is not there the server says so.
        if standing == Standing::Suspect {
            self.refuse(format!("operator {name}"));
        }
    }

    /// Compares two values or, column by column, two rows.
    fn compare(&mut self, schema: Option<&str>, name: &str, left: Node<'_>, right: Node<'_>) {
        if let (Node::RowExpr(left), Node::RowExpr(right)) = (left, right)
            && left.args().len() == right.args().len()
        {
            for (left, right) in left.args().iter().zip(right.args()) {
                self.compare(schema, name, left, right);
            }
            return;
        }
        if !self.has_suspect(schema, name) {
            return;
        }
        let (left, right) = (self.scopes.of(left), self.scopes.of(right));
        self.operator(schema, name, Some(left), right);
    }

    /// Types are looked for only where they can decide something.
    pub(super) fn has_suspect(&self, schema: Option<&str>, name: &str) -> bool {
        self.catalog().has_suspect_operator(Named { schema, name }, self.scopes.reach)
    }

    pub(super) fn operation(&mut self, operation: &nodes::A_Expr) {
        let (schema, Some(name)) = split_name(operation.name()) else { return };
        let (left, right) = (operation.lexpr(), operation.rexpr());
        match operation.kind {
            A_Expr_Kind::AEXPR_IN => {
                if let Node::NodeList(list) = right {
                    for value in list {
                        self.compare(schema, name, left, value);
                    }
                } else {
                    self.operator(schema, name, Some(self.scopes.of(left)), ArgumentType::Unknown);
                }
            }
            A_Expr_Kind::AEXPR_BETWEEN
            | A_Expr_Kind::AEXPR_NOT_BETWEEN
            | A_Expr_Kind::AEXPR_BETWEEN_SYM
            | A_Expr_Kind::AEXPR_NOT_BETWEEN_SYM => {
                let Node::NodeList(bounds) = right else { return };
                for bound in bounds {
                    for name in ["<", "<=", ">", ">="] {
                        self.compare(None, name, left, bound);
                    }
                }
            }
            A_Expr_Kind::AEXPR_OP_ANY | A_Expr_Kind::AEXPR_OP_ALL
                if !self.has_suspect(schema, name) => {}
            A_Expr_Kind::AEXPR_OP_ANY | A_Expr_Kind::AEXPR_OP_ALL => {
                let element = match right {
                    Node::A_ArrayExpr(array) => {
                        let mut types = array.elements().iter().map(|value| self.scopes.of(value));
                        let first = types.next().unwrap_or(ArgumentType::Unknown);
                        if types.all(|of| of == first) { first } else { ArgumentType::Unknown }
                    }
                    other => self.scopes.element(self.scopes.of(other)),
                };
                let left = self.scopes.of(left);
                self.operator(schema, name, Some(left), element);
            }
            A_Expr_Kind::AEXPR_DISTINCT
            | A_Expr_Kind::AEXPR_NOT_DISTINCT
            | A_Expr_Kind::AEXPR_NULLIF => self.compare(None, "=", left, right),
            _ if matches!(left, Node::None) && self.has_suspect(schema, name) => {
                let right = self.scopes.of(right);
                self.operator(schema, name, None, right);
            }
            _ if matches!(left, Node::None) => {}
            _ => self.compare(schema, name, left, right),
        }
    }

    pub(super) fn sub_link(&mut self, link: &nodes::SubLink) {
        let compares = matches!(
            link.sub_link_type,
            SubLinkType::ANY_SUBLINK | SubLinkType::ALL_SUBLINK | SubLinkType::ROWCOMPARE_SUBLINK
        );
        if !compares {
            return;
        }
        let (schema, name) = split_name(link.oper_name());
        let left = match link.testexpr() {
            Node::RowExpr(_) | Node::None => ArgumentType::Unknown,
            value => self.scopes.of(value),
        };
        // `IN (SELECT …)` has no operator of its own in the tree.
        let name = name.unwrap_or("=");
        if !self.has_suspect(schema, name) {
            return;
        }
        let right = self.only_column(link.subselect());
        self.operator(schema, name, Some(left), right);
    }

    /// The type of the only column of a query, without refusing anything in it: it is read by itself.
    fn only_column(&mut self, query: Node<'_>) -> ArgumentType {
        let Node::SelectStmt(select) = query else { return ArgumentType::Unknown };
        if self.peeking == Peeking::Yes {
            return ArgumentType::Unknown;
        }
        self.peeking = Peeking::Yes;
        let before = self.refusal.clone();
        let columns = self.select(select);
        self.refusal = before;
        self.peeking = Peeking::No;
        match columns {
            Columns::Known(columns) => match columns.as_slice() {
                [(_, of)] => *of,
                _ => ArgumentType::Unknown,
            },
            Columns::Opaque => ArgumentType::Unknown,
        }
    }
}
