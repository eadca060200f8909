"""namespaces/finalize: the namespace controller's way to say "empty". Only spec.finalizers is taken; without any the
namespace goes."""

from __future__ import annotations

from jota.api import decoding, respond
from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.subresources.binding import no_more_rules
from jota.kinds.kind import Object
from jota.wire.message import Response


async def update(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 404, 409."""
    sent = decoding.object_from(call)
    revision = (sent.get("metadata") or {}).get("resourceVersion")
    finalizers = (sent.get("spec") or {}).get("finalizers") or []

    def change(old: Object) -> Object:
        if revision:
            old["metadata"]["resourceVersion"] = revision
        spec = old.setdefault("spec", {})
        if finalizers:
            spec["finalizers"] = list(finalizers)
        else:
            spec.pop("finalizers", None)
        return old

    result = await engine.update(call, call.target.name, "", change, subresource="finalize", finish=no_more_rules)
    return respond.outcome(call, result, engine.clock.now())


VERBS = {"update": update}
