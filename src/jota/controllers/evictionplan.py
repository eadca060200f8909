"""What should become of a pod that EvictionRequests are about: decided, not done. evictionrequest.py carries it out.

One Eviction at a time goes through its responders, the most important first: Inactive -> Active -> Completed, Interrupted
(nothing heard for 20 minutes) or Canceled. The pod's going ends it well, the last responder's end or the withdrawal of all
requests ends it badly; then a request that stands begins a new one. Upstream: pkg/controller/evictionrequest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jota.aio.clock import rfc3339
from jota.kinds.common import moment
from jota.kinds.lifecycle.participants import IMPERATIVE, IMPERATIVE_PRIORITY
from jota.kinds.shape import part, parts, text
from jota.meta import conditions

Object = dict[str, Any]
HEARTBEAT = 1200.0
"""Seconds that an active responder may be silent."""
GRACE = 30.0
"""Seconds that an active responder has to report its end after the pod has gone."""
MOST_REQUESTERS = 100
LONGEST_NAME = 253
OVER = ("Completed", "Interrupted", "Canceled")
INVALID = "EvictionInvalid"


@dataclass(slots=True)
class Target:
    """The pod as far as it matters; `found`: a pod of that name is there, whichever it is."""

    name: str
    uid: str
    found: bool = False
    found_uid: str = ""
    terminal: bool = False
    grouped: bool = False
    ended: float | None = None
    """When it was first seen to be gone or finished, in epoch seconds."""
    responders: tuple[tuple[str, int], ...] = ()

    @property
    def gone(self) -> bool:
        return self.found_uid != self.uid


@dataclass(slots=True)
class Plan:
    create: Object | None = None
    metadata: dict[str, Object] = field(default_factory=dict)
    """Eviction's name -> labels and ownerReferences that it should have."""
    evictions: dict[str, Object] = field(default_factory=dict)
    """Eviction's name -> what of its status is ours."""
    requests: dict[str, Object] = field(default_factory=dict)
    """Request's name -> status."""
    again: float | None = None
    """Seconds after which to look again."""


def plan(
    target: Target, requests: Sequence[Object], evictions: Sequence[Object], taken: Iterable[str], now: float
) -> Plan:
    """`requests`, `evictions`: all of the target; `taken`: names of all Evictions of the namespace."""
    found = Plan()
    relevant = _relevant(evictions)
    for eviction in evictions:
        name = eviction["metadata"]["name"]
        if (meta := _metadata(eviction, target, requests)) is not None:
            found.metadata[name] = meta
        if not _over(eviction):
            _look_at(eviction, target, requests, eviction is not relevant, now, found)
    wanted = any(_standing(r) for r in requests)
    for request in requests:
        if not _settled(request):
            found.requests[request["metadata"]["name"]] = _request_status(
                request, target, relevant, bool(evictions), now
            )
    invalid = _problem(target, bool(evictions))
    if wanted and not invalid and not target.gone and (relevant is None or _is(relevant, "Failed")):
        found.create = _new(target, requests, taken)
    return found


# -- conditions


def _is(obj: Object, kind: str) -> bool:
    return conditions.is_true(parts(part(obj, "status"), "conditions"), kind)


def _over(eviction: Object) -> bool:
    return _is(eviction, "TargetEvicted") or _is(eviction, "Failed")


def _settled(request: Object) -> bool:
    failed = conditions.find(parts(part(request, "status"), "conditions"), "Failed")
    invalid = failed is not None and failed.get("status") == "True" and failed.get("reason") == INVALID
    return invalid or _is(request, "TargetEvicted")


def _standing(request: Object) -> bool:
    withdrawn = "deletionTimestamp" in request["metadata"] or request["spec"].get("intent") != "Eviction"
    return not withdrawn


def _conditions(obj: Object, now: float, failed: tuple[str, str, str], evicted: tuple[str, str, str]) -> list[Object]:
    """Each (status, reason, message)."""
    have: list[Object] | None = parts(part(obj, "status"), "conditions")
    for kind, (status, reason, message) in (("Failed", failed), ("TargetEvicted", evicted)):
        have = conditions.set(have, kind, status, now=rfc3339(now), reason=reason, message=message)
    return [{"message": "", **c} for c in have or () if c.get("type") in ("Failed", "TargetEvicted")]


def _problem(target: Target, has_evictions: bool) -> str:
    if not has_evictions and not target.found:
        return "Target pod not found."
    if not has_evictions and target.gone:
        return f"Target pod UID mismatch: expected {target.uid}, got {target.found_uid}."
    if target.grouped and not target.gone:
        return "Target pod references a SchedulingGroup. Eviction is currently not supported."
    return ""


