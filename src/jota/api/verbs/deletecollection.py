"""DELETE of a collection: every selected object, each as if it were deleted alone. Answers with the list of them."""

from __future__ import annotations

from jota.api import respond
from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.verbs import list as listing
from jota.api.verbs.delete import read_options, remove
from jota.meta.errors import ApiError
from jota.wire.message import Response


async def deletecollection(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 403, 409, 410, 422."""
    options = read_options(call)
    page = await listing.find(engine, call, listing.select(call))
    for entry in page.entries:
        parts = entry.key[len(call.served.prefix) :].split("/")
        namespace = parts[0] if call.served.resource.namespaced else ""
        try:
            await remove(engine, call, namespace, parts[-1], options)
        except ApiError as e:
            if e.code != 404:  # somebody else was faster: it is gone, which is what was asked
                raise
    metadata: dict[str, object] = {"resourceVersion": str(engine.store.revision)}
    if page.next:
        metadata["continue"] = page.next
    return respond.encoded(call, listing.render(call, page.entries, metadata))
