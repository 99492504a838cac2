//! Why the gate says no: one closed list.
//!
//! A reason's code is what clients, logs and dashboards show, so it never changes once released. It
//! is also the anchor of a chapter in SECURITY.md, and at least one case in `tests/cases` must end
//! in it; `tests/reasons.rs` fails until all three are there.

/// A client-visible reason for a refusal (or, in the audit log, for an error).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The audit log cannot be written; nothing may happen that is not recorded.
    AuditUnavailable,
    /// A password exchange is bound to another channel, or to none where it must be.
    AuthChannelBinding,
    /// The login was refused.
    AuthFailed,
    /// A request that two readers could end at different places.
    HttpFraming,
    /// A header field that comes twice, or expects what the gate does not do.
    HttpHeader,
    /// A request for another host than this gate.
    HttpHost,
    /// A change to another protocol.
    HttpUpgrade,
    /// A fault of the gate itself.
    Internal,
    /// A body that is not one plain JSON object, or a body where none belongs.
    JiraBody,
    /// A body that is longer than a read can need.
    JiraBodySize,
    /// A body that is not JSON in UTF-8.
    JiraBodyType,
    /// A method that no operation has.
    JiraMethod,
    /// A path that is not canonical.
    JiraPath,
    /// A query parameter that the operation does not know.
    JiraQuery,
    /// A query that is not percent-encoded UTF-8.
    JiraQueryEncoding,
    /// A read that belongs to a group which is closed.
    JiraSensitive,
    /// A target that is longer than the bounds.
    JiraTargetSize,
    /// An operation that is not in the table.
    JiraUnknownOperation,
    /// An operation that changes something.
    JiraWrite,
    /// More bytes of rows than one statement may answer with.
    LimitBytes,
    /// Too many connections at once.
    LimitConnections,
    /// A session that has done nothing for too long.
    LimitIdle,
    /// Too many statements or requests at once, or in a second.
    LimitRate,
    /// Too many refusals in a minute.
    LimitRefusals,
    /// More rows than one statement may answer with.
    LimitRows,
    /// A peer that has taken nothing of what waits for it for too long.
    LimitStalled,
    /// A statement that runs for too long.
    LimitTime,
    /// The session role holds powers that the policy does not accept.
    Posture,
    /// A message whose length cannot be right.
    ProtoBadLength,
    /// The fast-path function call, which names functions by number and skips the parser.
    ProtoFastpath,
    /// A message that has no place in the present state of the conversation.
    ProtoOutOfOrder,
    /// A replication connection.
    ProtoReplication,
    /// A start-up packet with settings or parameters outside the allow list.
    ProtoStartup,
    /// Bytes behind a request for encryption that must wait for its answer.
    ProtoStuffing,
    /// A TLS handshake that failed.
    ProtoTlsHandshake,
    /// A connection in clear where encryption is required.
    ProtoTlsRequired,
    /// A message type that clients do not send.
    ProtoUnknownMessage,
    /// A protocol version that nobody here speaks.
    ProtoVersion,
    /// `COPY … FROM`: rows into the database.
    SqlCopyIn,
    /// `COPY … TO 'file'`: writes a file on the server.
    SqlCopyFile,
    /// `COPY … TO PROGRAM`: runs a command on the server.
    SqlCopyProgram,
    /// Data definition: `CREATE`, `ALTER`, `DROP`, `GRANT` and the like.
    SqlDdlStatement,
    /// Text in another encoding than UTF-8, or with a zero byte.
    SqlEncoding,
    /// A built-in function that does more than read.
    SqlFunction,
    /// A lock that others would feel.
    SqlLock,
    /// Maintenance and server control: `VACUUM`, `CHECKPOINT`, `LOAD`, `NOTIFY` and the like.
    SqlMaintenance,
    /// The two parsers do not read the statement alike.
    SqlParserDifferential,
    /// A relation that the policy does not show.
    SqlRelation,
    /// A setting, or a value of it, outside the allow list.
    SqlSetting,
    /// Longer or deeper than the caps.
    SqlTooLarge,
    /// A way out of the read-only transaction.
    SqlTransactionEscape,
    /// PostgreSQL's own grammar does not accept the text.
    SqlUnparsed,
    /// A function outside `pg_catalog` that the policy does not list.
    SqlUserCode,
    /// `INSERT`, `UPDATE`, `DELETE`, `MERGE`, `SELECT INTO` and what else changes rows.
    SqlWriteStatement,
    /// A setting that holds the session read-only has changed under way.
    Tripwire,
    /// The server's answer cannot be passed on.
    UpstreamAnswer,
    /// The server behind the gate cannot be reached.
    UpstreamDown,
    /// The server behind the gate does not answer in time.
    UpstreamTimeout,
}

