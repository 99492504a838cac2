#!/usr/bin/env python3
"""Runs real clients against PostgreSQL directly and through the gate, and compares what they return.

psql, pg_dump, psycopg2, psycopg 3, asyncpg, SQLAlchemy and node-pg each do the same twice. The results must be equal,
to the byte. Then each tries to write through the gate: it must be told so, keep its connection, and change nothing.

Usage: run.py [CLIENT ...] [--policy FOLDER] [--backup] [--control] [--gate-port N --server-port N]

The drivers are installed once, at fixed versions, into a cache folder outside the tree.
"""

import argparse
import collections
import difflib
import json
import os
import shutil
import subprocess
import sys

import deployment

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.path.join(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'rowarden-clients')
PYTHON = os.path.join(CACHE, 'venv', 'bin', 'python')
SCRIPTS = {
    'psql': 'with_psql.py',
    'pg_dump': 'with_pg_dump.py',
    'psycopg2': 'with_psycopg2.py',
    'psycopg3': 'with_psycopg3.py',
    'asyncpg': 'with_asyncpg.py',
    'SQLAlchemy': 'with_sqlalchemy.py',
    'node-pg': 'with_node_pg.js',
}
CLIENT_SECONDS = 300
SHOWN_LINES = 12

# What PostgreSQL leaves behind after an error: outside a transaction nothing, inside one a transaction that has failed.
AFTER_ERROR = ['idle', 'no error', 42]
AFTER_ERROR_IN_TRANSACTION = ['failed transaction', '25P02', 42]

Outcome = collections.namedtuple('Outcome', 'client checks equal refused writes problems')


def installed_when(marker, text, install):
    """Runs `install` unless it has run to its end for exactly this text before."""
    path = os.path.join(CACHE, marker)
    if os.path.exists(path):
        with open(path) as done:
            if done.read() == text:
                return
    print(f'installing {marker} into {CACHE}', flush=True)
    install()
    with open(path, 'w') as done:
        done.write(text)


def contents(name):
    with open(os.path.join(HERE, name)) as file:
        return file.read()


def install_python_drivers():
    if subprocess.run([sys.executable, '-c', 'import venv, ensurepip'], capture_output=True, check=False).returncode:
        raise deployment.Missing('python3 lacks venv; install it: apt-get install -y python3-venv')
    subprocess.run([sys.executable, '-m', 'venv', '--clear', os.path.join(CACHE, 'venv')], check=True)
    quiet = ['--quiet', '--disable-pip-version-check']
    subprocess.run([PYTHON, '-m', 'pip', 'install', *quiet, '-r', os.path.join(HERE, 'requirements.txt')], check=True)


def install_node_drivers():
    folder = os.path.join(CACHE, 'node')
    os.makedirs(folder, exist_ok=True)
    shutil.copy(os.path.join(HERE, 'package.json'), folder)
    subprocess.run(['npm', 'install', '--silent', '--no-audit', '--no-fund', '--prefix', folder], check=True)


def install_drivers(clients):
    """Everything that the chosen clients need; a missing tool is an error, because a skipped client proves nothing."""
    os.makedirs(CACHE, exist_ok=True)
    installed_when('python-drivers', contents('requirements.txt'), install_python_drivers)
    if 'node-pg' in clients:
        if not (shutil.which('node') and shutil.which('npm')):
            raise deployment.Missing('node and npm not found; install them: apt-get install -y nodejs npm')
        installed_when('node-drivers', contents('package.json'), install_node_drivers)


