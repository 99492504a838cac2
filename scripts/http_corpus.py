#!/usr/bin/env python3
"""Fires raw HTTP requests at a gate and holds what a recording upstream saw against each row.

    scripts/http_corpus.py FILE.jsonl… [--program PATH] [--verbose]

Every line of a FILE is one case: the exact bytes (`raw_b64`, or `raw_zlib_b64`), what must become of
them (`expect`), and what an upstream may see of them. Rows with `direction: upstream->gate` are
answers: they are given to the gate in answer to a read. Adding rows of the same kinds needs no code.
Needs nothing but Python and the program; everything listens on loopback. Ends with 1 if a row failed.
"""

import argparse
import base64
import concurrent.futures
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import zlib

PUBLIC = "http://gate.test"
SITE = "https://jira.internal"
CREDENTIAL = "Basic dTp0"
TOKEN = "t"
HELD = "Bearer of-the-site"
STALL_PATIENCE = 40
QUIET = 0.25
READ = f"GET /rest/api/2/issue/ABC-1 HTTP/1.1\r\nHost: gate.test\r\nAuthorization: {CREDENTIAL}\r\n\r\n"
FILE = READ.replace("/rest/api/2/issue/ABC-1", "/rest/api/3/attachment/content/7")


def private(path, flags):
    return os.open(path, flags, 0o600)


class Recorder:
    """An upstream that writes down what it sees and answers what it is told to."""

    def __init__(self):
        self.seen = []
        self.answer = None
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        held = b""
        with connection:
            while True:
                while b"\r\n\r\n" not in held:
                    try:
                        more = connection.recv(65536)
                    except OSError:
                        return
                    if not more:
                        if held:
                            self.seen.append({"method": "(torn)", "target": "", "fields": [], "body": held})
                        return
                    held += more
                head, held = held.split(b"\r\n\r\n", 1)
                lines = head.decode("latin-1").split("\r\n")
                fields = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:]]
                named = {name.lower(): value for name, value in fields}
                length = int(named.get("content-length", "0"))
                while len(held) < length:
                    held += connection.recv(65536)
                body, held = held[:length], held[length:]
                method, target, _ = lines[0].split(" ")
                self.seen.append({"method": method, "target": target, "fields": fields, "body": body})
                if self.answer is not None:
                    try:
                        connection.sendall(self.answer)
                        connection.shutdown(socket.SHUT_WR)
                    except OSError:
                        pass  # the gate has seen enough of it
                    return
                content = b'{"recorded":true}'
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
                connection.sendall(head.encode() + (b"" if method == "HEAD" else content))


class Gate:
    """The program under test in front of a recorder of its own."""

    def __init__(self, program, folder):
        self.recorder = Recorder()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        config = os.path.join(folder, f"gate-{self.port}.toml")
        for name, secret in (("credential", HELD), ("clients", f"checker:{TOKEN}")):
            with open(os.path.join(folder, name), "w", encoding="utf-8", opener=private) as file:
                file.write(secret + "\n")
        with open(config, "w", encoding="utf-8") as file:
            file.write(
                f'[jira]\nlisten = "127.0.0.1:{self.port}"\nupstream = "http://127.0.0.1:{self.recorder.port}"\n'
                f'hosts = ["gate.test"]\npublic_url = "{PUBLIC}"\nsite_urls = ["{SITE}"]\n'
                'credential = "file:credential"\nclients = "file:clients"\n'
                f'[audit]\ndir = "audit-{self.port}"\n'
            )
        self.log = open(os.path.join(folder, f"gate-{self.port}.log"), "wb")
        self.process = subprocess.Popen([program, "serve", "--config", config], stderr=self.log)
        for _ in range(200):
            if self.process.poll() is not None:
                raise SystemExit(f"{program} serve ended; see {self.log.name}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the gate does not listen")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


class Answer:
    def __init__(self, status, fields, body):
        self.status, self.fields, self.body = status, fields, body

    def named(self, name):
        return [value for field, value in self.fields if field.lower() == name.lower()]


def answers(received, methods):
    """The answers in what was received, as far as they are whole."""
    found = []
    while b"\r\n\r\n" in received:
        head, rest = received.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        fields = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:]]
        answer = Answer(status, fields, b"")
        if status == 100:
            received = rest
            continue
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        if method == "HEAD" or status in (204, 304):
            received = rest
        elif answer.named("transfer-encoding"):
            content = b""
            while True:
                if b"\r\n" not in rest:
                    return found
                size, behind = rest.split(b"\r\n", 1)
                size = int(size, 16)
                if len(behind) < size + 2:
                    return found
                content, rest = content + behind[:size], behind[size + 2 :]
                if size == 0:
                    break
            answer.body, received = content, rest
        elif answer.named("content-length"):
            length = int(answer.named("content-length")[0])
            if len(rest) < length:
                return found
            answer.body, received = rest[:length], rest[length:]
        else:
            answer.body, received = rest, b""
        found.append(answer)
    return found


