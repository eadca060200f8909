"""A pod as the scheduler sees it: the few fields that place it, and its Shape, which many pods share.

Two pods of one shape have the same answer from every plugin, so everything costly is computed per shape and memoised by
the encoded bytes of those fields. Next: snapshot.py, the nodes' side.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from jota.meta.quantity import milli, value

DEFAULT_SCHEDULER = "default-scheduler"
_NONZERO_CPU, _NONZERO_MEMORY = 100.0, 200.0 * 1024 * 1024
"""What a container without requests counts as in scores, so that such pods spread too (upstream: GetNonzeroRequests)."""


class Meta(msgspec.Struct, gc=False):
    name: str
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    creationTimestamp: str = ""
    deletionTimestamp: str | None = None
    labels: dict[str, str] | None = None


class Port(msgspec.Struct, gc=False):
    hostPort: int = 0
    hostIP: str = ""
    protocol: str = "TCP"


class Requests(msgspec.Struct, gc=False):
    requests: dict[str, str | int | float] | None = None


class Container(msgspec.Struct, gc=False):
    resources: Requests | None = None
    ports: list[Port] | None = None
    restartPolicy: str = ""


class Gate(msgspec.Struct, gc=False):
    name: str = ""


class Toleration(msgspec.Struct, gc=False, frozen=True):
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class Spec(msgspec.Struct):
    containers: list[Container] = msgspec.field(default_factory=list)
    initContainers: list[Container] | None = None
    overhead: dict[str, str | int | float] | None = None
    nodeName: str = ""
    nodeSelector: dict[str, str] | None = None
    affinity: dict[str, Any] | None = None
    tolerations: list[Toleration] | None = None
    topologySpreadConstraints: list[dict[str, Any]] | None = None
    schedulerName: str = DEFAULT_SCHEDULER
    schedulingGates: list[Gate] | None = None
    priority: int = 0


class Condition(msgspec.Struct, gc=False):
    type: str = ""
    status: str = ""
    message: str = ""


class Status(msgspec.Struct):
    phase: str = ""
    conditions: list[Condition] | None = None


class Pod(msgspec.Struct):
    metadata: Meta
    spec: Spec = msgspec.field(default_factory=Spec)
    status: Status = msgspec.field(default_factory=Status)

    @property
    def key(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def over(self) -> bool:
        """Finished: holds no resources any more."""
        return self.status.phase in ("Succeeded", "Failed")


@dataclass(slots=True, frozen=True, eq=False)
class Shape:
    """What places a pod. Amounts: cpu in milli-units, everything else in whole units."""

    requests: dict[str, float]
    """Resource name -> amount; "pods" is always 1."""
    score_cpu: float
    score_memory: float
    selector: tuple[tuple[str, str], ...] = ()
    affinity: dict[str, Any] = field(default_factory=dict)
    """spec.affinity.nodeAffinity"""
    tolerations: tuple[Toleration, ...] = ()
    host_ports: frozenset[tuple[str, str, int]] = frozenset()
    """(protocol, host IP, port)"""
    unsupported: tuple[str, ...] = ()
    """Constraints that this scheduler does not apply yet, by field path."""


class Shapes:
    """The memo: encoded fields -> Shape. Bounded; a shape that falls out is simply computed again."""

    _MOST = 20_000

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Shape] = OrderedDict()
        self._encode = msgspec.msgpack.Encoder().encode

    def of(self, pod: Pod) -> Shape:
        spec = pod.spec
        key = self._encode(
            (
                spec.containers,
                spec.initContainers,
                spec.overhead,
                spec.nodeSelector,
                spec.affinity,
                spec.tolerations,
                spec.topologySpreadConstraints,
            )
        )
        shape = self._known.get(key)
        if shape is None:
            shape = self._known[key] = shape_of(spec)
            if len(self._known) > self._MOST:
                self._known.popitem(last=False)
        return shape


def shape_of(spec: Spec) -> Shape:
    """Effective requests (upstream PodRequests: app containers and sidecars together, or the largest init step)."""
    requests, cpu, memory = _effective(spec, nonzero=False), 0.0, 0.0
    scored = _effective(spec, nonzero=True)
    cpu, memory = scored.get("cpu", 0.0), scored.get("memory", 0.0)
    requests["pods"] = 1.0
    affinity = spec.affinity or {}
    return Shape(
        requests={k: v for k, v in requests.items() if v > 0},
        score_cpu=cpu,
        score_memory=memory,
        selector=tuple(sorted((spec.nodeSelector or {}).items())),
        affinity=affinity.get("nodeAffinity") or {},
        tolerations=tuple(spec.tolerations or ()),
        host_ports=_host_ports(spec),
        unsupported=_unsupported(spec, affinity),
    )


def _effective(spec: Spec, *, nonzero: bool) -> dict[str, float]:
    running: dict[str, float] = {}
    for container in spec.containers:
        _add(running, _requests(container, nonzero))
    sidecars: dict[str, float] = {}
    peak: dict[str, float] = {}
    for container in spec.initContainers or ():
        wanted = _requests(container, nonzero)
        if container.restartPolicy == "Always":
            _add(sidecars, wanted)
            _raise(peak, sidecars)
        else:
            _add(wanted, sidecars)
            _raise(peak, wanted)
    _add(running, sidecars)
    _raise(running, peak)
    _add(running, {k: _amount(k, v) for k, v in (spec.overhead or {}).items()})
    return running


def _requests(container: Container, nonzero: bool) -> dict[str, float]:
    given = (container.resources.requests if container.resources else None) or {}
    wanted = {k: _amount(k, v) for k, v in given.items()}
    if nonzero:
        wanted.setdefault("cpu", _NONZERO_CPU)
        wanted.setdefault("memory", _NONZERO_MEMORY)
    return wanted


def _amount(name: str, quantity: str | int | float) -> float:
    return float(milli(str(quantity)) if name == "cpu" else value(str(quantity)))


def _add(total: dict[str, float], more: dict[str, float]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0.0) + amount


def _raise(total: dict[str, float], floor: dict[str, float]) -> None:
    for name, amount in floor.items():
        total[name] = max(total.get(name, 0.0), amount)


def _host_ports(spec: Spec) -> frozenset[tuple[str, str, int]]:
    sidecars = [c for c in spec.initContainers or () if c.restartPolicy == "Always"]
    return frozenset(
        (p.protocol, p.hostIP or "0.0.0.0", p.hostPort)
        for c in [*spec.containers, *sidecars]
        for p in c.ports or ()
        if p.hostPort
    )


def _unsupported(spec: Spec, affinity: dict[str, Any]) -> tuple[str, ...]:
    found = [f"spec.affinity.{k}" for k in ("podAffinity", "podAntiAffinity") if affinity.get(k)]
    if spec.topologySpreadConstraints:
        found.append("spec.topologySpreadConstraints")
    return tuple(found)
