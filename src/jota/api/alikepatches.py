"""The same patch of the status of pods that are the same but for metadata: what it made of one, it makes of all.

A turn of the scheduler nominates pods of one template and marks victims of another; kubelets report within one second that the
pods of a rollout run, each under addresses of its own. In: an entry and a patch, undecoded. Out: the write, from the bytes of
one that went the whole way (apart.py) and was learned from. Nodes, addresses and ids of containers are names of their own,
as ownnames.py has it: no rule looks at them, and they make no difference but where they stand.

    {"podIPs":[{"ip":"10.0.0.7"}]} on a pod without addresses   made   k:{"ip":"10.0.0.7"} owned by "kubelet", since 10:00:00
    {"podIPs":[{"ip":"10.0.0.8"}]} on the next of its kind      makes  k:{"ip":"10.0.0.8"} owned by "kubelet", since 10:00:00

Nothing is remembered beyond the second: it is a part of who owns what.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from jota.aio.clock import rfc3339
from jota.api import object as at_rest
from jota.api.apart import Stored
from jota.api.ownnames import Names, OwnNames
from jota.api.shapes import BY_BYTES, LARGEST
from jota.meta.change import Change
from jota.store.protocol import Entry, Write

if TYPE_CHECKING:
    from jota.api.resource import Engine
    from jota.api.served import Served

MEDIA = ("application/merge-patch+json", "application/strategic-merge-patch+json")
_KEYS = {
    "ip": "address",
    "nodeName": "text",
    "nominatedNodeName": "text",
    "hostIP": "address",
    "podIP": "address",
    "containerID": "text",
}
_OWN = OwnNames(_KEYS)
_HOLES = [bytes([place]) for place in range(len(_KEYS))]
_HOLE = re.compile(b"[%b-%b]" % (_HOLES[0], _HOLES[-1]))
_IP, _NODE, _NOMINATED, _HOST_IP, _POD_IP, _CONTAINER = range(len(_KEYS))
_OF_PODS = (_IP, _HOST_IP, _POD_IP, _CONTAINER)
"""What a pod has from its node, once it runs there."""
_FROM_NODES = (b'"hostIP', b'"podIP', b'ontainerStatuses"')
"""The fields in which it has them."""
_LISTS = (b'"hostIPs":', b'"podIPs":')
_LISTS_OF_ONE = [name + b'[{"ip":"%b"}]' % _HOLES[_IP] for name in _LISTS]
_OWNERS = b'"managedFields":'
_OWNED_IP = b'k:{\\"ip\\":\\"'
"""An item of such a list in a set of fields, up to its address."""
_MOST = 64


class _Identity(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    uid: str = ""


class _Sent(msgspec.Struct, forbid_unknown_fields=True):
    """A patch with nothing else in it."""

    status: msgspec.Raw
    metadata: _Identity = _Identity()


class _Spec(msgspec.Struct):
    nodeName: str = ""


class _Placed(msgspec.Struct):
    spec: _Spec


_decode_sent = msgspec.json.Decoder(_Sent).decode
_decode_stored = msgspec.json.Decoder(Stored).decode
_decode_placed = msgspec.json.Decoder(_Placed).decode
_Key = tuple[bytes, bytes, bytes, str, str, str, bool]
"""All other fields and the status that is sent, both without names of their own; who owns what; when; who writes; how; whether
it is a node, which may write less."""


class Manner(NamedTuple):
    """How a patch is sent."""

    manager: str
    """Whose the fields will be."""
    media: str
    node: str | None
    """The sender's: `node_of` a user."""


Learn = Callable[[bytes, at_rest.Memo | None], None]
"""Is told what was worked out at length: the bytes to be stored, and what is known of them."""
Found = tuple[Write | None, Learn | None]
"""What to write; or what learns from the long way; or neither: nothing can be learned from that."""
NOTHING: Found = None, None


class _Wish(NamedTuple):
    entry: Entry
    line: int
    """Where the entry's metadata ends."""
    key: _Key
    names: Names
    """Of the pod as it will be, in the order of `OwnNames.cut`."""
    told: Names
    """Those of them in its status."""
    ips: Names
    """Those that the patch brings as items of lists."""


class _Form(NamedTuple):
    """Bytes with gaps, and which of the names stands in each."""

    pieces: list[bytes]
    places: list[int]

    def filled(self, names: Names) -> bytes:
        parts = self.pieces * 2
        parts[::2] = self.pieces
        parts[1::2] = [*map(names.__getitem__, self.places), b""]
        return b"".join(parts)


class _Outcome(NamedTuple):
    owners: _Form
    """Its names are the `ips` of a wish."""
    rest: _Form
    status: _Form


