"""Many patches or deletions by one request of this process: each as if it had come alone, but they pass the chain once, and the
store commits many at a time.

In: a Call about `ANY` whose body is an array of [name, body]. Out: an array of as many: true for what is done, null for what has
to be sent by itself, of which nothing was begun: what is no common case, and what would be refused, so that it is told why.
Whoever has to see each (webhooks, an audit policy that wants bodies, an authorizer that asks for names) sees all of them sent by
themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

import msgspec
import orjson
from msgspec.structs import replace

from jota.api import apart, respond
from jota.api.alikepatches import Manner
from jota.api.call import Call
from jota.api.filters.node import node_of
from jota.api.resource import Engine, Likes
from jota.api.verbs import delete as deletion
from jota.api.verbs.patch import APPLY, change_for, media_of
from jota.meta.errors import ApiError
from jota.store.protocol import Entry, Write
from jota.wire.message import Request, Response

ANY = "*"
"""Stands for the names in the path; no object is called so."""
_TURN = 0.005
"""Seconds of the one loop after which the store takes what is worked out, and others are served."""
_decode_sent = msgspec.json.Decoder(list[tuple[str, msgspec.Raw]]).decode


def asked(request: Request) -> bool:
    return request.times > 1 and request.body[:1] == b"["


def nothing_begun(request: Request) -> Response:
    return Response(200, respond.headers(), orjson.dumps([None] * request.times))


async def serve(engine: Engine, call: Call, *, allowed: bool) -> Response:
    """`allowed`: this caller may do so whatever the name. Raises StoreError: some may be done."""
    if not allowed or call.params.get("dryRun"):
        return nothing_begun(call.request)
    sent = _decode_sent(call.request.body)
    left = iter(sent)
    begun: list[asyncio.Future[Entry] | None] = []
    while len(begun) < len(sent) and not engine.webhooks.concern(call.served.kind):
        begun += _some(engine, map(_plan_for(engine, call), left))
        await asyncio.sleep(0)
    done = [None if writing is None else bool(await writing) for writing in begun]
    return respond.json(call, done + [None] * (len(sent) - len(done)))


def _some(engine: Engine, plans: Iterator[Write | None]) -> list[asyncio.Future[Entry] | None]:
    """The next of them, as many as a turn has time for: they become durable while the others are worked out."""
    until, begun = engine.clock.monotonic() + _TURN, list[asyncio.Future[Entry] | None]()
    for write in plans:
        begun.append(None if write is None else engine.store.begin(write))
        if engine.clock.monotonic() > until:
            break
    return begun


def _plan_for(engine: Engine, call: Call) -> Callable[[tuple[str, msgspec.Raw]], Write | None]:
    """What works out the write of one of them, before others are served, and changes nothing."""
    target = call.target
    if target.verb == "patch" and (media := media_of(call)) != APPLY:
        likes = engine.likes(call.served, target.subresource, media)
        return partial(_patched, engine, call, Manner(call.manager, media, node_of(call.user)), likes)
    plain = target.verb == "delete" and deletion.plain(engine, call)
    return partial(_deleted, engine, call) if plain else lambda _: None


def _patched(
    engine: Engine, call: Call, manner: Manner, likes: Likes | None, one: tuple[str, msgspec.Raw]
) -> Write | None:
    name, body = one
    target, entry = call.target, _stored(engine, call, name)
    if entry is None:
        return None
    learn = None
    if likes is not None:
        write, learn = likes.find(manner, entry, bytes(body))
        if write is not None:
            return write
    alone = replace(call, request=replace(call.request, body=bytes(body)), target=replace(target, name=name))
    try:
        part = change_for(alone, manner.media).part()
        if not isinstance(part, apart.Part) or not apart.applies(engine, alone, part.field):
            return None
        # no plugin that leaves such a write apart has reserved anything that would have to be given back
        planned = apart.plan(engine, alone, name, target.namespace, part, entry)
    except (ApiError, msgspec.MsgspecError, orjson.JSONDecodeError):
        return None
    if planned is None:
        return None
    value, _, known = planned
    if learn is not None:
        learn(value, known)
    return entry.key, value, entry.revision, known


def _deleted(engine: Engine, call: Call, one: tuple[str, msgspec.Raw]) -> Write | None:
    name, body = one
    entry = _stored(engine, call, name)
    if entry is None:
        return None
    try:
        options = deletion.plain_options(body)
        if options is None:
            return None
        return deletion.planned(engine, call, entry, options)
    except (ApiError, msgspec.MsgspecError):
        return None


def _stored(engine: Engine, call: Call, name: str) -> Entry | None:
    entry = engine.store.get(call.served.key(call.target.namespace, name))
    return entry if entry is not None and entry.value is not None else None
