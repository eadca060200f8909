"""Asks the nodes, only when somebody asked us: the newest reading and the one before it make a rate.

In: a node's name. Out: its two latest samples. A reading is used for a few seconds; the first question about a node costs
a second, because a rate needs two readings. Nodes that do not answer are left alone for a while. Next: serve.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jota.api.metricsapi.samples import Sample, parse
from jota.api.resource import Engine
from jota.api.subresources.kubelet import hand_over
from jota.meta.errors import ApiError
from jota.wire.message import Request, Response, joined

log = logging.getLogger("jota.api")

FRESH, STALE = 5.0, 60.0
"""Seconds: a younger sample is not taken again; an older one makes no rate any more."""
FIRST_WINDOW = 1.0
SILENT = 30.0
"""Seconds for which a node that did not answer is not asked again."""
TIMEOUT, PARALLEL = 5.0, 64


@dataclass(slots=True)
class Known:
    """A node's samples, with the times (monotonic) at which they were taken."""

    before: Sample
    latest: Sample
    at: float


class Scraper:
    def __init__(self, engine: Engine) -> None:
        self._engine, self._clock = engine, engine.clock
        self._known: dict[str, Known] = {}
        self._silent: dict[str, float] = {}
        self._busy = asyncio.Semaphore(PARALLEL)
        self._locks: dict[str, asyncio.Lock] = {}

    async def samples(self, nodes: Iterable[str]) -> dict[str, Known]:
        """The samples of those nodes that answer."""
        names = list(dict.fromkeys(nodes))
        found = await asyncio.gather(*(self._node(name) for name in names))
        return {name: known for name, known in zip(names, found, strict=True) if known is not None}

    def forget(self, names: set[str]) -> None:
        """Drop what is known of other nodes than these."""
        for gone in (self._known.keys() | self._silent.keys() | self._locks.keys()) - names:
            self._known.pop(gone, None)
            self._silent.pop(gone, None)
            self._locks.pop(gone, None)

    async def _node(self, name: str) -> Known | None:
        async with self._locks.setdefault(name, asyncio.Lock()):
            now = self._clock.monotonic()
            known = self._known.get(name)
            if known is not None and now - known.at < FRESH:
                return known
            if now < self._silent.get(name, 0.0):
                return None
            try:
                async with self._busy:
                    self._known[name] = known = await self._renew(name, known)
            except (ApiError, OSError, TimeoutError) as e:
                log.info("metrics of node %s: %s", name, e)
                self._silent[name] = now + SILENT
                self._known.pop(name, None)
                return None
            return known

    async def _renew(self, name: str, known: Known | None) -> Known:
        if known is not None and self._clock.monotonic() - known.at < STALE:
            before = known.latest
        else:
            before = await self._read(name)
            await self._clock.sleep(FIRST_WINDOW)
        return Known(before, await self._read(name), self._clock.monotonic())

    async def _read(self, name: str) -> Sample:
        """Raises ApiError, OSError, TimeoutError."""
        async with asyncio.timeout(TIMEOUT):
            request = Request("GET", "/metrics/resource")
            response = await hand_over(self._engine, request, name, "/metrics/resource", "")
            body = await whole(response)
        if response.status != 200:
            raise ConnectionError(f"answered {response.status}")
        return parse(body.decode(errors="replace"), self._clock.now())


class _Collector:
    """A wire Writer that keeps what is written."""

    closed, buffered = False, 0

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, parts: Sequence[bytes]) -> None:
        self.parts += [bytes(p) for p in parts]

    async def drain(self) -> None:
        return None


async def whole(response: Response) -> bytes:
    """A response's body, streamed or not. Raises ConnectionError when it breaks off."""
    if response.stream is None:
        return joined(response.body)
    collector = _Collector()
    await response.stream(collector)
    return b"".join(collector.parts)
