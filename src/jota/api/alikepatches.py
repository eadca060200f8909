"""The same patch of the status of pods that are the same but for metadata: what it made of one, it makes of all.

A turn of the scheduler nominates pods of one template and marks victims of another. In: a request of many (several.py), entry by
entry, undecoded. Out: the write, from the bytes of one that went the whole way (apart.py) and was handed to `keep`. The nodes that
they are on, or nominated to, are names of their own, as ownnames.py has it. Nothing is remembered beyond the request.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from jota.aio.clock import rfc3339
from jota.api import object as at_rest
from jota.api.apart import Stored
from jota.api.call import Call
from jota.api.filters.node import node_of
from jota.api.ownnames import Names, OwnNames
from jota.api.resource import Engine
from jota.api.shapes import BY_BYTES
from jota.api.verbs.patch import MERGE, STRATEGIC
from jota.meta.change import Change
from jota.store.protocol import Entry, Write

_OWN = OwnNames({"nodeName": "text", "nominatedNodeName": "text"})
_OWNERS = b'"managedFields":'


class _Identity(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    uid: str = ""


class _Sent(msgspec.Struct, forbid_unknown_fields=True):
    """A patch with nothing else in it."""

    status: msgspec.Raw
    metadata: _Identity = _Identity()


_decode_sent = msgspec.json.Decoder(_Sent).decode
_decode_stored = msgspec.json.Decoder(Stored).decode
_Key = tuple[bytes, bytes, bytes, str]
"""All other fields and the status that is sent, both without names of their own; who owns what; when."""


class Wish(NamedTuple):
    entry: Entry
    line: int
    """Where the entry's metadata ends."""
    key: _Key
    names: Names
    sent: Names
    """Those of them that the patch brings."""


class _Outcome(NamedTuple):
    owners: bytes
    rest: bytes
    """Without the names, as the next."""
    status: bytes


class AlikePatches:
    """Of one request."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[_Key, _Outcome] = {}

    @staticmethod
    def possible(call: Call, media: str) -> bool:
        """Whether the rules of such a patch look neither at metadata nor at the names of nodes."""
        alike = call.served.resource in BY_BYTES and call.target.subresource == "status"
        return alike and media in (MERGE, STRATEGIC) and node_of(call.user) is None

    def wish(self, entry: Entry, body: bytes) -> Wish | None:
        """None for what has to go the whole way. Raises msgspec.MsgspecError."""
        value = entry.value or b""
        line = value.index(at_rest.NEWLINE)
        sent, stored = _decode_sent(body), _decode_stored(value[:line])
        owners = bytes(stored.managedFields)
        if stored.deletionTimestamp or not owners or sent.metadata.uid not in ("", stored.uid):
            return None
        (rest, names), (status, more) = _OWN.cut(value[line:]), _OWN.cut(bytes(sent.status))
        return Wish(entry, line, (rest, status, owners, rfc3339(self._engine.clock.now())), names + more, more)

    def find(self, wish: Wish) -> Write | None:
        made = self._known.get(wish.key)
        if made is None:
            return None
        entry = wish.entry
        value = _owned(wish, made.owners) + _OWN.fill(made.rest, wish.names)
        change = Change(str(entry.revision), status=_OWN.fill(made.status, wish.sent))
        return entry.key, value, entry.revision, at_rest.after(entry, change, "status.")

    def keep(self, wish: Wish, value: bytes, known: at_rest.Memo | None) -> None:
        """What was worked out at length: the bytes to be stored, and what is known of them."""
        if known is None or known.change is None:
            return
        line = value.index(at_rest.NEWLINE)
        owners = bytes(_decode_stored(value[:line]).managedFields)
        (rest, names), (status, same) = _OWN.cut(value[line:]), _OWN.cut(known.change.status)
        # names that do not stay in their order (a node's takes the place of another one) make no likes
        if names == wish.names and same == wish.sent and value[:line] == _owned(wish, owners):
            self._known[wish.key] = _Outcome(owners, rest, status)


def _owned(wish: Wish, owners: bytes) -> bytes:
    """The metadata with other owners."""
    head = (wish.entry.value or b"")[: wish.line]
    # a label may have this name, too, but no list for its value
    before, _, behind = head.partition(_OWNERS + wish.key[2])
    return before + _OWNERS + owners + behind
