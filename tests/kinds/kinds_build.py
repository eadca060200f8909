"""Small builders for the tests of kinds."""

from __future__ import annotations

import copy
from typing import Any

from jota.kinds import table
from jota.kinds.kind import Kind
from jota.meta.errors import FieldError

Object = dict[str, Any]


def kind(name: str) -> Kind:
    """The kind by its plural, of the preferred version."""
    return next(k for k in table.KINDS if k.resource.plural == name)


def pod(**spec: Any) -> Object:
    """A valid, defaulted pod; keywords replace parts of its spec."""
    obj = {"metadata": {"name": "p"}, "spec": {"containers": [container()], **spec}}
    kind("pods").default(obj)
    return obj


def container(**fields: Any) -> Object:
    return {"name": "c", "image": "nginx:1", **fields}


def workload(plural: str = "deployments", **spec: Any) -> Object:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container()]}}
    obj = {
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec},
    }
    kind(plural).default(obj)
    return obj


def service(**spec: Any) -> Object:
    obj = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], **spec}}
    kind("services").default(obj)
    return obj


def changed(obj: Object, path: str, value: Any) -> Object:
    """A copy with the value at a dotted path (numbers index lists) replaced; None removes it."""
    out = copy.deepcopy(obj)
    *parents, last = [int(p) if p.isdecimal() else p for p in path.split(".")]
    at: Any = out
    for key in parents:
        at = at[key] if isinstance(key, int) else at.setdefault(key, {})
    if value is None:
        del at[last]
    else:
        at[last] = value
    return out


def shown(errors: list[FieldError]) -> list[str]:
    """Errors as one line each, as the API's message has them."""
    return [f"{e.field}: {e.message}" for e in errors]
