"""Hand a request over to the node agent of a pod: log, exec, attach and portforward have their paths in the kubelet's API.

The caller was authenticated and authorized here; the node agent trusts this server's client certificate, so the client's
own credentials are taken off. An upgrade is passed through byte for byte.
"""

from __future__ import annotations

import ssl
from urllib.parse import parse_qsl, quote, urlencode

from msgspec.structs import replace

from jota.aio.told import told
from jota.api.call import Call
from jota.api.resource import Engine
from jota.kinds.kind import Object
from jota.kinds.shape import deep, number, part, parts, text
from jota.meta.errors import ApiError, bad_request, internal, unavailable
from jota.meta.resource import NODES
from jota.wire.dial import forward
from jota.wire.message import Request, Response

PRIVATE = ("authorization", "cookie", "impersonate-", "x-remote-")
"""Beginnings of headers that end here: the client's credentials, and those that speak for others."""
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


def stored_pod(engine: Engine, call: Call) -> Object:
    """Raises ApiError 404."""
    target = call.target
    return call.served.object_of(engine.stored(call.served, target.namespace, target.name))


def container_of(pod: Object, wanted: str) -> str:
    """The container that is meant; without a name, the only one. Raises ApiError 400 in upstream's words."""
    name, spec = pod["metadata"]["name"], part(pod, "spec")
    main, first = ([text(c, "name") for c in parts(spec, f)] for f in ("containers", "initContainers"))
    late = [text(c, "name") for c in parts(spec, "ephemeralContainers")]
    if wanted:
        if wanted in (*main, *first, *late):
            return wanted
        raise bad_request(f"container {wanted} is not valid for pod {name}")
    if len(main) == 1:
        return main[0]
    detail = f"a container name must be specified for pod {name}, choose one of: [{' '.join(main)}]"
    if first:
        detail += f" or one of the init containers: [{' '.join(first)}]"
    if late:
        detail += f" or one of the ephemeral containers: [{' '.join(late)}]"
    raise bad_request(detail)


def address_of(node: Object, default_port: int) -> tuple[str, int]:
    """(host, port) of a node's kubelet API. Raises ApiError 503."""
    status = part(node, "status")
    by_type = {text(a, "type"): text(a, "address") for a in parts(status, "addresses")}
    host = by_type.get("InternalIP") or by_type.get("ExternalIP") or by_type.get("Hostname")
    if not host:
        raise unavailable(f'node "{node["metadata"]["name"]}" has not reported an address yet')
    return host, number(deep(status, "daemonEndpoints", "kubeletEndpoint"), "Port") or default_port


def api_of(engine: Engine, node_name: str) -> tuple[str, int]:
    """(host, port) of the kubelet API of a node by its name. Raises ApiError 404, 503."""
    node = engine.registry.get(NODES, "", node_name)
    if node is None:
        raise ApiError(404, "NotFound", f'nodes "{node_name}" not found', name=node_name, kind="nodes")
    return address_of(node, engine.config.kubelet_port)


async def hand_over(engine: Engine, request: Request, node_name: str, path: str, query: str) -> Response:
    """Pass `request` on as `path?query` to the kubelet API of a node. Raises ApiError 400, 404, 500, 503."""
    host, port = api_of(engine, node_name)
    tls = engine.config.kubelet_tls
    if tls is None:
        raise unavailable("this server has no credentials for node agents")
    headers = {k: v for k, v in request.headers.items() if not k.startswith(PRIVATE)}
    bare = replace(request, headers=headers)
    try:
        return await forward(bare, host=host, port=port, path=f"{path}?{query}" if query else path, ssl=tls)
    except (OSError, ssl.SSLError, TimeoutError) as e:
        raise internal(f"error dialing backend: {node_name} ({host}:{port}): {told(e)}") from None


def node_of(pod: Object) -> str:
    """The pod's node. Raises ApiError 400."""
    name = text(part(pod, "spec"), "nodeName")
    if not name:
        raise bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
    return name


def pod_path(kind: str, pod: Object, container: str = "") -> str:
    """e.g. /exec/default/web/app."""
    meta = pod["metadata"]
    path = f"/{kind}/{quote(meta['namespace'])}/{quote(meta['name'])}"
    return f"{path}/{quote(container)}" if container else path


RENAMED = {"stdin": "input", "stdout": "output", "stderr": "error"}


def stream_query(query: str) -> str:
    """Query of exec and attach as the kubelet spells it (input, output, error); `container` is in the path."""
    kept = []
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key == "command":
            kept.append((key, value))
        elif key in ("stdin", "stdout", "stderr", "tty") and value.lower() in ("1", "t", "true"):
            kept.append((RENAMED.get(key, key), "1"))
    return urlencode(kept)
