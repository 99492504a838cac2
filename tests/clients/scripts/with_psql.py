"""psql: the whole \\d family, \\copy, \\gdesc, cursors by FETCH_COUNT, error carets and strings of several statements."""

import functools
import os
import re
import subprocess

from recorder import Script

script = Script()
PSQL = os.path.join(os.environ['ROWARDEN_PG_BIN'], 'psql')
TABLES = [
    'stock.item',
    'stock.supplier',
    'stock.every_type',
    'stock.movement',
    'stock.movement_2024',
    'public.note',
    'public.note_archive',
]
TABLES += [
    'public.scratch',
    'public.empty_table',
    '"Odd Names"."Select"',
    'stock.cheap_item',
    'stock.item_count',
    'stock.ticket',
]
TABLES += ['stock.item_by_tags', 'stock.box', 'stock.supplier_supplier_id_seq', 'pg_catalog.pg_class', 'no_such']

# The family, with and without what is in the system's schemas. \\conninfo prints the port, \\l+ and \\db+ sizes that any
# connection may change: those three are left out.
LISTS = r"""
\l; \d; \d+; \dt; \dt+; \dt+ stock.*; \dt *.*; \di; \di+ stock.*; \dv; \dv+ stock.*; \dm+ stock.*; \ds+ stock.*; \dE
\df+ stock.*; \df *.*; \da; \da stock.*; \do; \do+ stock.*; \dT; \dT+ stock.*; \dC; \dD; \dD+ stock.*; \dO+ stock.*
\dc; \du; \du+; \dg; \dn; \dn+; \dp; \dp stock.*; \z; \ddp; \dx; \dx+; \db; \dd; \dd stock.*; \dl; \dL; \dL+; \dy; \dP
\dP+ stock.*; \dX stock.*; \dRp; \dRp+; \dRs; \drds; \dconfig; \dconfig *; \dA; \dA+; \dAc; \dAf; \dAo; \dAp; \dF
\dF+; \dFd; \dFp; \dFt; \des; \dew; \det; \deu; \sf stock.restock; \sf+ stock.restock; \sf no_such
\sv stock.cheap_item; \sv+ stock.cheap_item; \encoding; \dn no_such
"""

COMMANDS = [
    'select * from stock.item order by 1',
    'select * from stock.every_type order by 1',
    'show all',
    'explain select * from stock.item where item_id = 3',
    'explain (analyze, costs off, timing off, summary off) select count(*) from stock.item',
    'SELEC 1',
    'select 1 from\n  no_such',
    "select 'grün',\n  no_such_column",
    'select 1/0',
    "select 'open",
    'select 1; select 2',
    'select 1; select 1/0; select 2',
    'select 1; selec 2',
    'begin; select 1; commit',
    'begin; select 1/0; commit',
    'select 1; commit; select 2',
    'select 1; rollback',
    'copy (select * from stock.item order by 1) to stdout',
    'copy stock.every_type to stdout with csv header',
    r'\copy (select item_id, name from stock.item order by 1) to stdout',
    r'\copy stock.supplier to stdout csv',
    r'\copy (select no_such) to stdout',
    '',
]

