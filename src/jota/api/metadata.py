"""ObjectMeta as the server keeps it: types checked, system fields set by the server alone, empties dropped.

Rules of apiserver's `rest.BeforeCreate` and `rest.BeforeUpdate`. Names and labels are judged by `meta/names.py`.
Next: resource.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import msgspec

from jota.kinds.kind import Kind, Object
from jota.meta import names
from jota.meta.errors import FieldError, Undecodable, bad_request, forbidden_field, invalid

SYSTEM = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink")
"""Fields of a client's metadata that count for nothing."""
EMPTY: tuple[Any, ...] = (None, "", {}, [])


class _Owner(msgspec.Struct):
    apiVersion: str | None = None
    kind: str | None = None
    name: str | None = None
    uid: str | None = None
    controller: bool | None = None
    blockOwnerDeletion: bool | None = None


class _Meta(msgspec.Struct):
    """The types of ObjectMeta's fields."""

    name: str | None = None
    generateName: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resourceVersion: str | None = None
    creationTimestamp: str | None = None
    deletionTimestamp: str | None = None
    deletionGracePeriodSeconds: int | None = None
    generation: int | None = None
    selfLink: str | None = None
    labels: dict[str, str | None] | None = None
    annotations: dict[str, str | None] | None = None
    finalizers: list[str] | None = None
    ownerReferences: list[_Owner] | None = None
    managedFields: list[dict[str, Any]] | None = None


KNOWN = frozenset(_Meta.__struct_fields__)


def check(obj: Object) -> dict[str, Any]:
    """The object's metadata, types checked, unknown and empty fields dropped in place. Raises ApiError 400."""
    metadata = obj.get("metadata")
    if metadata is None:
        metadata = obj["metadata"] = {}
    try:
        msgspec.convert(metadata, _Meta)
    except msgspec.ValidationError as e:
        raise Undecodable(f"the object's metadata is of a wrong type: {e}", str(e)) from None
    for key in [k for k, v in metadata.items() if k not in KNOWN or (not v and v in EMPTY)]:
        if key != "managedFields" or metadata[key] is None:
            del metadata[key]
    for key in ("labels", "annotations"):
        pairs = metadata.get(key)
        if pairs and None in pairs.values():
            metadata[key] = {k: v or "" for k, v in pairs.items()}
    return metadata


def check_name(metadata: dict[str, Any], name: str) -> None:
    """Whether an object that is to be written is the one of the URL (upstream's checkName). Raises ApiError 400."""
    given = metadata.get("name")
    if not given:
        raise bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
    if given != name:
        raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")


def uid(random: Random) -> str:
    """A random UUID (version 4)."""
    bits = random.getrandbits(128) & ~(0xF << 76) & ~(0x3 << 62) | (4 << 76) | (2 << 62)
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def uids(random: Random) -> Iterator[str]:
    """UUIDs of one series without end: random in front, counted behind. To tell things apart, not to be guessed by nobody."""
    while True:
        front = uid(random)[:24]
        for number in range(1 << 48):
            yield f"{front}{number:012x}"


def begin(metadata: dict[str, Any], *, uid: str, now: str, generation: bool) -> None:
    """Give a new object its system fields; what the client sent for them is dropped."""
    for key in SYSTEM:
        metadata.pop(key, None)
    metadata["uid"], metadata["creationTimestamp"] = uid, now
    if generation:
        metadata["generation"] = 1


def carry(new: dict[str, Any], old: dict[str, Any]) -> None:
    """Restore on update what only the server may set."""
    for key in SYSTEM:
        if key in old:
            new[key] = old[key]
        else:
            new.pop(key, None)
    new["name"] = old["name"]
    if "namespace" in old:
        new["namespace"] = old["namespace"]
    if "generateName" in old:
        new.setdefault("generateName", old["generateName"])
    if new.get("managedFields") is None and "managedFields" in old:
        new["managedFields"] = old["managedFields"]


def validate(kind: Kind, metadata: dict[str, Any]) -> list[FieldError]:
    return names.validate_metadata(metadata, namespaced=kind.resource.namespaced, name_rule=kind.name_rule)


def validate_update(new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
    """Finalizers may not be added once deletion has begun."""
    if not old.get("deletionTimestamp"):
        return []
    added = [f for f in new.get("finalizers", ()) if f not in old.get("finalizers", ())]
    if not added:
        return []
    listed = ", ".join(f'"{f}"' for f in added)
    detail = f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{listed}}}"
    return [forbidden_field("metadata.finalizers", detail)]


def revision_of(metadata: dict[str, Any]) -> int:
    """The resourceVersion as a number; 0 when not given. Raises ApiError 400 on other texts."""
    text = metadata.get("resourceVersion") or ""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        cause = invalid("metadata.resourceVersion", text, "must be a decimal number")
        raise bad_request(f"{cause.field}: {cause.message}")
    return int(text)
