#!/usr/bin/env python3
"""Measures what slow clients cost a normal one: p99 of reads through the JIRA gate, calm and under attack.

    scripts/slow_clients.py [--program PATH] [--connections N] [--seconds N]

Starts a recording upstream and the program before it, measures a normal client, then again while
slowhttptest (Debian: slowhttptest) holds N connections in each of its modes: slow headers, slow bodies,
slow reads. Ends with 1 if the p99 of a mode is twice the calm one or more. Everything is on loopback.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import http_corpus

READ = http_corpus.READ.encode()
MODES = {
    "slow headers": ["-H", "-i", "1"],
    "slow bodies": ["-B", "-i", "1", "-s", "8192", "-t", "POST", "-f", "application/json"],
    "slow reads": ["-X", "-w", "10", "-y", "20", "-n", "5", "-z", "32"],
}


def once(port):
    """Seconds that one read takes, connection included."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.settimeout(30)
        connection.sendall(READ)
        answer = connection.recv(65536)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"a normal client got {answer[:80]!r}")
    return time.perf_counter() - began


def p99(port, seconds):
    until, times = time.monotonic() + seconds, []
    while time.monotonic() < until:
        times.append(once(port))
    times.sort()
    return times[int(len(times) * 0.99)], len(times)


def attack(arguments, port, options):
    target = f"http://127.0.0.1:{port}/rest/api/2/search"
    command = ["slowhttptest", *arguments, "-c", str(options.connections), "-r", "200", "-l", str(options.seconds + 4)]
    return subprocess.Popen([*command, "-u", target], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/rowarden")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    if not shutil.which("slowhttptest"):
        print("slowhttptest is missing: sudo apt-get install slowhttptest", file=sys.stderr)
        sys.exit(3)
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        gate = http_corpus.Gate(options.program, folder)
        try:
            p99(gate.port, 1)
            calm, reads = p99(gate.port, options.seconds)
            print(f"{'calm':14} p99 {calm * 1000:7.2f} ms  {reads} reads")
            for name, arguments in MODES.items():
                attacker = attack(arguments, gate.port, options)
                try:
                    time.sleep(3)  # until its connections stand
                    slow, reads = p99(gate.port, options.seconds)
                finally:
                    attacker.terminate()
                    attacker.wait()
                worst = max(worst, slow / calm)
                print(f"{name:14} p99 {slow * 1000:7.2f} ms  {reads} reads  {slow / calm:.2f} x calm", flush=True)
        finally:
            gate.stop()
    sys.exit(0 if worst < 2 else 1)


if __name__ == "__main__":
    main()
