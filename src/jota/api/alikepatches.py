"""The same patch of the status of pods that are the same but for metadata: what it made of one, it makes of all.

A turn of the scheduler nominates pods of one template and marks victims of another; kubelets report within one second that the
pods of a rollout run, each under addresses of its own. In: an entry and a patch, undecoded. Out: the write, from the bytes of
one that went the whole way (apart.py) and was learned from. Nodes, addresses and ids of containers are names of their own,
as ownnames.py has it: no rule looks at more than their form and at which of them are the same, and they make no difference but
where they stand.

    {"podIPs":[{"ip":"10.0.0.7"}]} on a pod without addresses   made   k:{"ip":"10.0.0.7"} owned by "kubelet", since 10:00:00
    {"podIPs":[{"ip":"10.0.0.8"}]} on the next of its kind      makes  k:{"ip":"10.0.0.8"} owned by "kubelet", since 10:00:00

Nothing is remembered beyond the second: it is a part of who owns what.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from jota.api import object as at_rest
from jota.api.apart import decode_stored
from jota.api.gaps import Form, Names, Pattern
from jota.api.ownnames import OwnNames
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
    "nominatedNodeName": "subdomain",
    "hostIP": "address",
    "podIP": "address",
    "containerID": "text",
}
_OWN = OwnNames(_KEYS)
_IP, _NODE, _NOMINATED, _HOST_IP, _POD_IP, _CONTAINER = range(len(_KEYS))
_OF_PODS = (_IP, _HOST_IP, _POD_IP, _CONTAINER)
"""What a pod has from its node, once it runs there."""
_ADDRESSES = (_IP, _HOST_IP, _POD_IP)
_FROM_NODES = (b'"hostIP', b'"podIP', b'ontainerStatuses"')
"""The fields in which it has them."""
_LISTS = (b'"hostIPs":', b'"podIPs":')
_LISTS_OF_ONE = [_OWN.cut(name + b'[{"ip":"10.0.0.7"}]')[0] for name in _LISTS]
_OWNERS = b'"managedFields":['
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
_decode_placed = msgspec.json.Decoder(_Placed).decode


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


class _Asked(NamedTuple):
    """A patch, and what it is about."""

    manner: Manner
    entry: Entry
    line: int
    """Where the entry's metadata ends."""
    owners: bytes
    status: bytes
    """As it is sent."""

    def value(self, owners: bytes, rest: bytes) -> bytes:
        """What is stored, with other owners and other fields beside metadata."""
        value = self.entry.value or b""
        # a label may have this name, too, but no list for its value
        begin = value.index(_OWNERS) + len(_OWNERS) - 1
        return b"".join((value[:begin], owners, value[begin + len(self.owners) : self.line], rest))


class _Outcome(NamedTuple):
    """One that went the whole way, and what came of it. The names that are filled in are those of the stored object, then those of
    the status that was sent."""

    manner: Manner
    owners: bytes
    stored: Pattern
    sent: Pattern
    makes: Form
    """The fields beside metadata."""
    owned: Form
    status: Form
    """As it is now; part of what it makes."""
    addresses: list[int]
    """Which of the names are such, and which of these (below) is the first that is the same: rules compare them."""
    same: list[int]

    def write(self, asked: _Asked) -> Write | None:
        """None: it is not like this one."""
        if asked.owners != self.owners or not _same(asked.manner, self.manner):
            return None
        brought, entry = self.sent.names(asked.status), asked.entry
        if brought is None or (names := self.stored.names(entry.value or b"", asked.line)) is None:
            return None
        names += brought
        if _firsts(names, self.addresses) != self.same:
            return None
        value = asked.value(self.owned.filled(names), self.makes.filled(names))
        change = Change(str(entry.revision), status=self.status.filled(names))
        return entry.key, value, entry.revision, at_rest.after(entry, change, "status.")


