"""SQLAlchemy over psycopg2 and psycopg 3: reflection of everything, the ORM, isolation levels and a pool that pings."""

import decimal
import functools
import warnings

import sqlalchemy
from recorder import Script
from sqlalchemy import orm, text

script = Script()
warnings.simplefilter('ignore', sqlalchemy.exc.SAWarning)
DRIVERS = ('psycopg2', 'psycopg')
PER_TABLE = (
    'columns',
    'pk_constraint',
    'foreign_keys',
    'indexes',
    'unique_constraints',
    'check_constraints',
    'table_comment',
    'table_options',
)


class Base(orm.DeclarativeBase):
    pass


class Supplier(Base):
    __tablename__ = 'supplier'
    __table_args__ = {'schema': 'stock'}
    supplier_id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]
    items: orm.Mapped[list['Item']] = orm.relationship(back_populates='supplier', order_by='Item.item_id')


class Item(Base):
    __tablename__ = 'item'
    __table_args__ = {'schema': 'stock'}
    item_id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    supplier_ref: orm.Mapped[int] = orm.mapped_column(sqlalchemy.ForeignKey('stock.supplier.supplier_id'))
    name: orm.Mapped[str]
    price: orm.Mapped[decimal.Decimal | None]
    supplier: orm.Mapped[Supplier] = orm.relationship(back_populates='items')


def engine(driver, **options):
    return sqlalchemy.create_engine(f'postgresql+{driver}://', **options)


def read_with_each_driver(name):
    """Declares the check once for every driver; it is called with the driver's name."""

    def declare(check):
        for driver in DRIVERS:
            script.read(f'{name} ({driver})')(functools.partial(check, driver))
        return check

    return declare


@read_with_each_driver('connect')
def connect(driver):
    with engine(driver).connect() as connection:
        info = connection.dialect.server_version_info, connection.dialect.default_schema_name
        return (
            info,
            connection.execute(text('SELECT 1')).all(),
            connection.execute(text('SELECT :a, :b'), {'a': 1, 'b': 'ü'}).all(),
        )


@read_with_each_driver('inspector')
def inspector(driver):
    inspected = sqlalchemy.inspect(engine(driver))
    seen = {}
    for schema in inspected.get_schema_names():
        if schema == 'information_schema':
            continue
        names = (
            inspected.get_table_names(schema),
            inspected.get_view_names(schema),
            inspected.get_materialized_view_names(schema),
        )
        seen[schema] = (
            *map(sorted, names),
            sorted(inspected.get_sequence_names(schema)),
            inspected.get_enums(schema),
            inspected.get_domains(schema),
        )
        for table in sorted(names[0]):
            seen[schema, table] = [getattr(inspected, f'get_{what}')(table, schema) for what in PER_TABLE]
        for view in sorted(names[1] + names[2]):
            seen[schema, view] = inspected.get_view_definition(view, schema), inspected.get_columns(view, schema)
    return seen


@read_with_each_driver('MetaData.reflect')
def reflect(driver):
    metadata, source = sqlalchemy.MetaData(), engine(driver)
    for schema in ('public', 'stock', 'Odd Names'):
        metadata.reflect(source, schema=schema, views=True)
    return sorted((name, repr(table)) for name, table in metadata.tables.items())


@read_with_each_driver('ORM')
def with_orm(driver):
    with orm.Session(engine(driver)) as session:
        suppliers = session.scalars(
            sqlalchemy.select(Supplier).options(orm.selectinload(Supplier.items)).order_by(Supplier.supplier_id)
        ).all()
        eager = [(supplier.name, [(item.name, item.price) for item in supplier.items]) for supplier in suppliers]
        lazy = session.get(Item, 7).supplier.name
        total = session.scalar(
            sqlalchemy.select(sqlalchemy.func.sum(Item.price)).join(Item.supplier).where(Supplier.name.like('supplier%'))
        )
        return eager, lazy, total


@read_with_each_driver('nested transaction')
def nested(driver):
    with engine(driver).begin() as connection:
        try:
            with connection.begin_nested():
                connection.execute(text('SELECT 1/0'))
        except sqlalchemy.exc.DBAPIError as error:
            failed = type(error.orig).__name__, str(error.orig)
        return failed, connection.execute(text('SELECT 2')).all()


@read_with_each_driver('isolation levels')
def isolation_levels(driver):
    seen = []
    for level in ('AUTOCOMMIT', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'):
        with engine(driver).connect().execution_options(isolation_level=level) as connection:
            seen.append(
                (level, connection.get_isolation_level(), connection.execute(text('SHOW transaction_isolation')).scalar())
            )
    return seen


@read_with_each_driver('read-only, deferrable, streamed')
def read_only(driver):
    options = {'postgresql_readonly': True, 'postgresql_deferrable': True, 'isolation_level': 'SERIALIZABLE'}
    with engine(driver).connect().execution_options(**options) as connection:
        state = [connection.execute(text(f'SHOW transaction_{name}')).scalar() for name in ('read_only', 'deferrable')]
        rows = connection.execution_options(stream_results=True, max_row_buffer=5).execute(
            text('SELECT item_id FROM stock.item ORDER BY 1')
        )
        return state, [list(part) for part in rows.partitions(7)]


@read_with_each_driver('pool that pings')
def pool(driver):
    source, seen = engine(driver, pool_pre_ping=True, pool_size=1), []
    for _ in range(3):
        with source.connect() as connection:
            seen.append(connection.execute(text('SELECT count(*) FROM stock.item')).scalar())
    return seen


@read_with_each_driver('errors')
def errors(driver):
    seen = []
    with engine(driver).connect() as connection:
        for sql in ('SELEC 1', "SELECT 'ü', no_such", 'SELECT * FROM no_such', 'SELECT 1/0'):
            try:
                connection.execute(text(sql))
            except sqlalchemy.exc.DBAPIError as error:
                seen.append((type(error.orig).__name__, str(error.orig)))
            connection.rollback()
        return seen, connection.execute(text('SELECT 1')).all()


@script.refused_by
def refused(*texts):
    """Sends the statements, of which the last is a write; how it failed, and what the connection does afterwards."""
    with engine('psycopg2', isolation_level='AUTOCOMMIT').connect() as connection:
        try:
            for sql in texts:
                connection.execute(text(sql))
        except sqlalchemy.exc.DBAPIError as error:
            sqlstate, detail = error.orig.pgcode, error.orig.diag.message_detail
        else:
            return None, None, 'not refused'
        try:
            connection.execute(text('SELECT 1'))
            state, aborted = 'idle', 'no error'
        except sqlalchemy.exc.DBAPIError as error:
            state, aborted = 'failed transaction', error.orig.pgcode
        connection.execute(text('ROLLBACK'))
        return sqlstate, detail, [state, aborted, connection.execute(text('SELECT 42')).scalar()]


script.run()
