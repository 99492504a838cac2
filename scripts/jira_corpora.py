#!/usr/bin/env python3
"""Judges the JIRA corpora offline, by `rowarden explain http`, and says what fell short.

Four parts: every known operation in each API version, with all groups closed and with all open; the
attacks and the reads of the HTTP corpus as far as the verdict decides them (framing, headers and replies
need a running gate); what real clients were seen to send. Only the standard library is used. Exit 1
when a row is not judged as it says.
"""
import argparse
import base64
import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse
import zlib

GROUPS = "admin-reads,dev-status,expressions,personal-data"
CLIENT_GROUPS = "dev-status,personal-data"
# Of the requests that clients were seen to send, as many need CLIENT_GROUPS.
CLIENT_REQUESTS_IN_GROUPS = 53
# Values for the parameters of a path by name; any other is a number.
VALUES = {
    "issueIdOrKey": "ABC-1", "epicIdOrKey": "ABC-1", "requestIdOrKey": "ABC-1", "key": "ABC-1",
    "projectIdOrKey": "ABC", "projectKeyOrId": "ABC", "propertyKey": "some.property", "fieldKey": "app__field",
    "fieldId": "customfield_10001", "filename": "a b.pdf", "file": "ABC-1.xml", "rest": "x/y",
}
# What the gate refuses before or beside the verdict: by framing, headers, credentials and replies.
NOT_OF_THE_VERDICT = {"smuggle", "header", "hop", "override", "target", "dos", "response"}
NOT_OF_THE_VERDICT_NAMES = {"no credentials", "gzip body", "search two types", "two Content-Type"}


