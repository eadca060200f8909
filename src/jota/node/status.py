"""What the API shows of a pod: spec, Observed, Facts and the plan's waiting reasons in, a whole `status` out. Pure.

The spec is that of the pod as allocated (allocation.py). The rules are the kubelet's (pkg/kubelet: getPhase, status generation,
conditions). Fields written by others (conditions of readiness gates, DisruptionTarget, nominatedNodeName...) are carried over.
Next: writer.py sends it when it differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from jota.aio.clock import rfc3339
from jota.meta.quantity import Quantity
from jota.node.model import RESOURCES, Facts, Object, Observed, Part, Resizing, Verdict, parts
from jota.node.plan import Plan, restarts, should_restart, started, unsized
from jota.node.resources import COMPUTE, SIDES, pod_amounts
from jota.runtime.protocol import Container

OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
DISRUPTION, TERMINATION = "DisruptionTarget", "TerminationByKubelet"
"""A condition that others write, too, with other reasons."""
PENDING, PROGRESS = "PodResizePending", "PodResizeInProgress"
BYTES = ("memory", "ephemeral-storage")
PASSING_CONDITIONS = (PENDING, PROGRESS)
"""Conditions of the node that come and go."""
SECTIONS = {
    "init": "initContainerStatuses",
    "sidecar": "initContainerStatuses",
    "app": "containerStatuses",
    "ephemeral": "ephemeralContainerStatuses",
}
ENDS = ("Failed", "Succeeded")
ID_PREFIX = "jota://"
LOST = "The container could not be located when the pod was terminated"


def build(pod: Object, seen: Observed, facts: Facts, plan: Plan, *, host_ip: str, now: float) -> Object:
    """The pod's status at `now` (epoch seconds)."""
    old: Object = pod.get("status") or {}
    verdict = facts.verdict or plan.verdict
    out = {k: v for k, v in old.items() if k not in ("message", "reason", *set(SECTIONS.values()))}
    rejected = verdict is not None and not seen.containers and not seen.sandboxes and not old.get("containerStatuses")
    if not rejected:
        for p in parts(pod):
            section = out.setdefault(SECTIONS[p.role], [])
            if not isinstance(section, list):
                raise TypeError(f"status.{SECTIONS[p.role]} is not a list")
            section.append(container_status(pod, p, seen, facts, plan, old))
    gone = facts.torn_down or (plan.terminal and ("deletionTimestamp" in pod["metadata"] or verdict is not None))
    out["phase"] = _settled(old, phase(pod, out, gone, verdict))
    if verdict is not None:
        out["reason"], out["message"] = verdict.reason, verdict.message
    elif old.get("phase") in ENDS:
        out.update({k: old[k] for k in ("reason", "message") if k in old})
    _addresses(pod, out, seen, host_ip, facts, rejected)
    out["conditions"] = conditions(pod, out, seen, facts, now)
    if out["phase"] in ENDS and old.get("phase") not in ENDS and any(c.state == "running" for c in seen.containers):
        # Others take what an ended pod had: it has not ended while its containers do (kubelet: mergePodStatus).
        so_far = phase(pod, out, False, None)
        out["phase"] = "Running" if so_far in ENDS else so_far
        out.pop("reason", None), out.pop("message", None)
    elif verdict is not None and verdict.disrupts and old.get("phase") not in ENDS:
        others = [c for c in out["conditions"] if c["type"] != DISRUPTION]
        why = _condition(DISRUPTION, True, TERMINATION, verdict.message, None, pod, now)
        out["conditions"] = [*others, why]  # with the end, and not before: as the kubelet's status manager sends it
    _whole(pod, out, seen)
    if generation := pod["metadata"].get("generation"):
        out["observedGeneration"] = generation
    return out


def _settled(old: Object, new: str) -> str:
    """A terminal phase is for good."""
    before = old.get("phase", "")
    return before if before in ENDS else new


def _addresses(pod: Object, out: Object, seen: Observed, host_ip: str, facts: Facts, rejected: bool) -> None:
    if facts.start_time and "startTime" not in out:
        out["startTime"] = rfc3339(facts.start_time)
    if rejected:
        return
    out["hostIP"], out["hostIPs"] = host_ip, [{"ip": host_ip}]
    ip = seen.ip
    if pod["spec"].get("hostNetwork"):
        ip = host_ip if seen.sandboxes or seen.containers else out.get("podIP", "")
    if ip:
        out["podIP"], out["podIPs"] = ip, [{"ip": ip}]


