"""ResourceClaims on the node: may the pod use them, and is there something to be done that only a driver can do? Pure.

In: a pod and its claims. Out: why the pod cannot start, in words. This node runs no DRA driver plugins: a pod whose devices
need one waits with the reason in an event, and one whose claims need nothing done here starts.
"""

from __future__ import annotations

from collections.abc import Callable

from jota.meta.resource import Resource
from jota.node.model import Object

CLAIMS = Resource("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim")
PREPARE = "NodePrepareResources"


def names(pod: Object) -> dict[str, str | None]:
    """Entry -> its claim; None: not made yet. Entries that need no claim are left out."""
    statuses = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    made = {s["name"]: s.get("resourceClaimName") for s in statuses}
    out: dict[str, str | None] = {}
    for entry in pod["spec"].get("resourceClaims") or ():
        name = entry["name"]
        if entry.get("resourceClaimName"):
            out[name] = entry["resourceClaimName"]
        elif name not in made or made[name]:
            out[name] = made.get(name)
    return out


def references(pod: Object) -> set[tuple[Resource, str]]:
    return {(CLAIMS, name) for name in names(pod).values() if name}


def problem(pod: Object, lookup: Callable[[Resource, str], Object | None]) -> str:
    """Why the pod's claims keep it from starting here; "" when they do not."""
    for entry, name in names(pod).items():
        if not name:
            return f'the resource claim of entry "{entry}" is not created yet'
        claim = lookup(CLAIMS, name)
        if claim is None:
            return f'resourceclaim "{name}" not found'
        if text := _claim_problem(pod, claim):
            return f'resourceclaim "{name}": {text}'
    return ""


def _claim_problem(pod: Object, claim: Object) -> str:
    status = claim.get("status") or {}
    if not status.get("allocation"):
        return "not allocated"
    meta = pod["metadata"]
    if not any(c.get("uid") == meta["uid"] for c in status.get("reservedFor") or ()):
        return f"pod {meta['namespace']}/{meta['name']} is not allowed to use it: it is not reserved for the pod"
    results = (status["allocation"].get("devices") or {}).get("results") or ()
    drivers = sorted({r["driver"] for r in results if PREPARE not in (r.get("skipNodeOperations") or ())})
    if drivers:
        return f"DRA driver {', '.join(drivers)} is not registered on this node, and this node runs no driver plugins"
    return ""
