"""Node health: nodes that fall silent become Unknown, get taints, and their pods stop being ready.

In: nodes and their Leases. Out: conditions, taints, and Ready=False on pods; tainteviction.py then evicts. Heartbeats are
compared with themselves: what counts is when this process last saw one change, so a wrong clock on a node harms nobody.
A renewed Lease is noted and nothing more; a healthy node is looked at when it could have fallen silent at the earliest. How
fast the taints that evict are given out is the zones' business (zones.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from jota.aio.clock import parse_rfc3339, rfc3339
from jota.client.informer import split_key
from jota.controllers import conditions
from jota.controllers.controller import Context, Controller, ControllerConfig, own
from jota.controllers.views import Lease, Pod, index_by_node
from jota.controllers.zones import Zones, zone_of
from jota.meta.errors import ApiError
from jota.meta.resource import LEASES, NODES, PODS

Object = dict[str, Any]

LEASE_NAMESPACE = "kube-node-lease"
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
MOMENT = 0.05
"""Seconds; looks that wait for a deadline come this much after it."""
WATCHED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_PRESSURE = {
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
}
_OURS = {NOT_READY, UNREACHABLE, "node.kubernetes.io/unschedulable", *_PRESSURE.values()}


@dataclass(slots=True, frozen=True)
class Heartbeat:
    """What a node last said, and when we saw that (monotonic seconds)."""

    said: tuple[str, str]
    seen: float


@dataclass(slots=True, frozen=True)
class Plan:
    """None: leave as it is."""

    conditions: list[Object] | None
    taints: list[Object] | None
    pods_not_ready: bool


def heard(node: Object, lease: Lease | None, last: Heartbeat | None, monotonic: float) -> Heartbeat:
    """The heartbeat after looking: the same one unless the Lease or the Ready condition's own heartbeat moved."""
    ready = conditions.find((node.get("status") or {}).get("conditions"), "Ready") or {}
    renewed = lease.spec.renewTime if lease is not None and lease.spec is not None else ""
    said = (renewed or "", ready.get("lastHeartbeatTime") or "")
    return last if last is not None and last.said == said else Heartbeat(said, monotonic)


def plan(node: Object, silent: float, config: ControllerConfig, evict: bool, now: float) -> Plan:
    """`silent`: seconds since the last heartbeat. `evict`: NoExecute taints are allowed (see zones.py)."""
    conds = (node.get("status") or {}).get("conditions") or []
    ready = conditions.find(conds, "Ready")
    grace = config.node_monitor_grace if ready is not None else config.node_startup_grace
    wanted = _silenced(conds, now) if silent > grace else conds
    state = (conditions.find(wanted, "Ready") or {}).get("status", "")
    taints = taints_of(node, wanted, state, evict, now)
    return Plan(
        wanted if wanted != conds else None,
        taints if taints != taints_on(node) else None,
        state in ("False", "Unknown"),
    )


def _silenced(conds: list[Object], now: float) -> list[Object]:
    """All watched conditions become Unknown; when they last were heard stays as it was."""
    out = list(conds)
    for type_ in WATCHED:
        old = conditions.find(out, type_)
        if old is not None and old["status"] == "Unknown":
            continue
        reason, text = "NodeStatusUnknown", "Kubelet stopped posting node status."
        if old is None:
            reason, text = "NodeStatusNeverUpdated", "Kubelet never posted node status."
        new = {**(old or {"type": type_}), "status": "Unknown", "reason": reason, "message": text}
        new["lastTransitionTime"] = rfc3339(now)
        out = [new if c is old else c for c in out] if old is not None else [*out, new]
    return out


def created(node: Object) -> float:
    stamp = node["metadata"].get("creationTimestamp")
    return parse_rfc3339(stamp) if stamp else 0.0


def ready_state(node: Object) -> str:
    """Status of the Ready condition; "" when the node has none."""
    ready = conditions.find((node.get("status") or {}).get("conditions"), "Ready")
    return str(ready["status"]) if ready is not None else ""


def taints_on(node: Object) -> list[Object]:
    taints: list[Object] = (node.get("spec") or {}).get("taints") or []
    return taints


def taints_of(node: Object, conds: list[Object], ready: str, evict: bool, now: float) -> list[Object]:
    """The node's taints as its conditions want them; taints of others stay where they are."""
    wanted = {(name, "NoSchedule") for c in conds if (name := _PRESSURE.get((c["type"], c["status"])))}
    if (node.get("spec") or {}).get("unschedulable"):
        wanted.add(("node.kubernetes.io/unschedulable", "NoSchedule"))
    if ready in ("False", "Unknown"):  # a node that is new and has said nothing yet is not judged
        name = NOT_READY if ready == "False" else UNREACHABLE
        wanted.add((name, "NoSchedule"))
        if evict:
            wanted.add((name, "NoExecute"))
    have = taints_on(node)
    if not ready:  # admission gave it this taint until it speaks
        wanted |= {(NOT_READY, "NoSchedule")} & {(t["key"], t["effect"]) for t in have}
    kept = [t for t in have if t["key"] not in _OURS or (t["key"], t["effect"]) in wanted]
    missing = wanted - {(t["key"], t["effect"]) for t in kept}
    stamp = rfc3339(now)
    return [*kept, *({"key": k, "effect": e, "timeAdded": stamp} for k, e in sorted(missing))]