def _request_status(request: Object, target: Target, relevant: Object | None, has: bool, now: float) -> Object:
    status: Object = {"observedGeneration": request["metadata"].get("generation", 1)}
    problem = _problem(target, has)
    if problem:
        failed, evicted = ("True", INVALID, problem), ("False", "EvictionFailed", "")
        return {**status, "conditions": _conditions(request, now, failed, evicted)}
    told = parts(part(relevant or {}, "status"), "conditions")
    pair = []
    for kind in ("Failed", "TargetEvicted"):
        known = conditions.find(told, kind)
        if known is None:
            pair.append(("False", "AwaitingEviction", "waiting for an Eviction to report on progress"))
        else:
            pair.append((str(known["status"]), str(known.get("reason", "")), str(known.get("message", ""))))
    return {**status, "conditions": _conditions(request, now, pair[0], pair[1])}


# -- one eviction


def _look_at(
    eviction: Object, target: Target, requests: Sequence[Object], duplicate: bool, now: float, found: Plan
) -> None:
    name, generation = eviction["metadata"]["name"], eviction["metadata"].get("generation", 1)
    problem = "Active Eviction already exists for the same target." if duplicate else ""
    problem = problem or (_problem(target, True))
    if problem:
        failed, evicted = ("True", INVALID, problem), ("False", "EvictionFailed", "")
        found.evictions[name] = {
            "observedGeneration": generation,
            "conditions": _conditions(eviction, now, failed, evicted),
        }
        return
    status = part(eviction, "status")
    ended, canceled = target.gone or target.terminal, not any(_standing(r) for r in requests)
    responders = in_order(parts(status, "targetResponders") or _responders(target))
    reports = {text(r, "name"): r for r in parts(status, "responders")}
    active = next((r for r in responders if r["state"] == "Active"), None)
    patience = _patience(reports.get(active["name"]) if active else None, target, now) if ended else 0.0
    done = bool(responders) and responders[-1]["state"] in OVER
    again = None if done else _progress(responders, reports, ended, canceled, patience, now)
    found.again = _sooner(found.again, patience if ended and patience > 0 else again)
    found.evictions[name] = {
        "observedGeneration": generation,
        "requesters": _requesters(status, requests),
        "targetResponders": responders,
        "responders": [_begun(r, reports.get(r["name"]), now) for r in responders],
        "conditions": _outcome(eviction, target, ended and patience <= 0, canceled and not ended, done, now),
    }


def _outcome(eviction: Object, target: Target, ended: bool, canceled: bool, done: bool, now: float) -> list[Object]:
    waiting = ("False", "AwaitingEviction", "")
    failed, evicted = waiting, waiting
    if ended:
        gone = ("True", "PodDeleted", "Target pod has been deleted.")
        evicted = gone if target.gone else ("True", "PodTerminal", "Pod has reached terminal state.")
        failed = ("False", "Succeeded", "")
    elif canceled:
        failed = ("True", "CanceledDueToNoRequesters", "No active requesters with eviction intent.")
    elif done:
        failed = ("True", "NoFurtherResponder", "All responders have completed without evicting the target.")
    if failed[0] == "True":
        evicted = ("False", "EvictionFailed", "")
    return _conditions(eviction, now, failed, evicted)


def _progress(
    responders: list[Object], reports: dict[str, Object], ended: bool, canceled: bool, patience: float, now: float
) -> float | None:
    """Move on, in place. Seconds after which the active one has been silent for too long."""
    at = next((i for i, r in enumerate(responders) if r["state"] == "Active"), None)
    if ended or canceled:
        if at is not None and ended and reports.get(responders[at]["name"], {}).get("completionTime"):
            responders[at]["state"] = "Completed"
        elif at is not None and not (ended and patience > 0):
            responders[at]["state"] = "Interrupted" if ended else "Canceled"
        return None
    if at is None:
        at = next((i for i, r in enumerate(responders) if r["state"] == "Inactive"), None)
    if at is None:
        return None
    state, left = _state(reports.get(responders[at]["name"]), now)
    responders[at]["state"] = state
    if state != "Active" and at + 1 < len(responders):
        responders[at + 1]["state"] = "Active"
        return HEARTBEAT
    return left if state == "Active" else 0.0


def _state(report: Object | None, now: float) -> tuple[str, float]:
    """(the state of who is or becomes active, seconds that it may still be silent)."""
    if report is None:
        return "Active", HEARTBEAT
    if report.get("completionTime"):
        return "Completed", 0.0
    heard = moment(report.get("heartbeatTime")) or moment(report.get("startTime")) or now
    left = heard + HEARTBEAT - now
    return ("Active", left) if left > 0 else ("Interrupted", 0.0)


def _patience(report: Object | None, target: Target, now: float) -> float:
    """Seconds that a responder has to tell how it ended."""
    if report is None or report.get("completionTime") or target.ended is None:
        return 0.0
    return target.ended + GRACE - now