def _whole(pod: Object, out: Object, seen: Observed) -> None:
    """The same of the pod, where it has resources of its own."""
    own = pod["spec"].get("resources")
    if not own:
        return
    box = seen.sandbox()
    text = box.spec.labels.get(RESOURCES, "") if box is not None else ""
    asked = pod_amounts(pod, "requests")
    out["allocatedResources"] = {
        n: str(Quantity(v, "BinarySI" if n in BYTES else "DecimalSI")) for n, v in asked.items()
    }
    out["resources"] = orjson.loads(text) if text else {k: v for k, v in own.items() if k in SIDES}


# -- one container


def container_status(pod: Object, p: Part, seen: Observed, facts: Facts, plan: Plan, old: Object) -> Object:
    attempts = seen.of(p.name)
    c = attempts[0] if attempts else None
    before = _old_status(old, p)
    out: Object = {
        "name": p.name,
        "state": {},
        "lastState": _last_state(attempts[1] if len(attempts) > 1 else None, before, c, facts),
        "ready": False,
        "restartCount": c.attempt if c else int(before.get("restartCount", 0)),
        "image": p.spec.get("image", ""),
        "imageID": c.image_ref if c and c.state != "created" else before.get("imageID", ""),
        "started": False,
    }
    if c is not None and c.state != "created":  # one that never ran is not told: it counts as no attempt
        out["containerID"] = ID_PREFIX + c.id
    elif before.get("containerID"):
        out["containerID"] = before["containerID"]
    if c is None or c.state == "created":
        _not_made(pod, p, plan, before, seen, facts, out)
    elif c.state == "running":
        out["state"] = {"running": {"startedAt": rfc3339(c.started_at)}}
        out["started"] = started(p, c, facts)
        out["ready"] = bool(out["started"]) and is_ready(p, c, facts)
    else:
        _ended(pod, p, c, facts, plan, out)
    if p.role == "init":
        out["ready"] = c is not None and c.state == "exited" and c.exit_code == 0
    _resources(pod, p, c, out)
    return out


def is_ready(p: Part, c: Container, facts: Facts) -> bool:
    return not p.spec.get("readinessProbe") or facts.probes.get((c.id, "readiness")) is True


def _resources(pod: Object, p: Part, c: Container | None, out: Object) -> None:
    """What is allocated to the container and, while it runs, what it has; of one that was never made nothing. Clients that
    resize compare both with the spec."""
    if c is None or c.state == "created":
        return
    wanted = {k: v for k, v in (p.spec.get("resources") or {}).items() if k in SIDES}
    if requests := wanted.get("requests"):
        out["allocatedResources"] = requests
    if c.state != "running" or not unsized(pod, p, c):
        out["resources"] = wanted
        return
    has = orjson.loads(c.labels[RESOURCES])
    out["resources"] = {k: shown for k, v in wanted.items() if (shown := _actual(v, has.get(k) or {}))}


def _actual(wanted: Object, has: Object) -> Object:
    """cpu and memory as they are, everything else as allocated."""
    return {n: has[n] if n in COMPUTE else v for n, v in wanted.items() if n in has or n not in COMPUTE}


def _old_status(old: Object, p: Part) -> Object:
    found: Object = next((s for s in old.get(SECTIONS[p.role]) or [] if s["name"] == p.name), {})
    return found


def _last_state(previous: Container | None, before: Object, c: Container | None, facts: Facts) -> Object:
    if previous is not None and previous.state in ("exited", "unknown"):
        return {"terminated": terminated(previous, facts)}
    same = c is not None and before.get("containerID") == ID_PREFIX + c.id
    if not same and (ended := before.get("state", {}).get("terminated")):
        return {"terminated": ended}
    last: Object = before.get("lastState") or {}
    return last


