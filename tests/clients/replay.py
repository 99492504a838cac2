#!/usr/bin/env python3
"""Replays what real clients were seen to send, message by message, and asks the gate for the verdict it owes each.

Every step goes to the server directly and through the gate. A `must_allow` step passes when the gate refuses none of
its messages and gives the same errors as the server; a `must_deny` step passes when the gate refuses one of them. The
captured text names object ids of another database, so some reads fail on the server too: then they must fail alike.

Usage: replay.py [--corpus FOLDER] [--policy FOLDER] [--only TEXT] [--control] [--backup]

`--backup` says that the policy opens what a full dump needs: snapshots and reading large objects. Without it those
messages are left out of the steps that have them, and the step says so.
"""

import argparse
import collections
import json
import os
import re
import struct

import deployment
import wire

CORPUS = os.path.join(deployment.REPOSITORY, '..', 'shared', 'corpus', 'clients')
DEFAULT_LOGIN = {'user': 'app', 'database': 'lab'}
EXPORT_SNAPSHOT = re.compile(r'pg_export_snapshot', re.IGNORECASE)
IMPORT_SNAPSHOT = re.compile(r"(SET TRANSACTION SNAPSHOT )'[^']*'", re.IGNORECASE)

# The capture has the bytes of a binary parameter but not its declared type; drivers send small integers so.
TYPE_BY_LENGTH = {1: 16, 2: 21, 4: 23, 8: 20}

LARGE_OBJECT, INV_READ, LO_OPEN, LO_READ, LO_CLOSE = 4242, 0x40000, 952, 954, 953


def needs_backup_policy(message):
    sql = message.get('sql', '')
    return message['msg'] == 'FunctionCall' or bool(EXPORT_SNAPSHOT.search(sql) or IMPORT_SNAPSHOT.search(sql))


def binary(parameter):
    """The bytes of a parameter that the capture shows in hexadecimal, or None for one in text."""
    return bytes.fromhex(parameter[2:]) if re.fullmatch(r'0x([0-9a-f]{2})+', parameter) else None


def encoded_bind(message):
    raw = [binary(value) for value in message['params']]
    values = [text.encode() if data is None else data for text, data in zip(message['params'], raw)]
    formats = [wire.TEXT if data is None else wire.BINARY for data in raw]
    return wire.bind(values, message['portal'], message['stmt'], formats)


def declared_types(parse, following):
    """As many parameter types as the client declared, guessed from the values of the Bind that follows."""
    if not parse['ntypes']:
        return ()
    same = (m for m in following if m['msg'] == 'Bind' and m['conn'] == parse['conn'] and m['stmt'] == parse['name'])
    raw = [binary(value) for value in next(same, {'params': []})['params']]
    return [TYPE_BY_LENGTH.get(len(data), 0) if data else 0 for data in raw][: parse['ntypes']]


class LargeObjectReader:
    """The fast-path calls of pg_dump, whose arguments were not captured: open, read, close, and again."""

    def __init__(self):
        self.next_call = LO_OPEN

    def frame(self):
        call = self.next_call
        self.next_call = {LO_OPEN: LO_READ, LO_READ: LO_CLOSE, LO_CLOSE: LO_OPEN}[call]
        values = {LO_OPEN: (LARGE_OBJECT, INV_READ), LO_READ: (0, 16384), LO_CLOSE: (0,)}[call]
        body = struct.pack('!Ihhh', call, 1, wire.BINARY, len(values))
        return wire.frame(
            b'F', body + b''.join(struct.pack('!ii', 4, value) for value in values) + struct.pack('!h', wire.BINARY)
        )


class Player:
    """One road to the server: the connections of one client, kept from step to step as the client kept them."""

    def __init__(self, port, parameters=()):
        self.port, self.parameters = port, list(parameters)
        self.connections, self.owed, self.ssl = {}, collections.Counter(), set()
        self.large_objects, self.snapshot = collections.defaultdict(LargeObjectReader), None

    def open(self, number, parameters):
        # The pins come last and win, as in the gate's own start-up packet.
        chosen = {**parameters, **dict(self.parameters)}
        connection = wire.Connection(self.port, chosen.items(), number in self.ssl)
        self.connections[number] = connection
        return connection.greeting

    def connection(self, number):
        if number not in self.connections:
            self.open(number, DEFAULT_LOGIN)
        return self.connections[number]

    def play(self, message, following):
        """Sends one captured message, and returns what the server said as far as the client would have waited."""
        kind, number = message['msg'], message['conn']
        if kind == 'SSLRequest':
            self.ssl.add(number)
            return []
        if kind == 'Startup':
            return self.open(number, message['params'])
        if kind == 'Terminate':
            self.connection(number).close()
            return []
        connection = self.connection(number)
        connection.send(self.frame(message, following))
        self.owed[number] += {'Parse': 1, 'Bind': 1, 'Execute': 1, 'Close': 1, 'Describe': 1}.get(kind, 0)
        if kind in ('Query', 'Sync', 'FunctionCall'):
            self.owed[number] = 0
            return self.keep_snapshot(message, connection.until_ready())
        return self.flushed(number) if kind == 'Flush' else []

    def frame(self, message, following):
        kind = message['msg']
        if kind == 'Query':
            return wire.query(IMPORT_SNAPSHOT.sub(rf"\1'{self.snapshot}'", message['sql']))
        if kind == 'Parse':
            return wire.parse(message['sql'], message['name'], declared_types(message, following))
        if kind == 'Bind':
            return encoded_bind(message)
        if kind == 'FunctionCall':
            return self.large_objects[message['conn']].frame()
        letter = {'Describe': b'D', 'Execute': b'E', 'Close': b'C', 'Sync': b'S', 'Flush': b'H'}[kind]
        return wire.frame(letter, message.get('body', '').encode('latin-1'))

    def keep_snapshot(self, message, answers):
        if EXPORT_SNAPSHOT.search(message.get('sql', '')):
            rows = [body for kind, body in answers if kind == b'D']
            self.snapshot = rows[0][6:].decode() if rows else None
        return answers

    def flushed(self, number):
        """The answers to a series that ends in Flush: there is no ReadyForQuery to wait for, so they are counted."""
        answers, complete = [], (b'1', b'2', b'3', b'C', b's', b'I', b'T', b'n')
        while self.owed[number] > 0:
            answers.append(self.connection(number).receive())
            self.owed[number] -= answers[-1][0] in complete
            if answers[-1][0] in (b'E', wire.NOTHING_MORE[0]):
                self.owed[number] = 0
        return answers

    def close(self):
        for connection in self.connections.values():
            connection.close()


