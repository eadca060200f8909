"""Server-side apply: typed and untyped configurations, on what others own; refused, or applied twice like once."""

from __future__ import annotations

import copy
from typing import Any

import orjson

from jota.meta import apply
from jota.meta.decode import decode_body
from jota.meta.errors import ApiError
from targets import kit
from targets.mergepatch import LIVE, SCHEMA

_SHARED: dict[str, Any] = {"manager": "me", "api_version": "apps/v1", "time": "2026-01-01T00:00:00Z", "schema": SCHEMA}
_OWNED = copy.deepcopy(LIVE)
_OWNED["metadata"]["managedFields"] = apply.apply(None, LIVE, **{**_SHARED, "manager": "other"})[1]  # type: ignore[index]
_BEFORE = orjson.dumps(_OWNED)
_HEAD = b"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: d\n"
SEEDS = [
    _HEAD + b"  labels: {a: c}\nspec: {replicas: 3}\n",
    _HEAD
    + b"spec: {template: {spec: {containers: [{name: a, image: x, ports: [{containerPort: 80, protocol: UDP}]}]}}}\n",
    _HEAD + b"spec: {template: {spec: {containers: [{name: a}, {name: a}], tolerations: [{key: z}]}}}\n",
    b'{"metadata":{"name":"d","finalizers":["x/b","x/c"],"managedFields":[]},"spec":{"strategy":null}}',
    b'!{"apiVersion":"apps/v1","metadata":{"managedFields":[{"manager":"m","operation":"Apply","apiVersion":"apps/v1",'
    b'"fieldsV1":{"f:spec":{"k:{\\"a\\":1}":{".":{}},"v:\\"x\\"":{},"i:0":{}}}}]}}',
]
# a value twice in a set was taken, and one of them gone at the next apply
SEEDS += [_HEAD + b"  finalizers: [x/c, x/c]\n"]
WORDS = [b"containers: ", b"name: ", b"finalizers: ", b"ownerReferences: ", b'"fieldsV1":', b'"f:', b'"k:{', b"null"]


def _apply(live: Any, applied: Any, force: bool) -> Any:
    merged, entries = apply.apply(live, applied, force=force, **_SHARED)
    merged = copy.deepcopy(merged)
    merged.setdefault("metadata", {})["managedFields"] = entries
    return merged


def check(data: bytes) -> None:
    hostile = data[:1] == b"!"  # the live object's own managedFields come from a stranger
    try:
        applied, _ = decode_body("application/yaml", data[1:] if hostile else data, SCHEMA, strict="Warn")
    except ApiError as error:
        kit.refused(error)
        return
    if not isinstance(applied, dict):
        return
    if hostile:
        applied = {**LIVE, **applied}
        kit.taken_or_refused(lambda: apply.track_update(applied, LIVE, **_SHARED) and None)
        kit.taken_or_refused(lambda: _apply(applied, {"metadata": {"labels": {"x": "y"}}}, True))
        return
    for live in (None, _OWNED):
        kit.taken_or_refused(lambda live=live: _apply(live, applied, False))
        once = kit.taken_or_refused(lambda live=live: _apply(live, applied, True))
        if once is not None:
            assert _apply(once, applied, False) == once, "not idempotent"
    assert orjson.dumps(_OWNED) == _BEFORE, "the live object was changed"
