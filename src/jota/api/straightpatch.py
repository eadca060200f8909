"""PATCH of one object by a client who has just patched another one like it: written without a task (straight.py).

In: a request whose Way is known, and the stored entry. Out: a future of the answer, which is there when the write is durable.
None, with nothing done: whatever was not yet worked out for one like it (alikepatches.py, renewals.py).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jota.aio.deadline import Queue, queue_of
from jota.api import chain, respond, straightwrite
from jota.api import object as at_rest
from jota.api.alikepatches import Manner
from jota.api.compress import SMALLEST
from jota.api.filters import deadline
from jota.api.filters.node import node_of
from jota.api.verbs.patch import media_of, patch
from jota.api.way import Patching, Way
from jota.meta.errors import ApiError
from jota.store.protocol import StoreError
from jota.wire.message import Request, Response

if TYPE_CHECKING:
    from jota.api.call import Call
    from jota.api.lanes import Lane
    from jota.api.server import Api
    from jota.store.protocol import Entry


def begin(lane: Lane, call: Call) -> Patching | None:
    """How patches like this one are made; None: each is looked at."""
    accepted = call.accepted
    if lane.verb is not patch or accepted.form not in ("", "Metadata") or accepted.yaml or accepted.protobuf:
        return None
    opening = respond.metadata_head(accepted.version) if accepted.form else b""
    try:
        return Patching(Manner(call.manager, media_of(call), node_of(call.user)), opening)
    except ApiError:
        return None


def write(
    api: Api, request: Request, way: Way, patching: Patching, name: str, entry: Entry, received: float, began: float
) -> asyncio.Future[Response] | None:
    manner, value = patching.manner, entry.value or b""
    likes = api.engine.likes(way.served, way.kin.subresource, manner.media)
    if likes is None or len(value) + len(request.body) >= SMALLEST:
        return None
    wanted, _ = likes.find(manner, entry, request.body)
    if wanted is None:
        return None
    flow = way.lane.flow
    if not api.flows.enter(flow, 1, began):
        return None
    try:
        writing = api.store.begin(wanted)
    except StoreError:
        writing = None
    if writing is None:
        api.flows.give_back(flow, 1)
        return None
    loop = asyncio.get_running_loop()
    limits = queue_of(loop, api.config.request_timeout)
    pending = _Pending(api, request, way, patching, name, received, began, loop.create_future(), limits)
    limits.add(pending)
    writing.add_done_callback(pending.written)
    return pending.answer


class _Pending:
    """A write on its way, and whoever waits for its answer."""

    __slots__ = ("_again", "_api", "_began", "_limits", "_name", "_patching", "_received", "_request", "_way", "answer")

    def __init__(
        self,
        api: Api,
        request: Request,
        way: Way,
        patching: Patching,
        name: str,
        received: float,
        began: float,
        answer: asyncio.Future[Response],
        limits: Queue,
    ) -> None:
        self._api, self._request, self._way, self._patching, self._name = api, request, way, patching, name
        self._received, self._began = received, began
        self.answer = answer
        """Cancelled when the client has gone."""
        self._limits = limits

    def written(self, writing: asyncio.Future[Entry]) -> None:
        self._limits.remove(self)
        api, flow = self._api, self._way.lane.flow
        api.flows.give_back(flow, 1)
        if writing.exception() is not None:  # nothing was written: whatever is wrong, the long way has words for it
            if not self.answer.done():
                self._again = asyncio.get_running_loop().create_task(self._at_length())
            return
        took = api.clock.monotonic() - self._began
        flow.counts.answered(None if flow.exempt else took)
        if self.answer.done() and not self.answer.cancelled():
            return  # it came too late, and its client was told so
        response = self._way.noted(api, self._request, self._name, self._body(writing.result()), self._received, took)
        if not self.answer.done():
            self.answer.set_result(response)

    def _body(self, entry: Entry) -> bytes:
        value, opening = entry.value or b"", self._patching.metadata
        if opening:
            return at_rest.render_metadata(value, entry.revision, opening)
        served = self._way.served
        return served.render(value, entry.revision, served.head)

    async def _at_length(self) -> None:
        response = await chain.handle(self._api, self._request)
        if not self.answer.done():
            self.answer.set_result(response)

    def fire(self) -> None:
        """It takes too long. The write goes on, as that of anybody who does not wait for it."""
        if self.answer.done():
            return
        api, way, request = self._api, self._way, self._request
        response, target = respond.error(deadline.exceeded()), way.kin.named(request.path, self._name)
        audit_id = next(api.audit_ids)
        if api.audit is not None and way.writing is not None:
            straightwrite.noted(api, request, target, audit_id, self._received, way.writing, {}, response)
        way.row.count(response.status, api.clock.monotonic() - self._began)
        response.own = way.own_lines(audit_id)
        self.answer.set_result(response)
