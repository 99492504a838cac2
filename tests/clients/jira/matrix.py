#!/usr/bin/env python3
"""Runs real JIRA clients against the stand-in for a site directly and through the gate, and compares what they return.

Each read must return the same twice, but for the address of the site, which is the gate's in what comes through it; only
reads that directly succeed with content count. Each write must directly succeed and change something, and fail through the
gate with words that name the operation and change nothing.

Usage: matrix.py [CLIENT ...]. The clients are installed once, at fixed versions, into a cache folder outside the tree.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.path.join(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'rowarden-clients')
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
PYTHON = {'requirements.txt': 'jira-venv', 'requirements-mcp.txt': 'jira-mcp-venv'}
# Script, what it needs, and how many reads must succeed directly with content.
CLIENTS = {
    'python-jira': ('with_python_jira.py', 'requirements.txt', 22),
    'atlassian-python-api': ('with_atlassian.py', 'requirements.txt', 20),
    'mcp-atlassian': ('with_mcp_atlassian.py', 'requirements-mcp.txt', 30),
    'jira.js': ('with_jira_js.js', 'package.json', 20),
}
CLIENT_SECONDS = 300
READY_SECONDS = 30


def binary():
    path = os.environ.get('ROWARDEN_BIN') or os.path.join(ROOT, 'target', 'release', 'rowarden')
    if not os.path.exists(path):
        sys.exit(f'{path} is not there; build it: cargo build --release')
    return path


def install(needs):
    """Installs a client unless it has been installed to the end for exactly these needs before."""
    with open(os.path.join(HERE, needs)) as file:
        text = file.read()
    folder = os.path.join(CACHE, PYTHON.get(needs, 'jira-node'))
    marker = os.path.join(folder, 'installed')
    if os.path.exists(marker):
        with open(marker) as file:
            if file.read() == text:
                return folder
    print(f'installing {needs} into {folder}', flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    if needs == 'package.json':
        shutil.copy(os.path.join(HERE, needs), folder)
        subprocess.run(['npm', 'install', '--silent', '--no-audit', '--no-fund', '--prefix', folder], check=True)
    else:
        subprocess.run([sys.executable, '-m', 'venv', folder], check=True)
        pip = [os.path.join(folder, 'bin', 'python'), '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
        subprocess.run([*pip, '-r', os.path.join(HERE, needs)], check=True)
    with open(marker, 'w') as file:
        file.write(text)
    return folder


@contextlib.contextmanager
def running(command, **options):
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def wait_until_open(port, process):
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(('127.0.0.1', port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit('the gate did not begin')


@contextlib.contextmanager
def site():
    """A fresh stand-in: its URL and its token."""
    with running([binary(), 'demo', '--jira-only'], stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().split()


@contextlib.contextmanager
def gate(site_url, site_token):
    """A gate before it: its URL and its token."""
    port, token = free_port(), 'token-of-the-gate'
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (('credential', f'Bearer {site_token}'), ('clients', f'matrix:{token}\n')):
            path = os.path.join(folder, name)
            with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), 'w') as file:
                file.write(text)
        config = os.path.join(folder, 'rowarden.toml')
        with open(config, 'w') as file:
            file.write(
                f'[jira]\nlisten = "127.0.0.1:{port}"\nupstream = "{site_url}"\n'
                f'credential = "file:{folder}/credential"\nclients = "file:{folder}/clients"\n'
                'groups = ["dev-status", "personal-data"]\n'
                f'[audit]\ndir = "{folder}/audit"\n'
            )
        with running([binary(), 'serve', '--config', config], stderr=subprocess.DEVNULL) as process:
            wait_until_open(port, process)
            yield f'http://127.0.0.1:{port}', token


def run(client, url, token, site_url, phase):
    script, needs, _ = CLIENTS[client]
    folder = install(needs)
    environment = dict(os.environ)
    if needs == 'package.json':
        program = 'node'
        environment['NODE_PATH'] = os.path.join(folder, 'node_modules')
    else:
        program = os.path.join(folder, 'bin', 'python')
    command = [program, os.path.join(HERE, script), url, token, site_url, phase]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True, timeout=CLIENT_SECONDS)
    return json.loads(done.stdout)


def compare_reads(client):
    with site() as (site_url, site_token), gate(site_url, site_token) as (gate_url, gate_token):
        direct = run(client, site_url, site_token, site_url, 'reads')
        guarded = run(client, gate_url, gate_token, site_url, 'reads')
    counted, problems = 0, []
    for name, expected in direct.items():
        if not expected.get('value'):
            problems.append(f'{name}: does not succeed directly: {str(expected)[:200]}')
            continue
        counted += 1
        # What names the site comes through the gate with the gate's own name.
        found = json.loads(json.dumps(guarded[name]).replace(gate_url, site_url))
        if found.get('value') != expected['value']:
            problems.append(f'{name}: differs through the gate: {str(found)[:300]}')
        if found['changes']:
            problems.append(f'{name}: changed something through the gate')
    if counted < CLIENTS[client][2]:
        problems.append(f'only {counted} reads succeed directly')
    return counted, problems


def compare_writes(client):
    with site() as (site_url, site_token):
        direct = run(client, site_url, site_token, site_url, 'writes')
    with site() as (site_url, site_token), gate(site_url, site_token) as (gate_url, gate_token):
        guarded = run(client, gate_url, gate_token, site_url, 'writes')
    problems = []
    for name, outcome in direct.items():
        if 'error' in outcome or not outcome['changes']:
            problems.append(f'{name}: changes nothing directly: {str(outcome)[:200]}')
        refused = guarded[name]
        words = refused.get('error') or json.dumps(refused.get('value'))
        if name not in words or refused['changes']:
            problems.append(f'{name}: {refused["changes"]} changes through the gate, and it says: {words[:300]}')
    return len(direct), problems


def main():
    clients = sys.argv[1:] or list(CLIENTS)
    passed = failed = 0
    for client in clients:
        reads, problems = compare_reads(client)
        writes, more = compare_writes(client)
        problems += more
        print(f'{client}: {reads} reads equal to direct, {writes} writes refused by name, {len(problems)} problems', flush=True)
        for problem in problems:
            print('   ', problem)
        passed, failed = passed + reads + writes - len(problems), failed + len(problems)
    print(f'{passed} passed, {failed} failed')
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
