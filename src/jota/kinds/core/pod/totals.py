"""What a pod asks for in sum, as quota, limit ranges and schedulers count it (component-helpers' PodRequests and PodLimits).

Containers run together with sidecars; plain init containers run one by one, each beside the sidecars before it. The larger of
the two phases counts; pod-level resources replace the sum; overhead comes on top.
"""

from __future__ import annotations

from jota.kinds.quantities import nanos
from jota.kinds.shape import Object, part, parts, text

Amounts = dict[str, int]
"""Resource name -> nano-units."""


def totals(spec: Object, side: str) -> Amounts:
    """`side`: "requests" or "limits"."""
    total: Amounts = {}
    for container in parts(spec, "containers"):
        add(total, amounts(part(container, "resources"), side))
    beside: Amounts = {}
    start: Amounts = {}
    for container in parts(spec, "initContainers"):
        own = amounts(part(container, "resources"), side)
        if text(container, "restartPolicy") == "Always":
            add(total, own)
            add(beside, own)
            own = dict(beside)
        else:
            add(own, beside)
        for name, amount in own.items():
            start[name] = max(start.get(name, 0), amount)
    for name, amount in start.items():
        total[name] = max(total.get(name, 0), amount)
    total.update(amounts(part(spec, "resources"), side))
    overhead = amounts(spec, "overhead")
    add(total, overhead if side == "requests" else {n: a for n, a in overhead.items() if n in total})
    return total


def held(pod: Object, side: str) -> Amounts:
    """The totals of a pod that its node may be resizing: the largest of what the spec asks for (unless its node has refused
    that for good), what is allocated, and what the containers have (AggregateContainerRequests with UseStatusResources)."""
    spec, status = part(pod, "spec"), part(pod, "status")
    shown = {text(s, "name"): s for key in _STATUSES for s in parts(status, key)}
    if not shown:
        return totals(spec, side)
    forms = [_given(spec, side, {n: _had(s, field, side) for n, s in shown.items()}) for field in _FIELDS]
    refused = any(
        text(c, "type") == "PodResizePending" and text(c, "reason") == "Infeasible" for c in parts(status, "conditions")
    )
    most: Amounts = {}
    for form in [f for f in forms if f is not None] + ([] if refused and all(forms) else [spec]):
        for name, amount in totals(form, side).items():
            most[name] = max(most.get(name, 0), amount)
    return most


_STATUSES = ("containerStatuses", "initContainerStatuses")
_FIELDS = ("allocatedResources", "resources")


def _had(status: Object, field: str, side: str) -> Object | None:
    """What a container's status says of one side; None when it says nothing."""
    if field == "allocatedResources":
        return part(status, field) if side == "requests" and field in status else None
    found = part(status, field)
    return part(found, side) if side in found else None


def _given(spec: Object, side: str, had: dict[str, Object | None]) -> Object | None:
    """The spec with these amounts; None where it has them already, as all pods that nobody resizes."""
    changed = False
    out = dict(spec)
    for key in ("containers", "initContainers"):
        given = []
        for container in parts(spec, key):
            own, amounts = part(container, "resources"), had.get(text(container, "name"))
            if amounts is not None and amounts != part(own, side):
                container = {**container, "resources": {**own, side: amounts}}
                changed = True
            given.append(container)
        out[key] = given
    return out if changed else None


def amounts(holder: Object, side: str) -> Amounts:
    """The amounts in `holder[side]`; what is no quantity is left out (validation names it)."""
    return {name: units for name, value in part(holder, side).items() if (units := nanos(value)) is not None}


def add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount
