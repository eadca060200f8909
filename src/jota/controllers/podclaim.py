"""Pods and their controllers: the index by which every workload controller finds its pods, and how it claims them.

In: a workload object, its selector, the shared pod cache. Out: the pods that it owns. Next: claim.py, which decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jota.client.client import Client
from jota.client.informer import Informer
from jota.client.pods import ENDED
from jota.controllers import claim
from jota.controllers.views import Pod
from jota.meta.resource import PODS, Resource
from jota.meta.selectors import LabelSelector

Object = dict[str, Any]


def by_controller(pod: Pod) -> list[str]:
    """Values of the index "controller": the owner's uid, or for an orphan the words "orphans of <namespace>"."""
    owner = pod.metadata.controller
    return [owner.uid if owner is not None else f"orphans of {pod.metadata.namespace}"]


def of(pods: Informer[Pod], owner: Object) -> list[Pod]:
    """All pods that `owner` controls now, finished and terminating ones too."""
    return list(pods.by_index("controller", owner["metadata"]["uid"]))


def living(pods: Iterable[Pod]) -> tuple[list[Pod], int]:
    """(the active ones, how many more have not finished but are on their way out): `Pod.active`, in one pass over ten thousand."""
    active, leaving = [], 0
    for pod in pods:
        if pod.status.phase in ENDED:
            continue
        if pod.metadata.deletionTimestamp is None:
            active.append(pod)
        else:
            leaving += 1
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
    """`claim.plan` for pods. Of ten thousand nearly all are owned and match: those need no closer look."""
    uid = owner["metadata"]["uid"]
    settled: list[Pod] = []
    others: list[Pod] = []
    known: dict[tuple[int, int], bool] = {}
    """Pods of one template share labels and owners (client/pods.py): one look for all of them."""
    for pod in pods:
        meta = pod.metadata
        parts = id(meta.ownerReferences), id(meta.labels)
        mine = known.get(parts)
        if mine is None:
            controller = meta.controller
            mine = controller is not None and controller.uid == uid and selector.matches(meta.labels)
            known[parts] = mine
        (settled if mine else others).append(pod)
    found = claim.plan(owner, selector, map(candidate, others))
    found.owned = settled + found.owned
    return found


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
