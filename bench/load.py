"""The load generator, a process of its own: keep-alive TLS connections on uvloop, one request in flight on each.

    python -m bench.load '{"mode": "rate", "config": "kubeconfig", "work": "dir", "connections": 64, "seconds": 4, ...}'

`rate` prints how many answers came and how long they took; in path and body "#" becomes a number that never repeats, in the body "@" the
nanoseconds at which it is sent.
`drain` asks for each of `paths` `times` times, one after the other on one connection, and prints for each how many bytes came and in
how many seconds.
`encrypt` prints the seconds that TLS alone takes to encrypt `size` bytes, in pieces of `piece`.
`watch` opens watches, prints "ready", then what `events` events per watcher took to arrive (from the nanoseconds that their
writer put into `"sent":"..."`). Answers are only told apart, not decoded: the less the client costs, the truer the figure.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, cast

import uvloop

from bench.cluster import Http, header, pair, request, tls
from bench.figure import percentile

ENVIRONMENT = {
    **os.environ,
    "MALLOC_MMAP_THRESHOLD_": "4000000",
    "MALLOC_TRIM_THRESHOLD_": "16000000",
    "OPENSSL_CONF": str(Path(__file__).with_name("openssl.cnf")),
}
"""For processes that use uvloop's own TLS: each of its reads allocates a quarter of a megabyte, which the C library otherwise
gets from the kernel and gives back every time, at twice the cost of all the rest. They offer the ciphers of client-go."""
_SENT = re.compile(rb'"sent":"(\d+)"')
_EVENT = b'"sent":"'
"""Once in each event of the load's own; what else happens in the namespace does not count."""


class Requester(asyncio.Protocol):
    """Sends the next request when the answer of the last one is there."""

    def __init__(self, run: Rate) -> None:
        self._run = run
        self._left = -1
        self._head = b""
        self._begin = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def next(self) -> None:
        self._begin = time.perf_counter()
        self._transport.write(self._run.request())

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            head, separator, rest = (self._head + data).partition(b"\r\n\r\n")
            if not separator:
                self._head = head
                return
            self._head = b""
            self._left = int(header(head, b"content-length") or 0) - len(rest)
            self._run.codes[head[9:12]] = self._run.codes.get(head[9:12], 0) + 1
        else:
            self._left -= len(data)
        if self._left == 0:
            self._left = -1
            if self._run.answered(time.perf_counter() - self._begin):
                self._run.again(self.next)

    def connection_lost(self, error: Exception | None) -> None:
        self._run.lost(error)


