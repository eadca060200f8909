"""managedFields: note on each write which manager set which fields. The arithmetic is `meta/apply.py`'s."""

from __future__ import annotations

from jota.api.call import Call
from jota.kinds.kind import Object
from jota.meta.apply import track_update


def track(call: Call, new: Object, old: Object | None, subresource: str, now: str) -> None:
    """Bring new's managedFields up to date with what this write changed, in place; `now` is RFC 3339."""
    kind = call.served.kind
    fields = track_update(
        old,
        new,
        manager=call.manager,
        api_version=kind.resource.api_version,
        time=now,
        schema=kind.schema or None,
        subresource=subresource,
    )
    if fields:
        new["metadata"]["managedFields"] = fields
    else:
        new["metadata"].pop("managedFields", None)
