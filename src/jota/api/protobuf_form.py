"""Answers in Kubernetes' protobuf, for clients that take nothing else: JSON answers are translated on their way out.

Who lists JSON beside protobuf (as client-go does) is given JSON, which costs this server nothing: its objects are JSON at
rest. Watches are sent as upstream frames them: four bytes of length, then a WatchEvent. In: what the verbs answered.
Encoding: meta/protobuf_encode.py. What comes through a proxy, or from an aggregated server, is not ours to translate.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

from jota.api import lazily
from jota.meta import protobuf_encode
from jota.meta.errors import internal
from jota.meta.protobuf import message_of
from jota.wire.message import Response, Stream, Writer, joined

if TYPE_CHECKING:
    from jota.api.path import Target
    from jota.kinds.kind import Kind

log = logging.getLogger("jota.api")
CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
LARGE = 128 * 1024
"""Bytes of JSON from which an answer is translated in a thread."""


def can(kind: Kind) -> bool:
    """Whether this kind's objects have a protobuf form: custom resources have none."""
    return message_of(kind.resource.api_version, kind.resource.kind) is not None


async def answer(target: Target, response: Response) -> Response:
    """`response` in protobuf. One that is no object, or no JSON, comes back as it is; what cannot be told is 500."""
    if not target.resource or response.upgrade is not None or not _is_json(response):
        return response
    others = [(name, value) for name, value in response.headers if name != "Content-Type"]
    if response.stream is not None:
        headers = [*others, ("Content-Type", CONTENT_TYPE + ";stream=watch")]
        return Response(response.status, headers, stream=_translated(response.stream))
    body = joined(response.body)
    try:
        value = await asyncio.to_thread(encode, body) if len(body) >= LARGE else encode(body)
    except Exception as problem:
        log.exception("an answer has no protobuf form")
        response.status = 500
        value = protobuf_encode.object_(internal(f"{type(problem).__name__}: {problem}").status())
    return Response(response.status, [*others, ("Content-Type", CONTENT_TYPE)], value)


def encode(body: bytes) -> bytes:
    """An object in JSON -> its envelope. Raises LookupError when protobuf has no such kind."""
    return protobuf_encode.object_(orjson.loads(body) if len(body) < LARGE else lazily.fields(body))


def frame(line: bytes) -> bytes:
    """A watch event in JSON -> a frame. Raises LookupError when protobuf has no such kind."""
    event = orjson.loads(line)
    data = protobuf_encode.event(event["type"], event["object"])
    return struct.pack(">I", len(data)) + data


def _is_json(response: Response) -> bool:
    return ("Content-Type", "application/json") in response.headers


def _translated(stream: Stream) -> Stream:
    async def run(writer: Writer) -> None:
        await stream(_Frames(writer))

    return run


class _Frames:
    """A Writer that takes lines of JSON and passes frames on (wire.message.Writer)."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._rest = b""
        self._broken = False

    def write(self, parts: Sequence[bytes]) -> None:
        """What cannot be told in protobuf ends the stream for this watcher: the feed serves others, too."""
        *lines, self._rest = (self._rest + b"".join(parts)).split(b"\n")
        if not lines or self._broken:
            return
        try:
            frames = [frame(line) for line in lines]
        except Exception as problem:
            log.exception("a watch event has no protobuf form")
            self._broken = True
            status = internal(f"{type(problem).__name__}: {problem}").status()
            frames = [frame(orjson.dumps({"type": "ERROR", "object": status}))]
        self._writer.write(frames)

    @property
    def buffered(self) -> int:
        return self._writer.buffered

    @property
    def closed(self) -> bool:
        return self._writer.closed

    async def drain(self) -> None:
        await self._writer.drain()
