"""A request about one object by a client who has just sent another: of all that chain.py asks, nothing is left to find out.

In: a GET or PATCH that is `alike` to one that was let in (same method, headers and peer), about a collection of which the same
user may read or patch any object. Out: what chain.py would answer, note and count, by the same bytes, without a coroutine or a
task for this request alone (of a patch, as a future: straightpatch.py). None, with nothing done: for whatever is not that plain
(somebody would have to wait, nothing is there by this name, the audit log wants more), and then chain.py is asked.

What is the same each time is a Way, kept with the client's connection; it is out of date when its lane is (lanes.py).
"""

from __future__ import annotations

from asyncio import Future
from typing import TYPE_CHECKING, NamedTuple

from jota.api import negotiate, straightpatch
from jota.api.call import Call
from jota.api.compress import SMALLEST
from jota.api.path import kin_of_objects, kin_of_subresources
from jota.api.way import Way
from jota.meta.errors import ApiError
from jota.wire.message import Alike, Request, Response

if TYPE_CHECKING:
    from jota.api.chain import Caller
    from jota.api.path import Target
    from jota.api.server import Api
    from jota.store.protocol import Entry

_MOST_WAYS = 16
"""Of one connection: more make room for new ones."""
_PECULIAR = ("audit-id", "sec-websocket-protocol")
"""Headers with which each request is looked at."""


class Known(NamedTuple):
    """What was found out for the first of them."""

    caller: Caller
    age: int
    """Of the lanes."""
    way: Way | None
    """None: there is none, they must be asked about."""


def answer(api: Api, request: Request) -> Response | Future[Response] | None:
    alike, method = request.alike, request.method
    if alike is None or alike.caller is None or request.user is not None or request.query:
        return None
    if method != "GET" and method != "PATCH":
        return None
    place, _, name = request.path.rpartition("/")
    subresource = ""
    if name == "status":
        place, _, name = place.rpartition("/")
        subresource = "status"
    if not name or "%" in name or api.store.behind:
        return None
    known: Known | None = alike.ways.get((place, subresource))
    if known is None or known.age != api.lanes.age or known.caller is not alike.caller:
        known = _learn(api, request, alike, place, name, subresource)
    way = known.way
    if way is None:
        return None
    received, began = api.clock.now(), api.clock.monotonic()
    if not known.caller.counts(received) or api.aggregation.route(way.kin) is not None:
        return None
    entry = api.store.get(way.where + name)
    if entry is None or entry.value is None:
        return None
    if way.patching is not None:
        return straightpatch.write(api, request, way, way.patching, name, entry, received, began)
    return _read(api, request, way, name, entry, received, began)


def _read(
    api: Api, request: Request, way: Way, name: str, entry: Entry, received: float, began: float
) -> Response | None:
    body = way.served.render(entry.value or b"", entry.revision, way.served.head)
    if len(body) >= SMALLEST or not api.flows.at_once(flow := way.lane.flow, began):
        return None
    took = api.clock.monotonic() - began
    flow.counts.answered(None if flow.exempt else took)
    return way.noted(api, request, name, body, received, took)


def _learn(api: Api, request: Request, alike: Alike, place: str, name: str, subresource: str) -> Known:
    method = request.method
    kin = kin_of_subresources(method, place, subresource) if subresource else kin_of_objects(method, place)
    if kin is None:
        return Known(alike.caller, api.lanes.age, None)
    if len(alike.ways) >= _MOST_WAYS:
        alike.ways.clear()
    way = _find(api, request, alike.caller, kin, name)
    known = alike.ways[place, subresource] = Known(alike.caller, api.lanes.age, way)
    return known


def _find(api: Api, request: Request, caller: Caller, kin: Target, name: str) -> Way | None:
    if any(header in request.headers for header in _PECULIAR):
        return None
    try:
        accepted = negotiate.accept(request.headers.get("accept", ""))
    except ApiError:
        return None
    target = kin.named(request.path, name)
    lane = api.lanes.find(caller.user, target, api.authorizer)
    served = lane.served
    if not lane.allowed or served is None or served.foreign:
        return None
    patching = None
    if request.method == "PATCH":
        patching = straightpatch.begin(lane, Call(request, target, {}, caller.user, served, accepted))
    if patching is None and (lane.at_once is None or accepted is not negotiate.PLAIN):
        return None
    form = api.audit.at_once(caller.user, target, request) if api.audit is not None else b""
    if form is None:
        return None
    row = api.metrics.row(kin, request.method)
    return Way(kin, lane, served, served.key(kin.namespace, ""), form, row, patching)
