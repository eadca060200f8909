"""Links through the proxy subresources: redirects and HTML, whole, in pieces, compressed."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.aio.clock import SystemClock
from jota.api.subresources import proxy
from jota.api.subresources.proxy_links import Links, through
from jota.meta.resource import PODS
from jota.testing.cluster import ApiServer
from jota.wire.dial import forward, whole
from jota.wire.http import HttpServer
from jota.wire.message import Request, Response, Writer

PREFIX = "/api/v1/namespaces/n/services/s/proxy"
LINKS = Links(PREFIX, "10.0.0.1:80", "localhost:8001")
HTML = ("Content-Type", "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/a", f"{PREFIX}/a"),
        ("/", f"{PREFIX}/"),
        ("/a/?b=c#d", f"{PREFIX}/a/?b=c#d"),
        ("a/b", "a/b"),
        ("#x", "#x"),
        ("?x=1", "?x=1"),
        ("http://10.0.0.1:80/a", f"{PREFIX}/a"),
        ("//10.0.0.1:80/a", f"{PREFIX}/a"),
        ("http://localhost:8001/a", f"http://localhost:8001{PREFIX}/a"),
        ("https://elsewhere/a", "https://elsewhere/a"),
        (f"{PREFIX}/a", f"{PREFIX}/a"),
        ("mailto:a@b", "mailto:a@b"),
        ("http://[::1/a", "http://[::1/a"),
        ("", ""),
    ],
)
def test_where_links_lead(url: str, expected: str) -> None:
    assert LINKS.rewritten(url) == expected


PAGE = b"""<!DOCTYPE html><html manifest=/m><head><script src='/s.js'>if (a<b) "<a href='/no'>"</script>
<!-- <a href="/no"> --><title><a href="/no"></title><LINK HREF = "/c.css"/></head>
<body><a class="x>y" href="/a?b=1&amp;c=2">1 < 2</a><img src="rel.png"><a data-href="/no" href='http://10.0.0.1:80/h'>
<form action=/f><p title="/no">\xff</p><a href="https://elsewhere/"></body></html>"""
REWRITTEN = (
    PAGE.replace(b"manifest=/m", b'manifest="%b/m"')
    .replace(b"src='/s.js'", b'src="%b/s.js"')
    .replace(b'HREF = "/c.css"', b'HREF="%b/c.css"')
    .replace(b"/a?b=1", b"%b/a?b=1")
    .replace(b"href='http://10.0.0.1:80/h'", b'href="%b/h"')
    .replace(b"action=/f", b'action="%b/f"')
    .replace(b"%b", PREFIX.encode())
)


def streamed(pieces: Sequence[bytes]) -> Callable[[Writer], Awaitable[None]]:
    async def stream(writer: Writer) -> None:
        for piece in pieces:
            writer.write([piece])
            await writer.drain()

    return stream


def test_a_whole_page() -> None:
    answer = through(Response(200, [HTML, ("Content-Length", str(len(PAGE)))], PAGE), LINKS)
    assert answer.body == REWRITTEN
    assert answer.headers == [HTML]


@given(st.lists(st.integers(0, len(PAGE)), max_size=12))
def test_a_page_in_pieces_is_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(PAGE)]
    pieces = [PAGE[a:b] for a, b in pairwise(edges)]
    answer = through(Response(200, [HTML], stream=streamed(pieces)), LINKS)
    assert asyncio.run(whole(answer, 1 << 20)) == REWRITTEN


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(PAGE)),
        ("deflate", zlib.compress(PAGE)),
        ("deflate", zlib.compressobj(wbits=-15).compress(b"") + zlib.compress(PAGE)[2:-4]),
    ],
)
def test_compressed_pages(encoding: str, body: bytes) -> None:
    pieces = [body[i : i + 7] for i in range(0, len(body), 7)]
    answer = through(Response(200, [HTML, ("Content-Encoding", encoding)], stream=streamed(pieces)), LINKS)
    assert answer.headers == [HTML]
    assert asyncio.run(whole(answer, 1 << 20)) == REWRITTEN


def test_what_is_left_alone() -> None:
    for headers in ([("Content-Type", "text/plain")], [HTML, ("Content-Encoding", "br")], []):
        answer = through(Response(200, headers, PAGE), LINKS)
        assert (answer.headers, answer.body) == (headers, PAGE)


@given(st.binary(max_size=300))
def test_any_bytes_pass(data: bytes) -> None:
    """Pages without a link stay as they are, however broken."""
    data = data.replace(b"=", b"-")
    answer = through(Response(200, [HTML], data), LINKS)
    assert answer.body == data


def test_hostile_pages_are_cheap_and_broken_encodings_end_the_answer() -> None:
    for page in (b"<" * 200_000, b"<a " * 70_000, b'<a href="' + b"x" * 200_000, b"<script>" + b"</" * 100_000):
        assert through(Response(200, [HTML], page), LINKS).body == page
    answer = through(Response(200, [HTML, ("Content-Encoding", "gzip")], stream=streamed([b"no gzip"])), LINKS)
    with pytest.raises(ConnectionResetError):
        asyncio.run(whole(answer, 1 << 20))


def test_a_page_that_inflates_to_much_leaves_others_their_turn() -> None:
    page = b"<p>" * (1 << 20) + b"<script></script>" * 100_000
    answer = through(Response(200, [HTML, ("Content-Encoding", "gzip")], gzip.compress(page)), LINKS)

    async def main() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        assert await whole(answer, 1 << 23) == page
        task.cancel()
        assert turns > 100

    asyncio.run(main())


@pytest.fixture
def pods_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods, whatever their address, are servers of this process."""

    def at_home(request: Request, *, host: str, **more: Any) -> Awaitable[Response]:
        return forward(request, host="127.0.0.1", **more)

    monkeypatch.setattr(proxy, "forward", at_home)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])
