"""The least that an HTTPS server in Python can do: one fixed answer, and each POST passed on to all watchers. No API, no store.

A peer for api.py and watch.py: the same loop, parser and TLS library as the server's, on the same machine in the same run, so
that a figure says what the API costs and not how fast the machine is.

    python -m bench.bare DIRECTORY    (holds server.crt, server.key and `answer`; prints the port)
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httptools
import uvloop

from bench.cluster import Cluster
from bench.load import ENVIRONMENT
from jota.run import kubeconfig, material

NAME = "a bare TLS server on the same loop, fixed answers"
_HEAD = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n"


class _Bare(asyncio.Protocol):
    def __init__(self, answer: bytes, watchers: set[asyncio.Transport]) -> None:
        self._get = _HEAD % b"200 OK" + b"Content-Length: %d\r\n\r\n" % len(answer) + answer
        self._posted = _HEAD % b"201 Created" + b"Content-Length: 2\r\n\r\n{}"
        self._streamed = _HEAD % b"200 OK" + b"Transfer-Encoding: chunked\r\n\r\n"
        self._watchers = watchers
        self._parser: Any = httptools.HttpRequestParser(self)
        self._body = self._url = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"POST":
            self._transport.write(self._posted)
            event = b'{"type":"ADDED","object":%b}\n' % self._body
            chunk = b"%x\r\n%b\r\n" % (len(event), event)
            for watcher in self._watchers:
                watcher.write(chunk)
        elif b"watch=1" in self._url:
            self._transport.write(self._streamed)
            self._watchers.add(self._transport)
        else:
            self._transport.write(self._get)


@contextmanager
def bare(place: Path, answer: bytes) -> Iterator[Cluster]:
    """Such a server in a process of its own, in the shape of a cluster that the load generator can ask."""
    directory = place / "bare"
    made = material.ensure(directory, addresses=[], service_cidr="10.96.0.0/12", domain="bare", now=time.time())
    (directory / "answer").write_bytes(answer)
    with subprocess.Popen(
        [sys.executable, "-m", "bench.bare", str(directory)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        try:
            assert process.stdout is not None
            url = f"https://127.0.0.1:{int(process.stdout.readline())}"
            admin = kubeconfig.Credentials(url, made.ca_pem, made.admin.certificate, made.admin.key)
            (directory / "kubeconfig").write_bytes(kubeconfig.render("bare", admin))
            yield Cluster("bare", directory)
        finally:
            process.kill()


async def _serve(directory: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE  # as our server
    context.load_cert_chain(directory / "server.crt", directory / "server.key")
    answer, watchers = (directory / "answer").read_bytes(), set[asyncio.Transport]()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Bare(answer, watchers), "127.0.0.1", 0, ssl=context, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