def _not_made(pod: Object, p: Part, plan: Plan, before: Object, seen: Observed, facts: Facts, out: Object) -> None:
    """No container of this name exists: it waits, or it got lost, or it never will be."""
    state = before.get("state", {})
    if plan.terminal or facts.torn_down or facts.verdict is not None:
        if "terminated" in state:
            out["state"], out["lastState"] = state, before.get("lastState") or {}
            return
        if before.get("containerID") and "running" in state:
            out["state"] = {"terminated": _lost(before)}
            return
    elif "running" in state and not seen.of(p.name):
        out["lastState"] = {"terminated": _lost(before)}
    reason, message = plan.waiting.get(p.name, ("", ""))
    if not reason and (failure := facts.starts.get(p.name)):
        reason, message = failure.reason, failure.message
    if not reason:
        # of the init containers, too, whether or not their turn has come (kubelet's rule)
        reason = "PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating"
        for failed in (facts.volumes_failure, facts.sandbox_failure):
            message = message or (failed.message if failed else "")
    out["state"] = {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def _lost(before: Object) -> Object:
    return {
        "exitCode": 137,
        "reason": "ContainerStatusUnknown",
        "message": LOST,
        **({"containerID": before["containerID"]} if before.get("containerID") else {}),
    }


def _ended(pod: Object, p: Part, c: Container, facts: Facts, plan: Plan, out: Object) -> None:
    end = {"terminated": terminated(c, facts)}
    waiting = plan.waiting.get(p.name)
    stopping = plan.terminal or facts.stop is not None or facts.verdict is not None
    if waiting is not None and not stopping and should_restart(pod, p, c):
        reason, message = waiting
        out["state"] = {"waiting": {"reason": reason, "message": message}}
        out["lastState"] = end
    else:
        out["state"] = end


def terminated(c: Container, facts: Facts) -> Object:
    out: Object = {"exitCode": c.exit_code, "reason": c.reason or ("Completed" if c.exit_code == 0 else "Error")}
    if c.signal:
        out["signal"] = c.signal
    if message := facts.termination.get(c.id) or c.message:
        out["message"] = message
    if c.started_at:
        out["startedAt"] = rfc3339(c.started_at)
    out["finishedAt"] = rfc3339(c.finished_at or c.created_at)
    out["containerID"] = ID_PREFIX + c.id
    return out


# -- the pod


def phase(pod: Object, status: Object, gone: bool, verdict: Verdict | None) -> str:
    """Pending | Running | Succeeded | Failed from container statuses, as the kubelet's getPhase."""
    if verdict is not None:
        return verdict.phase
    by_name = {s["name"]: s for section in SECTIONS.values() for s in status.get(section) or []}
    todo = [(p, by_name[p.name]) for p in parts(pod) if p.name in by_name and p.role != "ephemeral"]
    pending, failed = _init_counts([(p, s) for p, s in todo if p.role != "app"])
    apps = [(p, s) for p, s in todo if p.role == "app"]
    running = sum("running" in s["state"] for _, s in apps)
    done = [(p, e) for p, s in apps if (e := _end(s)) is not None]
    waiting = len(apps) - running - len(done)
    good = sum(e["exitCode"] == 0 for _, e in done)
    if any(not restarts(pod, p, e["exitCode"]) for p, e in failed):
        return "Failed"
    if gone and not running:
        return "Succeeded" if apps and good == len(apps) else "Failed"
    if (pending or failed) and not running and not done:
        return "Pending"
    if waiting:
        return "Pending"
    if running:
        return "Running"
    if any("waiting" in s["state"] for _, s in apps) or any(restarts(pod, p, e["exitCode"]) for p, e in done):
        return "Running"
    return "Succeeded" if good == len(done) else "Failed"


def _init_counts(inits: list[tuple[Part, Object]]) -> tuple[int, list[tuple[Part, Object]]]:
    """(how many are not through, those that failed and how)"""
    pending = 0
    failed: list[tuple[Part, Object]] = []
    for p, s in inits:
        end = _end(s)
        if p.role == "sidecar":
            pending += not s.get("started") and end is None
        elif end is None:
            pending += 1
        elif end["exitCode"] != 0:
            failed.append((p, end))
    return pending, failed


def _end(s: Object) -> Object | None:
    """How the container ended, also when it waits to be restarted."""
    state: Object = s["state"]
    if "terminated" in state:
        ended: Object = state["terminated"]
        return ended
    last: Object | None = s.get("lastState", {}).get("terminated")
    return last if "waiting" in state else None


def conditions(pod: Object, status: Object, seen: Observed, facts: Facts, now: float) -> list[Object]:
    """The kubelet's own conditions, freshly judged, then those of others as they are."""
    old = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or []}
    ready = _ready_condition(pod, status, old)
    fresh: dict[str, tuple[bool, str, str]] = {
        "PodReadyToStartContainers": (_can_start(pod, seen, status), "", ""),
        "Initialized": _initialised(pod, status),
        "Ready": ready,
        "ContainersReady": _containers_ready(pod, status),
    }
    out = [_condition(name, *fresh[name], old.get(name), pod, now) for name in OWN_CONDITIONS if name in fresh]
    out.append(old.get("PodScheduled") or _condition("PodScheduled", True, "", "", None, pod, now))
    out += [c for name, c in old.items() if name not in OWN_CONDITIONS and name not in PASSING_CONDITIONS]
    if status["phase"] not in ENDS:
        out += [_resizing(name, r) for name, r in ((PENDING, facts.pending), (PROGRESS, facts.progress)) if r]
    return out


