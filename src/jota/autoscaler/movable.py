"""Which pods of a node would have to move, and what forbids it. Pure. Rules and reasons as upstream's drainability rules.

In: a node's pods, options, budgets, volumes. Out: a Verdict. Next: scaledown.py tries whether they fit elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from jota.autoscaler.settings import Options
from jota.autoscaler.world import HOSTNAME, Node, Pod
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


def judge(
    node: Node,
    pods: Sequence[Pod],
    options: Options,
    budgets: Sequence[Budget],
    volumes: Iterable[Volume],
    *,
    ask_budgets: bool = True,
) -> Verdict:
    """`ask_budgets` False: the drain has begun, and the eviction API itself asks the budgets."""
    verdict = Verdict()
    if (node.metadata.annotations or {}).get(SCALE_DOWN_DISABLED) == "true":
        verdict.reason = "ScaleDownDisabledAnnotation"
        return verdict
    if (kept := holds_volume(node, volumes)) is not None:
        verdict.reason = f"LocalVolume {kept}"
        return verdict
    for pod in pods:
        if pod.stays or pod.over:
            continue
        if pod.terminating or pod.spec.priority < options.expendablePodsPriorityCutoff:
            verdict.leaving.append(pod)
            continue
        reason = blocks(pod, options, _guarded(pod, budgets))
        if reason:
            verdict.reason = f"{reason} {pod.key}"
            return verdict
        verdict.move.append(pod)
    if ask_budgets:
        verdict.reason = _budgets_lack(verdict.move, budgets)
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


def holds_volume(node: Node, volumes: Iterable[Volume]) -> str | None:
    """A PersistentVolume that can be reached on this node alone: with the node its data would go, used at the moment or not."""
    host = (node.metadata.labels or {}).get(HOSTNAME, node.name)
    for volume in volumes:
        required = (volume.spec.nodeAffinity or {}).get("required") or {}
        terms = required.get("nodeSelectorTerms") or ()
        if terms and all(_only(term, host) for term in terms):
            return volume.metadata.name
    return None


def _only(term: dict[str, object], host: str) -> bool:
    expressions = term.get("matchExpressions") or ()
    assert isinstance(expressions, list | tuple)
    return any(
        e.get("key") == HOSTNAME and e.get("operator") == "In" and e.get("values") == [host] for e in expressions
    )


def _guarded(pod: Pod, budgets: Sequence[Budget]) -> bool:
    return any(_covers(b, pod) for b in budgets)


def _covers(budget: Budget, pod: Pod) -> bool:
    return budget.metadata.namespace == pod.metadata.namespace and budget.selector.matches(pod.metadata.labels)


def _budgets_lack(pods: Sequence[Pod], budgets: Sequence[Budget]) -> str:
    """A budget that lets nobody go now, or a pod under two of them, which cannot be evicted at all.

    More pods than a budget lets go at once are no hindrance: they are evicted one after another.
    """
    for pod in pods:
        covering = [b for b in budgets if _covers(b, pod)]
        if len(covering) > 1:
            return f"UnmovablePodWithTwoPdbs {pod.key}"
        if covering and covering[0].status.disruptionsAllowed < 1:
            return f"NotEnoughPdb {covering[0].metadata.namespace}/{covering[0].metadata.name}"
    return ""
