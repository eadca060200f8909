"""requests and limits -> what the kernel wants (runtime.Resources), and the pod's quality of service. Pure."""

from __future__ import annotations

from jota.meta.quantity import parse
from jota.node.model import Object
from jota.runtime.protocol import Resources

MIN_SHARES, MAX_SHARES = 2, 262_144
MIN_QUOTA = 1_000
PERIOD = 100_000
"""Microseconds: the CFS period."""
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
    """Guaranteed | Burstable | BestEffort, over cpu and memory of all containers."""
    spec = pod["spec"]
    any_set, guaranteed = False, True
    for c in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        requests, limits = requests_of(c), limits_of(c)
        for name in ("cpu", "memory"):
            wanted, bound = requests.get(name), limits.get(name)
            any_set = any_set or bool(wanted and milli(wanted)) or bool(bound and milli(bound))
            if not bound or not milli(bound) or milli(wanted or bound) != milli(bound):
                guaranteed = False
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def container_resources(pod: Object, container: Object, machine_memory: int, pids: int | None = None) -> Resources:
    """The limits of one container; `machine_memory` in bytes is the whole node's, for the out-of-memory score."""
    requests, limits = requests_of(container), limits_of(container)
    cpu, memory = requests.get("cpu"), limits.get("memory")
    return Resources(
        cpu_shares=shares(milli(cpu)) if cpu else MIN_SHARES,
        cpu_quota=quota(milli(limits["cpu"])) if "cpu" in limits else None,
        cpu_period=PERIOD,
        memory_limit=amount(memory) or None if memory else None,
        pids_limit=pids,
        oom_score_adj=oom_score(pod, container, machine_memory),
    )


def pod_resources(pod: Object) -> Resources:
    """The pod-level bounds: sums over containers, limited only when every container is."""
    containers = [*(pod["spec"].get("containers") or [])]
    sidecars = [c for c in pod["spec"].get("initContainers") or [] if c.get("restartPolicy") == "Always"]
    every = containers + sidecars
    cpu = sum(milli(requests_of(c).get("cpu", "0")) for c in every)
    cpu_limits = [limits_of(c).get("cpu") for c in every]
    memory_limits = [limits_of(c).get("memory") for c in every]
    return Resources(
        cpu_shares=shares(cpu),
        cpu_quota=quota(sum(milli(v) for v in cpu_limits)) if all(cpu_limits) else None,
        memory_limit=sum(amount(v) for v in memory_limits) or None if all(memory_limits) else None,
    )


def oom_score(pod: Object, container: Object, machine_memory: int) -> int:
    """1000 for BestEffort, -997 for Guaranteed and node-critical pods; in between by the share of memory asked for."""
    if pod["spec"].get("priority", 0) >= 2_000_001_000:
        return GUARANTEED
    quality = qos_class(pod)
    if quality == "Guaranteed":
        return GUARANTEED
    if quality == "BestEffort":
        return BEST_EFFORT
    request = amount(requests_of(container).get("memory", "0"))
    score = 1000 - (1000 * request) // max(1, machine_memory)
    # Between the classes: above any Guaranteed pod's, below BestEffort.
    return max(1000 + GUARANTEED, min(score, BEST_EFFORT - 1))
