"""PUT of one object: replace it. 200; 201 where the kind lets a PUT create."""

from __future__ import annotations

from functools import partial

from jota.api import apart, decoding, metadata, respond, returned
from jota.api.apart import Part
from jota.api.call import Call
from jota.api.filters import creation
from jota.api.relabel import NAMING, Wish
from jota.api.resource import Engine
from jota.kinds.kind import Object
from jota.wire.message import Response


async def update(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 403, 404, 409, 415, 422."""
    target, alike = call.target, engine.alike_puts
    told = None
    if (wish := alike.wish(call)) is not None:
        wanted = alike.find(call, wish)
        begun = engine.store.begin(wanted) if wanted is not None else None
        if begun is not None:
            return respond.entry(call, await begun, engine.clock.now())
        told = partial(alike.keep, call, wish)
    returns = returned.part_of(engine, call)
    if returns is not None:
        returns = returns._replace(told=told)
        written = await apart.write(engine, call, target.name, target.namespace, returns)
        if written is not None:
            return respond.entry(call, written, engine.clock.now())
    obj = decoding.object_from(call)
    metadata.check_name(metadata.check(obj), target.name)
    if call.served.kind.create_on_update and not target.subresource:
        missing = engine.store.get(call.served.key(target.namespace, target.name)) is None
        if missing and not obj["metadata"].get("resourceVersion"):
            await creation.require(engine, call)
            return respond.outcome(call, await engine.create(call, obj, target.namespace), engine.clock.now())
    engine.require_resource_version(call, obj)
    unconditional = not metadata.revision_of(obj["metadata"])
    tries = 5 if unconditional else 1

    sent = [obj]

    def change(_: Object) -> Object:
        # what is returned is changed further on: a second try reads the body again
        new = sent.pop() if sent else decoding.object_from(call)
        metadata.check(new)
        return new

    def relabelled(_: Object) -> Object:
        new = sent.pop()
        return {key: new[key] for key in ("kind", "apiVersion", "metadata")}

    part: Part | Wish | None
    part = apart.part_of(call, obj, lambda field, _: sent.pop()[field], whole=True)
    if part is not None:
        part = part._replace(told=told)
    elif not target.subresource:
        part = Wish(relabelled, {key: value for key, value in obj.items() if key not in NAMING})
    result = await engine.update(
        call,
        target.name,
        target.namespace,
        change,
        subresource=target.subresource,
        tries=tries,
        whole=True,
        part=part,
        told=told,
    )
    return respond.outcome(call, result, engine.clock.now())
