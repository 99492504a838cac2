"""Runs the checks of one client and prints what it saw, one JSON object a line.

The same script runs directly and through the gate; whoever started it compares the lines. A result is the `repr` of
what the driver returned, so that types count as well as values.

Usage of a script: SCRIPT reads | writes
"""

import functools
import json
import os
import re
import sys
import traceback

# What every driver tries to write: statements, of which only the last is a write.
WRITES = {
    'INSERT': ["INSERT INTO stock.supplier (name) VALUES ('intruder')"],
    'CREATE TABLE': ['CREATE TABLE stock.intruder (n int)'],
    'BEGIN READ WRITE, UPDATE': ['SELECT 1', 'BEGIN READ WRITE', 'UPDATE stock.item SET price = 0'],
}

# What libpq keeps of an error and a caller may see.
DIAGNOSTICS = (
    'severity',
    'sqlstate',
    'message_primary',
    'message_detail',
    'message_hint',
    'statement_position',
    'table_name',
)

OBJECT_ADDRESS = re.compile(r' at 0x[0-9a-f]+')


class Script:
    """The checks of one client, in the order in which they are declared."""

    def __init__(self):
        self.reads, self.writes = {}, {}

    def read(self, name):
        """Declares a check whose return value must not depend on the gate."""
        return lambda check: self.reads.setdefault(name, check)

    def write(self, name):
        """Declares a write. It returns (SQLSTATE, DETAIL, what the connection could do afterwards)."""
        return lambda check: self.writes.setdefault(name, check)

    def refused_by(self, attempt):
        """Declares `WRITES`; `attempt(*texts)` sends the statements and returns as a write does."""
        for name, texts in WRITES.items():
            self.writes[name] = functools.partial(attempt, *texts)
        return attempt

    def run(self):
        if sys.argv[1:] == ['writes']:
            for name, check in self.writes.items():
                print(json.dumps({'write': name, **self.attempt(check)}), flush=True)
        else:
            for name, check in self.reads.items():
                print(json.dumps({'check': name, 'result': self.result(check)}), flush=True)

    @staticmethod
    def result(check):
        try:
            return OBJECT_ADDRESS.sub('', repr(check()))
        except Exception:
            return f'raised {traceback.format_exc(limit=-1)}'

    @staticmethod
    def attempt(check):
        try:
            sqlstate, detail, afterwards = check()
        except Exception:
            return {'sqlstate': None, 'detail': None, 'afterwards': f'raised {traceback.format_exc(limit=-1)}'}
        return {'sqlstate': sqlstate, 'detail': detail, 'afterwards': afterwards}


def diagnostics(error):
    """What a caller can learn from an error of psycopg, without the server's source position."""
    return type(error).__name__, str(error), [getattr(error.diag, field) for field in DIAGNOSTICS]


def pins():
    """The settings in PGOPTIONS, for a driver that does not read it."""
    return dict(re.findall(r'-c (\w+)=(\S+)', os.environ.get('PGOPTIONS', '')))