def json_lines(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


class Judge:
    """Asks the binary for many verdicts at once."""

    def __init__(self, binary):
        self.binary = binary

    def verdicts(self, requests, groups=""):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            for request in requests:
                file.write(json.dumps(request) + "\n")
            file.flush()
            command = [self.binary, "explain", "http", "--file", file.name]
            command += ["--open", groups] if groups else []
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        verdicts = [json.loads(line) for line in answer.splitlines()]
        if len(verdicts) != len(requests):
            raise SystemExit(f"{len(requests)} requests, {len(verdicts)} verdicts")
        return verdicts

    def verdict(self, method, target):
        """One verdict on bytes that no line of JSON can hold."""
        command = [self.binary.encode(), b"explain", b"http", b"--json", b"--", method, target]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


class Part:
    """What was wrong in one part."""

    def __init__(self, name):
        self.name = name
        self.rows = 0
        self.wrong = []

    def expect(self, good, what):
        self.rows += 1
        if not good:
            self.wrong.append(what)

    def show(self):
        print(f"{self.name:<34} {self.rows:>6} rows {len(self.wrong):>5} wrong")
        for what in self.wrong[:20]:
            print("   ", what)
        return not self.wrong


def fill(path):
    """A path with sensible values for its parameters."""
    return re.sub(r"\{([^}]*)\}", lambda name: urllib.parse.quote(VALUES.get(name[1], "10001")), path)


def spellings(path):
    """The path in each version of its API."""
    versions = re.fullmatch(r"/rest/api/(?:2|3|latest)(/.*)", path)
    if versions:
        return [f"/rest/api/{version}{versions[1]}" for version in ("2", "3", "latest")]
    return [path]


def operations(judge, rows):
    requests, expected = [], []
    for row in rows:
        for path in spellings(row["path"]):
            requests.append({"method": row["method"], "target": fill(path)})
            expected.append(row)
    closed, opened = Part("operations, all groups closed"), Part("operations, all groups open")
    names = Part("writes refused by name")
    for groups, part in (("", closed), (GROUPS, opened)):
        for request, row, verdict in zip(requests, expected, judge.verdicts(requests, groups)):
            allowed = row["default"] == "allow" or (groups and row["default"].startswith("deny ("))
            shown = f"{request['method']} {request['target']}: {verdict['decision']} {verdict['reason']}"
            part.expect((verdict["decision"] == "allow") == bool(allowed), shown)
            # A path that ends in a slash has its name in `jira-write`, too.
            if row["class"] in ("write", "side-effect") and not groups:
                names.expect(verdict["reason"] == "jira-write", shown)
    return [closed, opened, names]


def raw_request(row):
    raw = base64.b64decode(row["raw_b64"]) if "raw_b64" in row else zlib.decompress(base64.b64decode(row["raw_zlib_b64"]))
    head, _, body = raw.partition(b"\r\n\r\n")
    method, _, rest = head.split(b"\r\n")[0].partition(b" ")
    return method, rest.rpartition(b" ")[0], head.lower(), body


def query_of(target):
    return urllib.parse.parse_qsl(urllib.parse.urlsplit(target).query, keep_blank_values=True)


def attacks(judge, rows):
    part = Part("attacks that the verdict decides")
    for row in rows:
        if row["category"] in NOT_OF_THE_VERDICT or row["name"] in NOT_OF_THE_VERDICT_NAMES:
            continue
        method, target, head, body = raw_request(row)
        if row["category"] == "body":
            content_type = re.search(rb"\r\ncontent-type: *([^\r]*)", head)
            request = {"method": method.decode(), "target": target.decode()}
            request["body"] = body.decode("latin-1")
            request["content_type"] = content_type[1].decode() if content_type else ""
            verdict = judge.verdicts([request])[0]
        elif b"\0" in target:
            continue
        else:
            verdict = judge.verdict(method, target)
        sent = verdict["target"] or ""
        harmless = all(value == "false" for name, value in query_of(sent) if name.lower() == "updatehistory")
        good = verdict["decision"] == "deny" or (row["expect"] == "sanitized" and harmless)
        part.expect(good, f"{row['id']} {row['name']}: {verdict['decision']} {sent}")
    return part


def reads(judge, rows):
    part = Part("reads")
    for row in rows:
        method, target, _, _ = raw_request(row)
        verdict = judge.verdict(method, target)
        before, after = target.decode("latin-1"), verdict["target"] or ""
        same = query_of(before) == query_of(after)
        same &= before.partition("?")[0] == after.partition("?")[0]
        part.expect(verdict["decision"] == "allow" and same, f"{row['id']} {before}: {verdict['reason']} {after}")
    return part


def clients(judge, rows):
    part, refused = Part("requests of real clients"), []
    requests = {"must_allow": [], "must_deny": []}
    for row in rows:
        for request in row["requests"] if row["proto"] == "http" else []:
            judged = {"method": request["method"], "target": request["target"]}
            if request.get("body") and request["method"] == "POST" and row["expect"] == "must_allow":
                judged["body"] = request["body"]
            requests[row["expect"]].append(judged)
    wanted = requests["must_allow"]
    for request, verdict in zip(wanted, judge.verdicts(wanted, CLIENT_GROUPS)):
        part.expect(verdict["decision"] == "allow", f"{request}: {verdict['reason']} {verdict['note']}")
    reasons = collections.Counter(verdict["reason"] for verdict in judge.verdicts(wanted))
    good = reasons["jira-sensitive"] == CLIENT_REQUESTS_IN_GROUPS
    part.expect(good and sum(reasons.values()) == reasons["ok"] + reasons["jira-sensitive"], f"closed: {reasons}")
    for request, verdict in zip(requests["must_deny"], judge.verdicts(requests["must_deny"], GROUPS)):
        part.expect(verdict["reason"] == "jira-write", f"{request}: {verdict['reason']}")
    return part


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--shared", required=True)
    arguments = parser.parse_args()
    corpus = os.path.join(arguments.shared, "corpus")
    judge = Judge(arguments.binary)
    parts = operations(judge, json_lines(f"{corpus}/jira/operations.jsonl"))
    parts.append(attacks(judge, json_lines(f"{corpus}/http/attacks_shared.jsonl")))
    parts.append(reads(judge, json_lines(f"{corpus}/http/reads_shared.jsonl")))
    parts.append(clients(judge, json_lines(f"{corpus}/clients/captured.jsonl")))
    good = [part.show() for part in parts]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