class Rate:
    """As many requests as the connections get answered in `seconds`, or `total` of them."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._seconds = float(options.get("seconds", 0))
        self._total = int(options.get("total", 0))
        self._pause = float(options.get("pause", 0))
        self._connections = int(options["connections"])
        self._random = Random(1)
        self._numbers = itertools.count(int(options.get("first", 0)))
        self._path = options["path"]
        self._body = options.get("body", "").encode()
        self._whole = request(options["method"], self._path, self._body)
        self._unique = b"#" in self._whole
        self._method = options["method"]
        self._sent = 0
        self._open = 0
        self.codes: dict[bytes, int] = {}
        self._times: list[float] = []
        self._end = 0.0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def request(self) -> bytes:
        self._sent += 1
        if not self._unique:
            return self._whole
        number = b"%09d" % next(self._numbers)
        stamp = b"%d" % time.monotonic_ns()
        path = self._path.replace("#", number.decode())
        return request(self._method, path, self._body.replace(b"#", number).replace(b"@", stamp))

    def answered(self, took: float) -> bool:
        """Whether the connection goes on."""
        self._times.append(took)
        more = self._sent < self._total if self._total else time.perf_counter() < self._end
        if not more:
            self._open -= 1
            if not self._open:
                self._done.set_result(None)
        return more

    def again(self, ask: Callable[[], None]) -> None:
        """The next request of a connection: at once, or after a pause of this mean (all of the same would come in bursts)."""
        if self._pause:
            asyncio.get_running_loop().call_later(self._random.expovariate(1 / self._pause), ask)
        else:
            ask()

    def lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error or ConnectionError("the server closed a connection"))

    async def run(self, options: dict[str, Any]) -> dict[str, Any]:
        requesters = await _connect(options, lambda: Requester(self))
        begin = time.perf_counter()
        self._end = begin + self._seconds
        self._open = len(requesters)
        for requester in requesters:
            self.again(cast(Requester, requester).next)
        await self._done
        took = time.perf_counter() - begin
        codes = {code.decode(): count for code, count in self.codes.items()}
        milliseconds = {f"p{p}": 1000 * percentile(self._times, p) for p in (50, 95, 99, 99.9)}
        milliseconds["max"] = 1000 * max(self._times)
        return {"rate": len(self._times) / took, "count": len(self._times), "codes": codes, **milliseconds}


class Watcher(asyncio.Protocol):
    def __init__(self, run: Watch, sampled: bool) -> None:
        self._run, self._sampled = run, sampled
        self._seen = 0
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        if not self._seen and b"HTTP/1.1 200" in data:
            self._run.opened()
        whole = self._tail + data
        found = whole.count(_EVENT)
        # An event that is cut in two is counted when its beginning is whole; keep what may be a part of one.
        self._tail = whole[-(len(_EVENT) - 1) :] if not whole.endswith(_EVENT) else b""
        if found:
            self._seen += found
            self._run.arrived(found, _SENT.findall(data) if self._sampled else ())


class Watch:
    def __init__(self, options: dict[str, Any]) -> None:
        self.request = request("GET", options["path"])
        self._watchers = int(options["connections"])
        self._expected = self._watchers * int(options["events"])
        self._open = self._seen = 0
        self._first = 0.0
        self._delays: list[float] = []
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def opened(self) -> None:
        self._open += 1
        if self._open == self._watchers:
            self._ready.set_result(None)

    def arrived(self, count: int, sent: Any) -> None:
        now = time.monotonic_ns()
        self._first = self._first or time.perf_counter()
        self._delays += [(now - int(text)) / 1e6 for text in sent]
        self._seen += count
        if self._seen >= self._expected and not self._done.done():
            self._done.set_result(None)

    async def run(self, options: dict[str, Any]) -> dict[str, Any]:
        numbers = itertools.count()
        await _connect(options, lambda: Watcher(self, next(numbers) % 20 == 0))
        await self._ready
        print("ready", flush=True)
        await asyncio.wait_for(self._done, 120)
        took = time.perf_counter() - self._first
        return {
            "rate": self._seen / took,
            "count": self._seen,
            "p50": percentile(self._delays, 50),
            "p99": percentile(self._delays, 99),
        }


def _drain(options: dict[str, Any]) -> dict[str, Any]:
    with Http(Path(options["config"]), Path(options["work"])) as api:
        return {path: [api.drain(path) for _ in range(options["times"])] for path in options["paths"]}


def _encrypt(options: dict[str, Any]) -> dict[str, Any]:
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls(Path(options["config"]), Path(options["work"]))
    server.load_cert_chain(*pair(Path(options["work"])))
    server.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE  # as the real one
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    for end in ends * 3:
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    piece, seconds = os.urandom(options["piece"]), []
    for _ in range(options["times"]):
        begin = time.perf_counter()
        for _ in range(0, options["size"], options["piece"]):
            ends[1].write(piece)
            to_client.read()
        seconds.append(time.perf_counter() - begin)
    return {"seconds": seconds}


async def _connect(options: dict[str, Any], make: Any) -> list[asyncio.Protocol]:
    context, host, port = tls(Path(options["config"]), Path(options["work"]))
    loop = asyncio.get_running_loop()
    found = []
    for _ in range(int(options["connections"])):
        _, protocol = await loop.create_connection(make, host, port, ssl=context, server_hostname=host)
        found.append(protocol)
    return found


def start(options: dict[str, Any]) -> subprocess.Popen[str]:
    """The load generator as a child process; the last line that it prints is its result."""
    command = [sys.executable, "-m", "bench.load", json.dumps(options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)


def run(**options: Any) -> dict[str, Any]:
    """One measurement. Raises RuntimeError when the generator failed."""
    with start(options) as process:
        return result(process, float(options.get("seconds", 0)))


def result(process: subprocess.Popen[str], seconds: float = 0.0) -> dict[str, Any]:
    """What it printed. `seconds`: how long it is at work."""
    output, _ = process.communicate(timeout=seconds + 180)
    if process.returncode:
        raise RuntimeError(f"the load generator failed (exit status {process.returncode})")
    found: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return found


def _main(options: dict[str, Any]) -> dict[str, Any]:
    match options["mode"]:
        case "drain":
            return _drain(options)
        case "encrypt":
            return _encrypt(options)
        case "rate":
            return uvloop.run(_run(Rate, options))
        case _:
            return uvloop.run(_run(Watch, options))


async def _run(kind: type[Rate] | type[Watch], options: dict[str, Any]) -> dict[str, Any]:
    return await kind(options).run(options)


if __name__ == "__main__":
    print(json.dumps(_main(json.loads(sys.argv[1]))), flush=True)
