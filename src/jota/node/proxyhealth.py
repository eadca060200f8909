"""How the service proxy fares, told over HTTP, at kube-proxy's own ports: what load balancers ask before they send traffic.

In: what proxy.py notes (a change waits, all is applied) and the services with a healthCheckNodePort. Out: port 10256 with
/healthz and /livez, 127.0.0.1:10249 with /proxyMode, and a port per such service that answers 200 while this node has a ready
endpoint of it. A port that is taken is told in the log and tried again: nothing else of the node depends on it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from typing import NamedTuple

from jota.aio.clock import Clock, rfc3339
from jota.wire.http import HttpServer
from jota.wire.message import Handler, Request, Response

log = logging.getLogger(__name__)

HEALTH_PORT, STATUS_PORT = 10256, 10249
LATE = 60.0
"""Seconds that a change may wait before the proxy counts as broken (kube-proxy: twice its sync period)."""
_JSON = [("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff")]
_TEXT = [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")]


class Check(NamedTuple):
    """What a load balancer is told of one service."""

    port: int
    """The service's healthCheckNodePort."""
    namespace: str
    name: str
    endpoints: int
    """Ready ones on this node."""


class ProxyHealth:
    """Notes and serves. `waits` and `applied` may be called at any time, `serve` by one task."""

    def __init__(self, clock: Clock, address: str = "0.0.0.0") -> None:
        """`address`: where ports listen, but the one of /proxyMode."""
        self._clock, self._address = clock, address
        self._since: float | None = None
        """Monotonic time since which a change waits."""
        self._updated = clock.now()
        self.eligible = True
        """False for a node that is being deleted: load balancers should take their traffic away."""
        self._checks: dict[int, Check] = {}
        self._servers: dict[int, HttpServer] = {}
        self._taken: set[int] = set()

    def waits(self) -> None:
        if self._since is None:
            self._since = self._clock.monotonic()

    def applied(self) -> None:
        self._since, self._updated = None, self._clock.now()

    @property
    def healthy(self) -> bool:
        return self._since is None or self._clock.monotonic() - self._since < LATE

    async def serve(self, checks: Iterable[Check]) -> None:
        """Listen on the proxy's own ports and on those of `checks`, and on no others. Of two claims the first counts."""
        self._checks = {}
        for check in checks:
            self._checks.setdefault(check.port, check)
        for port in self._servers.keys() - self._checks.keys() - {HEALTH_PORT, STATUS_PORT}:
            await self._servers.pop(port).close(0)
        self._taken &= {*self._checks, HEALTH_PORT, STATUS_PORT}
        await self._listen(HEALTH_PORT, self._address, self._health)
        await self._listen(STATUS_PORT, "127.0.0.1", _status)
        for port in self._checks:
            await self._listen(port, self._address, self._answers(port))

    async def close(self) -> None:
        while self._servers:
            await self._servers.popitem()[1].close(0)

    async def _listen(self, port: int, address: str, handler: Handler) -> None:
        if port in self._servers:
            return
        server = HttpServer(handler, clock=self._clock)
        try:
            await server.start(address, port)
        except OSError as error:
            if port not in self._taken:
                # as a rule another cluster's node on this host
                why = os.strerror(error.errno) if error.errno else str(error)
                log.info("services: their health cannot be asked for at %s:%d: %s", address, port, why)
            self._taken.add(port)
            return
        self._taken.discard(port)
        self._servers[port] = server

    async def _health(self, request: Request) -> Response:
        if request.path not in ("/healthz", "/livez"):
            return Response(404, _TEXT, b"404 page not found\n")
        now, healthy = self._clock.now(), self.healthy
        told = {"lastUpdated": rfc3339(now if healthy else self._updated), "currentTime": rfc3339(now)}
        status = {"lastUpdated": rfc3339(self._updated), "healthy": healthy}
        body: dict[str, object] = {**told, "healthy": healthy, "status": {"IPv4": status}}
        if request.path == "/healthz":  # /livez is about the proxy alone
            body["nodeEligible"] = self.eligible
            healthy = healthy and self.eligible
        return Response(200 if healthy else 503, _JSON, json.dumps(body).encode())

    def _answers(self, port: int) -> Handler:
        async def answer(_: Request) -> Response:
            check = self._checks.get(port)
            if check is None:
                return Response(404, _TEXT, b"404 page not found\n")
            body = {
                "service": {"namespace": check.namespace, "name": check.name},
                "localEndpoints": check.endpoints,
                "serviceProxyHealthy": self.healthy,
            }
            own = b"X-Load-Balancing-Endpoint-Weight: %d\r\n" % check.endpoints
            code = 200 if check.endpoints and self.healthy else 503
            return Response(code, _JSON, json.dumps(body, indent="\t").encode(), own=own)

        return answer


async def _status(request: Request) -> Response:
    answers = {"/proxyMode": b"nftables", "/healthz": b"ok"}
    found = answers.get(request.path)
    return Response(404, _TEXT, b"404 page not found\n") if found is None else Response(200, _TEXT, found)
