"""Subresources that show the whole object and let a write change one part of it: ephemeralcontainers, resize, approval."""

from __future__ import annotations

from collections.abc import Callable

from jota.api import decoding, metadata, respond
from jota.api.call import Call
from jota.api.resource import Engine, copy
from jota.api.served import Verb
from jota.api.verbs.get import get
from jota.api.verbs.patch import change_for, media_of
from jota.kinds.kind import Object
from jota.meta.errors import FieldError
from jota.wire.message import Response

Keep = Callable[[Engine, Call, Object, Object], list[FieldError]]
"""(engine, call, wanted, result): move the part from the one to the other; errors are answered with 422."""


def verbs(name: str, keep: Keep, *, metadata_too: bool = False) -> dict[str, Verb]:
    """get, update and patch of a subresource called `name`. `metadata_too`: labels, annotations and so on may change with it."""

    async def run(engine: Engine, call: Call, change: Callable[[Object], Object]) -> Response:
        def finish(call: Call, new: Object, old: Object) -> list[FieldError]:
            wanted = copy(new)
            meta = new["metadata"]
            new.clear()
            new.update(copy(old))
            if metadata_too:
                new["metadata"] = meta
            else:
                new["metadata"]["managedFields"] = meta.get("managedFields", [])
                if not new["metadata"]["managedFields"]:
                    del new["metadata"]["managedFields"]
            return keep(engine, call, wanted, new)

        target = call.target
        result = await engine.update(call, target.name, target.namespace, change, subresource=name, finish=finish)
        return respond.outcome(call, result, engine.clock.now())

    async def update(engine: Engine, call: Call) -> Response:
        sent = decoding.object_from(call)
        metadata.check(sent)
        return await run(engine, call, lambda _: copy(sent))

    async def patch(engine: Engine, call: Call) -> Response:
        return await run(engine, call, change_for(call, media_of(call)))

    return {"get": get, "update": update, "patch": patch}
