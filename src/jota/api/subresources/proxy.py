"""pods/proxy, services/proxy and nodes/proxy: HTTP to something inside the cluster, as `[scheme:]name[:port]`.

Path and query are kept; links in what comes back lead through the proxy again (proxy_links.py). Pods and services are
reached at their own addresses (this server stands in the cluster's network); a service's backend is picked from its ready
endpoints. Nodes are their kubelet API, or whatever listens at the port that is named.
"""

from __future__ import annotations

import ssl

from msgspec.structs import replace

from jota.aio.told import told
from jota.api import backends
from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.subresources import kubelet
from jota.kinds.kind import Object
from jota.kinds.shape import part, parts, text
from jota.meta.errors import ApiError, bad_request, not_found, unavailable
from jota.meta.resource import PODS, SERVICES
from jota.wire.dial import forward
from jota.wire.message import Response

_PRIVATE = tuple(name for name in kubelet.PRIVATE if name != "cookie")
"""Cookies pass: this server has none, and applications have their sessions in them (as upstream)."""


async def proxy(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 404, 500, 503."""
    target, request = call.target, call.request
    if not target.rest and request.method in ("GET", "HEAD") and not request.path.endswith("/"):
        where = request.path + "/" + (f"?{request.query}" if request.query else "")
        return Response(301, [("Location", where)])
    path, prefix = target.rest or "/", request.path.removesuffix(target.rest)
    scheme, name, port = split_name(target.name)
    if target.resource == "nodes":
        host, number = kubelet.api_of(engine, name)
        if port in ("", str(number)):
            return _linked(call, await kubelet.hand_over(engine, request, name, path, request.query), prefix, "")
        number = _node_port(name, host, port)
    elif target.resource == "pods":
        host, number = _pod(engine, target.namespace, name, port)
    else:
        host, number = _service(engine, target.namespace, name, port)
    headers = {k: v for k, v in request.headers.items() if not k.startswith(_PRIVATE)}
    headers["x-forwarded-uri"] = prefix + path
    if request.peer.address:
        before = headers.get("x-forwarded-for", "")
        headers["x-forwarded-for"] = f"{before}, {request.peer.address}" if before else request.peer.address
    bare = replace(request, headers=headers)
    tls = _insecure() if scheme == "https" else None
    whole = f"{path}?{request.query}" if request.query else path
    try:
        response = await forward(bare, host=host, port=number, path=whole, ssl=tls)
    except (OSError, TimeoutError) as e:
        text_ = f"error trying to reach service: {host}:{number}: {told(e)}"
        raise ApiError(503, "ServiceUnavailable", text_) from None
    return _linked(call, response, prefix, f"{host}:{number}")


def _linked(call: Call, response: Response, prefix: str, backend: str) -> Response:
    """The answer with links that lead through the proxy, where it has any."""
    names = {name.lower(): value for name, value in response.headers}
    if "location" not in names and not names.get("content-type", "").startswith("text/html"):
        return response
    from jota.api.subresources.proxy_links import Links, through

    if call.request.method == "HEAD" and "location" not in names:
        return response  # there is no page, and its length is not known before it is rewritten
    return through(response, Links(prefix, backend, call.request.headers.get("host", "")))


def split_name(name: str) -> tuple[str, str, str]:
    """ "https:web:443" -> (scheme, name, port); "" where not given. Raises ApiError 400."""
    words = name.split(":")
    if len(words) == 1:
        return "", words[0], ""
    if len(words) == 2:
        return "", words[0], words[1]
    if len(words) == 3 and words[0] in ("http", "https", ""):
        return words[0], words[1], words[2]
    raise bad_request(f'invalid request name "{name[:128]}": it must be [scheme:]name[:port]')


def _pod(engine: Engine, namespace: str, name: str, port: str) -> tuple[str, int]:
    """Raises ApiError 400, 404, 503."""
    pod = engine.registry.get(PODS, namespace, name)
    if pod is None:
        raise not_found("pods", name)
    address = text(part(pod, "status"), "podIP")
    if not address:
        raise unavailable(f'pod "{name}" has no address yet')
    if not backends.reachable(address):
        raise bad_request("address not allowed")
    if port.isascii() and port.isdecimal():
        return address, int(port)
    for container in parts(part(pod, "spec"), "containers"):
        for declared in parts(container, "ports"):
            if not port or text(declared, "name") == port:
                return address, int(declared["containerPort"])
    if port:
        raise bad_request(f'pod "{name}" has no port named "{port}"')
    return address, 80


def _node_port(name: str, host: str, port: str) -> int:
    """Raises ApiError 400."""
    if not backends.reachable(host):
        raise bad_request("address not allowed")
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise bad_request(f'node "{name}" has no port named "{port[:64]}"')
    return int(port)


def _service(engine: Engine, namespace: str, name: str, port: str) -> tuple[str, int]:
    """A ready backend of one of the service's ports. Raises ApiError 404, 503."""
    service = engine.registry.get(SERVICES, namespace, name)
    if service is None:
        raise not_found("services", name)
    found = backends.slices(engine.registry, namespace, name)
    wanted = backends.of_pod(engine.registry, namespace)
    choices = backends.ready(found, _port_name(service, port), wanted)
    if not choices:
        raise unavailable(f'no endpoints available for service "{name}"')
    return engine.random.choice(choices)


def _port_name(service: Object, port: str) -> str:
    """The name of the service port that is meant: by name, by number, or the only one. Raises ApiError 503."""
    ports = parts(part(service, "spec"), "ports")
    for declared in ports:
        if port in (text(declared, "name"), str(declared.get("port"))) or (not port and len(ports) == 1):
            return text(declared, "name")
    raise unavailable(f'no service port "{port}" found for service "{service["metadata"]["name"]}"')


def _insecure() -> ssl.SSLContext:
    """TLS without checking the certificate: backends inside the cluster have none that we could know (as upstream)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


VERBS = dict.fromkeys(("get", "create", "update", "patch", "delete"), proxy)
