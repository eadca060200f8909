"""What the tests of this folder share: run a coroutine on either loop, a served handler, certificates."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from jota.aio.clock import SystemClock
from jota.wire.duplex import SocketDuplex
from jota.wire.http import HttpServer
from jota.wire.limits import Limits
from jota.wire.message import Handler, Request, Response

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def run(main: Coroutine[Any, Any, Any], loop: str = "asyncio", timeout: float = 8.0) -> Any:
    async def bounded() -> Any:
        try:
            async with asyncio.timeout(timeout):
                return await main
        finally:
            await close_pipes()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(bounded())


PIPES: list[SocketDuplex] = []


async def close_pipes() -> None:
    """A transport reports its end in the loop's next turn: give it one, or it is an unclosed resource."""
    while PIPES:
        PIPES.pop().abort()
    for _ in range(3):
        await asyncio.sleep(0)


class FastClock(SystemClock):
    """Sleeps are a hundredth as long, and monotonic time runs accordingly."""

    def monotonic(self) -> float:
        return super().monotonic() * 100

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 100)


@asynccontextmanager
async def serving(
    handler: Handler, *, tls: ssl.SSLContext | None = None, limits: Limits | None = None, fast: bool = False
) -> AsyncIterator[HttpServer]:
    server = HttpServer(handler, ssl=tls, limits=limits, clock=FastClock() if fast else SystemClock())
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.close(0)


async def exchange(port: int, data: bytes, *, tls: ssl.SSLContext | None = None, eof: bool = False) -> bytes:
    """Send bytes, read until the server closes."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None
    )
    writer.write(data)
    if eof:
        writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


async def pipe() -> tuple[SocketDuplex, SocketDuplex]:
    """Two ends of a connection."""
    import socket

    loop = asyncio.get_running_loop()
    ends = []
    for sock in socket.socketpair():
        _, duplex = await loop.create_connection(SocketDuplex, sock=sock)
        ends.append(duplex)
        PIPES.append(duplex)
    return ends[0], ends[1]


def certificates(folder: Path) -> tuple[ssl.SSLContext, Callable[[bool], ssl.SSLContext], bytes]:
    """A server context that asks for client certificates, a maker of client contexts, and the client's DER."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)

    def make(name: str, issuer: Any = None) -> tuple[Any, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer[0].subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        (folder / f"{name}.crt").write_bytes(pem)
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, key

    ca = make("ca")
    make("server", ca)
    client = make("client", ca)[0]
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.crt", folder / "server.key")
    server.load_verify_locations(folder / "ca.crt")
    server.verify_mode = ssl.CERT_OPTIONAL

    def context(with_certificate: bool) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        if with_certificate:
            made.load_cert_chain(folder / "client.crt", folder / "client.key")
        return made

    return server, context, client.public_bytes(serialization.Encoding.DER)


Answer = Callable[[Request], Awaitable[Response]]
