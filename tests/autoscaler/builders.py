"""Nodes, pods, groups and budgets of a few words, and a small model of a cluster that does what plans ask for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from jota.aio.clock import rfc3339
from jota.autoscaler.actions import Action, Adopt, Create, Evict, Forget, Mark, Memory, Plan, Remove, Unmark
from jota.autoscaler.plan import plan
from jota.autoscaler.provider import Machine, Template
from jota.autoscaler.settings import GroupSettings, Options
from jota.autoscaler.world import CORDONED, GROUP, HOSTNAME, TO_BE_DELETED, GroupView, Node, Observed, Pod
from jota.scheduler.preemption import Budget
from jota.scheduler.storage import Volume

START = 1_000_000.0
OPTIONS = Options(scaleDownUnneededTime=60, scaleDownDelayAfterAdd=0, scaleDownDelayAfterFailure=0)


def node(
    name: str, group: str = "g", cpu: str = "4", *, ready: bool = True, marked: int | None = None, **more: Any
) -> Node:
    taints = list(more.get("taints", ()))
    notes = dict(more.get("notes", {}))
    if marked is not None:
        taints.append({"key": TO_BE_DELETED, "value": str(marked), "effect": "NoSchedule"})
        notes[CORDONED] = "cluster-autoscaler"
    born = rfc3339(more.get("born", START - 10_000))
    return msgspec.convert(
        {
            "metadata": {
                "name": name,
                "uid": f"uid-{name}",
                "labels": {HOSTNAME: name, **({GROUP: group} if group else {}), **more.get("labels", {})},
                "annotations": notes,
                "creationTimestamp": born,
            },
            "spec": {"taints": taints, "unschedulable": marked is not None},
            "status": {
                "allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"},
                "conditions": [
                    {
                        "type": "Ready",
                        "status": "True" if ready else "Unknown",
                        "lastTransitionTime": rfc3339(more["since"]) if "since" in more else born,
                    }
                ],
            },
        },
        Node,
    )


def pod(name: str, cpu: str = "1", on: str = "", *, owner: str = "ReplicaSet", **more: Any) -> Pod:
    status: dict[str, Any] = {"phase": "Running" if on else "Pending"}
    if not on:
        status["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    meta = {"name": name, "namespace": more.pop("namespace", "default"), "uid": f"uid-{name}"}
    meta["labels"] = more.pop("labels", {"app": "web"})
    meta["annotations"] = more.pop("notes", {})
    if owner:
        meta["ownerReferences"] = [{"kind": owner, "name": "o", "controller": True}]
    if more.pop("terminating", False):
        meta["deletionTimestamp"] = rfc3339(START)
    status |= more.pop("status", {})
    spec = {"containers": [{"resources": {"requests": {"cpu": cpu}}}], "nodeName": on, **more}
    return msgspec.convert({"metadata": meta, "spec": spec, "status": status}, Pod)


def group(name: str = "g", least: int = 0, most: int = 5, cpu: str = "4", machines: Any = (), **more: Any) -> GroupView:
    settings = GroupSettings(name, "exec", least, most, ("x",))
    made = [m if isinstance(m, Machine) else Machine(m) for m in machines]
    template = Template(
        {"cpu": cpu, "memory": "8Gi", "pods": "110"}, more.get("labels", {}), tuple(more.get("taints", ()))
    )
    return GroupView(settings, made, template, f"{name}-", 0, more.get("fault", ""))


def budget(allowed: int, app: str = "web") -> Budget:
    return msgspec.convert(
        {
            "metadata": {"name": "b", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": app}}},
            "status": {"disruptionsAllowed": allowed},
        },
        Budget,
    )


def volume_on(host: str) -> Volume:
    term = {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [host]}]}
    spec = {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}
    return msgspec.convert({"metadata": {"name": f"pv-{host}"}, "spec": spec}, Volume)


def observed(groups: list[GroupView], nodes: list[Node] = [], pods: list[Pod] = [], **more: Any) -> Observed:  # noqa: B006
    return Observed(more.pop("options", OPTIONS), groups, list(nodes), list(pods), **more)


@dataclass
class Model:
    """A cluster in which plans are carried out at once: machines register after `boot` passes, evicted pods come anew."""

    groups: list[GroupView]
    options: Options = OPTIONS
    boot: int = 1
    now: float = START
    nodes: dict[str, Node] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    machines: dict[str, list[Machine]] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    serial: int = 0
    _booting: dict[str, int] = field(default_factory=dict)

    def observe(self) -> Observed:
        views = [replace(g, machines=list(self.machines.get(g.name, []))) for g in self.groups]
        return observed(views, list(self.nodes.values()), list(self.pods.values()), options=self.options)

    def turn(self, seconds: float = 20.0, only: int | None = None) -> Plan:
        """One pass; `only`: the process dies after so many actions and forgets everything."""
        decided = plan(self.observe(), self.memory, self.now)
        for n, action in enumerate(decided.actions):
            if n == only:
                self.memory = Memory()
                break
            self.do(action)
        self.now += seconds
        self._boot()
        self.schedule()
        return decided

    def do(self, action: Action) -> None:
        match action:
            case Create():
                made = self.machines.setdefault(action.group, [])
                if all(m.name != action.name for m in made):
                    made.append(Machine(action.name, created=self.now))
                    self._booting[action.name] = self.boot
            case Remove():
                self.machines[action.group] = [m for m in self.machines[action.group] if m.name != action.machine]
                if action.node is not None:
                    self._lose(action.node.name)
            case Forget():
                self._lose(action.node.name)
            case Adopt():
                (self.nodes[action.node.name].metadata.labels or {})[GROUP] = action.group
            case Mark():
                was = self.nodes[action.node.name]
                self.nodes[was.name] = node(was.name, action.group, self._cpu(was), marked=int(self.now))
            case Unmark():
                was = self.nodes[action.node.name]
                self.nodes[was.name] = node(was.name, was.group, self._cpu(was))
            case Evict():
                old = self.pods.pop(action.pod.key, None)
                if old is not None:
                    self.add(self._cpu_of(old))

    def add(self, cpu: str, **more: Any) -> str:
        self.serial += 1
        made = pod(f"p{self.serial}", cpu, **more)
        self.pods[made.key] = made
        return made.key

    def schedule(self) -> None:
        """First fit by cpu alone: not the real scheduler's choice, but always a legal one."""
        for key, one in list(self.pods.items()):
            if one.spec.nodeName:
                continue
            for target in self.nodes.values():
                if (
                    target.ready
                    and not target.spec.unschedulable
                    and self.free(target.name) >= float(self._cpu_of(one))
                ):
                    self.pods[key] = pod(one.metadata.name, self._cpu_of(one), on=target.name)
                    break

    def free(self, name: str) -> float:
        used = sum(float(self._cpu_of(p)) for p in self.pods.values() if p.spec.nodeName == name)
        return float(self._cpu(self.nodes[name])) - used

    def pending(self) -> list[str]:
        return [k for k, p in self.pods.items() if not p.spec.nodeName]

    def _boot(self) -> None:
        for view in self.groups:
            for machine in self.machines.get(view.name, []):
                if machine.name in self.nodes:
                    continue
                self._booting[machine.name] = self._booting.get(machine.name, 1) - 1
                if self._booting[machine.name] < 0:
                    cpu = view.template.allocatable["cpu"]
                    self.nodes[machine.name] = node(machine.name, "", cpu, born=self.now)

    def _lose(self, name: str) -> None:
        self.nodes.pop(name, None)
        for key in [k for k, p in self.pods.items() if p.spec.nodeName == name]:
            raise AssertionError(f"{key} was lost with {name}")

    @staticmethod
    def _cpu(one: Node) -> str:
        return str((one.status.allocatable or {})["cpu"])

    @staticmethod
    def _cpu_of(one: Pod) -> str:
        resources = one.spec.containers[0].resources
        return str(((resources.requests if resources else None) or {})["cpu"])
