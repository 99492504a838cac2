"""A throw-away PostgreSQL and, in front of it, the gate: what every comparison in this folder stands on.

Both live in one temporary folder and on loopback ports of their own, and both are gone when the `with` block ends,
however it ends. Only the standard library is used, because this part runs before anything is installed.
"""

import contextlib
import functools
import glob
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

MISSING_PROGRAM = 3
START_SECONDS = 60
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# What the gate puts into its start-up packet. A direct session gets the same, so that the two differ in nothing else.
PINS = {'default_transaction_read_only': 'on', 'standard_conforming_strings': 'on', 'client_encoding': 'UTF8'}


class Missing(Exception):
    """A program that the comparison needs is not installed; the text says how to install it."""


def main(run):
    """Runs `run`, and turns the ways in which it may end into exit codes.

    SIGTERM becomes an ordinary exit, so that the servers and the folder are cleaned up then as well.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(run())
    except Missing as missing:
        print(missing, file=sys.stderr)
        sys.exit(MISSING_PROGRAM)


def free_port():
    """A loopback port that nobody listens on at the moment."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def postgres_bin(version='15'):
    """The folder with initdb and postgres of that major version, or of the newest one when `version` is None."""
    found = glob.glob(f'/usr/lib/postgresql/{version or "*"}/bin') + glob.glob(f'/usr/pgsql-{version or "*"}/bin')
    if not found:
        package = f'postgresql-{version}' if version else 'postgresql'
        raise Missing(f'PostgreSQL server binaries not found; install them: apt-get install -y {package}')
    return max(found, key=lambda folder: int(''.join(filter(str.isdigit, folder))))


def unprivileged():
    """Popen arguments that make a child run as a user that PostgreSQL accepts: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    with contextlib.suppress(KeyError):
        user = pwd.getpwnam('postgres')
        return {'user': user.pw_uid, 'group': user.pw_gid, 'extra_groups': []}
    raise Missing('running as root needs a user `postgres`; install one with: apt-get install -y postgresql')


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port), 1):
        return True
    return False


def wait_until(is_ready, process, log):
    """Returns when `is_ready` says so; raises when `process` ends first or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if is_ready():
            return
        time.sleep(0.05)
    with open(log, errors='replace') as written:
        raise RuntimeError(f'{process.args[0]} did not start:\n{written.read()}')


@contextlib.contextmanager
def folder():
    """A temporary folder that the server's user can enter, removed at the end."""
    path = tempfile.mkdtemp(prefix='rowarden-clients-')
    os.chmod(path, 0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def running(command, is_ready, log, stop, **popen):
    """A server process for the length of the block, stopped by the signal that it takes for a clean end."""
    with open(log, 'wb') as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, **popen)
    try:
        wait_until(is_ready, process, log)
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Server:
    """The address of a throw-away PostgreSQL and its superuser's access."""

    def __init__(self, port, bin_folder):
        self.port, self.bin = port, bin_folder

    def run_as_superuser(self, program, database, *arguments):
        """Runs a client program directly; its failure is ours."""
        command = [os.path.join(self.bin, program), *arguments]
        environment = login(self.port, 'postgres', database)
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if run.returncode:
            raise RuntimeError(f'{program} {arguments} failed:\n{run.stderr}')
        return run.stdout

    def psql(self, database, *arguments):
        return self.run_as_superuser('psql', database, '-XqAt', '-v', 'ON_ERROR_STOP=1', *arguments)

    def dump(self):
        """Everything in the cluster, rows and sequences included, as text: equal dumps mean that nothing changed."""
        # Newer dumps carry a key that is random in every run.
        return re.sub(r'^\\(un)?restrict .*$', '', self.run_as_superuser('pg_dumpall', 'postgres'), flags=re.MULTILINE)

    def load(self, database, path):
        """Creates `database` and runs the file in it."""
        self.psql('postgres', '-c', f'CREATE DATABASE "{database}"')
        self.psql(database, '-f', path)


