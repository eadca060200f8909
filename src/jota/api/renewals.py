"""The renewal of a Lease: a patch that says no more than when. Each node and leader sends one every few seconds.

In: an entry and a patch, undecoded. Out: the write, which is the stored bytes with another time. Whether that is all is learned
from a renewal that went the whole way (apart.py): it is when the fields' owners stayed the same, and then it is so for every
lease whose owners are these, whoever holds it: no rule looks at the time.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from jota.aio.clock import rfc3339
from jota.api import object as at_rest
from jota.api.alikepatches import MEDIA, NOTHING, Found, Manner
from jota.api.apart import decode_stored
from jota.meta.resource import LEASES
from jota.store.protocol import Entry

if TYPE_CHECKING:
    from jota.api.resource import Engine
    from jota.api.served import Served

_BEGIN, _END = b'{"spec":{"renewTime":"', b'"}}'
_TIME = b'"renewTime":"'
"""Never within a text: quotes are escaped there."""
_UID = re.compile(rb'k:\{\\"uid\\":\\"[^"\\]*\\"\}')
"""In a set of fields: one of the ownerReferences, each lease has its own."""
_LENGTH = len("2006-01-02T15:04:05.000000Z")
_MOST = 1024
_Key = tuple[bytes, Manner]
"""Who owns what, whoever owns the lease, and how it is sent."""


class Renewals:
    field = "spec"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: set[_Key] = set()

    @staticmethod
    def possible(served: Served, subresource: str, media: str) -> bool:
        return served.resource is LEASES and not subresource and media in MEDIA

    def find(self, manner: Manner, entry: Entry, body: bytes) -> Found:
        """Of a `possible` patch that can be made apart. Changes nothing."""
        time = body[len(_BEGIN) : -len(_END)]
        if manner.node is not None or not body.startswith(_BEGIN) or not body.endswith(_END) or not _is_time(time):
            return NOTHING  # which node may renew which lease is for plugins to say
        value = entry.value or b""
        line = value.index(at_rest.NEWLINE)
        begin = value.find(_TIME, line) + len(_TIME)
        end = begin + _LENGTH
        if begin < line or value[end : end + 1] != b'"' or value[begin:end] == time:
            return NOTHING
        stored = decode_stored(value[:line])
        owners = bytes(stored.managedFields)
        if stored.deletionTimestamp or not owners:
            return NOTHING
        key, renewed = (_UID.sub(b"", owners), manner), value[:begin] + time + value[end:]
        if key not in self._known:
            return None, partial(self._learn, key, renewed)
        return (entry.key, renewed, entry.revision, at_rest.after(entry, None, "spec.")), None

    def _learn(self, key: _Key, renewed: bytes, value: bytes, _: at_rest.Memo | None) -> None:
        # owners who got the time of this very second would get another one in the next
        if value != renewed or rfc3339(self._engine.clock.now()).encode() in key[0]:
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known.add(key)


def _is_time(text: bytes) -> bool:
    """A MicroTime in the form in which it is stored."""
    if len(text) != _LENGTH or text[-1:] != b"Z" or text[10:11] != b"T":
        return False
    try:
        return (
            datetime.fromisoformat(text[:-1].decode("ascii")).isoformat(timespec="microseconds").encode() == text[:-1]
        )
    except ValueError:
        return False
