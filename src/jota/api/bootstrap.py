"""What every cluster has from the first moment, made at start if it is not there: namespaces, the Service `kubernetes` with
its endpoints, the two system priority classes, and the default storage class. All through the front door, as the
server's own identity."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import orjson

from jota.api.admission.priority import CLASSES, SYSTEM
from jota.api.filters.attributes import COMPONENT
from jota.meta.resource import ENDPOINTS, ENDPOINTSLICES, NAMESPACES, SERVICES, Resource
from jota.wire.message import Request

if TYPE_CHECKING:
    from jota.api.server import Api

AGENT = {"user-agent": "apiserver"}
STORAGE_CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)
LOCAL_STORAGE = {
    "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "jota.dev/local",
    "reclaimPolicy": "Delete",
    "volumeBindingMode": "WaitForFirstConsumer",
    "allowVolumeExpansion": True,
}
"""Directories on nodes, made where the first pod that wants one is placed."""
SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


async def run(api: Api) -> None:
    """Create what is missing. Raises RuntimeError when the server refuses its own objects."""
    for name in SYSTEM_NAMESPACES:
        await ensure(api, NAMESPACES, {"metadata": {"name": name}})
    for name, value in SYSTEM.items():
        about = "Used for system critical pods that must " + _ABOUT[name]
        await ensure(api, CLASSES, {"metadata": {"name": name}, "value": value, "description": about})
    await ensure(api, STORAGE_CLASSES, LOCAL_STORAGE)
    await _kubernetes_service(api)


_ABOUT = {
    "system-cluster-critical": "run in the cluster, but can be moved to another node if necessary.",
    "system-node-critical": "not be moved from their current node.",
}


def first_address(cidr: str) -> str:
    """The address of the Service `kubernetes`: the first of the range."""
    return str(next(iter(ipaddress.ip_network(cidr).hosts())))


async def _kubernetes_service(api: Api) -> None:
    """Pods find the API at https://kubernetes.default.svc. Endpoints follow the advertised address at each start."""
    config, labels = api.config, {"component": "apiserver", "provider": "kubernetes"}
    where = {"name": "kubernetes", "namespace": "default"}
    spec = {
        "clusterIP": first_address(config.service_cidr),
        "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": config.advertise_port}],
    }
    await ensure(api, SERVICES, {"metadata": where | {"labels": labels}, "spec": spec})
    if not config.advertise_address:
        return
    port = {"name": "https", "port": config.advertise_port, "protocol": "TCP"}
    subset = {"addresses": [{"ip": config.advertise_address}], "ports": [port]}
    mark = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    await put(api, ENDPOINTS, {"metadata": where | {"labels": mark}, "subsets": [subset]})
    family = f"IPv{ipaddress.ip_address(config.advertise_address).version}"
    endpoint = {"addresses": [config.advertise_address], "conditions": {"ready": True}}
    named = where | {"labels": {"kubernetes.io/service-name": "kubernetes"}}
    await put(
        api,
        ENDPOINTSLICES,
        {"metadata": named, "addressType": family, "endpoints": [endpoint], "ports": [port]},
    )


async def put(api: Api, resource: Resource, obj: dict[str, Any]) -> None:
    """Create or replace one object."""
    namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
    if (resource.group, resource.version, resource.plural) not in api.served:
        return
    if api.registry.get(resource, namespace, name) is None:
        await ensure(api, resource, obj)
        return
    path = resource.path(namespace, name)
    response = await api.handle(Request("PUT", path, headers=AGENT, body=orjson.dumps(obj), user=COMPONENT))
    if response.status != 200:
        raise RuntimeError(f"PUT {path}: {response.status} {response.body!r}")


async def ensure(api: Api, resource: Resource, obj: dict[str, Any]) -> None:
    """Create one object through the front door, unless it exists."""
    namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
    if (resource.group, resource.version, resource.plural) not in api.served:
        return
    if api.registry.get(resource, namespace, name) is not None:
        return
    path = resource.path(namespace)
    response = await api.handle(Request("POST", path, headers=AGENT, body=orjson.dumps(obj), user=COMPONENT))
    if response.status not in (201, 409):
        raise RuntimeError(f"POST {path} ({name}): {response.status} {response.body!r}")


async def remove(api: Api, resource: Resource, obj: dict[str, Any]) -> None:
    """Delete one object."""
    path = resource.path(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
    response = await api.handle(Request("DELETE", path, headers=AGENT, user=COMPONENT))
    if response.status not in (200, 404):
        raise RuntimeError(f"DELETE {path}: {response.status} {response.body!r}")
