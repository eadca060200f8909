"""certificatesigningrequests/approval: status.conditions Approved and Denied, which the main endpoint cannot set.

Metadata may change with them, as in upstream."""

from __future__ import annotations

from jota.aio.clock import rfc3339
from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.subresources import partial
from jota.kinds.kind import Object
from jota.kinds.shape import part, parts, text
from jota.meta import conditions
from jota.meta.errors import FieldError, invalid


def keep(engine: Engine, call: Call, wanted: Object, result: Object) -> list[FieldError]:
    now = rfc3339(engine.clock.now())
    before = parts(part(result, "status"), "conditions")
    after = parts(part(wanted, "status"), "conditions")
    for condition in after:
        condition.setdefault("lastUpdateTime", now)
        condition.setdefault("lastTransitionTime", now)
    result.setdefault("status", {})["conditions"] = after
    errors = list(call.served.kind.validate(result))
    for type_ in ("Approved", "Denied"):
        had = conditions.find(before, type_)
        if had is not None and text(conditions.find(after, type_) or {}, "status") != text(had, "status"):
            errors.append(invalid("status.conditions", type_, "updates may not remove a condition of this type"))
    return errors


VERBS = partial.verbs("approval", keep, metadata_too=True)