def _begun(responder: Object, report: Object | None, now: float) -> Object:
    """What of a responder's report is ours: that it is there, and when it began."""
    began = (report or {}).get("startTime") or (rfc3339(now) if responder["state"] == "Active" else None)
    return {"name": responder["name"], **({"startTime": began} if began else {})}


def _responders(target: Target) -> list[Object]:
    """Of a pod that is gone nobody has to take care."""
    if target.gone:
        return []
    named = (*target.responders, (IMPERATIVE, IMPERATIVE_PRIORITY))
    return [{"name": n, "priority": p, "state": "Inactive"} for n, p in named]


def in_order(responders: Iterable[Object]) -> list[Object]:
    """The most important first; then by domain from its top label down, then by key. Copies."""

    def order(responder: Object) -> Any:
        domain, _, key = responder["name"].partition("/")
        return -int(responder.get("priority") or 0), domain.split(".")[::-1], key

    return [dict(r) for r in sorted(responders, key=order)]


def _requesters(status: Object, requests: Sequence[Object]) -> list[Object]:
    """Those of requests that stand first, then the withdrawn, then those whose requests are gone."""

    def order(request: Object) -> Any:
        meta = request["metadata"]
        return not _standing(request), meta.get("creationTimestamp", ""), request["spec"].get("requester", "")

    found: dict[str, str] = {}
    for request in sorted(requests, key=order):
        intent = "Eviction" if _standing(request) else "Withdrawn"
        found.setdefault(request["spec"]["requester"], intent)
    for old in parts(status, "requesters"):
        found.setdefault(text(old, "name"), "Withdrawn")
    return [{"name": n, "intent": i} for n, i in list(found.items())[:MOST_REQUESTERS]]


# -- all evictions of a target


def _relevant(evictions: Sequence[Object]) -> Object | None:
    """One that succeeded, else the oldest that is at work, else the latest that failed."""

    def since(eviction: Object, kind: str) -> str:
        found = conditions.find(parts(part(eviction, "status"), "conditions"), kind)
        return text(found or {}, "lastTransitionTime")

    good = [e for e in evictions if _is(e, "TargetEvicted")]
    if good:
        return max(good, key=lambda e: since(e, "TargetEvicted"))
    active = [e for e in evictions if not _is(e, "Failed")]
    if active:
        return min(active, key=lambda e: (e["metadata"].get("creationTimestamp", ""), e["metadata"]["name"]))
    return max(evictions, key=lambda e: since(e, "Failed"), default=None)


def _new(target: Target, requests: Sequence[Object], taken: Iterable[str]) -> Object:
    """Named pod-<n>-<pod>, with the first number that is free above all that were used."""
    last = 0
    for name in taken:
        kind, _, rest = name.partition("-")
        number, _, of = rest.partition("-")
        fits = of == target.name or (len(name) == LONGEST_NAME and target.name.startswith(of))
        if kind == "pod" and number.isdecimal() and fits:
            last = max(last, int(number))
    return {
        "metadata": {
            "name": f"pod-{last + 1}-{target.name}"[:LONGEST_NAME],
            "labels": _labels({}, target, requests),
            "ownerReferences": _owners([], requests),
        },
        "spec": {"target": {"pod": {"name": target.name, "uid": target.uid}}},
    }


def _metadata(eviction: Object, target: Target, requests: Sequence[Object]) -> Object | None:
    meta = eviction["metadata"]
    have, owners = meta.get("labels") or {}, meta.get("ownerReferences") or []
    labels, refs = _labels(have, target, requests), _owners(owners, requests)
    stale = any(v == "requester" and k not in labels for k, v in have.items())
    if not stale and all(have.get(k) == v for k, v in labels.items()) and refs == owners:
        return None
    return {"labels": labels, "ownerReferences": refs}


def _labels(have: dict[str, str], target: Target, requests: Sequence[Object]) -> dict[str, str]:
    """Participant -> its role, so that participants can select their evictions."""
    found = {r["spec"]["requester"]: "requester" for r in requests}
    if target.gone:
        responders = {k for k, v in have.items() if v in ("responder", "requester-responder")}
    else:
        responders = {*(n for n, _ in target.responders), IMPERATIVE}
    return found | {n: "requester-responder" if n in found else "responder" for n in responders}


def _owners(have: list[Object], requests: Sequence[Object]) -> list[Object]:
    """Those that are there stay: to take them away is the garbage collector's."""
    known = {ref.get("uid") for ref in have}
    new = [
        {"apiVersion": "lifecycle.k8s.io/v1alpha1", "kind": "EvictionRequest", "name": m["name"], "uid": m["uid"]}
        for m in (r["metadata"] for r in requests)
        if m["uid"] not in known and "deletionTimestamp" not in m
    ]
    return [*have, *new]


def _sooner(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
