"""asyncpg: its own wire protocol, all results in binary, types read from the catalogue, a pool that resets sessions."""

import asyncio
import datetime
import io
import json

import asyncpg
from recorder import Script, pins

script = Script()
SETTINGS = {name: value for name, value in pins().items() if name != 'client_encoding'}
REPORTED = ['server_version', 'server_encoding', 'client_encoding', 'DateStyle', 'TimeZone', 'IntervalStyle']
REPORTED += ['integer_datetimes', 'standard_conforming_strings']
ITEMS = 'SELECT item_id, name, price, tags, state, size, keeps, amount FROM stock.item ORDER BY item_id LIMIT 8'


def with_connection(check):
    """Turns a coroutine over one fresh connection into a plain check."""

    async def run():
        connection = await asyncpg.connect(server_settings=SETTINGS)
        try:
            return await check(connection)
        finally:
            await connection.close()

    return lambda: asyncio.run(run())


async def error_of(connection, sql, *values):
    """What a caller can learn from a failed statement, without the server's source position."""
    try:
        await connection.fetch(sql, *values)
    except asyncpg.PostgresError as error:
        return type(error).__name__, error.severity, error.sqlstate, error.message, error.detail, error.hint, error.position
    return 'no error'


@script.read('fetch')
@with_connection
async def fetch(connection):
    return (
        await connection.fetch(ITEMS),
        await connection.fetchval('SELECT $1::int + 1', 41),
        connection.get_server_version(),
    )


@script.read('session settings as reported')
@with_connection
async def reported(connection):
    settings = connection.get_settings()
    return [getattr(settings, name) for name in REPORTED]


@script.read('every type')
@with_connection
async def every_type(connection):
    unsupported = {'c_regclass'}
    columns = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'stock.every_type'::regclass AND attnum > 0 ORDER BY attnum"
    )
    seen = {}
    for (column,) in columns:
        if column not in unsupported:
            try:
                seen[column] = await connection.fetch(f'SELECT {column} FROM stock.every_type WHERE id < 2 ORDER BY id')
            except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, OverflowError) as error:
                seen[column] = type(error).__name__, str(error)
    return seen


@script.read('type introspection')
@with_connection
async def introspection(connection):
    statement = await connection.prepare(
        'SELECT size, state, keeps, amount, i FROM stock.item i WHERE state = $1 AND keeps @> $2::date ORDER BY item_id'
    )
    return statement.get_parameters(), statement.get_attributes(), await statement.fetch('worn', datetime.date(2024, 2, 20))


@script.read('prepared statement used again')
@with_connection
async def prepared(connection):
    statement = await connection.prepare('SELECT name FROM stock.item WHERE item_id = $1')
    return [await statement.fetchval(n) for n in range(1, 6)], statement.get_statusmsg(), await statement.explain(3)


@script.read('cursor in a transaction')
@with_connection
async def cursor(connection):
    async with connection.transaction():
        rows = [row async for row in connection.cursor('SELECT item_id FROM stock.item ORDER BY 1', prefetch=7)]
        walker = await connection.cursor('SELECT item_id FROM stock.item ORDER BY 1')
        await walker.forward(4)
        return rows, await walker.fetchrow(), await walker.fetch(3)


@script.read('transactions and savepoints')
@with_connection
async def transactions(connection):
    async with connection.transaction(isolation='repeatable_read', readonly=True):
        levels = (
            await connection.fetchval('SHOW transaction_isolation'),
            await connection.fetchval('SHOW transaction_read_only'),
        )
        try:
            async with connection.transaction():
                await connection.fetch('SELECT 1/0')
        except asyncpg.PostgresError as error:
            failed = error.sqlstate
        return levels, failed, await connection.fetchval('SELECT 2'), connection.is_in_transaction()


@script.read('serializable, read-only, deferrable')
@with_connection
async def deferrable(connection):
    async with connection.transaction(isolation='serializable', readonly=True, deferrable=True):
        return await connection.fetchval('SHOW transaction_deferrable')