@contextlib.contextmanager
def server(temporary, auth='scram-sha-256', port=None, version='15', settings=()):
    """A PostgreSQL cluster on loopback TCP.

    Nothing in it moves by itself: without autovacuum the sizes and row estimates that clients print stay what they are.
    """
    binaries, user = postgres_bin(version), unprivileged()
    port, data = port or free_port(), os.path.join(temporary, 'cluster')
    os.mkdir(data, 0o700)
    password = os.path.join(temporary, 'password')
    with open(password, 'w') as written:
        written.write('postgres\n')
    if user:
        os.chown(data, user['user'], user['group'])
    initdb = [
        os.path.join(binaries, 'initdb'),
        '-D',
        data,
        '-U',
        'postgres',
        f'--auth-host={auth}',
        '--auth-local=reject',
        '--pwfile',
        password,
        '--encoding=UTF8',
        '--locale=C.UTF-8',
        '--no-sync',
    ]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **user)
    options = [
        'autovacuum=off',
        'fsync=off',
        'listen_addresses=127.0.0.1',
        'unix_socket_directories=',
        'wal_level=logical',
        'timezone=UTC',
        'max_connections=200',
        *settings,
    ]
    command = [os.path.join(binaries, 'postgres'), '-D', data, '-p', str(port)]
    command += [word for option in options for word in ('-c', option)]
    # A cluster that accepts connections may still be starting up.
    probe = [os.path.join(binaries, 'pg_isready'), '-q', '-h', '127.0.0.1', '-p', str(port)]
    ready = functools.partial(subprocess.call, probe)
    with running(command, lambda: ready() == 0, os.path.join(temporary, 'postgres.log'), signal.SIGINT, **user):
        yield Server(port, binaries)


def gate_binary():
    """The binary under test."""
    path = os.environ.get('ROWARDEN_BIN') or os.path.join(REPOSITORY, 'target', 'release', 'rowarden')
    if not os.access(path, os.X_OK):
        raise Missing(f'no gate at {path}; build it with `cargo build --release`, or name it in ROWARDEN_BIN')
    return path


@contextlib.contextmanager
def gate(temporary, upstream_port, policy=None, port=None):
    """The gate in front of `upstream_port`; yields its port."""
    port, config = port or free_port(), os.path.join(temporary, 'rowarden.toml')
    with open(config, 'w') as written:
        if policy:
            written.write(f'policy_dir = "{os.path.abspath(policy)}"\n\n')
        written.write(f'[postgres]\nlisten = "127.0.0.1:{port}"\nupstream = "postgres://127.0.0.1:{upstream_port}"\n\n')
        written.write(f'[audit]\ndir = "{os.path.join(temporary, "audit")}"\n')
    command = [gate_binary(), 'serve', '--config', config]
    with running(command, lambda: listens(port), os.path.join(temporary, 'gate.log'), signal.SIGTERM):
        yield port


def login(port, user, database, pinned=False):
    """An environment by which any libpq client finds its server; `pinned` makes a direct session like the gate's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith('PG')}
    environment |= {
        'PGHOST': '127.0.0.1',
        'PGPORT': str(port),
        'PGUSER': user,
        'PGPASSWORD': user,
        'PGDATABASE': database,
        'PGCONNECT_TIMEOUT': '10',
        'LC_ALL': 'C.UTF-8',
        'PAGER': 'cat',
    }
    if pinned:
        environment['PGOPTIONS'] = ' '.join(f'-c {name}={value}' for name, value in PINS.items())
    return environment


def arguments(parser):
    """The options that every comparison has."""
    parser.add_argument('--control', action='store_true', help='compare the server with itself: must find no difference')
    parser.add_argument(
        '--gate-port', type=int, help='a gate that is already running; give --server-port, its upstream, as well'
    )
    parser.add_argument('--server-port', type=int, help='where the throw-away PostgreSQL is to listen')
    parser.add_argument('--policy', help='the policy folder for the gate; the shipped one when left out')
    return parser


@contextlib.contextmanager
def second_road(temporary, upstream, options):
    """The port of what is compared with the server: the gate, one that already runs, or the server itself."""
    if options.control:
        yield upstream.port
    elif options.gate_port:
        yield options.gate_port
    else:
        with gate(temporary, upstream.port, options.policy) as port:
            yield port
