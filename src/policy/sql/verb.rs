//! What a refused statement is called, and under which reason it is refused.

use pg_raw_parse::Node;

use crate::policy::reason::Reason;

/// Verb and reason of a statement that is not a read. The last arm covers what nobody has thought of
/// yet.
pub(super) fn verb_of(node: Node<'_>) -> (&'static str, Reason) {
    data_verb(node)
        .or_else(|| server_verb(node))
        .or_else(|| definition_verb(node))
        .unwrap_or(("unknown statement", Reason::SqlDdlStatement))
}

fn data_verb(node: Node<'_>) -> Option<(&'static str, Reason)> {
    let verb = match node {
        Node::InsertStmt(_) => "INSERT",
        Node::UpdateStmt(_) => "UPDATE",
        Node::DeleteStmt(_) => "DELETE",
        Node::MergeStmt(_) => "MERGE",
        Node::TruncateStmt(_) => "TRUNCATE",
        Node::CreateTableAsStmt(_) => "CREATE TABLE AS",
        Node::RefreshMatViewStmt(_) => "REFRESH MATERIALIZED VIEW",
        Node::CallStmt(_) => return Some(("CALL", Reason::SqlUserCode)),
        Node::DoStmt(_) => return Some(("DO", Reason::SqlUserCode)),
        Node::ConstraintsSetStmt(_) => return Some(("SET CONSTRAINTS", Reason::SqlSetting)),
        _ => return None,
    };
    Some((verb, Reason::SqlWriteStatement))
}

fn server_verb(node: Node<'_>) -> Option<(&'static str, Reason)> {
    let verb = match node {
        Node::AlterSystemStmt(_) => "ALTER SYSTEM",
        Node::CheckPointStmt(_) => "CHECKPOINT",
        Node::ClusterStmt(_) => "CLUSTER",
        Node::ListenStmt(_) => "LISTEN",
        Node::LoadStmt(_) => "LOAD",
        Node::NotifyStmt(_) => "NOTIFY",
        Node::ReindexStmt(_) => "REINDEX",
        Node::VacuumStmt(statement) if statement.is_vacuumcmd => "VACUUM",
        Node::VacuumStmt(_) => "ANALYZE",
        _ => return None,
    };
    Some((verb, Reason::SqlMaintenance))
}

fn definition_verb(node: Node<'_>) -> Option<(&'static str, Reason)> {
    let verb = match node {
        Node::AlterTableStmt(_) => "ALTER TABLE",
        Node::AlterDatabaseStmt(_)
        | Node::AlterDatabaseSetStmt(_)
        | Node::AlterDatabaseRefreshCollStmt(_) => "ALTER DATABASE",
        Node::AlterRoleStmt(_) | Node::AlterRoleSetStmt(_) => "ALTER ROLE",
        Node::AlterSeqStmt(_) => "ALTER SEQUENCE",
        Node::AlterOwnerStmt(_)
        | Node::AlterObjectSchemaStmt(_)
        | Node::AlterObjectDependsStmt(_)
        | Node::RenameStmt(_) => "ALTER",
        Node::AlterFunctionStmt(_) => "ALTER FUNCTION",
        Node::AlterEnumStmt(_) | Node::AlterTypeStmt(_) => "ALTER TYPE",
        Node::AlterDefaultPrivilegesStmt(_) => "ALTER DEFAULT PRIVILEGES",
        Node::CommentStmt(_) => "COMMENT",
        Node::CreateStmt(_) => "CREATE TABLE",
        Node::CreateSchemaStmt(_) => "CREATE SCHEMA",
        Node::CreateFunctionStmt(_) => "CREATE FUNCTION",
        Node::CreateRoleStmt(_) => "CREATE ROLE",
        Node::CreateSeqStmt(_) => "CREATE SEQUENCE",
        Node::CreateTrigStmt(_) => "CREATE TRIGGER",
        Node::CreateEventTrigStmt(_) => "CREATE EVENT TRIGGER",
        Node::CreateExtensionStmt(_) => "CREATE EXTENSION",
        Node::CreatedbStmt(_) => "CREATE DATABASE",
        Node::CreateDomainStmt(_) => "CREATE DOMAIN",
        Node::CreateStatsStmt(_) => "CREATE STATISTICS",
        Node::CreatePolicyStmt(_) => "CREATE POLICY",
        Node::CompositeTypeStmt(_) | Node::CreateEnumStmt(_) | Node::CreateRangeStmt(_) => {
            "CREATE TYPE"
        }
        Node::IndexStmt(_) => "CREATE INDEX",
        Node::ViewStmt(_) => "CREATE VIEW",
        Node::RuleStmt(_) => "CREATE RULE",
        Node::DefineStmt(_) => "CREATE",
        Node::DropStmt(_) => "DROP",
        Node::DropdbStmt(_) => "DROP DATABASE",
        Node::DropRoleStmt(_) => "DROP ROLE",
        Node::DropOwnedStmt(_) => "DROP OWNED",
        Node::ReassignOwnedStmt(_) => "REASSIGN OWNED",
        Node::GrantStmt(_) | Node::GrantRoleStmt(_) => "GRANT/REVOKE",
        Node::ImportForeignSchemaStmt(_) => "IMPORT FOREIGN SCHEMA",
        Node::SecLabelStmt(_) => "SECURITY LABEL",
        _ => return None,
    };
    Some((verb, Reason::SqlDdlStatement))
}
