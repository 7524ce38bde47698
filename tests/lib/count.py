#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads meson's testlog.json and prints "N passed, N failed, N skipped".

A test program that reports its cases is counted by them: cmocka's totals, and the "ok - " lines of
the scripts, which stop at their first failure. Every other program counts as one. A program that
failed without totals of failed cases (a script, a crash, a timeout) adds one failure.

Exit status 1 if anything failed, or if nothing ran at all.
"""

import json
import re
import sys

CMOCKA = {
    'passed': re.compile(r'^\[  PASSED  \] (?:[^\n]*: )?(\d+) test\(s\)', re.M),
    'failed': re.compile(r'^\[  FAILED  \] (?:[^\n]*: )?(\d+) test\(s\)', re.M),
    'skipped': re.compile(r'^\[  SKIPPED \] (?:[^\n]*: )?(\d+) test\(s\)', re.M),
}
SCRIPT = {
    'passed': re.compile(r'^ok - ', re.M),
    'skipped': re.compile(r'^skip - ', re.M),
}


def count(entry):
    """The cases of one test program: passed, failed, skipped."""
    text = (entry.get('stdout') or '') + '\n' + (entry.get('stderr') or '')
    result = entry['result']
    cases = {key: sum(int(n) for n in pattern.findall(text)) for key, pattern in CMOCKA.items()}
    for key, pattern in SCRIPT.items():
        cases[key] += len(pattern.findall(text))
    if result == 'SKIP':
        return 0, 0, 1
    if result in ('OK', 'EXPECTEDFAIL'):
        if cases['passed'] + cases['skipped'] == 0:
            cases['passed'] = 1
    elif cases['failed'] == 0:
        cases['failed'] = 1
    return cases['passed'], cases['failed'], cases['skipped']


def main(path):
    total = [0, 0, 0]
    programs = 0
    with open(path, encoding='utf-8') as log:
        for line in log:
            if not line.strip():
                continue
            programs += 1
            total = [a + b for a, b in zip(total, count(json.loads(line)))]
    print('%d passed, %d failed, %d skipped' % tuple(total))
    return 1 if total[1] > 0 or programs == 0 else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
