# SPDX-License-Identifier: LGPL-2.1-or-later
"""The interface text, taken apart: for the manual (control-manual.py) and for the test that tries its
examples. A comment is paragraphs, and lines that are indented by three spaces or more, which stand as
they are; of these, a message begins with a brace, and the replies to it with an arrow."""

import re


class Member:
    """A type, method or error; or, with the kind "interface", the whole."""

    def __init__(self, kind, name, comment, signature):
        self.kind = kind
        self.name = name
        self.signature = signature      # what stands behind the name, lines and all
        self.blocks = split(comment)

    def conversation(self):
        """A list of (message, list of replies), as they stand."""
        result = []
        for is_text, lines in self.blocks:
            for line in [] if is_text else lines:
                if line.startswith('{'):
                    result.append((line, []))
                elif line.startswith('-> '):
                    result[-1][1].append(line[3:])
        return result

    def words(self):
        """Of the signature, without comments."""
        text = re.sub('#.*', '', self.signature)
        return re.findall(r'->|\[\]|\[string\]|[A-Za-z_][A-Za-z0-9_.]*|[(),:?]', text)


def split(comment):
    """A list of (is text, lines)."""
    blocks = []
    for line in comment:
        line = line[1:]
        if line.startswith('   '):
            is_text, line = False, line[3:]
        else:
            is_text, line = True, line.strip()
        if not blocks or blocks[-1][0] != is_text or (is_text and not line):
            blocks.append((is_text, []))
        if line:
            blocks[-1][1].append(line)
    return [block for block in blocks if block[1]]


def parse(text):
    members, comment, body = [], [], None
    for line in text.splitlines() + ['']:
        if body is not None and line and line[0] in ' )':
            body.append(line)
            continue
        if body is not None:
            kind, name, start = re.match(r'(\w+) ([\w.]+)\s*(.*)', body[0]).groups()
            members.append(Member(kind, name, comment, '\n'.join([start] + body[1:])))
            comment, body = [], None
        if line.startswith('#'):
            comment.append(line)
        elif line:
            body = [line]
    return members
