"""How requests travel: the client's lower edge. In: method, path, query, bytes. Out: status, headers, bytes, or watch batches.

`inprocess.py` calls the API's handler directly; `https.py` speaks HTTP/1.1 over TLS. Next: client.py, which gives the
bytes their Kubernetes meaning.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import NamedTuple, Protocol

import msgspec

from jota.meta.errors import ApiError
from jota.meta.watchevent import WatchEvent

EventBatch = list[WatchEvent]
"""In the order of the stream."""


class Reply(NamedTuple):
    """A whole response. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Transport(Protocol):
    several: bool
    """Whether one request may be many."""

    async def request(
        self,
        method: str,
        path: str,
        query: str = "",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        times: int = 1,
    ) -> Reply:
        """One exchange. Raises ConnectionError or TimeoutError (seconds) when no whole response arrived.

        `times`: so many of this POST are wanted. The answer is that to one of them or, when several could be made in one
        go, a list of their names and resourceVersions; of what is missing there, nothing was begun. With `several`, the body
        may be an array of as many: then the answer is one, too, with null for what has to be sent by itself. (Of PATCH and
        DELETE: [name, body] each, and "*" for the name in the path.)"""
        ...

    def watch(
        self, path: str, query: str = "", headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[EventBatch, None]:
        """Batches of events until the server ends the stream (a clean end just stops the iteration).

        Raises ApiError when the answer is not 200, ConnectionError when the stream breaks. Close it (`aclose`) to stop.
        """
        ...

    async def close(self) -> None: ...


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Cause(msgspec.Struct):
    reason: str = ""
    message: str = ""
    field: str = ""


class _Details(msgspec.Struct):
    name: str = ""
    group: str = ""
    kind: str = ""
    uid: str = ""
    causes: list[_Cause] | None = None
    retryAfterSeconds: int = 0


class _ListMeta(msgspec.Struct):
    continue_: str = msgspec.field(default="", name="continue")


class _Status(msgspec.Struct):
    kind: str
    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None
    metadata: _ListMeta | None = None


_event = msgspec.json.Decoder(_Event)
_status = msgspec.json.Decoder(_Status)


class EventLines:
    """Cuts a byte stream into watch events: one JSON object per line, lines cross chunks."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def feed(self, chunk: bytes) -> EventBatch:
        """Events that became complete with `chunk`. Raises ConnectionError on bytes that are not an event."""
        head, newline, tail = chunk.rpartition(b"\n")
        if not newline:
            self._rest.append(chunk)
            return []
        whole = b"".join((*self._rest, head)) if self._rest else head
        self._rest = [tail] if tail else []
        try:
            return [WatchEvent(e.type, bytes(e.object)) for e in map(_event.decode, filter(None, whole.split(b"\n")))]
        except msgspec.DecodeError as e:
            raise ConnectionError(f"watch stream: not an event: {e}") from e


def error_from(code: int, body: bytes) -> ApiError:
    """The ApiError that a failed response stands for; a body that is no Status still gives one, with the code's text."""
    from jota.meta.errors import FieldError

    try:
        status = _status.decode(body)
    except msgspec.DecodeError:
        status = None
    if status is None or status.kind != "Status":
        text = body[:1024].decode("utf-8", "replace") or f"the server answered {code} without a message"
        return ApiError(code, "", text)
    details = status.details or _Details()
    return ApiError(
        status.code or code,
        status.reason,
        status.message,
        name=details.name,
        group=details.group,
        kind=details.kind,
        uid=details.uid,
        causes=[FieldError(c.reason, c.field, c.message) for c in details.causes or []],
        retry_after=details.retryAfterSeconds,
        continue_token=status.metadata.continue_ if status.metadata else "",
    )
