"""Reads what `rowarden audit export` wrote with programs that are not ours.

    formats.py ocsf FILE    every event is valid by the published schema of OCSF 1.8.0
    formats.py cef FILE     a parser of CEF gets the fields back
    formats.py schema SCHEMA FILE   every line is valid by the schema of the log
"""

import collections
import json
import sys


def fail(text):
    print(text)
    sys.exit(1)


def ocsf(path):
    from jsonschema import Draft202012Validator
    from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.8.0"))
    validators, counts = {}, collections.Counter()
    for number, line in enumerate(open(path, encoding="utf-8")):
        event = json.loads(line)
        uid = event["class_uid"]
        if uid not in validators:
            name = schema.lookup_class_name_from_uid(class_uid=uid)
            profiles = event["metadata"].get("profiles", [])
            validators[uid] = Draft202012Validator(
                schema.get_class_schema(class_name=name, profiles=profiles)
            )
        for error in validators[uid].iter_errors(event):
            fail(f"event {number}, class {uid}: {list(error.absolute_path)}: {error.message}")
        counts[uid] += 1
    if not counts:
        fail("no events")
    print("valid OCSF 1.8.0:", dict(counts))


def cef(path):
    import pycef

    count = 0
    for number, line in enumerate(open(path, encoding="utf-8")):
        event = pycef.parse(line.rstrip("\n"))
        if not event or event["DeviceVendor"] != "rowarden":
            fail(f"event {number} is no CEF: {line}")
        if not event["externalId"] or not event["rt"].isdigit():
            fail(f"event {number} has lost fields: {event}")
        count += 1
    if not count:
        fail("no events")
    print("parsed CEF:", count)


def schema(schema_path, path):
    from jsonschema import Draft202012Validator

    rules = json.load(open(schema_path, encoding="utf-8"))
    Draft202012Validator.check_schema(rules)
    validator, count = Draft202012Validator(rules), 0
    for number, line in enumerate(open(path, encoding="utf-8")):
        for error in validator.iter_errors(json.loads(line)):
            fail(f"line {number}: {list(error.absolute_path)}: {error.message}")
        count += 1
    print("valid lines:", count)


if __name__ == "__main__":
    {"ocsf": ocsf, "cef": cef, "schema": schema}[sys.argv[1]](*sys.argv[2:])
