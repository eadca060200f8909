"""HTTP messages as the rest of the house sees them: bytes come from `wire/http.py`, meaning is given in `api/` or `node/`.

A handler is `async (Request) -> Response`. The body of a Response is one of
- `bytes` or a list of parts (never joined as a whole),
- `Made`: parts that are made while they are sent (a large list),
- `stream`: a coroutine function that writes chunks until it returns or the peer goes away (watch, logs -f),
- `upgrade`: a coroutine function that owns the raw byte stream after a 101 (WebSocket, SPDY, tunnels).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec import Struct, field


@dataclass(slots=True, frozen=True)
class Peer:
    """The other end of a connection."""

    address: str = ""
    port: int = 0
    certificate: bytes | None = None
    """DER of the client certificate that TLS verified against our CA; None without one."""


class Alike:
    """Requests of one peer that have the same method and headers, but for the length of their bodies. Nothing of a single one of
    them belongs here."""

    __slots__ = ("caller", "ways")

    def __init__(self) -> None:
        self.caller: Any = None
        """What the handler remembers of who sends them."""
        self.ways: dict[tuple[str, str, str], Any] = {}
        """What it remembers of where they lead, by their paths' beginnings, the subresource and the query."""


class Request(Struct):
    """One HTTP request with its whole body (bounded by `Limits.body`)."""

    method: str
    path: str
    """As sent, still percent-encoded, without the query."""
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    """Lower-case names; repeated headers are joined with ", "."""
    body: bytes = b""
    peer: Peer = field(default_factory=Peer)
    user: Any = None
    """Set by the authentication filter, or beforehand by the in-process transport (then it is trusted)."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Room for filters to hand things on (warnings, request info, deadline)."""
    times: int = 1
    """So many are wanted at once, all alike or, with an array as its body, one of each; nothing that comes over a wire says so."""
    alike: Alike | None = None
    """What all requests with this method and these headers from this peer share; None: there are no others yet."""


class Writer(Protocol):
    """The sending half of a streaming response."""

    def write(self, parts: Sequence[bytes]) -> None:
        """Queue parts as one chunk and one send. Never blocks; see `buffered`."""
        ...

    @property
    def buffered(self) -> int:
        """Bytes queued and not yet taken by the kernel."""
        ...

    @property
    def closed(self) -> bool:
        """True once the peer is gone; the stream's task is also cancelled then."""
        ...

    async def drain(self) -> None:
        """Wait until the buffer is below the low-water mark. Raises ConnectionResetError when the peer is gone."""
        ...


class Duplex(Protocol):
    """A raw byte stream after an upgrade, or a dialled connection."""

    async def read(self, limit: int = 65536) -> bytes:
        """At most `limit` bytes; b"" at end of stream."""
        ...

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def write_eof(self) -> None:
        """Half-close the sending side where the transport can (TLS cannot: then nothing happens)."""
        ...

    def close(self) -> None: ...


Part = bytes | bytearray | memoryview
"""A piece of a body; whoever gives it away does not change it any more. A view of what is kept elsewhere saves a copy of it."""


class Made(ABC):
    """A body that is never there as a whole: whoever goes through it has it made, in pieces of a size to be sent at once
    (answer.PIECE). It can be gone through again, and in any thread."""

    __slots__ = ()

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes in all."""

    @abstractmethod
    def __iter__(self) -> Iterator[Part]: ...


Body = bytes | Sequence[Part] | Made
Stream = Callable[[Writer], Awaitable[None]]
Upgrade = Callable[[Duplex], Awaitable[None]]


class Response(Struct):
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    """Answers that share them share their encoded form: what differs each time goes into `own`."""
    body: Body = b""
    stream: Stream | None = None
    upgrade: Upgrade | None = None
    own: bytes = b""
    """Header lines of this answer alone (its id), each with its end; who makes them sees to it that they are such."""


def size(body: Body) -> int:
    """Bytes in all."""
    if isinstance(body, bytes):
        return len(body)
    return body.size if isinstance(body, Made) else sum(map(len, body))


def joined(body: Body) -> bytes:
    return body if isinstance(body, bytes) else b"".join(body)


Handler = Callable[[Request], Awaitable[Response]]
Answerer = Callable[[Request], Response | Awaitable[Response]]
"""A Handler, or one that has the answer at once where nothing must be waited for: servers take either."""
