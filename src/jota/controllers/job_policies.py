"""What a Job's policies say about a pod that failed, and about the indexes that succeeded. Pure.

In: `spec.podFailurePolicy` and a pod, or `spec.successPolicy` and indexes. Out: an action and why. Next: job_plan.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jota.controllers import job_indexes
from jota.controllers.views import Pod

Object = dict[str, Any]


class Verdict(NamedTuple):
    """`action`: Count (also when no rule matches), Ignore, FailIndex or FailJob; `message` for FailJob."""

    action: str
    message: str = ""


COUNT = Verdict("Count")


def judge(job: Object, pod: Pod) -> Verdict:
    """The first rule that matches a failed pod decides."""
    rules = (job["spec"].get("podFailurePolicy") or {}).get("rules") or ()
    for n, rule in enumerate(rules):
        action = rule.get("action", "Count")
        if action == "FailIndex" and job["spec"].get("backoffLimitPerIndex") is None:
            continue
        why = _exit_code(rule.get("onExitCodes"), pod) or _condition(rule.get("onPodConditions"), pod)
        if why:
            return Verdict(action, f"{why} matching {action} rule at index {n}")
    return COUNT


def _exit_code(wanted: Object | None, pod: Pod) -> str:
    if not wanted:
        return ""
    values, inside = wanted.get("values") or (), wanted.get("operator") == "In"
    only = wanted.get("containerName")
    for status in (*(pod.status.containerStatuses or ()), *(pod.status.initContainerStatuses or ())):
        ended = status.state.terminated if status.state is not None else None
        if ended is None or ended.exitCode == 0 or (only and status.name != only):
            continue
        if (ended.exitCode in values) == inside:
            return f"Container {status.name} for pod {pod.key} failed with exit code {ended.exitCode}"
    return ""


def _condition(patterns: list[Object] | None, pod: Pod) -> str:
    for pattern in patterns or ():
        for condition in pod.status.conditions or ():
            if (condition.type, condition.status) == (pattern.get("type"), pattern.get("status") or "True"):
                return f"Pod {pod.key} has condition {condition.type}"
    return ""


def success(job: Object, succeeded: set[int]) -> str:
    """Why the success policy is met; "" when it is not (or there is none)."""
    rules = (job["spec"].get("successPolicy") or {}).get("rules") or ()
    limit = job["spec"].get("completions") or 0
    for n, rule in enumerate(rules):
        wanted, needed = rule.get("succeededIndexes"), rule.get("succeededCount")
        named = job_indexes.parse(wanted, limit) if wanted else None
        have = succeeded if named is None else succeeded & named
        enough = needed if needed is not None else len(named) if named is not None else 0
        if enough and len(have) >= enough:
            return f"Matched rules at index {n}"
    return ""
