"""Server-side apply on /scale: who owns `replicas` of the Scale is who owns the replicas field of its parent.

In: the parent's managedFields. Out: the same in the Scale's terms for `meta/apply.py`, and its answer back in the parent's
(apiserver's `ScaleHandler`). scale.py calls it.
"""

from __future__ import annotations

from typing import Any

from jota.aio.clock import rfc3339
from jota.api.call import Call
from jota.api.path import flag
from jota.api.resource import copy
from jota.kinds.kind import Object
from jota.meta import apply as ssa
from jota.meta import fieldset

DEFINITION = "io.k8s.api.autoscaling.v1.Scale"
VERSION = "autoscaling/v1"
_SCALE_REPLICAS: Object = {"f:spec": {"f:replicas": {}}}


def merge(
    call: Call, parent: Object, scale: Object, applied: Object, path: str, now: float
) -> tuple[Object, list[Object]]:
    """(the Scale that is wanted, the parent's managedFields when it is written). Raises ApiError 400, 409.

    `path`: the dotted path of the replicas in the parent; `now`: epoch seconds."""
    entries = parent["metadata"].get("managedFields") or []
    live = copy(scale)
    live["metadata"]["managedFields"] = [
        {**entry, "apiVersion": VERSION, "fieldsV1": _SCALE_REPLICAS} for entry in entries if _owns(entry, path)
    ]
    merged, owners = ssa.apply(
        live,
        applied,
        manager=call.manager,
        api_version=VERSION,
        time=rfc3339(now),
        schema=DEFINITION,
        # a default that nobody owns is nobody's to lose
        force=flag(call.params, "force") or bool(entries and not live["metadata"]["managedFields"]),
        subresource="scale",
        reset=("status",),
    )
    return merged, _to_parent(entries, owners, path, call.served.resource.api_version)


def _to_parent(entries: list[Object], owners: list[Object], path: str, version: str) -> list[Object]:
    wanted = {_identity(o): o for o in owners if _owns(o, "spec.replicas")}
    replicas = _nested(path)
    out = []
    for entry in entries:
        owner = wanted.pop(_identity(entry), None)
        if owner is not None:
            out.append({**entry, "time": owner["time"]})
            continue
        fields = fieldset.subtract(entry.get("fieldsV1") or {}, replicas)
        if fields:
            out.append({**entry, "fieldsV1": fields})
    return out + [{**owner, "apiVersion": version, "fieldsV1": replicas} for owner in wanted.values()]


def _identity(entry: Object) -> tuple[str, str, str]:
    return entry.get("manager", ""), entry.get("operation", ""), entry.get("subresource", "")


def _nested(path: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key in reversed(path.lstrip(".").split(".")):
        out = {f"f:{key}": out}
    return out


def _owns(entry: Object, path: str) -> bool:
    at: Any = entry.get("fieldsV1")
    for key in path.lstrip(".").split("."):
        at = at.get(f"f:{key}") if isinstance(at, dict) else None
    return at is not None
