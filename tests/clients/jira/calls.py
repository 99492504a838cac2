"""Makes a client's calls and prints what came of each as one JSON object.

A script is called with the URL to talk to, the token for it, the URL of the site itself and `reads` or `writes`. Around
each write it asks the site how often it was changed, which no gate can answer for it.
"""

import json
import sys
import urllib.request


def changes(site):
    with urllib.request.urlopen(f'{site}/writes') as answer:
        return json.load(answer)['writes']


def outcome(call):
    try:
        return {'value': call()}
    except Exception as error:
        return {'error': f'{type(error).__name__}: {error}'}


def report(reads, writes, site, phase):
    """`reads` and `writes` map names to calls; values must be what JSON can hold."""
    outcomes = {}
    for name, call in (reads if phase == 'reads' else writes).items():
        before = changes(site)
        outcomes[name] = outcome(call) | {'changes': changes(site) - before}
    json.dump(outcomes, sys.stdout, default=str, sort_keys=True)