class NodeLifecycleController(Controller):
    name: ClassVar[str] = "node-lifecycle"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.zones = Zones(self.config.node_eviction_rate, self.config.secondary_node_eviction_rate)
        self.nodes = self.watch(NODES, own)
        self.nodes.add_handler(self._count)
        self.leases = self.watch(LEASES, type=Lease)
        self.leases.add_handler(self._renewed)
        self.pods = self.watch(PODS, type=Pod)
        index_by_node(self.pods)
        self.events = context.recorder("node-controller")
        self._heartbeats: dict[str, Heartbeat] = {}

    async def reconcile(self, key: str) -> float | None:
        node = self.nodes.get(key)
        if node is None:
            self._heartbeats.pop(key, None)
            return None
        lease = self.leases.get(f"{LEASE_NAMESPACE}/{key}")
        now = self.clock.monotonic()
        if key not in self._heartbeats and self.clock.now() - created(node) < self.config.node_startup_grace:
            self._tell(node, "RegisteredNode", f"Registered Node {key} in Controller")
        self._heartbeats[key] = heard(node, lease, self._heartbeats.get(key), now)
        silent = now - self._heartbeats[key].seen
        self._judge(node, silent)
        wait = self._may_evict(key, node, now)
        decided = plan(node, silent, self.config, wait == 0, self.clock.now())
        if decided.conditions is not None:
            node = await self._silence(key, node, decided.conditions)
        if decided.taints is not None:
            meta = {"uid": node["metadata"]["uid"], "resourceVersion": node["metadata"]["resourceVersion"]}
            patch = {"metadata": meta, "spec": {"taints": decided.taints or None}}
            self.wrote(key, self.nodes, await self.client.patch(NODES, key, "", patch))
        if decided.pods_not_ready:
            await self._unready(key)
            return max(MOMENT, min(wait, self.config.node_monitor_period)) if wait else self.config.node_monitor_period
        return max(self.config.node_monitor_period, self._grace(node) - silent + MOMENT)

    # -- who is healthy

    def _renewed(self, _old: Lease | None, new: Lease | None) -> None:
        """Note a heartbeat: all that most Leases ever mean."""
        if new is None or new.metadata.namespace != LEASE_NAMESPACE or new.spec is None:
            return
        beat = self._heartbeats.get(new.metadata.name)
        renewed = new.spec.renewTime or ""
        if beat is not None and beat.said[0] != renewed:
            self._heartbeats[new.metadata.name] = Heartbeat((renewed, beat.said[1]), self.clock.monotonic())

    def _count(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._put(new, ready_state(new) in ("True", ""))
        elif old is not None:
            name = old["metadata"]["name"]
            self.zones.drop(name)
            self._tell(old, "RemovingNode", f"Removing Node {name} from Controller")

    def _tell(self, node: Object, reason: str, text: str) -> None:
        self.events.event(node, "Normal", reason, f"Node {node['metadata']['name']} event: {text}")

    def _judge(self, node: Object, silent: float) -> None:
        """A silent node counts as unhealthy before its condition says so."""
        self._put(node, ready_state(node) in ("True", "") and silent <= self._grace(node))

    def _put(self, node: Object, healthy: bool) -> None:
        meta = node["metadata"]
        self.zones.put(meta["name"], zone_of(meta.get("labels")), healthy, self.clock.monotonic())

    def _grace(self, node: Object) -> float:
        return self.config.node_monitor_grace if ready_state(node) else self.config.node_startup_grace

    def _may_evict(self, key: str, node: Object, now: float) -> float:
        """Seconds until the node may have a NoExecute taint; 0 also when it has one and not every node is silent."""
        if self.zones.healthy(key):
            return 0.0
        if any(t["key"] in (NOT_READY, UNREACHABLE) and t["effect"] == "NoExecute" for t in taints_on(node)):
            return math.inf if self.zones.all_silent() else 0.0
        return self.zones.ask(key, now)

    async def _silence(self, key: str, node: Object, conds: list[Object]) -> Object:
        status = {**(node.get("status") or {}), "conditions": conds}
        written = await self.client.update(NODES, {**node, "status": status}, "status")
        self.wrote(key, self.nodes, written)
        self.events.event(node, "Normal", "NodeNotReady", f"Node {key} status is now: NodeNotReady")
        return written

    async def _unready(self, node: str) -> None:
        for pod in list(self.pods.by_index("node", node)):
            if pod.ready and not pod.finished:
                await self._unready_pod(pod)

    async def _unready_pod(self, pod: Pod) -> None:
        namespace, name = split_key(pod.key)
        try:
            current = await self.client.get(PODS, name, namespace)
            conds = (current.get("status") or {}).get("conditions") or []
            ready = conditions.find(conds, "Ready")
            if current["metadata"]["uid"] != pod.metadata.uid or ready is None or ready["status"] != "True":
                return
            changed = {**ready, "status": "False", "lastTransitionTime": rfc3339(self.clock.now())}
            status = {**current["status"], "conditions": [changed if c is ready else c for c in conds]}
            await self.client.update(PODS, {**current, "status": status}, "status")
        except ApiError as e:
            if e.code != 404:
                raise
            return
        self.events.event(pod.reference(), "Warning", "NodeNotReady", "Node is not ready")
