# SPDX-License-Identifier: LGPL-2.1-or-later
"""Says the examples of one method of the interface text to a daemon that has just been started, as
somebody who has read the manual would: socat for a message, the control channel by hand where there
are descriptors or many replies. Each reply must be the one that the text promises, and what it has
must be in the signature, with the type that is said there.

    interface.py --list            the methods
    interface.py --description     what the daemon says that the text is
    interface.py METHOD            try it
"""

import json
import os
import re
import subprocess
import sys

from client import CONTROL, WORK, Connection, expect, expect_eq, image, memfd, ok, region, skip_case

sys.path.insert(0, os.environ['DMIO_SOURCE'] + '/docs')
import interface    # noqa: E402 pylint: disable=wrong-import-position

ANY = '…'


class Types:
    """What the text says of values: are these parameters what the method or error has?"""

    def __init__(self, members):
        self.types = {m.name: m.words() for m in members if m.kind == 'type'}

    def check(self, words, value, where=''):
        """The first pair of brackets of @words, for the object @value; raises ValueError."""
        self._struct(list(words), value, where)

    def _struct(self, words, value, where):
        """Without a value it is only stepped over. Returns what is left of @words."""
        known = set()
        assert words.pop(0) == '('
        while words[0] != ')':
            name = words.pop(0)
            assert words.pop(0) == ':', (name, words)
            known.add(name)
            if value is None:
                words = self._type(words, None, where)
            elif name in value:
                if words[0] == '?':
                    words.pop(0)
                words = self._type(words, value[name], where + '.' + name, True)
            else:
                if words[0] != '?':
                    raise ValueError('%s.%s is missing' % (where, name))
                words = self._type(words[1:], None, where)
            if words[0] == ',':
                words.pop(0)
        if value is not None and not isinstance(value, dict):
            raise ValueError('%s is not an object' % where)
        for name in value or ():
            if name not in known:
                raise ValueError('%s.%s is not in the text' % (where, name))
        return words[1:]

    def _type(self, words, value, where, present=False):
        """Returns what is left of @words; without @present nothing is checked."""
        word = words.pop(0)
        if word == '?':
            return self._type(words, value, where, present and value is not None)
        if word in ('[]', '[string]'):
            rest = self._type(list(words), None, where)
            items = () if not present else value.values() if word == '[string]' else value
            for item in items:
                self._type(list(words), item, where + '[]', True)
            return rest
        if word == '(' and words[1] in (',', ')'):
            names = words[:words.index(')')]
            if present and value not in names:
                raise ValueError('%s is %r' % (where, value))
            return words[len(names) + 1:]
        if word == '(':
            return self._struct([word] + words, value if present else None, where)
        simple = {'string': str, 'int': int, 'bool': bool, 'object': dict, 'float': float}
        if not present:
            pass
        elif word in simple:
            if type(value) is not simple[word]:
                raise ValueError('%s is %r, not of the type %s' % (where, value, word))
        elif self.types[word][1:2] and self.types[word][2:3] != [':']:
            self._type(list(self.types[word]), value, where, True)
        else:
            self._struct(list(self.types[word]), value, where)
        return words


# --- what is promised
def pattern_of(text):
    """A reply as it is written in the text; "…" is a value, or further members or items."""
    text = re.sub(r'([:\[])…', r'\1"…"', text)
    text = re.sub(r'([{,])…}', r'\1"…":0}', text)
    return json.loads(text.replace(',…]', ',"…"]'))


def matches(pattern, value):
    if pattern == ANY:
        return True
    if isinstance(pattern, dict):
        names = pattern.keys() - {ANY}
        return isinstance(value, dict) and names <= value.keys() and \
            (ANY in pattern or names == value.keys()) and \
            all(matches(pattern[name], value[name]) for name in names)
    if isinstance(pattern, list) and pattern[-1:] == [ANY]:
        return isinstance(value, list) and all(map(matches, pattern[:-1], value))
    if isinstance(pattern, list):
        return isinstance(value, list) and len(pattern) == len(value) and \
            all(map(matches, pattern, value))
    return type(pattern) is type(value) and pattern == value


