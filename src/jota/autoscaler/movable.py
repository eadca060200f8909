"""Which pods of a node would have to move, and what forbids it. Pure. Rules and reasons as upstream's drainability rules.

In: a node's pods, options, budgets, volumes. Out: a Verdict. Next: scaledown.py tries whether they fit elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jota.autoscaler.settings import Options
from jota.autoscaler.world import HOSTNAME, Node, Pod
from jota.meta.selectors import LabelSelector
from jota.scheduler.preemption import Budget
from jota.scheduler.storage import Volume

SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
SAFE_LOCAL_VOLUMES = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
SCALE_DOWN_DISABLED = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
_CONTROLLERS = ("ReplicaSet", "ReplicationController", "StatefulSet", "Job", "DaemonSet")
"""Who makes a pod anew; custom controllers are not believed to (upstream: skip-nodes-with-custom-controller-pods)."""


@dataclass(slots=True)
class Verdict:
    move: list[Pod] = field(default_factory=list)
    """Pods that must find another place."""
    leaving: list[Pod] = field(default_factory=list)
    """Pods that are going already, or are not worth a place elsewhere."""
    reason: str = ""
    """Why the node must stay: one of upstream's words, then the object meant; "" when nothing is in the way."""


@dataclass(slots=True, frozen=True)
class Keepers:
    """What speaks for pods and nodes, looked up once per pass."""

    budgets: dict[str, list[tuple[Budget, LabelSelector]]]
    """Namespace -> its disruption budgets."""
    pinned: dict[str, str]
    """Host name -> a PersistentVolume that can be reached there alone."""

    @staticmethod
    def of(budgets: Iterable[Budget], volumes: Iterable[Volume]) -> Keepers:
        by_namespace: dict[str, list[tuple[Budget, LabelSelector]]] = {}
        for budget in budgets:
            by_namespace.setdefault(budget.metadata.namespace, []).append((budget, budget.selector))
        return Keepers(by_namespace, {host: v.metadata.name for v in volumes if (host := only_host(v))})

    def covering(self, pod: Pod) -> list[Budget]:
        """The budgets that a pod belongs to."""
        found = self.budgets.get(pod.metadata.namespace, ())
        return [budget for budget, selector in found if selector.matches(pod.metadata.labels)]


def judge(node: Node, pods: Sequence[Pod], options: Options, keepers: Keepers, *, ask_budgets: bool = True) -> Verdict:
    """`ask_budgets` False: the drain has begun, and the eviction API itself asks the budgets."""
    verdict = Verdict()
    if (node.metadata.annotations or {}).get(SCALE_DOWN_DISABLED) == "true":
        verdict.reason = "ScaleDownDisabledAnnotation"
        return verdict
    host = (node.metadata.labels or {}).get(HOSTNAME, node.name)
    if host in keepers.pinned:  # used at the moment or not: with the node its data would go
        verdict.reason = f"LocalVolume {keepers.pinned[host]}"
        return verdict
    for pod in pods:
        if pod.stays or pod.finished:
            continue
        if pod.terminating or pod.spec.priority < options.expendablePodsPriorityCutoff:
            verdict.leaving.append(pod)
            continue
        reason = blocks(pod, options, bool(keepers.covering(pod)))
        if reason:
            verdict.reason = f"{reason} {pod.key}"
            return verdict
        verdict.move.append(pod)
    if ask_budgets:
        verdict.reason = _budgets_lack(verdict.move, keepers)
    return verdict


def blocks(pod: Pod, options: Options, guarded: bool) -> str:
    """Why this pod may not be moved; `guarded`: a disruption budget speaks for it."""
    notes = pod.metadata.annotations or {}
    safe = notes.get(SAFE_TO_EVICT)
    if safe == "true":
        return ""
    if safe == "false":
        return "NotSafeToEvictAnnotation"
    if pod.owner is None or pod.owner.kind not in _CONTROLLERS:
        return "NotReplicated"
    if options.skipNodesWithSystemPods and pod.metadata.namespace == "kube-system" and not guarded:
        return "UnmovableKubeSystemPod"
    if options.skipNodesWithLocalStorage and _local_storage(pod):
        return "LocalStorageRequested"
    return ""


def _local_storage(pod: Pod) -> bool:
    """emptyDir on disk and hostPath, but those that the pod's annotation calls safe."""
    safe = {n.strip() for n in ((pod.metadata.annotations or {}).get(SAFE_LOCAL_VOLUMES) or "").split(",")}
    return any(
        (v.hostPath is not None or (v.emptyDir is not None and v.emptyDir.get("medium") != "Memory"))
        and v.name not in safe
        for v in pod.spec.volumes or ()
    )


def only_host(volume: Volume) -> str:
    """The one host on which a volume can be reached; "" when there are others."""
    required = (volume.spec.nodeAffinity or {}).get("required") or {}
    hosts = {_host(term) for term in required.get("nodeSelectorTerms") or ()}
    return hosts.pop() if len(hosts) == 1 else ""


def _host(term: dict[str, Any]) -> str:
    for one in term.get("matchExpressions") or ():
        values: list[str] = list(one.get("values") or ())
        if one.get("key") == HOSTNAME and one.get("operator") == "In" and len(values) == 1:
            return str(values[0])
    return ""


def _budgets_lack(pods: Sequence[Pod], keepers: Keepers) -> str:
    """A budget that lets nobody go now, or a pod under two of them, which cannot be evicted at all.

    More pods than a budget lets go at once are no hindrance: they are evicted one after another.
    """
    for pod in pods:
        covering = keepers.covering(pod)
        if len(covering) > 1:
            return f"UnmovablePodWithTwoPdbs {pod.key}"
        if covering and covering[0].status.disruptionsAllowed < 1:
            return f"NotEnoughPdb {covering[0].metadata.namespace}/{covering[0].metadata.name}"
    return ""
