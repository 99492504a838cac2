-- A large object, in a database of its own: reading one is a FunctionCall,
-- which the shipped policy refuses and only policy/examples/backup.toml opens.

CREATE TABLE attachment (attachment_id integer PRIMARY KEY, content oid);
INSERT INTO attachment VALUES (1, lo_from_bytea(4242, '\x0001feff'));
COMMENT ON LARGE OBJECT 4242 IS 'four bytes';
ALTER TABLE attachment OWNER TO app;
ALTER LARGE OBJECT 4242 OWNER TO app;
ANALYZE;