def test_through_a_pod_with_every_method(method: str, pods_are_here: None) -> None:
    async def backend(request: Request) -> Response:
        if request.path == "/moved":
            return Response(302, [("Location", "/there?x=1")])
        if request.path == "/page":
            return Response(200, [HTML], b'<a href="/x">')
        uri = request.headers["x-forwarded-uri"]
        return Response(200, [("X-Method", request.method), ("X-Uri", uri)], request.body)

    async def main() -> None:
        server = HttpServer(backend, clock=SystemClock())
        await server.start("127.0.0.1", 0)
        async with ApiServer(clock=SystemClock()) as api:
            spec = {"containers": [{"name": "c", "image": "i"}]}
            await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")
            running = {"status": {"podIP": "10.1.2.3", "phase": "Running"}}
            await api.client.patch(PODS, "p", "default", running, subresource="status")
            prefix = f"/api/v1/namespaces/default/pods/p:{server.port}/proxy"
            body = b"body" if method in ("POST", "PUT", "PATCH") else b""
            answer = await api.request(method, f"{prefix}/a%2Fb/", body)
            found = dict(answer.headers)
            assert (answer.status, found["X-Method"], found["X-Uri"]) == (200, method, f"{prefix}/a%2Fb/")
            moved = await api.request(method, f"{prefix}/moved", body)
            assert (moved.status, dict(moved.headers)["Location"]) == (302, f"{prefix}/there?x=1")
            page = await api.request(method, f"{prefix}/page", body)
            expected = b"" if method == "HEAD" else f'<a href="{prefix}/x">'.encode()
            assert await whole(page, 1 << 20) == expected
        await server.close(0)

    asyncio.run(main())


def test_many_requests_at_once(pods_are_here: None) -> None:
    """20 rounds of 16, as the conformance tests do."""

    async def backend(request: Request) -> Response:
        return Response(200, [HTML], f'<a href="{request.path}">'.encode())

    async def main() -> None:
        server = HttpServer(backend, clock=SystemClock())
        await server.start("127.0.0.1", 0)
        async with ApiServer(clock=SystemClock()) as api:
            spec = {"containers": [{"name": "c", "image": "i"}]}
            await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")
            running = {"status": {"podIP": "10.1.2.3", "phase": "Running"}}
            await api.client.patch(PODS, "p", "default", running, subresource="status")
            prefix = f"/api/v1/namespaces/default/pods/p:{server.port}/proxy"

            async def one(path: str) -> bytes:
                return await whole(await api.request("GET", f"{prefix}{path}"), 1 << 20)

            for n in range(20):
                paths = [f"/{n}/{i}" for i in range(16)]
                found = await asyncio.gather(*map(one, paths))
                assert found == [f'<a href="{prefix}{p}">'.encode() for p in paths]
        await server.close(0)

    asyncio.run(main())
