"""Events for people: `recorder.event(pod, "Normal", "Scheduled", "...")` from any code, written to the API in the background.

In: calls, which never wait and never fail. Out: core/v1 Events; a repeat within ten minutes raises the count of the
first instead of adding one. The queue and the memory of past events are bounded; a burst from one object is cut off by a
token bucket (25 at once, then one per five minutes, as client-go), and what was dropped is counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

from jota.aio.clock import Clock, rfc3339
from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import EVENTS

log = logging.getLogger(__name__)

QUEUE = 1000
REMEMBERED = 4096
AGGREGATE_SECONDS = 600.0
BURST, REFILL_SECONDS = 25, 300.0
ATTEMPTS, RETRY_SECONDS = 3, 1.0
MESSAGE_LIMIT = 1024


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


@dataclass(slots=True)
class _Known:
    """An event that the API already has."""

    name: str
    namespace: str
    count: int
    last: float


@dataclass(slots=True)
class EventRecorder:
    """Records events as `component` (on `host`, for node agents). `run` writes them; without it they only queue up."""

    client: Client
    clock: Clock
    component: str
    host: str = ""
    dropped: int = 0
    _queue: deque[tuple[dict[str, Any], str, str, str, float]] = field(default_factory=deque)
    _known: OrderedDict[tuple[str, ...], _Known] = field(default_factory=OrderedDict)
    _buckets: OrderedDict[str, _Bucket] = field(default_factory=OrderedDict)
    _filled: asyncio.Event = field(default_factory=asyncio.Event)
    _written: int = 0

    def event(self, obj: dict[str, Any], type: str, reason: str, message: str, field_path: str = "") -> None:
        """Queue an event about `obj` (an object, or an ObjectReference dict). `type`: Normal | Warning."""
        if len(self._queue) >= QUEUE:
            self.dropped += 1
            return
        now = self.clock.now()
        if not self._admit(obj.get("metadata") or obj, now):
            self.dropped += 1
            return
        reference = reference_to(obj)
        if field_path:
            reference["fieldPath"] = field_path
        self._queue.append((reference, type, reason, message[:MESSAGE_LIMIT], now))
        self._filled.set()

    async def run(self) -> None:
        """Write queued events until cancelled."""
        while True:
            while self._queue:
                await self._write(*self._queue.popleft())
            self._filled.clear()
            await self._filled.wait()

    async def flush(self) -> None:
        """Write what is queued now (at a shutdown, or in tests, instead of `run`)."""
        while self._queue:
            await self._write(*self._queue.popleft())

    def _admit(self, identity: dict[str, Any], now: float) -> bool:
        """`identity`: what has the object's namespace, name and uid."""
        source = "/".join((identity.get("namespace") or "", identity.get("name") or "", identity.get("uid") or ""))
        bucket = self._buckets.pop(source, None) or _Bucket(BURST, now)
        bucket.tokens = min(float(BURST), bucket.tokens + (now - bucket.at) / REFILL_SECONDS)
        bucket.at = now
        self._buckets[source] = bucket
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    async def _write(self, reference: dict[str, Any], type: str, reason: str, message: str, now: float) -> None:
        identity = (*(str(v) for v in reference.values()), type, reason, message)
        for attempt in range(ATTEMPTS):
            try:
                return await self._send(identity, reference, type, reason, message, now)
            except ApiError as e:
                if e.code == 404 or (400 <= e.code < 500 and e.code not in (409, 429)):
                    log.debug("event %s of %s refused: %s", reason, reference.get("name"), e)
                    if e.code == 404 or any(c.reason == "NamespaceTerminating" for c in e.causes):
                        self._forget(reference.get("namespace", ""))
                    return None
                failure: Exception = e
            except (ConnectionError, TimeoutError) as e:
                failure = e
            if attempt + 1 < ATTEMPTS:
                await self.clock.sleep(RETRY_SECONDS * 2**attempt)
        self.dropped += 1
        log.warning("event %s of %s was not written: %s", reason, reference.get("name"), failure)
        return None

    def _forget(self, namespace: str) -> None:
        """It is gone or closing: what waits to be told there would be refused, too, and nobody could read it."""
        self._queue = deque(queued for queued in self._queue if queued[0].get("namespace", "") != namespace)

    async def _send(
        self, identity: tuple[str, ...], reference: dict[str, Any], type: str, reason: str, message: str, now: float
    ) -> None:
        known = self._known.get(identity)
        if known is not None and now - known.last <= AGGREGATE_SECONDS:
            patch = {"count": known.count + 1, "lastTimestamp": rfc3339(now)}
            try:
                await self.client.patch(EVENTS, known.name, known.namespace, patch)
                known.count, known.last = known.count + 1, now
                return
            except ApiError as e:
                if e.code != 404:
                    raise
        event = self._new(reference, type, reason, message, now)
        await self.client.create(EVENTS, event)
        meta = event["metadata"]
        self._known.pop(identity, None)
        self._known[identity] = _Known(meta["name"], meta["namespace"], 1, now)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _new(self, reference: dict[str, Any], type: str, reason: str, message: str, now: float) -> dict[str, Any]:
        self._written += 1
        stamp = rfc3339(now)
        source = {"component": self.component}
        if self.host:
            source["host"] = self.host
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                # <object>.<nanoseconds in hex>, as upstream; the counter keeps two of one instant apart.
                "name": f"{reference.get('name', '')}.{int(now * 1e9) + self._written:016x}",
                "namespace": reference.get("namespace") or "default",
            },
            "involvedObject": reference,
            "reason": reason,
            "message": message,
            "type": type,
            "source": source,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            "eventTime": None,
            "reportingComponent": self.component,
            "reportingInstance": self.host,
        }


def reference_to(obj: dict[str, Any]) -> dict[str, Any]:
    """The ObjectReference of an object; a dict without metadata is taken for a reference already."""
    meta = obj.get("metadata")
    if meta is None:
        return dict(obj)
    pairs = (
        ("kind", obj.get("kind")),
        ("namespace", meta.get("namespace")),
        ("name", meta.get("name")),
        ("uid", meta.get("uid")),
        ("apiVersion", obj.get("apiVersion")),
        ("resourceVersion", meta.get("resourceVersion")),
    )
    return {k: v for k, v in pairs if v}