INPUTS = {
    r'\gdesc': 'select item_id, name, size, tags from stock.item \\gdesc\nselect no_such \\gdesc\n',
    r'\gset and variables': 'select 7 as n \\gset\nselect :n + 1, :\'n\', :"n" from (select 7 as "7") s;\n',
    r'\gx': 'select * from stock.every_type where id < 2 order by id \\gx\n',
    r'\gexec': "select format('select %s', n) from generate_series(1, 3) n \\gexec\n",
    r'\crosstabview': 'select supplier_ref, state, count(*) from stock.item group by 1, 2 order by 1, 2 \\crosstabview\n',
    r'\errverbose is empty, \echo': 'select 1;\n\\echo :ROW_COUNT :SQLSTATE :ERROR :LAST_ERROR_MESSAGE\n',
    'error variables': 'select 1/0;\n\\echo :ROW_COUNT :SQLSTATE :ERROR :LAST_ERROR_MESSAGE\n',
    'FETCH_COUNT': '\\set FETCH_COUNT 10\nselect item_id, name from stock.item order by 1;\nselect no_such;\nselect 1/(15-item_id) from stock.item order by item_id;\n',
    'FETCH_COUNT in a transaction': '\\set FETCH_COUNT 7\nbegin;\nselect item_id from stock.item order by 1;\ncommit;\n',
    'failed transaction': 'begin;\nselect 1/0;\nselect 2;\nsavepoint a;\nrollback;\nselect 3;\n',
    'ON_ERROR_ROLLBACK': '\\set ON_ERROR_ROLLBACK on\nbegin;\nselect 1/0;\nselect 2;\ncommit;\n',
    'savepoints': 'begin;\nsavepoint a;\nselect 1/0;\nrollback to a;\nselect 2;\nrelease a;\ncommit;\n',
    'AUTOCOMMIT off': '\\set AUTOCOMMIT off\nselect 1;\nselect 1/0;\nselect 2;\nrollback;\nselect 3;\ncommit;\n',
    'cursors': 'begin;\ndeclare c scroll cursor for select item_id from stock.item order by 1;\nfetch 3 from c;\nmove 5 in c;\nfetch backward 2 from c;\nclose c;\nend;\n',
    'prepared statements': "prepare p(int) as select $1 + 1 as n;\nexecute p(1);\nexecute p('x');\nexplain (costs off) execute p(2);\ndeallocate p;\nexecute p(1);\n",
    'statements joined by \\;': 'select 1\\; select 2\\; select 3;\nbegin\\; select 4\\; commit;\nselect 5\\; select 1/0\\; select 6;\n',
    'settings': "set datestyle = german;\nselect date '2024-02-29';\nset search_path = stock;\nselect count(*) from item;\nreset all;\nshow search_path;\ndiscard all;\n",
    'warnings': 'commit;\nbegin;\nbegin;\nend;\nset local timezone = utc;\n',
    r'\if and \watch-free scripts': '\\if true\nselect 1;\n\\else\nselect 2;\n\\endif\n',
}

BIND = 'select $1::int + $2::int \\bind 1 2 \\g\nselect $1 \\bind a \\g\n'


def psql(*arguments, typed=None):
    """Exit code, output and errors of one run that reads no start-up file."""
    run = subprocess.run([PSQL, '-X', *arguments], input=typed, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout, run.stderr


for name in re.split(r'[;\n] *', LISTS.strip()):
    script.read(name)(functools.partial(psql, '-c', name))
for table in TABLES:
    script.read(rf'\d {table}')(functools.partial(psql, '-c', rf'\d {table}'))
    script.read(rf'\d+ {table}')(functools.partial(psql, '-c', rf'\d+ {table}'))
for command in COMMANDS:
    script.read(f'-c {command!r}')(functools.partial(psql, '-c', command))
for name, typed in INPUTS.items():
    script.read(name)(functools.partial(psql, typed=typed))
script.read('-1')(functools.partial(psql, '-1', '-c', 'select 1', '-c', 'select 2'))
script.read('-1, failing')(functools.partial(psql, '-1', '-c', 'select 1', '-c', 'select 1/0', '-c', 'select 2'))
script.read('several -c')(functools.partial(psql, '-c', 'select 1', '-c', 'select 1/0', '-c', 'select 3'))
script.read('-E shows its own queries')(functools.partial(psql, '-E', '-c', r'\d stock.item'))
script.read('-A -t -F, -R')(functools.partial(psql, '-A', '-t', '-F,', '-c', 'select * from stock.supplier'))
script.read('--csv')(functools.partial(psql, '--csv', '-c', 'select * from stock.item order by 1'))
script.read('--html')(functools.partial(psql, '--html', '-c', 'select * from stock.supplier'))
if (
    int(re.search(r'\d+', subprocess.run([PSQL, '--version'], capture_output=True, text=True, check=True).stdout).group())
    >= 16
):
    script.read(r'\bind')(functools.partial(psql, typed=BIND))


@script.refused_by
def refused(*texts):
    """Sends each text as a message of its own; how the last failed, and what the connection does afterwards."""
    after = ['select 1', 'rollback', 'select 42']
    words = [word for text in [*texts, *after] for word in ('-c', text)]
    _, output, errors = psql('-A', '-t', '-v', 'VERBOSITY=verbose', '-v', 'SHOW_CONTEXT=never', *words)
    states = re.findall(r'^(?:ERROR|FATAL): +(\w{5}):', errors, re.MULTILINE)
    detail = re.search(r'^DETAIL: +(.*)$', errors, re.MULTILINE)
    if not states:
        return None, None, 'not refused'
    state, aborted = ('failed transaction', states[1]) if len(states) > 1 else ('idle', 'no error')
    return states[0], detail and detail[1], [state, aborted, int(output.split()[-1])]


script.run()
