"""Eviction by NoExecute taints. In: tainted nodes and their pods. Out: deletes, after the time that a pod tolerates.

Deadlines come from the taints' timeAdded and from when the pod came to the node, whichever is later, so a restart of this
process neither hastens nor delays an eviction, and whoever comes to a node that was tainted long ago has all the time it
tolerates (its successors come there, too, for as long: the scheduler lets them).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from jota.aio.clock import parse_rfc3339, rfc3339
from jota.client.informer import split_key
from jota.client.pods import PLACED, TEMPLATE
from jota.controllers.controller import Context, Controller
from jota.controllers.disruption import mark
from jota.controllers.views import Pod, Toleration, index_by_node, pod_key
from jota.meta.errors import ApiError
from jota.meta.resource import NODES, PODS

Object = dict[str, Any]


def plan(pod: Pod, taints: list[Object], now: float) -> float | None:
    """When the pod must go (epoch seconds, may be past), or None: it may stay."""
    deadline: float | None = None
    for taint in taints:
        if taint.get("effect") != "NoExecute":
            continue
        since = max(parse_rfc3339(taint["timeAdded"]) if taint.get("timeAdded") else now, arrived(pod))
        # Of those that match the first one counts (upstream's GetMatchingTolerations).
        first = next((t for t in pod.spec.tolerations or () if tolerates(t, taint)), None)
        allowed = tolerated_for([first] if first is not None else [], taint)
        if allowed is not None:
            until = since + allowed
            deadline = until if deadline is None else min(deadline, until)
    return deadline


def arrived(pod: Pod) -> float:
    """When it came to its node."""
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "True" and condition.lastTransitionTime:
            return parse_rfc3339(condition.lastTransitionTime)
    return pod.created


def tolerated_for(tolerations: list[Toleration], taint: Object) -> float | None:
    """Seconds that the taint is tolerated: 0 not at all, None for ever. The shortest of all matching ones counts."""
    matching = [t for t in tolerations if tolerates(t, taint)]
    if not matching:
        return 0.0
    limits = [max(0, t.tolerationSeconds) for t in matching if t.tolerationSeconds is not None]
    return float(min(limits)) if limits else None


def tolerates(toleration: Toleration, taint: Object) -> bool:
    if toleration.effect and toleration.effect != taint.get("effect"):
        return False
    if toleration.key and toleration.key != taint["key"]:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and (toleration.value or "") == (taint.get("value") or "")


class TaintEvictionController(Controller):
    name: ClassVar[str] = "taint-eviction"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._evicting: set[str] = set()
        """Nodes with taints that evict: few, and mostly none."""
        self.pods = self.watch(PODS, pod_key, when=self._threatened, on=PLACED | TEMPLATE, type=Pod)
        index_by_node(self.pods)
        self.nodes = self.watch(NODES, self._pods_of, when=lambda old, new: _executing(old) != _executing(new))
        self.nodes.add_handler(self._note_taints)
        self.events = context.recorder("taint-eviction-controller")
        self._first_seen: dict[tuple[str, str, str], float] = {}
        """(node, key, value) of taints that say no time -> when we first saw them; until they are gone."""
        self._waiting: set[str] = set()
        """Keys of the pods whose time runs."""

    def _threatened(self, old: Pod | None, new: Pod | None) -> bool:
        """The pod reached a node with taints that evict, or changed what it tolerates there. Of taints that come later the node's
        own event tells."""
        return new is not None and new.spec.nodeName in self._evicting and _placed(old, new)

    def _note_taints(self, old: Object | None, new: Object | None) -> None:
        node = new or old
        assert node is not None
        name = node["metadata"]["name"]
        (self._evicting.add if _executing(new) else self._evicting.discard)(name)
        for gone in {_identity(name, t) for t in _executing(old)} - {_identity(name, t) for t in _executing(new)}:
            self._first_seen.pop(gone, None)

    def _pods_of(self, node: Object) -> Iterable[str]:
        return [p.key for p in self.pods.by_index("node", node["metadata"]["name"])]

    async def reconcile(self, key: str) -> float | None:
        pod = self.pods.get(key)
        if pod is None or pod.terminating or not pod.spec.nodeName:
            self._waiting.discard(key)
            return None
        node = self.nodes.get(pod.spec.nodeName)
        deadline = plan(pod, self._dated(node), self.clock.now())
        if deadline is None:
            if key in self._waiting:
                self._waiting.discard(key)
                text = f"Cancelling deletion of Pod {pod.key}"
                self.events.event(pod.reference(), "Normal", "TaintManagerEviction", text)
            return None
        left = deadline - self.clock.now()
        if left > 0:
            self._waiting.add(key)
            return left
        self._waiting.discard(key)
        await self._evict(pod)
        return None

    def _dated(self, node: Object | None) -> list[Object]:
        """The node's NoExecute taints; those that somebody set without a time count from when we first saw them."""
        taints = _executing(node)
        out = []
        for taint in taints:
            if not taint.get("timeAdded") and node is not None:
                seen = self._first_seen.setdefault(_identity(node["metadata"]["name"], taint), self.clock.now())
                taint = {**taint, "timeAdded": rfc3339(seen)}
            out.append(taint)
        return out

    async def _evict(self, pod: Pod) -> None:
        namespace, name = split_key(pod.key)
        self.events.event(pod.reference(), "Normal", "TaintManagerEviction", f"Marking for deletion Pod {pod.key}")
        text = "Taint manager: deleting due to NoExecute taint"
        try:
            await mark(self.client, pod, "DeletionByTaintManager", text, self.clock.now())
            await self.client.delete(PODS, name, namespace, uid=pod.metadata.uid)
        except ApiError as e:
            if e.code != 404:
                raise


def _placed(old: Pod | None, new: Pod | None) -> bool:
    """The pod reached a node, or changed what it tolerates."""
    if new is None or not new.spec.nodeName:
        return False
    return old is None or old.spec.nodeName != new.spec.nodeName or old.spec.tolerations != new.spec.tolerations


def _identity(node: str, taint: Object) -> tuple[str, str, str]:
    return node, taint["key"], taint.get("value") or ""


def _executing(node: Object | None) -> list[Object]:
    taints = (node.get("spec") or {}).get("taints") if node is not None else None
    return [t for t in taints if t.get("effect") == "NoExecute"] if taints else []
