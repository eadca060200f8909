"""resource.k8s.io/v1beta1: claims, templates and slices in their older shape. What is kept is v1.

    v1beta1   {name: gpu, deviceClassName: c, count: 1}     a request says what it wants itself
    v1        {name: gpu, exactly: {deviceClassName: c, count: 1}}
    v1beta1   {name: gpu-0, basic: {attributes: ...}}       a device of the only sort that there was
    v1        {name: gpu-0, attributes: ...}

Defaults and rules are v1's; errors name the fields of v1beta1. Device classes have one shape in both (prerelease.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from jota.kinds.kind import Kind, Object
from jota.kinds.resource import resourceclaim, resourceclaimtemplate, resourceslice
from jota.kinds.shape import part
from jota.meta.errors import FieldError

VERSION = "v1beta1"
_FLAT = (
    "deviceClassName",
    "selectors",
    "allocationMode",
    "count",
    "adminAccess",
    "tolerations",
    "capacity",
    "derivedAttributes",
)
"""What a request of v1beta1 says itself and one of v1 says in `exactly`."""
_EXACTLY = re.compile(r"\.exactly(?=\.|$)")
Change = Callable[[Object], Object]
"""An object -> a copy of it in the other version's shape; what stays the same is shared."""


def _nested(request: Object) -> Object:
    exactly = {key: request[key] for key in _FLAT if key in request}
    rest = {key: value for key, value in request.items() if key not in _FLAT}
    return {**rest, "exactly": exactly} if exactly else rest


def _flat(request: Object) -> Object:
    rest = {key: value for key, value in request.items() if key != "exactly"}
    return {**rest, **part(request, "exactly")}


def _bare(device: Object) -> Object:
    return {**{key: value for key, value in device.items() if key != "basic"}, **part(device, "basic")}


def _basic(device: Object) -> Object:
    named = {"name": device["name"]} if "name" in device else {}
    return {**named, "basic": {key: value for key, value in device.items() if key != "name"}}


def _each(path: tuple[str, ...], change: Change) -> Change:
    """`change` for each object of the list at that path."""

    def apply(obj: Object) -> Object:
        first, *rest = path
        if not isinstance(obj.get(first), list if not rest else dict):
            return obj
        if not rest:
            return {**obj, first: [change(item) if isinstance(item, dict) else item for item in obj[first]]}
        return {**obj, first: _each(tuple(rest), change)(obj[first])}

    return apply


def _older(stable: Kind, to_v1: Change, from_v1: Change) -> Kind:
    def default(obj: Object) -> None:
        new = dict(to_v1(obj))
        stable.default(new)
        _become(obj, from_v1(new))

    def renamed(errors: list[FieldError]) -> list[FieldError]:
        return [replace(e, field=_EXACTLY.sub("", e.field)) for e in errors]

    def judge(new: Object, old: Object | None, wrong: list[FieldError]) -> list[FieldError]:
        assert stable.judge is not None
        return renamed(stable.judge(to_v1(new), None if old is None else to_v1(old), wrong))

    return replace(
        stable,
        resource=stable.resource._replace(version=VERSION),
        schema=stable.schema.replace(".v1.", f".{VERSION}."),
        default=default,
        validate=lambda obj: renamed(stable.validate(to_v1(obj))),
        judge=None if stable.judge is None else judge,
        storage=stable.resource,
        to_storage=lambda obj: _become(obj, {**to_v1(obj), "apiVersion": stable.resource.api_version}),
        from_storage=lambda obj: _become(obj, from_v1(obj)),
        stability="beta",
    )


def _become(obj: Object, other: Object) -> None:
    new = dict(other)  # they may be one
    obj.clear()
    obj.update(new)


def _requests(stable: Kind, *path: str) -> Kind:
    where = (*path, "devices", "requests")
    return _older(stable, _each(where, _nested), _each(where, _flat))


KINDS: tuple[Kind, ...] = (
    _requests(resourceclaim.KIND, "spec"),
    _requests(resourceclaimtemplate.KIND, "spec", "spec"),
    _older(resourceslice.KIND, _each(("spec", "devices"), _bare), _each(("spec", "devices"), _basic)),
)
