//! The second opinion: an independent parser must not see more in a text than PostgreSQL's own
//! grammar saw.
//!
//! The judge is libpg_query. This reader guards against a mistake in *our* use of it: a node that the
//! walk passed over, a statement that it did not count. So only one direction counts. What sqlparser
//! sees and the judge did not (a write, another statement, relation or function) is a refusal; what
//! it does not see is its own lack of PostgreSQL's grammar and proves nothing. It is never asked
//! alone: five ways round it are known that end in a write.
//!
//! No read may be harmed by it, so the places where sqlparser is known to take PostgreSQL's keywords
//! for names are listed here, each with its reason.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::panic::catch_unwind;

use crate::policy::sql::keyword;
use crate::policy::sql::lexer::{Lexer, TokenKind};

use sqlparser::ast::{
    CopyTarget, Declare, Expr, Ident, LockTableMode, ObjectName, Query, Select, SetExpr, Statement,
    TableFactor, Visit, Visitor,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// What the walk over PostgreSQL's own tree has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstReading {
    /// Statements in the text.
    pub statements: usize,
    /// Relations: the last part of each name, as PostgreSQL folded it.
    pub relations: BTreeSet<String>,
    /// Functions: the last part of each name, with the methods of `TABLESAMPLE`, which are functions
    /// too.
    pub functions: BTreeSet<String>,
}

/// What the second reader says to the first reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// It sees nothing that the first did not.
    Agrees,
    /// It cannot read the text, or the text would cost it too much.
    CannotRead,
    /// It sees something that the first did not: a parser differential.
    SeesMore(&'static str),
}

/// Bytes that sqlparser's tree may take, as [`estimated_tree_bytes`] counts them.
const MAX_TREE_BYTES: usize = 256 << 20;

/// PostgreSQL truncates longer identifiers (`NAMEDATALEN` less one).
const MAX_NAME_BYTES: usize = 63;

/// Reads `text` independently and compares.
///
/// Call it only for text that [`prescan`](crate::policy::sql::prescan::prescan) has passed, on a
/// thread with 64 MiB of stack: sqlparser bounds its own recursion, but not the depth of the trees
/// that it builds from long chains.
#[must_use]
pub fn second_opinion(text: &str, first: &FirstReading) -> Opinion {
    let Some(second) = read(text) else { return Opinion::CannotRead };

    if second.writes {
        Opinion::SeesMore("a write")
    } else if second.statements != first.statements {
        Opinion::SeesMore("another number of statements")
    } else if !second.relations.is_subset(&first.relations) {
        Opinion::SeesMore("another relation")
    } else if !second.functions.is_subset(&first.functions) {
        Opinion::SeesMore("another function")
    } else {
        Opinion::Agrees
    }
}

/// Whether sqlparser sees a write in a text that PostgreSQL's grammar does not accept: then it is
/// audited as an attack, not as a typing error.
#[must_use]
pub fn sees_write(text: &str) -> bool {
    read(text).is_some_and(|reading| reading.writes)
}

fn read(text: &str) -> Option<SecondReading> {
    if estimated_tree_bytes(text)? > MAX_TREE_BYTES {
        return None;
    }
    // sqlparser has panicked on odd input before (`SET AUTHORIZATION x`, 0.61).
    catch_unwind(|| {
        let statements = Parser::parse_sql(&PostgreSqlDialect {}, text).ok()?;
        Some(SecondReading::of(&statements))
    })
    .ok()
    .flatten()
}

/// An upper bound of what sqlparser's tree takes, measured with 0.63: 14 KB for a `SELECT`, 3 KB for
/// a table or a statement, 350 bytes for an operand. A megabyte of `SELECT;` would take gigabytes.
///
/// `None` for a text with a `U&"…"` identifier: sqlparser does not know them and reads a bit-and with
/// a name that nobody meant, so its reading says nothing about the text.
fn estimated_tree_bytes(text: &str) -> Option<usize> {
    Lexer::new(text.as_bytes()).try_fold(0_usize, |sum, token| {
        let token_text = text.get(token.start..token.end)?;
        let cost = match token.kind {
            TokenKind::Comment(_) | TokenKind::Whitespace => 0,
            TokenKind::QuotedIdentifier if !token_text.starts_with('"') => return None,
            TokenKind::Identifier if token_text.eq_ignore_ascii_case("select") => 14_000,
            TokenKind::Identifier if token_text.eq_ignore_ascii_case("join") => 3_000,
            TokenKind::Punctuation(b',' | b';') => 3_000,
            _ => 350,
        };
        Some(sum.saturating_add(cost))
    })
}

/// What sqlparser has found.
#[derive(Default)]
struct SecondReading {
    statements: usize,
    writes: bool,
    relations: BTreeSet<String>,
    functions: BTreeSet<String>,
    common_table_expressions: BTreeSet<String>,
    /// The relation that is visited next is really a function with arguments in FROM.
    next_is_function: bool,
}

