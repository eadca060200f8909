"""The HTTPS transport against the house's own edge: mutual TLS, reuse, watches, broken connections, rotation."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import orjson
import pytest

from jota.aio.clock import SystemClock
from jota.client.client import Client
from jota.client.https import Https
from jota.client.informer import Informer
from jota.meta.errors import ApiError, not_found
from jota.meta.resource import CONFIGMAPS, PODS
from jota.pki.ca import CertificateAuthority, Subject, read_certificate
from jota.wire.http import HttpServer
from jota.wire.message import Request, Response

from .scripted import Scripted

NOW = SystemClock().now()


class Files:
    """A CA, a server context and client certificates on disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = CertificateAuthority(CertificateAuthority.create("test", days=1, now=NOW))
        self.ca = self.authority.certificate_pem.decode()
        certificate, key = self.issue("server", Subject("server", (), (), ("127.0.0.1",)), server=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.context.load_verify_locations(cadata=self.ca)
        self.context.verify_mode = ssl.CERT_OPTIONAL

    def issue(self, name: str, subject: Subject, server: bool = False) -> tuple[Path, Path]:
        pair = self.authority.issue(subject, days=1, client=not server, server=server, now=NOW)
        certificate, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        certificate.write_bytes(pair.certificate)
        key.write_bytes(pair.key)
        return certificate, key


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@asynccontextmanager
async def serving(files: Files, handler: object) -> AsyncIterator[tuple[HttpServer, str]]:
    server = HttpServer(handler, ssl=files.context, clock=SystemClock())  # type: ignore[arg-type]
    await server.start("127.0.0.1", 0)
    try:
        yield server, f"https://127.0.0.1:{server.port}"
    finally:
        await server.close(0)


async def who(request: Request) -> Response:
    """Answers with what it saw."""
    if request.path.endswith("/missing"):
        error = not_found("pods", "missing")
        return Response(error.code, [], orjson.dumps(error.status()))
    name = read_certificate(request.peer.certificate).common_name if request.peer.certificate else ""
    seen = {
        "method": request.method,
        "name": name,
        "token": request.headers.get("authorization", ""),
        "size": len(request.body),
        "port": request.peer.port,
    }
    return Response(200, [("Content-Type", "application/json")], orjson.dumps(seen))


def test_certificate_token_reuse_and_errors(files: Files) -> None:
    async def story() -> None:
        certificate, key = files.issue("node", Subject("system:node:n1", ("system:nodes",)))
        async with serving(files, who) as (_, url):
            transport = Https(url, ca=files.ca, certificate=certificate, key=key, token=lambda: "t0k")
            client = Client(transport)
            first = await client.get(PODS, "a", "ns")
            assert (first["name"], first["token"]) == ("system:node:n1", "Bearer t0k")
            big = await client.create(PODS, {"x": "y" * 300_000}, "ns")
            assert big["size"] > 300_000
            assert big["port"] == first["port"], "the connection is kept alive"
            many = await asyncio.gather(*(client.get(PODS, "a", "ns") for _ in range(20)))
            assert len(many) == 20
            with pytest.raises(ApiError) as error:
                await client.get(PODS, "missing", "ns")
            assert error.value.reason == "NotFound"
            await client.close()

    asyncio.run(story())


def test_a_new_identity_is_used_at_once(files: Files) -> None:
    async def story() -> None:
        old, new = files.issue("a", Subject("old", ())), files.issue("b", Subject("new", ()))
        async with serving(files, who) as (_, url):
            transport = Https(url, ca=files.ca, certificate=old[0], key=old[1])
            client = Client(transport)
            assert (await client.get(PODS, "a", "ns"))["name"] == "old"
            transport.reload(*new)
            assert (await client.get(PODS, "a", "ns"))["name"] == "new"
            await client.close()

    asyncio.run(story())


def test_a_server_of_another_authority_is_refused(files: Files, tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "other").mkdir()
        other = Files(tmp_path / "other")
        async with serving(files, who) as (_, url):
            with pytest.raises(ssl.SSLError):
                await Client(Https(url, ca=other.ca)).get(PODS, "a", "ns")
            assert (await Client(Https(url, verify=False)).get(PODS, "a", "ns"))["name"] == ""

    asyncio.run(story())


def test_an_informer_lives_through_the_death_of_its_server(files: Files) -> None:
    async def story() -> None:
        scripted = Scripted()
        scripted.put("a", "1")
        async with serving(files, scripted.handle) as (server, url):
            port = server.port
            client = Client(Https(url, ca=files.ca))
            informer = Informer(client, CONFIGMAPS)
            run = asyncio.ensure_future(informer.run())
            async with asyncio.timeout(5):
                await informer.synced()
        scripted.delete("a")
        scripted.put("b", "2")
        again = HttpServer(scripted.handle, ssl=files.context, clock=SystemClock())
        await again.start("127.0.0.1", port)
        async with asyncio.timeout(10):
            await informer.caught_up(scripted.revision)
        assert list(informer.keys()) == ["ns/b"]
        assert informer.relists == 1, "history was there: nothing needed to be listed again"
        run.cancel()
        await asyncio.wait({run})
        await client.close()
        await again.close(0)

    asyncio.run(story())


def test_a_watch_that_is_closed_lets_go_of_its_connection(files: Files) -> None:
    async def story() -> None:
        scripted = Scripted()
        scripted.put("a", "1")
        async with serving(files, scripted.handle) as (server, url):
            client = Client(Https(url, ca=files.ca))
            async with aclosing(client.watch(CONFIGMAPS, resource_version="1")) as events:
                async for type_, raw in events:
                    assert (type_, orjson.loads(raw)["metadata"]["name"]) == ("ADDED", "a")
                    break
            for _ in range(100):
                if not server.connections:
                    break
                await asyncio.sleep(0.01)
            assert not server.connections
            await client.close()

    asyncio.run(story())


def test_what_is_not_http_and_what_is_cut_short_are_connection_errors() -> None:
    async def story() -> None:
        answers = [b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", b""]

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1000)
            writer.write(answers.pop(0))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = Client(Https(f"http://127.0.0.1:{port}"))
        for _ in range(3):
            with pytest.raises(ConnectionError):
                await client.get(PODS, "a", "ns")
        server.close()
        await server.wait_closed()
        with pytest.raises(ConnectionError):
            await client.get(PODS, "a", "ns")

    asyncio.run(story())


def test_a_kept_connection_that_died_unseen_is_replaced_for_reads(files: Files) -> None:
    async def story() -> None:
        async with serving(files, who) as (server, url):
            port = server.port
            client = Client(Https(url, ca=files.ca))
            await client.get(PODS, "a", "ns")
        again = HttpServer(who, ssl=files.context, clock=SystemClock())
        await again.start("127.0.0.1", port)
        assert (await client.get(PODS, "a", "ns"))["method"] == "GET"
        await client.close()
        await again.close(0)

    asyncio.run(story())