def fire(gate, raw, expected=1, stall=False, half_close=False):
    """Sends the bytes; returns what came back, and whether the gate closed the connection."""
    received, closed = b"", False
    patience = STALL_PATIENCE if stall else 20
    connection = socket.create_connection(("127.0.0.1", gate.port), 10)
    methods = [line.split(b" ")[0].decode("latin-1") for line in raw.split(b"\r\n") if line.endswith((b" HTTP/1.1", b" HTTP/1.0"))]
    with connection:
        connection.setblocking(False)
        pending, until = raw, time.monotonic() + patience
        shut = False
        while time.monotonic() < until:
            if not pending and half_close and not shut:
                connection.shutdown(socket.SHUT_WR)
                shut = True
            enough = len(answers(received, methods)) >= expected and not pending and not stall
            wait = QUIET if enough else max(0.0, until - time.monotonic())
            readable, writable, _ = select.select([connection], [connection] if pending else [], [], wait)
            if not readable and not writable:
                break
            try:
                if writable:
                    pending = pending[connection.send(pending[:65536]) :]
                if readable:
                    more = connection.recv(65536)
                    if not more:
                        closed = True
                        break
                    received += more
            except (ConnectionResetError, BrokenPipeError):
                closed = True
                break
    return answers(received, methods), closed


def path_of(request):
    return f"{request['method']} {request['target'].split('?')[0]}"


def pairs(target):
    query = target.split("?", 1)[1] if "?" in target else ""
    return sorted(urllib.parse.parse_qsl(query, keep_blank_values=True))


def raw_of(row):
    if "raw_b64" in row:
        return base64.b64decode(row["raw_b64"])
    return zlib.decompress(base64.b64decode(row["raw_zlib_b64"]))


def target_of(raw):
    return raw.split(b"\r\n", 1)[0].decode("latin-1").split(" ")[1]


def body_of(raw):
    head, _, body = raw.partition(b"\r\n\r\n")
    if b"chunked" not in head.lower():
        return body
    content = b""
    while body:
        size, body = body.split(b"\r\n", 1)
        content += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return content


def check_read(row, seen, got, raw):
    if row["upstream_sees"] == "same":
        wanted = [f"{raw.split(b' ')[0].decode()} {target_of(raw)}"]
    else:
        wanted = row["upstream_sees"].split(" then ")
    for index, wish in enumerate(wanted):
        if index >= len(seen):
            return f"the upstream did not see {wish}"
        request, (method, target) = seen[index], wish.split(" ", 1)
        if request["method"] != method or request["target"].split("?")[0] != target.split("?")[0]:
            return f"the upstream saw {path_of(request)} in place of {wish}"
        kept = [pair for pair in pairs(request["target"]) if pair[0] != "updateHistory"]
        if kept != [pair for pair in pairs(target) if pair[0] != "updateHistory"]:
            return f"the query became {request['target']}"
        if method == "POST" and request["body"] != body_of(raw):
            return f"the body became {request['body'][:200]!r}"
    if len(seen) != len(wanted):
        return f"the upstream saw {len(seen)} requests"
    if [answer.status for answer in got] != [200] * len(wanted):
        return f"the client got {[answer.status for answer in got]}"
    return None


def check_seen(row, seen):
    """What an upstream may see of an attack."""
    may_see = row.get("upstream_may_see") or []
    for request in seen:
        if path_of(request) not in may_see:
            return f"the upstream saw {path_of(request)}"
        names = [name.lower() for name, _ in request["fields"]]
        for name in row.get("must_not_reach") or []:
            if name in names:
                return f"the upstream saw the header {name}"
        if ("authorization", HELD) not in [(name.lower(), value) for name, value in request["fields"]]:
            return "the upstream saw another credential than the gate's"
        for name in set(names):
            if names.count(name) > 1:
                return f"the upstream saw {name} twice"
        connection = [value.lower() for name, value in request["fields"] if name.lower() == "connection"]
        if any(value not in ("close", "keep-alive") for value in connection):
            return f"the upstream saw Connection: {connection}"
        if "transfer-encoding" in names:
            return "the upstream saw a transfer encoding"
        if any(name == "updateHistory" and value != "false" for name, value in pairs(request["target"])):
            return f"the upstream saw {request['target']}"
    return None


def check_attack(row, seen, got, closed):
    fault = check_seen(row, seen)
    if fault:
        return fault
    statuses = [answer.status for answer in got]
    expect = row["expect"]
    if expect == "blocked":
        if seen:
            return f"the upstream saw {path_of(seen[0])}"
        if any(status < 400 for status in statuses):
            return f"the client got {statuses}"
        if not statuses and not closed:
            return "neither an answer nor an end"
    elif expect in ("sanitized", "reframed"):
        if len(seen) > 1:
            return f"the upstream saw {len(seen)} requests"
        if not seen and any(status < 400 for status in statuses):
            return f"the client got {statuses} for nothing"
        if expect == "reframed" and any(status < 400 for status in statuses[len(seen) :]):
            return f"the inner request got {statuses}"
    elif expect == "first blocked":
        if statuses and statuses[0] < 400:
            return f"the first request got {statuses[0]}"
    elif expect == "second blocked":
        if any(status < 400 for status in statuses[1:]):
            return f"the second request got {statuses[1:]}"
    else:
        return f"`{expect}` is not known to this runner"
    for answer in got[:1]:
        if answer.status >= 400 and answer.body and b'"SECURITY_VIOLATION"' not in answer.body:
            return f"the refusal is {answer.body[:80]!r}"
    return None


