# SPDX-License-Identifier: LGPL-2.1-or-later
"""What stands in documents to be typed.

    typed.py blocks FILE [SECTION]      the blocks between ``` of a manual's source, each ended by a NUL
    typed.py session FILE OLD=NEW...    types the lines of FILE that begin with "    $ ", in one shell,
                                        and compares what comes with what stands below each; OLD is
                                        replaced by NEW in all of it
"""

import re
import subprocess
import sys


def blocks(path, section=None):
    with open(path, encoding='utf-8') as f:
        text = f.read()
    if section:
        text = re.search(r'^# %s\n(.*?)(?=^# |\Z)' % re.escape(section), text, re.M | re.S)[1]
    # What is doubled for scdoc is single on the page.
    found = re.findall(r'^```\n(.*?)^```$', text, re.M | re.S)
    sys.stdout.write(''.join(block.replace('\\\\', '\\') + '\0' for block in found))


def session(path, *replacements):
    with open(path, encoding='utf-8') as f:
        text = f.read()
    for replacement in replacements:
        old, _, new = replacement.partition('=')
        text = text.replace(old, new)

    steps = []
    in_block = continued = False
    for line in text.splitlines():
        if not line.startswith('    '):
            in_block = in_block and not line
            continue
        line = line[4:]
        if line.startswith('$ '):
            in_block = True
            steps.append([line[2:], ''])
        elif continued:
            steps[-1][0] += '\n' + line
        elif in_block:
            steps[-1][1] += line + '\n'
        continued = in_block and not steps[-1][1] and line.endswith(('|', '\\'))

    script = 'shopt -s expand_aliases\n'
    for number, (command, _) in enumerate(steps):
        script += "echo '@@%d'\n%s\n" % (number, command)
    said = subprocess.run(['bash', '-c', script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=120, check=False).stdout.decode()
    said = re.split(r'^@@\d+\n', said, flags=re.M)[1:]

    for (command, wanted), got in zip(steps, said, strict=True):
        # An empty line of the document is no part of what is said; a date is that of today; columns are
        # as wide as what was replaced.
        wanted, got = (re.sub(r' {2,}', '  ', re.sub(r'[A-Z][a-z]{2} [ \d]\d \d\d:\d\d', 'DATE', x))
                       .rstrip('\n') for x in (wanted, got))
        if '...' in wanted:
            wanted, got = wanted[:wanted.index('...')], got[:wanted.index('...')]
        if wanted != got:
            print('not ok - $ %s\n says\n%s\n and not\n%s' % (command, got[:2000], wanted))
            sys.exit(1)
        print('ok - $ %s' % command.splitlines()[0])


{'blocks': blocks, 'session': session}[sys.argv[1]](*sys.argv[2:])
