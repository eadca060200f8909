"""One HTTPS request for a JSON document: an issuer's keys, a webhook's answer. Bounded in time and size; no redirects."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from jota.aio.told import told
from jota.wire.dial import forward
from jota.wire.message import Request, joined

LARGEST = 1 << 20
"""Bytes of an answer."""


class FetchFailed(Exception):
    """No usable answer; the text is the cause."""


class _Collector:
    """message.Writer that keeps what is written."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.buffered = 0
        self.closed = False

    def write(self, parts: Sequence[bytes]) -> None:
        self.parts += parts
        self.buffered += sum(map(len, parts))
        if self.buffered > LARGEST:
            raise FetchFailed(f"the answer is longer than {LARGEST} bytes")

    async def drain(self) -> None:
        """Nothing waits."""


async def json(
    method: str,
    url: str,
    context: ssl.SSLContext,
    *,
    body: Any = None,
    headers: Sequence[tuple[str, str]] = (),
    server_name: str = "",
    timeout: float = 10.0,
) -> Any:
    """The decoded answer of status 200 or 201. `timeout` in seconds is for everything. Raises FetchFailed."""
    try:
        parsed = urlsplit(url)
        host, port = parsed.hostname or "", parsed.port or 443
    except ValueError as error:
        raise FetchFailed(f"{url}: {error}") from None
    path = (parsed.path or "/") + (f"?{parsed.query}" if parsed.query else "")
    content = b"" if body is None else orjson.dumps(body)
    sent = [
        ("Host", parsed.netloc.rpartition("@")[2]),
        ("Accept", "application/json"),
        ("User-Agent", "kube-apiserver"),
    ]
    if body is not None:
        sent.append(("Content-Type", "application/json"))
    try:
        async with asyncio.timeout(timeout):
            response = await forward(
                Request(method, parsed.path or "/", body=content),
                host=host,
                port=port,
                path=path,
                ssl=context,
                headers=[*sent, *headers],
                server_hostname=server_name or host,
            )
            answer = joined(response.body)
            if response.stream is not None:
                collector = _Collector()
                await response.stream(collector)
                answer = b"".join(collector.parts)
    except TimeoutError:
        raise FetchFailed(f"{url}: no answer within {timeout:g} s") from None
    except (OSError, ValueError) as error:
        raise FetchFailed(f"{url}: {told(error)}") from None
    if response.status not in (200, 201):
        raise FetchFailed(f"{url}: status {response.status}")
    try:
        return orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        raise FetchFailed(f"{url}: the answer is no JSON: {error}") from None
