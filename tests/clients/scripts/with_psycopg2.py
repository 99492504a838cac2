"""psycopg2: client-side parameters, named cursors, COPY, and transactions opened behind the caller's back."""

import io
import threading

import psycopg2
import psycopg2.extensions
import psycopg2.extras
from recorder import Script, diagnostics

script = Script()
ITEMS = 'SELECT item_id, name, price, tags, state FROM stock.item ORDER BY item_id LIMIT 8'
ENDLESS = 'SELECT count(*) FROM generate_series(1, 100000000) a, generate_series(1, 100000) b'
IDLE = psycopg2.extensions.TRANSACTION_STATUS_IDLE
FAILED = psycopg2.extensions.TRANSACTION_STATUS_INERROR


def connect(**session):
    connection = psycopg2.connect('')
    if session:
        connection.set_session(**session)
    return connection


def fetched(connection, sql, values=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        columns = [(column.name, column.type_code, column.internal_size, column.precision) for column in cursor.description]
        rows = [[bytes(value) if isinstance(value, memoryview) else value for value in row] for row in cursor.fetchall()]
        return columns, cursor.rowcount, cursor.statusmessage, rows


def error_of(connection, sql):
    """What a caller can learn from a failed statement, without the server's source position."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
    except psycopg2.Error as error:
        return diagnostics(error)
    return 'no error'


@script.read('autocommit')
def autocommit():
    connection = connect(autocommit=True)
    return fetched(connection, ITEMS), connection.info.transaction_status, connection.encoding, connection.server_version


@script.read('every type')
def every_type():
    return fetched(connect(), 'SELECT * FROM stock.every_type WHERE id IN (0, 1) ORDER BY id')


@script.read('parameters')
def parameters():
    sql = 'SELECT %s, %s, %s::int[], %(name)s'.replace('%s', '%(one)s')
    return fetched(connect(), sql, {'one': [1, 2], 'name': "O'Neil \\ %"}), fetched(
        connect(), 'SELECT %s, %s', (None, b'\x00\xff')
    )


@script.read('read-only session')
def read_only_session():
    connection = connect(readonly=True, autocommit=True)
    return fetched(connection, 'SELECT count(*) FROM stock.item'), fetched(connection, 'SHOW default_transaction_read_only')


@script.read('isolation levels')
def isolation_levels():
    levels = ('READ UNCOMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
    return [fetched(connect(isolation_level=level), 'SHOW transaction_isolation') for level in levels]


@script.read('deferrable read-only session')
def deferrable():
    connection = connect(isolation_level='SERIALIZABLE', readonly=True, deferrable=True)
    return fetched(connection, 'SHOW transaction_deferrable'), fetched(connection, 'SHOW transaction_read_only')


@script.read('named cursor')
def named_cursor():
    connection = connect()
    with connection.cursor('walker', scrollable=True) as cursor:
        cursor.itersize = 7
        cursor.execute('SELECT item_id FROM stock.item ORDER BY 1')
        first = cursor.fetchmany(3)
        cursor.scroll(10)
        return first, cursor.fetchone(), list(cursor)


@script.read('named cursor with hold')
def held_cursor():
    connection = connect()
    cursor = connection.cursor('holder', withhold=True)
    cursor.execute('SELECT name FROM stock.supplier ORDER BY 1')
    connection.commit()
    return cursor.fetchall()


@script.read('COPY TO STDOUT')
def copy_out():
    target = io.StringIO()
    with connect().cursor() as cursor:
        cursor.copy_expert('COPY stock.every_type TO STDOUT WITH CSV HEADER', target)
        cursor.copy_expert('COPY (SELECT * FROM stock.movement ORDER BY 1, 2) TO STDOUT', target)
    return target.getvalue()


@script.read('commit and rollback by context manager')
def context_managers():
    connection = connect()
    with connection:
        inside = fetched(connection, 'SELECT 1'), connection.info.transaction_status
    try:
        with connection:
            fetched(connection, 'SELECT 1/0')
    except psycopg2.Error as error:
        failed = error.pgcode
    return inside, failed, connection.info.transaction_status, fetched(connection, 'SELECT 2')


@script.read('failed transaction')
def failed_transaction():
    connection = connect()
    seen = [error_of(connection, 'SELECT no_such'), error_of(connection, 'SELECT 1'), connection.info.transaction_status]
    connection.rollback()
    return seen, fetched(connection, 'SELECT 3')


@script.read('errors')
def errors():
    connection = connect(autocommit=True)
    texts = (
        'SELEC 1',
        "SELECT 'ü', no_such",
        'SELECT * FROM no_such',
        'SELECT 1/0',
        "SELECT 'x'::int",
        'SELECT 1; SELECT 1/0',
    )
    return [error_of(connection, text) for text in texts], fetched(connection, 'SELECT 1')


@script.read('notices')
def notices():
    connection = connect(autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute('COMMIT')
        cursor.execute('BEGIN')
        cursor.execute('BEGIN')
    return connection.notices


@script.read('several statements in one string')
def several():
    return fetched(connect(autocommit=True), "SELECT 1; SELECT 'two', 2")


@script.read('dictionary rows and registered types')
def dictionary_rows():
    connection = connect()
    psycopg2.extras.register_composite('stock.box', connection)
    with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
        cursor.execute('SELECT size, keeps FROM stock.item ORDER BY item_id LIMIT 5')
        return cursor.fetchall()


@script.read('encoding and reset')
def encoding_and_reset():
    connection = connect()
    connection.set_client_encoding('UTF8')
    connection.cursor().execute('SELECT 1'); connection.reset()
    return fetched(connection, "SELECT 'ü'"), connection.encoding


@script.read('cancelling a running query')
def cancelling():
    connection, answered = connect(autocommit=True), threading.Event()

    def cancel_until_answered():
        # A cancel request that comes before the query has begun does nothing.
        while not answered.wait(0.1):
            connection.cancel()

    canceller = threading.Thread(target=cancel_until_answered)
    canceller.start()
    seen = error_of(connection, ENDLESS)
    answered.set()
    canceller.join()
    return seen, connection.info.transaction_status


@script.refused_by
def refused(*texts):
    """Sends the statements, of which the last is a write; how it failed, and what the connection does afterwards."""
    connection = connect(autocommit=True)
    with connection.cursor() as cursor:
        try:
            for text in texts:
                cursor.execute(text)
        except psycopg2.Error as error:
            sqlstate, detail = error.pgcode, error.diag.message_detail
        else:
            return None, None, 'not refused'
        state = {IDLE: 'idle', FAILED: 'failed transaction'}.get(connection.info.transaction_status, 'other')
        aborted = error_of(connection, 'SELECT 1')
        cursor.execute('ROLLBACK')
        cursor.execute('SELECT 42')
        return sqlstate, detail, [state, 'no error' if aborted == 'no error' else aborted[2][1], cursor.fetchone()[0]]


script.run()
