"""Accept -> the form of an answer; Content-Type -> the form of a body. Next: respond.py, decode.py.

Clauses are read in order and the first one that this server can give is honoured (as upstream does); protobuf is never
given, so typed clients fall through to the JSON they also list.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from jota.meta.errors import not_acceptable

GIVEN = ["application/json", "application/yaml"]


class Accepted(NamedTuple):
    """`form` is "" (the object itself), "Table" or "Metadata"; `version` that of meta.k8s.io."""

    form: str = ""
    version: str = "v1"
    yaml: bool = False
    include: str = ""


PLAIN = Accepted()


def clauses(header: str) -> list[tuple[str, dict[str, str]]]:
    """The media types of an Accept header with their parameters, best quality first, otherwise in order."""
    found = []
    for clause in header.split(","):
        media, *params = [part.strip() for part in clause.split(";")]
        if media:
            pairs = dict(p.split("=", 1) for p in params if "=" in p)
            found.append((media.lower(), pairs))
    return sorted(found, key=lambda c: -_quality(c[1].get("q", "1")))


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0


@lru_cache(maxsize=256)
def accept(header: str, objects: bool = True) -> Accepted:
    """The form to answer in. `objects` False: the answer is no stored object and has one form. Raises ApiError 406."""
    if not header:
        return PLAIN
    for media, params in clauses(header):
        if media not in ("application/json", "application/yaml", "*/*", "application/*"):
            continue
        yaml = media == "application/yaml"
        as_ = params.get("as", "")
        if not as_:
            return Accepted("", "v1", yaml)
        if not objects:
            continue
        version = params.get("v", "v1")
        if params.get("g", "meta.k8s.io") != "meta.k8s.io" or version not in ("v1", "v1beta1"):
            continue
        if as_ == "Table":
            return Accepted("Table", version, yaml)
        if as_ in ("PartialObjectMetadata", "PartialObjectMetadataList"):
            return Accepted("Metadata", version, yaml)
    raise not_acceptable(GIVEN)
