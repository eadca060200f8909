"""Daemons bound their own logs, and a certificate that was renewed is the one that new connections see."""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import suppress
from pathlib import Path

from jota.aio.clock import SystemClock
from jota.run.material import ensure
from jota.run.upkeep import bound_log
from jota.wire.http import HttpServer
from jota.wire.message import Request, Response


def test_a_long_log_is_moved_aside_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"x" * 100)
    assert not bound_log(descriptor, limit=100)
    os.write(descriptor, b"y")
    assert bound_log(descriptor, limit=100)
    os.write(descriptor, b"next\n")
    os.close(descriptor)
    assert path.read_bytes() == b"next\n"
    assert (tmp_path / "log.1").read_bytes() == b"x" * 100 + b"y"


def test_new_connections_see_a_renewed_certificate(tmp_path: Path) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, body=b"ok")

    async def served(port: int, ca: bytes) -> bytes:
        context = ssl.create_default_context(cadata=ca.decode())
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200 OK" in await reader.readline()
        tls = writer.get_extra_info("ssl_object")
        assert not tls.session.has_ticket, "nobody comes back with one"
        der: bytes = tls.getpeercert(True)
        writer.close()
        return der

    async def story() -> None:
        def issue() -> object:
            return ensure(tmp_path, addresses=[], service_cidr="10.1.0.0/16", domain="d", now=SystemClock().now())

        material = issue()
        context = material.serving_context()  # type: ignore[attr-defined]
        server = HttpServer(handler, ssl=context, clock=SystemClock())
        await server.start("127.0.0.1", 0)
        first = await served(server.port, material.ca_pem)  # type: ignore[attr-defined]
        context.load_cert_chain(*issue().pair("server"))  # type: ignore[attr-defined]
        second = await served(server.port, material.ca_pem)  # type: ignore[attr-defined]
        await server.close(0)
        assert first != second

    asyncio.run(story())


def test_the_client_chooses_the_cipher(tmp_path: Path) -> None:
    """Those of TLS 1.3 cannot be chosen from Python; the rule is the same for those of TLS 1.2."""
    material = ensure(tmp_path, addresses=[], service_cidr="10.1.0.0/16", domain="d", now=SystemClock().now())
    context, short, long = material.serving_context(), "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"
    for wanted in ([short, long], [long, short]):
        client = ssl.create_default_context(cadata=material.ca_pem.decode())
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers(":".join(wanted))
        ins, outs = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [client.wrap_bio(ins, outs, server_hostname="localhost"), context.wrap_bio(outs, ins, server_side=True)]
        for end in ends * 3:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
        assert ends[0].cipher() is not None
        assert ends[0].cipher()[0] == wanted[0]  # type: ignore[index]


def test_the_administrators_key_is_one_that_every_client_reads_and_is_kept(tmp_path: Path) -> None:
    def issue() -> bytes:
        made = ensure(tmp_path, addresses=[], service_cidr="10.1.0.0/16", domain="d", now=SystemClock().now())
        assert made.admin.key == (tmp_path / "admin.key").read_bytes()
        return made.admin.key

    first = issue()
    assert first.startswith(b"-----BEGIN RSA PRIVATE KEY-----")
    assert issue() == first
    (tmp_path / "admin.key").write_bytes((tmp_path / "server.key").read_bytes())
    assert issue().startswith(b"-----BEGIN RSA PRIVATE KEY-----"), "the EC key of an older version is replaced"
