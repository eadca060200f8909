"""Pods and their controllers: the index by which every workload controller finds its pods, and how it claims them.

In: a workload object, its selector, the shared pod cache. Out: the pods that it owns. Next: claim.py, which decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from jota.client.cache import Cache
from jota.client.client import Client
from jota.client.indexes import Alike
from jota.client.informer import Informer
from jota.client.pods import OWNERS
from jota.controllers import claim
from jota.controllers.views import KIND, Pod, grouped, kind_of
from jota.meta.resource import PODS, Resource
from jota.meta.selectors import LabelSelector

Object = dict[str, Any]


def by_controller(pod: Pod) -> list[str]:
    """Values of the index "controller": the owner's uid, or for an orphan the words "orphans of <namespace>"."""
    for owner in pod.metadata.ownerReferences or ():
        if owner.controller:
            return [owner.uid]
    return [f"orphans of {pod.metadata.namespace}"]


def index(pods: Cache[Pod]) -> None:
    """Keep the index "controller"; `groups` tells apart in it what controllers tell apart."""
    pods.add_index("controller", by_controller, on=OWNERS | KIND, kind=kind_of)


def of(pods: Informer[Pod], owner: Object) -> list[Pod]:
    """All pods that `owner` controls now, finished and terminating ones too."""
    return list(pods.by_index("controller", owner["metadata"]["uid"]))


def living(groups: Iterable[Alike[Pod]]) -> tuple[list[Alike[Pod]], int]:
    """(the active pods, how many more have not finished but are on their way out)."""
    active, leaving = [], 0
    for group in groups:
        if group.first.active:
            active.append(group)
        elif not group.first.finished:
            leaving += len(group)
    return active, leaving


def candidate(pod: Pod) -> claim.Candidate:
    meta = pod.metadata
    references = [
        {f: v for f in r.__struct_fields__ if (v := getattr(r, f)) is not None} for r in meta.ownerReferences or ()
    ]
    return claim.Candidate(
        meta.name, meta.uid, meta.resourceVersion, meta.labels or {}, references, pod.terminating, pod
    )


def plan(owner: Object, selector: LabelSelector, pods: list[Pod]) -> claim.Claims:
    """`claim.plan` for pods."""
    settled, found = sift(owner, selector, grouped(pods))
    found.owned = [*chain.from_iterable(settled), *found.owned]
    return found


def sift(owner: Object, selector: LabelSelector, groups: Iterable[Alike[Pod]]) -> tuple[list[Alike[Pod]], claim.Claims]:
    """`claim.plan` for groups: (those that are owned and match, what is to be done about all others). Of ten thousand pods
    nearly all belong to the first: they need no closer look."""
    uid = owner["metadata"]["uid"]
    settled: list[Alike[Pod]] = []
    others: list[Pod] = []
    for group in groups:
        meta = group.first.metadata
        controller = meta.controller
        if controller is not None and controller.uid == uid and selector.matches(meta.labels):
            settled.append(group)
        else:
            others += group
    return settled, claim.plan(owner, selector, map(candidate, others))


async def settle(
    client: Client, pods: Informer[Pod], owners: Resource, owner: Object, selector: LabelSelector
) -> tuple[list[Pod], list[Object]]:
    """(pods owned, patched objects): adopts matching orphans, releases what matches no more.

    Pods adopted just now are not in the first list yet: the caller waits for its cache (Controller.wrote) and looks again.
    """
    namespace = owner["metadata"]["namespace"]
    here = [*of(pods, owner), *pods.by_index("controller", f"orphans of {namespace}")]
    found = plan(owner, selector, here)
    return found.owned, await claim.apply(client, PODS, owners, owner, found)
