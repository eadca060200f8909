"""GET of one object by a client who has just asked for another: of all that chain.py asks, nothing is left to find out.

In: a request that is `alike` to one that was let in (same method, headers and peer), about a collection of which the same user
may read any object. Out: what chain.py would answer, note and count, by the same bytes, without a coroutine or anything made
for this request alone. None, with nothing done: for whatever is not that plain (somebody would have to wait, nothing is there
by this name, the audit log wants more), and then chain.py is asked.

What is the same each time is a Way, kept with the client's connection; it is out of date when its lane is (lanes.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jota.api import negotiate
from jota.api.compress import SMALLEST
from jota.api.path import kin_of_objects
from jota.api.respond import PLAIN_HEADERS
from jota.meta.errors import ApiError
from jota.wire.message import Alike, Request, Response

if TYPE_CHECKING:
    from jota.api.auditline import Form
    from jota.api.chain import Caller
    from jota.api.lanes import Lane
    from jota.api.metrics import Row
    from jota.api.path import Target
    from jota.api.served import Served
    from jota.api.server import Api

_MOST_WAYS = 16
"""Of one connection: more make room for new ones."""
_PECULIAR = ("audit-id", "sec-websocket-protocol")
"""Headers with which each request is looked at."""


class Way(NamedTuple):
    """What GETs of one collection's objects share, of requests that are alike."""

    kin: Target
    lane: Lane
    served: Served
    where: str
    """The storage key without the name."""
    form: Form
    """Of the line in the audit log; b"" for none."""
    row: Row
    """Where such requests are counted."""


class Known(NamedTuple):
    """What was found out for the first of them."""

    caller: Caller
    age: int
    """Of the lanes."""
    way: Way | None
    """None: there is none, they must be asked about."""


def answer(api: Api, request: Request) -> Response | None:
    alike = request.alike
    if alike is None or alike.caller is None or request.user is not None or request.method != "GET" or request.query:
        return None
    place, _, name = request.path.rpartition("/")
    if not name or "%" in name or api.store.behind:
        return None
    known: Known | None = alike.ways.get(place)
    if known is None or known.age != api.lanes.age or known.caller is not alike.caller:
        known = _learn(api, request, alike, place, name)
    way = known.way
    if way is None:
        return None
    received, began = api.clock.now(), api.clock.monotonic()
    if not known.caller.counts(received) or api.aggregation.route(way.kin) is not None:
        return None
    entry = api.store.get(way.where + name)
    if entry is None:
        return None
    body = way.served.render(entry.value or b"", entry.revision, way.served.head)
    if len(body) >= SMALLEST or not api.flows.at_once(flow := way.lane.flow, began):
        return None
    audit_id, took = next(api.audit_ids), api.clock.monotonic() - began
    flow.counts.answered(None if flow.exempt else took)
    way.row.count(200, took)
    if way.form and api.audit is not None:
        api.audit.note_at_once(way.form, audit_id, request.path, name, received, took)
    return Response(200, PLAIN_HEADERS, body, own=b"%bAudit-Id: %b\r\n" % (flow.lines, audit_id.encode()))


def _learn(api: Api, request: Request, alike: Alike, place: str, name: str) -> Known:
    kin = kin_of_objects(request.method, place)
    if kin is None:
        return Known(alike.caller, api.lanes.age, None)
    if len(alike.ways) >= _MOST_WAYS:
        alike.ways.clear()
    way = _find(api, request, alike.caller, kin, name)
    known = alike.ways[place] = Known(alike.caller, api.lanes.age, way)
    return known


def _find(api: Api, request: Request, caller: Caller, kin: Target, name: str) -> Way | None:
    if any(header in request.headers for header in _PECULIAR):
        return None
    try:
        if negotiate.accept(request.headers.get("accept", "")) is not negotiate.PLAIN:
            return None
    except ApiError:
        return None
    target = kin.named(request.path, name)
    lane = api.lanes.find(caller.user, target, api.authorizer)
    served = lane.served
    if lane.at_once is None or served is None or served.foreign:
        return None
    form = api.audit.at_once(caller.user, target, request) if api.audit is not None else b""
    if form is None:
        return None
    return Way(kin, lane, served, served.key(kin.namespace, ""), form, api.metrics.row(kin, request.method))
