"""requests and limits -> what the kernel wants (runtime.Resources), and the pod's quality of service. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from jota.meta.quantity import NANO, parse
from jota.node.model import RESOURCES, Object, parts, resources_text
from jota.runtime.protocol import Resources

MIN_SHARES, MAX_SHARES = 2, 262_144
MIN_QUOTA = 1_000
PERIOD = 100_000
"""Microseconds: the CFS period."""
COMPUTE = ("cpu", "memory")
SIDES = ("requests", "limits")
NANOS_PER_MILLI = NANO // 1000
BEST_EFFORT, GUARANTEED = 1000, -997
"""oom_score_adj of the two outer classes (upstream's values)."""


def milli(text: object) -> int:
    return parse(str(text)).milli


def amount(text: object) -> int:
    return parse(str(text)).value


def shares(cpu_milli: int) -> int:
    return max(MIN_SHARES, min(MAX_SHARES, cpu_milli * 1024 // 1000))


def quota(cpu_milli: int) -> int | None:
    return max(MIN_QUOTA, cpu_milli * PERIOD // 1000) if cpu_milli > 0 else None


def requests_of(container: Object) -> dict[str, str]:
    """Requests, with limits standing in for missing ones, as the API defaults them."""
    resources = container.get("resources") or {}
    return {**(resources.get("limits") or {}), **(resources.get("requests") or {})}


def limits_of(container: Object) -> dict[str, str]:
    return dict((container.get("resources") or {}).get("limits") or {})


def qos_class(pod: Object) -> str:
    """Guaranteed | Burstable | BestEffort, over cpu and memory of all containers, or of the pod where it says itself."""
    spec = pod["spec"]
    any_set, guaranteed = False, True
    whole = [spec] if any(milli(v) for side in SIDES for v in compute(spec, side).values()) else []
    for c in whole or [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        requests, limits = requests_of(c), limits_of(c)
        for name in COMPUTE:
            wanted, bound = requests.get(name), limits.get(name)
            any_set = any_set or bool(wanted and milli(wanted)) or bool(bound and milli(bound))
            if not bound or not milli(bound) or milli(wanted or bound) != milli(bound):
                guaranteed = False
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def compute(owner: Object, side: str) -> dict[str, str]:
    """cpu and memory of a container's, or a pod's own, resources."""
    amounts = (owner.get("resources") or {}).get(side) or {}
    return {name: amounts[name] for name in COMPUTE if name in amounts}


def effective(pod: Object, container: Object) -> Object:
    """The resources that a container is given: what it does not limit itself, the pod's own limit bounds."""
    own = container.get("resources") or {}
    whole = compute(pod["spec"], "limits")
    if not whole:
        return dict(own)
    return {**own, "limits": {**whole, **(own.get("limits") or {})}}


def given_text(pod: Object, container: Object) -> str:
    """The same in the canonical text that is kept on the container (RESOURCES)."""
    return resources_text({"resources": effective(pod, container)})


def whole_label(pod: Object) -> dict[str, str]:
    """What a sandbox tells of the resources that the pod has of its own, where it has some."""
    return {RESOURCES: resources_text(pod["spec"])} if pod["spec"].get("resources") else {}


def pod_amounts(pod: Object, side: str) -> dict[str, int]:
    """Nano-units per resource: the larger of all app containers (with sidecars) and the largest init step; the pod's own
    amounts instead where it has some; plus overhead. Rule: component-helpers' PodRequests and PodLimits."""
    total = containers_amounts(pod, side)
    total.update({n: parse(v).nanos for n, v in compute(pod["spec"], side).items()})
    overhead = {n: parse(v).nanos for n, v in (pod["spec"].get("overhead") or {}).items()}
    _add(total, overhead if side == "requests" else {n: v for n, v in overhead.items() if total.get(n)})
    return total


def containers_amounts(pod: Object, side: str) -> dict[str, int]:
    """The same of the containers alone."""
    of = requests_of if side == "requests" else limits_of
    total: dict[str, int] = {}
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for p in parts(pod):
        mine = {name: parse(v).nanos for name, v in of(p.spec).items()}
        if p.role == "app":
            _add(total, mine)
        elif p.role == "sidecar":
            _add(sidecars, mine)
            _raise_to(peak, sidecars)
        elif p.role == "init":
            _raise_to(peak, {n: v + sidecars.get(n, 0) for n, v in {**dict.fromkeys(sidecars, 0), **mine}.items()})
    _add(total, sidecars)
    _raise_to(total, peak)
    return total


def _add(into: dict[str, int], more: Mapping[str, int]) -> None:
    for name, value in more.items():
        into[name] = into.get(name, 0) + value


def _raise_to(into: dict[str, int], floor: Mapping[str, int]) -> None:
    for name, value in floor.items():
        into[name] = max(into.get(name, 0), value)


def container_resources(pod: Object, container: Object, machine_memory: int, pids: int | None = None) -> Resources:
    """The limits of one container; `machine_memory` in bytes is the whole node's, for the out-of-memory score."""
    limits = effective(pod, container).get("limits") or {}
    cpu, memory = requests_of(container).get("cpu"), limits.get("memory")
    return Resources(
        cpu_shares=shares(milli(cpu)) if cpu else MIN_SHARES,
        cpu_quota=quota(milli(limits["cpu"])) if "cpu" in limits else None,
        cpu_period=PERIOD,
        memory_limit=amount(memory) or None if memory else None,
        pids_limit=pids,
        oom_score_adj=oom_score(pod, container, machine_memory),
    )


def pod_resources(pod: Object) -> Resources:
    """The bounds of all containers together, limited only where every container is, or the pod itself (kubelet's
    ResourceConfigForPod)."""
    requests, limits = pod_amounts(pod, "requests"), pod_amounts(pod, "limits")
    every = [limits_of(p.spec) for p in parts(pod) if p.role != "ephemeral"]
    own = compute(pod["spec"], "limits")
    cpu, memory = (
        limits.get(name, 0) if own.get(name) or all(bounds.get(name) for bounds in every) else 0 for name in COMPUTE
    )
    return Resources(
        cpu_shares=shares(-(-requests.get("cpu", 0) // NANOS_PER_MILLI)),
        cpu_quota=quota(-(-cpu // NANOS_PER_MILLI)),
        memory_limit=-(-memory // NANO) or None,
    )


def widest(one: Resources, other: Resources) -> Resources:
    """Bounds that hold both: for a pod while some of its containers have the one and some the other."""
    return Resources(
        cpu_shares=max(one.cpu_shares or 0, other.cpu_shares or 0) or None,
        cpu_quota=max(one.cpu_quota, other.cpu_quota) if one.cpu_quota and other.cpu_quota else None,
        cpu_period=other.cpu_period,
        memory_limit=max(one.memory_limit, other.memory_limit) if one.memory_limit and other.memory_limit else None,
        pids_limit=max(one.pids_limit, other.pids_limit) if one.pids_limit and other.pids_limit else None,
        oom_score_adj=other.oom_score_adj,
    )


def oom_score(pod: Object, container: Object, machine_memory: int) -> int:
    """1000 for BestEffort, -997 for Guaranteed and node-critical pods; in between by the share of memory asked for, to which
    each container's share of what the pod asks for beyond its containers counts. A sidecar's is never above that of the
    app container that asks for the least. Rule: kubelet's qos/policy.go."""
    if pod["spec"].get("priority", 0) >= 2_000_001_000:
        return GUARANTEED
    quality = qos_class(pod)
    if quality == "Guaranteed":
        return GUARANTEED
    if quality == "BestEffort":
        return BEST_EFFORT
    spare = _spare(pod)
    request = _memory(container)
    if container.get("restartPolicy") == "Always" and any(
        p.spec is container and p.role == "sidecar" for p in parts(pod)
    ):
        request = max(request, min((_memory(c) for c in pod["spec"].get("containers") or []), default=0))
    score = 1000 - (1000 * (request + spare)) // max(1, machine_memory)
    # Between the classes: above any Guaranteed pod's, below BestEffort.
    return max(1000 + GUARANTEED, min(score, BEST_EFFORT - 1))


def _memory(container: Object) -> int:
    return amount(requests_of(container).get("memory", "0"))


def _spare(pod: Object) -> int:
    """Bytes of the pod's own memory request, beyond those of its containers, for each of them."""
    own = compute(pod["spec"], "requests").get("memory")
    if own is None:
        return 0
    held = containers_amounts(pod, "requests").get("memory", 0) // NANO
    return max(0, amount(own) - held) // sum(p.role != "ephemeral" for p in parts(pod))
