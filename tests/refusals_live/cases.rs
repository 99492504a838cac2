//! What is refused: one row each, with the reason that the client and the auditor read.
//!
//! `{m}` stands for a text that occurs nowhere else, so that it can be looked for on the wire.

use rowarden::demo::client::message;

/// A text that the gate refuses.
pub(crate) struct Refused {
    /// With `{m}` in it.
    pub(crate) sql: &'static str,
    /// The code of the reason.
    pub(crate) reason: &'static str,
}

const fn refused(reason: &'static str, sql: &'static str) -> Refused {
    Refused { sql, reason }
}

const WRITE: &str = "sql-write-statement";
const DDL: &str = "sql-ddl-statement";
const ESCAPE: &str = "sql-transaction-escape";
const FUNCTION: &str = "sql-function";
const LOCK: &str = "sql-lock";
const MAINTENANCE: &str = "sql-maintenance";
const SETTING: &str = "sql-setting";

/// One statement each: what one message of the extended protocol may hold.
pub(crate) const STATEMENTS: &[Refused] = &[
    refused(WRITE, "INSERT INTO notes VALUES (100, '{m}')"),
    refused(WRITE, "UPDATE notes SET line = '{m}'"),
    refused(WRITE, "DELETE FROM notes WHERE line <> '{m}'"),
    refused(
        WRITE,
        "MERGE INTO notes USING (SELECT 1 AS n) AS s ON notes.n = s.n WHEN MATCHED THEN UPDATE SET line = '{m}'",
    ),
    refused(WRITE, "TRUNCATE notes /* {m} */"),
    refused(WRITE, "SELECT * INTO {m} FROM notes"),
    refused(WRITE, "WITH {m} AS (DELETE FROM notes RETURNING *) SELECT count(*) FROM {m}"),
    refused(WRITE, "EXPLAIN ANALYZE DELETE FROM notes WHERE line <> '{m}'"),
    refused(WRITE, "PREPARE {m} AS INSERT INTO notes VALUES (100, 'later')"),
    refused(DDL, "CREATE TABLE {m} (n int)"),
    refused(DDL, "CREATE TEMP TABLE {m} (n int)"),
    refused(WRITE, "CREATE TABLE {m} AS SELECT 1"),
    refused(DDL, "DROP TABLE notes -- {m}"),
    refused(DDL, "ALTER TABLE notes ADD COLUMN {m} text"),
    refused(DDL, "CREATE FUNCTION {m}() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    refused(DDL, "GRANT ALL ON notes TO PUBLIC /* {m} */"),
    refused(DDL, "COMMENT ON TABLE notes IS '{m}'"),
    refused(DDL, "ALTER ROLE ann SET application_name = '{m}'"),
    refused("sql-user-code", "DO $$ BEGIN DELETE FROM notes; /* {m} */ END $$"),
    refused("sql-user-code", "CALL {m}()"),
    refused("sql-user-code", "SELECT scribble('{m}')"),
    refused("sql-user-code", "SELECT public.scribble('{m}')"),
    refused(FUNCTION, "SELECT nextval('numbers'), '{m}'"),
    refused(FUNCTION, "SELECT setval('numbers', 99), '{m}'"),
    refused(FUNCTION, "SELECT lo_create(0), '{m}'"),
    refused(FUNCTION, "SELECT pg_sleep(0), '{m}'"),
    refused(FUNCTION, "SELECT query_to_xml('SELECT scribble(''{m}'')', true, false, '')"),
    refused(FUNCTION, "SELECT pg_advisory_lock(1), '{m}'"),
    refused(FUNCTION, "SELECT pg_notify('{m}', '')"),
    refused(SETTING, "SELECT set_config('{m}.x', '1', false)"),
    refused(SETTING, "SET work_mem = '{m}'"),
    refused(SETTING, "SET ROLE {m}"),
    refused(ESCAPE, "SET default_transaction_read_only = off /* {m} */"),
    refused(ESCAPE, "PREPARE TRANSACTION '{m}'"),
    refused(LOCK, "SELECT '{m}' FROM notes FOR UPDATE"),
    refused(LOCK, "DECLARE {m} CURSOR FOR SELECT * FROM notes FOR UPDATE"),
    refused(LOCK, "LOCK TABLE notes IN EXCLUSIVE MODE /* {m} */"),
    refused("sql-copy-in", "COPY notes FROM STDIN /* {m} */"),
    refused("sql-copy-file", "COPY notes TO '/tmp/{m}'"),
    refused("sql-copy-program", "COPY (SELECT 1) TO PROGRAM 'touch /tmp/{m}'"),
    refused(MAINTENANCE, "NOTIFY {m}"),
    refused(MAINTENANCE, "LISTEN {m}"),
    refused(MAINTENANCE, "VACUUM notes /* {m} */"),
    refused(MAINTENANCE, "REINDEX TABLE notes /* {m} */"),
    refused("sql-relation", "SELECT passwd, '{m}' FROM pg_shadow"),
    refused("sql-parser-differential", "SELECT E'a'\n'\\', nextval({m}), ' -- '"),
];

/// Several statements in one string: nothing of it runs, also not what stands before.
pub(crate) const STRINGS: &[Refused] = &[
    refused(WRITE, "SELECT 'before{m}'; INSERT INTO notes VALUES (100, '{m}'); SELECT 'behind'"),
    refused(WRITE, "BEGIN; DELETE FROM notes WHERE line <> '{m}'; COMMIT"),
    refused(WRITE, "COMMIT; DELETE FROM notes WHERE line <> '{m}'"),
    refused(WRITE, "ROLLBACK; START TRANSACTION READ WRITE; TRUNCATE notes /* {m} */; COMMIT"),
    refused(DDL, "SELECT 1; SELECT 2; DROP TABLE notes /* {m} */"),
    refused(FUNCTION, "SET application_name = '{m}'; SELECT nextval('numbers')"),
    refused(MAINTENANCE, "DISCARD ALL; LISTEN {m}"),
];

/// A message that is refused for its form.
pub(crate) struct Malformed {
    pub(crate) title: &'static str,
    /// The code of the reason.
    pub(crate) reason: &'static str,
    /// A message after which PostgreSQL's session stands where the gate's must stand.
    pub(crate) like: fn(&str) -> Vec<u8>,
    /// The message, with a text in it that occurs nowhere else.
    pub(crate) message: fn(&str) -> Vec<u8>,
}

const LENGTH: &str = "proto-bad-length";
const ENCODING: &str = "sql-encoding";

/// The server says no to all but the first itself.
pub(crate) const MALFORMED: &[Malformed] = &[
    Malformed {
        title: "a fast-path call",
        reason: "proto-fastpath",
        like: |_| message::query("nonsense"),
        message: |marker| message::function_call(LOWRITE, &[&[0; 4], marker.as_bytes()]),
    },
    malformed("a Bind with a byte too many", LENGTH, |marker| {
        series(
            b"SELECT 1",
            message::frame(b'B', &[b"\0\0\0\0\0\0\0\0", marker.as_bytes()].concat()),
        )
    }),
    malformed("a Bind that ends inside its formats", LENGTH, |marker| {
        series(
            b"SELECT 1",
            message::frame(b'B', &[marker.as_bytes(), b"\0\0\0\x05\0\0\0\0"].concat()),
        )
    }),
    malformed("a Describe of neither statement nor portal", LENGTH, |marker| {
        series(b"SELECT 1", message::frame(b'D', &[b"X", marker.as_bytes(), b"\0"].concat()))
    }),
    malformed("a Close of neither statement nor portal", LENGTH, |marker| {
        series(b"SELECT 1", message::frame(b'C', &[b"X", marker.as_bytes(), b"\0"].concat()))
    }),
    malformed("an Execute without a row limit", LENGTH, |marker| {
        series(b"SELECT 1", message::frame(b'E', &[marker.as_bytes(), b"\0"].concat()))
    }),
    malformed("a Parse with bytes behind its end", LENGTH, |marker| {
        let body = [b"\0SELECT 1\0\0\0", marker.as_bytes()].concat();
        [message::frame(b'P', &body), message::sync()].concat()
    }),
    malformed("a Query with a zero byte in it", ENCODING, |marker| {
        message::query(&format!("SELECT 1\0{marker}"))
    }),
    malformed("a Query that is not UTF-8", ENCODING, |marker| {
        message::frame(b'Q', &[b"SELECT '", marker.as_bytes(), b"\xff'\0"].concat())
    }),
    malformed("a Query in overlong UTF-8", ENCODING, |marker| {
        message::frame(b'Q', &[b"SELECT '", marker.as_bytes(), b"\xc0\xaf'\0"].concat())
    }),
    malformed("a Parse that is not UTF-8", ENCODING, |marker| {
        series(&[b"SELECT '", marker.as_bytes(), b"\xff'"].concat(), Vec::new())
    }),
];

/// Writes into a large object, by its number in pg_proc.
const LOWRITE: u32 = 955;

/// A message that PostgreSQL refuses as well.
const fn malformed(
    title: &'static str,
    reason: &'static str,
    message: fn(&str) -> Vec<u8>,
) -> Malformed {
    Malformed { title, reason, like: message, message }
}

/// Parse of a text, one more message, Sync.
fn series(sql: &[u8], behind: Vec<u8>) -> Vec<u8> {
    let parse = message::frame(b'P', &[b"\0", sql, b"\0\0\0"].concat());
    [parse, behind, message::sync()].concat()
}
