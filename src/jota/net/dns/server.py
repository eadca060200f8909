"""The name server's sockets: UDP drained straight from the event loop, TCP for what does not fit.

Comes in: messages from pods. Goes out: answers of zone.py at once, within the callback; of forward.py from a task. Every
answer given from the zone is remembered by the whole message but its identity, so that the usual question costs one look
into a dict. Bounds: questions under way upstream, TCP connections, seconds a TCP client may idle.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from jota.net.dns import packet
from jota.net.dns.forward import Forwarder
from jota.net.dns.packet import SERVFAIL, Answer, Query
from jota.net.dns.zone import Zone

log = logging.getLogger(__name__)

DRAIN = 64
"""Datagrams per wake-up, so that a flood cannot starve the agent's other work."""
REMEMBERED = 10_000
FORWARDING = 1_000
"""Questions under way to upstream servers; beyond, SERVFAIL at once."""
CONNECTIONS = 200
IDLE = 10.0
"""Seconds between two questions on a TCP connection."""
TURNS = 4
"""Rotations that are remembered of an answer with several records."""


class Server:
    def __init__(self, zone: Zone, forwarder: Forwarder) -> None:
        self._zone, self._forwarder = zone, forwarder
        self._known: dict[bytes, tuple[bytes, ...]] = {}
        self._seen = zone.version
        self._turn = 0
        self._group: asyncio.TaskGroup | None = None
        self._pending = 0
        self._connections: set[asyncio.StreamWriter] = set()

    async def run(self, address: str, port: int = 53, *, ready: asyncio.Event | None = None) -> None:
        """Serve on UDP and TCP until cancelled. Raises OSError when the address cannot be bound."""
        with _bound(address, port, socket.SOCK_DGRAM) as udp, _bound(address, port, socket.SOCK_STREAM) as tcp:
            loop = asyncio.get_running_loop()
            async with asyncio.TaskGroup() as group:
                self._group = group
                server = await asyncio.start_server(self._serve_stream, sock=tcp)
                loop.add_reader(udp, self._drain, udp)
                try:
                    if ready is not None:
                        ready.set()
                    await asyncio.Event().wait()  # until cancelled: all work is done in callbacks and tasks
                finally:
                    loop.remove_reader(udp)
                    self._group = None
                    server.close()
                    for writer in self._connections:
                        writer.transport.abort()
                    await server.wait_closed()

    # --- one message

    def answer_now(self, data: bytes) -> bytes | Query | None:
        """The answer by UDP; None: say nothing; the Query itself: it needs an upstream server."""
        if self._seen != self._zone.version:
            self._known.clear()
            self._seen = self._zone.version
        known = self._known.get(data[2:])
        if known is not None:
            self._turn += 1
            return data[:2] + known[self._turn % len(known)]
        query = packet.parse(data)
        if not isinstance(query, Query):
            return query
        answer = self._zone.lookup(query.name, query.kind)
        if answer is None:
            remembered = self._forwarder.remembered(query)
            return query if remembered is None else packet.build(query, remembered, query.limit)
        if answer.chase:
            return query
        turns = range(min(len(answer.records), TURNS) or 1)
        built = tuple(packet.build(query, answer, query.limit, turn)[2:] for turn in turns)
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[data[2:]] = built
        return data[:2] + built[0]

    async def answer(self, query: Query, *, tcp: bool = False) -> bytes:
        """The answer to a parsed query, with upstream's help where needed. Does not raise but for cancellation."""
        limit = 65535 if tcp else query.limit
        found = self._zone.lookup(query.name, query.kind)
        if found is None:
            found = await self._forwarder.ask(query, tcp=tcp)
        elif found.chase:
            more = await self._forwarder.addresses(found.chase, query.kind, tcp=tcp)
            found = Answer(found.code, [*found.records, *more])
        return packet.build(query, found, limit)

    # --- UDP

    def _drain(self, door: socket.socket) -> None:
        try:
            for _ in range(DRAIN):
                data, peer = door.recvfrom(4096)
                answer = self.answer_now(data)
                if isinstance(answer, Query):
                    self._forward(door, answer, peer)
                elif answer is not None:
                    door.sendto(answer, peer)
        except BlockingIOError:
            return
        except OSError as error:  # a client that is gone (ICMP), a full device queue: the next datagram may be fine
            log.debug("DNS by UDP: %s", error)

    def _forward(self, door: socket.socket, query: Query, peer: tuple[str, int]) -> None:
        if self._group is None or self._pending >= FORWARDING:
            door.sendto(packet.build(query, Answer(SERVFAIL, authoritative=False), query.limit), peer)
            return
        self._pending += 1
        self._group.create_task(self._forward_datagram(door, query, peer))

    async def _forward_datagram(self, door: socket.socket, query: Query, peer: tuple[str, int]) -> None:
        try:
            door.sendto(await self.answer(query), peer)
        except OSError as error:
            log.debug("DNS answer to %s: %s", peer, error)
        finally:
            self._pending -= 1

    # --- TCP

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= CONNECTIONS:
            writer.close()
            return
        self._connections.add(writer)
        try:
            while True:
                async with asyncio.timeout(IDLE):
                    (size,) = struct.unpack("!H", await reader.readexactly(2))
                    data = await reader.readexactly(size)
                query = packet.parse(data)
                if query is None:
                    return
                answer = await self.answer(query, tcp=True) if isinstance(query, Query) else query
                writer.write(packet.join([answer]))
                async with asyncio.timeout(IDLE):
                    await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self._connections.discard(writer)
            writer.close()


@contextmanager
def _bound(address: str, port: int, kind: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if kind == socket.SOCK_DGRAM:
            # Room for a burst of questions while the loop is busy elsewhere.
            door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        door.bind((address, port))
        door.setblocking(False)
        yield door