class AlikePatches:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: list[_Outcome] = []
        """Of this second; the last one that was asked for is the first."""
        self._second = 0

    field = "status"

    @staticmethod
    def possible(served: Served, subresource: str, media: str) -> bool:
        """Whether the rules of such a patch look neither at metadata nor at names of its own, but for where its node is."""
        return subresource == "status" and served.resource in BY_BYTES and media in MEDIA

    def find(self, manner: Manner, entry: Entry, body: bytes) -> Found:
        """Of a `possible` patch that can be made apart. Changes nothing."""
        try:
            asked = _asked(manner, entry, body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return NOTHING
        if asked is None:
            return NOTHING
        if int(self._engine.clock.now()) == self._second:
            for place, outcome in enumerate(self._known):
                if (write := outcome.write(asked)) is not None:
                    if place:
                        self._known.insert(0, self._known.pop(place))
                    return write, None
        return None, partial(self._learn, asked) if _learnable(asked) else None

    def _learn(self, asked: _Asked, value: bytes, known: at_rest.Memo | None) -> None:
        if known is None or known.change is None or len(value) > LARGEST:
            return
        outcome = _outcome(asked, value, known.change.status)
        if outcome is None:
            return
        now = int(self._engine.clock.now())
        if now != self._second or len(self._known) >= _MOST:
            self._known.clear()
            self._second = now
        self._known.insert(0, outcome)


def _firsts(names: Names, places: list[int]) -> list[int]:
    chosen = [names[place] for place in places]
    return [*map(chosen.index, chosen)]


def _same(one: Manner, other: Manner) -> bool:
    """Which node it is makes no difference, if it may write at all; that it is one does: it may write less."""
    alike = one.manager == other.manager and one.media == other.media
    return alike and (one.node is None) == (other.node is None)


def _asked(manner: Manner, entry: Entry, body: bytes) -> _Asked | None:
    """None for what has to go the whole way. Raises msgspec.MsgspecError."""
    value = entry.value or b""
    line = value.index(at_rest.NEWLINE)
    sent, stored = _decode_sent(body), decode_stored(value[:line])
    owners, node = bytes(stored.managedFields), manner.node
    if stored.deletionTimestamp or not owners or sent.metadata.uid not in ("", stored.uid):
        return None
    if node is not None and (not node or _decode_placed(b"{" + value[line + 2 :] + b"}").spec.nodeName != node):
        return None
    return _Asked(manner, entry, line, owners, bytes(sent.status))


def _learnable(asked: _Asked) -> bool:
    """Whether no name that is brought is compared with one that is there, or with another: what comes of it is the same whatever
    they are. Lists of addresses have one each."""
    rest, status = (asked.entry.value or b"")[asked.line :], asked.status
    from_node = any(word in status for word in _FROM_NODES)
    if b"\\" in status or (from_node and any(name in rest for name in _LISTS)):
        return False  # most reports are about pods that have run before: no more is spent on them
    had = _OWN.cut_by_key(rest)[1]
    if from_node and any(had[key] for key in _OF_PODS):
        return False
    status, brought = _OWN.cut_by_key(status)
    if not any(brought[key] for key in _OF_PODS):
        return True
    alone = sum([name in status for name in _LISTS_OF_ONE])
    return (
        alone == len(brought[_IP])
        and max(len(brought[_HOST_IP]), len(brought[_POD_IP])) <= 1
        and not any(name in rest for name in _LISTS)
        and _OWNED_IP not in asked.owners
    )


def _outcome(asked: _Asked, value: bytes, status: bytes) -> _Outcome | None:
    """`value`, `status`: as they will be stored. None: others like it are not known by it."""
    line = value.index(at_rest.NEWLINE)
    owners = bytes(decode_stored(value[:line]).managedFields)
    had_bytes = (asked.entry.value or b"")[asked.line :]
    (had, had_names), (sent, sent_names) = map(_OWN.cut_by_key, (had_bytes, asked.status))
    (made, made_names), (told, told_names) = map(_OWN.cut_by_key, (value[line:], status))
    names = [before + brought for before, brought in zip(had_names, sent_names, strict=True)]
    # names that do not stay in their order (a node's takes the place of another one) make no likes; of two that are the same,
    # nobody can tell
    if made_names != names or told_names != [[] if key == _NODE else of for key, of in enumerate(names)]:
        return None
    if any(len({*alike}) < len(alike) for alike in names) or value != asked.value(owners, value[line:]):
        return None
    order = _OWN.order(had) + _OWN.order(sent)
    places = [[place for place, key in enumerate(order) if key == wanted] for wanted in range(len(_KEYS))]
    ips = places[_IP][len(had_names[_IP]) :]
    owned = _owners_form(owners, sent_names[_IP], ips)
    if owned is None:
        return None
    makes, now = (_OWN.form(cut, _places(cut, places)) for cut in (made, told))
    before, brought = _OWN.pattern(had), _OWN.pattern(sent)
    listed = (before.names(had_bytes) or []) + (brought.names(asked.status) or [])
    addresses = [place for place, key in enumerate(order) if key in _ADDRESSES]
    same = _firsts(listed, addresses)
    return _Outcome(asked.manner, asked.owners, before, brought, makes, owned, now, addresses, same)


def _places(cut: bytes, places: list[list[int]]) -> list[int]:
    """Of each name as they stand in what was cut, given those of each key."""
    following = [iter(of_key) for of_key in places]
    return [next(following[key]) for key in _OWN.order(cut)]


def _owners_form(owners: bytes, ips: Names, at: list[int]) -> Form | None:
    """`ips`: the addresses that are in there, and their places. None for one with others."""
    first, *more = owners.split(_OWNED_IP) if ips else (owners,)
    pieces, places = [first], list[int]()
    for part in more:
        ip, _, behind = part.partition(b"\\")
        if ip not in ips:
            return None
        pieces[-1] += _OWNED_IP
        pieces.append(b"\\" + behind)
        places.append(at[ips.index(ip)])
    return Form(pieces, places)
