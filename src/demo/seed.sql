-- A month of regression runs of an imaginary compiler team: what ran, what failed, what is known.
--
-- Deterministic (no random(), no now()), so that two demos show the same figures. Everything belongs
-- to the role that loads it. The excerpts speak of DELETE and UPDATE on purpose: a filter that looks
-- for words would refuse to show them.

CREATE SCHEMA lab;

CREATE TABLE lab.suite (
    suite_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name     text NOT NULL UNIQUE,
    team     text NOT NULL
);
INSERT INTO lab.suite (name, team) VALUES
    ('frontend', 'parsing'), ('optimiser', 'middle end'), ('codegen', 'back end'), ('runtime', 'platform');

CREATE TABLE lab.test_case (
    case_id  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    suite_id integer NOT NULL REFERENCES lab.suite,
    name     text NOT NULL UNIQUE,
    traits   jsonb NOT NULL
);
INSERT INTO lab.test_case (suite_id, name, traits)
SELECT 1 + n % 4,
       format('%s_%s', (ARRAY['loop', 'alias', 'inline', 'vector', 'unwind'])[1 + n % 5], to_char(n, 'FM00')),
       jsonb_build_object('slow', n % 7 = 0, 'targets', CASE n % 3 WHEN 0 THEN '["x86", "arm"]' ELSE '["x86"]' END::jsonb)
FROM generate_series(1, 24) AS n;

CREATE TABLE lab.run (
    run_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    branch   text NOT NULL,
    revision text NOT NULL,
    machine  text NOT NULL,
    started  timestamptz NOT NULL,
    ended    timestamptz NOT NULL
);
INSERT INTO lab.run (branch, revision, machine, started, ended)
SELECT CASE WHEN n % 5 = 0 THEN 'release/4' ELSE 'main' END,
       left(md5('revision ' || n), 10),
       'farm-' || 1 + n % 3,
       timestamptz '2026-10-01 02:00+00' + n * interval '1 day',
       timestamptz '2026-10-01 02:00+00' + n * interval '1 day' + (30 + n * 13 % 25) * interval '1 minute'
FROM generate_series(0, 29) AS n;

CREATE TABLE lab.result (
    run_id  bigint NOT NULL REFERENCES lab.run,
    case_id integer NOT NULL REFERENCES lab.test_case,
    outcome text NOT NULL CHECK (outcome IN ('passed', 'failed', 'skipped')),
    seconds numeric(8, 2) NOT NULL,
    PRIMARY KEY (run_id, case_id)
);
INSERT INTO lab.result
SELECT run_id, case_id,
       CASE WHEN (run_id * 7 + case_id * 11) % 23 = 0 THEN 'failed'
            WHEN (run_id + case_id) % 17 = 0 THEN 'skipped'
            ELSE 'passed' END,
       0.5 + (run_id * case_id) % 97 / 4.0
FROM lab.run CROSS JOIN lab.test_case;

CREATE TABLE lab.failure (
    failure_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id     bigint NOT NULL,
    case_id    integer NOT NULL,
    signature  text NOT NULL,
    excerpt    text NOT NULL,
    FOREIGN KEY (run_id, case_id) REFERENCES lab.result
);
INSERT INTO lab.failure (run_id, case_id, signature, excerpt)
SELECT run_id, case_id,
       (ARRAY['assert-dominance', 'timeout', 'miscompile', 'leak'])[1 + (run_id + case_id) % 4],
       (ARRAY[
           'assertion failed: use is not dominated by its definition',
           'killed after 600 s; last line: "please update the baseline or delete the test"',
           E'expected 41, got 42\n  in pass "truncate-drop-insert"',
           E'leak of 64 bytes\n  allocated by operator new, never reached operator delete'
       ])[1 + (run_id + case_id) % 4]
FROM lab.result WHERE outcome = 'failed' ORDER BY run_id, case_id;

CREATE TABLE lab.known_issue (
    issue_key text PRIMARY KEY,
    title     text NOT NULL,
    state     text NOT NULL CHECK (state IN ('open', 'in progress', 'closed')),
    signature text NOT NULL
);
INSERT INTO lab.known_issue VALUES
    ('COMP-101', 'Dominance is lost after loop rotation', 'in progress', 'assert-dominance'),
    ('COMP-117', 'Farm machine 2 is slow', 'open', 'timeout'),
    ('COMP-123', 'Delete of arrays with cookies leaks', 'open', 'leak'),
    ('COMP-98', 'Update of the flags register is dropped', 'closed', 'miscompile');

CREATE TABLE lab.link (
    failure_id bigint NOT NULL REFERENCES lab.failure,
    issue_key  text NOT NULL REFERENCES lab.known_issue,
    note       text,
    PRIMARY KEY (failure_id, issue_key)
);
INSERT INTO lab.link
SELECT failure_id, issue_key, CASE WHEN failure_id % 3 = 0 THEN 'seen by ann; insert a retry?' END
FROM lab.failure JOIN lab.known_issue USING (signature);

CREATE VIEW lab.flaky AS
SELECT test_case.name, count(*) FILTER (WHERE outcome = 'failed') AS failures, count(*) AS runs
FROM lab.result JOIN lab.test_case USING (case_id)
GROUP BY test_case.name
HAVING count(*) FILTER (WHERE outcome = 'failed') > 0;

-- What an attacker who holds the owner's password may count on: code that writes when it is called.

CREATE SEQUENCE lab.ticket;

CREATE FUNCTION lab.forget_failures() RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    DELETE FROM lab.link;
    RETURN 1;
END $$;

CREATE PROCEDURE lab.rename_suites() LANGUAGE sql AS $$
    UPDATE lab.suite SET name = name || ' (old)';
$$;

-- Meant to be found instead of pg_catalog.lower() by whoever searches this schema first.
CREATE SCHEMA decoy;
CREATE FUNCTION decoy.lower(text) RETURNS text LANGUAGE sql VOLATILE AS $$
    UPDATE lab.known_issue SET state = 'closed';
    SELECT pg_catalog.lower($1);
$$;
