"""HorizontalPodAutoscaler: the next size. Pure. In: the autoscaler, the size now, what metrics ask for, what was decided
before. Out: the size, conditions, why. Next: hpa.py, which asks and carries out.

What metrics ask for -> stabilised by the recommendations of a window -> limited by the policies' rates -> between
minReplicas and maxReplicas. Without `behavior` the older rules hold, as upstream: the highest recommendation of five minutes,
and at most twice the size (or four) in fifteen seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from jota.aio.clock import rfc3339
from jota.controllers import conditions
from jota.controllers.hpa_metrics import TOLERANCE, MetricFault, Proposal, Tolerance
from jota.meta.quantity import milli

Object = dict[str, Any]

SELECTOR_FAULTS = ("SelectorRequired", "InvalidSelector", "AmbiguousSelector")
SYNC = 15.0
"""Seconds between two looks upstream, each of which may double the size; ours are closer together."""
DOWNSCALE_WINDOW = 300.0
"""Seconds (upstream's --horizontal-pod-autoscaler-downscale-stabilization)."""
DEFAULT_UP: Object = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
DEFAULT_DOWN: Object = {
    "stabilizationWindowSeconds": 300,
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
}


@dataclass(slots=True)
class Memory:
    """What an autoscaler decided lately; lost at a restart, as upstream's."""

    recommendations: list[tuple[float, int]] = field(default_factory=list)
    """(monotonic time, replicas). The first is the size that it found: nothing is taken away before the window has passed."""
    changes: list[tuple[float, int]] = field(default_factory=list)
    """(monotonic time, replicas added; negative for removed)."""

    def forget(self, now: float, horizon: float = 3600.0) -> None:
        self.recommendations = [r for r in self.recommendations if r[0] >= now - horizon]
        self.changes = [c for c in self.changes if c[0] >= now - horizon]


@dataclass(slots=True)
class Plan:
    replicas: int
    status: Object
    reason: str = ""
    """Of a change, for its event."""
    faults: list[MetricFault] = field(default_factory=list)
    failure: str = ""
    """Why no size could be computed, for its event."""


def within(owner: Object, current: int) -> bool:
    """The size is one that metrics may change: otherwise nobody asks them."""
    return current > 0 and lowest(owner) <= current <= int(owner["spec"]["maxReplicas"])


def lowest(owner: Object) -> int:
    return int(owner["spec"].get("minReplicas") or 1)


def rules(owner: Object, direction: str) -> Object:
    """The behaviour in one direction, with defaults. `direction`: scaleUp | scaleDown."""
    given = (owner["spec"].get("behavior") or {}).get(direction) or {}
    default = DEFAULT_UP if direction == "scaleUp" else DEFAULT_DOWN
    return default | {k: v for k, v in given.items() if v is not None}


def tolerance(owner: Object) -> Tolerance:
    down, up = (rules(owner, d).get("tolerance") for d in ("scaleDown", "scaleUp"))
    parsed = [TOLERANCE if t is None else milli(str(t)) / 1000 for t in (down, up)]
    return Tolerance(*parsed)


def plan(
    owner: Object, current: int, asked: list[Proposal | MetricFault], memory: Memory, now: float, moment: float
) -> Plan:
    """`asked`: one per metric of the spec. `memory` is read only. `moment`: monotonic time, which that goes by."""
    return _Step(owner, current, asked, memory, now, moment).take()


class _Step:
    def __init__(
        self,
        owner: Object,
        current: int,
        asked: list[Proposal | MetricFault],
        memory: Memory,
        now: float,
        moment: float,
    ) -> None:
        self.owner, self.current, self.memory, self.now, self.moment = owner, current, memory, now, moment
        self.low = lowest(owner)
        self.high = int(owner["spec"]["maxReplicas"])
        self.proposals = [a for a in asked if isinstance(a, Proposal)]
        self.faults = [a for a in asked if isinstance(a, MetricFault)]
        self.conditions: list[Object] = (owner.get("status") or {}).get("conditions") or []
        self._set(
            "AbleToScale", True, "SucceededGetScale", "the HPA controller was able to get the target's current scale"
        )

    def take(self) -> Plan:
        if self.current == 0:
            text = "scaling is disabled since the replica count of the target is zero"
            self._set("ScalingActive", False, "ScalingDisabled", text)
            return self._done(0)
        if self.current > self.high:
            return self._done(self.high, "Current number of replicas above Spec.MaxReplicas")
        if self.current < self.low:
            return self._done(self.low, "Current number of replicas below Spec.MinReplicas")
        best = max(self.proposals, key=lambda p: p.replicas, default=None)
        if best is None or (self.faults and best.replicas < self.current):
            # Without all metrics nothing is taken away: the missing one might be the one that needs it.
            return self._unable(self.faults[0])
        text = f"the HPA was able to successfully calculate a replica count from {best.name}"
        self._set("ScalingActive", True, "ValidMetricFound", text)
        if self.owner["spec"].get("behavior") is None:
            wanted = self._limit_simply(self._stabilise_simply(best.replicas))
        else:
            wanted = self._limit(self._stabilise(best.replicas))
        why = f"{best.name} above target" if best.replicas > self.current else ""
        return self._done(wanted, "All metrics below target" if best.replicas < self.current else why)

    def _unable(self, first: MetricFault) -> Plan:
        """No metric counts."""
        if first.reason in SELECTOR_FAULTS:
            self._set("ScalingActive", False, "InvalidSelector" if first.brief else first.reason, str(first))
            failure = first.brief or str(first)
        else:
            self._set("ScalingActive", False, first.reason, f"the HPA was unable to compute the replica count: {first}")
            bad, all_ = len(self.faults), len(self.faults) + len(self.proposals)
            failure = f"invalid metrics ({bad} invalid out of {all_}), first error is: {_whole(first)}"
        out = self._done(self.current)
        out.failure = failure
        return out

    def _stabilise_simply(self, wanted: int) -> int:
        recent = [n for at, n in self.memory.recommendations if at >= self.moment - DOWNSCALE_WINDOW]
        steady = max([wanted, *recent])
        if steady != wanted:
            text = "recent recommendations were higher than current one, applying the highest recent recommendation"
            self._set("AbleToScale", True, "ScaleDownStabilized", text)
        else:
            self._set("AbleToScale", True, "ReadyForNewScale", "recommended size matches current size")
        return steady

    def _limit_simply(self, wanted: int) -> int:
        most, reason = self.high, "TooManyReplicas"
        text = "the desired replica count is more than the maximum replica count"
        before = self.current - self._added(SYNC)
        if (rate := max(2 * before, 4, self.current)) < most:
            most, reason = rate, "ScaleUpLimit"
            text = "the desired replica count is increasing faster than the maximum scale rate"
        if wanted < self.low:
            text = "the desired replica count is less than the minimum replica count"
            self._set("ScalingLimited", True, "TooFewReplicas", text)
            return self.low
        if wanted > most:
            self._set("ScalingLimited", True, reason, text)
            return most
        self._set("ScalingLimited", False, "DesiredWithinRange", "the desired count is within the acceptable range")
        return wanted

    def _stabilise(self, wanted: int) -> int:
        """The smallest recommendation of the window when going up, the largest when going down."""
        recent = self.memory.recommendations
        up, down = (self.moment - rules(self.owner, d)["stabilizationWindowSeconds"] for d in ("scaleUp", "scaleDown"))
        least = min([wanted, *(n for at, n in recent if at > up)])
        most = max([wanted, *(n for at, n in recent if at > down)])
        steady = min(max(self.current, least), most)
        if steady > wanted:
            text = "recent recommendations were higher than current one, applying the highest recent recommendation"
            self._set("AbleToScale", True, "ScaleDownStabilized", text)
        elif steady < wanted:
            text = "recent recommendations were lower than current one, applying the lowest recent recommendation"
            self._set("AbleToScale", True, "ScaleUpStabilized", text)
        else:
            self._set("AbleToScale", True, "ReadyForNewScale", "recommended size matches current size")
        return steady

    def _limit(self, wanted: int) -> int:
        if wanted > self.current:
            rate = max(self.current, self._bound("scaleUp"))
            most, reason, text = (
                self.high,
                "TooManyReplicas",
                "the desired replica count is more than the maximum replica count",
            )
            if rate < most:
                most, reason = rate, "ScaleUpLimit"
                text = "the desired replica count is increasing faster than the maximum scale rate"
            if wanted > most:
                self._set("ScalingLimited", True, reason, text)
                return most
        elif wanted < self.current:
            rate = min(self.current, self._bound("scaleDown"))
            least, reason, text = (
                self.low,
                "TooFewReplicas",
                "the desired replica count is less than the minimum replica count",
            )
            if rate > least:
                least, reason = rate, "ScaleDownLimit"
                text = "the desired replica count is decreasing faster than the maximum scale rate"
            if wanted < least:
                self._set("ScalingLimited", True, reason, text)
                return least
        self._set("ScalingLimited", False, "DesiredWithinRange", "the desired count is within the acceptable range")
        return wanted

    def _bound(self, direction: str) -> int:
        """How far the policies let the size go now."""
        given = rules(self.owner, direction)
        if given["selectPolicy"] == "Disabled":
            return self.current
        up = direction == "scaleUp"
        bounds = []
        for policy in given["policies"]:
            start = self.current - self._added(policy["periodSeconds"])
            if policy["type"] == "Pods":
                bounds.append(start + policy["value"] if up else start - policy["value"])
            elif up:
                bounds.append(math.ceil(round(start * (1 + policy["value"] / 100), 9)))
            else:
                bounds.append(int(start * (1 - policy["value"] / 100)))
        widest = given["selectPolicy"] == "Max"
        return int((max if up == widest else min)(bounds))

    def _added(self, seconds: float) -> int:
        """Replicas that were added lately, less those that were removed."""
        return sum(n for at, n in self.memory.changes if at > self.moment - seconds)

    def _set(self, type_: str, true: bool, reason: str, message: str) -> None:
        self.conditions = conditions.put(self.conditions, type_, "True" if true else "False", reason, message, self.now)

    def _done(self, wanted: int, reason: str = "") -> Plan:
        old = self.owner.get("status") or {}
        status: Object = {
            "currentReplicas": self.current,
            "desiredReplicas": wanted,
            "currentMetrics": [p.status for p in self.proposals],
        }
        if old.get("lastScaleTime"):
            status["lastScaleTime"] = old["lastScaleTime"]
        if wanted != self.current:
            text = f"the HPA controller was able to update the target scale to {wanted}"
            self._set("AbleToScale", True, "SucceededRescale", text)
            status["lastScaleTime"] = rfc3339(self.now)
        status["conditions"] = self.conditions
        if generation := self.owner["metadata"].get("generation"):
            status["observedGeneration"] = generation
        return Plan(wanted, status, reason if wanted != self.current else "", self.faults)


def _whole(fault: MetricFault) -> str:
    return f"failed to get {fault.metric} value: {fault}" if fault.metric else str(fault)