def lines_of(client, mode, environment):
    """What the client's script printed, as objects; one that hangs or fails adds an object that fits nothing."""
    script = os.path.join(HERE, 'scripts', SCRIPTS[client])
    command = ['node', script, mode] if script.endswith('.js') else [PYTHON, script, mode]
    timed = ['timeout', '--kill-after=5', str(CLIENT_SECONDS), *command]
    run = subprocess.run(timed, env=environment, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    if run.returncode or not lines:
        name = 'the end of the script'
        lines.append(
            {'check': name, 'write': name, 'result': f'raised {run.returncode}: {run.stderr}', 'sqlstate': run.stderr}
        )
    return lines


def parting(direct, gate):
    """How two results differ, in a few lines."""
    split = [text.replace('\\n', '\n').splitlines() for text in (direct, gate)]
    lines = list(difflib.unified_diff(*split, 'direct', 'gate', lineterm='', n=1))
    shown = [line[:300] for line in lines[:SHOWN_LINES]]
    return '\n'.join(f'      {line}' for line in shown + ['…'] * (len(lines) > SHOWN_LINES))


def differences(direct, gate):
    """The names of checks whose results differ, with how; a check that one side lacks differs as well."""
    here, there = ({line['check']: line['result'] for line in lines} for lines in (direct, gate))
    unequal = {}
    for name in dict.fromkeys([*here, *there]):
        expected, seen = here.get(name, ''), there.get(name, '')
        if expected != seen:
            unequal[name] = parting(expected, seen)
        elif expected.startswith('raised'):
            unequal[name] = f'      fails without the gate, so it compares nothing: {expected}'
    return len({*here, *there}), unequal


def wrongly_answered(attempt):
    """What is wrong with the answer to a write, or None."""
    if attempt['sqlstate'] != '25006':
        return f'expected SQLSTATE 25006, seen {attempt}'
    if not (attempt['detail'] or '').startswith('SECURITY_VIOLATION'):
        return f'not the refusal of the gate: {attempt}'
    expected = AFTER_ERROR_IN_TRANSACTION if attempt['write'].startswith('BEGIN') else AFTER_ERROR
    if attempt['afterwards'] != expected:
        return f'afterwards expected {expected}, seen {attempt["afterwards"]}'
    return None


def examined(client, server, port, options):
    """One client's reads on both roads and, through the gate, its writes."""
    common = {
        'ROWARDEN_PG_BIN': server.bin,
        'ROWARDEN_BACKUP': str(int(options.backup)),
        'NODE_PATH': os.path.join(CACHE, 'node', 'node_modules'),
    }
    direct = deployment.login(server.port, 'app', 'warehouse', pinned=True) | common
    gate = deployment.login(port, 'app', 'warehouse', pinned=options.control) | common
    before = server.dump()
    checks, unequal = differences(lines_of(client, 'reads', direct), lines_of(client, 'reads', gate))
    attempts = [] if options.control else lines_of(client, 'writes', gate)
    wrong = {attempt['write']: wrongly_answered(attempt) for attempt in attempts if wrongly_answered(attempt)}
    problems = [f'{client}: {name}\n{text}' for name, text in unequal.items()]
    problems += [f'{client}: write {name}\n      {text}' for name, text in wrong.items()]
    if server.dump() != before:
        problems.append(f'{client}: the data changed')
    return Outcome(client, checks, checks - len(unequal), len(attempts) - len(wrong), len(attempts), problems)


def report(outcomes):
    """Prints the table and the problems; returns the exit code."""
    print(f'{"client":<12} {"checks":>7} {"equal":>7} {"refused writes":>15}')
    for outcome in outcomes:
        print(f'{outcome.client:<12} {outcome.checks:>7} {outcome.equal:>7} {f"{outcome.refused} of {outcome.writes}":>15}')
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    for problem in problems:
        print(f'FAIL  {problem}')
    print(f'{sum(outcome.equal + outcome.refused for outcome in outcomes)} passed, {len(problems)} failed')
    return 1 if problems else 0


def run():
    parser = deployment.arguments(argparse.ArgumentParser(description=__doc__.split('\n')[0]))
    parser.add_argument('clients', nargs='*', help=f'some of: {", ".join(SCRIPTS)}; all when left out')
    parser.add_argument('--backup', action='store_true', help='the policy opens what a full dump needs')
    options = parser.parse_args()
    unknown = set(options.clients) - set(SCRIPTS)
    if unknown:
        parser.error(f'no such client: {", ".join(sorted(unknown))}')
    clients = options.clients or list(SCRIPTS)
    deployment.postgres_bin()
    install_drivers(clients)
    with deployment.folder() as temporary, deployment.server(temporary, port=options.server_port) as server:
        server.load('warehouse', os.path.join(HERE, 'seed.sql'))
        server.load('attachments', os.path.join(HERE, 'seed_large_object.sql'))
        with deployment.second_road(temporary, server, options) as port:
            outcomes = [examined(client, server, port, options) for client in clients]
    return report(outcomes)


if __name__ == '__main__':
    deployment.main(run)
