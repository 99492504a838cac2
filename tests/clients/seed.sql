-- The data that the real clients read, directly and through the gate.
--
-- One of everything that a client asks the catalogue about, and rows whose
-- text form is easy to get wrong: NULLs, empty strings, quotes, infinities,
-- not-a-number, non-ASCII. Every value is fixed, so that two runs print the
-- same bytes. The functions exist to be listed and dumped; nothing calls them.

CREATE ROLE app LOGIN PASSWORD 'app';
CREATE ROLE auditor NOLOGIN;
GRANT auditor TO app;
COMMENT ON ROLE auditor IS 'may look';
ALTER DATABASE warehouse OWNER TO app;
GRANT CREATE ON DATABASE warehouse TO app;
GRANT ALL ON SCHEMA public TO app;

SET ROLE app;
CREATE SCHEMA stock;
CREATE SCHEMA "Odd Names";
COMMENT ON SCHEMA stock IS 'what lies on the shelves';

CREATE TYPE stock.condition AS ENUM ('new', 'worn', 'broken ''n'' lost');
COMMENT ON TYPE stock.condition IS 'how an item looks';
CREATE TYPE stock.box AS (width numeric(6,2), height numeric(6,2), label text);
CREATE TYPE stock.shelf_life AS RANGE (subtype = date);
CREATE DOMAIN stock.quantity AS integer DEFAULT 0 CHECK (VALUE >= 0);
COMMENT ON DOMAIN stock.quantity IS 'never below zero';
CREATE COLLATION stock.bytewise (LOCALE = 'C');

CREATE TABLE stock.supplier (
    supplier_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    country char(2) COLLATE stock.bytewise,
    since date
);
COMMENT ON TABLE stock.supplier IS 'who brings it';
COMMENT ON COLUMN stock.supplier.country IS 'ISO 3166, two letters';

