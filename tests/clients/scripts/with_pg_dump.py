"""pg_dump, pg_dumpall and pg_restore: a dump through the gate is the same file, and nothing can be restored through it.

Large objects and parallel dumps need calls that the shipped policy refuses; `ROWARDEN_BACKUP=1` says that the policy
in force opens them.
"""

import functools
import os
import re
import subprocess
import tempfile

from recorder import Script

script = Script()

# Newer dumps guard their meta-commands with a key that is random in every run.
RESTRICT_KEY = re.compile(r'^(\\(?:un)?restrict) \w+$', re.MULTILINE)
BACKUP = os.environ.get('ROWARDEN_BACKUP') == '1'


def program(name, *arguments, user=None):
    """Exit code, output and errors; of user `app`, or of the superuser where a dump needs more rights."""
    environment = {**os.environ, **({'PGUSER': user, 'PGPASSWORD': user} if user else {})}
    command = [os.path.join(os.environ['ROWARDEN_PG_BIN'], name), *arguments]
    run = subprocess.run(command, capture_output=True, env=environment, check=False)
    return run.returncode, RESTRICT_KEY.sub(r'\1', run.stdout.decode()), run.stderr.decode()


def archive(*arguments):
    """A dump into a file or folder, as its table of contents and as the script it restores to.

    The first lines of the table of contents carry the time at which the dump began.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'dump')
        dumped = program('pg_dump', *arguments, '-f', path)
        code, contents, errors = program('pg_restore', '-l', path)
        contents = re.sub(r'^; Archive created at .*$', '; Archive created at (masked)', contents, flags=re.MULTILINE)
        return dumped, (code, contents, errors), program('pg_restore', '-f', '-', path)


DUMPS = [
    ('--schema-only',),
    ('--schema-only', '--no-owner', '--no-privileges'),
    ('--schema-only', '--create', '--clean', '--if-exists'),
    (),
    ('--data-only', '--inserts'),
    ('--data-only', '--column-inserts', '--rows-per-insert=7'),
    ('-t', 'stock.item'),
    ('-t', 'stock.movement*', '--data-only'),
    ('-n', '"Odd Names"'),
    ('-T', 'stock.every_type', '--section=data'),
    ('--section=pre-data',),
    ('--section=post-data',),
    ('--serializable-deferrable', '--schema-only'),
    ('--lock-wait-timeout=1000', '--schema-only'),
    ('--quote-all-identifiers', '--schema-only'),
    ('--strict-names', '-t', 'stock.no_such'),
    ('--enable-row-security', '-t', 'public.note'),
    ('-B', 'attachments'),
]

for arguments in DUMPS:
    script.read(f'pg_dump {" ".join(arguments)}')(functools.partial(program, 'pg_dump', *arguments))
script.read('pg_dump as superuser')(functools.partial(program, 'pg_dump', user='postgres'))
script.read('pg_dump -Fc')(functools.partial(archive, '-Fc'))
script.read('pg_dump -Ft')(functools.partial(archive, '-Ft'))
script.read('pg_dump -Fd')(functools.partial(archive, '-Fd'))
# The default policy does not show password hashes, even to those who may read them.
GLOBALS = ('--globals-only', '--no-role-passwords')
SCHEMAS = ('--schema-only', '--no-role-passwords')
script.read('pg_dumpall --globals-only')(functools.partial(program, 'pg_dumpall', *GLOBALS, user='postgres'))
script.read('pg_dumpall --schema-only')(functools.partial(program, 'pg_dumpall', *SCHEMAS, user='postgres'))
script.read('pg_isready')(lambda: program('pg_isready', '-q'))
if BACKUP:
    script.read('pg_dump with large objects')(functools.partial(program, 'pg_dump', 'attachments'))
    script.read('pg_dump -Fc with large objects')(functools.partial(archive, '-Fc', 'attachments'))
    script.read('pg_dump -Fd -j 2')(functools.partial(archive, '-Fd', '-j', '2'))


def refused(*arguments):
    """Restores a dump into the database that it came from; pg_restore prints no SQLSTATE, so the message stands for it."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'dump')
        program('pg_dump', '-Fc', '-f', path)
        code, _, errors = program('pg_restore', '--exit-on-error', '-d', os.environ['PGDATABASE'], *arguments, path)
    if not code:
        return None, None, 'not refused'
    message, detail = re.search(r'(?:ERROR|FATAL): +(.*)', errors), re.search(r'DETAIL: +(.*)', errors)
    is_write = message and message[1].startswith('Database modification not permitted.')
    alive = program('psql', '-XAtc', 'select 42')[1].split()
    return '25006' if is_write else errors, detail and detail[1], ['idle', 'no error', *map(int, alive)]


@script.write('restore rows')
def restore_rows():
    return refused('--data-only', '-t', 'supplier')


@script.write('restore the schema')
def restore_schema():
    return refused('--schema-only', '-t', 'supplier')


@script.write('clean and restore in one transaction')
def restore_clean():
    return refused('--clean', '--single-transaction', '-t', 'item')


script.run()
