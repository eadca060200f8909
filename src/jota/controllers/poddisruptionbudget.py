"""PodDisruptionBudget: how many pods may be disrupted now. In: budgets, pods, the sets above the pods. Out: the status.

`plan` counts. An eviction writes the pod into status.disruptedPods before it is deleted (api/subresources/eviction.py);
here such a pod stops counting as healthy until it is seen terminating, or two minutes have passed. Pods that are alike are
counted together: ten thousand of a set are some tens of groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from jota.aio.clock import parse_rfc3339
from jota.client.indexes import Alike
from jota.client.informer import key_of
from jota.client.pods import CONDITIONS, DELETION, FINISHED, LABELS, OWNERS
from jota.controllers import conditions
from jota.controllers.controller import Context, Controller, controller_of, own
from jota.controllers.replicaset import REPLICATIONCONTROLLERS, REST_PER_POD
from jota.controllers.revisions import share
from jota.controllers.scales import Scales, selector_text
from jota.controllers.statefulset_pods import STATEFULSETS
from jota.controllers.views import ByLabels, OwnerReference, Pod, alike, index_by_kind
from jota.meta.errors import ApiError
from jota.meta.resource import DEPLOYMENTS, PODS, REPLICASETS, Resource
from jota.meta.selectors import LabelSelector, from_object

Object = dict[str, Any]

BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
SCALE_PERIOD = 30.0
"""Seconds after which the sizes of sets that are not watched are asked for again."""
UNMANAGED = (
    "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of the PDB "
    "cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set "
    '".spec.minAvailable" field of the PDB to an integer value.'
)
DELETION_TIMEOUT = 120.0
"""Seconds after which an evicted pod that still lives counts again."""


@dataclass(slots=True, frozen=True)
class Expected:
    """How many pods there should be. `problem`: why that cannot be known."""

    count: int = 0
    problem: str = ""
    unmanaged: bool = False
    """Some pods belong to nothing, and so are not counted."""
    asked: bool = False
    """The size of a set came from its /scale: nobody tells when it changes."""


def plan(
    budget: Object,
    groups: Collection[Alike[Pod]],
    pod_named: Callable[[str], Pod | None],
    expected: Expected,
    now: float,
) -> tuple[Object, float | None]:
    """(the status, seconds until an entry of disruptedPods runs out). `groups` are of the pods that are selected, and `pod_named`
    gives those."""
    old = budget.get("status") or {}
    disrupted, again = _disrupted(old.get("disruptedPods") or {}, pod_named, now)
    if expected.problem:
        found = conditions.put(
            old.get("conditions") or [], "DisruptionAllowed", "False", "SyncFailed", expected.problem, now
        )
        counts = {k: old.get(k, 0) for k in ("currentHealthy", "desiredHealthy", "expectedPods")}
        return _status(budget, {**counts, "disruptionsAllowed": 0}, disrupted, found), again
    count, desired = _desired(budget["spec"], sum(map(len, groups)), expected.count)
    healthy = sum(len(group) for group in groups if group.first.ready and not group.first.terminating)
    healthy -= sum((pod := pod_named(name)) is not None and pod.ready for name in disrupted)
    allowed = max(0, healthy - desired) if count > 0 else 0
    verdict = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    found = conditions.put(old.get("conditions") or [], "DisruptionAllowed", *verdict, "", now)
    found = [{**c, "observedGeneration": budget["metadata"].get("generation", 0)} for c in found]
    counts = {"currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": count}
    return _status(budget, {**counts, "disruptionsAllowed": allowed}, disrupted, found), again


def scale_matters(budget: Object) -> bool:
    """The numbers are relative to what the pods' sets want, not only to the pods that there are."""
    minimum = budget["spec"].get("minAvailable")
    return budget["spec"].get("maxUnavailable") is not None or isinstance(minimum, str)


def _desired(spec: Object, present: int, wanted: int) -> tuple[int, int]:
    """(expected pods, healthy ones needed)."""
    if (most := spec.get("maxUnavailable")) is not None:
        return wanted, max(0, wanted - math.ceil(share(most, wanted)))
    least = spec.get("minAvailable")
    if isinstance(least, str):
        return wanted, math.ceil(share(least, wanted))
    return present, least or 0


def _disrupted(
    entries: dict[str, str], pod_named: Callable[[str], Pod | None], now: float
) -> tuple[dict[str, str], float | None]:
    """Evictions that are granted and not seen carried out yet."""
    kept, again = {}, None
    for name, since in entries.items():
        left = parse_rfc3339(since) + DELETION_TIMEOUT - now
        pod = pod_named(name)
        if pod is not None and not pod.terminating and left > 0:
            kept[name] = since
            again = left if again is None else min(again, left)
    return kept, again


def overdue(budget: Object, pod_named: Callable[[str], Pod | None], now: float) -> list[Pod]:
    """Those whose eviction was granted, and that still are there as if nothing were."""
    entries = (budget.get("status") or {}).get("disruptedPods") or {}
    late = [pod_named(name) for name, since in entries.items() if parse_rfc3339(since) + DELETION_TIMEOUT <= now]
    return [pod for pod in late if pod is not None and not pod.terminating]


_LOOKED_AT = LABELS | OWNERS | DELETION | FINISHED | CONDITIONS
"""What of a pod counts for a budget (client/pods.py)."""


def _status(budget: Object, counts: Object, disrupted: dict[str, str], found: list[Object]) -> Object:
    status = {**counts, "observedGeneration": budget["metadata"].get("generation", 0), "conditions": found}
    return status | ({"disruptedPods": disrupted} if disrupted else {})


