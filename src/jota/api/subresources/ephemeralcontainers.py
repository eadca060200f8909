"""pods/ephemeralcontainers: add debugging containers to a pod that exists. Those that are there stay as they are."""

from __future__ import annotations

from jota.api import decoding
from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.subresources import partial
from jota.kinds.core.pod.update import prepare_ephemeral, validate_ephemeral
from jota.kinds.kind import Object
from jota.meta.errors import FieldError


def keep(engine: Engine, call: Call, wanted: Object, result: Object) -> list[FieldError]:
    old = dict(result)
    prepare_ephemeral(wanted, old)
    result["spec"] = wanted["spec"]
    decoding.check_fields(call, result)
    call.served.kind.default(result)
    if result["spec"] != old["spec"]:
        result["metadata"]["generation"] = result["metadata"].get("generation", 0) + 1
    return call.served.kind.validate(result) + validate_ephemeral(result, old)


VERBS = partial.verbs("ephemeralcontainers", keep)