def errors(answers):
    """What went wrong, one line each: an error's SQLSTATE, message and detail, or a connection that is gone."""
    found = []
    for kind, body in answers:
        if kind == b'E':
            fields = wire.error_fields(body)
            found.append((fields.get('C', '?'), fields.get('M', ''), fields.get('D', '')))
        elif kind == wire.NOTHING_MORE[0]:
            found.append(('closed', body.decode() or 'the connection ended', ''))
    return found


def is_refusal(error):
    return error[2].startswith('SECURITY_VIOLATION')


def without_backup(messages):
    return [message for message in messages if not needs_backup_policy(message)]


def fault(step, direct, gate):
    """Plays one step on both roads; what is wrong with the gate's answers, or None."""
    refused = False
    for position, message in enumerate(step['messages']):
        following = step['messages'][position + 1 :]
        expected, seen = (errors(player.play(message, following)) for player in (direct, gate))
        refused = refused or any(map(is_refusal, seen))
        if step['expect'] == 'must_allow' and [error[0] for error in expected] != [error[0] for error in seen]:
            text = message.get('sql', message['msg'])
            return f'message {position + 1}: {" ".join(text.split())[:200]}\n      server {expected}\n      gate   {seen}'
        if any(error[0] == 'closed' for error in seen) and not any(error[0] == 'closed' for error in expected):
            return f'message {position + 1}: the gate ended the connection'
    if step['expect'] == 'must_deny' and not refused:
        return 'nothing in it was refused'
    return None


def replay(steps, server_port, gate_port, backup):
    """Plays all steps in order; returns the number of passed ones, the failures as text, and what was left out."""
    roads = collections.defaultdict(lambda: (Player(server_port, deployment.PINS.items()), Player(gate_port)))
    passed, failures, left_out = 0, [], []
    for step in steps:
        played = step if backup else {**step, 'messages': without_backup(step['messages'])}
        missing = len(step['messages']) - len(played['messages'])
        if missing:
            left_out.append(f'{step["client"]} | {step["step"]} | {missing} messages need the backup policy')
        problem = fault(played, *roads[step['client']])
        if problem is None:
            passed += 1
        else:
            failures.append(f'{step["client"]} | {step["step"][:120]} | {step["expect"]}\n      {problem}')
            for player in roads.pop(step['client']):
                player.close()
    for players in roads.values():
        for player in players:
            player.close()
    return passed, failures, left_out


def shows_passwords(step):
    """pg_dumpall asks for password hashes, which the default policy does not show even to those who may read them."""
    return step['client'].startswith('pg_dumpall') and '--no-role-passwords' not in step['step']


def captured(folder, only):
    path = os.path.join(folder, 'captured.jsonl')
    if not os.path.exists(path):
        raise deployment.Missing(f'no captured messages at {path}; name their folder with --corpus')
    with open(path) as lines:
        steps = [json.loads(line) for line in lines]
    return [step for step in steps if step['proto'] == 'postgres' and only in f'{step["client"]} {step["step"]}']


def run():
    parser = deployment.arguments(argparse.ArgumentParser(description=__doc__.split('\n')[0]))
    parser.add_argument('--corpus', default=CORPUS, help='the folder with captured.jsonl and seed_schema.sql')
    parser.add_argument('--only', default='', help='only steps whose client and name contain this')
    parser.add_argument('--backup', action='store_true', help='the policy opens what a full dump needs')
    options = parser.parse_args()
    steps = [step for step in captured(options.corpus, options.only) if not shows_passwords(step)]
    if options.control:
        steps = [step for step in steps if step['expect'] == 'must_allow']
    settings = ['shared_preload_libraries=pg_stat_statements']
    with (
        deployment.folder() as temporary,
        deployment.server(temporary, 'trust', options.server_port, settings=settings) as server,
    ):
        server.load('lab', os.path.join(options.corpus, 'seed_schema.sql'))
        with deployment.second_road(temporary, server, options) as port:
            passed, failures, left_out = replay(steps, server.port, port, options.backup or options.control)
    for line in left_out:
        print(f'left out: {line}')
    for line in failures:
        print(f'FAIL  {line}')
    print(f'{passed} passed, {len(failures)} failed')
    return 1 if failures or not passed else 0


if __name__ == '__main__':
    deployment.main(run)
