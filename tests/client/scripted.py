"""A tiny API double for the client's own tests: one resource, a history, list and watch; and a transport that breaks."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import Any
from urllib.parse import parse_qs

from jota.client.inprocess import InProcess
from jota.client.transport import Reply
from jota.meta import errors
from jota.wire.message import Request, Response, Writer


class Scripted:
    """Serves /api/v1/configmaps. `watchlist=False` refuses the WatchList form as an old server does."""

    def __init__(self, watchlist: bool = True) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.history: list[tuple[int, str, dict[str, Any]]] = []
        self.revision, self.compacted = 1, 0
        self.watchlist = watchlist
        self.changed = asyncio.Event()
        self.requests: list[Request] = []
        self.uid = 0

    def put(self, name: str, value: str) -> None:
        self.revision += 1
        old = self.objects.get(name)
        if old is None:
            self.uid += 1
        uid = old["metadata"]["uid"] if old else f"u{self.uid}"
        meta = {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": str(self.revision)}
        obj = {"metadata": meta, "data": {"v": value}}
        self.objects[name] = obj
        self._log("MODIFIED" if old else "ADDED", obj)

    def delete(self, name: str) -> None:
        obj = self.objects.pop(name, None)
        if obj is not None:
            self.revision += 1
            meta = {**obj["metadata"], "resourceVersion": str(self.revision)}
            self._log("DELETED", {**obj, "metadata": meta})

    def compact(self) -> None:
        self.compacted = self.revision
        self.history.clear()

    def _log(self, type_: str, obj: dict[str, Any]) -> None:
        self.history.append((self.revision, type_, obj))
        self.changed.set()
        self.changed = asyncio.Event()

    async def handle(self, request: Request) -> Response:
        self.requests.append(request)
        await asyncio.sleep(0)
        query = {k: v[0] for k, v in parse_qs(request.query).items()}
        if query.get("watch"):
            return self._watch(query)
        if request.method == "GET":
            return _json(
                200, {"metadata": {"resourceVersion": str(self.revision)}, "items": list(self.objects.values())}
            )
        return _json(200, json.loads(request.body or b"{}"))

    def _watch(self, query: dict[str, str]) -> Response:
        initial = query.get("sendInitialEvents") == "true"
        if initial and not self.watchlist:
            return _error(errors.ApiError(422, "Invalid", "sendInitialEvents is forbidden"))
        after = self.revision if initial else int(query["resourceVersion"])
        state = list(self.objects.values()) if initial else []

        async def stream(writer: Writer) -> None:
            seen = after
            for obj in state:
                writer.write([_event("ADDED", obj)])
            if initial:
                notes = {"k8s.io/initial-events-end": "true"}
                writer.write([_event("BOOKMARK", {"metadata": {"resourceVersion": str(after), "annotations": notes}})])
            while True:
                if seen < self.compacted:
                    status = errors.expired("too old resource version").status()
                    writer.write([_event("ERROR", status)])
                    return
                for revision, type_, obj in list(self.history):
                    if revision > seen:
                        writer.write([_event(type_, obj)])
                        seen = revision
                await writer.drain()
                await self.changed.wait()

        return Response(200, stream=stream)


class Faulty(InProcess):
    """Breaks streams and requests at random; `calm()` ends that."""

    def __init__(self, server: Scripted, random: Random) -> None:
        super().__init__(server.handle, "test")
        self.server, self.random, self.faults = server, random, True

    def calm(self) -> None:
        self.faults = False

    async def request(self, *args: Any, **kwargs: Any) -> Reply:
        if self.faults and self.random.random() < 0.3:
            raise ConnectionResetError("injected")
        return await super().request(*args, **kwargs)

    async def watch(self, path: str, query: str = "", headers: Any = None) -> Any:
        if self.faults and self.random.random() < 0.2:
            raise ConnectionResetError("injected before the answer")
        stream = super().watch(path, query, headers)
        try:
            async for batch in stream:
                cut = self.random.random()
                if self.faults and cut < 0.15:
                    if len(batch) > 1:
                        yield batch[: self.random.randrange(1, len(batch))]
                    if cut < 0.05:
                        return  # a clean end in the middle of a batch
                    raise ConnectionResetError("injected in the stream")
                yield batch
        finally:
            await stream.aclose()


def _event(type_: str, obj: dict[str, Any]) -> bytes:
    return json.dumps({"type": type_, "object": obj}).encode() + b"\n"


def _json(status: int, body: Any) -> Response:
    return Response(status, [("Content-Type", "application/json")], json.dumps(body).encode())


def _error(error: errors.ApiError) -> Response:
    return _json(error.code, error.status())


class InstantClock:
    """Time that passes only when someone sleeps: a sleep yields to the loop and moves the time on."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.time += max(0.0, seconds)
