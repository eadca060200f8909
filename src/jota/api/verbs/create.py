"""POST to a collection: store a new object. 201 with the object."""

from __future__ import annotations

from jota.api import decoding, respond
from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.shapes import BY_BYTES
from jota.kinds.kind import Object
from jota.meta.errors import ApiError
from jota.wire.message import Response


async def create(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 403, 409, 415, 422."""
    if call.served.terminating:
        text = "create not allowed while custom resource definition is terminating"
        raise ApiError(405, "MethodNotAllowed", text)
    twins = engine.twins
    wish = twins.wish(call)
    twin = twins.find(call, wish) if wish is not None else None
    if wish is not None and twin is not None:
        if call.times > 1:
            return respond.made(await engine.create_twins(call, twin, wish, call.times))
        return respond.outcome(call, await engine.create_twin(call, twin, wish), engine.clock.now())
    stamp, noted = twins.stamp(call, wish), len(call.audit)

    def decided(made: Object, value: bytes) -> None:
        # before it is stored: those of its like that come meanwhile are twins already
        if wish is not None and len(call.audit) == noted:
            twins.keep(call, wish, made, value, stamp)

    obj = decoding.new_object_from(call, engine.templates)
    defaulted = call.served.resource in BY_BYTES
    told = decided if stamp is not None else None
    result = await engine.create(call, obj, call.target.namespace, defaulted=defaulted, told=told)
    return respond.outcome(call, result, engine.clock.now())