impl Reason {
    /// Every reason, in the order of the list above.
    pub const ALL: [Self; 58] = [
        Self::AuditUnavailable,
        Self::AuthChannelBinding,
        Self::AuthFailed,
        Self::HttpFraming,
        Self::HttpHeader,
        Self::HttpHost,
        Self::HttpUpgrade,
        Self::Internal,
        Self::JiraBody,
        Self::JiraBodySize,
        Self::JiraBodyType,
        Self::JiraMethod,
        Self::JiraPath,
        Self::JiraQuery,
        Self::JiraQueryEncoding,
        Self::JiraSensitive,
        Self::JiraTargetSize,
        Self::JiraUnknownOperation,
        Self::JiraWrite,
        Self::LimitBytes,
        Self::LimitConnections,
        Self::LimitIdle,
        Self::LimitRate,
        Self::LimitRefusals,
        Self::LimitRows,
        Self::LimitStalled,
        Self::LimitTime,
        Self::Posture,
        Self::ProtoBadLength,
        Self::ProtoFastpath,
        Self::ProtoOutOfOrder,
        Self::ProtoReplication,
        Self::ProtoStartup,
        Self::ProtoStuffing,
        Self::ProtoTlsHandshake,
        Self::ProtoTlsRequired,
        Self::ProtoUnknownMessage,
        Self::ProtoVersion,
        Self::SqlCopyIn,
        Self::SqlCopyFile,
        Self::SqlCopyProgram,
        Self::SqlDdlStatement,
        Self::SqlEncoding,
        Self::SqlFunction,
        Self::SqlLock,
        Self::SqlMaintenance,
        Self::SqlParserDifferential,
        Self::SqlRelation,
        Self::SqlSetting,
        Self::SqlTooLarge,
        Self::SqlTransactionEscape,
        Self::SqlUnparsed,
        Self::SqlUserCode,
        Self::SqlWriteStatement,
        Self::Tripwire,
        Self::UpstreamAnswer,
        Self::UpstreamDown,
        Self::UpstreamTimeout,
    ];

