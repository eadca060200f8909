"""pods/attach: the streams of a running container; WebSocket or SPDY, carried by the node agent."""

from __future__ import annotations

from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.subresources import kubelet
from jota.meta.errors import bad_request
from jota.wire.message import Response


async def connect(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 404, 500, 503."""
    pod = kubelet.stored_pod(engine, call)
    node = kubelet.node_of(pod)
    container = kubelet.container_of(pod, call.params.get("container", ""))
    query = kubelet.stream_query(call.request.query)
    if not query:
        raise bad_request("you must specify at least one of stdin, stdout, stderr")
    return await kubelet.hand_over(engine, call.request, node, kubelet.pod_path("attach", pod, container), query)


VERBS = {"get": connect, "create": connect}
