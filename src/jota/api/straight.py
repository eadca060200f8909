"""A request about one object by a client who has just sent another: of all that chain.py asks, nothing is left to find out.

In: a request that is `alike` to one that was let in (same method, headers and peer), about a collection of which the same user
may read, make, change or delete any object. Out: what chain.py would answer, note and count, by the same bytes: of a GET, at
once; of a write of which it is known what it makes, as a future (foreseen.py); of others, as a coroutine (straightwrite.py).
None, with nothing done: for whatever is not that plain (somebody would have to wait, nothing is there by this name, the audit
log wants more), and then chain.py is asked.

What is the same each time is a Way, kept with the client's connection; it is out of date when its lane is (lanes.py).
"""

from __future__ import annotations

from collections.abc import Awaitable
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from jota.api import foreseen, negotiate, pretty_form, straightwrite
from jota.api.call import Call
from jota.api.chain import Caller
from jota.api.compress import SMALLEST
from jota.api.filters import deadline
from jota.api.filters.authn import Lasting
from jota.api.path import kin_of_collection, kin_of_objects, kin_of_subresources, parameters
from jota.api.respond import PLAIN_HEADERS
from jota.api.way import Way, Writing
from jota.meta.errors import ApiError
from jota.wire.message import Alike, Request, Response

if TYPE_CHECKING:
    from jota.api.path import Target
    from jota.api.server import Api
    from jota.store.protocol import Entry

_MOST_WAYS = 16
"""Of one connection: more make room for new ones."""
_PECULIAR = ("audit-id", "sec-websocket-protocol")
_AS = "impersonate-"
"""Headers with which each request is looked at."""
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_ALWAYS = Lasting(inf, None)


class Known(NamedTuple):
    """What was found out for the first of them."""

    caller: Caller
    age: int
    """Of the lanes."""
    way: Way | None
    """None: there is none, they must be asked about."""


def answer(api: Api, request: Request) -> Response | Awaitable[Response] | None:
    alike, method = request.alike, request.method
    if alike is None or request.times > 1 or (request.query and method == "GET") or api.store.behind:
        return None
    caller = alike.caller
    if caller is None:
        if request.user is None:
            return None
        caller = alike.caller = Caller(request.user, _ALWAYS)  # of this process: whoever sends them is trusted
    place, _, name = request.path.rpartition("/")
    subresource = ""
    if method == "POST":
        place, name = request.path, ""
    elif not name:
        return None
    elif name == "status":
        place, _, name = place.rpartition("/")
        subresource = "status"
    known: Known | None = alike.ways.get((place, subresource, request.query))
    if known is None or known.age != api.lanes.age or known.caller is not caller:
        known = _learn(api, request, alike, place, name, subresource)
    way = known.way
    if way is None or "%" in name:
        return None
    received, began = api.clock.now(), api.clock.monotonic()
    if not caller.counts(received) or api.aggregation.route(way.kin) is not None:
        return None
    writing = way.writing
    if writing is None:
        entry = api.store.get(way.where + name)
        return None if entry is None else _read(api, request, way, name, entry, received, began)
    if writing.foresee is not None:
        begun = foreseen.write(api, request, way, writing, writing.foresee, name, received, began)
        if begun is not None:
            return begun
    return straightwrite.write(api, request, way, writing, name)


def _read(
    api: Api, request: Request, way: Way, name: str, entry: Entry, received: float, began: float
) -> Response | None:
    body = way.served.render(entry.value or b"", entry.revision, way.served.head)
    if len(body) >= SMALLEST or not api.flows.at_once(flow := way.lane.flow, began):
        return None
    took = api.clock.monotonic() - began
    flow.counts.answered(None if flow.exempt else took)
    return way.noted(api, request, name, Response(200, PLAIN_HEADERS, body), received, took)


def _learn(api: Api, request: Request, alike: Alike, place: str, name: str, subresource: str) -> Known:
    kin = _kin(request.method, place, subresource)
    if kin is None:
        return Known(alike.caller, api.lanes.age, None)
    if len(alike.ways) >= _MOST_WAYS:
        alike.ways.clear()
    way = _find(api, request, alike.caller, kin, name)
    known = alike.ways[place, subresource, request.query] = Known(alike.caller, api.lanes.age, way)
    return known


def _kin(method: str, place: str, subresource: str) -> Target | None:
    if method not in _METHODS:
        return None
    if method == "POST":
        return kin_of_collection(method, place)
    return kin_of_subresources(method, place, subresource) if subresource else kin_of_objects(method, place)


def _find(api: Api, request: Request, caller: Caller, kin: Target, name: str) -> Way | None:
    if any(header in _PECULIAR or header.startswith(_AS) for header in request.headers):
        return None
    if request.user is None and pretty_form.wanted(request):
        return None
    try:
        accepted = negotiate.accept(request.headers.get("accept", ""))
        params = parameters(request.query)
        seconds = deadline.allowed(params, api.config.request_timeout)
    except ApiError:
        return None
    target = kin.named(request.path, name)
    lane = api.lanes.find(caller.user, target, api.authorizer)
    served = lane.served
    if not lane.allowed or served is None or served.foreign:
        return None
    writing = None
    if request.method == "GET":
        if lane.at_once is None or accepted is not negotiate.PLAIN:
            return None
    elif lane.verb is None or accepted.form == "Table" or accepted.yaml or accepted.protobuf:
        return None
    else:
        foresee = foreseen.sight(lane, Call(request, target, params, caller.user, served, accepted))
        writing = Writing(lane.verb, accepted, params, seconds, foresee)
    code = 201 if request.method == "POST" else 200
    told = kin.named(request.path, name or "its own")
    form = api.audit.at_once(caller.user, told, request, code) if api.audit is not None else b""
    if form is None:
        return None
    row = api.metrics.row(kin, request.method)
    return Way(
        caller.user, kin, lane, served, served.key(kin.namespace, ""), code, form, row, writing, request.user is None
    )
