//! The reads of the tour: what people who look after regressions ask, in every way that clients ask.

use crate::demo::tour::Read;
use crate::demo::tour::Step::{Extended, Pipeline, Simple};

/// In the order in which they are shown.
pub(super) const READS: &[Read] = &[
    Read {
        title: "the latest failures with their known issues: five tables joined",
        steps: &[Simple(
            "SELECT run.run_id, suite.name AS suite, test_case.name, failure.signature, known_issue.issue_key
             FROM lab.failure
             JOIN lab.run USING (run_id)
             JOIN lab.test_case USING (case_id)
             JOIN lab.suite USING (suite_id)
             LEFT JOIN lab.link USING (failure_id)
             LEFT JOIN lab.known_issue USING (issue_key)
             ORDER BY run.started DESC, failure_id LIMIT 12",
        )],
    },
    Read {
        title: "pass rate a day with its moving average: window functions",
        steps: &[Extended(
            "SELECT started::date AS day,
                    round(100.0 * count(*) FILTER (WHERE outcome = 'passed') / count(*), 1) AS rate,
                    round(avg(100.0 * count(*) FILTER (WHERE outcome = 'passed') / count(*))
                          OVER (ORDER BY started::date ROWS 6 PRECEDING), 1) AS week
             FROM lab.run JOIN lab.result USING (run_id) GROUP BY started::date ORDER BY day",
        )],
    },
    Read {
        title: "days without a leak: a recursive CTE",
        steps: &[Simple(
            "WITH RECURSIVE day (day) AS (
                 SELECT date '2026-10-01' UNION ALL SELECT day + 1 FROM day WHERE day < '2026-10-30')
             SELECT day FROM day
             WHERE NOT EXISTS (SELECT FROM lab.failure JOIN lab.run USING (run_id) WHERE started::date = day AND signature = 'leak')
             ORDER BY day",
        )],
    },
    Read { title: "a view", steps: &[Extended("SELECT * FROM lab.flaky ORDER BY failures DESC, name")] },
    Read {
        title: "JSON: tests by target",
        steps: &[Simple(
            "SELECT target, jsonb_agg(name ORDER BY name) FROM lab.test_case,
             jsonb_array_elements_text(traits -> 'targets') AS target
             WHERE NOT (traits @> '{\"slow\": true}') GROUP BY target ORDER BY target",
        )],
    },
    Read {
        title: "the words DELETE, UPDATE and DROP as data",
        steps: &[Simple(
            "SELECT failure_id, excerpt AS \"delete\" FROM lab.failure /* UPDATE nothing; DROP nothing */
             WHERE excerpt ILIKE '%update the baseline or delete%' OR excerpt LIKE '%; DROP TABLE%' -- INSERT
             ORDER BY failure_id",
        )],
    },
    Read {
        title: "replace() and other functions with suspicious names",
        steps: &[Extended(
            "SELECT DISTINCT replace(signature, '-', ' '), overlay(team placing '*' from 1), left(excerpt, 20)
             FROM lab.failure JOIN lab.test_case USING (case_id) JOIN lab.suite USING (suite_id)
             ORDER BY 1, 2, 3",
        )],
    },
    Read {
        title: "EXPLAIN",
        steps: &[Simple("EXPLAIN (COSTS off) SELECT * FROM lab.result WHERE run_id = 7 AND case_id = 3")],
    },
    Read {
        title: "a cursor inside a transaction",
        steps: &[
            Simple("BEGIN"),
            Simple("DECLARE oldest CURSOR FOR SELECT run_id, revision FROM lab.run ORDER BY started"),
            Simple("FETCH 5 FROM oldest"),
            Simple("MOVE 10 FROM oldest"),
            Simple("FETCH NEXT FROM oldest"),
            Simple("CLOSE oldest; COMMIT"),
        ],
    },
    Read {
        title: "COPY TO STDOUT",
        steps: &[Simple(
            "COPY (SELECT issue_key, title, state FROM lab.known_issue ORDER BY issue_key) TO STDOUT (FORMAT csv, HEADER)",
        )],
    },
    Read {
        title: "a prepared statement, by SQL",
        steps: &[
            Simple("PREPARE by_state (text) AS SELECT issue_key FROM lab.known_issue WHERE state = $1 ORDER BY 1"),
            Simple("EXECUTE by_state('open')"),
            Simple("EXECUTE by_state('closed')"),
            Simple("DEALLOCATE by_state"),
        ],
    },
    Read {
        title: "three queries in one pipeline",
        steps: &[Pipeline(&[
            "SELECT count(*) FROM lab.run",
            "SELECT count(*) FROM lab.result",
            "SELECT count(*) FROM lab.failure",
        ])],
    },
    Read {
        title: "habits of drivers: BEGIN, settings, SHOW, savepoints",
        steps: &[
            Simple("BEGIN ISOLATION LEVEL REPEATABLE READ"),
            Simple("SET LOCAL statement_timeout = '10s'"),
            Simple("SHOW TimeZone"),
            Simple("SAVEPOINT here; SELECT count(*) FROM lab.run; RELEASE here"),
            Simple("COMMIT"),
        ],
    },
    Read {
        title: "what tables there are: the catalogue",
        steps: &[Simple(
            "SELECT c.relname, obj_description(c.oid, 'pg_class'), pg_get_userbyid(c.relowner)
             FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
             WHERE n.nspname = 'lab' AND c.relkind IN ('r', 'v') ORDER BY 1",
        )],
    },
    Read {
        title: "a mistake, answered with the server's own words",
        steps: &[Simple("SELECT 1 / (run_id - 1) FROM lab.run ORDER BY run_id LIMIT 1")],
    },
];