assert matches(pattern_of('{"a":…,"b":[1,…],…}'), {'a': {}, 'b': [1, 2], 'c': 1})
assert not matches(pattern_of('{"a":…}'), {'a': 1, 'b': 1})
assert not matches(pattern_of('{"a":[…],"b":1}'), {'a': [], 'b': True})


# --- how it is said
def call_by_socat(text):
    said = subprocess.run(['socat', '-t20', '-', 'UNIX-CONNECT:' + CONTROL], check=True, timeout=60,
                          input=text.encode() + b'\n', stdout=subprocess.PIPE)
    return [json.loads(line) for line in said.stdout.decode().splitlines()]


def call_by_hand(text, fds, n_wanted):
    """With more: all replies; or as many as are wanted of a call that goes on for ever."""
    replies = []
    with Connection() as c:
        c.send_bytes(text.encode() + b'\n', fds)
        while len(replies) < n_wanted:
            replies.append(c.receive())
            if not replies[-1].get('continues'):
                break
    return replies


def say(text, promises):
    message = json.loads(text)
    fds = []
    if re.search(r'"fd[":]', text):
        fds = [os.open(WORK + '/a.img', os.O_RDWR), memfd(bytes(8 * 4096))]
    if not fds and not message.get('more'):
        return call_by_socat(text)
    for_ever = promises and '"continues":true' in promises[-1]
    n_wanted = len(promises) if for_ever else 10000 if promises else 1
    replies = call_by_hand(text, fds, n_wanted)
    for fd in fds:
        os.close(fd)
    return replies


def check_reply(members, message, reply):
    """Against the signatures; of errors of other interfaces nothing is known here."""
    kind, name = 'method', message['method'].rpartition('.')[2]
    if 'error' in reply:
        kind, (where, _, name) = 'error', reply['error'].rpartition('.')
        if where != 'io.dmiod':
            return
    member = next(m for m in members if (m.kind, m.name) == (kind, name))
    words = member.words()
    if kind == 'method':
        words = words[words.index('->') + 1:]
    Types(members).check(words, reply['parameters'], name)


def try_message(members, text, promises):
    message = json.loads(text)
    replies = say(text, promises)
    where = text if len(text) < 90 else text[:90] + '...'
    for reply in replies:
        check_reply(members, message, reply)
    if not promises:
        skip_case('no reply is promised to ' + where)
        expect('it is understood: ' + where,
               not replies[0].get('error', '').startswith('org.varlink.service.'), replies)
        return
    rest = list(replies)
    for i, promise in enumerate(promises):
        if promise == ANY:
            n_skipped = max(len(rest) - (len(promises) - i - 1), 0)
            expect('nothing is refused: ' + where,
                   not any('error' in reply for reply in rest[:n_skipped]), rest)
            rest = rest[n_skipped:]
            continue
        expect('the promised reply to ' + where, rest and matches(pattern_of(promise), rest[0]),
               'is %s, not %s' % (json.dumps(rest[:1]), promise))
        rest = rest[1:]
    expect_eq('and no other', rest, [])


def prepare(method):
    for name in 'a.img', 'b.img':
        image(name, 16 << 20)
    with Connection() as c:
        if method == 'OpenClient':
            return
        c.call('OpenClient', {'name': 'alice', 'pages': 256, 'linger': True})
        if method != 'CreateExport':
            c.call('CreateExport', {'client': 'alice', 'name': 'vol', 'regions': [
                region('a.img', 0, 16384), region('b.img', 100, 16384)]})


def main(what):
    with open(os.environ['DMIO_SOURCE'] + '/daemon/control/io.dmiod.varlink', encoding='utf-8') as f:
        text = f.read()
    members = interface.parse(text)
    methods = [m for m in members if m.kind == 'method']
    if what == '--list':
        print('\n'.join(m.name for m in methods))
    elif what == '--description':
        with Connection() as c:
            served = c.call('org.varlink.service.GetInterfaceDescription',
                            {'interface': 'io.dmiod'})['description']
        expect('the daemon serves the text that is tried here', served == text)
        for member in members:
            expect('%s has a sentence' % member.name, member.blocks and member.blocks[0][0])
        for method in methods:
            expect('%s has an example' % method.name, method.conversation())
    else:
        method = next(m for m in methods if m.name == what)
        prepare(what)
        for message, promises in method.conversation():
            try_message(members, message, promises)
        ok(what)


main(sys.argv[1])