class PodDisruptionBudgetController(Controller):
    name: ClassVar[str] = "disruption"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.budgets_of = ByLabels(self._selecting)
        self.budgets = self.watch(BUDGETS, own)
        self.pods = self.watch(PODS, self.budgets_of, on=_LOOKED_AT, of=self.budgets_of, alike=alike, type=Pod)
        self.budgets.add_handler(self._reselected)
        # A set that is scaled changes what its budgets expect.
        self.above = {
            r.kind: self.watch(r, self._keys_of_namespace, when=_rescaled)
            for r in (REPLICASETS, DEPLOYMENTS, STATEFULSETS, REPLICATIONCONTROLLERS)
        }
        self.events = context.recorder("controllermanager")
        self._scales = Scales(self.client)

    def _selecting(self, namespace: str, labels: dict[str, str]) -> list[str]:
        return [
            own(b)[0] for b in self.budgets.list(namespace) if from_object(b["spec"].get("selector")).matches(labels)
        ]

    def _reselected(self, old: Object | None, new: Object | None) -> None:
        """Statuses, which are most of what changes, select nothing."""
        if old is None or new is None or old["spec"] != new["spec"]:
            self.budgets_of.forget()
            self.pods.reconsider()

    def _keys_of_namespace(self, obj: Object) -> Iterable[str]:
        return [own(b)[0] for b in self.budgets.list(obj["metadata"]["namespace"]) if scale_matters(b)]

    async def reconcile(self, key: str) -> float | None:
        budget = self.budgets.get(key)
        if budget is None:
            return None
        namespace, selector = budget["metadata"]["namespace"], from_object(budget["spec"].get("selector"))
        groups = self._groups(namespace, selector)
        expected = Expected()
        if scale_matters(budget):
            expected = await self._expected(groups)
            groups = self._groups(namespace, selector)  # as they are now: the cache goes on while we wait
        if not groups:
            self.events.event(budget, "Normal", "NoPods", "No matching pods found")

        def pod_named(name: str) -> Pod | None:
            pod = self.pods.get(key_of(namespace, name))
            return pod if pod is not None and selector.matches(pod.metadata.labels) else None

        for pod in overdue(budget, pod_named, self.clock.now()):
            text = f"Pod was expected by PDB {key} to be deleted but it wasn't"
            self.events.event(pod.reference(), "Warning", "NotDeleted", text)
        status, again = plan(budget, groups, pod_named, expected, self.clock.now())
        if status != budget.get("status"):
            if expected.problem:
                self.events.event(budget, "Warning", "CalculateExpectedPodCountFailed", expected.problem)
            elif expected.unmanaged:
                text = UNMANAGED.format(selector_text(budget["spec"].get("selector") or {}))
                self.events.event(budget, "Warning", "UnmanagedPods", text)
            # The version is checked: an eviction that was granted meanwhile must not be forgotten.
            self.wrote(key, self.budgets, await self.client.update(BUDGETS, {**budget, "status": status}, "status"))
        return again if not expected.asked else min(SCALE_PERIOD, again or SCALE_PERIOD)

    def gathering(self, key: str, took: float) -> float:
        budget = self.budgets.get(key)
        return REST_PER_POD * (budget.get("status") or {}).get("currentHealthy", 0) if budget is not None else 0.0

    def _groups(self, namespace: str, selector: LabelSelector) -> list[Alike[Pod]]:
        index_by_kind(self.pods)
        return [g for g in self.pods.groups("kind", namespace) if selector.matches(g.first.metadata.labels)]

    async def _expected(self, groups: Iterable[Alike[Pod]]) -> Expected:
        """The sum of what the pods' sets want; pods without one do not count."""
        seen: set[str] = set()
        sizes: dict[str, int] = {}
        unmanaged = asked = False
        for pod in (group.first for group in groups):
            owner = pod.metadata.controller
            if owner is None:
                unmanaged = True
                continue
            if owner.uid in seen:
                continue
            seen.add(owner.uid)
            if owner.kind in self.above:
                found = self._top(owner.kind, pod.metadata.namespace, owner.name, owner.uid)
            else:
                found, asked = await self._scale(owner, pod.metadata.namespace), True
            if found is None:
                return Expected(problem=f'found no controllers for pod "{pod.metadata.name}"', asked=asked)
            sizes[found["metadata"]["uid"]] = int(found["spec"].get("replicas", 1))
        return Expected(sum(sizes.values()), unmanaged=unmanaged, asked=asked)

    async def _scale(self, owner: OwnerReference, namespace: str) -> Object | None:
        """The scale of an owner of any other kind; None when it has none."""
        try:
            resource = await self._scales.resource(owner.apiVersion, owner.kind)
            scale = await self._scales.get(resource, namespace, owner.name)
        except ApiError as e:
            if e.code == 404:
                return None
            raise
        return scale if scale["metadata"].get("uid") in (None, "", owner.uid) else None

    def _top(self, kind: str, namespace: str, name: str, uid: str) -> Object | None:
        """The set that owns a pod, or the deployment above a replica set."""
        informer = self.above.get(kind)
        found = informer.get(key_of(namespace, name)) if informer is not None else None
        if found is None or found["metadata"]["uid"] != uid:
            return None
        owner = controller_of(found) if kind == REPLICASETS.kind else None
        if owner is not None and owner["kind"] == DEPLOYMENTS.kind:
            return self._top(owner["kind"], namespace, owner["name"], owner["uid"])
        return found  # type: ignore[no-any-return]


def _rescaled(old: Object | None, new: Object | None) -> bool:
    if old is None or new is None:
        return True
    return bool(old["spec"].get("replicas") != new["spec"].get("replicas"))