def _resizing(name: str, found: Resizing) -> Object:
    since = rfc3339(found.since)
    out: Object = {"type": name, "status": "True", "lastProbeTime": None, "lastTransitionTime": since}
    out.update({k: v for k, v in (("reason", found.reason), ("message", found.message)) if v})
    return {**out, "observedGeneration": found.generation}


def _can_start(pod: Object, seen: Observed, status: Object) -> bool:
    if status["phase"] in ENDS:
        return False
    return seen.sandbox() is not None and bool(seen.ip or pod["spec"].get("hostNetwork"))


def _initialised(pod: Object, status: Object) -> tuple[bool, str, str]:
    inits = [p for p in parts(pod) if p.role in ("init", "sidecar")]
    if not inits:
        return True, "", ""
    if status["phase"] == "Succeeded":
        return True, "PodCompleted", ""
    apps_made = any("waiting" not in s["state"] or s.get("lastState") for s in status.get("containerStatuses") or [])
    by_name = {s["name"]: s for s in status.get("initContainerStatuses") or []}
    bad = []
    for p in inits:
        s: Mapping[str, Any] = by_name.get(p.name, {})
        if not (s.get("started") or s.get("ready") if p.role == "sidecar" else s.get("ready")) and not apps_made:
            bad.append(p.name)
    if bad:
        return False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(bad)}]"
    return True, "", ""


def _containers_ready(pod: Object, status: Object) -> tuple[bool, str, str]:
    if status["phase"] == "Succeeded":
        return False, "PodCompleted", ""
    if status["phase"] == "Failed":
        return False, "PodFailed", ""
    by_name = {s["name"]: s for k in ("initContainerStatuses", "containerStatuses") for s in status.get(k) or []}
    judged = [p for p in parts(pod) if p.role in ("app", "sidecar")]
    unready = [p.name for p in judged if not by_name.get(p.name, {}).get("ready")]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""


def _ready_condition(pod: Object, status: Object, old: Mapping[str, Object]) -> tuple[bool, str, str]:
    good, reason, message = _containers_ready(pod, status)
    if not good:
        return good, reason, message
    problems = []
    for gate in pod["spec"].get("readinessGates") or []:
        name = gate["conditionType"]
        c = old.get(name)
        if c is None:
            problems.append(f'corresponding condition of pod readiness gate "{name}" does not exist.')
        elif c.get("status") != "True":
            problems.append(
                f'the status of pod readiness gate "{name}" is not "True", but {c.get("status", "Unknown")}'
            )
    if problems:
        return False, "ReadinessGatesNotReady", ", ".join(problems)
    return True, "", ""


def _condition(name: str, good: bool, reason: str, message: str, old: Object | None, pod: Object, now: float) -> Object:
    status = "True" if good else "False"
    out: Object = {"type": name, "status": status, "lastProbeTime": None}
    unchanged = old is not None and old.get("status") == status and old.get("lastTransitionTime")
    out["lastTransitionTime"] = old["lastTransitionTime"] if unchanged and old is not None else rfc3339(now)
    if reason:
        out["reason"] = reason
    if message:
        out["message"] = message
    if generation := pod["metadata"].get("generation"):
        out["observedGeneration"] = generation
    return out


def difference(old: Object, new: Object) -> Object | None:
    """A strategic merge patch of `status` that turns old into new; None when nothing changed.

    Only own conditions are sent, so that a condition which someone else wrote meanwhile is not undone.
    """
    out: Object = {k: None for k in old if k not in new}
    for key, value in new.items():
        if old.get(key) == value:
            continue
        if key == "conditions":
            held = {c["type"]: c for c in old.get("conditions") or []}
            own = (*OWN_CONDITIONS, *PASSING_CONDITIONS)
            changed = [
                {**dict.fromkeys(was.keys() - c.keys()), **c}  # a reason that is gone must be taken away by name
                for c in value
                if (c["type"] in own or c.get("reason") == TERMINATION) and (was := held.get(c["type"], {})) != c
            ]
            gone = {*PASSING_CONDITIONS} & held.keys() - {c["type"] for c in value}
            changed += [{"$patch": "delete", "type": name} for name in sorted(gone)]
            if changed:
                out[key] = changed
        elif key in ("podIPs", "hostIPs") and old.get(key):
            out[key] = [{"$patch": "replace"}, *value]
        else:
            out[key] = value
    return out or None
