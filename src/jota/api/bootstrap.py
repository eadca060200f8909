"""What every cluster has from the first moment, made at start if it is not there: namespaces, the default ServiceCIDR, the
Service `kubernetes` with its endpoints, the two system priority classes, and the default storage class. All through the
front door, as the server's own identity."""

from __future__ import annotations

import ipaddress
import logging
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson

from jota.aio.clock import rfc3339
from jota.api.admission.priority import CLASSES, SYSTEM
from jota.api.filters.attributes import COMPONENT
from jota.kinds.networking.servicecidr import DEFAULT, READY
from jota.meta.resource import ENDPOINTS, ENDPOINTSLICES, NAMESPACES, SERVICE_CIDRS, SERVICES, Resource
from jota.wire.message import Request

if TYPE_CHECKING:
    from jota.api.server import Api

log = logging.getLogger("jota.api")
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
    await default_service_cidr(api)
    ranges = api.registry.get(SERVICE_CIDRS, "", DEFAULT)
    if ranges is not None and api.config.service_cidr not in ranges["spec"]["cidrs"]:
        log.warning(
            "the ServiceCIDR %s is not %s, with which this server was started", DEFAULT, api.config.service_cidr
        )
    await kubernetes_service(api)


_ABOUT = {
    "system-cluster-critical": "run in the cluster, but can be moved to another node if necessary.",
    "system-node-critical": "not be moved from their current node.",
}


@cache
def first_address(cidr: str) -> str:
    """The address of the Service `kubernetes`: the first of the range."""
    return str(next(iter(ipaddress.ip_network(cidr).hosts())))


async def default_service_cidr(api: Api) -> None:
    """The range that the server was started with, as the ServiceCIDR `kubernetes`; Ready unless somebody says otherwise
    (upstream's kubernetes-service-cidr-controller). One that has other ranges is left alone."""
    if (SERVICE_CIDRS.group, SERVICE_CIDRS.version, SERVICE_CIDRS.plural) not in api.served:
        return
    cidrs = [str(ipaddress.ip_network(api.config.service_cidr))]
    await ensure(api, SERVICE_CIDRS, {"metadata": {"name": DEFAULT}, "spec": {"cidrs": cidrs}})
    found = api.registry.get(SERVICE_CIDRS, "", DEFAULT)
    if found is None or found["metadata"].get("deletionTimestamp"):
        return
    if found["spec"]["cidrs"][:1] != cidrs:
        return  # `run` has told
    conditions = (found.get("status") or {}).get("conditions") or []
    if any(c.get("type") == READY for c in conditions):
        return
    ready = {"type": READY, "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready"}
    ready["lastTransitionTime"] = rfc3339(api.clock.now())
    patch = {"metadata": {"uid": found["metadata"]["uid"]}, "status": {"conditions": [*conditions, ready]}}
    headers = {"content-type": "application/merge-patch+json", **AGENT}
    path, query = SERVICE_CIDRS.path("", DEFAULT) + "/status", "fieldManager=kubernetes-service-cidr-controller"
    response = await api.handle(Request("PATCH", path, query, headers, orjson.dumps(patch), user=COMPONENT))
    if response.status not in (200, 404, 409):
        raise RuntimeError(f"PATCH {path}: {response.status} {response.body!r}")


async def kubernetes_service(api: Api) -> None:
    """Pods find the API at https://kubernetes.default.svc. Endpoints follow the advertised address. Raises RuntimeError."""
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
    await _keep(api, ENDPOINTS, {"metadata": where | {"labels": mark}, "subsets": [subset]})
    family = f"IPv{ipaddress.ip_address(config.advertise_address).version}"
    endpoint = {"addresses": [config.advertise_address], "conditions": {"ready": True}}
    named = where | {"labels": {"kubernetes.io/service-name": "kubernetes"}}
    await _keep(
        api,
        ENDPOINTSLICES,
        {"metadata": named, "addressType": family, "endpoints": [endpoint], "ports": [port]},
    )


async def _keep(api: Api, resource: Resource, obj: dict[str, Any]) -> None:
    """`put`, where what is there does not say the same already."""
    found = api.registry.get(resource, obj["metadata"]["namespace"], obj["metadata"]["name"])
    if found is None or not _says(found, obj):
        await put(api, resource, obj)


def _says(found: Any, wanted: Any) -> bool:
    """All that is wanted, and maybe more fields."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_says(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_says, found, wanted))
    return bool(found == wanted)


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
    if api.registry.exists(resource, namespace, name):
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
