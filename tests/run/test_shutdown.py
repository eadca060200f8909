"""A server that is stopped while clients work: readiness fails first, nothing is cut, nothing acknowledged is lost.

Over TLS, with keep-alive connections, on the real store; the next server stands on the same port and goes on.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import orjson
import pytest

from jota.aio.clock import SystemClock
from jota.api.filters.attributes import COMPONENT, User
from jota.pki.ca import CertificateAuthority, Subject
from jota.run.server import leave
from jota.store.drivers.sqlite import SqliteStore
from jota.testing.cluster import ApiServer
from jota.wire.http import HttpServer
from jota.wire.message import Request, Response

CM = "/api/v1/namespaces/default/configmaps"
WORKERS = 8


class Connection:
    """A keep-alive client that sees everything: cut answers and resets are failures, a clean end between answers is not."""

    def __init__(self, port: int, trust: ssl.SSLContext) -> None:
        self._port, self._trust = port, trust
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drop()

    def drop(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def send(self, method: str, path: str, body: bytes = b"") -> asyncio.StreamReader:
        """Sends; connects as long as nobody listens."""
        while self._writer is None or self._reader is None:
            try:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._trust)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        return self._reader

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        reader = await self.send(method, path, body)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        content = await reader.readexactly(length)
        if "connection: close" in lines:
            self.drop()
        return int(head.split(b" ")[1]), content

    async def stream(self, path: str) -> tuple[bytes, bool]:
        """(everything until the end, whether it ended with the last chunk)."""
        reader = await self.send("GET", path)
        await reader.readuntil(b"\r\n\r\n")
        content = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            content += (await reader.readexactly(size + 2))[:-2]
        last = await reader.readexactly(2)
        self.drop()
        return content, last == b"\r\n"


class Trusting:
    async def authenticate(self, request: Request) -> User:
        return COMPONENT


def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(server's, client's)."""
    now = SystemClock().now()
    authority = CertificateAuthority(CertificateAuthority.create("test", days=1, now=now))
    pair = authority.issue(Subject("s", (), (), ("127.0.0.1",)), days=1, client=False, server=True, now=now)
    (tmp_path / "c").write_bytes(pair.certificate)
    (tmp_path / "k").write_bytes(pair.key)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "c", tmp_path / "k")
    return serving, ssl.create_default_context(cadata=authority.certificate_pem.decode())


def test_a_rolling_restart_cuts_nobody_off_and_loses_nothing(tmp_path: Path) -> None:
    serving, trust = contexts(tmp_path)
    clock = SystemClock()
    acknowledged: list[str] = []
    seen: list[str] = []
    clean: list[bool] = []
    over, written = asyncio.Event(), asyncio.Event()

    async def write(worker: int, port: int) -> None:
        async with Connection(port, trust) as client:
            for number in range(100_000):
                if over.is_set():
                    return
                name = f"w{worker}-{number}"
                body = orjson.dumps({"metadata": {"name": name, "labels": {"by": "writer"}}})
                status, content = await client.ask("POST", CM, body)
                assert status == 201, content
                acknowledged.append(name)
                written.set()

    async def watch(port: int) -> None:
        """Resumes where a stream ended, as informers do."""
        since = "0"
        async with Connection(port, trust) as client:
            while not over.is_set():
                path = f"{CM}?watch=1&labelSelector=by%3Dwriter&resourceVersion={since}"
                content, ended = await client.stream(path)
                clean.append(ended)
                for line in content.splitlines():
                    event = orjson.loads(line)
                    assert event["type"] == "ADDED", event
                    seen.append(event["object"]["metadata"]["name"])
                    # what a watch begins with comes in the order of names
                    since = str(max(int(since), int(event["object"]["metadata"]["resourceVersion"])))

    async def serve(store: SqliteStore, port: int) -> tuple[ApiServer, HttpServer]:
        api = ApiServer(clock=clock, store=store, authenticator=Trusting())
        await api.api.start()
        edge = HttpServer(api.api.handle, ssl=serving, clock=clock)
        await edge.start("127.0.0.1", port)
        return api, edge

    async def grown(by: int) -> None:
        goal = len(acknowledged) + by
        while len(acknowledged) < goal:
            written.clear()
            await written.wait()

    async def main() -> None:
        store = SqliteStore(str(tmp_path / "db"))
        api, edge = await serve(store, 0)
        port = edge.port
        async with asyncio.TaskGroup() as group:
            writers = [group.create_task(write(worker, port)) for worker in range(WORKERS)]
            for _ in range(3):
                group.create_task(watch(port))
            for _ in range(3):
                await grown(40)
                await leave(api.api, edge)
                await api.api.close()
                await store.close()
                store = SqliteStore(str(tmp_path / "db"))
                api, edge = await serve(store, port)
            await grown(20)
            over.set()
            await asyncio.wait(writers)
            await leave(api.api, edge)
        assert set(acknowledged) <= set(seen), "a stream ended before what had been acknowledged"
        stored = {e.key.rpartition("/")[2] for e in store.range("/core/configmaps/default/")}
        assert set(acknowledged) <= stored
        assert len(seen) == 3 * len(set(seen)), "a watcher saw an event twice"
        assert all(clean)
        assert len(clean) > 3 * 3, "no watch was resumed"
        await api.api.close()
        await store.close()

    asyncio.run(main())


def test_readiness_fails_first_while_all_else_is_served() -> None:
    async def main() -> None:
        async with ApiServer() as server:
            api = server.api
            api.fail_ready()
            refused = await server.request("GET", "/readyz")
            assert refused.status == 500
            assert b"[-]shutdown failed: reason withheld\n" in refused.body  # type: ignore[operator]
            assert (await server.request("GET", "/readyz/shutdown")).status == 500
            assert (await server.request("GET", "/livez")).status == 200
            assert (await server.request("GET", "/livez/shutdown")).status == 404
            assert (await server.request("GET", "/readyz?exclude=shutdown")).status == 200
            assert (await server.request("GET", CM, query="watch=1")).status == 200
            api.end_watches()
            gone = await server.request("GET", CM, query="watch=1")
            assert (gone.status, dict(gone.headers)["Retry-After"]) == (429, "5")
            assert (await server.request("GET", CM)).status == 200

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
def test_what_cannot_be_excluded_is_told(path: str) -> None:
    async def main() -> None:
        async with ApiServer() as server:
            response = await server.request("GET", path, query="verbose&exclude=ping&exclude=nothing")
            text = bytes(response.body).decode()  # type: ignore[arg-type]
            assert response.status == 200
            assert "[+]ping excluded: ok\n" in text
            assert 'warn: some health checks cannot be excluded: no matches for "nothing"\n' in text
            assert text.endswith(f"{path[1:]} check passed\n")

    asyncio.run(main())


def test_a_request_on_its_way_over_an_idle_connection_is_still_answered() -> None:
    """Not reset: it is served, and told that the connection closes."""

    async def handler(request: Request) -> Response:
        return Response(200, [], b"served")

    async def main() -> tuple[bytes, bytes]:
        edge = HttpServer(handler, clock=SystemClock())
        await edge.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        first = await reader.readuntil(b"served")
        closing = asyncio.ensure_future(edge.close(5.0, 2.0))
        await asyncio.sleep(0)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        second = await reader.read()
        await closing
        writer.close()
        return first, second

    first, second = asyncio.run(main())
    assert b"Connection: close" not in first
    assert second.startswith(b"HTTP/1.1 200")
    assert b"Connection: close\r\n" in second