    /// The stable, readable code: `sql-write-statement`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::AuditUnavailable => "audit-unavailable",
            Self::AuthChannelBinding => "auth-channel-binding",
            Self::AuthFailed => "auth-failed",
            Self::HttpFraming => "http-framing",
            Self::HttpHeader => "http-header",
            Self::HttpHost => "http-host",
            Self::HttpUpgrade => "http-upgrade",
            Self::Internal => "internal",
            Self::JiraBody => "jira-body",
            Self::JiraBodySize => "jira-body-size",
            Self::JiraBodyType => "jira-body-type",
            Self::JiraMethod => "jira-method",
            Self::JiraPath => "jira-path",
            Self::JiraQuery => "jira-query",
            Self::JiraQueryEncoding => "jira-query-encoding",
            Self::JiraSensitive => "jira-sensitive",
            Self::JiraTargetSize => "jira-target-size",
            Self::JiraUnknownOperation => "jira-unknown-operation",
            Self::JiraWrite => "jira-write",
            Self::LimitBytes => "limit-bytes",
            Self::LimitConnections => "limit-connections",
            Self::LimitIdle => "limit-idle",
            Self::LimitRate => "limit-rate",
            Self::LimitRefusals => "limit-refusals",
            Self::LimitRows => "limit-rows",
            Self::LimitStalled => "limit-stalled",
            Self::LimitTime => "limit-time",
            Self::Posture => "posture",
            Self::ProtoBadLength => "proto-bad-length",
            Self::ProtoFastpath => "proto-fastpath",
            Self::ProtoOutOfOrder => "proto-out-of-order",
            Self::ProtoReplication => "proto-replication",
            Self::ProtoStartup => "proto-startup",
            Self::ProtoStuffing => "proto-stuffing",
            Self::ProtoTlsHandshake => "proto-tls-handshake",
            Self::ProtoTlsRequired => "proto-tls-required",
            Self::ProtoUnknownMessage => "proto-unknown-message",
            Self::ProtoVersion => "proto-version",
            Self::SqlCopyIn => "sql-copy-in",
            Self::SqlCopyFile => "sql-copy-file",
            Self::SqlCopyProgram => "sql-copy-program",
            Self::SqlDdlStatement => "sql-ddl-statement",
            Self::SqlEncoding => "sql-encoding",
            Self::SqlFunction => "sql-function",
            Self::SqlLock => "sql-lock",
            Self::SqlMaintenance => "sql-maintenance",
            Self::SqlParserDifferential => "sql-parser-differential",
            Self::SqlRelation => "sql-relation",
            Self::SqlSetting => "sql-setting",
            Self::SqlTooLarge => "sql-too-large",
            Self::SqlTransactionEscape => "sql-transaction-escape",
            Self::SqlUnparsed => "sql-unparsed",
            Self::SqlUserCode => "sql-user-code",
            Self::SqlWriteStatement => "sql-write-statement",
            Self::Tripwire => "tripwire",
            Self::UpstreamAnswer => "upstream-answer",
            Self::UpstreamDown => "upstream-down",
            Self::UpstreamTimeout => "upstream-timeout",
        }
    }

    /// The reason that carries this code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The SQLSTATE of the refusal (PostgreSQL's appendix A; DESIGN section 4).
    #[must_use]
    pub const fn sqlstate(self) -> &'static str {
        match self {
            Self::AuditUnavailable => "58030",
            Self::AuthFailed => "28P01",
            Self::Internal | Self::Tripwire => "XX000",
            Self::LimitBytes
            | Self::LimitRate
            | Self::LimitRefusals
            | Self::LimitRows
            | Self::LimitStalled => "53400",
            Self::LimitConnections => "53300",
            Self::JiraBody | Self::JiraBodyType | Self::ProtoStartup => "22023",
            Self::JiraBodySize | Self::JiraTargetSize => "54000",
            Self::JiraQueryEncoding | Self::SqlEncoding => "22021",
            Self::LimitIdle => "57P05",
            Self::LimitTime => "57014",
            Self::AuthChannelBinding
            | Self::Posture
            | Self::ProtoReplication
            | Self::ProtoStuffing
            | Self::ProtoTlsRequired => "28000",
            Self::HttpFraming
            | Self::HttpHeader
            | Self::HttpHost
            | Self::HttpUpgrade
            | Self::ProtoBadLength
            | Self::ProtoFastpath
            | Self::ProtoOutOfOrder
            | Self::ProtoTlsHandshake
            | Self::ProtoUnknownMessage
            | Self::UpstreamAnswer => "08P01",
            Self::ProtoVersion => "0A000",
            Self::JiraMethod
            | Self::JiraPath
            | Self::JiraQuery
            | Self::JiraSensitive
            | Self::JiraUnknownOperation
            | Self::SqlFunction
            | Self::SqlRelation
            | Self::SqlSetting
            | Self::SqlUserCode => "42501",
            Self::SqlTooLarge => "54001",
            Self::SqlUnparsed => "42601",
            Self::JiraWrite
            | Self::SqlCopyIn
            | Self::SqlCopyFile
            | Self::SqlCopyProgram
            | Self::SqlDdlStatement
            | Self::SqlLock
            | Self::SqlMaintenance
            | Self::SqlParserDifferential
            | Self::SqlTransactionEscape
            | Self::SqlWriteStatement => "25006",
            Self::UpstreamDown | Self::UpstreamTimeout => "57P03",
        }
    }

    /// The HTTP status of the refusal (RFC 9110, section 15). What only the database's protocol can
    /// meet has the nearest one.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::HttpFraming
            | Self::HttpHeader
            | Self::JiraBody
            | Self::JiraQueryEncoding
            | Self::ProtoBadLength
            | Self::ProtoFastpath
            | Self::ProtoOutOfOrder
            | Self::ProtoReplication
            | Self::ProtoStartup
            | Self::ProtoStuffing
            | Self::ProtoTlsHandshake
            | Self::ProtoUnknownMessage
            | Self::ProtoVersion
            | Self::SqlEncoding
            | Self::SqlUnparsed => 400,
            Self::AuthChannelBinding | Self::AuthFailed => 401,
            Self::LimitIdle | Self::LimitStalled => 408,
            Self::HttpUpgrade
            | Self::JiraMethod
            | Self::JiraPath
            | Self::JiraQuery
            | Self::JiraSensitive
            | Self::JiraUnknownOperation
            | Self::JiraWrite
            | Self::Posture
            | Self::ProtoTlsRequired
            | Self::SqlCopyFile
            | Self::SqlCopyIn
            | Self::SqlCopyProgram
            | Self::SqlDdlStatement
            | Self::SqlFunction
            | Self::SqlLock
            | Self::SqlMaintenance
            | Self::SqlParserDifferential
            | Self::SqlRelation
            | Self::SqlSetting
            | Self::SqlTransactionEscape
            | Self::SqlUserCode
            | Self::SqlWriteStatement => 403,
            Self::JiraBodySize | Self::SqlTooLarge => 413,
            Self::JiraTargetSize => 414,
            Self::JiraBodyType => 415,
            Self::HttpHost => 421,
            Self::Internal | Self::Tripwire => 500,
            Self::LimitBytes | Self::LimitRate | Self::LimitRefusals | Self::LimitRows => 429,
            Self::UpstreamAnswer | Self::UpstreamDown => 502,
            Self::AuditUnavailable | Self::LimitConnections => 503,
            Self::LimitTime | Self::UpstreamTimeout => 504,
        }
    }

    /// How loudly the audit log says it.
    #[must_use]
    pub const fn severity(self) -> &'static str {
        match self {
            Self::SqlParserDifferential
            | Self::SqlCopyProgram
            | Self::HttpFraming
            | Self::ProtoStuffing
            | Self::SqlTransactionEscape => "high",
            Self::Tripwire => "critical",
            Self::SqlUnparsed
            | Self::LimitBytes
            | Self::LimitConnections
            | Self::LimitIdle
            | Self::LimitRate
            | Self::LimitRows
            | Self::LimitStalled
            | Self::LimitTime
            | Self::UpstreamDown
            | Self::UpstreamTimeout => "low",
            _ => "medium",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_code_leads_back_to_its_reason() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
            assert_eq!(reason.sqlstate().len(), 5);
        }
    }
}
