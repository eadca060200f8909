"""Where a Service's traffic goes: its ready endpoints, for whoever dials them from this server (which is no pod).

In: the registry. Out: (address, port) pairs. Used by the proxy subresources, webhooks and aggregated API servers.
"""

from __future__ import annotations

from jota.api.registry import Registry
from jota.kinds.kind import Object
from jota.kinds.shape import number, part, parts, strings, text, texts
from jota.meta.resource import ENDPOINTSLICES

OF_SERVICE = "kubernetes.io/service-name"


def slices(registry: Registry, namespace: str, service: str) -> list[Object]:
    """The EndpointSlices of a Service."""
    found = registry.objects(ENDPOINTSLICES, namespace)
    return [s for s in found if strings(part(s, "metadata"), "labels").get(OF_SERVICE) == service]


def ready(found: list[Object], port_name: str) -> list[tuple[str, int]]:
    """(address, port) of every endpoint that is ready, for the service port of that name."""
    choices: list[tuple[str, int]] = []
    for piece in found:
        numbers = [number(p, "port") for p in parts(piece, "ports") if text(p, "name") == port_name]
        for endpoint in parts(piece, "endpoints"):
            if part(endpoint, "conditions").get("ready") is not False:
                choices += [(address, n) for address in texts(endpoint, "addresses") for n in numbers if n]
    return choices


def service_port(service: Object, port: int) -> Object | None:
    """The entry of spec.ports with this number."""
    return next((p for p in parts(part(service, "spec"), "ports") if number(p, "port") == port), None)
