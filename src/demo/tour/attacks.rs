//! The attacks of the tour, as the owner of the tables would try them.
//!
//! Each is real: `unguarded` says what it comes to without a gate, and a live test holds it to that.

use crate::demo::tour::Attack;
use crate::demo::tour::Step::{self, CopyIn, Extended, FastPath, Pipeline, Simple};
use crate::demo::tour::Unguarded::{self, Changes, Refused, Runs};

/// An attack whose harm is in what is sent after login.
const fn sent(title: &'static str, unguarded: Unguarded, steps: &'static [Step]) -> Attack {
    Attack { title, start_up: &[], steps, unguarded }
}

/// `lo_creat(integer)`, by the number that it has had since it exists.
const LO_CREAT: u32 = 957;

/// For reading and writing, as `libpq-fs.h` has it.
const INV_READ_WRITE: i32 = 0x6_0000;

/// In the order in which they are tried.
pub(super) const ATTACKS: &[Attack] = &[
    // Plain writes.
    sent("INSERT", Changes, &[Simple("INSERT INTO lab.suite (name, team) VALUES ('mine', 'me')")]),
    sent(
        "UPDATE",
        Changes,
        &[Extended("UPDATE lab.known_issue SET state = 'closed' WHERE state <> 'closed'")],
    ),
    sent("DELETE", Changes, &[Simple("DELETE FROM lab.link")]),
    sent("TRUNCATE", Changes, &[Extended("TRUNCATE lab.link")]),
    sent("DROP TABLE", Changes, &[Simple("DROP TABLE lab.failure CASCADE")]),
    sent(
        "INSERT … ON CONFLICT DO UPDATE … RETURNING",
        Changes,
        &[Extended(
            "INSERT INTO lab.known_issue VALUES ('COMP-98', '', 'open', '') ON CONFLICT (issue_key) DO UPDATE SET state = 'open' RETURNING title",
        )],
    ),
    sent(
        "CREATE TABLE AS",
        Changes,
        &[Simple("CREATE TABLE lab.loot AS SELECT * FROM lab.failure")],
    ),
    sent("CREATE TEMP TABLE", Changes, &[Simple("CREATE TEMP TABLE notes (line text)")]),
    sent("ALTER TABLE", Changes, &[Extended("ALTER TABLE lab.run ADD COLUMN note text")]),
    sent("GRANT", Changes, &[Simple("GRANT ALL ON ALL TABLES IN SCHEMA lab TO PUBLIC")]),
    sent(
        "CREATE FUNCTION",
        Changes,
        &[Simple("CREATE FUNCTION lab.f() RETURNS int LANGUAGE sql AS 'SELECT 1'")],
    ),
    sent("COMMENT ON", Changes, &[Simple("COMMENT ON TABLE lab.run IS 'was here'")]),
    // Ways out of a read-only transaction.
    sent(
        "BEGIN READ WRITE, then INSERT",
        Changes,
        &[
            Simple("BEGIN READ WRITE"),
            Simple("INSERT INTO lab.suite (name, team) VALUES ('mine', 'me'); COMMIT"),
        ],
    ),
    sent("COMMIT and DELETE in one string", Changes, &[Simple("COMMIT; DELETE FROM lab.link")]),
    sent(
        "ROLLBACK; START TRANSACTION READ WRITE; TRUNCATE; COMMIT",
        Changes,
        &[Simple("ROLLBACK; START TRANSACTION READ WRITE; TRUNCATE lab.link; COMMIT")],
    ),
    sent(
        "SET default_transaction_read_only = off, then DELETE",
        Changes,
        &[Simple("SET default_transaction_read_only = off"), Simple("DELETE FROM lab.link")],
    ),
    sent(
        "SET SESSION CHARACTERISTICS … READ WRITE, then UPDATE",
        Changes,
        &[
            Simple("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"),
            Extended("UPDATE lab.suite SET team = 'mine'"),
        ],
    ),
    sent(
        "SET LOCAL transaction_read_only = off inside a transaction",
        Changes,
        &[
            Simple("BEGIN; SET LOCAL transaction_read_only = off"),
            Simple("DELETE FROM lab.link; COMMIT"),
        ],
    ),
    sent(
        "set_config('transaction_read_only', …) as a function",
        Changes,
        &[
            Simple("BEGIN"),
            Extended("SELECT set_config('transaction_read_only', 'off', false)"),
            Simple("DELETE FROM lab.link; COMMIT"),
        ],
    ),
    sent("RESET ALL, then DELETE", Changes, &[Simple("RESET ALL"), Simple("DELETE FROM lab.link")]),
    sent(
        "DISCARD ALL, then UPDATE",
        Changes,
        &[Simple("DISCARD ALL"), Extended("UPDATE lab.suite SET team = 'mine'")],
    ),
    sent(
        "ALTER ROLE … SET default_transaction_read_only",
        Changes,
        &[Simple("ALTER ROLE analyst SET default_transaction_read_only = off")],
    ),
    // Writes that look like reads.
    sent(
        "a CTE that deletes",
        Changes,
        &[Simple("WITH gone AS (DELETE FROM lab.link RETURNING *) SELECT count(*) FROM gone")],
    ),
    sent("SELECT INTO", Changes, &[Extended("SELECT * INTO lab.loot FROM lab.failure")]),
    sent(
        "EXPLAIN ANALYZE INSERT",
        Changes,
        &[Simple("EXPLAIN ANALYZE INSERT INTO lab.suite (name, team) VALUES ('mine', 'me')")],
    ),
    sent(
        "EXPLAIN ANALYZE CREATE TABLE AS",
        Changes,
        &[Simple("EXPLAIN (ANALYZE, COSTS off) CREATE TABLE lab.loot AS SELECT 1")],
    ),
    sent("SELECT … FOR UPDATE", Runs, &[Simple("SELECT * FROM lab.run FOR UPDATE")]),
    sent(
        "a cursor FOR UPDATE",
        Runs,
        &[Simple("BEGIN"), Simple("DECLARE c CURSOR FOR SELECT * FROM lab.run FOR UPDATE")],
    ),
    sent("nextval()", Changes, &[Extended("SELECT nextval('lab.ticket')")]),
    sent("setval()", Changes, &[Simple("SELECT setval('lab.ticket', 999)")]),
    sent(
        "a function of the user's that deletes",
        Changes,
        &[Simple("SELECT lab.forget_failures()")],
    ),
    sent(
        "the same in a condition",
        Changes,
        &[Extended("SELECT name FROM lab.suite WHERE lab.forget_failures() > 0")],
    ),
    sent(
        "a function that runs SQL from a string",
        Changes,
        &[Simple("SELECT query_to_xml('SELECT lab.forget_failures()', true, false, '')")],
    ),
    sent(
        "dblink_exec() to the server itself",
        Refused,
        &[Simple("SELECT dblink_exec('dbname=regressions', 'DELETE FROM lab.link')")],
    ),
    sent("lo_create()", Changes, &[Simple("SELECT lo_create(0)")]),
    sent("lo_from_bytea()", Changes, &[Extended("SELECT lo_from_bytea(0, 'loot')")]),
    sent(
        "pg_terminate_backend() on other sessions",
        Runs,
        &[Simple(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()",
        )],
    ),
    sent("an advisory lock", Runs, &[Extended("SELECT pg_advisory_lock(42)")]),
    sent("pg_notify()", Runs, &[Simple("SELECT pg_notify('farm', 'stop')")]),
    sent(
        "pg_logical_emit_message() into the WAL",
        Runs,
        &[Simple("SELECT pg_logical_emit_message(false, 'farm', 'stop')")],
    ),
    // COPY.
    sent(
        "COPY FROM STDIN",
        Changes,
        &[CopyIn("COPY lab.suite (name, team) FROM STDIN", "mine\tme\n")],
    ),
    sent(
        "COPY (DELETE … RETURNING) TO STDOUT",
        Changes,
        &[Simple("COPY (DELETE FROM lab.link RETURNING *) TO STDOUT")],
    ),
    sent("COPY TO PROGRAM", Refused, &[Simple("COPY lab.run TO PROGRAM 'cat > /tmp/loot'")]),
    sent("COPY to a file on the server", Refused, &[Simple("COPY lab.run TO '/tmp/loot'")]),
    // Code and statements kept on the server.
    sent("a DO block", Changes, &[Simple("DO $$ BEGIN DELETE FROM lab.link; END $$")]),
    sent("CALL", Changes, &[Extended("CALL lab.rename_suites()")]),
    sent(
        "PREPARE and EXECUTE",
        Changes,
        &[Simple("PREPARE harm AS DELETE FROM lab.link"), Simple("EXECUTE harm")],
    ),
    sent(
        "a DELETE between two reads, pipelined",
        Changes,
        &[Pipeline(&["SELECT 1", "DELETE FROM lab.link", "SELECT 2"])],
    ),
    sent(
        "PREPARE TRANSACTION",
        Changes,
        &[Simple("BEGIN; SELECT 1 FROM lab.run FOR UPDATE"), Simple("PREPARE TRANSACTION 'tour'")],
    ),
    // Maintenance and control.
    sent(
        "LOCK TABLE",
        Changes,
        &[Simple("BEGIN"), Simple("LOCK TABLE lab.run IN ACCESS EXCLUSIVE MODE")],
    ),
    sent("VACUUM FULL", Changes, &[Simple("VACUUM FULL lab.run")]),
    sent("ANALYZE", Changes, &[Extended("ANALYZE lab.run")]),
    sent("NOTIFY", Runs, &[Simple("NOTIFY farm, 'stop'")]),
    sent("ALTER SYSTEM", Refused, &[Simple("ALTER SYSTEM SET work_mem = '1GB'")]),
    // Below SQL.
    sent(
        "lo_creat() by its number, on the fast path",
        Changes,
        &[FastPath(LO_CREAT, INV_READ_WRITE)],
    ),
    Attack {
        title: "start-up options -c default_transaction_read_only=off",
        start_up: &[("options", "-c default_transaction_read_only=off")],
        steps: &[Simple("DELETE FROM lab.link")],
        unguarded: Changes,
    },
    Attack {
        title: "the same as a parameter of its own",
        start_up: &[("default_transaction_read_only", "off")],
        steps: &[Simple("DELETE FROM lab.link")],
        unguarded: Changes,
    },
    Attack {
        title: "a search_path with a decoy for lower()",
        start_up: &[("options", "-c search_path=decoy,pg_catalog")],
        steps: &[Simple("SELECT lower('Farm')")],
        unguarded: Changes,
    },
    Attack {
        title: "a replication connection",
        start_up: &[("replication", "database")],
        steps: &[Simple("CREATE_REPLICATION_SLOT loot LOGICAL pgoutput")],
        unguarded: Refused,
    },
    // Tricks on readers of SQL.
    sent(
        "a comment inside a comment",
        Changes,
        &[Simple("/* SELECT /* */ 1; */ DELETE FROM lab.link")],
    ),
    sent(
        "a comment that a carriage return ends",
        Changes,
        &[Simple("SELECT 1; -- harmless\rDELETE FROM lab.link")],
    ),
    sent(
        "E'' continued on the next line",
        Changes,
        &[Simple("SELECT E'a'\n'\\''; DELETE FROM lab.link; --'")],
    ),
    sent(
        "dollar quotes inside dollar quotes",
        Changes,
        &[Simple("SELECT $a$ $b$ $a$; DELETE FROM lab.link; SELECT $b$ $b$")],
    ),
    sent(
        "a backslash at the end of a string",
        Changes,
        &[Simple("SELECT '\\'; DELETE FROM lab.link; SELECT '\\'")],
    ),
    sent("a table's name in U&\"\" escapes", Changes, &[Simple("DELETE FROM lab.U&\"l\\0069nk\"")]),
    sent(
        "a function's name in U&\"\" escapes",
        Changes,
        &[Simple("SELECT U&\"lo_cre\\0061te\"(0)")],
    ),
    sent(
        "text turned round by U+202E",
        Changes,
        &[Simple("SELECT 1 /*\u{202e}*/; DELETE FROM lab.link --\u{202c} daer a si siht")],
    ),
    sent(
        "a Cyrillic SELECT as a name",
        Changes,
        &[Extended(
            "WITH \"\u{455}elect\" AS (DELETE FROM lab.link RETURNING 1) SELECT * FROM \"\u{455}elect\"",
        )],
    ),
];
