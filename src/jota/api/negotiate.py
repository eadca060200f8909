"""Accept -> the form of an answer; Content-Type -> the form of a body. Next: respond.py, decode.py.

Clauses are read in order and the first one that this server can give is honoured (as upstream does). Protobuf is given only
to those who take nothing else (protobuf_form.py): typed clients fall through to the JSON they also list.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from jota.meta.errors import ApiError, not_acceptable

PROTOBUF = "application/vnd.kubernetes.protobuf"
WITHOUT_PROTOBUF = ["application/json", "application/yaml"]
GIVEN = [*WITHOUT_PROTOBUF, PROTOBUF]


class Accepted(NamedTuple):
    """`form` is "" (the object itself), "Table" or "Metadata"; `version` that of meta.k8s.io. `protobuf`: and nothing else."""

    form: str = ""
    version: str = "v1"
    yaml: bool = False
    include: str = ""
    protobuf: bool = False


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
            return Accepted("", "v1", True) if yaml else PLAIN
        if not objects:
            continue
        version = params.get("v", "v1")
        if params.get("g", "meta.k8s.io") != "meta.k8s.io" or version not in ("v1", "v1beta1"):
            continue
        if as_ == "Table":
            return Accepted("Table", version, yaml)
        if as_ in ("PartialObjectMetadata", "PartialObjectMetadataList"):
            return Accepted("Metadata", version, yaml)
    for media, params in clauses(header):
        if media == PROTOBUF and (found := _in_protobuf(params, objects)) is not None:
            return found
    raise not_acceptable(GIVEN)


def _in_protobuf(params: dict[str, str], objects: bool) -> Accepted | None:
    """A Table has no protobuf form, nor has the metadata of v1beta1."""
    as_ = params.get("as", "")
    if not as_:
        return Accepted(protobuf=True)
    if not objects or params.get("g", "meta.k8s.io") != "meta.k8s.io" or params.get("v", "v1") != "v1":
        return None
    known = as_ in ("PartialObjectMetadata", "PartialObjectMetadataList")
    return Accepted("Metadata", protobuf=True) if known else None


@lru_cache(maxsize=256)
def only_protobuf(header: str) -> bool:
    """Whether an Accept header takes protobuf, and nothing else that is given here."""
    media = {media for media, _ in clauses(header)}
    try:
        return PROTOBUF in media and accept(header).protobuf
    except ApiError:
        return media == {PROTOBUF}  # what is refused is told in the form that is understood
