"""Every stored kind, in the order of discovery. To add one: write its fact sheet, import it here, add its line.

In: nothing; importing this must stay cheap (no schemas are read). Out: `KINDS` and lookups.
"""

from __future__ import annotations

from jota.kinds.apps import deployment, replicaset
from jota.kinds.core import configmap, namespace, node, pod, secret, service, serviceaccount
from jota.kinds.kind import Kind

KINDS: tuple[Kind, ...] = (
    configmap.KIND,
    namespace.KIND,
    node.KIND,
    pod.KIND,
    secret.KIND,
    service.KIND,
    serviceaccount.KIND,
    deployment.KIND,
    replicaset.KIND,
)

_BY_RESOURCE = {(k.resource.group, k.resource.version, k.resource.plural): k for k in KINDS}
_BY_KIND = {(k.resource.group, k.resource.version, k.resource.kind): k for k in KINDS}


def by_resource(group: str, version: str, plural: str) -> Kind | None:
    """The kind served at /apis/<group>/<version>/<plural>; None when it is not built in."""
    return _BY_RESOURCE.get((group, version, plural))


def by_kind(group: str, version: str, kind: str) -> Kind | None:
    """The kind of an object's apiVersion and kind; None when it is not built in."""
    return _BY_KIND.get((group, version, kind))


def groups() -> dict[str, tuple[str, ...]]:
    """Group -> its versions, preferred first, in the order of discovery; the core group is ""."""
    found: dict[str, tuple[str, ...]] = {}
    for kind in KINDS:
        group, version = kind.resource.group, kind.resource.version
        if version not in found.get(group, ()):
            found[group] = (*found.get(group, ()), version)
    return found
