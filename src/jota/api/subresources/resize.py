"""pods/resize: change cpu and memory of running containers, and nothing else."""

from __future__ import annotations

from jota.api import decoding
from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.subresources import partial
from jota.kinds.core.pod.resize import prepare_resize, validate_resize
from jota.kinds.kind import Object
from jota.meta.errors import FieldError


def keep(engine: Engine, call: Call, wanted: Object, result: Object) -> list[FieldError]:
    old = dict(result)
    prepare_resize(wanted, old)
    result["spec"] = wanted["spec"]
    if result["spec"] == old["spec"]:
        return []
    decoding.check_fields(call, result)
    call.served.kind.default(result)
    if result["spec"] != old["spec"]:
        result["metadata"]["generation"] = result["metadata"].get("generation", 0) + 1
    return call.served.kind.validate(result) + validate_resize(result, old)


VERBS = partial.verbs("resize", keep)
