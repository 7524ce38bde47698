# SPDX-License-Identifier: LGPL-2.1-or-later
"""The manual of the control channel: a page in scdoc's language whose lines "@types@", "@methods@" and
"@errors@" are replaced by what the interface text says.

    control-manual.py PAGE INTERFACE-TEXT
"""

import re
import sys

import interface


def plain(text):
    """Without what scdoc would take for a mark."""
    text = re.sub(r'([\\_*~])', r'\\\1', text)
    return re.sub(r'^([#\[|:;-])', r'\\\1', text)


def literal(lines):
    return '```\n%s\n```\n\n' % '\n'.join(line.replace('\\', '\\\\') for line in lines)


def comment(member):
    result = ''
    for is_text, lines in member.blocks:
        if is_text:
            result += plain(' '.join(lines)) + '\n\n'
        else:
            result += literal(lines)
    return result


def signature(member):
    """In one paragraph, which is filled; errors have a space there, methods have not."""
    text = ' '.join(member.signature.split()).replace('( ', '(').replace(' )', ')')
    space = ' ' if member.kind == 'error' else ''
    return '*%s*%s%s\n' % (plain(member.name), space, plain(text))


def fields(member):
    """A type that has a line for each field: with the comments behind or before them."""
    result, before = '', ''
    for line in member.signature.splitlines():
        code, _, words = line.partition('#')
        code = code.strip().rstrip(',')
        if not code:
            before += words.strip()
            continue
        if ':' in code:
            name, _, kind = code.partition(':')
            result += '*%s*: %s\n' % (plain(name), plain(kind.strip()))
            words = (before + words).strip()
            result += '\t%s\n\n' % plain(words) if words else '\n'
        before = ''
    return result


def describe(member):
    if member.kind == 'error':
        words = comment(member).strip()
        return signature(member) + ('\t%s\n\n' % words if words else '\n')
    text = '## %s\n\n' % member.name
    if '#' in member.signature:
        return text + comment(member) + fields(member)
    return text + signature(member) + '\n' + comment(member)


def main(page, text):
    with open(text, encoding='utf-8') as f:
        # Not every terminal has the one character.
        members = interface.parse(f.read().replace('…', '...'))
    with open(page, encoding='utf-8') as f:
        for line in f:
            kind = re.fullmatch('@(type|method|error)s@\n', line)
            if not kind:
                sys.stdout.write(line)
                continue
            for member in members:
                if member.kind == kind[1]:
                    sys.stdout.write(describe(member))


sys.stdout.reconfigure(encoding='utf-8')
main(*sys.argv[1:])
