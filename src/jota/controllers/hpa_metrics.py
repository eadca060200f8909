"""How many replicas one metric asks for. Pure. In: a metric of the spec, pods, what they use. Out: a Proposal.

Upstream's rules for pods that say nothing: a pod without a sample counts as using nothing when scaling up and its full
target when scaling down; pods that are not ready yet count as using nothing, and only when scaling up.
Worked example: target 50 % of 100m requested, three pods use 90m each: ratio 1.8, six replicas. Next: hpa_plan.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from jota.aio.clock import parse_rfc3339
from jota.controllers.views import Pod
from jota.meta.quantity import milli

Object = dict[str, Any]

INITIALIZATION, READINESS_DELAY = 300.0, 30.0
"""Seconds in which a young pod's CPU is not believed, and after its start in which it may become ready late (upstream)."""
TOLERANCE = 0.1


class Tolerance(NamedTuple):
    """The ratio may be this far below or above one without anything being done."""

    down: float = TOLERANCE
    up: float = TOLERANCE

    def holds(self, ratio: float) -> bool:
        return 1 - self.down <= ratio <= 1 + self.up


class MetricFault(Exception):
    """A metric cannot be had. `reason` is the condition's, e.g. FailedGetResourceMetric."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.metric = ""
        """What messages call the metric; "" when it is none's fault."""
        self.brief = ""
        """What events say, where that is other than what the condition says."""


def said_of(metric: Object) -> str:
    """What messages call a metric, e.g. "cpu resource metric", as upstream's do."""
    kind, source = metric["type"], metric[metric["type"][0].lower() + metric["type"][1:]]
    if kind == "Resource":
        return f"{source['name']} resource metric"
    if kind == "ContainerResource":
        return f"{source['name']} container metric"
    return f"{source['metric']['name']} external metric" if kind == "External" else f"{kind.lower()} metric"


@dataclass(slots=True, frozen=True)
class Proposal:
    replicas: int
    name: str
    """For messages, e.g. "cpu resource utilization (percentage of request)"."""
    status: Object
    """The entry of status.currentMetrics."""


class Groups(NamedTuple):
    ready: list[Pod]
    unready: list[Pod]
    missing: list[Pod]


def group(pods: list[Pod], samples: dict[str, int], resource: str, now: float) -> Groups:
    """Which pods count how. `samples`: pod name -> use in thousandths."""
    out = Groups([], [], [])
    for pod in pods:
        if pod.terminating or pod.status.phase == "Failed":
            continue
        if pod.status.phase == "Pending":
            out.unready.append(pod)
        elif pod.metadata.name not in samples:
            out.missing.append(pod)
        elif resource == "cpu" and _too_young(pod, now):
            out.unready.append(pod)
        else:
            out.ready.append(pod)
    return out


def _too_young(pod: Pod, now: float) -> bool:
    condition = pod.ready_condition
    if condition is None or not pod.status.startTime:
        return True
    started = parse_rfc3339(pod.status.startTime)
    if started + INITIALIZATION > now:
        return condition.status == "False"
    changed = parse_rfc3339(condition.lastTransitionTime) if condition.lastTransitionTime else 0.0
    return condition.status == "False" and started + READINESS_DELAY > changed


def requested(pod: Pod, resource: str, container: str = "") -> int:
    """Thousandths that a pod (or one of its containers) requests. Raises MetricFault."""
    sidecars = [c for c in pod.spec.initContainers or () if c.restartPolicy == "Always"]
    total, seen = 0, False
    for one in (*pod.spec.containers, *sidecars):
        if container and one.name != container:
            continue
        seen = True
        amount = ((one.resources.requests if one.resources else None) or {}).get(resource)
        if amount is None:
            text = f"missing request for {resource} in container {one.name} of Pod {pod.metadata.name}"
            raise MetricFault("FailedGetResourceMetric", text)
        total += milli(str(amount))
    if not seen:
        raise MetricFault("FailedGetResourceMetric", f"container {container} not found in Pod {pod.metadata.name}")
    return total


def replicas_for(
    current: int,
    pods: list[Pod],
    samples: dict[str, int],
    wants: dict[str, int],
    resource: str,
    allow: Tolerance,
    now: float,
) -> tuple[int, int, int]:
    """(replicas, use in percent of what is wanted, average use in thousandths).

    `wants`: pod name -> what it should use, in thousandths. Raises MetricFault when no pod gives a sample.
    """
    groups = group(pods, samples, resource, now)
    uses = {p.metadata.name: samples[p.metadata.name] for p in groups.ready}
    if not uses:
        raise MetricFault(
            "FailedGetResourceMetric", "did not receive metrics for targeted pods (pods might be unready)"
        )
    total = sum(wants[name] for name in uses)
    if total <= 0:
        raise MetricFault("FailedGetResourceMetric", f"no {resource} is requested by the targeted pods")
    ratio = sum(uses.values()) / total
    average = sum(uses.values()) // len(uses)
    percent = ratio
    with_unready = bool(groups.unready) and ratio > 1
    if not with_unready and not groups.missing:
        wanted = current if allow.holds(ratio) else math.ceil(round(ratio * len(uses), 9))
        return wanted, round(percent * 100), average
    for pod in groups.missing:
        uses[pod.metadata.name] = wants[pod.metadata.name] if ratio < 1 else 0
    if with_unready:
        uses |= {p.metadata.name: 0 for p in groups.unready}
    again = sum(uses.values()) / sum(wants[name] for name in uses)
    wanted = math.ceil(round(again * len(uses), 9))
    flipped = (ratio < 1 < again) or (again < 1 < ratio)
    overshot = (again < 1 and wanted > current) or (again > 1 and wanted < current)
    if allow.holds(again) or flipped or overshot:
        wanted = current
    return wanted, round(percent * 100), average


