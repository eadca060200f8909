"""GET of one object: its bytes as they lie, with the resourceVersion spliced in."""

from __future__ import annotations

from jota.api import respond
from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.verbs import freshness
from jota.store.protocol import Entry
from jota.wire.message import Response


async def get(engine: Engine, call: Call) -> Response:
    """Raises ApiError 404, 500 (a conversion webhook), 504 (a resourceVersion from the future)."""
    version = call.params.get("resourceVersion", "") if call.params else ""
    if version:
        await freshness.not_older_than(engine, freshness.parse(version))
    else:
        await engine.store.sync()
    entry = _find(engine, call)
    if call.served.foreign:
        (entry,) = await call.served.readable((entry,))
    return respond.entry(call, entry, engine.clock.now())


def get_at_once(engine: Engine, call: Call) -> Response | None:
    """The same where nothing must be waited for, of a request without parameters; else None. Raises ApiError 404."""
    if engine.store.behind or call.served.foreign:
        return None
    return respond.entry(call, _find(engine, call), engine.clock.now())


def _find(engine: Engine, call: Call) -> Entry:
    target = call.target
    entry = engine.store.get(call.served.key(target.namespace, target.name))
    if entry is None:
        raise call.served.not_found(target.name)
    return entry