class AlikePatches:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[_Key, _Outcome] = {}
        self._now = ""

    field = "status"

    @staticmethod
    def possible(served: Served, subresource: str, media: str) -> bool:
        """Whether the rules of such a patch look neither at metadata nor at names of its own, but for where its node is."""
        return subresource == "status" and served.resource in BY_BYTES and media in MEDIA

    def find(self, manner: Manner, entry: Entry, body: bytes) -> Found:
        """Of a `possible` patch that can be made apart. Changes nothing."""
        try:
            wish = self._wish(manner, entry, body)
        except msgspec.MsgspecError:
            return NOTHING
        if wish is None:
            return NOTHING
        made = self._known.get(wish.key)
        return (_write(wish, made), None) if made is not None else (None, partial(self._learn, wish))

    def _wish(self, manner: Manner, entry: Entry, body: bytes) -> _Wish | None:
        """None for what has to go the whole way. Raises msgspec.MsgspecError."""
        value = entry.value or b""
        line = value.index(at_rest.NEWLINE)
        sent, stored = _decode_sent(body), _decode_stored(value[:line])
        owners = bytes(stored.managedFields)
        if stored.deletionTimestamp or not owners or sent.metadata.uid not in ("", stored.uid):
            return None
        node, rest, status = manner.node, value[line:], bytes(sent.status)
        if any(word in status for word in _FROM_NODES) and any(name in rest for name in _LISTS):
            return None  # most reports are about pods that have run before: no more is spent on them
        if node is not None and (not node or _decode_placed(b"{" + rest[2:] + b"}").spec.nodeName != node):
            return None
        rest, had = _OWN.cut_by_key(rest)
        status, brought = _OWN.cut_by_key(status)
        if not _told_apart(rest, status, owners, had, brought):
            return None
        both = [before + now for before, now in zip(had, brought, strict=True)]
        told = [names for key, names in enumerate(both) if key != _NODE]
        now = rfc3339(self._engine.clock.now())
        key = rest, status, owners, now, manner.manager, manner.media, node is not None
        return _Wish(entry, line, key, [*chain.from_iterable(both)], [*chain.from_iterable(told)], brought[_IP])

    def _learn(self, wish: _Wish, value: bytes, known: at_rest.Memo | None) -> None:
        if known is None or known.change is None or len(value) > LARGEST:
            return
        line = value.index(at_rest.NEWLINE)
        owners = bytes(_decode_stored(value[:line]).managedFields)
        (rest, by_key), (status, told) = _OWN.cut_by_key(value[line:]), _OWN.cut(known.change.status)
        names = [*chain.from_iterable(by_key)]
        # names that do not stay in their order (a node's takes the place of another one) make no likes; of two that are the same,
        # nobody can tell
        if names != wish.names or told != wish.told or value[:line] != _owned(wish, owners):
            return
        if any(len({*alike}) < len(alike) for alike in by_key):
            return
        if (form := _owners_form(owners, wish.ips)) is None:
            return
        now = wish.key[3]
        if now != self._now or len(self._known) >= _MOST:
            self._known.clear()
            self._now = now
        self._known[wish.key] = _Outcome(form, _form(rest), _form(status))


def _write(wish: _Wish, made: _Outcome) -> Write:
    entry = wish.entry
    value = _owned(wish, made.owners.filled(wish.ips)) + made.rest.filled(wish.names)
    change = Change(str(entry.revision), status=made.status.filled(wish.told))
    return entry.key, value, entry.revision, at_rest.after(entry, change, "status.")


def _form(data: bytes) -> _Form:
    """Of what `OwnNames.cut` gave, for its names."""
    places, following = [], [sum([data.count(hole) for hole in _HOLES[:key]]) for key in range(len(_HOLES))]
    for hole in _HOLE.findall(data):
        key = hole[0]
        places.append(following[key])
        following[key] += 1
    return _Form(_HOLE.split(data), places)


def _owners_form(owners: bytes, ips: Names) -> _Form | None:
    """None for one with other addresses."""
    first, *more = owners.split(_OWNED_IP) if ips else (owners,)
    pieces, places = [first], list[int]()
    for part in more:
        ip, _, behind = part.partition(b"\\")
        if ip not in ips:
            return None
        pieces[-1] += _OWNED_IP
        pieces.append(b"\\" + behind)
        places.append(ips.index(ip))
    return _Form(pieces, places)


def _told_apart(rest: bytes, status: bytes, owners: bytes, had: list[Names], brought: list[Names]) -> bool:
    """Whether no name that is brought is compared with one that is there, or with another: what comes of it is the same whatever
    they are. Lists of addresses have one each."""
    if b"\\" in status or (any(had[key] for key in _OF_PODS) and any(word in status for word in _FROM_NODES)):
        return False
    if not any(brought[key] for key in _OF_PODS):
        return True
    alone = sum([name in status for name in _LISTS_OF_ONE])
    return (
        alone == len(brought[_IP])
        and max(len(brought[_HOST_IP]), len(brought[_POD_IP])) <= 1
        and not any(name in rest for name in _LISTS)
        and _OWNED_IP not in owners
    )


def _owned(wish: _Wish, owners: bytes) -> bytes:
    """The metadata with other owners."""
    head = (wish.entry.value or b"")[: wish.line]
    # a label may have this name, too, but no list for its value
    before, _, behind = head.partition(_OWNERS + wish.key[2])
    return before + _OWNERS + owners + behind
