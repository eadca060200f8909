"""A watch over WebSocket: each event is one text message, the same line of JSON that a stream would carry.

In: the stream of watch.py. Out: a 101. What clients offer as sub-protocol is echoed and changes nothing, as upstream, where
`base64.binary.k8s.io` too gets plain JSON. (A bearer token among the offers went no further than filters/authn.py.)
"""

from __future__ import annotations

from collections.abc import Sequence

from jota.meta.errors import bad_request
from jota.wire import websocket
from jota.wire.message import Duplex, Request, Response, Stream

wanted = websocket.wanted


def upgraded(request: Request, stream: Stream) -> Response:
    """Raises ApiError 400 for a handshake that is none."""
    try:
        _, headers = websocket.handshake(request, websocket.offered(request))
    except websocket.HandshakeError as problem:
        raise bad_request(str(problem)) from None

    async def upgrade(duplex: Duplex) -> None:
        socket = websocket.WebSocket(duplex)

        async def send() -> None:
            await stream(_Messages(socket, duplex))

        await websocket.tell(socket, send())

    return Response(101, headers, upgrade=upgrade)


class _Messages:
    """message.Writer whose parts are messages."""

    def __init__(self, socket: websocket.WebSocket, duplex: Duplex) -> None:
        self._socket, self._duplex = socket, duplex

    def write(self, parts: Sequence[bytes]) -> None:
        for part in parts:
            self._socket.send(part.decode())

    @property
    def buffered(self) -> int:
        # a connection of the edge knows; without it nobody waits in line
        found: int = getattr(self._duplex, "buffered", 0)
        return found

    @property
    def closed(self) -> bool:
        return self._socket.close_code is not None

    async def drain(self) -> None:
        await self._socket.drain()