CREATE TABLE stock.item (
    item_id bigserial PRIMARY KEY,
    supplier_ref integer NOT NULL REFERENCES stock.supplier ON DELETE CASCADE,
    name varchar(80) NOT NULL,
    state stock.condition NOT NULL DEFAULT 'new',
    amount stock.quantity,
    price numeric(12,2),
    gross numeric(14,4) GENERATED ALWAYS AS (price * 1.19) STORED,
    size stock.box,
    keeps stock.shelf_life,
    tags text[],
    CONSTRAINT price_is_sane CHECK (price IS NULL OR price < 1000000),
    CONSTRAINT name_per_supplier UNIQUE (supplier_ref, name) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX item_by_tags ON stock.item USING gin (tags);
CREATE INDEX item_by_lower_name ON stock.item (lower(name)) WHERE state <> 'broken ''n'' lost';
CREATE INDEX item_covering ON stock.item (supplier_ref, price DESC NULLS LAST) INCLUDE (name);
COMMENT ON INDEX stock.item_by_tags IS 'for the search box';
COMMENT ON CONSTRAINT price_is_sane ON stock.item IS 'nothing here costs a million';
CREATE STATISTICS stock.item_pairs (dependencies) ON supplier_ref, price FROM stock.item;

INSERT INTO stock.supplier (name, country, since)
SELECT 'supplier ' || n, chr(65 + n) || 'X', date '2020-01-01' + n FROM generate_series(1, 4) n;
INSERT INTO stock.item (supplier_ref, name, state, amount, price, size, keeps, tags)
SELECT 1 + n % 4, 'item ' || n,
       (ARRAY['new', 'worn', 'broken ''n'' lost'])[1 + n % 3]::stock.condition,
       CASE WHEN n % 7 = 0 THEN NULL ELSE n * 3 END,
       CASE WHEN n % 5 = 0 THEN NULL ELSE n * 9.99 END,
       CASE WHEN n % 4 = 0 THEN NULL ELSE ROW(n, n / 2.0, 'box "' || n || '"')::stock.box END,
       stock.shelf_life(date '2024-01-01', date '2024-01-01' + n),
       CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN '{}' ELSE ARRAY['a,b', 'c"d', NULL, 'grün'] END
FROM generate_series(1, 60) n;

CREATE TABLE stock.every_type (
    id integer PRIMARY KEY,
    c_bool boolean, c_int2 smallint, c_int4 integer, c_int8 bigint, c_oid oid,
    c_float4 real, c_float8 double precision, c_numeric numeric, c_money money,
    c_text text, c_varchar varchar(20), c_char char(5), c_name name, c_byte "char", c_bytea bytea,
    c_date date, c_time time, c_timetz timetz, c_timestamp timestamp, c_timestamptz timestamptz, c_interval interval,
    c_uuid uuid, c_json json, c_jsonb jsonb, c_jsonpath jsonpath, c_xml xml,
    c_inet inet, c_cidr cidr, c_macaddr macaddr, c_macaddr8 macaddr8, c_bit bit(4), c_varbit varbit,
    c_point point, c_line line, c_lseg lseg, c_box box, c_path path, c_polygon polygon, c_circle circle,
    c_tsvector tsvector, c_tsquery tsquery, c_lsn pg_lsn,
    c_int4range int4range, c_numrange numrange, c_tstzrange tstzrange, c_multirange int4multirange,
    c_regclass regclass, c_regtype regtype,
    c_ints integer[], c_texts text[], c_grid integer[][], c_state stock.condition, c_box2 stock.box, c_quantity stock.quantity
);
INSERT INTO stock.every_type (id) VALUES (0);
INSERT INTO stock.every_type VALUES (
    1, true, -32768, 2147483647, -9223372036854775808, 4294967295,
    1.5, 'NaN', 12345678901234567890.0123456789, '-1234.56',
    E'tab\tnew\nline back\\slash ''quote''', 'grün 🐘', 'ab', 'a_name', 'x', '\x00ff10',
    '2024-02-29', '23:59:59.999999', '12:34:56+05:30', '2024-02-29 12:34:56.789', '2024-02-29 12:34:56.789+02', '1 year 2 mons 3 days 04:05:06.7',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a" : [1, 2, null], "b":"ü"}', '{"a": [1, 2, null], "b": "ü"}', '$.a[*] ? (@ > 1)', '<a href="x">y</a>',
    '192.168.0.1/24', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'1010', B'110',
    '(1,2)', '{1,-1,0}', '[(0,0),(1,1)]', '((0,0),(2,3))', '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '<(0,0),5>',
    'a fat cat', 'fat & (cat | rat)', '16/B374D848',
    '[1,10)', '(,5.5]', '["2024-01-01 00:00+00","2024-01-02 00:00+00")', '{[1,3),[5,8)}',
    'stock.item', 'integer',
    '{1,NULL,3}', ARRAY['', 'NULL', NULL, '{}', '"'], '{{1,2},{3,4}}', 'worn', ROW(1, NULL, ''), 7);
INSERT INTO stock.every_type (id, c_float8, c_numeric, c_date, c_timestamptz, c_text, c_bytea, c_ints, c_int4range)
VALUES (2, '-Infinity', 'Infinity', 'infinity', '-infinity', '', '', '{}', 'empty'),
       (3, 1e308, 0.000, '0044-03-15 BC', '0044-03-15 12:00 BC', repeat('long ', 2000), decode(repeat('ab', 3000), 'hex'), '[2:3]={7,8}', '(,)');

CREATE TABLE stock.movement (moved_at date NOT NULL, item_ref bigint, delta integer) PARTITION BY RANGE (moved_at);
CREATE TABLE stock.movement_2023 PARTITION OF stock.movement FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE stock.movement_2024 PARTITION OF stock.movement FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE stock.movement_other PARTITION OF stock.movement DEFAULT;
CREATE INDEX movement_by_item ON stock.movement (item_ref);
INSERT INTO stock.movement SELECT date '2023-11-01' + n, 1 + n % 60, n % 11 - 5 FROM generate_series(0, 499) n;

CREATE TABLE public.note (note_id serial PRIMARY KEY, body text, author name DEFAULT current_user);
CREATE TABLE public.note_archive (archived_on date) INHERITS (public.note);
INSERT INTO public.note (body, author) VALUES ('please DELETE the old shelf', 'app'), (NULL, 'app'), ('-- no comment', 'auditor');
ALTER TABLE public.note ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_notes ON public.note FOR SELECT TO auditor USING (author = current_user);
CREATE TABLE "Odd Names"."Select" ("from" integer PRIMARY KEY, "Group By" text, "quo""te" text);
INSERT INTO "Odd Names"."Select" VALUES (1, 'update', 'drop'), (2, 'insert', NULL);
CREATE UNLOGGED TABLE public.scratch (n integer);
CREATE TABLE public.empty_table ();

CREATE SEQUENCE stock.ticket INCREMENT 5 MINVALUE 5 MAXVALUE 500 CYCLE;
COMMENT ON SEQUENCE stock.ticket IS 'numbers from the machine by the door';

CREATE VIEW stock.cheap_item AS
SELECT item_id, name, price FROM stock.item WHERE price < 100 WITH LOCAL CHECK OPTION;
COMMENT ON VIEW stock.cheap_item IS 'below a hundred';
CREATE MATERIALIZED VIEW stock.item_count AS
SELECT supplier_ref, count(*) AS items, sum(price) AS worth FROM stock.item GROUP BY supplier_ref;
CREATE UNIQUE INDEX item_count_key ON stock.item_count (supplier_ref);

CREATE FUNCTION stock.restock(item bigint, by_how_many integer DEFAULT 1) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    UPDATE stock.item SET amount = amount + by_how_many WHERE item_id = item;
    RETURN by_how_many;
END $$;
COMMENT ON FUNCTION stock.restock IS 'writes; here to be listed';
CREATE FUNCTION stock.worth(stock.item) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT $1.amount * $1.price';
CREATE PROCEDURE stock.take_inventory() LANGUAGE sql AS 'REFRESH MATERIALIZED VIEW stock.item_count';
CREATE FUNCTION stock.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER stamp_item BEFORE UPDATE OF price ON stock.item FOR EACH ROW EXECUTE FUNCTION stock.stamp();
CREATE AGGREGATE stock.product(numeric) (SFUNC = numeric_mul, STYPE = numeric, INITCOND = '1');
CREATE OPERATOR stock.<#> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4ne);
CREATE RULE keep_archive AS ON DELETE TO public.note_archive DO INSTEAD NOTHING;

GRANT SELECT ON stock.item, stock.supplier TO auditor;
GRANT SELECT (name, price) ON stock.cheap_item TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA stock GRANT SELECT ON TABLES TO auditor;
RESET ROLE;

ALTER ROLE auditor SET work_mem = '8MB';
CREATE PUBLICATION shelves FOR TABLE stock.item, stock.supplier;
ANALYZE;