def given(raw):
    """Status, fields and body of an answer row, as far as they can be read."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:] if ":" in line]
    return Answer(int(lines[0].split(" ")[1]), fields, body)


def check_answer(row, raw, gate):
    """An answer of the upstream: what of it may the client see?"""
    preferred, sent = row["preferred_status"], given(raw)
    gate.recorder.answer = raw
    got, _ = fire(gate, READ.encode())
    asked = gate.recorder.seen[-1:]
    if not got:
        return "the client got no answer"
    answer = got[0]
    shown = answer.body + "".join(f"{name}: {value}\n" for name, value in answer.fields).encode()
    gate.recorder.answer = None
    is_refused = answer.status == 502 and b'"SECURITY_VIOLATION"' in answer.body
    if asked and dict((name.lower(), value) for name, value in asked[0]["fields"]).get("accept-encoding") != "identity":
        return "the upstream was not asked for identity"
    if "pass only for the attachment" in preferred:
        gate.recorder.answer = raw
        file, _ = fire(gate, FILE.encode())
        gate.recorder.answer = None
        passed = file and file[0].status == sent.status and file[0].named("location") == sent.named("location")
        return None if is_refused and passed else f"got {answer.status}, and for a file {file and file[0].status}"
    if re.match(r"502\b", preferred) and " or passed with nosniff" not in preferred:
        return None if is_refused else f"the client got {answer.status}"
    if is_refused:
        return None if re.search(r"\b502\b|cap inflation|rewritten|removed", preferred) else "it was refused"
    if "cap inflation" in preferred:
        return None if len(answer.body) <= len(sent.body) else "it was inflated"
    if "nosniff" in preferred:
        return None if answer.named("x-content-type-options") == ["nosniff"] else "no nosniff"
    if answer.status != sent.status:
        return f"the client got {answer.status} in place of {sent.status}"
    if "left alone" in preferred:
        return None if answer.body == sent.body else f"it became {answer.body!r}"
    if "removed" in preferred and "rewritten" not in preferred:
        return None if not answer.named("set-cookie") else "the cookie passed"
    if "rewritten" in preferred or "removed" in preferred:
        names_site = b"jira.internal" in shown.replace(b"\\", b"").replace(b"%2F", b"/")
        return f"the client sees {shown!r}" if names_site else None
    if "passed through" in preferred:
        kept = all(answer.named(name) == [value] for name, value in sent.fields if name.lower() != "content-length")
        return None if kept and answer.body == sent.body else f"the client sees {shown!r}"
    return f"`{preferred}` is not known to this runner"


def judge(gate, row):
    raw = raw_of(row)
    gate.recorder.seen.clear()
    if row["expect"] == "answer handled":
        return check_answer(row, raw, gate)
    expected = len(row.get("upstream_sees", "").split(" then "))
    got, closed = fire(gate, raw, expected, row.get("stall", False), row.get("half_close", False))
    seen = list(gate.recorder.seen)
    if row["expect"] == "allow":
        return check_read(row, seen, got, raw)
    return check_attack(row, seen, got, closed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--program", default="target/release/rowarden")
    parser.add_argument("--gates", type=int, default=4, help="gates that are asked at the same time")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        gates = [Gate(options.program, folder) for _ in range(options.gates)]
        try:
            for name in options.files:
                with open(name, encoding="utf-8") as file:
                    rows = [json.loads(line) for line in file if line.strip()]
                failed += run(name, rows, gates, options.verbose)
        finally:
            for gate in gates:
                gate.stop()
    sys.exit(1 if failed else 0)


def run(name, rows, gates, verbose):
    lots = [rows[index :: len(gates)] for index in range(len(gates))]

    def work(gate, lot):
        return [(row, judge(gate, row)) for row in lot]

    with concurrent.futures.ThreadPoolExecutor(len(gates)) as pool:
        outcomes = [pair for done in pool.map(work, gates, lots) for pair in done]
    faults = [(row, fault) for row, fault in outcomes if fault]
    for row, fault in sorted(faults, key=lambda pair: pair[0]["id"]):
        print(f"FAILED {row['id']} ({row['category']}, {row['name']}, {row['expect']}): {fault}")
        if verbose:
            print(f"       {raw_of(row)[:300]!r}")
    print(f"{name}: {len(rows) - len(faults)} of {len(rows)} rows end as they say")
    return len(faults)


if __name__ == "__main__":
    main()
