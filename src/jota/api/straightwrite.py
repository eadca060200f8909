"""A write by a client who has just sent another like it: of what chain.py asks, all is known but whether there is room for it now.

In: a request whose Way is known (straight.py). Out: what chain.py would answer, note and count; the verb is called straight away.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING

from jota.aio.deadline import within
from jota.api import chain, compress
from jota.api.call import Call
from jota.api.filters import deadline
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
    call = call_of(request, way, writing, name)
    try:
        response = await within(writing.seconds, chain.written(call, writing.verb(api.engine, call)))
    except Exception as problem:
        response = chain.failed(request, problem)
    except CancelledError:
        if way.form and api.audit is not None:
            way.audited(api.audit, request, name, deadline.gone(), received, call.audit, next(api.audit_ids))
        raise
    finally:
        took = api.clock.monotonic() - began
        api.flows.give_back(flow, 1)
        flow.counts.answered(None if flow.exempt else took)
    response = way.noted(api, request, name, response, received, took, call.audit)
    if "accept-encoding" in request.headers and compress.wanted(request, response):
        response = await compress.compressed(response)
    return response


def call_of(request: Request, way: Way, writing: Writing, name: str) -> Call:
    target = way.kin.named(request.path, name)
    return Call(request, target, {**writing.params}, way.user, way.served, writing.accepted)
