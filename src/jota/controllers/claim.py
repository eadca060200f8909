"""Who owns what: adoption of matching orphans and release of owned objects that match no more.

In: an owner, its selector, candidates. Out: what it owns, and patches to make that so. Used by replicaset.py (pods), history.py and
deployment.py (replica sets).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import Resource
from jota.meta.selectors import LabelSelector

Object = dict[str, Any]


@dataclass(slots=True, frozen=True)
class Candidate:
    """What claiming looks at; `item` is handed back."""

    name: str
    uid: str
    version: str
    labels: dict[str, str]
    references: list[Object]
    terminating: bool
    item: Any


@dataclass(slots=True)
class Claims:
    owned: list[Any] = field(default_factory=list)
    adopt: list[Candidate] = field(default_factory=list)
    release: list[Candidate] = field(default_factory=list)


def plan(owner: Object, selector: LabelSelector, candidates: Iterable[Candidate]) -> Claims:
    """Kubernetes' ControllerRefManager rules. An owner that is being deleted neither adopts nor releases."""
    uid, closing = owner["metadata"]["uid"], "deletionTimestamp" in owner["metadata"]
    claims = Claims()
    for one in candidates:
        controller = next((r for r in one.references if r.get("controller")), None)
        matches = selector.matches(one.labels)
        if controller is not None:
            if controller["uid"] != uid:
                continue
            if matches:
                claims.owned.append(one.item)
            elif not closing:
                claims.release.append(one)
        elif matches and not closing and not one.terminating:
            claims.adopt.append(one)
    return claims


def reference(owner: Object, api_version: str, kind: str) -> Object:
    """The controlling owner reference that points at `owner`."""
    meta = owner["metadata"]
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


async def apply(client: Client, owned: Resource, owners: Resource, owner: Object, claims: Claims) -> list[Object]:
    """Carry out adoptions and releases; the patched objects. Raises ApiError (409: look again)."""
    namespace, done = owner["metadata"]["namespace"], []
    if claims.adopt:
        # The cache may be old: an owner that is gone or going must not adopt.
        fresh = await client.get(owners, owner["metadata"]["name"], namespace)
        if fresh["metadata"]["uid"] != owner["metadata"]["uid"] or "deletionTimestamp" in fresh["metadata"]:
            claims.adopt.clear()
    mine = reference(owner, owners.api_version, owners.kind)
    for one in claims.adopt:
        done.append(await _patch(client, owned, namespace, one, [*one.references, mine]))
    for one in claims.release:
        rest = [r for r in one.references if r["uid"] != mine["uid"]]
        done.append(await _patch(client, owned, namespace, one, rest))
    return [d for d in done if d is not None]


async def _patch(
    client: Client, resource: Resource, namespace: str, one: Candidate, references: list[Object]
) -> Object | None:
    # The resourceVersion makes the replacement of the whole list safe against concurrent changes of it.
    meta = {"uid": one.uid, "resourceVersion": one.version, "ownerReferences": references}
    try:
        return await client.patch(resource, one.name, namespace, {"metadata": meta})
    except ApiError as e:
        if e.code == 404:
            return None
        raise