@script.read('COPY')
@with_connection
async def copy_out(connection):
    text, rows = io.BytesIO(), io.BytesIO()
    tags = [
        await connection.copy_from_query(
            'SELECT * FROM stock.movement WHERE delta > $1 ORDER BY 1, 2', 2, output=text, format='csv', header=True
        ),
        await connection.copy_from_table('every_type', schema_name='stock', output=rows, format='binary'),
    ]
    return tags, text.getvalue(), rows.getvalue()


@script.read('JSON codec')
@with_connection
async def json_codec(connection):
    await connection.set_type_codec('jsonb', encoder=json.dumps, decoder=json.loads, schema='pg_catalog')
    return await connection.fetchval("SELECT jsonb_build_object('a', $1::jsonb)", {'b': [1, None]})


@script.read('enum codec by text')
@with_connection
async def enum_codec(connection):
    await connection.set_type_codec('condition', encoder=str, decoder=str.upper, schema='stock', format='text')
    return await connection.fetch('SELECT DISTINCT state FROM stock.item ORDER BY 1')


@script.read('errors')
@with_connection
async def errors(connection):
    texts = ('SELEC 1', "SELECT 'ü', no_such", 'SELECT * FROM no_such', 'SELECT 1/0', 'SELECT 1; SELECT 2')
    return [await error_of(connection, text) for text in texts], await error_of(connection, 'SELECT 1/$1::int', 0)


@script.read('scripts of several statements')
@with_connection
async def several(connection):
    return (
        await connection.execute('SELECT 1; SELECT 2'),
        await connection.execute('BEGIN; SELECT 1; COMMIT'),
        await connection.execute('SHOW timezone'),
    )


@script.read('notices')
@with_connection
async def notices(connection):
    seen = []
    connection.add_log_listener(lambda _, message: seen.append((message.severity_en, message.sqlstate, message.message)))
    await connection.execute('COMMIT')
    await asyncio.sleep(0)
    return seen


@script.read('timeout cancels the query')
@with_connection
async def timeout(connection):
    try:
        await connection.fetch(
            'SELECT count(*) FROM generate_series(1, 100000000) a, generate_series(1, 100000) b', timeout=0.5
        )
    except asyncio.TimeoutError:
        return 'timed out', await connection.fetchval('SELECT 1')


@script.read('reset')
@with_connection
async def reset(connection):
    await connection.execute("SET timezone = 'Asia/Tokyo'")
    await connection.reset()
    return await connection.fetchval('SHOW timezone'), connection.get_reset_query()


@script.read('pool')
def pool():
    async def talk():
        async with asyncpg.create_pool(min_size=2, max_size=3, server_settings=SETTINGS) as connections:
            seen = []
            for _ in range(6):
                async with connections.acquire() as connection:
                    await connection.execute("SET application_name = 'borrowed'")
                    seen.append(await connection.fetchval('SELECT count(*) FROM stock.item'))
            rows = await asyncio.gather(*(connections.fetchval('SELECT $1::int', n) for n in range(9)))
            return seen, rows, await connections.fetchval('SHOW application_name')

    return asyncio.run(talk())


@script.refused_by
def refused(*texts):
    """Sends the statements, of which the last is a write; how it failed, and what the connection does afterwards."""

    @with_connection
    async def attempt(connection):
        try:
            for text in texts:
                await connection.execute(text)
        except asyncpg.PostgresError as error:
            sqlstate, detail = error.sqlstate, error.detail
        else:
            return None, None, 'not refused'
        state = 'failed transaction' if connection.is_in_transaction() else 'idle'
        aborted = await error_of(connection, 'SELECT 1')
        await connection.execute('ROLLBACK')
        return (
            sqlstate,
            detail,
            [state, 'no error' if aborted == 'no error' else aborted[2], await connection.fetchval('SELECT 42')],
        )

    return attempt()


script.run()
