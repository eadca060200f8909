"""Why a pod does not run, or is not ready: from its deletion over scheduling, images, configuration and crashes to probes."""

from __future__ import annotations

import re

from jota.aio.clock import parse_rfc3339
from jota.meta.resource import CONFIGMAPS, NODES, PODS, SECRETS, Resource
from jota.why import others
from jota.why.finding import Finding, Object, nearest, subject
from jota.why.scheduling import misses
from jota.why.world import World

CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
_CONFIG = {"CreateContainerConfigError", "CreateContainerError"}
_LAST_LINE = "last log line: "
"""How the node's CrashLoopBackOff message introduces it (node/status.py)."""
_ABSENT = re.compile(r'(configmap|secret) "([^"]+)" not found')


async def explain(world: World, pod: Object) -> list[Finding]:
    if pod["metadata"].get("deletionTimestamp"):
        return await _terminating(world, pod)
    phase = pod.get("status", {}).get("phase", "Pending")
    if phase == "Failed":
        status = pod["status"]
        facts = {"reason": status.get("reason", ""), "message": status.get("message", "")}
        return [Finding(subject(pod, "Pod"), "failed", facts), *_ended(pod)]
    if phase == "Succeeded":
        return [Finding(subject(pod, "Pod"), "healthy", {"state": "Succeeded"}, "good")]
    if not pod["spec"].get("nodeName"):
        return await _unscheduled(world, pod)
    return await _on_node(world, pod)


def is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions") or ())


async def _terminating(world: World, pod: Object) -> list[Finding]:
    meta, about = pod["metadata"], subject(pod, "Pod")
    if meta.get("finalizers"):
        return [Finding(about, "terminating-finalizers", {"finalizers": ", ".join(meta["finalizers"])})]
    left = parse_rfc3339(meta["deletionTimestamp"]) - world.now
    if left > 0:
        return [Finding(about, "terminating-grace", {"seconds": int(left)}, "wait")]
    node = pod["spec"].get("nodeName", "")
    return [Finding(about, "terminating-node", {"node": node, "name": meta["name"]}), *await _node(world, node)]


async def _unscheduled(world: World, pod: Object) -> list[Finding]:
    about, spec = subject(pod, "Pod"), pod["spec"]
    if spec.get("schedulingGates"):
        return [Finding(about, "gated", {"gates": ", ".join(g["name"] for g in spec["schedulingGates"])}, "wait")]
    condition = _condition(pod, "PodScheduled")
    if condition is None or not condition.get("message"):
        return [Finding(about, "unscheduled-quiet", {"scheduler": spec.get("schedulerName", "")}, "wait")]
    found = [Finding(about, "unscheduled", {"message": condition["message"]}), *await _claims(world, pod)]
    return found + misses(pod, await world.list(NODES), await world.list(PODS, ""))


async def _claims(world: World, pod: Object) -> list[Finding]:
    """What is the matter with the claims that it names; those that wait for it are well."""
    found: list[Finding] = []
    for volume in pod["spec"].get("volumes") or ():
        name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if not name:
            continue
        one = await world.get(CLAIMS, name)
        if one is not None:
            found += [f for f in await others.claim(world, one) if f.level not in ("good", "wait")]
            continue
        near = nearest(name, [c["metadata"]["name"] for c in await world.list(CLAIMS)])
        facts = {"name": name, "near": near}
        found.append(Finding(subject(pod, "Pod"), "claim-absent-near" if near else "claim-absent", facts))
    return found


async def _on_node(world: World, pod: Object) -> list[Finding]:
    down = await _node(world, pod["spec"]["nodeName"])
    if down:
        return down
    status = pod.get("status", {})
    found: list[Finding] = []
    for entry in status.get("initContainerStatuses") or ():
        problem = await _container(world, pod, entry)
        if problem:
            return [Finding(subject(pod, "Pod"), "init", {"container": entry["name"]}), *problem]
    for entry in status.get("containerStatuses") or ():
        found += await _container(world, pod, entry)
    if found:
        return found
    if is_ready(pod):
        return [Finding(subject(pod, "Pod"), "healthy", {"state": "Running, Ready"}, "good")]
    return await _waiting(world, pod)


async def _waiting(world: World, pod: Object) -> list[Finding]:
    """On its node, nothing wrong in the container statuses: the events know more."""
    about = subject(pod, "Pod")
    causes = (
        ("volume", ("FailedMount", "FailedAttachVolume")),
        ("devices", ("FailedPrepareDynamicResources",)),
        ("sandbox", ("FailedCreatePodSandBox",)),
    )
    for code, reasons in causes:
        event = await world.last_event(pod, *reasons)
        if event is not None:
            message = event.get("message", "")
            return [Finding(about, code, {"message": message}), *await _named_in(world, about, message)]
    return [Finding(about, "starting", {"container": "*", "reason": pod.get("status", {}).get("phase", "")}, "wait")]


async def _container(world: World, pod: Object, entry: Object) -> list[Finding]:
    about, name, state = subject(pod, "Pod"), entry["name"], entry.get("state") or {}
    waiting = state.get("waiting")
    if waiting:
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _IMAGE:
            return _image(pod, name, entry, reason, message)
        if reason in _CONFIG:
            said = Finding(about, "config", {"container": name, "message": message})
            return [said, *await _named_in(world, about, message)]
        if reason == "CrashLoopBackOff" or (entry.get("lastState") or {}).get("terminated"):
            return await _crash(world, pod, entry)
        return (
            []
            if reason in ("ContainerCreating", "PodInitializing")
            else [Finding(about, "starting", {"container": name, "reason": reason}, "wait")]
        )
    ended = state.get("terminated")
    if ended and ended.get("exitCode"):
        return await _crash(world, pod, entry)
    if "running" in state and not entry.get("ready"):
        event = await world.last_event(pod, "Unhealthy")
        facts = {"container": name, "pod": pod["metadata"]["name"]}
        if event is None:
            return [Finding(about, "unready-quiet", facts)]
        return [Finding(about, "unready", {**facts, "message": event.get("message", "")})]
    return []


def _image(pod: Object, name: str, entry: Object, reason: str, message: str) -> list[Finding]:
    about = subject(pod, "Pod")
    found = [Finding(about, "image", {"container": name, "message": message or reason})]
    spec = next((c for c in _specs(pod) if c["name"] == name), {})
    found.append(Finding(about, "image-absent", {"image": spec.get("image", entry.get("image", ""))}))
    if spec.get("imagePullPolicy") == "Always":
        found.append(Finding(about, "image-always"))
    return found


async def _crash(world: World, pod: Object, entry: Object) -> list[Finding]:
    about, name = subject(pod, "Pod"), entry["name"]
    state, last = entry.get("state") or {}, entry.get("lastState") or {}
    ended = state.get("terminated") or last.get("terminated") or {}
    code = int(ended.get("exitCode", 1))
    if ended.get("reason") == "OOMKilled":
        spec = next((c for c in _specs(pod) if c["name"] == name), {})
        limit = ((spec.get("resources") or {}).get("limits") or {}).get("memory", "?")
        return [Finding(about, "oom", {"container": name, "limit": limit})]
    times = max(1, entry.get("restartCount", 0))
    facts = {"container": name, "times": times, "code": code, "meaning": code, "pod": pod["metadata"]["name"]}
    found = [Finding(about, "crash", facts)]
    words = ended.get("message") or (state.get("waiting") or {}).get("message", "")
    if words:
        line = words.strip().splitlines()[-1].rpartition(_LAST_LINE)[2]
        found.append(Finding(about, "said", {"line": line[:300]}))
    event = await world.last_event(pod, "Unhealthy")
    if event is not None and "iveness" in event.get("message", ""):
        found.append(Finding(about, "liveness", {"message": event["message"]}))
    return found


def _ended(pod: Object) -> list[Finding]:
    about, found = subject(pod, "Pod"), []
    for entry in pod.get("status", {}).get("containerStatuses") or ():
        ended = (entry.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            code = int(ended["exitCode"])
            facts = {
                "container": entry["name"],
                "times": 1,
                "code": code,
                "meaning": code,
                "pod": pod["metadata"]["name"],
            }
            found.append(Finding(about, "crash", facts))
    return found


async def _named_in(world: World, about: str, message: str) -> list[Finding]:
    """A ConfigMap or Secret that a message says is missing: is it, and is there one with nearly that name?"""
    match = _ABSENT.search(message)
    if match is None:
        return []
    kind, name = match.groups()
    resource: Resource = SECRETS if kind == "secret" else CONFIGMAPS
    names = [o["metadata"]["name"] for o in await world.list(resource)]
    near = nearest(name, names)
    facts = {"what": resource.kind, "name": name, "near": near}
    return [Finding(about, "config-absent-near" if near else "config-absent", facts)]


async def _node(world: World, name: str) -> list[Finding]:
    node = await world.get(NODES, name)
    if node is None:
        return [Finding(f"node/{name}", "node-absent", {"node": name})]
    condition = _condition(node, "Ready")
    if condition is not None and condition["status"] == "True":
        return []
    if condition is None:
        return [Finding(f"node/{name}", "node-silent", {"node": name})]
    return [Finding(f"node/{name}", "node-down", {"node": name, "message": condition.get("message", "")})]


def _condition(obj: Object, kind: str) -> Object | None:
    return next((c for c in obj.get("status", {}).get("conditions") or () if c["type"] == kind), None)


def _specs(pod: Object) -> list[Object]:
    return [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]
