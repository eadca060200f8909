"""Names that are not the cluster's: asked of the machine's own name servers, remembered for a short while.

Comes in: a Query. Goes out: an Answer, always, within a few seconds: SERVFAIL when no server answers, NXDOMAIN at once
when there is no server to ask. `read_servers` knows the traps of resolv.conf: a stub on loopback (systemd-resolved,
dnsmasq) is not reachable from a simulated node's network namespace, and our own address would be a loop.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from jota.aio.clock import Clock
from jota.net.dns import packet
from jota.net.dns.packet import NXDOMAIN, SERVFAIL, Answer, Foreign, Query

log = logging.getLogger(__name__)

TIMEOUT = 2.0
"""Seconds that one server may take."""
ROUNDS = 2
"""How often the list of servers is gone through."""
PENALTY = 5.0
"""Seconds that a server which did not answer is asked last; when all are in penalty, each is given one short try."""
KEEP = 30
"""Seconds at most that an answer is remembered."""
REMEMBERED = 10_000
REREAD = 5.0
"""Seconds after which resolv.conf is looked at again."""

Servers = Callable[[], Sequence[str]]


def read_servers(path: str = "/etc/resolv.conf", *, own: Sequence[str] = (), loopback: bool | None = None) -> list[str]:
    """Name servers to ask. `own`: addresses never to ask; `loopback`: may 127.0.0.0/8 be asked (None: find out)?"""
    found = _nameservers(path)
    if any(server.startswith("127.0.0.53") for server in found):
        found = _nameservers("/run/systemd/resolve/resolv.conf") or found
    if loopback is None:
        loopback = _in_first_namespace()
    return [s for s in found if s not in own and (loopback or not s.startswith(("127.", "::1")))]


def _nameservers(path: str) -> list[str]:
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return []
    fields = [line.split() for line in lines]
    return [f[1] for f in fields if len(f) > 1 and f[0] == "nameserver" and _family(f[1]) is not None]


def _in_first_namespace() -> bool:
    """Are we in the machine's own network namespace, where loopback means the machine's?"""
    try:
        return Path("/proc/self/ns/net").stat().st_ino == Path("/proc/1/ns/net").stat().st_ino
    except OSError:
        return True


def _family(address: str) -> socket.AddressFamily | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address.split("%")[0])
        except OSError:
            continue
        return family
    return None


@dataclass(slots=True)
class _Kept:
    until: float
    foreign: Foreign


class Forwarder:
    def __init__(self, servers: Servers, *, clock: Clock, port: int = 53) -> None:
        """`servers`: called now and then for the current list; `port`: theirs (tests)."""
        self._read, self._clock, self._port = servers, clock, port
        self._servers: list[str] = []
        self._read_at = float("-inf")
        self._penalty: dict[str, float] = {}
        self._kept: dict[tuple[bytes, int], _Kept] = {}
        self._asking: dict[tuple[bytes, int], asyncio.Future[Foreign]] = {}

    def remembered(self, query: Query) -> Answer | None:
        """The answer, if it is known already."""
        kept = self._kept.get((query.name, query.kind))
        if kept is None or kept.until < self._clock.monotonic():
            return None
        return _answer(kept.foreign)

    async def ask(self, query: Query, *, tcp: bool = False) -> Answer:
        """Never raises but for cancellation; takes TIMEOUT x servers x ROUNDS at most."""
        return self.remembered(query) or _answer(await self._shared(query, tcp))

    async def addresses(self, name: bytes, kind: int, *, tcp: bool = False) -> list[bytes]:
        """Records (CNAME, A, AAAA) of a foreign name, for appending to an own CNAME."""
        question = name + kind.to_bytes(2, "big") + packet.IN.to_bytes(2, "big")
        query = Query(b"\0\0", True, question, name, kind, packet.EDNS_LIMIT, False)
        kept = self._kept.get((name, kind))
        if kept is not None and kept.until >= self._clock.monotonic():
            return kept.foreign.records
        return (await self._shared(query, tcp)).records

    async def _shared(self, query: Query, tcp: bool) -> Foreign:
        """One question to the servers for all clients that ask the same at the same time."""
        key = query.name, query.kind
        running = self._asking.get(key)
        if running is not None:
            return await asyncio.shield(running)
        future: asyncio.Future[Foreign] = asyncio.get_running_loop().create_future()
        self._asking[key] = future
        found = Foreign(SERVFAIL, False, 0, [])
        try:
            found = await self._ask(query, tcp)
        finally:
            del self._asking[key]
            future.set_result(found)
        if found.ttl and not found.truncated:
            if len(self._kept) >= REMEMBERED:
                self._kept.clear()
            self._kept[key] = _Kept(self._clock.monotonic() + min(found.ttl, KEEP), found)
        return found

    async def _ask(self, query: Query, tcp: bool) -> Foreign:
        servers = self._current()
        if not servers:
            return Foreign(NXDOMAIN, False, 0, [])
        now = self._clock.monotonic()
        healthy = [s for s in servers if self._penalty.get(s, 0.0) <= now]
        # All silent lately: one short try each keeps pods' resolvers from hanging, and notices when they are back.
        attempts = healthy * ROUNDS or servers
        timeout = TIMEOUT if healthy else TIMEOUT / 4
        last = Foreign(SERVFAIL, False, 0, [])
        for server in attempts:
            if self._penalty.get(server, 0.0) > now and healthy:
                continue
            found = await self._exchange(server, query, tcp, timeout)
            if found is None:
                self._penalty[server] = now = self._clock.monotonic()
                self._penalty[server] += PENALTY
                continue
            self._penalty.pop(server, None)
            if found.code in (packet.NOERROR, NXDOMAIN):
                return found
            last = found
        return last

    def _current(self) -> list[str]:
        now = self._clock.monotonic()
        if now - self._read_at >= REREAD:
            self._servers, self._read_at = list(self._read()), now
        return self._servers

    async def _exchange(self, server: str, query: Query, tcp: bool, timeout: float) -> Foreign | None:
        """One question to one server; None when it does not answer in time."""
        identity = secrets.token_bytes(2)
        message = identity + b"\x01\0\0\1\0\0\0\0\0\0" + query.question
        try:
            async with asyncio.timeout(timeout):
                found = None if tcp else await self._datagram(server, message, query.question, identity)
                if found is None or found.truncated:
                    found = await self._stream(server, message, query.question, identity)
                return found
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            log.debug("name server %s: %s", server, error or "no answer in time")
            return None

    async def _datagram(self, server: str, message: bytes, question: bytes, identity: bytes) -> Foreign | None:
        """A fresh socket, so that every question leaves from another port: an answer cannot easily be forged."""
        loop = asyncio.get_running_loop()
        with closing(socket.socket(_family(server) or socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)) as door:
            door.setblocking(False)
            door.connect((server, self._port))
            await loop.sock_sendall(door, message)
            while True:
                found = packet.read_answer(await loop.sock_recv(door, 4096), question, identity)
                if found is not None:
                    return found

    async def _stream(self, server: str, message: bytes, question: bytes, identity: bytes) -> Foreign | None:
        reader, writer = await asyncio.open_connection(server, self._port)
        try:
            writer.write(packet.join([message]))
            size = int.from_bytes(await reader.readexactly(2), "big")
            return packet.read_answer(await reader.readexactly(size), question, identity)
        finally:
            writer.close()


def _answer(foreign: Foreign) -> Answer:
    """Record owners are written out in full; the code is passed on."""
    return Answer(foreign.code, foreign.records, authoritative=False)