impl SecondReading {
    fn of(statements: &Vec<Statement>) -> Self {
        let mut reading = Self { statements: statements.len(), ..Self::default() };
        let _: ControlFlow<()> = statements.visit(&mut reading);
        let defined = std::mem::take(&mut reading.common_table_expressions);
        reading.relations.retain(|name| !defined.contains(name));
        reading
    }

    fn note_function(&mut self, name: &ObjectName) {
        self.functions.extend(called(name, keyword::SYNTAX));
    }

    fn note_relation(&mut self, name: &ObjectName) {
        self.relations.extend(called(name, keyword::TYPE_OR_FUNCTION));
    }
}

impl Visitor for SecondReading {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        self.writes |= !is_read(statement);
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let common_tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.common_table_expressions.extend(common_tables.map(|cte| folded(&cte.alias.name)));
        self.writes |= !query.locks.is_empty() || writes_rows(&query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.writes |= select.into.is_some();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Function { name, .. } => self.note_function(name),
            TableFactor::Table { args, .. } => self.next_is_function = args.is_some(),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        if std::mem::take(&mut self.next_is_function) {
            self.note_function(relation);
        } else {
            self.note_relation(relation);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            self.note_function(&function.name);
        }
        ControlFlow::Continue(())
    }
}

/// What is no write, however deep it stands. Whether a session statement may pass is the first
/// reader's to say; a kind that is not listed counts as a write. (`SHOW TABLES` and its like are
/// settings to PostgreSQL.)
fn is_read(statement: &Statement) -> bool {
    match statement {
        Statement::Copy { to, target, .. } => *to && matches!(target, CopyTarget::Stdout),
        Statement::Declare { stmts } => stmts.iter().all(is_cursor),
        Statement::Fetch { into, .. } => into.is_none(),
        Statement::Lock(lock) => matches!(lock.lock_mode, Some(LockTableMode::AccessShare)),
        Statement::Close { .. }
        | Statement::Commit { .. }
        | Statement::Deallocate { .. }
        | Statement::Discard { .. }
        | Statement::Execute { .. }
        | Statement::Explain { .. }
        | Statement::ExplainTable { .. }
        | Statement::Prepare { .. }
        | Statement::Query(_)
        | Statement::ReleaseSavepoint { .. }
        | Statement::Reset(_)
        | Statement::Rollback { .. }
        | Statement::Savepoint { .. }
        | Statement::Set(_)
        | Statement::ShowCatalogs { .. }
        | Statement::ShowCharset(_)
        | Statement::ShowCollation { .. }
        | Statement::ShowColumns { .. }
        | Statement::ShowCreate { .. }
        | Statement::ShowDatabases { .. }
        | Statement::ShowFunctions { .. }
        | Statement::ShowObjects(_)
        | Statement::ShowProcessList { .. }
        | Statement::ShowSchemas { .. }
        | Statement::ShowStatus { .. }
        | Statement::ShowTables { .. }
        | Statement::ShowVariable { .. }
        | Statement::ShowVariables { .. }
        | Statement::ShowViews { .. }
        | Statement::StartTransaction { .. }
        | Statement::UNLISTEN { .. }
        | Statement::Use(_) => true,
        _ => false,
    }
}

fn is_cursor(declare: &Declare) -> bool {
    declare.for_query.is_some() && declare.assignment.is_none()
}

fn writes_rows(body: &SetExpr) -> bool {
    match body {
        SetExpr::Delete(_) | SetExpr::Insert(_) | SetExpr::Merge(_) | SetExpr::Update(_) => true,
        // Visited on their own: a query by `pre_visit_query`, the sides of a UNION by their parts.
        SetExpr::Query(_)
        | SetExpr::Select(_)
        | SetExpr::SetOperation { .. }
        | SetExpr::Table(_)
        | SetExpr::Values(_) => false,
    }
}

/// The last part of `name`, unless it is a keyword (reserved, or one of `no_names`) which PostgreSQL's grammar takes for a name only
/// in quotes or behind a dot: then sqlparser has read special syntax (`FROM ONLY t`, `ROW(1)`,
/// `ARRAY(SELECT …)`, `current_date`) as a name, and there is nothing of that name to see.
fn called(name: &ObjectName, no_names: &[&str]) -> Option<String> {
    let ident = name.0.last()?.as_ident()?;
    let word = folded(ident);
    let bare = ident.quote_style.is_none() && name.0.len() == 1;
    let is_keyword =
        keyword::RESERVED.contains(&word.as_str()) || no_names.contains(&word.as_str());
    (!(bare && is_keyword)).then_some(word)
}

/// The name as PostgreSQL keeps it. Case is folded in ASCII only: Unicode's rules would make one
/// name of two.
fn folded(ident: &Ident) -> String {
    let mut name = match ident.quote_style {
        None => ident.value.to_ascii_lowercase(),
        Some(_) => ident.value.clone(),
    };
    name.truncate(name.floor_char_boundary(MAX_NAME_BYTES));
    name
}
