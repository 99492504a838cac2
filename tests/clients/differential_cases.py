"""The conversations that must look the same with and without the gate.

Reads only, with fixed answers: no clock, no process id, no random value. Each case is a list of exchanges on a fresh
connection; an exchange is what is sent at once and the message types of which the first one ends the wait.
"""

import collections
import itertools
import os

from wire import BINARY, TEXT, bind, close, describe, execute, flush, parse, query, sync

Exchange = collections.namedtuple('Exchange', 'sent ends')
# `startup` is what the case adds to the start-up packet, or None where the case is not about start-up.
Case = collections.namedtuple('Case', 'name exchanges startup', defaults=(None,))

# INVARIANT: the columns of stock.every_type in seed.sql, without its key.
COLUMNS = """bool int2 int4 int8 oid float4 float8 numeric money text varchar char name byte bytea date time timetz timestamp
timestamptz interval uuid json jsonb jsonpath xml inet cidr macaddr macaddr8 bit varbit point line lseg box path polygon circle
tsvector tsquery lsn int4range numrange tstzrange multirange regclass regtype ints texts grid state box2 quantity""".split()

QUIET = [
    '',
    ';',
    ';;',
    ' \n\t',
    '-- only a comment',
    '/* only */',
    ' ; -- x\n ; ',
    'BEGIN',
    'COMMIT',
    'ROLLBACK',
    'END',
    'ABORT',
    'START TRANSACTION READ ONLY',
    'BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE',
    'SET datestyle = german',
    'SET LOCAL timezone = utc',
    'RESET ALL',
    'CLOSE ALL',
    'UNLISTEN *',
    'DEALLOCATE ALL',
    'DISCARD ALL',
    'DISCARD PLANS',
    "SET application_name = 'x'",
    "SET client_encoding = 'UTF8'",
    'SET search_path = stock, public',
    "SET statement_timeout = '10s'",
    "SELECT set_config('search_path', '', false)",
    "SELECT set_config('application_name', 'y', true)",
    'SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ',
    'LOCK TABLE stock.item IN ACCESS SHARE MODE',
    '/* a /* nested */ comment */ SELECT 1 -- tail',
    'SELECT 1 -- no newline',
    'select 1;',
    'SELECT 1;;',
    '\n\nSELECT 1',
]

COPIES = [
    'stock.item',
    'stock.every_type',
    'stock.supplier (name, country)',
    '(SELECT 1)',
    '(SELECT * FROM stock.movement ORDER BY 1, 2)',
    "(VALUES (NULL, '', E'a\\tb\\\\'))",
    '(SELECT 1 WHERE false)',
    '"Odd Names"."Select"',
]
COPY_FORMS = [
    '',
    ' (FORMAT csv)',
    " (FORMAT csv, HEADER, FORCE_QUOTE *, DELIMITER ';', NULL '-')",
    ' (FORMAT binary)',
    ' WITH CSV HEADER',
]


