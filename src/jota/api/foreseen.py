"""A write of which it is known what it makes, from others like it: begun at once, without a task (straight.py).

In: a request whose Way is known. Out: a future of the answer, which is there when the write is durable. None, with nothing done:
whatever was not yet worked out for one like it, and then its verb is called (straightwrite.py). What is known:

    PATCH of a status or a lease     alikepatches.py, renewals.py
    PUT of a status                  alikeputs.py
    POST of an object                twins.py
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from jota.aio.deadline import queue_of
from jota.api import alikeputs, chain, respond
from jota.api import object as at_rest
from jota.api.alikepatches import Manner
from jota.api.call import Call
from jota.api.compress import SMALLEST
from jota.api.filters import deadline
from jota.api.filters.node import node_of
from jota.api.straightwrite import call_of
from jota.api.verbs.create import create
from jota.api.verbs.patch import media_of, patch
from jota.api.verbs.update import update
from jota.api.way import Way, Writing
from jota.meta.errors import ApiError
from jota.store.protocol import StoreError, Unavailable, Write
from jota.wire.message import Request, Response

if TYPE_CHECKING:
    from jota.api.lanes import Lane
    from jota.api.server import Api
    from jota.store.protocol import Entry


class Seen(NamedTuple):
    write: Write
    name: str
    """As the audit log tells it: what is generated is not."""
    headers: list[tuple[str, str]]


_NO_MATTER = {"timeout"}
"""Parameters that change nothing of what a patch makes."""
Foresee = Callable[["Api", Request, Way, Writing, str], Seen | None]
"""What a request about the object of this name makes (`name` is "" of a creation). Changes nothing."""


def sight(lane: Lane, call: Call) -> Foresee | None:
    """How it is foreseen what requests like this one make; None: never."""
    verb, kind = lane.verb, call.served.kind
    if verb is create and kind.own_names is not None:
        return _twin
    if verb is update and call.target.subresource == "status" and alikeputs.possible(kind):
        return _put
    if verb is patch and call.params.keys() <= _NO_MATTER:
        try:
            return partial(_patched, Manner(call.manager, media_of(call), node_of(call.user)))
        except ApiError:
            pass  # as each request will be told
    return None


def _patched(manner: Manner, api: Api, request: Request, way: Way, _: Writing, name: str) -> Seen | None:
    likes = api.engine.likes(way.served, way.kin.subresource, manner.media)
    if likes is None:
        return None
    entry = api.store.get(way.where + name)
    if entry is None or entry.value is None:
        return None
    wanted, _learn = likes.find(manner, entry, request.body)
    return None if wanted is None else Seen(wanted, name, respond.PLAIN_HEADERS)


def _put(api: Api, request: Request, way: Way, writing: Writing, name: str) -> Seen | None:
    call, alike = call_of(request, way, writing, name), api.engine.alike_puts
    wish = alike.wish(call)
    wanted = alike.find(call, wish) if wish is not None else None
    return None if wanted is None else Seen(wanted, name, respond.headers(call))


def _twin(api: Api, request: Request, way: Way, writing: Writing, name: str) -> Seen | None:
    call, engine = call_of(request, way, writing, name), api.engine
    try:
        wish = engine.twins.wish(call)
    except ApiError:
        return None
    twin = engine.twins.find(call, wish) if wish is not None else None
    if wish is None or twin is None:
        return None
    return Seen(engine.twin(way.served, way.kin.namespace, twin, wish), wish.name, respond.headers(call))


def write(
    api: Api, request: Request, way: Way, writing: Writing, foresee: Foresee, name: str, received: float, began: float
) -> asyncio.Future[Response] | None:
    """`received`: epoch seconds; `began`: monotonic."""
    seen = foresee(api, request, way, writing, name)
    if seen is None or len(seen.write[1] or b"") >= SMALLEST:
        return None
    flow = way.lane.flow
    if not api.flows.enter(flow, 1, began):
        return None
    pending = _Pending(api, request, way, writing, seen, received, began)
    try:
        begun = api.store.submit(seen.write, pending.written)
    except StoreError:
        begun = False
    if not begun:
        api.flows.give_back(flow, 1)
        return None
    return pending.begun()


class _Pending:
    """A write on its way, and whoever waits for its answer."""

    __slots__ = ("_again", "_api", "_began", "_limits", "_received", "_request", "_seen", "_way", "_writing", "answer")

    def __init__(
        self, api: Api, request: Request, way: Way, writing: Writing, seen: Seen, received: float, began: float
    ) -> None:
        self._api, self._request, self._way, self._writing, self._seen = api, request, way, writing, seen
        self._received, self._began = received, began

    def begun(self) -> asyncio.Future[Response]:
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Response] = loop.create_future()
        """Cancelled when the client has gone."""
        self._limits = queue_of(loop, self._writing.seconds)
        self._limits.add(self)
        return self.answer

    def written(self, entry: Entry, problem: Unavailable | None) -> None:
        self._limits.remove(self)
        api, flow = self._api, self._way.lane.flow
        api.flows.give_back(flow, 1)
        if problem is not None:  # nothing was written: whatever is wrong, the long way has words for it
            if not self.answer.done():
                self._again = asyncio.get_running_loop().create_task(self._at_length())
            return
        took = api.clock.monotonic() - self._began
        flow.counts.answered(None if flow.exempt else took)
        if self.answer.done() and not self.answer.cancelled():
            return  # it came too late, and its client was told so
        try:
            response = Response(self._way.code, self._seen.headers, self._body(entry))
        except Exception as failure:
            response = chain.failed(self._request, failure)
        response = self._noted(response, took)
        if not self.answer.done():
            self.answer.set_result(response)

    def _body(self, entry: Entry) -> bytes:
        value, served, accepted = entry.value or b"", self._way.served, self._writing.accepted
        if accepted.form:
            return at_rest.render_metadata(value, entry.revision, respond.metadata_head(accepted.version))
        return served.render(value, entry.revision, served.head)

    def _noted(self, response: Response, took: float) -> Response:
        return self._way.noted(self._api, self._request, self._seen.name, response, self._received, took)

    async def _at_length(self) -> None:
        response = await chain.handle(self._api, self._request)
        if not self.answer.done():
            self.answer.set_result(response)

    def fire(self) -> None:
        """It takes too long. The write goes on, as that of anybody who does not wait for it."""
        if self.answer.done():
            return
        took = self._api.clock.monotonic() - self._began
        self.answer.set_result(self._noted(respond.error(deadline.exceeded()), took))
