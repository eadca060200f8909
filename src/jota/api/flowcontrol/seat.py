"""The seats that a watch holds, given back exactly once: when it has sent its beginning, or will never do so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jota.wire.message import Response, Stream, Writer

if TYPE_CHECKING:
    from jota.api.flowcontrol.flows import Flows
    from jota.api.flowcontrol.level import Flow


class Seat:
    __slots__ = ("_began", "_flow", "_flows", "_width")

    def __init__(self, flows: Flows, flow: Flow, width: int, began: float) -> None:
        """`width` seats of `flow` were taken at `began`."""
        self._flows, self._flow, self._width, self._began = flows, flow, width, began

    def leave(self) -> None:
        """Any number of times."""
        width, self._width = self._width, 0
        if width:
            self._flows.leave(self._flow, width, self._began)


def seated(response: Response, seat: Seat) -> Response:
    """A watch's answer: the stream gives the seats back itself; if it is never run (HEAD, the client is gone), we do."""
    if response.stream is None:
        seat.leave()
    else:
        response.stream = _Stream(response.stream, seat)
    return response


class _Stream:
    def __init__(self, stream: Stream, seat: Seat) -> None:
        self._stream, self._seat = stream, seat

    async def __call__(self, writer: Writer) -> None:
        try:
            await self._stream(writer)
        finally:
            self._seat.leave()

    def __del__(self) -> None:
        self._seat.leave()
