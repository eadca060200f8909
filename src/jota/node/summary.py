"""What containers use, in the forms that scrapers of a kubelet expect. Pure: samples in, text or objects out.

`resource_metrics` is `/metrics/resource` (what metrics-server reads), `summary` is `/stats/summary` (stats/v1alpha1).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jota.aio.clock import rfc3339
from jota.runtime.protocol import Container, Stats


@dataclass(slots=True, frozen=True)
class NodeUse:
    """The whole machine: CPU time since boot in nanoseconds, memory in bytes, when it was looked at (epoch seconds)."""

    at: float
    cpu_ns: int
    memory_working_set: int
    memory_usage: int
    memory_available: int
    started_at: float


@dataclass(slots=True, frozen=True)
class Sample:
    """One container's use and whose it is."""

    namespace: str
    pod: str
    uid: str
    container: Container
    stats: Stats


def parse_node_use(stat: str, meminfo: str, now: float, ticks: int) -> NodeUse:
    """From the texts of /proc/stat and /proc/meminfo; `ticks` per second as sysconf(SC_CLK_TCK) says."""
    started, cpu = 0.0, 0
    for line in stat.splitlines():
        name, *values = line.split()
        if name == "cpu":
            # user nice system idle iowait irq softirq steal: all but idle and iowait is work
            busy = [int(v) for i, v in enumerate(values[:8]) if i not in (3, 4)]
            cpu = sum(busy) * 1_000_000_000 // ticks
        elif name == "btime":
            started = float(values[0])
    memory = {k: int(v.split()[0]) * 1024 for k, _, v in (line.partition(":") for line in meminfo.splitlines()) if v}
    total, available = memory.get("MemTotal", 0), memory.get("MemAvailable", 0)
    return NodeUse(now, cpu, total - available, total - memory.get("MemFree", 0), available, started)


def samples(pods: Iterable[dict[str, Any]], containers: list[Container], stats: list[Stats]) -> list[Sample]:
    """Join by pod uid and container id; what belongs to no pod of this node is left out."""
    names = {p["metadata"]["uid"]: (p["metadata"]["namespace"], p["metadata"]["name"]) for p in pods}
    by_id = {c.id: c for c in containers}
    out = []
    for use in stats:
        container = by_id.get(use.container_id)
        if container is not None and container.pod_uid in names:
            namespace, pod = names[container.pod_uid]
            out.append(Sample(namespace, pod, container.pod_uid, container, use))
    return out


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resource_metrics(found: list[Sample], node: NodeUse) -> bytes:
    """Prometheus text; times in milliseconds, as kubelet's resource endpoint gives them."""
    at = int(node.at * 1000)
    cpu = [f"node_cpu_usage_seconds_total {node.cpu_ns / 1e9:.9g} {at}"]
    memory = [f"node_memory_working_set_bytes {node.memory_working_set} {at}"]
    rows: dict[str, list[str]] = {
        "node_cpu_usage_seconds_total counter": cpu,
        "node_memory_working_set_bytes gauge": memory,
        "container_cpu_usage_seconds_total counter": [],
        "container_memory_working_set_bytes gauge": [],
        "container_start_time_seconds gauge": [],
        "pod_cpu_usage_seconds_total counter": [],
        "pod_memory_working_set_bytes gauge": [],
    }
    pods: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0])
    for s in found:
        where = f'namespace="{_escape(s.namespace)}",pod="{_escape(s.pod)}"'
        label, then = f'{{container="{_escape(s.container.name)}",{where}}}', int(s.stats.at * 1000)
        values = (s.stats.cpu_ns / 1e9, s.stats.memory_working_set, s.container.started_at)
        for name, value in zip(list(rows)[2:5], values, strict=True):
            rows[name].append(f"{name.split()[0]}{label} {value:.17g} {then}")
        total = pods[f"{{{where}}}"]
        total[0], total[1], total[2] = total[0] + values[0], total[1] + values[1], max(total[2], then)
    for where, (seconds, size, latest) in pods.items():
        rows["pod_cpu_usage_seconds_total counter"].append(
            f"pod_cpu_usage_seconds_total{where} {seconds:.17g} {latest:.0f}"
        )
        rows["pod_memory_working_set_bytes gauge"].append(
            f"pod_memory_working_set_bytes{where} {size:.0f} {latest:.0f}"
        )
    rows["resource_scrape_error gauge"] = ["resource_scrape_error 0"]
    lines = [line for kind, values in rows.items() for line in (f"# TYPE {kind}", *values)]
    return ("\n".join(lines) + "\n").encode()


def summary(name: str, found: list[Sample], node: NodeUse, before: dict[str, Stats]) -> dict[str, Any]:
    """stats/v1alpha1 Summary. `before`: earlier samples by container id, for the rate (usageNanoCores)."""
    pods: dict[str, dict[str, Any]] = {}
    for s in found:
        pod = pods.setdefault(
            s.uid,
            {
                "podRef": {"name": s.pod, "namespace": s.namespace, "uid": s.uid},
                "startTime": rfc3339(s.container.created_at),
                "containers": [],
            },
        )
        pod["containers"].append(_container(s, before.get(s.container.id)))
    for pod in pods.values():
        pod["cpu"] = _total([c["cpu"] for c in pod["containers"]])
        pod["memory"] = _total([c["memory"] for c in pod["containers"]])
    time = rfc3339(node.at)
    memory = {
        "time": time,
        "availableBytes": node.memory_available,
        "usageBytes": node.memory_usage,
        "workingSetBytes": node.memory_working_set,
    }
    whole = {
        "nodeName": name,
        "startTime": rfc3339(node.started_at),
        "cpu": {"time": time, "usageCoreNanoSeconds": node.cpu_ns},
        "memory": memory,
    }
    return {"node": whole, "pods": list(pods.values())}


def _container(s: Sample, before: Stats | None) -> dict[str, Any]:
    use, time = s.stats, rfc3339(s.stats.at)
    cpu: dict[str, Any] = {"time": time, "usageCoreNanoSeconds": use.cpu_ns}
    if before is not None and use.at > before.at:
        cpu["usageNanoCores"] = max(0, int((use.cpu_ns - before.cpu_ns) / (use.at - before.at)))
    memory = {"time": time, "usageBytes": use.memory_usage, "workingSetBytes": use.memory_working_set}
    return {"name": s.container.name, "startTime": rfc3339(s.container.started_at), "cpu": cpu, "memory": memory}


def _total(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The sum of each number, the latest time."""
    out: dict[str, Any] = {"time": max(p["time"] for p in parts)}
    for key in parts[0]:
        if key != "time":
            out[key] = sum(p.get(key, 0) for p in parts)
    return out
