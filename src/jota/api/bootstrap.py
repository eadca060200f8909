"""What every cluster has from the first moment: the four namespaces, made once at start if they are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from jota.api.filters.attributes import COMPONENT
from jota.meta.resource import NAMESPACES, Resource
from jota.wire.message import Request

if TYPE_CHECKING:
    from jota.api.server import Api

SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


async def run(api: Api) -> None:
    """Create what is missing. Raises RuntimeError when the server refuses its own objects."""
    for name in SYSTEM_NAMESPACES:
        await ensure(api, NAMESPACES, {"metadata": {"name": name}})


async def ensure(api: Api, resource: Resource, obj: dict[str, Any]) -> None:
    """Create one object through the front door, unless it exists."""
    namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
    if (resource.group, resource.version, resource.plural) not in api.served:
        return
    if api.registry.get(resource, namespace, name) is not None:
        return
    path = resource.path(namespace)
    response = await api.handle(Request("POST", path, body=orjson.dumps(obj), user=COMPONENT))
    if response.status not in (201, 409):
        raise RuntimeError(f"POST {path} ({name}): {response.status} {response.body!r}")
