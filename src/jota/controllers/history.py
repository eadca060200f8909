"""ControllerRevisions: the frozen templates of StatefulSets and DaemonSets. In: an owner and its revisions. Out: which one is
current, and what to create, renumber or delete.

`plan` decides; `keep` carries out. Rolling back is rolling forward: a template that was seen before gets its old revision
back with the next number, and so its old hash, and pods that already carry it are left alone. `adopt` takes over what an owner
before left behind (`kubectl delete --cascade=orphan`): its pods carry these revisions' hashes, and must not be made anew.
Worked example: templates A, B, A give revisions B:2 and A:3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from jota.client.client import Client
from jota.client.informer import Informer
from jota.controllers import claim
from jota.controllers.revisions import comparable, template_hash
from jota.meta.errors import ApiError
from jota.meta.resource import Resource
from jota.meta.selectors import LabelSelector

Object = dict[str, Any]

CONTROLLERREVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
HASH = "controller-revision-hash"
"""Label of a pod: the revision that it was made from."""
STATEFUL_HASH = "controller.kubernetes.io/hash"
"""The same label on a StatefulSet's revisions."""


@dataclass(slots=True)
class Plan:
    current: Object | None = None
    """The revision of the owner's template; None while it must be created."""
    create: Object | None = None
    renumber: int = 0
    """The number that `current` must get, 0 for none."""


def plan(owner: Object, owners: Resource, revisions: list[Object], label: str) -> Plan:
    """`revisions`: those that the owner controls."""
    wanted = comparable(owner["spec"]["template"])
    numbers = [r["revision"] for r in revisions]
    following = max(numbers, default=0) + 1
    same = sorted((r for r in revisions if comparable(template_of(r)) == wanted), key=lambda r: int(r["revision"]))
    if same:
        newest = same[-1]
        return Plan(newest, renumber=0 if newest["revision"] == following - 1 else following)
    return Plan(create=_new(owner, owners, following, label))


def template_of(revision: Object) -> Object:
    """The pod template that a revision keeps."""
    template = {k: v for k, v in revision["data"]["spec"]["template"].items() if k != "$patch"}
    return template


def hash_of(revision: Object) -> str:
    labels = revision["metadata"].get("labels") or {}
    return str(labels.get(HASH) or labels.get(STATEFUL_HASH) or "")


def _new(owner: Object, owners: Resource, number: int, label: str) -> Object:
    meta, template = owner["metadata"], owner["spec"]["template"]
    hash_ = template_hash(template, (owner.get("status") or {}).get("collisionCount") or 0)
    labels = (template.get("metadata") or {}).get("labels") or {}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{meta['name']}-{hash_}",
            "namespace": meta["namespace"],
            "labels": {**labels, label: hash_},
            "annotations": dict(meta.get("annotations") or {}),
            "ownerReferences": [claim.reference(owner, owners.api_version, owners.kind)],
        },
        "revision": number,
        "data": _data(template),
    }


def _data(template: Object) -> Object:
    """A strategic merge patch, as upstream writes it: `kubectl rollout undo` sends it back as it is. Its keys are sorted:
    clients compare it byte for byte with the patch that they make of the template."""
    patch = {"spec": {"template": {**template, "$patch": "replace"}}}
    data: Object = orjson.loads(orjson.dumps(patch, option=orjson.OPT_SORT_KEYS))
    return data


def superfluous(revisions: list[Object], live: set[str], limit: int) -> list[Object]:
    """The oldest revisions beyond the limit, of those that no pod and no status names (`live`: names or hashes)."""
    idle = [r for r in revisions if r["metadata"]["name"] not in live and hash_of(r) not in live]
    idle.sort(key=lambda r: int(r["revision"]))
    return idle[: max(0, len(idle) - limit)]


@dataclass(slots=True)
class Kept:
    """The owner's revision now, and what was written on the way."""

    current: Object | None
    written: list[Object] = field(default_factory=list)
    collided: bool = False
    """The name belongs to something else: hash anew with a higher collisionCount."""


def index(revisions: Informer[Object]) -> None:
    """By controller; those without one by their namespace."""
    revisions.add_index("controller", lambda one: [_controller(one) or f"orphans of {one['metadata']['namespace']}"])


def _controller(revision: Object) -> str:
    """The uid of the controller, "" when there is none."""
    references = revision["metadata"].get("ownerReferences") or ()
    return next((str(r["uid"]) for r in references if r.get("controller")), "")


def of(revisions: Informer[Object], owner: Object) -> list[Object]:
    """Those that the owner controls."""
    return list(revisions.by_index("controller", owner["metadata"]["uid"]))


async def adopt(
    client: Client, revisions: Informer[Object], owners: Resource, owner: Object, selector: LabelSelector
) -> list[Object]:
    """Take over matching ones that nobody controls; the patched objects. Raises ApiError (409: look again)."""
    orphans = revisions.by_index("controller", f"orphans of {owner['metadata']['namespace']}")
    found = claim.plan(owner, selector, map(_candidate, orphans))
    return await claim.apply(client, CONTROLLERREVISIONS, owners, owner, found) if found.adopt else []


def _candidate(revision: Object) -> claim.Candidate:
    meta = revision["metadata"]
    references, labels = meta.get("ownerReferences") or [], meta.get("labels") or {}
    terminating = "deletionTimestamp" in meta
    return claim.Candidate(
        meta["name"], meta["uid"], meta["resourceVersion"], labels, references, terminating, revision
    )


async def keep(client: Client, owner: Object, owners: Resource, decided: Plan) -> Kept:
    """Create or renumber. Raises ApiError."""
    if decided.create is not None:
        return await _create(client, owner, owners, decided.create)
    assert decided.current is not None
    if not decided.renumber:
        return Kept(decided.current)
    done = await client.update(CONTROLLERREVISIONS, {**decided.current, "revision": decided.renumber})
    return Kept(done, [done])


async def _create(client: Client, owner: Object, owners: Resource, wanted: Object) -> Kept:
    try:
        made = await client.create(CONTROLLERREVISIONS, wanted)
    except ApiError as e:
        if e.code != 409 or e.reason != "AlreadyExists":
            raise
        meta = wanted["metadata"]
        there = await client.get(CONTROLLERREVISIONS, meta["name"], meta["namespace"])
        if comparable(template_of(there)) != comparable(template_of(wanted)):
            return Kept(None, collided=True)
        if _controller(there) == owner["metadata"]["uid"]:
            return Kept(there, [there])
        if not _controller(there) and "deletionTimestamp" not in there["metadata"]:
            # left behind this moment: the cache does not know yet
            found = claim.Claims(adopt=[_candidate(there)])
            done = await claim.apply(client, CONTROLLERREVISIONS, owners, owner, found)
            return Kept(done[0] if done else None, done, collided=not done)
        return Kept(None, collided=True)
    return Kept(made, [made])


async def prune(client: Client, revisions: list[Object]) -> None:
    for one in revisions:
        meta = one["metadata"]
        try:
            await client.delete(CONTROLLERREVISIONS, meta["name"], meta["namespace"], uid=meta["uid"])
        except ApiError as e:
            if e.code not in (404, 409):
                raise
