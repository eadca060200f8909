"""A write by a client who has just sent another like it: of what chain.py asks, all is known but whether there is room for it now.

In: a request whose Way is known (straight.py). Out: what chain.py would answer, note and count; the verb is called straight away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jota.aio.deadline import within
from jota.api import chain, compress
from jota.api.call import Call
from jota.api.path import Target
from jota.api.way import Way, Writing
from jota.wire.message import Request, Response

if TYPE_CHECKING:
    from jota.api.server import Api


async def write(api: Api, request: Request, way: Way, writing: Writing, name: str) -> Response:
    """Raises nothing but CancelledError."""
    received, began = api.clock.now(), api.clock.monotonic()
    flow = way.lane.flow
    if not api.flows.enter(flow, 1, began):
        return await chain.handle(api, request)
    target = way.kin.named(request.path, name)
    call = Call(request, target, {**writing.params}, writing.user, way.served, writing.accepted)
    try:
        response = await within(writing.seconds, chain.written(call, writing.verb(api.engine, call)))
    except Exception as problem:
        response = chain.failed(request, problem)
    finally:
        took = api.clock.monotonic() - began
        api.flows.give_back(flow, 1)
        flow.counts.answered(None if flow.exempt else took)
    audit_id = next(api.audit_ids)
    if way.form and api.audit is not None:
        noted(api, request, target, audit_id, received, writing, call.audit, response)
    if "accept-encoding" in request.headers and compress.wanted(request, response):
        response = await compress.compressed(response)
    response.own = way.own_lines(audit_id)
    way.row.count(response.status, api.clock.monotonic() - began)
    return response


def noted(
    api: Api,
    request: Request,
    target: Target,
    audit_id: str,
    received: float,
    writing: Writing,
    annotations: dict[str, str],
    response: Response,
) -> None:
    """In the audit log, with what depends on the bodies. `received`: epoch seconds."""
    assert api.audit is not None
    trail = api.audit.begin(request, target, audit_id)
    trail.received, trail.annotations = received, annotations
    trail.known(writing.user, writing.user)
    trail.decided(True)
    trail.finish(response)
