"""The resources that a pod has of its own (spec.resources): what is left out follows from its containers, which must fit in.

In: the spec of a pod, defaulted but for these. Out: the same with them, and errors. Rules: upstream's DefaultPodLevelResources
and validatePodResources. Next: validate.py.
"""

from __future__ import annotations

from jota.kinds.core.pod.resources import validate_resources
from jota.kinds.core.pod.totals import Amounts, totals
from jota.kinds.quantities import nanos
from jota.kinds.shape import Object, attach, part, parts
from jota.meta.errors import FieldError, forbidden_field, invalid, not_supported
from jota.meta.quantity import Quantity

OVERCOMMITTED = ("cpu", "memory")
SUPPORTED = ["cpu", "hugepages-", "memory"]


def default_whole(spec: Object) -> None:
    """Requests are those of the containers together, or the limits; limits those of the containers, if all have some."""
    own = part(spec, "resources")
    if not (own.get("requests") or own.get("limits")):
        return
    requests, limits = attach(own, "requests"), attach(own, "limits")
    asked, bound = _containers(spec, "requests"), _containers(spec, "limits")
    for name, amount in bound.items():
        if name.startswith("hugepages-") and name not in requests:
            limits.setdefault(name, _text(name, amount))
    for name in OVERCOMMITTED:
        if name in asked:
            requests.setdefault(name, _text(name, asked[name]))
    for name in [n for n in limits if _is_supported(n)]:
        requests.setdefault(name, limits[name])
    every = [part(part(c, "resources"), "limits") for key in _LISTS for c in parts(spec, key)]
    for name in [n for n in requests if _is_supported(n) and n not in limits]:
        if name in bound and all(name in each for each in every):
            limits[name] = _text(name, max(bound[name], nanos(requests[name]) or 0))
    for side in ("requests", "limits"):
        if not own[side]:
            del own[side]


_LISTS = ("containers", "initContainers", "ephemeralContainers")


def validate_whole(spec: Object, path: str, errors: list[FieldError]) -> None:
    own = part(spec, "resources")
    if part(spec, "os").get("name") == "windows":
        errors.append(forbidden_field(path, "may not be set for a windows pod"))
        return
    if own.get("claims") is not None:
        errors.append(forbidden_field(f"{path}.claims", "claims may not be set for Resources at pod-level"))
    limits, requests = part(own, "limits"), part(own, "requests")
    for side, amounts in (("limits", limits), ("requests", requests)):
        errors += [not_supported(f"{path}.{side}", n, SUPPORTED) for n in amounts if not _is_supported(n)]
    validate_resources(own, path, errors)
    for name, amount in _containers(spec, "requests").items():
        if name in requests and amount > (nanos(requests[name]) or 0):
            detail = f"must be greater than or equal to aggregate container requests of {_text(name, amount)}"
            errors.append(invalid(f"{path}.requests[{name}]", str(requests[name]), detail))
    for i, container in enumerate(parts(spec, "containers")):
        for name, limit in part(part(container, "resources"), "limits").items():
            if name in limits and (nanos(limit) or 0) > (nanos(limits[name]) or 0):
                where = f"{path}.containers[{i}][{name}].limits"
                errors.append(invalid(where, str(limit), f"must be less than or equal to pod limits of {limits[name]}"))


def _is_supported(name: str) -> bool:
    return name in OVERCOMMITTED or name.startswith("hugepages-")


def _containers(spec: Object, side: str) -> Amounts:
    return totals({key: spec[key] for key in ("containers", "initContainers") if key in spec}, side)


def _text(name: str, amount: int) -> str:
    return str(Quantity(amount, "DecimalSI" if name == "cpu" else "BinarySI"))
