"""What a node has allocated to one pod: the resources that its containers may have, whatever its spec asks for meanwhile.

In: the pod as the API shows it, an Allocation. Out: the same pod with the allocated resources, which all that runs, shows and
counts it goes by. A resize is a difference between the two; resizes.py decides it. Remembered in a file of the pod's directory
from the first decision on; until then what its containers were made with tells.
"""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, dataclass, field

import orjson

from jota.aio import files
from jota.meta.quantity import parse
from jota.node.model import RESOURCES, Object, Observed, parts
from jota.node.resources import COMPUTE, pod_amounts, requests_of

log = logging.getLogger(__name__)

FILE = "allocation.json"
Resourced = Object
"""A `resources` field: limits and requests."""


@dataclass(slots=True)
class Allocation:
    containers: dict[str, Resourced] = field(default_factory=dict)
    """By name; of init containers too, not of ephemeral ones, which have none."""
    pod: Resourced | None = None
    """The pod-level resources, where the spec has some."""


def asked(pod: Object) -> Allocation:
    """What the spec asks for."""
    own = {p.name: p.spec.get("resources") or {} for p in parts(pod) if p.role != "ephemeral"}
    return Allocation(own, pod["spec"].get("resources"))


def allocated(pod: Object, allocation: Allocation) -> Object:
    """The pod with what is allocated to it; itself when that is what it asks for."""
    if allocation == asked(pod):
        return pod
    spec = dict(pod["spec"])
    for key in ("initContainers", "containers"):
        if spec.get(key):
            spec[key] = [
                {**c, "resources": allocation.containers.get(c["name"], c.get("resources") or {})} for c in spec[key]
            ]
    if allocation.pod is None:
        spec.pop("resources", None)
    else:
        spec["resources"] = allocation.pod
    return {**pod, "spec": spec}


def grows(pod: Object, now: Object) -> bool:
    """Whether `pod` asks for more cpu or memory than `now`, which is it as allocated."""
    wanted, had = pod_amounts(pod, "requests"), pod_amounts(now, "requests")
    return any(wanted.get(name, 0) > had.get(name, 0) for name in COMPUTE)


def held(pod: Object, seen: Observed) -> Object:
    """An allocated pod as it counts while it is resized: each container at the larger of what is allocated and what it has."""
    had = {c.name: c.labels[RESOURCES] for c in seen.alive() if RESOURCES in c.labels}
    spec = dict(pod["spec"])
    for key in ("initContainers", "containers"):
        if spec.get(key):
            spec[key] = [_larger(c, orjson.loads(had[c["name"]])) if c["name"] in had else c for c in spec[key]]
    return {**pod, "spec": spec}


def _larger(container: Object, had: Resourced) -> Object:
    wanted, has = requests_of(container), requests_of({"resources": had})
    most = {
        name: max((v for v in (wanted.get(name), has.get(name)) if v is not None), key=lambda v: parse(v).nanos)
        for name in {*wanted, *has}
    }
    return {**container, "resources": {**(container.get("resources") or {}), "requests": most}}


# -- what outlives the agent


def remembered(directory: str) -> Allocation | None:
    """The allocation kept in a pod's directory; None when none was ever decided, or the note is damaged: then the containers
    tell (`inferred`)."""
    path = os.path.join(directory, FILE)
    try:
        with open(path, "rb") as file:
            return Allocation(**orjson.loads(file.read()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as e:
        log.warning("%s is no allocation, what the containers have stands in for it: %s", path, e)
        return None


def remember(directory: str, allocation: Allocation) -> None:
    """Replace it as a whole, before anything is given out by it. Raises OSError."""
    os.makedirs(directory, mode=0o750, exist_ok=True)
    files.replace(os.path.join(directory, FILE), orjson.dumps(asdict(allocation)))


def inferred(pod: Object, seen: Observed) -> Allocation:
    """Of a pod that another agent started, and about which none ever decided: what its containers were made with; what has
    not been made may be as it is asked for."""
    out = asked(pod)
    whole = pod["spec"].get("resources") is not None
    for p in parts(pod):
        text = next((c.labels.get(RESOURCES, "") for c in seen.of(p.name)), "")
        if p.role == "ephemeral" or not text:
            continue
        had, own = orjson.loads(text), out.containers[p.name]
        if whole:  # limits that it does not set itself are the pod's
            had["limits"] = {n: v for n, v in (had.get("limits") or {}).items() if n in (own.get("limits") or {})}
        out.containers[p.name] = {
            **{k: v for k, v in own.items() if k == "claims"},
            **{k: v for k, v in had.items() if v},
        }
    box = seen.sandbox()
    if whole and box is not None and (text := box.spec.labels.get(RESOURCES, "")):
        out.pod = orjson.loads(text)
    return out