def resource_metric(
    metric: Object, current: int, pods: list[Pod], samples: dict[str, int], allow: Tolerance, now: float
) -> Proposal:
    """A Resource or ContainerResource metric. Raises MetricFault."""
    try:
        return _resource_metric(metric, current, pods, samples, allow, now)
    except MetricFault as fault:
        raise resource_fault(metric, str(fault)) from fault


def resource_fault(metric: Object, why: str) -> MetricFault:
    source = metric.get("resource") or metric["containerResource"]
    what = "usage" if source["target"].get("averageUtilization") is None else "utilization"
    return MetricFault(f"FailedGet{metric['type']}Metric", f"failed to get {source['name']} {what}: {why}")


def _resource_metric(
    metric: Object, current: int, pods: list[Pod], samples: dict[str, int], allow: Tolerance, now: float
) -> Proposal:
    inside = metric["type"] == "ContainerResource"
    key = "containerResource" if inside else "resource"
    source = metric[key]
    resource, target, container = source["name"], source["target"], source.get("container", "")
    living = [p for p in pods if not p.terminating and p.status.phase != "Failed"]
    label = f"{resource} {'container ' if inside else ''}resource"
    base = {"name": resource, **({"container": container} if inside else {})}
    if target.get("averageUtilization") is not None:
        share = target["averageUtilization"]
        wants = {p.metadata.name: requested(p, resource, container) * share // 100 for p in living}
        wanted, percent, average = replicas_for(current, living, samples, wants, resource, allow, now)
        now_ = {"averageUtilization": round(percent * share / 100), "averageValue": amount(average)}
        label += " utilization (percentage of request)"
    else:
        per_pod = milli(str(target["averageValue"]))
        wants = {p.metadata.name: per_pod for p in living}
        wanted, _, average = replicas_for(current, living, samples, wants, resource, allow, now)
        now_ = {"averageValue": amount(average)}
    return Proposal(wanted, label, {"type": metric["type"], key: {**base, "current": now_}})


def pods_metric(
    metric: Object, current: int, pods: list[Pod], values: dict[str, int], allow: Tolerance, now: float
) -> Proposal:
    """A Pods metric; `values`: pod name -> thousandths. Silent pods count as for use of resources. Raises MetricFault."""
    source = metric["pods"]
    name, per_pod = source["metric"]["name"], milli(str(source["target"]["averageValue"]))
    if per_pod <= 0:
        raise MetricFault("FailedGetPodsMetric", f"the target of metric {name} must be above zero")
    wants = {p.metadata.name: per_pod for p in pods}
    try:
        wanted, _, average = replicas_for(current, pods, values, wants, "", allow, now)
    except MetricFault as fault:
        raise MetricFault("FailedGetPodsMetric", f"unable to get metric {name}: {fault}") from fault
    shown = {"metric": source["metric"], "current": {"averageValue": amount(average)}}
    return Proposal(wanted, f"pods metric {name}", {"type": "Pods", "pods": shown})


def value_metric(metric: Object, current: int, shown: int, ready: int, values: list[int], allow: Tolerance) -> Proposal:
    """An Object or External metric from the thousandths that a metrics API gave. `shown`: the target's status.replicas, by which
    an average is one. Raises MetricFault."""
    kind = metric["type"]
    key = kind.lower()
    source = metric[key]
    target, name, total = source["target"], source["metric"]["name"], sum(values)
    if not values:
        raise MetricFault(f"FailedGet{kind}Metric", f"no values for metric {name}")
    if target.get("averageValue") is not None:
        ratio = total / max(1, milli(str(target["averageValue"])) * max(1, shown))
        wanted = math.ceil(round(total / max(1, milli(str(target["averageValue"]))), 9))
        steady, now_ = shown, {"averageValue": amount(math.ceil(total / max(1, shown)))}
    else:
        ratio = total / max(1, milli(str(target["value"])))
        wanted, now_ = math.ceil(round(ratio * ready, 9)), {"value": amount(total)}
        steady = current
    if allow.holds(ratio):
        wanted = steady
    entry = {"metric": source["metric"], "current": now_}
    if kind == "Object":
        entry["describedObject"] = source["describedObject"]
    return Proposal(wanted, _called(kind, source), {"type": kind, key: entry})


def _called(kind: str, source: Object) -> str:
    """What messages call an Object or External metric: upstream shows the selector as Go does, also that of an average's object."""
    name, target = source["metric"]["name"], source["target"]
    if kind == "Object" and target.get("averageValue") is None:
        return f"{source['describedObject']['kind']} metric {name}"
    selector = source["metric"].get("selector")
    if selector is None:
        return f"external metric {name}(nil)"
    labels = "".join(f"{k}: {v}," for k, v in sorted((selector.get("matchLabels") or {}).items()))
    terms = "".join(
        f"LabelSelectorRequirement{{Key:{e['key']},Operator:{e['operator']},Values:[{' '.join(e.get('values') or ())}],}},"
        for e in selector.get("matchExpressions") or ()
    )
    inside = f"MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{terms}}},"
    return f"external metric {name}(&LabelSelector{{{inside}}})"


def amount(thousandths: int) -> str:
    """A quantity's text."""
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)
