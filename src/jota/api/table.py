"""The server-side Table (meta.k8s.io): what `kubectl get` prints. Columns come from the Kind; rows carry metadata.

In: decoded objects. Out: plain values for respond.py and the watch frames.
"""

from __future__ import annotations

from typing import Any

from jota.api.call import Call
from jota.kinds.common import AGE, NAME
from jota.kinds.kind import Column, Kind, Object
from jota.meta.errors import bad_request

INCLUDE = ("Metadata", "None", "Object")


def columns(kind: Kind) -> tuple[Column, ...]:
    return kind.columns or (NAME, AGE)


def definitions(kind: Kind) -> list[dict[str, Any]]:
    return [
        {
            "name": c.name,
            "type": c.type,
            "format": c.format or ("name" if c.name == "Name" else ""),
            "description": c.description,
            "priority": c.priority,
        }
        for c in columns(kind)
    ]


def include(call: Call) -> str:
    """What a row's `object` holds. Raises ApiError 400."""
    value = call.params.get("includeObject", "") or "Metadata"
    if value not in INCLUDE:
        raise bad_request(f'unrecognized includeObject value: "{value[:64]}"')
    return value


def row(call: Call, obj: Object, now: float, included: str) -> dict[str, Any]:
    out: dict[str, Any] = {"cells": [c.cell(obj, now) for c in columns(call.served.kind)]}
    if included == "Object":
        out["object"] = obj
    elif included == "Metadata":
        version = f"meta.k8s.io/{call.accepted.version}"
        out["object"] = {"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": obj["metadata"]}
    return out


def table(call: Call, rows: list[dict[str, Any]], metadata: dict[str, Any], *, head: bool = True) -> dict[str, Any]:
    """`head=False` leaves the column definitions out (all but the first event of a watch)."""
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{call.accepted.version}",
        "metadata": metadata,
        "columnDefinitions": definitions(call.served.kind) if head else None,
        "rows": rows,
    }


def of_object(call: Call, obj: Object, now: float, *, head: bool = True) -> dict[str, Any]:
    """A Table of one row."""
    version = obj["metadata"].get("resourceVersion", "")
    return table(call, [row(call, obj, now, include(call))], {"resourceVersion": version}, head=head)
