//! The second opinion: an independent parser must not see more in a text than PostgreSQL's own
//! grammar saw.
//!
//! The judge is `libpg_query`. This reader guards against a mistake in *our* use of it: a node that the
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

#[cfg(test)]
mod tests {
    use super::{FirstReading, Opinion, second_opinion, sees_write};

    /// One statement with these relations and functions, in words.
    fn first(relations: &str, functions: &str) -> FirstReading {
        let words = |list: &str| list.split_whitespace().map(str::to_owned).collect();
        FirstReading { statements: 1, relations: words(relations), functions: words(functions) }
    }

    fn opinion(text: &str, relations: &str, functions: &str) -> Opinion {
        second_opinion(text, &first(relations, functions))
    }

    #[test]
    fn a_plain_read_is_agreed_to() {
        let text = "WITH c AS (SELECT f(1) FROM s.T) SELECT count(*) FROM c JOIN g(2) ON true";
        assert_eq!(opinion(text, "t", "f count g"), Opinion::Agrees);
    }

    #[test]
    fn what_the_first_reader_did_not_see_is_a_differential() {
        for (text, what) in [
            ("SELECT 1; SELECT 2", "another number of statements"),
            ("", "another number of statements"),
            ("SELECT 1 FROM a, b", "another relation"),
            ("SELECT f(1) FROM a", "another function"),
            ("SELECT 1 FROM a, f(1)", "another function"),
            ("SELECT 1 FROM a CROSS JOIN LATERAL f(1)", "another function"),
            ("DELETE FROM a", "a write"),
            ("WITH w AS (DELETE FROM a RETURNING 1) SELECT 1 FROM w", "a write"),
            ("SELECT 1 INTO b FROM a", "a write"),
            ("SELECT 1 FROM (SELECT 1 FROM a FOR UPDATE) s", "a write"),
            ("EXPLAIN ANALYZE CREATE TABLE b AS SELECT 1", "a write"),
            ("COPY a TO '/tmp/a'", "a write"),
            ("COPY a TO PROGRAM 'x'", "a write"),
            ("COPY a FROM STDIN", "a write"),
            ("LOCK TABLE a", "a write"),
            ("LOCK TABLE a IN SHARE MODE", "a write"),
            ("PREPARE p AS INSERT INTO a VALUES (1)", "a write"),
        ] {
            assert_eq!(opinion(text, "a", ""), Opinion::SeesMore(what), "{text}");
        }
    }

    #[test]
    fn what_only_the_first_reader_sees_is_no_differential() {
        assert_eq!(opinion("SELECT 1", "a b", "f"), Opinion::Agrees);
        assert_eq!(opinion("SELECT extract(year FROM a)", "", "extract"), Opinion::Agrees);
    }

    #[test]
    fn session_statements_are_no_writes() {
        for text in [
            "BEGIN",
            "COMMIT",
            "ROLLBACK TO SAVEPOINT s",
            "SAVEPOINT s",
            "SET x = 1",
            "RESET x",
            "SHOW x",
            "SHOW TABLES",
            "DISCARD ALL",
            "DEALLOCATE ALL",
            "DECLARE c CURSOR FOR SELECT 1",
            "FETCH 1 FROM c",
            "CLOSE c",
            "EXPLAIN SELECT 1",
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "COPY a TO STDOUT",
            "LOCK TABLE a IN ACCESS SHARE MODE",
        ] {
            assert_eq!(opinion(text, "a", ""), Opinion::Agrees, "{text}");
        }
    }

    #[test]
    fn keywords_that_it_takes_for_names_harm_no_read() {
        for text in [
            "SELECT * FROM ONLY t",
            "SELECT * FROM ONLY (t)",
            "SELECT * FROM t JOIN ONLY t ON true",
            "SELECT ROW(1), ARRAY(SELECT 1 FROM t), coalesce(1, 2), nullif(1, 2), greatest(1, 2)",
            "SELECT current_user, current_date, localtimestamp",
            "SELECT 'a' LIKE ALL (ARRAY['a'])",
            "SELECT (VALUES (1))",
            "SELECT * FROM user",
        ] {
            assert_eq!(opinion(text, "t", ""), Opinion::Agrees, "{text}");
        }
    }

    #[test]
    fn a_keyword_in_quotes_or_behind_a_dot_is_a_name() {
        assert_eq!(
            opinion("SELECT * FROM \"only\"", "t", ""),
            Opinion::SeesMore("another relation")
        );
        assert_eq!(
            opinion("SELECT \"coalesce\"(1)", "", ""),
            Opinion::SeesMore("another function")
        );
        assert_eq!(opinion("SELECT s.coalesce(1)", "", ""), Opinion::SeesMore("another function"));
    }

    #[test]
    fn names_are_folded_and_cut_as_postgresql_does() {
        let long = "é".repeat(40);
        assert_eq!(opinion(&format!("SELECT * FROM {long}"), &long[..62], ""), Opinion::Agrees);
        assert_eq!(opinion("SELECT * FROM Tİ", "tİ", ""), Opinion::Agrees);
        assert_eq!(opinion("SELECT * FROM \"T\"", "T", ""), Opinion::Agrees);
    }

    #[test]
    fn what_it_cannot_read_it_does_not_judge() {
        for text in [
            "SELECT 1 COLLATE",
            "SELECT 'a",
            "SELECT U&\"set\\005fconfig\"('a', 'b', false)",
            "SELECT ((((((((((((((((((((((((((((((((((((((((((((((((((((((1",
        ] {
            assert_eq!(opinion(text, "", ""), Opinion::CannotRead, "{text}");
        }
    }

    #[test]
    fn a_text_whose_tree_would_take_gigabytes_is_not_read() {
        assert_eq!(opinion(&"SELECT;".repeat(100_000), "", ""), Opinion::CannotRead);
    }

    #[test]
    fn a_write_in_a_text_that_postgresql_rejects_is_seen() {
        assert!(sees_write("DELETE FROM a LIMIT 1"));
        assert!(!sees_write("SELECT TOP 1 a FROM t"));
        assert!(!sees_write("DELETE FROM"));
    }
}
