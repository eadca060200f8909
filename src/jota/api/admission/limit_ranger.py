"""LimitRanger: the LimitRanges of a namespace give containers their default resources and bound what pods and claims ask for.

Defaults are set before validation and named in the annotation kubernetes.io/limit-ranger. Rules and words are upstream's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.kinds.core.pod.totals import Amounts, amounts, totals
from jota.kinds.kind import Kind, Object
from jota.kinds.quantities import nanos
from jota.kinds.shape import attach, part, parts, text
from jota.meta.errors import forbidden
from jota.meta.quantity import NANO, Quantity
from jota.meta.resource import PODS, Resource

LIMIT_RANGES = Resource("", "v1", "limitranges", "LimitRange")
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
ANNOTATION = "kubernetes.io/limit-ranger"


class LimitRanger(Plugin):
    looks_at: ClassVar[tuple[Resource, ...] | None] = (LIMIT_RANGES,)
    apart: ClassVar[bool] = True

    def handles(self, kind: Kind) -> bool:
        return kind.resource in (PODS, CLAIMS)

    def minds(self, attrs: AdmissionAttributes) -> bool:
        return attrs.kind.resource != PODS and bool(attrs.registry.count(LIMIT_RANGES, attrs.namespace))

    def admit(self, attrs: AdmissionAttributes) -> None:
        pod = attrs.object
        if attrs.kind.resource != PODS or attrs.operation != "CREATE" or pod is None or attrs.subresource:
            return
        for limit_range in _ranges(attrs):
            _give_defaults(pod, limit_range)

    def validate(self, attrs: AdmissionAttributes) -> None:
        """Raises ApiError 403 with every bound that is broken."""
        obj = attrs.object
        if obj is None or attrs.operation == "DELETE":
            return
        resizes = attrs.operation == "UPDATE" and attrs.subresource == ("resize" if attrs.kind.resource == PODS else "")
        if attrs.operation != "CREATE" and not resizes:
            return
        check = _check_pod if attrs.kind.resource == PODS else _check_claim
        problems = [p for r in _ranges(attrs) for item in parts(part(r, "spec"), "limits") for p in check(obj, item)]
        if problems:
            text_ = problems[0] if len(problems) == 1 else "[" + ", ".join(problems) + "]"
            raise forbidden(attrs.kind.resource.plural, attrs.name, text_)


def _ranges(attrs: AdmissionAttributes) -> list[Object]:
    if not attrs.registry.count(LIMIT_RANGES, attrs.namespace):
        return []
    return list(attrs.registry.objects(LIMIT_RANGES, attrs.namespace))


def _give_defaults(pod: Object, limit_range: Object) -> None:
    wanted: dict[str, Object] = {"requests": {}, "limits": {}}
    for item in parts(part(limit_range, "spec"), "limits"):
        if text(item, "type") == "Container":
            wanted["requests"].update(part(item, "defaultRequest"))
            wanted["limits"].update(part(item, "default"))
    said: list[str] = []
    spec = part(pod, "spec")
    for field, called in (("containers", "container"), ("initContainers", "init container")):
        for container in parts(spec, field):
            for side in ("requests", "limits"):
                lacking = [n for n in wanted[side] if n not in part(part(container, "resources"), side)]
                if lacking:
                    attach(attach(container, "resources"), side).update({n: wanted[side][n] for n in lacking})
                    names = ", ".join(sorted(lacking))
                    said.append(f"{names} {side.removesuffix('s')} for {called} {text(container, 'name')}")
    if said:
        attach(attach(pod, "metadata"), "annotations")[ANNOTATION] = "LimitRanger plugin set: " + "; ".join(said)


def _check_pod(pod: Object, item: Object) -> Iterator[str]:
    spec, type_ = part(pod, "spec"), text(item, "type")
    if type_ == "Container":
        for container in [*parts(spec, "containers"), *parts(spec, "initContainers")]:
            resources = part(container, "resources")
            yield from _bounds(item, type_, amounts(resources, "requests"), amounts(resources, "limits"))
    elif type_ == "Pod":
        yield from _bounds(item, type_, totals(spec, "requests"), totals(spec, "limits"))


def _check_claim(claim: Object, item: Object) -> Iterator[str]:
    if text(item, "type") != "PersistentVolumeClaim":
        return
    asked = amounts(part(part(claim, "spec"), "resources"), "requests")
    for name, enforced in part(item, "min").items():
        yield from _least(name, "PersistentVolumeClaim", enforced, asked, {})
    for name, enforced in part(item, "max").items():
        what = f"maximum {name} usage per PersistentVolumeClaim is {enforced}"
        if name not in asked:
            yield f"{what}.  No request is specified"
        elif asked[name] > (nanos(enforced) or 0):
            yield f"{what}, but request is {Quantity(asked[name], 'BinarySI')}"


def _bounds(item: Object, type_: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for name, enforced in part(item, "min").items():
        yield from _least(name, type_, enforced, requests, limits)
    for name, enforced in part(item, "max").items():
        yield from _most(name, type_, enforced, requests, limits)
    for name, enforced in part(item, "maxLimitRequestRatio").items():
        yield from _ratio(name, type_, enforced, requests, limits)


def _shown(name: str, amount: int) -> str:
    return str(Quantity(amount, "DecimalSI" if name == "cpu" else "BinarySI"))


def _least(name: str, type_: str, enforced: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    what, bound = f"minimum {name} usage per {type_} is {enforced}", nanos(enforced) or 0
    if name not in requests:
        yield f"{what}.  No request is specified"
    elif requests[name] < bound:
        yield f"{what}, but request is {_shown(name, requests[name])}"
    elif limits.get(name, bound) < bound:
        yield f"{what}, but limit is {_shown(name, limits[name])}"


def _most(name: str, type_: str, enforced: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    what, bound = f"maximum {name} usage per {type_} is {enforced}", nanos(enforced) or 0
    if name not in limits:
        yield f"{what}.  No limit is specified"
    elif limits[name] > bound:
        yield f"{what}, but limit is {_shown(name, limits[name])}"
    elif requests.get(name, bound) > bound:
        yield f"{what}, but request is {_shown(name, requests[name])}"


def _ratio(name: str, type_: str, enforced: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    what = f"{name} max limit to request ratio per {type_} is {enforced}"
    if not requests.get(name):
        yield f"{what}, but no request is specified or request is 0"
    elif not limits.get(name):
        yield f"{what}, but no limit is specified or limit is 0"
    elif limits[name] * NANO > (nanos(enforced) or 0) * requests[name]:
        yield f"{what}, but provided ratio is {limits[name] / requests[name]:f}"
