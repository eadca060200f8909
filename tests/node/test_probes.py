"""Probes: the tiny HTTP client against real sockets; thresholds and timing in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from jota.node import hooks
from jota.node.probes import grpc, http, tcp
from jota.node.probes.prober import Prober
from jota.node.probes.target import port_number
from jota.testing.virtual import VirtualClock

from .doubles import FakeRuntime
from .shapes import NOW, box, made, pod, seen


def serve(answer: bytes, body: Callable[[int, list[bytes]], Awaitable[None]], hang: bool = False) -> None:
    """Run `body(port, requests)` beside a server that answers every request with `answer`."""
    asked: list[bytes] = []

    handlers: list[asyncio.Task[None] | None] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        try:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            if hang:
                await asyncio.sleep(0.2)
            writer.write(answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # a TCP probe says nothing, an impatient one leaves
        finally:
            writer.close()
            await asyncio.wait([asyncio.ensure_future(writer.wait_closed())], timeout=1)

    async def main() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            await body(server.sockets[0].getsockname()[1], asked)
            await asyncio.sleep(0.01)
            await asyncio.wait([t for t in handlers if t is not None], timeout=2)

    asyncio.run(main())


def test_http_get() -> None:
    async def body(port: int, asked: list[bytes]) -> None:
        action = {
            "path": "/health?x=1",
            "httpHeaders": [{"name": "Host", "value": "me"}, {"name": "X-A", "value": "b\r\nEvil: 1"}],
        }
        assert await http.get(action, "127.0.0.1", port, 2) == (200, "ok")
        head = asked[0].decode()
        assert head.startswith("GET /health?x=1 HTTP/1.1\r\n")
        assert "Host: me\r\n" in head
        assert "User-Agent: kube-probe/" in head
        assert "\r\nEvil" not in head

    serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", body)


def test_a_probe_is_one_request_whatever_its_words() -> None:
    async def body(port: int, asked: list[bytes]) -> None:
        name = "X: 1\r\n\r\nDELETE / HTTP/1.1\r\nY"
        with pytest.raises(http.Unreachable, match="invalid header field name"):
            await http.get({"httpHeaders": [{"name": name, "value": "1"}]}, "127.0.0.1", port, 2)
        assert asked == []
        await http.get({"path": "/a b%20ä?c d HTTP/1.1"}, "127.0.0.1", port, 2)
        assert asked[0].startswith(b"GET /a%20b%20%C3%A4?c%20d%20HTTP/1.1 HTTP/1.1\r\n")

    serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", body)


def test_http_redirects_stay_on_the_host() -> None:
    async def away(port: int, asked: list[bytes]) -> None:
        assert (await http.get({}, "127.0.0.1", port, 2))[0] == 302
        assert len(asked) == 1

    serve(b"HTTP/1.1 302 Found\r\nLocation: http://example.invalid/\r\n\r\n", away)

    async def around(port: int, asked: list[bytes]) -> None:
        with pytest.raises(http.Unreachable, match="stopped after 10 redirects"):
            await http.get({}, "127.0.0.1", port, 2)
        assert len(asked) == 10

    serve(b"HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n", around)


@pytest.mark.parametrize("answer", [b"", b"hello\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"x" * 100_000])
def test_http_junk(answer: bytes) -> None:
    async def body(port: int, asked: list[bytes]) -> None:
        with pytest.raises(ConnectionError):
            await http.get({}, "127.0.0.1", port, 2)

    serve(answer, body)


def test_a_server_that_hangs() -> None:
    async def body(port: int, asked: list[bytes]) -> None:
        with pytest.raises(TimeoutError):
            await http.get({}, "127.0.0.1", port, 0.05)

    serve(b"", body, hang=True)


def test_tcp() -> None:
    async def body(port: int, asked: list[bytes]) -> None:
        assert await tcp.connect("127.0.0.1", port, 1) == ""
        assert await tcp.connect("127.0.0.1", 1, 1) == "dial tcp 127.0.0.1:1: connect: connection refused"

    serve(b"", body)


def test_ports_by_name() -> None:
    container = {"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}
    assert [port_number(container, p) for p in (80, "81", "http")] == [80, 81, 8080]
    for bad in ("none", 0, 70000):
        with pytest.raises(ValueError):
            port_number(container, bad)


def test_grpc_against_a_real_server() -> None:
    pytest.importorskip("grpc")
    import grpc.aio as rpc
    from grpc import method_handlers_generic_handler, unary_unary_rpc_method_handler

    from jota.node.probes.grpc import check

    async def story() -> None:
        asked: list[bytes] = []

        async def answer(request: bytes, _: Any) -> bytes:
            asked.append(request)
            return b"\x08\x01" if request in (b"", b"\x0a\x01a") else b"\x08\x02"

        server = rpc.server()
        method = unary_unary_rpc_method_handler(answer)
        server.add_generic_rpc_handlers((method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        assert await check("127.0.0.1", port, "", 5) == ""
        assert await check("127.0.0.1", port, "a", 5) == ""
        assert "NOT_SERVING" in await check("127.0.0.1", port, "b", 5)
        await server.stop(None)

    asyncio.run(story())
    assert grpc._request("x" * 200)[:3] == b"\x0a\xc8\x01"


# -- thresholds


class Bench:
    """A prober over one container "c", and what it reported."""

    def __init__(self, **probes: Any) -> None:
        self.clock = VirtualClock(NOW)
        self.runtime = FakeRuntime(self.clock)
        self.settled: list[tuple[float, str, bool]] = []
        self.told: list[str] = []
        self.good = True
        self.pod = pod()
        self.pod["spec"]["containers"][0] |= {f"{k}Probe": {"exec": {"command": [k]}, **v} for k, v in probes.items()}
        self.runtime.exec_result = lambda name, command: (0 if self.good else 1, b"no", b"")
        c = made(ago=0)
        self.runtime.made[c.id] = c
        self.seen = seen(box(), c)

    def run(self, body: Callable[[Bench], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                note = lambda cid, kind, ok: self.settled.append((self.clock.now() - NOW, kind, ok))  # noqa: E731
                self.prober = Prober(
                    self.runtime,
                    self.clock,
                    Random(1),
                    group,
                    note,
                    lambda _, reason, text: self.told.append(f"{reason}: {text}"),
                )
                self.update()
                await body(self)
                self.prober.close()

        asyncio.run(main())

    def update(self, stopping: bool = False) -> None:
        self.prober.update(self.pod, self.seen, "10.0.0.1", {}, stopping)

    def calls(self, kind: str) -> int:
        return sum(command == [kind] for _, command in self.runtime.execs)


def test_a_redirect_to_another_host_passes_with_a_warning() -> None:
    b = Bench()

    async def away(port: int, asked: list[bytes]) -> None:
        async with asyncio.TaskGroup() as group:
            told: list[tuple[str, ...]] = []
            prober = Prober(b.runtime, b.clock, Random(1), group, lambda *_: None, lambda *said: told.append(said))
            probe = {"httpGet": {"host": "127.0.0.1", "port": port}}
            assert await prober._once({"name": "c"}, probe, "c-0", "liveness", "10.0.0.1") is None
            text = "Liveness probe warning: Probe terminated redirects, Response body: away"
            assert told == [("c", "ProbeWarning", text)]

    serve(b"HTTP/1.1 302 Found\r\nLocation: http://example.invalid/\r\nContent-Length: 4\r\n\r\naway", away)


def test_readiness_begins_at_once_and_is_retried_quickly() -> None:
    b = Bench(readiness={"periodSeconds": 10})
    b.good = False

    async def body(b: Bench) -> None:
        await b.clock.advance(0.1)
        b.good = True
        await b.clock.advance(0.5)
        assert len(b.settled) == 1
        assert b.settled[0][0] < 0.5
        assert b.settled[0][1:] == ("readiness", True)
        assert b.told == []

    b.run(body)


def test_failures_settle_after_the_threshold() -> None:
    b = Bench(liveness={"periodSeconds": 2, "failureThreshold": 3, "initialDelaySeconds": 5})

    async def body(b: Bench) -> None:
        await b.clock.advance(4.9)
        assert b.calls("liveness") == 0
        await b.clock.advance(0.2)
        assert b.settled == [(5.0, "liveness", True)]
        b.good = False
        await b.clock.advance(4)
        assert len(b.settled) == 1
        await b.clock.advance(2)
        assert b.settled[1:] == [(11.0, "liveness", False)]
        assert b.told == ["Unhealthy: Liveness probe failed: no"] * 3

    b.run(body)


def test_success_threshold() -> None:
    b = Bench(readiness={"periodSeconds": 1, "successThreshold": 3})

    async def body(b: Bench) -> None:
        await b.clock.advance(1.5)
        assert b.settled == []
        await b.clock.advance(1)
        assert b.settled == [(2.0, "readiness", True)]

    b.run(body)


def test_startup_holds_the_others_back_and_ends() -> None:
    b = Bench(startup={"periodSeconds": 1}, liveness={"periodSeconds": 1}, readiness={"periodSeconds": 1})
    b.good = False

    async def body(b: Bench) -> None:
        await b.clock.advance(1)
        assert b.calls("liveness") == b.calls("readiness") == 0
        b.good = True
        await b.clock.advance(1)
        assert [s[1] for s in b.settled] == ["startup"]
        b.update()
        await b.clock.advance(3)
        assert {s[1] for s in b.settled} == {"startup", "liveness", "readiness"}
        calls = b.calls("startup")
        await b.clock.advance(10)
        assert b.calls("startup") == calls

    b.run(body)


def test_a_stopping_pod_is_only_asked_whether_it_is_ready() -> None:
    b = Bench(liveness={"periodSeconds": 1}, readiness={"periodSeconds": 1})

    async def body(b: Bench) -> None:
        await b.clock.advance(3)
        b.update(stopping=True)
        before = b.calls("liveness"), b.calls("readiness")
        await b.clock.advance(5)
        assert b.calls("liveness") == before[0]
        assert b.calls("readiness") > before[1]

    b.run(body)


def test_a_dead_container_is_not_asked() -> None:
    b = Bench(readiness={"periodSeconds": 1})

    async def body(b: Bench) -> None:
        await b.clock.advance(2)
        b.seen = seen(box(), made(state="exited"))
        b.update()
        calls = b.calls("readiness")
        await b.clock.advance(5)
        assert b.calls("readiness") == calls

    b.run(body)


# -- hooks

HOOKS = [
    ({"exec": {"command": ["ok"]}}, ""),
    ({"exec": {"command": ["bad"]}}, "exited with 3: why"),
    ({"sleep": {"seconds": 0}}, ""),
    ({"tcpSocket": {"port": 1, "host": "127.0.0.1"}}, "refused"),
    ({"httpGet": {"port": "none"}}, "couldn't find port"),
    ({"weird": {}}, "unsupported handler: weird"),
]


@pytest.mark.parametrize(("handler", "expected"), HOOKS)
def test_hooks(handler: dict[str, Any], expected: str) -> None:
    clock = VirtualClock(NOW)
    runtime = FakeRuntime(clock)
    runtime.made["c-0"] = made()
    runtime.exec_result = lambda name, command: (0, b"", b"") if command == ["ok"] else (3, b"", b"why")
    result = asyncio.run(hooks.run(handler, {"name": "c"}, "c-0", "127.0.0.1", runtime, clock, 2.0))
    assert result == expected if not expected else expected in result
