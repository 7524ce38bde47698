#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes docs/conformance.md of the conformance suite's own result.

    rm -f result; DMIO_CONFORMANCE_RESULT=$PWD/result ./check conformance
    tests/conformance/table.py result >docs/conformance.md

The result has a JSON object on each line: a case on a target. Of a case that was run again on a
target the last result counts. Exit status 1 if a case has failed.
"""

import json
import sys

TARGETS = ['classic', 'uring', 'threads', 'memory']

HEAD = """# Conformance

What the kernel's dm-io promises, in numbered cases, and how libdmio does. Each case is a test of that
number in `tests/conformance/`; this page is made of their results by `tests/conformance/table.py`.

Targets: `classic` is the calls of the kernel document on the default engine; the others are the
modern face with that back-end. The two faces differ in what they can say, so not every case is for
both. D1 to D8 are decisions where kernels differ or leave it open: D1 a negative return means that the
callback never runs, 0 that it runs exactly once; D2 what is unsupported is a bit told apart by its
errno; D3 a synchronous call in a callback is refused; D4 destroy waits, put to zero is refused; D5
callbacks never run inside of the submitting call; D6 a region that does not fit fails whole; D7 a
synchronous call needs no reservation; D8 exactly the pieces of a read that failed are zeroes.
"""


def read(paths):
    """{number: case}, where a case knows its results by target."""
    cases = {}
    for path in paths:
        with open(path, encoding='utf-8') as file:
            for line in file:
                entry = json.loads(line)
                case = cases.setdefault(entry['number'], {'results': {}})
                case.update(entry)
                if entry['target']:
                    case['results'][entry['target']] = (entry['outcome'], entry['note'])
    return cases


def outcome(case):
    """The outcome of all targets in a few words."""
    if not case['results']:
        return case['outcome']
    by_outcome = {}
    for target in TARGETS:
        if target in case['results']:
            by_outcome.setdefault(case['results'][target][0], []).append(target)
    if len(by_outcome) == 1:
        return next(iter(by_outcome))
    return '; '.join('%s: %s' % (which, ', '.join(targets))
                     for which, targets in sorted(by_outcome.items()))


def note(case):
    """What is to be said about a case, and about its results."""
    notes = [case['about']] if case['about'] else []
    said = {}
    for target, (_, text) in case['results'].items():
        if text:
            said.setdefault(text, []).append(target)
    for text, targets in said.items():
        notes.append('%s: %s' % (', '.join(t for t in TARGETS if t in targets), text))
    return '; '.join(notes)


def cell(text):
    return text.replace('|', '\\|')


def main(paths):
    cases = read(paths)
    if not cases:
        sys.exit('no results')
    print(HEAD, end='')
    section = None
    for number in sorted(cases):
        case = cases[number]
        if case['section'] != section:
            section = case['section']
            print('\n## %s\n\n| # | case | targets | outcome | note |\n| --- | --- | --- | --- | --- |'
                  % section)
        targets = ', '.join(t for t in TARGETS if t in case['results'])
        print('| %d | %s | %s | %s | %s |'
              % (number, cell(case['line']), targets, outcome(case), cell(note(case))))
    return any(result[0] == 'failed' for case in cases.values()
               for result in case['results'].values())


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