def lines(name):
    """The cases in one file of the folder `cases`."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'cases', f'{name}.txt')
    with open(path, encoding='utf-8') as file:
        return [line.rstrip('\n').replace('⏎', '\n') for line in file if not line.startswith('#')]


def talks():
    """The conversations, each a list of queries."""
    blocks = '\n'.join(lines('talks')).strip().split('\n\n')
    return [['' if text == '(empty)' else text for text in block.split('\n')] for block in blocks]


def simple(name, *texts, startup=None):
    return Case(name, [Exchange(query(text), b'Z') for text in texts], startup)


def series(sql, results=(), values=(), formats=(), types=()):
    """Parse to Sync in one write, as drivers send a query with parameters."""
    return (
        parse(sql, '', types)
        + describe('S')
        + bind(values, formats=formats, results=results)
        + describe('P')
        + execute()
        + sync()
    )


def extended(name, sql, results=(), **how):
    return Case(name, [Exchange(series(sql, results, **how), b'Z')])


def columns():
    """Every type, in every way in which a driver may ask for it."""
    for column in COLUMNS:
        sql = f'SELECT id, c_{column} FROM stock.every_type ORDER BY id'
        yield simple(f'type {column}, simple', sql)
        yield extended(f'type {column}, text', sql)
        yield extended(f'type {column}, binary', sql, (BINARY,))


def statements():
    for sql in lines('reads'):
        yield simple(f'simple: {sql}', sql)
        yield extended(f'text: {sql}', sql)
        yield extended(f'binary: {sql}', sql, (BINARY,))
    for sql in lines('errors'):
        yield simple(f'error, simple: {sql}', sql, 'SELECT 1')
        yield simple(f'error, in a transaction: {sql}', 'BEGIN', sql, 'SELECT 1', 'ROLLBACK')
        yield Case(f'error, extended: {sql}', [Exchange(series(sql), b'Z'), Exchange(series('SELECT 1'), b'Z')])
    for sql in QUIET:
        yield simple(f'quiet, simple: {sql!r}', 'SELECT 1', sql, 'SELECT 1')
        yield Case(f'quiet, extended: {sql!r}', [Exchange(query('SELECT 1'), b'Z'), Exchange(series(sql), b'Z')])
    for source, form in itertools.product(COPIES, COPY_FORMS):
        yield simple(f'copy: {source}{form}', f'COPY {source} TO STDOUT{form}', 'SELECT 1')
    yield extended('copy, extended', 'COPY stock.supplier TO STDOUT')


def strings():
    for text in lines('strings'):
        yield simple(f'string: {text}', 'SELECT 8', text, 'SELECT 9', 'ROLLBACK')
        yield simple(f'string, in a transaction: {text}', 'BEGIN', text, 'SELECT 9', 'ROLLBACK')
        yield simple(f'string, in a failed transaction: {text}', 'BEGIN', 'SELECT 1/0', text, 'SELECT 9', 'ROLLBACK')
    for texts in talks():
        yield simple(f'talk: {" | ".join(texts)}', *texts)
    yield simple('generic plan', 'EXPLAIN (GENERIC_PLAN, COSTS OFF) SELECT * FROM stock.item WHERE item_id = $1', 'SELECT 1')
    yield Case('queries in one write', [Exchange(query('SELECT 1') + query('SELECT 2'), b'Z'), Exchange(b'', b'Z')])
    yield Case(
        'queries in one write, the first fails',
        [Exchange(query('SELECT 1/0') + query('SELECT 2'), b'Z'), Exchange(b'', b'Z')],
    )


def startups():
    """What a client may ask for in its start-up packet, and what it is told when that cannot be had."""
    probe = (
        'SHOW application_name',
        'SHOW datestyle',
        'SHOW timezone',
        'SHOW search_path',
        'SHOW extra_float_digits',
        'SHOW statement_timeout',
    )
    for asked in [
        {},
        {'application_name': 'probe ü'},
        {'DateStyle': 'ISO, DMY'},
        {'TimeZone': 'Asia/Tokyo'},
        {'extra_float_digits': '2'},
        {'search_path': 'stock,public'},
        {'options': '-c datestyle=german'},
        {'options': '-csearch_path=stock --geqo=off'},
        {'statement_timeout': '5000'},
        {'client_encoding': "'utf-8'"},
        {'client_encoding': 'UNICODE'},
        {'database': 'no_such'},
        {'user': 'no_such'},
        {'DateStyle': 'nonsense'},
    ]:
        yield simple(
            f'start-up: {asked}',
            *(() if {'database', 'user'} & set(asked) or 'nonsense' in asked.values() else probe),
            startup=tuple(asked.items()),
        )


def extended_conversations():
    """The extended protocol beyond one query and its Sync."""
    item = 'SELECT item_id, name FROM stock.item ORDER BY item_id'
    one = lambda sql, **how: parse(sql) + bind(**how) + execute()
    talk = lambda name, *writes: Case(f'extended: {name}', [Exchange(write, b'Z') for write in writes])
    yield talk('rows in portions', parse(item) + bind() + execute(rows=5) + execute(rows=5) + execute() + sync())
    yield talk(
        'portions across Sync in a transaction',
        query('BEGIN'),
        parse(item) + bind(portal='p') + execute('p', 3) + sync(),
        execute('p', 3) + sync(),
        describe('P', 'p') + close('P', 'p') + sync(),
        execute('p') + sync(),
        query('ROLLBACK'),
    )
    yield talk(
        'portal lost at the end of its transaction',
        parse(item) + bind(portal='p') + execute('p', 3) + sync(),
        execute('p', 3) + sync(),
    )
    yield talk(
        'exactly as many rows as asked', parse('VALUES (1), (2)') + bind() + execute(rows=2) + execute(rows=2) + sync()
    )
    yield talk(
        'named statement used again',
        parse('SELECT $1::int + 1', 's') + describe('S', 's') + sync(),
        bind([b'1'], statement='s') + execute() + sync(),
        bind([b'\0\0\0\2'], statement='s', formats=(BINARY,), results=(BINARY,)) + describe('P') + execute() + sync(),
        close('S', 's') + sync(),
        bind([b'1'], statement='s') + execute() + sync(),
    )
    yield talk(
        'name taken',
        parse('SELECT 1', 's') + sync(),
        parse('SELECT 2', 's') + sync(),
        bind(statement='s') + execute() + sync(),
    )
    yield talk(
        'a failed Parse defines nothing',
        parse('SELEC', 's') + sync(),
        describe('S', 's') + sync(),
        parse('SELECT no_such', 's') + sync(),
        bind(statement='s') + sync(),
    )
    yield talk(
        'SQL and protocol share one namespace',
        parse('SELECT 1 AS a', 's') + sync(),
        query('EXECUTE s'),
        query('DEALLOCATE s'),
        bind(statement='s') + execute() + sync(),
        query('PREPARE t AS SELECT 2 AS b'),
        describe('S', 't') + bind(statement='t') + execute() + sync(),
        query('DISCARD ALL'),
        bind(statement='t') + execute() + sync(),
    )
    yield talk(
        'a simple query destroys the unnamed statement',
        parse('SELECT 1') + sync(),
        query('SELECT 2'),
        bind() + execute() + sync(),
    )
    yield talk(
        'a simple query destroys the unnamed portal',
        query('BEGIN'),
        parse('SELECT 1') + bind() + sync(),
        query('SELECT 2'),
        execute() + sync(),
        query('ROLLBACK'),
    )
    yield talk(
        'the unnamed statement survives Sync',
        parse('SELECT 1') + sync(),
        bind() + execute() + sync(),
        bind() + execute() + sync(),
    )
    yield talk('pipeline', one('SELECT 1') + one('SELECT 2') + one('SELECT 3') + sync())
    yield talk(
        'pipeline with an error in the middle',
        one('SELECT 1') + one('SELECT 1/0') + one('SELECT 3') + sync(),
        one('SELECT 4') + sync(),
    )
    yield talk(
        'pipeline with a syntax error in the middle',
        one('SELECT 1') + one('SELEC 2') + one('SELECT 3') + sync(),
        one('SELECT 4') + sync(),
    )
    yield talk(
        'pipeline with an unknown table in the middle',
        one('SELECT 1') + one('SELECT * FROM no_such') + one('SELECT 3') + sync(),
        one('SELECT 4') + sync(),
    )
    yield Case(
        'extended: several Syncs in one write',
        [Exchange((one('SELECT 1') + sync()) * 2 + one('SELECT 1/0') + sync() + one('SELECT 2') + sync(), b'Z')]
        + [Exchange(b'', b'Z')] * 3,
    )
    yield talk(
        'transaction in a pipeline',
        one('BEGIN') + one('SELECT 1') + one('COMMIT') + one('SELECT 2') + sync(),
        query('SELECT 3'),
    )
    yield talk(
        'transaction in a pipeline, failed',
        one('BEGIN') + one('SELECT 1/0') + one('COMMIT') + sync(),
        query('SELECT 1'),
        query('ROLLBACK'),
    )
    yield talk(
        'transaction left open by a pipeline',
        one('BEGIN') + one('SELECT 1') + sync(),
        one('SELECT 2') + sync(),
        one('ROLLBACK') + sync(),
    )
    yield talk('COMMIT outside a transaction', one('SELECT 1') + one('COMMIT') + one('SELECT 2') + sync())
    yield talk(
        'savepoints',
        one('BEGIN') + one('SAVEPOINT a') + sync(),
        one('SELECT 1/0') + sync(),
        one('ROLLBACK TO a') + one('SELECT 1') + one('COMMIT') + sync(),
    )
    yield talk('empty statement', parse('') + describe('S') + bind() + describe('P') + execute() + sync())
    yield talk('two statements in one Parse', parse('SELECT 1; SELECT 2') + sync(), query('SELECT 1'))
    yield talk(
        'a failed transaction takes nothing but its end',
        query('BEGIN'),
        query('SELECT 1/0'),
        parse('SELECT 1') + sync(),
        parse('') + bind() + execute() + sync(),
        one('ROLLBACK') + sync(),
    )
    yield talk(
        'unknown names',
        bind(statement='no') + sync(),
        execute('no') + sync(),
        describe('S', 'no') + sync(),
        describe('P', 'no') + sync(),
        close('S', 'no') + close('P', 'no') + sync(),
    )
    yield talk(
        'portal name taken',
        query('BEGIN'),
        parse('SELECT 1', 's') + bind(statement='s', portal='p') + sync(),
        bind(statement='s', portal='p') + sync(),
        query('ROLLBACK'),
    )
    yield talk(
        'wrong number of parameters',
        parse('SELECT $1::int', 's') + sync(),
        bind(statement='s') + sync(),
        bind([b'1', b'2'], statement='s') + sync(),
    )
    yield talk(
        'wrong parameter text',
        parse('SELECT $1::int') + bind([b'x']) + execute() + sync(),
        parse('SELECT $1::int') + bind([b'\1'], formats=(BINARY,)) + execute() + sync(),
    )
    yield talk(
        'NULL and empty parameters',
        parse('SELECT $1::text, $2::text, $3::int') + bind([None, b'', None]) + describe('P') + execute() + sync(),
    )
    yield talk(
        'declared and inferred types',
        parse('SELECT $1, $2, $3 + 1', '', (25, 20))
        + describe('S')
        + bind([b'a', b'7', b'1'])
        + describe('P')
        + execute()
        + sync(),
    )
    yield talk(
        'undeterminable type', parse('SELECT $1 IS NULL') + describe('S') + sync(), parse('SELECT $1, $1::int') + sync()
    )
    yield talk(
        'mixed result formats',
        parse("SELECT 1, 'a', 2.5") + bind(results=(BINARY, TEXT, BINARY)) + describe('P') + execute() + sync(),
        parse('SELECT 1, 2') + bind(results=(1, 1, 1)) + execute() + sync(),
        parse('SELECT 1') + bind(results=(7,)) + execute() + sync(),
    )
    yield talk(
        'cursor by SQL, described as a portal',
        one('BEGIN') + one('DECLARE c CURSOR FOR SELECT * FROM stock.supplier') + sync(),
        describe('P', 'c') + sync(),
        execute('c', 2) + sync(),
        one('FETCH 1 FROM c', results=(BINARY,)) + sync(),
        one('CLOSE c') + one('COMMIT') + sync(),
    )
    yield talk('COPY TO STDOUT in a pipeline', one('SELECT 1') + one('COPY (SELECT 1) TO STDOUT') + one('SELECT 2') + sync())
    yield talk(
        'settings in a pipeline',
        one("SET timezone = 'Asia/Tokyo'") + one('SHOW timezone') + sync(),
        one('BEGIN')
        + one("SET LOCAL timezone = 'UTC'")
        + one('SHOW timezone')
        + one('COMMIT')
        + one('SHOW timezone')
        + sync(),
    )
    yield talk(
        'EXPLAIN and SHOW',
        parse('EXPLAIN (COSTS OFF) SELECT * FROM stock.item WHERE item_id = $1')
        + describe('S')
        + bind([b'3'])
        + describe('P')
        + execute()
        + sync(),
        parse('SHOW timezone') + describe('S') + bind() + execute() + sync(),
    )
    yield talk(
        'SQL EXECUTE in a series',
        query('PREPARE p(int) AS SELECT $1 + 1 AS n'),
        parse('EXECUTE p(4)') + describe('S') + bind() + describe('P') + execute() + sync(),
    )
    yield talk(
        'a statement whose plan must change',
        parse('SELECT * FROM item', 's') + sync(),
        query('SET search_path = stock'),
        parse('SELECT count(*) FROM item', 's') + bind(statement='s') + execute() + sync(),
        query('SET search_path = public'),
        bind(statement='s') + execute() + sync(),
    )
    yield talk('Sync alone, twice', sync(), sync())
    yield talk(
        'error while rows are running',
        parse('SELECT 1/(3-item_id) FROM stock.item ORDER BY item_id') + bind() + describe('P') + execute() + sync(),
    )
    yield Case(
        'extended: Flush',
        [
            Exchange(parse('SELECT $1::int', 's') + describe('S', 's') + flush(), b'T'),
            Exchange(bind([b'1'], statement='s') + describe('P') + flush(), b'T'),
            Exchange(execute() + flush(), b'C'),
            Exchange(sync(), b'Z'),
        ],
    )
    yield Case(
        'extended: Flush after an error',
        [Exchange(parse('SELECT no_such') + flush(), b'E'), Exchange(parse('SELECT 1') + bind() + execute() + sync(), b'Z')],
    )
    yield Case(
        'extended: Flush between statements',
        [
            Exchange(one('SELECT 1') + flush(), b'C'),
            Exchange(one('SELECT 2') + flush(), b'C'),
            Exchange(one('SELECT 1/0') + flush(), b'E'),
            Exchange(one('SELECT 3') + sync(), b'Z'),
        ],
    )
    yield Case('extended: Flush with nothing to send', [Exchange(flush() + sync(), b'Z')])
    yield Case(
        'extended: portions with Flush',
        [
            Exchange(query('BEGIN'), b'Z'),
            Exchange(parse(item) + bind() + execute(rows=2) + flush(), b's'),
            Exchange(execute(rows=2) + flush(), b's'),
            Exchange(sync(), b'Z'),
            Exchange(query('COMMIT'), b'Z'),
        ],
    )
    yield Case(
        'message cut into single bytes',
        [Exchange(bytes([byte]), b'') for byte in query('SELECT 1')[:-1]] + [Exchange(query('SELECT 1')[-1:], b'Z')],
    )
    yield Case(
        'extended: a series cut in the middle of a message',
        [Exchange(series('SELECT 1')[:21], b''), Exchange(series('SELECT 1')[21:], b'Z')],
    )
    yield Case('a long statement', [Exchange(query(f"SELECT {'1 + ' * 1500} 1, '{'x' * 200000}'"), b'Z')])
    yield Case(
        'a large parameter', [Exchange(parse('SELECT length($1::text)') + bind([b'y' * 1000000]) + execute() + sync(), b'Z')]
    )


def all_cases():
    """Every case, each family in turn."""
    return [*columns(), *statements(), *strings(), *startups(), *extended_conversations()]
