"""The server-side Table (meta.k8s.io): what `kubectl get` prints. Columns come from the Kind; rows carry metadata.

In: decoded objects. Out: plain values for respond.py and the watch frames; of a list, which may be long, encoded rows.
"""

from __future__ import annotations

from typing import Any

import orjson

from jota.aio.clock import Clock
from jota.aio.pause import Pause
from jota.api import object as at_rest
from jota.api.call import Call
from jota.kinds.common import AGE, NAME
from jota.kinds.kind import Column, Kind, Object
from jota.meta.errors import bad_request
from jota.store.protocol import Entry
from jota.wire.message import Part

INCLUDE = ("Metadata", "None", "Object")


def columns(kind: Kind) -> tuple[Column, ...]:
    return kind.columns or (NAME, AGE)


def definitions(columns: tuple[Column, ...]) -> list[dict[str, Any]]:
    return [
        {
            "name": c.name,
            "type": c.type,
            "format": c.format or ("name" if c.name == "Name" else ""),
            "description": c.description,
            "priority": c.priority,
        }
        for c in columns
    ]


def include(call: Call) -> str:
    """What a row's `object` holds. Raises ApiError 400."""
    value = call.params.get("includeObject", "") or "Metadata"
    if value not in INCLUDE:
        raise bad_request(f'unrecognized includeObject value: "{value[:64]}"')
    return value


def _cells(kind: Kind, obj: Object, now: float) -> list[Any]:
    return kind.cells(obj, now) if kind.cells is not None else [c.cell(obj, now) for c in columns(kind)]


def row(call: Call, obj: Object, now: float, included: str, shown: tuple[Column, ...] = ()) -> dict[str, Any]:
    """`shown`: what there is to see when `obj` is of another kind than the call's (a Scale)."""
    cells = [c.cell(obj, now) for c in shown] if shown else _cells(call.served.kind, obj, now)
    out: dict[str, Any] = {"cells": cells}
    if included == "Object":
        out["object"] = obj
    elif included == "Metadata":
        version = f"meta.k8s.io/{call.accepted.version}"
        out["object"] = {"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": obj["metadata"]}
    return out


def table(
    call: Call,
    rows: list[dict[str, Any]],
    metadata: dict[str, Any],
    *,
    head: bool = True,
    shown: tuple[Column, ...] = (),
) -> dict[str, Any]:
    """`head=False` leaves the column definitions out (all but the first event of a watch)."""
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{call.accepted.version}",
        "metadata": metadata,
        "columnDefinitions": definitions(shown or columns(call.served.kind)) if head else None,
        "rows": rows,
    }


async def of_entries(
    call: Call, entries: list[Entry], metadata: dict[str, Any], clock: Clock, included: str
) -> list[Part]:
    """A Table of stored objects, encoded, in parts. Each row takes its time: others have their turn in between."""
    served, kind, now, pause = call.served, call.served.kind, clock.now(), Pause(clock)
    head = at_rest.head(f"meta.k8s.io/{call.accepted.version}", "PartialObjectMetadata")
    parts: list[Part] = [orjson.dumps(table(call, [], metadata))[:-2]]
    for entry in entries:
        obj, value = served.object_of(entry), entry.value or b""
        cells = orjson.dumps(_cells(kind, obj, now))
        if included == "Metadata":
            parts.append(b'{"cells":%b,"object":%b},' % (cells, at_rest.render_metadata(value, entry.revision, head)))
        elif included == "Object":
            parts.append(b'{"cells":%b,"object":%b},' % (cells, orjson.dumps(obj)))
        else:
            parts.append(b'{"cells":%b},' % cells)
        if pause.due():
            await pause.take()
    if entries:
        parts[-1] = parts[-1][:-1]
    parts.append(b"]}")
    return parts


def of_object(
    call: Call, obj: Object, now: float, *, head: bool = True, shown: tuple[Column, ...] = ()
) -> dict[str, Any]:
    """A Table of one row."""
    version = obj["metadata"].get("resourceVersion", "")
    rows = [row(call, obj, now, include(call), shown)]
    return table(call, rows, {"resourceVersion": version}, head=head, shown=shown)
