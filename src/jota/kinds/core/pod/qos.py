"""The quality-of-service class of a pod, set once on create (pkg/apis/core/helper/qos).

Guaranteed: every container limits cpu and memory and asks for exactly that. BestEffort: nobody asks for or limits either.
Burstable: the rest. Pod-level resources decide alone when they are set.
"""

from __future__ import annotations

from jota.kinds.shape import Object, part, parts

COMPUTE = ("cpu", "memory")
ZERO = ("0", "", None)


def qos_class(spec: Object) -> str:
    """ "Guaranteed", "Burstable" or "BestEffort"; amounts are compared in canonical text."""
    whole = part(spec, "resources")
    owners = [spec] if _asks(whole) else parts(spec, "containers") + parts(spec, "initContainers")
    resources = [part(owner, "resources") for owner in owners]
    if not any(_asks(r) for r in resources):
        return "BestEffort"
    return "Guaranteed" if all(_guaranteed(r) for r in resources) else "Burstable"


def _asks(resources: Object) -> bool:
    return any(part(resources, side).get(name) not in ZERO for side in ("requests", "limits") for name in COMPUTE)


def _guaranteed(resources: Object) -> bool:
    limits, requests = part(resources, "limits"), part(resources, "requests")
    return all(limits.get(name) not in ZERO and requests.get(name, limits[name]) == limits[name] for name in COMPUTE)
