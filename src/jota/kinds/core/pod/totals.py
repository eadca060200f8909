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


def amounts(holder: Object, side: str) -> Amounts:
    """The amounts in `holder[side]`; what is no quantity is left out (validation names it)."""
    return {name: units for name, value in part(holder, side).items() if (units := nanos(value)) is not None}


def add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount
