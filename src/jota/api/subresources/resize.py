"""pods/resize: change cpu and memory of running containers, and nothing else."""

from __future__ import annotations

from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.subresources import partial
from jota.kinds.kind import Object
from jota.kinds.shape import part, parts, text
from jota.meta.errors import FieldError, forbidden_field

RESIZABLE = ("cpu", "memory")


def keep(engine: Engine, call: Call, wanted: Object, result: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    changed = False
    for field in ("containers", "initContainers"):
        asked = {text(c, "name"): c for c in parts(part(wanted, "spec"), field)}
        for i, container in enumerate(parts(result["spec"], field)):
            new = part(asked.get(text(container, "name"), container), "resources")
            old = part(container, "resources")
            if new == old:
                continue
            changed = True
            if _others(new) != _others(old):
                where = f"spec.{field}[{i}].resources"
                errors.append(forbidden_field(where, "only cpu and memory resources are mutable"))
            container["resources"] = new
    if changed:
        engine.check_fields(call, result)
        call.served.kind.default(result)
        result["metadata"]["generation"] = result["metadata"].get("generation", 0) + 1
        errors += call.served.kind.validate(result)
    return errors


def _others(resources: Object) -> list[Object]:
    """Limits and requests of what cannot be resized."""
    return [{k: v for k, v in part(resources, key).items() if k not in RESIZABLE} for key in ("limits", "requests")]


VERBS = partial.verbs("resize", keep)
