"""pods/portforward: TCP to a port of a pod; WebSocket tunnel or SPDY, carried by the node agent."""

from __future__ import annotations

from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.subresources import kubelet
from jota.wire.message import Response


async def connect(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 404, 500, 503."""
    pod = kubelet.stored_pod(engine, call)
    node = kubelet.node_of(pod)
    return await kubelet.hand_over(engine, call.request, node, kubelet.pod_path("portForward", pod), call.request.query)


VERBS = {"get": connect, "create": connect}
