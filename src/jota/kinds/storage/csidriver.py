"""CSIDrivers: what a storage driver wants from the node and the scheduler."""

from __future__ import annotations

from collections.abc import Callable

from jota.kinds.common import AGE, NAME, NONE, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, part, parts, put_missing, text, texts
from jota.meta.resource import Resource

DEFAULTS = (
    ("attachRequired", True),
    ("podInfoOnMount", False),
    ("storageCapacity", False),
    ("fsGroupPolicy", "ReadWriteOnceWithFSType"),
    ("requiresRepublish", False),
    ("seLinuxMount", False),
)


def default(driver: Object) -> None:
    spec = attach(driver, "spec")
    for field, value in DEFAULTS:
        put_missing(spec, field, value)
    if not texts(spec, "volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


def _flag(field: str) -> Callable[[Object, float], bool]:
    return lambda driver, _now: part(driver, "spec").get(field) is True


def _tokens(driver: Object, _now: float) -> str:
    asked = parts(part(driver, "spec"), "tokenRequests")
    return ",".join(text(t, "audience") for t in asked) if asked else "<unset>"


KIND = Kind(
    Resource("storage.k8s.io", "v1", "csidrivers", "CSIDriver", False),
    schema="io.k8s.api.storage.v1.CSIDriver",
    singular="csidriver",
    default=default,
    returns_deleted=True,
    columns=(
        NAME,
        plain("AttachRequired", _flag("attachRequired"), "boolean"),
        plain("PodInfoOnMount", _flag("podInfoOnMount"), "boolean"),
        plain("StorageCapacity", _flag("storageCapacity"), "boolean"),
        plain("TokenRequests", _tokens),
        plain("RequiresRepublish", _flag("requiresRepublish"), "boolean"),
        plain("Modes", lambda d, _now: ",".join(texts(part(d, "spec"), "volumeLifecycleModes")) or NONE),
        AGE,
    ),
    generation=True,
    unconditional_update=False,
)
