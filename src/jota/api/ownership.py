"""managedFields: note on each write which manager set which fields. The arithmetic is `meta/apply.py`'s."""

from __future__ import annotations

from typing import Any

from jota.api.call import Call
from jota.kinds.kind import Object
from jota.meta.apply import track_update


def track(call: Call, new: Object, old: Object | None, subresource: str, now: str) -> None:
    """Bring new's managedFields up to date with what this write changed, in place; `now` is RFC 3339.

    A new object is looked at with its defaults, and before admission and what its kind allocates: these are no fields of the
    client's (handlers/create.go), and a later apply of the same must not take them away."""
    kind = call.served.kind
    # a status on create is not the client's doing; on updates through the main endpoint it is as before
    same = ["status"] if old is None and kind.status else []
    same += [key for key, value in new.items() if old is not None and key != "metadata" and old.get(key) == value]
    fields = track_update(
        old,
        new,
        manager=call.manager,
        api_version=kind.resource.api_version,
        time=now,
        schema=kind.definition,
        subresource=subresource,
        unchanged=same,
    )
    new["metadata"]["managedFields"] = fields
    settle(new["metadata"])


def settle(metadata: dict[str, Any]) -> None:
    """What was worked out already, as it is stored: where nobody owns anything, nothing is said of it."""
    if not metadata.get("managedFields"):
        metadata.pop("managedFields", None)
