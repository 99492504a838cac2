#!/usr/bin/env python3
"""Runs the attack and read corpora against a built rowarden and says what fell short.

Two halves. `live`: a throw-away PostgreSQL, the gate before it, and the corpora's own runner, which
speaks the wire protocol itself and compares the data before and after. `offline`: `explain sql` over
the statement corpora. Only the standard library is used. Exit 1 when a threshold is missed.

`--control` sends the same rows to the bare server instead: it must show most attacks open, or the
rows prove nothing.
"""
import argparse
import collections
import contextlib
import glob
import importlib.util
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

# Functions of these classes stay refused although their volatility says otherwise.
REFUSED_CLASSES = {"exfil", "file", "internal", "runs-sql", "xid"}
LEAST_READS_ALLOWED = 99.5
LEAST_OPEN_ON_BARE_SERVER = 80.0
VIOLATION = re.compile(r"SECURITY_VIOLATION reason=(\S+) event=([0-9a-f-]{36})")
READY_WITHIN_SECONDS = 30


def json_lines(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_open(port, process, what):
    end = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"{what} ended with exit code {process.returncode} before it was ready")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{what} was not ready within {READY_WITHIN_SECONDS} s")


def stop(process, patience=15):
    """Ends a child that this program started, politely first."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def find_postgres():
    """The folder of initdb and postgres, newest major first."""
    found = [os.environ.get("PG_BIN", "")]
    majors = glob.glob("/usr/lib/postgresql/*/bin")
    found += sorted(majors, key=lambda path: int(path.split("/")[-2]), reverse=True)
    on_path = shutil.which("initdb")
    found += [os.path.dirname(on_path)] if on_path else []
    for folder in found:
        if folder and os.access(f"{folder}/initdb", os.X_OK):
            return folder
    print("no PostgreSQL server found: sudo apt-get install postgresql", file=sys.stderr)
    raise SystemExit(3)


class Cluster:
    """A throw-away PostgreSQL, set up as the corpora's README wants it."""

    def __init__(self, folder):
        self.folder = folder
        self.bin = find_postgres()
        self.port = free_port()
        self.process = None
        # initdb refuses root, and so does the server.
        self.user = None
        if os.geteuid() == 0:
            self.user = "postgres" if _user_exists("postgres") else "nobody"
        self.tmp = os.path.join(folder, "server-tmp")
        self.data = os.path.join(folder, "data")

    def _command(self, *command):
        if not self.user:
            return list(command)
        # The server dies with this program, whatever ends it.
        account = pwd.getpwnam(self.user)
        who = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        return ["setpriv", *who, "--pdeathsig", "KILL", *command]

    def start(self):
        os.mkdir(self.tmp, 0o700)
        os.mkdir(self.data, 0o700)
        if self.user:
            account = pwd.getpwnam(self.user)
            for path in (self.folder, self.tmp, self.data):
                os.chown(path, account.pw_uid, account.pw_gid)
        quiet = {"stdout": subprocess.DEVNULL, "cwd": self.folder, "stdin": subprocess.DEVNULL}
        subprocess.run(
            self._command(
                f"{self.bin}/initdb", "-D", self.data, "-U", "super", "-A", "trust", "-E", "UTF8",
                "--locale=C.UTF-8", "--no-sync", "--no-instructions",
            ),
            check=True, **quiet,
        )
        settings = {
            "fsync": "off",
            "listen_addresses": "127.0.0.1",
            "logging_collector": "off",
            "max_prepared_transactions": "10",
            "max_replication_slots": "10",
            "port": str(self.port),
            "shared_preload_libraries": "pg_stat_statements",
            "unix_socket_directories": self.tmp,
            "wal_level": "logical",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log = open(os.path.join(self.folder, "postgres.log"), "wb")
        self.process = subprocess.Popen(
            self._command(f"{self.bin}/postgres", "-D", self.data, *options),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
        )
        wait_until_open(self.port, self.process, "PostgreSQL")
        self._wait_until_it_answers()

    def _wait_until_it_answers(self):
        end = time.monotonic() + READY_WITHIN_SECONDS
        while subprocess.run(self._psql("postgres", "-c", "SELECT 1"), capture_output=True).returncode:
            if time.monotonic() > end:
                raise SystemExit("PostgreSQL does not answer")
            time.sleep(0.1)

    def _psql(self, database, *arguments):
        psql = f"{self.bin}/psql" if os.access(f"{self.bin}/psql", os.X_OK) else "psql"
        return [
            psql, "-X", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "super", "-d", database,
            "-v", "ON_ERROR_STOP=1", *arguments,
        ]

    def load(self, fixture):
        for sql in ("CREATE ROLE app LOGIN", "CREATE ROLE other LOGIN", "CREATE DATABASE labtpl"):
            subprocess.run(self._psql("postgres", "-c", sql), check=True, stdout=subprocess.DEVNULL)
        with open(fixture, encoding="utf-8") as file:
            text = file.read().replace("@PORT@", str(self.port)).replace("@DB@", "lab")
        subprocess.run(
            self._psql("labtpl"), input=text, text=True, check=True, stdout=subprocess.DEVNULL,
        )

    def stop(self):
        if self.process:
            stop(self.process)


def _user_exists(name):
    try:
        pwd.getpwnam(name)
        return True
    except KeyError:
        return False


class Gate:
    """`rowarden serve` before a cluster."""

    def __init__(self, binary, folder, upstream_port, policy=None):
        """`policy`: a folder with a policy of its own."""
        self.binary = binary
        self.folder = folder
        self.port = free_port()
        self.audit = os.path.join(folder, "audit")
        self.config = os.path.join(folder, "rowarden.toml")
        self.log = os.path.join(folder, "gate.log")
        self.process = None
        with open(self.config, "w", encoding="utf-8") as file:
            if policy:
                file.write(f'policy_dir = "{policy}"\n\n')
            file.write(
                "[postgres]\n"
                f'listen = "127.0.0.1:{self.port}"\n'
                f'upstream = "postgres://127.0.0.1:{upstream_port}"\n'
                'auth = "passthrough"\n\n'
                "[audit]\n"
                f'dir = "{self.audit}"\n'
            )

    def start(self):
        log = open(self.log, "wb")
        self.process = subprocess.Popen(
            [self.binary, "serve", "--config", self.config],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
        try:
            wait_until_open(self.port, self.process, "rowarden serve")
        except SystemExit:
            self.show_log()
            raise

    def show_log(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            sys.stdout.write("".join(file.readlines()[-30:]))

    def stop(self):
        if self.process:
            stop(self.process)

    def audit_lines(self):
        """The log's lines by event id."""
        lines = {}
        for path in sorted(glob.glob(os.path.join(self.audit, "*.jsonl"))):
            for line in json_lines(path):
                lines[line["id"]] = line
        return lines


def run_rows(arguments, corpus, gate_port, cluster, out, only=None):
    """Sends the rows through `gate_port` by the corpora's own runner."""
    command = [
        sys.executable, f"{corpus}/runner.py", "gate", "--port", str(gate_port),
        "--admin-port", str(cluster.port), "--tmp", cluster.tmp,
        "--attacks", f"{corpus}/attacks_shared.jsonl", "--reads", f"{corpus}/reads_shared.jsonl",
        "--out", out,
    ]
    if only or arguments.only:
        command += ["--only", only or arguments.only]
    subprocess.run(command, check=True)
    return json_lines(out)


def words_of(row):
    """Every error text that the runner kept of a row."""
    for step in row.get("steps", []):
        yield from step.get("errors", [])
        if "startup_error" in step:
            yield step["startup_error"]
    yield from (text for text in row.get("errors", []) if isinstance(text, str))


def unrecorded(row, audit):
    """What the log does not say, or says otherwise, about the refusals of a row."""
    for text in words_of(row):
        for reason, event in VIOLATION.findall(text):
            line = audit.get(event)
            if line is None:
                yield f"event {event} ({reason}) is not in the audit log"
            elif reason == "tripwire" and line.get("reason") == reason:
                # What a server reports is a fault, not somebody's attempt.
                pass
            elif line.get("decision") != "deny" or line.get("reason") != reason:
                yield f"event {event}: log says {line.get('decision')} {line.get('reason')}, client read {reason}"
            elif (line.get("upstream") or {}).get("contacted") is not False:
                yield f"event {event}: upstream.contacted is not false"


# Rows that may be refused at login.
AT_LOGIN = {"startup", "walsender", "encoding", "lexer"}

# Rows whose steps get no answer even from a server (cancel requests, half a message): no effect is all
# that can be seen. dos-19 announces 4 GiB, for which the protocol checklist says close.
WITHOUT_ANSWER = {"adm-06", "dos-18", "dos-19"}


def faults_of_attack(row, category):
    """What a must-deny row failed at; nothing if it was held."""
    if row.get("fail"):
        yield f"the row could not be run: {row['fail']}"
        return
    if row.get("denied_at") == -1 and category in AT_LOGIN and row.get("own"):
        # The runner takes a login that was refused for a first step that succeeded.
        return
    if row["id"] in WITHOUT_ANSWER and not row.get("effect"):
        return
    if row.get("effect"):
        yield f"IT TOOK EFFECT {row.get('probe', '')}"
    if not row.get("pass"):
        yield f"not refused in time (refused at step {row.get('denied_at')})"
    elif not row.get("own"):
        yield "refused, but not by the gate"
    elif not row.get("clean"):
        yield "refused, but the session did not live on"


def show_fault(row, category, title, what):
    print(f"  {row['id']:<16} {category:<16} {what}")
    if title:
        print(f"  {'':<16} {title}")
    for index, step in enumerate(row.get("steps", [])):
        said = step.get("startup_error") or "; ".join(step.get("errors", [])) or ", ".join(step.get("tags", []))
        print(f"  {'':<16}   step {index}: {said[:200]}")


def long_reads(attacks, rows):
    """Plain reads that are only long: under the shipped policy, whose limit is four hours, they end."""
    return [
        row["id"] for row in rows
        if row["id"] in attacks and attacks[row["id"]].get("policy") == "limit"
        and row.get("denied_at") is None and attacks[row["id"]].get("min_ms")
    ]


def run_under_a_short_limit(arguments, corpus, cluster, folder, ids):
    """The same through a gate that gives a statement a few milliseconds; true when all are stopped."""
    if not ids:
        return True
    policy = os.path.join(folder, "short")
    shutil.copytree(os.path.join(os.path.dirname(__file__), "..", "policy"), policy)
    path = os.path.join(policy, "readonly.toml")
    with open(path, encoding="utf-8") as file:
        text = re.sub(r'^statement_time = .*$', 'statement_time = "5ms"', file.read(), flags=re.M)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    short = os.path.join(folder, "gate-short")
    os.mkdir(short)
    gate = Gate(arguments.binary, short, cluster.port, policy)
    gate.start()
    try:
        only = f"^({'|'.join(ids)})$"
        rows = run_rows(arguments, corpus, gate.port, cluster, f"{short}/results.jsonl", only)
    finally:
        gate.stop()
    open_rows = [row["id"] for row in rows if row.get("denied_at") is None]
    print(f"reads that are only long, at most 5 ms each: {len(rows) - len(open_rows)} of {len(ids)} stopped")
    return len(rows) == len(ids) and not open_rows


def evaluate(rows, corpus, gate):
    """Prints the table of the live half; true when every threshold holds."""
    attacks = {row["id"]: row for row in json_lines(f"{corpus}/attacks_shared.jsonl")}
    audit = gate.audit_lines()
    held, failed = collections.Counter(), collections.Counter()
    faults, reads, refused_reads, events = [], 0, [], 0
    limits = long_reads(attacks, rows)
    for row in rows:
        events += sum(len(VIOLATION.findall(text)) for text in words_of(row))
        if row.get("kind") == "read":
            reads += 1
            if not row.get("ok"):
                refused_reads.append(row)
            faults += [(row, "read", "", what) for what in unrecorded(row, audit)]
            continue
        attack = attacks[row["id"]]
        category = attack["category"]
        if row["id"] in limits:
            continue
        what = list(faults_of_attack(row, category))
        (failed if what else held)[category] += 1
        what += unrecorded(row, audit)
        faults += [(row, category, attack["title"], text) for text in what]
    print(f"{'attacks':<18}{'held':>6}{'open':>6}")
    if limits:
        print(f"  reads that are only long, run again under a short limit below: {' '.join(limits)}")
    for category in sorted(set(held) | set(failed)):
        print(f"{category:<18}{held[category]:>6}{failed[category]:>6}")
    print(f"reads: {reads - len(refused_reads)} of {reads} answered")
    print(f"refusals read by the clients: {events}; audit lines: {len(audit)}")
    for row in refused_reads:
        print(f"  READ REFUSED {row['id']}: {'; '.join(map(str, row['errors']))[:300]}")
    for fault in faults:
        show_fault(*fault)
    return not refused_reads and not faults and bool(rows)


# What the gate asks of the server at login; a direct session asks it too, to be compared with.
PINS = [("default_transaction_read_only", "on"), ("client_encoding", "UTF8"), ("standard_conforming_strings", "on")]


def conversation(runner, read, port, environment, pinned):
    """Every message that a server or a gate answers to the steps of a read."""
    startup = read.get("startup", {})
    login = [("user", read.get("role", "app")), ("database", startup.get("database", "lab"))]
    login += [(name, value) for name, value in startup.items() if name != "database"]
    named = {name for name, _ in login}
    login += [pin for pin in PINS if pinned and pin[0] not in named]
    session = runner.Conn("127.0.0.1", port, login, 10)
    try:
        messages = []
        for step in read["steps"]:
            answers = runner.step_run(session, step, environment, None)
            # Times that two runs may have in common by chance.
            timed = "ANALYZE" in str(step).upper()
            messages += [masked(kind, re.sub(rb"[0-9.]+", b"#", body) if timed else body) for kind, body in answers]
        return messages
    finally:
        session.close()


def masked(kind, body):
    """A message without the source line of the server that an error or notice names."""
    if kind not in (b"E", b"N"):
        return kind, body
    return kind, b"\0".join(field for field in body.split(b"\0") if field[:1] not in (b"F", b"L", b"R"))


def compare_bytes(corpus, version, server_port, gate_port, folder):
    """Reads the corpus of reads directly, once more directly, and through the gate. What differs between the two
    direct runs is volatile; all else must be equal to the byte."""
    spec = importlib.util.spec_from_file_location("runner", f"{corpus}/runner.py")
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    equal, volatile, different = 0, 0, []
    for read in json_lines(f"{corpus}/reads_shared.jsonl"):
        if not read.get("min_ver", 0) <= version <= read.get("max_ver", 99):
            continue
        environment = {"port": server_port, "host": "127.0.0.1", "db": "lab", "tmp": folder}
        first, second = (conversation(runner, read, server_port, environment, True) for _ in range(2))
        gate = conversation(runner, read, gate_port, environment, False)
        moving = {index for index, pair in enumerate(zip(first, second)) if pair[0] != pair[1]}
        still = len(first) == len(second) == len(gate) and all(
            mine[0] == theirs[0] and (mine == theirs or index in moving)
            for index, (mine, theirs) in enumerate(zip(first, gate))
        )
        # The one difference that the design names among these: the view shows the running portal.
        if still or "pg_cursors" in str(read["steps"]):
            equal, volatile = equal + 1, volatile + bool(moving)
        else:
            at = next((i for i, pair in enumerate(zip(first, gate)) if pair[0] != pair[1]), "the end")
            different.append(f"{read['id']}: {read['steps']} at message {at}")
    print(f"reads byte for byte: {equal} equal to a direct pinned session ({volatile} with volatile values), {len(different)} not")
    for line in different:
        print(f"  DIFFERENT {line[:300]}")
    return not different


def control(rows):
    """The same rows on the bare server: most attacks must be open, and every read answered."""
    attacks = [row for row in rows if row.get("kind") != "read"]
    reads = [row for row in rows if row.get("kind") == "read"]
    opened = sum(1 for row in attacks if row.get("effect"))
    answered = sum(1 for row in reads if row.get("ok"))
    share = 100.0 * opened / max(1, len(attacks))
    print(f"control, bare server: {opened} of {len(attacks)} attacks took effect ({share:.1f} %), "
          f"{answered} of {len(reads)} reads answered")
    return share >= LEAST_OPEN_ON_BARE_SERVER and answered == len(reads)


def live(arguments):
    corpus = os.path.join(arguments.shared, "corpus", "pg")
    good = True
    with contextlib.ExitStack() as leave:
        folder = tempfile.mkdtemp(prefix="rowarden-corpora-")
        leave.callback(shutil.rmtree, folder, ignore_errors=True)
        os.chmod(folder, 0o755)
        server_folder = os.path.join(folder, "server")
        os.mkdir(server_folder, 0o700)
        cluster = Cluster(server_folder)
        leave.callback(cluster.stop)
        cluster.start()
        cluster.load(f"{corpus}/fixture.sql")
        if arguments.control:
            rows = run_rows(arguments, corpus, cluster.port, cluster, f"{folder}/control.jsonl")
            keep(arguments, f"{folder}/control.jsonl")
            return control(rows)
        gate = Gate(arguments.binary, folder, cluster.port)
        leave.callback(gate.stop)
        gate.start()
        rows = run_rows(arguments, corpus, gate.port, cluster, f"{folder}/results.jsonl")
        good &= compare_bytes(corpus, rows[0]["ver"], cluster.port, gate.port, folder)
        if gate.process.poll() is not None:
            print(f"the gate ended under way with exit code {gate.process.returncode}")
            gate.show_log()
            good = False
        gate.stop()
        keep(arguments, f"{folder}/results.jsonl", *glob.glob(f"{gate.audit}/*.jsonl"), gate.log)
        good &= evaluate(rows, corpus, gate)
        attacks = {row["id"]: row for row in json_lines(f"{corpus}/attacks_shared.jsonl")}
        ids = long_reads(attacks, rows)
        good &= run_under_a_short_limit(arguments, corpus, cluster, folder, ids)
    return good


def keep(arguments, *paths):
    if arguments.keep:
        os.makedirs(arguments.keep, exist_ok=True)
        for path in paths:
            shutil.copy(path, arguments.keep)


def explain(binary, path):
    """The verdict on each statement of a file, in order."""
    began = time.monotonic()
    run = subprocess.run(
        [binary, "explain", "sql", "--json", "--file", path], capture_output=True, text=True,
        stdin=subprocess.DEVNULL,
    )
    if run.returncode != 0:
        raise SystemExit(f"explain sql --file {path} ended with {run.returncode}: {run.stderr[:500]}")
    verdicts = [json.loads(line) for line in run.stdout.splitlines() if line.strip()]
    rows = json_lines(path)
    if len(verdicts) != len(rows):
        raise SystemExit(f"{path}: {len(rows)} statements in, {len(verdicts)} verdicts out")
    print(f"\n{os.path.basename(path)}: {len(rows)} statements in {time.monotonic() - began:.1f} s")
    return list(zip(rows, verdicts))


def show_reasons(pairs, indent="  "):
    for reason, count in collections.Counter(verdict["reason"] for _, verdict in pairs).most_common():
        print(f"{indent}{count:>6}  {reason}")


def show_statements(pairs, most):
    for row, verdict in pairs[:most]:
        text = " ".join(row["sql"].split())
        print(f"    {verdict['reason']} ({verdict.get('operation')}): {text[:160]}")
    if len(pairs) > most:
        print(f"    … and {len(pairs) - most} more (--list N)")


# What pg_dump must send, and what the corpus of reads holds itself.
READS_AFTER_ALL = re.compile(
    r"\s*lock\s+table\s+\S+\s+in\s+access\s+share\s+mode|\s*explain\b.*\bdeclare\b.*\bcursor\b", re.I | re.S
)


def check_writes(arguments, path):
    pairs = explain(arguments.binary, path)
    good = True
    for must in sorted({row["must"] for row, _ in pairs}):
        of_kind = [pair for pair in pairs if pair[0]["must"] == must]
        let_through = [pair for pair in of_kind if pair[1]["decision"] != "deny"]
        print(f"  must: {must}: {len(of_kind) - len(let_through)} of {len(of_kind)} refused")
        reads = [pair for pair in let_through if READS_AFTER_ALL.match(pair[0]["sql"])]
        let_through = [pair for pair in let_through if pair not in reads]
        if must == "deny":
            print(f"    let through: {len(reads)} that the design calls reads, {len(let_through)} others")
        if must == "deny" and let_through:
            good = False
            show_statements(let_through, arguments.list)
    return good


def check_differentials(arguments, path):
    """A statement that hides a write, a second statement or a function must be refused. One that
    hides a relation is still a read; refusing it too is only reported."""
    pairs = explain(arguments.binary, path)

    def must_deny(row):
        return row["libpg_query_18_6"] != "Read" or row["kind"] == "hidden function call"

    let_through = [p for p in pairs if must_deny(p[0]) and p[1]["decision"] != "deny"]
    held = sum(1 for row, _ in pairs if must_deny(row)) - len(let_through)
    reads = [pair for pair in pairs if not must_deny(pair[0])]
    refused = [pair for pair in reads if pair[1]["decision"] == "deny"]
    print(f"  hidden write, statement or function: {held} refused, {len(let_through)} let through")
    show_statements(let_through, arguments.list)
    print(f"  hidden relation, still a read: {len(reads) - len(refused)} let through, {len(refused)} refused")
    show_reasons(refused, "    ")
    return not let_through


def refused_functions(shared):
    path = os.path.join(shared, "corpus", "pg", "nonvolatile_to_review.tsv")
    with open(path, encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines][1:]
    return {row[0] for row in rows if row[4] in REFUSED_CLASSES}


def check_reads(arguments, path):
    pairs = explain(arguments.binary, path)
    stay_refused = refused_functions(arguments.shared)
    refused = [pair for pair in pairs if pair[1]["decision"] == "deny"]

    def is_class(row):
        return any(name.rsplit(".", 1)[-1] in stay_refused for name in row["functions"])

    rightly = [pair for pair in refused if is_class(pair[0])]
    remain = [pair for pair in refused if not is_class(pair[0])]
    counted = len(pairs) - len(rightly)
    share = 100.0 * (counted - len(remain)) / max(1, counted)
    print(f"  {counted - len(remain)} of {counted} allowed ({share:.2f} %, at least {LEAST_READS_ALLOWED} %); "
          f"{len(rightly)} more refused for a function of a class that stays refused")
    show_reasons(remain)
    show_statements(remain, arguments.list)
    return share >= LEAST_READS_ALLOWED


def offline(arguments):
    sql = os.path.join(arguments.shared, "corpus", "sql")
    good = check_writes(arguments, f"{sql}/writes.jsonl")
    good &= check_differentials(arguments, f"{sql}/differentials.jsonl")
    good &= check_reads(arguments, f"{sql}/reads.jsonl")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("half", nargs="?", choices=["all", "live", "offline"], default="all")
    parser.add_argument("--binary", default="target/release/rowarden")
    parser.add_argument("--shared", default="../shared")
    parser.add_argument("--only", help="live half: only rows whose id matches this expression")
    parser.add_argument("--control", action="store_true", help="live half: the bare server, without a gate")
    parser.add_argument("--keep", metavar="DIR", help="copy results, audit log and the gate's log there")
    parser.add_argument("--list", metavar="N", type=int, default=60, help="statements to print of each kind")
    arguments = parser.parse_args()
    good = True
    if arguments.half != "offline" or arguments.control:
        good &= live(arguments)
    if arguments.half != "live" and not arguments.control:
        good &= offline(arguments)
    print("\ncorpora: all thresholds hold" if good else "\ncorpora: SOMETHING FELL SHORT, see above")
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
