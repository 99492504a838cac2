"""psycopg 3: server-side parameters, prepared statements, pipelines, binary results and async, all over libpq."""

import asyncio

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo
from recorder import Script, diagnostics

script = Script()
ITEMS = 'SELECT item_id, name, price, tags, state FROM stock.item ORDER BY item_id LIMIT 8'


def connect(**options):
    return psycopg.connect('', **options)


def fetched(cursor):
    columns = [(column.name, column.type_code, column.internal_size, column.precision) for column in cursor.description]
    return columns, cursor.rowcount, cursor.statusmessage, cursor.fetchall()


def error_of(connection, sql, values=None):
    """What a caller can learn from a failed statement, without the server's source position."""
    try:
        connection.execute(sql, values)
    except psycopg.Error as error:
        return diagnostics(error)
    return 'no error'


@script.read('plain and parameterised')
def plain():
    with connect() as connection:
        return fetched(connection.execute(ITEMS)), fetched(connection.execute('SELECT %s::int + 1, %s', (41, "O'Neil")))


@script.read('every type in text and binary')
def every_type():
    with connect() as connection:
        sql = 'SELECT * FROM stock.every_type WHERE id IN (0, 1) ORDER BY id'
        readable = 'SELECT c_int8, c_float8, c_numeric, c_text, c_bytea, c_timestamptz, c_uuid, c_jsonb, c_ints, c_int4range FROM stock.every_type WHERE id < 2 ORDER BY id'
        return fetched(connection.execute(sql)), fetched(connection.execute(readable, binary=True))


@script.read('prepared after the first execution')
def prepared():
    with connect(prepare_threshold=0) as connection:
        rows = [connection.execute('SELECT name FROM stock.item WHERE item_id = %s', (n,)).fetchone() for n in range(1, 6)]
        names = fetched(connection.execute('SELECT name, parameter_types, from_sql FROM pg_prepared_statements ORDER BY 1'))
        return rows, names


@script.read('prepared statements pushed out and deallocated')
def few_prepared():
    with connect(prepare_threshold=0) as connection:
        connection.prepared_max = 2
        return [connection.execute(f'SELECT {n} + %s::int', (n,)).fetchone() for n in range(6)]


@script.read('server-side cursor')
def server_cursor():
    with connect() as connection, connection.cursor('walker', scrollable=True) as cursor:
        cursor.execute('SELECT item_id, price FROM stock.item WHERE item_id > %s ORDER BY 1', (5,))
        first = cursor.fetchmany(3)
        cursor.scroll(-2)
        cursor.itersize = 9
        return first, cursor.fetchone(), cursor.fetchall(), cursor.description


@script.read('binary server-side cursor')
def binary_cursor():
    with connect() as connection, connection.cursor('walker', binary=True) as cursor:
        cursor.execute('SELECT item_id, price FROM stock.item ORDER BY 1')
        return cursor.fetchmany(4), cursor.fetchall()


@script.read('pipeline')
def pipeline():
    with connect(autocommit=True) as connection, connection.pipeline() as pipe:
        cursors = [connection.execute('SELECT %s::int * 2', (n,)) for n in range(10)]
        pipe.sync()
        return [cursor.fetchone() for cursor in cursors]


@script.read('pipeline with an error in the middle')
def failing_pipeline():
    with connect(autocommit=True) as connection:
        seen = []
        try:
            with connection.pipeline():
                cursors = [connection.execute('SELECT 10 / %s::int', (n,)) for n in (5, 0, 2)]
                seen += [cursor.fetchone() for cursor in cursors]
        except psycopg.Error as error:
            seen.append((type(error).__name__, str(error)))
        return seen, connection.info.transaction_status, connection.execute('SELECT 1').fetchone()


@script.read('transaction contexts and savepoints')
def transactions():
    with connect(autocommit=True) as connection:
        with connection.transaction():
            connection.execute('SELECT 1')
            try:
                with connection.transaction('inner'):
                    connection.execute('SELECT 1/0')
            except psycopg.Error as error:
                failed = error.sqlstate
            alive = connection.execute('SELECT 2').fetchone()
        with connection.transaction(force_rollback=True):
            connection.execute('SELECT 3')
        return failed, alive, connection.info.transaction_status


