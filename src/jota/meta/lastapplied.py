"""What `kubectl apply` noted in an annotation, where `kubectl apply --server-side` goes on. Objects in, sets and objects out; pure.

Client-side apply keeps what it last applied in an annotation of the object. Server-side apply by kubectl may take the fields that
are still as noted there from whoever owns them, and keeps the annotation true, so that one may also go back. Other managers opt
out by their name. Rules are those of apimachinery's `managedfields` (lastappliedmanager.go, lastappliedupdater.go). Next: apply.py.
"""

from __future__ import annotations

from typing import Any

import orjson

from jota.meta import fieldset
from jota.meta.fieldset import FieldSet
from jota.meta.schema import Type

Object = dict[str, Any]
ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
MANAGER = "kubectl"
"""Whom alone this concerns: the name that kubectl has in server-side apply unless its user chooses another."""
_ANNOTATIONS_SIZE = 256 << 10


def still_so(noted: Object, live: Object, type: Type) -> FieldSet:
    """The fields that were applied according to `noted` and have the same values in `live`; {} for none. Both without what
    nobody owns. Raises BadList."""
    fields = fieldset.extract(noted, type)
    changed, removed = fieldset.compare(noted, live, type)
    for gone in (changed, removed):
        fields = fieldset.subtract(fields, gone) if gone else fields
    return fields


def noted(live: Object, api_version: str) -> Object | None:
    """The object that the annotation holds; None when there is none, or it is unreadable or of another version."""
    text = _annotations(live).get(ANNOTATION)
    try:
        found = orjson.loads(text) if isinstance(text, str) and text else None
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and found.get("apiVersion") == api_version else None


def renewed(merged: Object, applied: Object) -> Object:
    """`merged`, whose annotation, if it has one, tells of `applied`; the argument is not changed."""
    annotations = _annotations(merged)
    if not annotations.get(ANNOTATION):
        return merged
    metadata = dict(applied.get("metadata") or {})
    if ANNOTATION in _annotations(applied):
        metadata["annotations"] = {k: v for k, v in metadata["annotations"].items() if k != ANNOTATION}
    text = orjson.dumps({**applied, "metadata": metadata}, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
    told = {**annotations, ANNOTATION: text.decode()}
    if sum(len(str(part).encode()) for pair in told.items() for part in pair) > _ANNOTATIONS_SIZE:
        del told[ANNOTATION]
    return {**merged, "metadata": {**merged["metadata"], "annotations": told}}


def _annotations(obj: Object) -> Object:
    found = (obj.get("metadata") or {}).get("annotations")
    return found if isinstance(found, dict) else {}
