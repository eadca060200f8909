"""The bodies of requests about objects that are the same but for names: the bytes without these, and the names.

Who fills in one template for each of many objects sends bodies of one spelling. The first few of them are decoded to learn where
their names stand (`cut_body`); the others are compared with what stands around these (`Spelling`). In: the body of a
request about an object of one kind. Out: a Cut. Next: twins.py and alikeputs.py, which remember what is without names.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from jota.api.gaps import Names, Pattern
from jota.api.ownnames import OwnNames

_LEARN = 4
"""Bodies that are decoded before their spelling is learnt: most come once."""
_MOST, _MOST_SEEN = 8, 256
_OBJECT = -1
"""The key of a gap that is the object's name."""
_PLAIN = re.compile(rb"[a-z0-9.-]+")
_is_plain = _PLAIN.fullmatch
_NAME = b"\x1f"
"""Stands for the name of the object and its quotes; never in JSON."""
_NAMES = (b'"name":', b'"name": ')
"""As encoders write it."""


class _Metadata(msgspec.Struct):
    name: msgspec.Raw = msgspec.Raw(b"")
    generateName: msgspec.Raw = msgspec.Raw(b"")
    uid: msgspec.Raw = msgspec.Raw(b"")


class _Sent(msgspec.Struct):
    metadata: _Metadata
    spec: msgspec.Raw = msgspec.Raw(b"")


_decode = msgspec.json.Decoder(_Sent).decode


class Cut(NamedTuple):
    body: bytes
    """Without the object's name, and without those in its spec."""
    name: str
    """"": it has but a prefix for a name."""
    names: Names
    """Those in its spec."""
    identified: bool
    """It has a uid."""


class Bodies:
    """Of one kind."""

    def __init__(self, own: OwnNames) -> None:
        self.own = own
        self._known: list[Spelling] = []
        """The last one that was met first."""
        self._seen: dict[bytes, int] = {}
        """How often what was decoded came, without names."""

    def cut(self, body: bytes) -> Cut | None:
        """None for what is not plain, or names nothing. Raises nothing."""
        for place, spelling in enumerate(self._known):
            found = spelling.read(body)
            if found is not None:
                if place:
                    self._known.insert(0, self._known.pop(place))
                return found
        found = cut_body(body, self.own)
        if found is not None and found.body is not body:
            self._learn(found)
        return found

    def _learn(self, cut: Cut) -> None:
        times = self._seen.pop(cut.body, 0) + 1
        if times < _LEARN:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen[cut.body] = times
        elif (spelling := Spelling.of(cut, self.own)) is not None:
            self._known.insert(0, spelling)
            del self._known[_MOST:]


class Spelling:
    """What stands around the names. A body of this spelling says the same with other names: what is in the gaps is of a form that
    ends no string, and the name of the object stands nowhere else."""

    def __init__(self, pattern: Pattern, cut: Cut, name: int, places: list[int]) -> None:
        """`name`: which of the gaps is the object's name, -1 when it has none; `places`: those of `cut.names`."""
        self._pattern, self._cut, self._name, self._places = pattern, cut, name, places

    @classmethod
    def of(cls, cut: Cut, own: OwnNames) -> Spelling | None:
        """None for one whose name stands elsewhere, too."""
        quoted = b'"%b"' % cut.name.encode()
        if any(key + quoted in cut.body for key in _NAMES):
            return None
        before, hole, behind = cut.body.partition(_NAME)
        order, name, pattern = own.order(before), -1, own.pattern(before)
        if hole:
            name, order = len(order), [*order, _OBJECT, *own.order(behind)]
            left, right = own.pattern(before + b'"'), own.pattern(b'"' + behind)
            pattern = Pattern(left.first, [*left.rest, (_is_plain, right.first), *right.rest])
        places = sorted((place for place in range(len(order)) if place != name), key=order.__getitem__)
        return cls(pattern, cut, name, places)

    def read(self, body: bytes) -> Cut | None:
        found = self._pattern.names(body)
        if found is None:
            return None
        name = found[self._name].decode() if self._name >= 0 else ""
        return Cut(self._cut.body, name, [found[place] for place in self._places], self._cut.identified)


def cut_body(body: bytes, own: OwnNames) -> Cut | None:
    """As `Bodies.cut`, by decoding it."""
    try:
        sent = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    spec = bytes(sent.spec)
    without, names = own.cut(spec)
    if names:
        if body.count(spec) > 1:
            return None  # which of them is the spec?
        body = body.replace(spec, without)
    name, raw = "", bytes(sent.metadata.name)
    if raw:
        # Only what stands around the name is compared. Should another "name" of the same value be cut out of it, the
        # name itself is part of what is compared.
        plain = _is_plain(raw[1:-1])
        first, second = _NAMES
        before = first if first + raw in body else second if second + raw in body else b""
        if raw[:1] != b'"' or plain is None or not before:
            return None
        name, body = plain[0].decode(), body.replace(before + raw, before + _NAME, 1)
    elif not bytes(sent.metadata.generateName):
        return None
    return Cut(body, name, names, bool(bytes(sent.metadata.uid)))
