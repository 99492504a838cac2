//! What each reason means and why it is one: a table apart from the codes, because it is prose for
//! people (`rowarden explain REASON`). What to do instead stands behind it.

use crate::policy::reason::Reason;

impl Reason {
    /// What was refused and why, in a sentence or two.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table")]
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::AuditUnavailable => {
                "The audit log cannot be written. Every verdict is recorded before it is acted on, so nothing passes until it can be."
            }
            Self::AuthChannelBinding => {
                "A password exchange can be bound to the TLS connection on which it is made. Through a gate there are two connections: a server that binds refuses such a login, and a gate that checks passwords itself refuses an exchange that is bound to another connection than its own. The gate, too, gives its own login only to a server that keeps to this."
            }
            Self::AuthFailed => {
                "The login was not accepted: by the server, in whose words the client read it, or by the gate itself where it keeps the users."
            }
            Self::HttpFraming => {
                "The bytes of the request can be read in more than one way: two lengths, chunks beside a length, a line without its end, a header out of bounds or too late. What one reader takes for one request another takes for two, and the second one would go unjudged."
            }
            Self::HttpHeader => {
                "A header field came twice where two readers may each take another one, or it expects something that the gate does not do."
            }
            Self::HttpHost => {
                "The request names another host than this gate. A browser that was led here by a name of somebody else's, or a proxy that serves many sites, sends such requests."
            }
            Self::HttpUpgrade => {
                "The client asked to speak another protocol on the same connection. Nothing behind such a change could be judged."
            }
            Self::Internal => {
                "The gate itself failed while it dealt with this request. What could not be judged does not pass."
            }
            Self::JiraBody => {
                "The body is not one JSON object as every reader understands it (a member twice, too deep, not UTF-8), has a member that the operation does not know, or stands where no body belongs. Two readers could see two requests in it."
            }
            Self::JiraBodySize => {
                "The body is longer than any search needs. It is read whole before it is judged, so it is bounded."
            }
            Self::JiraBodyType => {
                "The body is not `application/json` in UTF-8, or it is compressed. Another reader could understand the same bytes as something else: a form, say, whose field `_method` makes a DELETE of it."
            }
            Self::JiraMethod => {
                "Known operations have the methods GET, HEAD, POST, PUT, PATCH and DELETE, in capitals. CONNECT would make a tunnel, TRACE shows headers, OPTIONS lists what a site can do."
            }
            Self::JiraPath => {
                "The path can be read in more than one way: dot segments, empty segments, `;`, backslashes, escapes that nobody needs. What stands behind the gate may read it as another operation, so nothing of it is repaired and sent on."
            }
            Self::JiraQuery => {
                "The query has a parameter that is not known for this operation, has it twice, or with a value of another type. Undocumented parameters log in, change the method or carry credentials."
            }
            Self::JiraQueryEncoding => {
                "The query holds raw bytes, a cut escape, a control character, `;` or text that is not UTF-8. Readers would disagree about what it says."
            }
            Self::JiraSensitive => {
                "The operation only reads, but it shows more than issues need: settings, permissions, people. Such reads stand in groups that are closed until the operator opens them."
            }
            Self::JiraTargetSize => {
                "The path or the query is longer than servers take. It is bounded before it is read."
            }
            Self::JiraUnknownOperation => {
                "No operation of this method and path is known. What is not known does not pass, also if it looks like a read: JIRA has GETs that log in, write, and run what apps bring."
            }
            Self::JiraWrite => {
                "The operation changes something in JIRA: an issue, a setting, a job, or only who has seen what."
            }
            Self::LimitBytes => {
                "The rows of one statement came to more bytes than the policy allows (`limits.result_bytes`). The rows that fitted were delivered, and the statement was cancelled on the server."
            }
            Self::LimitConnections => {
                "As many clients are connected as the operator allows, in all (`max_connections`) or for this principal (`limits.principal.connections`). The bound keeps one client from taking the gate away from all others."
            }
            Self::LimitIdle => {
                "The session has done nothing for longer than the policy allows (`limits.idle_time`, `limits.idle_in_transaction_time`). An idle transaction keeps the server from cleaning up, and an idle connection takes a place."
            }
            Self::LimitRate => {
                "This client runs as many statements or requests at once, or has begun as many in this second, as the policy allows (`limits.principal`; for JIRA `limits` in `[jira]`). The bound keeps one client from taking the server away from all others."
            }
            Self::LimitRefusals => {
                "This principal has been refused so often that further refusals are delayed, and the connection was closed (`limits.principal.refusals_per_minute`). Nobody reads at this rate; whoever tries doors does."
            }
            Self::LimitRows => {
                "One statement had more rows than the policy allows (`limits.result_rows`). The rows that fitted were delivered, and the statement was cancelled on the server."
            }
            Self::LimitStalled => {
                "The client has taken nothing of what waits for it, or the server nothing of what was sent to it, for longer than the policy allows (`limits.stall_time`). Such a connection holds a server process and its locks."
            }
            Self::LimitTime => {
                "The statement has run for longer than the policy allows (`limits.statement_time`). It was cancelled on the server."
            }
            Self::Posture => {
                "The role that logs in holds powers that the policy does not accept, such as superuser or the roles that read files and run programs on the server. Such a role can do harm by reading alone."
            }
            Self::ProtoBadLength => {
                "A message says that it is longer or shorter than a message of its type can be. Taking it would let the gate and the server disagree about where the next message begins."
            }
            Self::ProtoFastpath => {
                "The fast-path call names a function by its number and brings no SQL, so there is no text to judge."
            }
            Self::ProtoOutOfOrder => {
                "The message has no place at this point of the conversation. The gate follows the conversation exactly, so that what it judges is what the server does."
            }
            Self::ProtoReplication => {
                "The client asks for a replication connection. Its commands are not SQL; they read all data past every permission and can create and drop slots."
            }
            Self::ProtoStartup => {
                "The start-up packet carries a setting or parameter that is not on the list of what a reading session may choose. Settings made at start-up hold for the whole session, so they are judged first."
            }
            Self::ProtoStuffing => {
                "Bytes follow a request for encryption before it has been answered. Somebody on the way could have put them there, to be taken for part of the encrypted conversation."
            }
            Self::ProtoTlsHandshake => {
                "No encrypted connection came about: one side did not accept the other's certificate, they have no version or cipher in common, or the client did not say that it speaks PostgreSQL."
            }
            Self::ProtoTlsRequired => {
                "The operator takes encrypted connections only. A password or a cancel key that was sent in clear could have been read on the way."
            }
            Self::ProtoUnknownMessage => {
                "The message's type is none that a client sends. What is not understood does not pass."
            }
            Self::ProtoVersion => {
                "The client asks for a version of the protocol that the gate does not speak. Only what the gate can follow word for word passes."
            }
            Self::SqlCopyIn => {
                "COPY ... FROM puts rows into the database. It is a write, wherever the rows come from."
            }
            Self::SqlCopyFile => {
                "COPY ... TO 'file' writes a file on the database server. It is a write, though no table changes, and a read-only transaction does not stop it."
            }
            Self::SqlCopyProgram => {
                "COPY ... PROGRAM runs a command on the database server. A command can do anything, and a read-only transaction does not stop it."
            }
            Self::SqlDdlStatement => {
                "The statement changes what the database consists of or who may use it: CREATE, ALTER, DROP, GRANT, COMMENT and the like."
            }
            Self::SqlEncoding => {
                "The text is not UTF-8, or holds a zero byte. The gate and the server could read such text differently, and a write could hide in the difference."
            }
            Self::SqlFunction => {
                "A built-in function does more than read: it writes, locks, waits, reads files, runs SQL that it is given as text, changes settings or speaks to other sessions."
            }
            Self::SqlLock => {
                "The statement takes a lock that would make others wait: SELECT ... FOR UPDATE or FOR SHARE, or LOCK TABLE in any mode but ACCESS SHARE. Row locks are also written to the table."
            }
            Self::SqlMaintenance => {
                "The statement maintains or controls the server (VACUUM, ANALYZE, REINDEX, CHECKPOINT, LOAD) or reaches other sessions (NOTIFY, LISTEN). None of it is a read."
            }
            Self::SqlParserDifferential => {
                "Two independent parsers read the statement and do not agree on what it does. Either it is written so oddly that nobody should rely on it, or it hides something."
            }
            Self::SqlRelation => {
                "The statement names a table, view or column that the policy does not show, such as those with password hashes."
            }
            Self::SqlSetting => {
                "The statement changes a setting that the policy does not list, or to a value that it does not list. Settings can undo the read-only session, change how text is read or cost the server dearly."
            }
            Self::SqlTooLarge => {
                "The text is longer or more deeply nested than the caps allow. Such texts can cost a parser seconds or its whole stack."
            }
            Self::SqlTransactionEscape => {
                "The statement would leave the read-only transaction or make later ones writable, such as SET TRANSACTION READ WRITE or PREPARE TRANSACTION."
            }
            Self::SqlUnparsed => {
                "PostgreSQL's own grammar does not accept the text. It would fail on the server as well; it is not sent, because what cannot be parsed cannot be judged."
            }
            Self::SqlUserCode => {
                "The statement calls a function that is not part of PostgreSQL and that the policy does not list. What such code does cannot be told from its name, nor from the marks it gives itself."
            }
            Self::SqlWriteStatement => {
                "The statement changes rows or makes a table, by itself or in a part of it: INSERT, UPDATE, DELETE, MERGE, TRUNCATE, SELECT INTO, a writing WITH, EXPLAIN ANALYZE of a write."
            }
            Self::Tripwire => {
                "The server reported that a setting which holds this session read-only has changed under way. The session is ended before anything can use the change."
            }
            Self::UpstreamAnswer => {
                "The server's answer would lead the client around the gate, or could be read in two ways, so it was not passed on."
            }
            Self::UpstreamDown => {
                "The server behind the gate cannot be reached, or ended the connection."
            }
            Self::UpstreamTimeout => "The server behind the gate did not answer in time.",
        }
    }

    /// What the client may do instead; shown as HINT.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table")]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::AuditUnavailable => {
                "Nothing runs while it cannot be recorded. Tell the operator of this gate; reads resume by themselves."
            }
            Self::AuthChannelBinding => {
                "Connect with channel_binding=disable, or ask the operator of this gate for auth = \"users\" or an upstream on a unix socket."
            }
            Self::AuthFailed => {
                "Check role, password and database; the server decides, not this gate."
            }
            Self::HttpFraming => {
                "This is a fault in the client library, or an attempt to hide one request in another."
            }
            Self::HttpHeader => {
                "Send the header field once; only `Expect: 100-continue` is understood."
            }
            Self::HttpHost => {
                "Use the address of this gate; its operator can add names as `hosts`."
            }
            Self::HttpUpgrade => "Use HTTP/1.1 without Upgrade.",
            Self::Internal | Self::Tripwire => {
                "Reconnect. If it happens again, tell the operator of this gate the event number above."
            }
            Self::JiraBody => {
                "Send one JSON object with the members that the operation documents, and no body with GET."
            }
            Self::JiraBodySize => "Ask for less at once: shorter JQL, fewer ids.",
            Self::JiraBodyType => {
                "Send JSON in UTF-8, uncompressed, with Content-Type: application/json."
            }
            Self::JiraMethod => "Use GET, or POST where the read is one.",
            Self::JiraPath => {
                "Write the path plainly, without a slash at the end, and escape only what must be."
            }
            Self::JiraQuery => "Leave the parameter out; the note names it.",
            Self::JiraQueryEncoding => "Percent-encode the values of parameters as UTF-8.",
            Self::JiraSensitive => {
                "The operator of this gate can open the group with `groups` in the section [jira]; the note names it."
            }
            Self::JiraTargetSize => "Send long JQL as the body of a POST to search.",
            Self::JiraUnknownOperation => {
                "Use the documented REST API. The operator of this gate can add reads of an app to jira-rules.toml."
            }
            Self::JiraWrite => {
                "Reads only: searches, issues, comments, projects and what else shows without changing."
            }
            Self::LimitBytes | Self::LimitRows => {
                "Ask for less: fewer columns, a WHERE, a LIMIT, or a cursor that is fetched in parts."
            }
            Self::LimitConnections => "Close a connection or try again later.",
            Self::LimitIdle => "Connect again when there is something to read.",
            Self::LimitRate => "Try again in a second.",
            Self::LimitRefusals => "Reads are served as before; connect again for them.",
            Self::LimitStalled => "Read what was asked for, or ask for less.",
            Self::LimitTime => "Ask for less, or ask the operator of this gate for more time.",
            Self::Posture => {
                "Log in with a role that is not a superuser and belongs to no file, program or signal role."
            }
            Self::ProtoBadLength | Self::ProtoOutOfOrder | Self::ProtoUnknownMessage => {
                "This is a fault in the client library; update it."
            }
            Self::ProtoFastpath => "Call the function by SQL.",
            Self::ProtoReplication => {
                "Connect without replication; backups and logical decoding need a direct connection."
            }
            Self::ProtoStartup => {
                "Connect without this setting, or SET it after login if it is one that reads may change."
            }
            Self::ProtoStuffing => {
                "Wait for the answer to the encryption request before sending more."
            }
            Self::ProtoTlsHandshake => {
                "Check that the client trusts this gate's certificate and shows its own where one is asked for."
            }
            Self::ProtoTlsRequired => "Connect with sslmode=require or stricter.",
            Self::ProtoVersion => "Use protocol 3.0 or 3.2.",
            Self::SqlCopyIn => "Reads only: COPY ... TO STDOUT is allowed.",
            Self::SqlCopyFile | Self::SqlCopyProgram => {
                "Use COPY ... TO STDOUT and write the file on the client."
            }
            Self::SqlDdlStatement | Self::SqlMaintenance => {
                "Reads only: ask whoever runs this database for the change."
            }
            Self::SqlEncoding => "Send SQL text as UTF-8 (set PGCLIENTENCODING=UTF8).",
            Self::SqlFunction => {
                "Leave the function out, or ask the operator of this gate to review it."
            }
            Self::SqlLock => "Read without a lock; LOCK TABLE ... IN ACCESS SHARE MODE is allowed.",
            Self::SqlParserDifferential => "Write the statement in plainer SQL.",
            Self::SqlRelation => "This relation is not shown here.",
            Self::SqlSetting => {
                "Leave the setting as it is; it belongs to the gate or changes more than a read."
            }
            Self::SqlTooLarge => "Send a shorter or less deeply nested statement.",
            Self::SqlTransactionEscape => {
                "Transactions through this gate are read-only: BEGIN and START TRANSACTION need no READ WRITE."
            }
            Self::SqlUnparsed => "Check the syntax.",
            Self::SqlUserCode => {
                "The operator of this gate can list the function in policy/readonly.toml after reviewing it."
            }
            Self::SqlWriteStatement => {
                "Reads only: SELECT, VALUES, TABLE, SHOW, EXPLAIN of these, COPY ... TO STDOUT."
            }
            Self::UpstreamAnswer => "Tell the operator of this gate the event number.",
            Self::UpstreamDown | Self::UpstreamTimeout => "Try again later.",
        }
    }
}