@script.read('read-only and isolation attributes')
def attributes():
    with connect() as connection:
        connection.read_only, connection.deferrable = True, True
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        return [
            connection.execute(f'SHOW transaction_{name}').fetchone() for name in ('isolation', 'read_only', 'deferrable')
        ]


@script.read('errors')
def errors():
    with connect(autocommit=True) as connection:
        texts = (
            'SELEC 1',
            "SELECT 'ü', no_such",
            'SELECT * FROM no_such',
            'SELECT 1/0',
            "SELECT 'x'::int",
            'SELECT 1; SELECT 1/0',
        )
        return [error_of(connection, text) for text in texts], error_of(connection, 'SELECT no_such + %s', (1,))


@script.read('failed transaction')
def failed_transaction():
    with connect() as connection:
        seen = [error_of(connection, 'SELECT no_such'), error_of(connection, 'SELECT 1'), connection.info.transaction_status]
        connection.rollback()
        return seen, connection.execute('SELECT 2').fetchone()


@script.read('several statements in one string')
def several():
    with connect(autocommit=True) as connection:
        cursor = connection.execute("SELECT 1; SELECT 'two', 2; SHOW timezone")
        results = [cursor.fetchall()]
        while cursor.nextset():
            results.append(cursor.fetchall())
        return results


@script.read('COPY TO STDOUT')
def copy_out():
    with connect() as connection, connection.cursor() as cursor:
        with cursor.copy('COPY stock.every_type TO STDOUT') as copy:
            text = b''.join(bytes(block) for block in copy)
        with cursor.copy('COPY (SELECT item_id, name FROM stock.item ORDER BY 1) TO STDOUT (FORMAT binary)') as copy:
            copy.set_types(['int8', 'varchar'])
            return text, list(copy.rows()), cursor.statusmessage


@script.read('rows as they arrive')
def stream():
    with connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return list(cursor.stream('SELECT item_id, name FROM stock.item ORDER BY 1 LIMIT %s', (20,)))


@script.read('types looked up in the catalogue')
def looked_up_types():
    with connect() as connection:
        box = CompositeInfo.fetch(connection, 'stock.box')
        register_composite(box, connection)
        labels = EnumInfo.fetch(connection, 'stock.condition').labels
        return box.field_names, labels, connection.execute('SELECT size FROM stock.item ORDER BY item_id LIMIT 5').fetchall()


@script.read('notices')
def notices():
    with connect(autocommit=True) as connection:
        seen = []
        connection.add_notice_handler(
            lambda diagnostic: seen.append((diagnostic.severity, diagnostic.sqlstate, diagnostic.message_primary))
        )
        for text in ('COMMIT', 'BEGIN', 'BEGIN', 'COMMIT'):
            connection.execute(text)
        return seen


@script.read('async')
def asynchronous():
    async def talk():
        async with await psycopg.AsyncConnection.connect('') as connection, connection.cursor() as cursor:
            await cursor.execute('SELECT name FROM stock.supplier WHERE supplier_id > %s ORDER BY 1', (1,))
            rows = await cursor.fetchall()
            async with connection.pipeline():
                cursors = [await connection.execute('SELECT %s::text', (word,)) for word in ('a', 'b')]
            return rows, [await one.fetchone() for one in cursors]

    return asyncio.run(talk())


@script.read('cancel')
def cancel():
    with connect(autocommit=True) as connection:
        connection.execute("SET statement_timeout = '30s'")
        connection.cancel_safe()
        return error_of(connection, 'SELECT 1')


@script.refused_by
def refused(*texts):
    """Sends the statements, of which the last is a write; how it failed, and what the connection does afterwards."""
    with connect(autocommit=True) as connection:
        try:
            for text in texts:
                connection.execute(text)
        except psycopg.Error as error:
            sqlstate, detail = error.sqlstate, error.diag.message_detail
        else:
            return None, None, 'not refused'
        names = {TransactionStatus.IDLE: 'idle', TransactionStatus.INERROR: 'failed transaction'}
        state = names.get(connection.info.transaction_status, 'other')
        aborted = error_of(connection, 'SELECT 1')
        connection.execute('ROLLBACK')
        answer = connection.execute('SELECT 42').fetchone()[0]
        return sqlstate, detail, [state, 'no error' if aborted == 'no error' else aborted[2][1], answer]


script.run()
