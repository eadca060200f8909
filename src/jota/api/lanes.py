"""What all requests of one user share that are about one collection and of one verb: worked out once. Next: chain.py.

In: a user and a Target. Out: the Lane: the flow of priority and fairness, the verb's function, and whether authorization lets
every such request in, whatever name it is about. What depends on more than that (names in roles, nodes, selectors, webhooks,
deadlines, the headers of a request) is no lane's business.

A lane is out of date when `forget` is called: by flow control for its stored objects, by security.py for roles, bindings and the
order of authorizers, by the server for what it serves. Who has waited since it found a lane looks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jota.api.dispatch import AT_ONCE, AtOnce, find_verb
from jota.api.filters.attributes import Attributes, Authorizer, User
from jota.api.flowcontrol.flows import Flows
from jota.api.flowcontrol.level import Flow
from jota.api.path import Target
from jota.api.served import Served, Verb
from jota.meta.errors import ApiError

if TYPE_CHECKING:
    Key = tuple[str, tuple[str, ...], Target]

_MOST_KNOWN = 8192


class Lane:
    __slots__ = ("allowed", "at_once", "authorizer", "flow", "served", "verb")

    def __init__(self, flow: Flow, authorizer: Authorizer | None) -> None:
        self.flow = flow
        self.authorizer = authorizer
        """Whose answer `allowed` is."""
        self.allowed = False
        """Every request of this lane is. False: each must be asked about."""
        self.served: Served | None = None
        self.verb: Verb | None = None
        """None: nothing is served there, or it has no such verb; `find_verb` says how that is told."""
        self.at_once: AtOnce | None = None
        """What the verb does without waiting, if it can; only where each request is allowed."""


class Lanes:
    def __init__(self, flows: Flows, served: Mapping[tuple[str, str, str], Served]) -> None:
        self._flows, self._served = flows, served
        self._known: dict[Key, Lane] = {}
        self.age = 0
        """Another one: what was found before may be out of date."""

    def forget(self) -> None:
        """Something that lanes follow from has changed."""
        self._known.clear()
        self.age += 1

    def find(self, user: User, target: Target, authorizer: Authorizer | None) -> Lane:
        kin = target.kin
        if kin is None:
            return Lane(self._flows.classify(user, target), authorizer)
        key = (user.name, user.groups, kin)
        lane = self._known.get(key)
        if lane is None or lane.authorizer is not authorizer:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            lane = self._known[key] = self._make(user, target, authorizer)
        return lane

    def _make(self, user: User, target: Target, authorizer: Authorizer | None) -> Lane:
        lane = Lane(self._flows.classify(user, target), authorizer)
        lane.allowed = authorizer is None or _always(authorizer, user, target)
        lane.served = served = self._served.get((target.group, target.version, target.resource))
        if served is not None:
            try:
                lane.verb = find_verb(served, target)
                lane.at_once = AT_ONCE.get(lane.verb) if lane.allowed else None
            except ApiError:
                pass  # as each request will be told
        return lane


def _always(authorizer: Authorizer, user: User, target: Target) -> bool:
    """Whether this user may, whatever the name: authorizers that can tell have `always`."""
    asked = Attributes(
        user, target.verb, target.group, target.version, target.resource, target.subresource, target.namespace
    )
    always: Any = getattr(authorizer, "always", None)
    return always is not None and always(user, asked) is True
