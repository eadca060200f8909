"""ReplicaSet (and ReplicationController): the right number of pods. In: the set and its pods. Out: creates and deletes.

`plan` decides; `reconcile` claims, creates in growing batches, deletes the least valuable pods, and writes the status.
Exactness: a key is not reconciled before the pod cache shows the key's own last creates (Controller.wrote), and pods
whose delete was accepted no longer count, seen or not. Next: claim.py; deployment.py is the layer above.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import chain
from typing import Any, ClassVar

import msgspec
import orjson

from jota.client.indexes import Alike
from jota.controllers import claim, conditions, podclaim
from jota.controllers.controller import Context, Controller, own
from jota.controllers.views import Pod, alike, controlled_by, grouped, kind_of, mine_or_nobodys
from jota.meta.errors import ApiError
from jota.meta.resource import PODS, REPLICASETS, Resource
from jota.meta.selectors import LabelSelector, from_map, from_object

Object = dict[str, Any]

REPLICATIONCONTROLLERS = Resource("", "v1", "replicationcontrollers", "ReplicationController")
BURST = 500
"""Pods created or deleted in one reconcile, at most (upstream's BurstReplicas)."""
AT_ONCE = 256
"""Pods made by one request, at most: others want their turn."""
REST_PER_POD = 20e-6
"""Seconds of rest after a look at a set: the more pods it has, the longer are their events gathered for the next."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


@dataclass(slots=True, frozen=True)
class Plan:
    create: int = 0
    delete: list[Pod] = field(default_factory=list)


def plan(owner: Object, active: list[Alike[Pod]], related: Iterable[Pod], now: float) -> Plan:
    """How many pods to add, or which to remove. `related`: active pods of sibling sets, for spreading over nodes."""
    if "deletionTimestamp" in owner["metadata"]:
        return Plan()
    missing = owner["spec"].get("replicas", 1) - _size(active)
    if missing >= 0:
        return Plan(create=min(missing, BURST))
    rank = DeletionRank(related, now)
    return Plan(delete=nsmallest(min(-missing, BURST), chain.from_iterable(active), key=rank))


class DeletionRank:
    """Sorts the pods to lose first: unassigned, pending, unready, cheap, crowded, young, restarted (upstream's order).

    Ages are compared by their order of magnitude, so that equal pods are chosen by uid, that is, at random. What pods share is
    looked at once.
    """

    def __init__(self, related: Iterable[Pod], now: float) -> None:
        self._on_node = Counter([p.spec.nodeName for p in related])
        self._now = now
        self._ready: dict[int, tuple[bool, int]] = {}
        """Identity of the conditions (which the pods keep) -> (whether they say ready, how long)."""
        self._ages: dict[str, int] = {}
        """Time of creation -> how long ago that is."""

    def __call__(self, pod: Pod) -> tuple[Any, ...]:
        meta, node = pod.metadata, pod.spec.nodeName
        ready = self._ready.get(id(pod.status.conditions))
        if ready is None:
            ready = pod.ready, _magnitude(self._now - pod.ready_since) if pod.ready_since else 0
            self._ready[id(pod.status.conditions)] = ready
        stamp = meta.creationTimestamp or ""
        age = self._ages.get(stamp)
        if age is None:
            age = self._ages[stamp] = _magnitude(self._now - pod.created)
        return (
            node != "",
            _PHASES.get(pod.status.phase, 2),
            ready[0],
            _cost(pod) if meta.annotations else 0,
            -self._on_node[node],
            ready[1],
            -pod.restarts,
            age,
            meta.uid,
        )


_PHASES = {"Pending": 0, "Unknown": 1, "": 1}


def _cost(pod: Pod) -> int:
    text = (pod.metadata.annotations or {}).get(DELETION_COST, "0")
    try:
        return int(text)
    except ValueError:
        return 0


def _magnitude(age: float) -> int:
    return int(math.log2(age)) if age >= 1 else -1


def status_of(
    owner: Object, active: list[Alike[Pod]], failure: tuple[str, str] | None, now: float, terminating: int | None = None
) -> tuple[Object, float | None]:
    """(the status as it should be, seconds until a ready pod becomes available or None).

    `failure` is (reason, message) of a create or delete that failed just now; None clears the condition.
    `terminating`: pods on their way out; None for kinds that do not tell.
    """
    template = (owner["spec"].get("template") or {}).get("metadata") or {}
    labels: dict[str, str] = template.get("labels") or {}
    minimum = owner["spec"].get("minReadySeconds") or 0
    ready = [group for group in active if group.first.ready]
    waits = [group.first.ready_since + minimum - now if minimum else 0.0 for group in ready]
    old = owner.get("status") or {}
    conds = old.get("conditions") or []
    if failure is not None:
        # Messages name generated pods; following them would write the status, and so wake this key, on every attempt.
        if conditions.find(conds, "ReplicaFailure") is None:
            conds = conditions.put(conds, "ReplicaFailure", "True", *failure, now)
    else:
        conds = conditions.without(conds, "ReplicaFailure")
    counts = {
        "replicas": _size(active),
        "fullyLabeledReplicas": _size(g for g in active if labels.items() <= (g.first.metadata.labels or {}).items()),
        "readyReplicas": _size(ready),
        "availableReplicas": _size(g for g, wait in zip(ready, waits, strict=True) if wait <= 0),
    }
    status: Object = {k: v for k, v in counts.items() if v or k == "replicas"}
    if terminating is not None:
        status["terminatingReplicas"] = terminating
    status["observedGeneration"] = owner["metadata"].get("generation", 0)
    if conds:
        status["conditions"] = conds
    pending = [wait for wait in waits if wait > 0]
    return status, (min(pending) if pending else None)


def _size(groups: Iterable[Alike[Pod]]) -> int:
    return sum(map(len, groups))


def _without(groups: Iterable[Alike[Pod]], gone: list[Pod]) -> Iterator[Alike[Pod]]:
    """`gone` are among them."""
    keys: dict[Hashable, set[str]] = {}
    for pod in gone:
        keys.setdefault(kind_of(pod), set()).add(pod.key)
    for group in groups:
        less = keys.get(group.kind)
        if less is None:
            yield group
        elif len(less) < len(group):
            yield group.without(less)


def pod_from(owner: Object, resource: Resource) -> Object:
    """The pod that a set's template describes."""
    meta = owner["metadata"]
    template = deepcopy(owner["spec"]["template"])
    given = template.get("metadata") or {}
    metadata: Object = {k: given[k] for k in ("labels", "annotations", "finalizers") if given.get(k)}
    metadata["generateName"] = f"{meta['name']}-"
    metadata["namespace"] = meta["namespace"]
    metadata["ownerReferences"] = [claim.reference(owner, resource.api_version, resource.kind)]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


class _CreatedMeta(msgspec.Struct):
    name: str
    resourceVersion: str


class _Created(msgspec.Struct):
    """All that is read of the answer to a creation."""

    metadata: _CreatedMeta


class ReplicaSetController(Controller):
    name: ClassVar[str] = "replicaset"
    resource: ClassVar[Resource] = REPLICASETS
    tells_terminating: ClassVar[bool] = True
    source: ClassVar[str] = "replicaset-controller"
    """Who its events say they are from."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.sets = self.watch(self.resource, own)
        self.pods = self.watch(
            PODS,
            self._keys_of_pod,
            type=Pod,
            alike=alike,
            of=mine_or_nobodys(self.resource.kind, self.resource.group),
        )
        self._of_mine = controlled_by(self.resource.kind, self.resource.group)
        podclaim.index(self.pods)
        self.events = context.recorder(self.source)
        self._deleted: dict[str, dict[str, str]] = {}
        """Per key: pods whose delete was accepted and which the cache may still show as living: their uids, by their keys."""
        self._ending: dict[str, str] = {}
        """Per key: the uid of a set whose namespace takes no pods any more."""

    def selector(self, owner: Object) -> LabelSelector:
        return from_object(owner["spec"].get("selector"))

    def _keys_of_pod(self, pod: Pod) -> Iterable[str]:
        """The controlling set; for an orphan, every set of its namespace that would adopt it."""
        if pod.metadata.controller is not None:
            return self._of_mine(pod)
        return [
            own(owner)[0]
            for owner in self.sets.list(pod.metadata.namespace)
            if self.selector(owner).matches(pod.metadata.labels)
        ]

    async def reconcile(self, key: str) -> float | None:
        owner = self.sets.get(key)
        if owner is None:
            self._deleted.pop(key, None)
            self._ending.pop(key, None)
            return None
        groups, leaving = await self._claim(key, owner)
        decided = plan(owner, groups, self._related(owner), self.clock.now())
        if self._ending.get(key) == owner["metadata"]["uid"]:
            decided = Plan(delete=decided.delete)
        failure = await self._create(key, owner, decided.create) or await self._delete(key, owner, decided.delete)
        told = leaving if self.tells_terminating else None
        status, again = status_of(owner, groups, failure[:2] if failure else None, self.clock.now(), told)
        if status != owner.get("status"):
            changed = {**owner, "status": status}
            self.wrote(key, self.sets, await self.client.update(self.resource, changed, "status"))
        if failure is not None:
            raise failure[2]
        more = max(decided.create, len(decided.delete)) >= BURST and key not in self._ending
        return 0.0 if more else again

    def gathering(self, key: str, took: float) -> float:
        owner = self.sets.get(key)
        return REST_PER_POD * owner["spec"].get("replicas", 1) if owner is not None else 0.0

    async def _claim(self, key: str, owner: Object) -> tuple[list[Alike[Pod]], int]:
        """(the active pods, with those adopted just now; how many more are on their way out)."""
        namespace, uid = owner["metadata"]["namespace"], owner["metadata"]["uid"]
        here, leaving = podclaim.living(self.pods.groups("controller", uid))
        if gone := self._gone(key, uid):
            here = [*_without(here, gone)]
            leaving += len(gone)
        here += podclaim.living(self.pods.groups("controller", f"orphans of {namespace}"))[0]
        settled, found = podclaim.sift(owner, self.selector(owner), here)
        if not found.adopt and not found.release:
            return settled + grouped(found.owned), leaving
        settled = grouped(chain.from_iterable(settled))  # as they are now: the cache goes on while we wait
        for patched in await claim.apply(self.client, PODS, self.resource, owner, found):
            self.wrote(key, self.pods, patched)
        # after `apply`, which takes out of `adopt` what must not be adopted
        return settled + grouped([*found.owned, *(c.item for c in found.adopt)]), leaving

    def _gone(self, key: str, owner: str) -> list[Pod]:
        """Pods that the cache still shows as living, though their delete was accepted."""
        known = self._deleted.get(key)
        if not known:
            return []
        gone = []
        for name, uid in known.items():
            pod = self.pods.get(name)
            if pod is None or pod.metadata.uid != uid or not pod.active:
                continue
            if (controller := pod.metadata.controller) is not None and controller.uid == owner:
                gone.append(pod)
        self._deleted[key] = {pod.key: pod.metadata.uid for pod in gone}
        return gone

    def _related(self, owner: Object) -> Iterator[Pod]:
        """Active pods of all sets that have this one's controller (a deployment's other revisions), or of this one alone."""
        meta = owner["metadata"]
        above = {r["uid"] for r in meta.get("ownerReferences") or () if r.get("controller")}
        uids = {meta["uid"]}
        for other in self.sets.list(meta["namespace"]) if above else ():
            if any(r["uid"] in above for r in other["metadata"].get("ownerReferences") or () if r.get("controller")):
                uids.add(other["metadata"]["uid"])
        for uid in uids:
            for group in self.pods.groups("controller", uid):
                if group.first.active:
                    yield from group

    async def _create(self, key: str, owner: Object, count: int) -> tuple[str, str, Exception] | None:
        """In one go those of which the server knows what becomes of them; as long as it does not, in batches of 1, 2, 4, ...:
        a template that cannot work fails once, not `count` times."""
        batch, body = 1, orjson.dumps(pod_from(owner, self.resource)) if count > 0 else b""
        while count > 0:
            try:
                made = await self._create_some(key, owner, body, min(count, AT_ONCE))
            except (ApiError, ConnectionError, TimeoutError) as error:
                return self._create_failed(owner, error)
            if made == 1:
                each = [self._create_some(key, owner, body, 1) for _ in range(min(batch, count) - 1)]
                results = await asyncio.gather(*each, return_exceptions=True)
                if failed := [r for r in results if isinstance(r, BaseException)]:
                    return self._create_failed(owner, failed[0])
                made += len(results)
            count -= made
            batch *= 2
        return None

    async def _create_some(self, key: str, owner: Object, body: bytes, times: int) -> int:
        """How many there are now."""
        found = await self.client.create_alike(PODS, body, owner["metadata"]["namespace"], times, type=_Created)
        if found:
            self.wrote(key, self.pods, found[-1].metadata.resourceVersion)  # versions ascend
        for made in found:
            self.events.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {made.metadata.name}")
        return len(found)

    def _create_failed(self, owner: Object, error: BaseException) -> tuple[str, str, Exception] | None:
        if not isinstance(error, Exception):
            raise error
        if isinstance(error, ApiError) and any(c.reason == "NamespaceTerminating" for c in error.causes):
            # nothing can be created there again; the namespace's end removes the set too
            self._ending[own(owner)[0]] = owner["metadata"]["uid"]
            return None
        self.events.event(owner, "Warning", "FailedCreate", f"Error creating: {error}")
        return "FailedCreate", str(error), error

    async def _delete(self, key: str, owner: Object, pods: list[Pod]) -> tuple[str, str, Exception] | None:
        """In one go as far as the server can, the others one by one."""
        try:
            wanted = [(p.metadata.name, p.metadata.uid) for p in pods]
            done = await self.client.delete_each(PODS, wanted, owner["metadata"]["namespace"])
        except (ApiError, ConnectionError, TimeoutError) as error:
            return self._delete_failed(owner, error)
        for pod, is_done in zip(pods, done, strict=True):
            if is_done:
                self._is_deleted(key, owner, pod)
        each = [self._delete_one(key, owner, p) for p, is_done in zip(pods, done, strict=True) if not is_done]
        for failure in await asyncio.gather(*each, return_exceptions=True):
            if isinstance(failure, Exception):
                return self._delete_failed(owner, failure)
            if failure is not None:
                raise failure
        return None

    async def _delete_one(self, key: str, owner: Object, pod: Pod) -> None:
        try:
            meta = pod.metadata
            await self.client.delete(PODS, meta.name, meta.namespace, uid=meta.uid, answer=False)
        except ApiError as e:
            if e.code != 404:
                raise  # 409, too: others wrote it all the time (of a namesake with another uid, the cache will tell)
        self._is_deleted(key, owner, pod)

    def _is_deleted(self, key: str, owner: Object, pod: Pod) -> None:
        self._deleted.setdefault(key, {})[pod.key] = pod.metadata.uid
        self.events.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {pod.metadata.name}")

    def _delete_failed(self, owner: Object, error: Exception) -> tuple[str, str, Exception]:
        self.events.event(owner, "Warning", "FailedDelete", f"Error deleting: {error}")
        return "FailedDelete", str(error), error


class ReplicationControllerController(ReplicaSetController):
    """The same machine for v1 ReplicationController, whose selector is a plain map."""

    name: ClassVar[str] = "replicationcontroller"
    resource: ClassVar[Resource] = REPLICATIONCONTROLLERS
    tells_terminating: ClassVar[bool] = False
    source: ClassVar[str] = "replication-controller"

    def selector(self, owner: Object) -> LabelSelector:
        return from_map(owner["spec"].get("selector"))
