"""managedFields: note on each write which manager set which fields. The arithmetic is `meta/apply.py`'s."""

from __future__ import annotations

from typing import Any

from jota.api.call import Call
from jota.api.shapes import Shape
from jota.kinds.kind import Object
from jota.meta.apply import track_update


def track(call: Call, new: Object, old: Object | None, subresource: str, now: str, shape: Shape | None = None) -> None:
    """Bring new's managedFields up to date with what this write changed, in place; `now` is RFC 3339.

    `shape`: of a created object whose fields beside metadata may be known already."""
    if shape is not None and shape.fields is not None and not new["metadata"].get("managedFields"):
        _track({"metadata": new["metadata"]}, call, None, "", now)
        owners = new["metadata"].get("managedFields") or [_entry(call, now)]
        owners[0]["fieldsV1"] = dict(sorted((owners[0]["fieldsV1"] | shape.fields).items()))
        new["metadata"]["managedFields"] = owners
        return
    _track(new, call, old, subresource, now)
    owners = new["metadata"].get("managedFields") or []
    if shape is not None and len(owners) == 1:
        shape.fields = {k: v for k, v in owners[0]["fieldsV1"].items() if k != "f:metadata"}


def settle(metadata: dict[str, Any]) -> None:
    """What was worked out already, as it is stored: where nobody owns anything, nothing is said of it."""
    if not metadata.get("managedFields"):
        metadata.pop("managedFields", None)


def _entry(call: Call, now: str) -> Object:
    version = call.served.resource.api_version
    entry: Object = {"manager": call.manager, "operation": "Update", "apiVersion": version, "time": now}
    return entry | {"fieldsType": "FieldsV1", "fieldsV1": {}}


def _track(new: Object, call: Call, old: Object | None, subresource: str, now: str) -> None:
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
    if fields:
        new["metadata"]["managedFields"] = fields
    else:
        new["metadata"].pop("managedFields", None)
