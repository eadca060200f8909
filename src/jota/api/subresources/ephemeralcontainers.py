"""pods/ephemeralcontainers: add debugging containers to a pod that exists. Those that are there stay as they are."""

from __future__ import annotations

from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.subresources import partial
from jota.kinds.kind import Object
from jota.kinds.shape import parts
from jota.meta.errors import FieldError, invalid

FIELD = "ephemeralContainers"


def keep(engine: Engine, call: Call, wanted: Object, result: Object) -> list[FieldError]:
    before = {c.get("name"): c for c in parts(result["spec"], FIELD)}
    added = parts(wanted.get("spec") or {}, FIELD)
    if added:
        result["spec"][FIELD] = added
    engine.check_fields(call, result)
    call.served.kind.default(result)
    after = {c.get("name"): c for c in parts(result["spec"], FIELD)}
    if after != before:
        result["metadata"]["generation"] = result["metadata"].get("generation", 0) + 1
    errors = call.served.kind.validate(result)
    for name, container in before.items():
        if after.get(name) != container:
            detail = f'existing ephemeral containers "{name}" may not be removed or changed'
            errors.append(invalid(f"spec.{FIELD}", list(after), detail))
    return errors


VERBS = partial.verbs("ephemeralcontainers", keep)
