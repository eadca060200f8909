"""Where a Service's traffic goes: its ready endpoints, for whoever dials them from this server (which is no pod).

In: the registry. Out: (address, port) pairs. Used by the proxy subresources, webhooks and aggregated API servers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from jota.api.registry import Registry
from jota.kinds.kind import Object
from jota.kinds.shape import number, part, parts, strings, text, texts
from jota.meta.resource import ENDPOINTSLICES, PODS

OF_SERVICE = "kubernetes.io/service-name"


def slices(registry: Registry, namespace: str, service: str) -> list[Object]:
    """The EndpointSlices of a Service."""
    found = registry.objects(ENDPOINTSLICES, namespace)
    return [s for s in found if strings(part(s, "metadata"), "labels").get(OF_SERVICE) == service]


def ready(
    found: list[Object], port_name: str, wanted: Callable[[Object, str], bool] = lambda _, __: True
) -> list[tuple[str, int]]:
    """(address, port) of every endpoint that is ready, for the service port of that name. `wanted`: (endpoint, address) ->
    whether it counts."""
    choices: list[tuple[str, int]] = []
    for piece in found:
        if text(piece, "addressType") == "FQDN":
            continue  # names are for whoever asks the API for them; no proxy follows them
        numbers = [number(p, "port") for p in parts(piece, "ports") if text(p, "name") == port_name]
        for endpoint in parts(piece, "endpoints"):
            if part(endpoint, "conditions").get("ready") is not False:
                chosen = [address for address in texts(endpoint, "addresses") if wanted(endpoint, address)]
                choices += [(address, n) for address in chosen for n in numbers if n]
    return choices


def reachable(address: str) -> bool:
    """Whether requests of users may be passed on to a pod's address: not to this host itself, nor to what only this host
    sees (upstream's IsProxyableIP). Nodes write the addresses of their pods."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return not (found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified)


def of_pod(registry: Registry, namespace: str) -> Callable[[Object, str], bool]:
    """For `ready`: an endpoint counts when the pod that it names, of this namespace, has this address. Users write endpoints;
    through the API server they reach no more than pods (upstream's rule for services/proxy)."""

    def wanted(endpoint: Object, address: str) -> bool:
        target = part(endpoint, "targetRef")
        if text(target, "namespace") != namespace or not reachable(address):
            return False
        status = part(registry.get(PODS, namespace, text(target, "name")) or {}, "status")
        return address in {text(status, "podIP"), *(text(ip, "ip") for ip in parts(status, "podIPs"))}

    return wanted


def service_port(service: Object, port: int) -> Object | None:
    """The entry of spec.ports with this number."""
    return next((p for p in parts(part(service, "spec"), "ports") if number(p, "port") == port), None)
