//! C: ways out of a read-only session, each of which a server with the session set read-only has been
//! seen to take.

use rowarden::demo::client::message;

use crate::{holds, query, run, talk};

/// That each of these is refused however it is sent, that nothing of it goes up, and that the session
/// reads on.
fn refuse_all(statements: &[&str]) {
    for sql in statements {
        let marked = format!("/* {{m}} */ {sql}");
        for sent in [query(&marked), [run(&marked), message::sync()].concat()] {
            let seen = talk(&[query("SELECT 1"), sent, query("SELECT 2")].concat());

            seen.nothing_went_up();
            let outline = seen.outline();
            assert_eq!(outline.matches('E').count(), 1, "{sql}: {outline}");
            assert!(outline.ends_with("CZI"), "the session reads on: {sql}: {outline}");
            assert!(!seen.denials.is_empty() || seen.sqlstate() == "42601", "{sql}");
        }
    }
}

#[test]
fn c01_the_transaction_cannot_be_set_writable() {
    refuse_all(&[
        "SET transaction_read_only = off; CREATE TABLE t (a int)",
        "SET transaction_read_only = off",
        "SET LOCAL transaction_read_only TO false",
        "RESET transaction_read_only",
        "SET default_transaction_read_only = off",
    ]);
}

#[test]
fn c02_no_other_spelling_makes_a_transaction_writable() {
    refuse_all(&[
        "BEGIN READ WRITE; CREATE TABLE t (a int); COMMIT",
        "START TRANSACTION READ WRITE; INSERT INTO t VALUES (1)",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; DELETE FROM t",
        "SELECT set_config('transaction_read_only', 'off', true)",
        "RESET ALL; INSERT INTO t VALUES (1)",
        "DISCARD ALL; INSERT INTO t VALUES (1)",
    ]);
    // Drivers say these out of habit: they pass, and say READ ONLY.
    for habit in ["BEGIN READ WRITE", "BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE"] {
        let seen = talk(&[query("SELECT 1"), query(habit), query("ROLLBACK")].concat());
        assert!(holds(&seen.by_server, "READ ONLY") && !holds(&seen.by_server, "WRITE"), "{habit}");
    }
}

#[test]
fn c03_a_statement_that_ends_the_wrapping_transaction_takes_nothing_with_it() {
    refuse_all(&[
        "BEGIN READ ONLY; COMMIT; CREATE TABLE t (a int)",
        "COMMIT; DROP TABLE t",
        "ROLLBACK; DELETE FROM t",
        "COMMIT AND CHAIN; INSERT INTO t VALUES (1)",
        "END; BEGIN; UPDATE t SET a = 1; COMMIT",
    ]);
}

#[test]
fn c04_no_file_is_written_on_the_server() {
    refuse_all(&["COPY (SELECT 1) TO '/tmp/out'", "COPY t TO '/tmp/out' WITH (FORMAT csv)"]);
}

#[test]
fn c05_no_program_runs_on_the_server() {
    refuse_all(&["COPY (SELECT 1) TO PROGRAM 'id'", "COPY t FROM PROGRAM 'id'"]);
}

#[test]
fn c06_no_second_connection_and_no_file_by_function() {
    refuse_all(&[
        "SELECT dblink_exec('dbname=x', 'insert into t values (1)')",
        "SELECT * FROM dblink('dbname=x', 'select 1') AS t(a int)",
        "SELECT lo_export(1, '/tmp/out')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT http_post('http://x', 'y')",
        "DO LANGUAGE plpython3u $$ pass $$",
    ]);
}

#[test]
fn c07_the_server_s_own_settings_stay() {
    refuse_all(&["ALTER SYSTEM SET work_mem = '1MB'", "ALTER SYSTEM RESET ALL"]);
}

#[test]
fn c08_no_library_is_loaded() {
    refuse_all(&["LOAD 'auto_explain'"]);
}

#[test]
fn c09_no_log_is_written_by_function() {
    refuse_all(&[
        "SELECT pg_switch_wal()",
        "SELECT pg_create_restore_point('x')",
        "SELECT pg_logical_emit_message(false, 'a', 'b')",
    ]);
}

#[test]
fn c10_no_slot_is_made_or_dropped() {
    refuse_all(&[
        "SELECT pg_create_physical_replication_slot('s')",
        "SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
        "SELECT pg_drop_replication_slot('s')",
    ]);
}

#[test]
fn c11_nothing_is_maintained() {
    refuse_all(&["VACUUM", "ANALYZE t", "CHECKPOINT", "REINDEX TABLE t", "CLUSTER t"]);
}

#[test]
fn c12_the_server_and_other_sessions_are_left_alone() {
    refuse_all(&[
        "SELECT pg_reload_conf()",
        "SELECT pg_terminate_backend(1)",
        "SELECT pg_cancel_backend(1)",
        "SELECT pg_stat_reset()",
        "SELECT pg_rotate_logfile()",
    ]);
}

#[test]
fn c13_no_locks_no_messages_no_transaction_ids() {
    refuse_all(&[
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_xact_lock(1)",
        "SELECT pg_export_snapshot()",
        "NOTIFY channel",
        "SELECT pg_notify('a', 'b')",
        "LISTEN channel",
        "SELECT txid_current()",
        "SELECT pg_current_xact_id()",
    ]);
}

#[test]
fn c14_nobody_becomes_somebody_else() {
    refuse_all(&[
        "SET SESSION AUTHORIZATION postgres",
        "SET ROLE postgres",
        "SET LOCAL ROLE postgres",
        "SELECT set_config('role', 'postgres', false)",
        "DISCARD ALL; SET ROLE postgres",
    ]);
}

#[test]
fn c15_what_the_server_refuses_in_a_read_only_session_is_refused_here_as_well() {
    refuse_all(&[
        "INSERT INTO t VALUES (1)",
        "WITH made AS (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM made",
        "SELECT * FROM t FOR UPDATE",
        "SELECT nextval('s')",
        "SELECT setval('s', 1)",
        "SELECT lo_create(0)",
        "CREATE TEMP TABLE t (a int)",
        "EXPLAIN ANALYZE INSERT INTO t VALUES (1)",
        "PREPARE p AS INSERT INTO t VALUES (1)",
    ]);
}

#[test]
fn c16_set_config_does_not_undo_the_session_wherever_it_stands() {
    refuse_all(&[
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT set_config('default_transaction_read_only', 'off', false)",
        "SELECT 1 FROM t WHERE set_config('transaction_read_only', a, false) IS NULL",
        "DO $$ BEGIN PERFORM set_config('transaction_read_only', 'off', false); END $$",
    ]);
}
