#!/usr/bin/env python3
"""Compares, byte by byte, what a server says directly and through the gate.

The direct session has the gate's pins in its start-up packet, so that the gate is the only difference. Masked are only
values that differ between any two sessions, and what the design names: the source fields F, L and R of errors and
notices, and the secret in BackendKeyData.

Usage: differential.py [--only TEXT] [--list] [--postgres VERSION] [--control] [--gate-port N --server-port N]
"""

import argparse
import os
import re

import deployment
import differential_cases
import wire

LOGIN = {'user': 'app', 'database': 'warehouse'}
SOURCE_FIELDS = b'FLR'
SHOWN_BYTES = 300


def masked(message):
    kind, body = message
    if kind in (b'E', b'N'):
        return kind, b'\0'.join(field for field in body.split(b'\0') if field[:1] not in SOURCE_FIELDS or not field)
    if kind == b'K':
        return kind, b'(process and secret)'
    return kind, body


def answers(case, port, pins):
    """All that the server says in the case. The greeting counts where it is refused, and in the cases about start-up:
    a wrong greeting is one difference, not one in every case."""
    connection = wire.Connection(port, {**LOGIN, **dict(case.startup or ()), **pins}.items())
    messages = list(connection.greeting)
    start = 0 if case.startup is not None or messages[-1][0] != b'Z' else len(messages)
    for exchange in case.exchanges:
        if messages[-1][0] == wire.NOTHING_MORE[0]:
            break
        try:
            connection.send(exchange.sent)
        except OSError:
            messages.append(wire.NOTHING_MORE)
            break
        if exchange.ends:
            messages += connection.until_any(last_messages(exchange))
    connection.close()
    return [masked(message) for message in messages[start:]]


def last_messages(exchange):
    """Where the wait ends: ReadyForQuery follows an error by itself, after a Flush nothing does."""
    return (b'Z',) if exchange.ends == b'Z' else (exchange.ends, b'E')


def shown(message):
    kind, body = message
    if kind in (b'E', b'N'):
        return f'{kind.decode()} {wire.error_fields(body)}'
    return f'{kind.decode()} {body[:SHOWN_BYTES]!r}{"…" if len(body) > SHOWN_BYTES else ""}'


def difference(direct, gate):
    """The first place where two lists of messages part, with one message of context; None when they are equal."""
    if direct == gate:
        return None
    same = next((n for n, pair in enumerate(zip(direct, gate)) if pair[0] != pair[1]), min(len(direct), len(gate)))
    lines = [f'      after message {same} of {len(direct)} direct, {len(gate)} through the gate']
    lines += [f'      both    {shown(message)}' for message in direct[max(same - 1, 0) : same]]
    for label, messages in (('direct ', direct), ('gate   ', gate)):
        lines += [f'      {label} {shown(message)}' for message in messages[same : same + 3]] or [
            f'      {label} nothing more'
        ]
    return '\n'.join(lines)


# What differs and why, beyond what the design names. One that does not differ any more fails the run.
KNOWN = {
    'error, simple: SELECT 0x': "the words of PostgreSQL 18's grammar",
    'error, in a transaction: SELECT 0x': "the words of PostgreSQL 18's grammar",
    'error, extended: SELECT 0x': "the words of PostgreSQL 18's grammar",
    "error, simple: SELECT U&'\\zz'": 'no HINT and no position from the parser',
    "error, in a transaction: SELECT U&'\\zz'": 'no HINT and no position from the parser',
    "error, extended: SELECT U&'\\zz'": 'no HINT and no position from the parser',
    'error, simple: SELECT no_such(1)': 'refused until functions are looked up in the catalog',
    'error, in a transaction: SELECT no_such(1)': 'refused until functions are looked up in the catalog',
    'error, extended: SELECT no_such(1)': 'refused until functions are looked up in the catalog',
    'talk: SET no_such = 1 | SHOW no.such | SELECT 1': 'a setting that is not listed is refused before it is looked up',
    'generic plan': 'before 16 EXPLAIN has no GENERIC_PLAN; the gate binds its parameters all the same',
    'extended: mixed result formats': 'format code 7 is refused with the Bind that holds it',
}


def compare(cases, server_port, gate_port, gate_pins):
    """Runs all cases; returns the failures as text."""
    failures = []
    for case in cases:
        part = difference(answers(case, server_port, deployment.PINS), answers(case, gate_port, gate_pins))
        if case.name in KNOWN and not gate_pins:
            if not part:
                failures.append(f'{case.name}\n      no longer differs: {KNOWN[case.name]}')
        elif part:
            failures.append(f'{case.name[:200]}\n{part}')
    return failures


def run():
    parser = deployment.arguments(argparse.ArgumentParser(description=__doc__.split('\n')[0]))
    parser.add_argument('--only', default='', help='only cases whose name matches this regular expression')
    parser.add_argument('--list', action='store_true', help='print the names of the cases and stop')
    parser.add_argument('--postgres', default='15', help='major version of the server')
    options = parser.parse_args()
    cases = [case for case in differential_cases.all_cases() if re.search(options.only, case.name)]
    if options.list:
        print('\n'.join(case.name for case in cases))
        return 0
    seed = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'seed.sql')
    with (
        deployment.folder() as temporary,
        deployment.server(temporary, 'trust', options.server_port, options.postgres) as server,
    ):
        server.load('warehouse', seed)
        with deployment.second_road(temporary, server, options) as port:
            failures = compare(cases, server.port, port, deployment.PINS if options.control else {})
    for failure in failures:
        print(f'DIFFERENT  {failure}')
    for case in cases:
        if case.name in KNOWN and not options.control:
            print(f'known      {case.name}: {KNOWN[case.name]}')
    print(f'{len(cases) - len(failures)} passed, {len(failures)} failed')
    return 1 if failures or not cases else 0


if __name__ == '__main__':
    deployment.main(run)
