"""The server on real sockets: UDP, TCP, upstream servers that answer, are silent, or are not there."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from jota.aio.clock import SystemClock
from jota.net.dns import forward, packet
from jota.net.dns.forward import Forwarder, read_servers
from jota.net.dns.packet import NOERROR, NXDOMAIN, SERVFAIL, A, Query, encode_name, record
from jota.net.dns.server import Server
from jota.net.dns.zone import Record, Zone
from jota.net.objects import Service


def service(name: str, **spec: Any) -> Service:
    return msgspec.convert({"metadata": {"name": name, "namespace": "default"}, "spec": spec}, Service)


def make_zone() -> Zone:
    zone = Zone("cluster.local")
    zone.set_service(service("web", clusterIP="10.96.0.9"), [])
    zone.set_service(service("ext", type="ExternalName", externalName="www.example.com"), [])
    many = encode_name("many.default.svc.cluster.local")
    zone.set_records("many", [Record(many, A, bytes([10, 1, n >> 8, n & 255])) for n in range(300)])
    two = encode_name("two.default.svc.cluster.local")
    zone.set_records("two", [Record(two, A, bytes([10, 2, 0, n])) for n in (1, 2)])
    return zone


def question(name: str, kind: int = A, identity: bytes = b"ab", extra: bytes = b"") -> bytes:
    head = identity + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 1 if extra else 0)
    return head + encode_name(name) + struct.pack("!HH", kind, 1) + extra


def addresses(answer: bytes, name: str) -> list[str]:
    """The A records of an answer, in order."""
    found = []
    offset = 12 + len(encode_name(name)) + 4
    for kind, _, _, (_, start, stop) in packet._records(answer, offset, struct.unpack_from("!H", answer, 6)[0]):
        if kind == A:
            found.append(socket.inet_ntoa(answer[start:stop]))
    return found


def code(answer: bytes) -> int:
    return answer[3] & 15


class Asker:
    def __init__(self, port: int) -> None:
        self.port = port

    async def udp(self, data: bytes, timeout: float = 5.0) -> bytes:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
            door.setblocking(False)
            door.connect(("127.0.0.1", self.port))
            await loop.sock_sendall(door, data)
            async with asyncio.timeout(timeout):
                return await loop.sock_recv(door, 65535)

    async def tcp(self, *messages: bytes) -> list[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        found = []
        for message in messages:
            writer.write(packet.join([message]))
            size = int.from_bytes(await reader.readexactly(2), "big")
            found.append(await reader.readexactly(size))
        writer.close()
        await writer.wait_closed()
        return found


def serve(
    story: Callable[[Asker, Zone], Awaitable[None]],
    *,
    upstream: Callable[[bytes], bytes | None] | None = None,
    silent: bool = False,
) -> None:
    """Run the story against a server on a free port of loopback; `upstream` answers what is forwarded."""

    async def body() -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            other.setblocking(False)
            servers = ["127.0.0.1"] if upstream or silent else []
            forwarder = Forwarder(lambda: servers, clock=SystemClock(), port=other.getsockname()[1])
            zone = make_zone()
            ready = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(Server(zone, forwarder).run("127.0.0.1", port, ready=ready))]
                if upstream:
                    tasks.append(group.create_task(_upstream(other, upstream)))
                await ready.wait()
                async with asyncio.timeout(20):
                    await story(Asker(port), zone)
                for task in tasks:
                    task.cancel()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as in the agent
        runner.run(body())


async def _upstream(door: socket.socket, answer: Callable[[bytes], bytes | None]) -> None:
    def reply() -> None:
        data, peer = door.recvfrom(4096)
        made = answer(data)
        if made is not None:
            door.sendto(made, peer)

    asyncio.get_running_loop().add_reader(door, reply)
    try:
        await asyncio.Event().wait()
    finally:
        asyncio.get_running_loop().remove_reader(door)


def test_names_of_the_cluster_by_udp_and_tcp() -> None:
    async def story(ask: Asker, zone: Zone) -> None:
        name = "web.default.svc.cluster.local"
        for answer in (await ask.udp(question(name)), *await ask.tcp(question(name), question(name))):
            assert answer[:2] == b"ab"
            assert answer[2] & 0x84 == 0x84
            assert addresses(answer, name) == ["10.96.0.9"]
        assert code(await ask.udp(question("no.default.svc.cluster.local"))) == NXDOMAIN

    serve(story)


def test_an_answer_is_remembered_with_its_own_identity_and_forgotten_on_a_change() -> None:
    async def story(ask: Asker, zone: Zone) -> None:
        name = "web.default.svc.cluster.local"
        first = await ask.udp(question(name, identity=b"ab"))
        again = await ask.udp(question(name, identity=b"cd"))
        assert again == b"cd" + first[2:]
        zone.set_service(service("web", clusterIP="10.96.0.77"), [])
        assert addresses(await ask.udp(question(name)), name) == ["10.96.0.77"]

    serve(story)


def test_several_records_take_turns() -> None:
    async def story(ask: Asker, zone: Zone) -> None:
        name = "two.default.svc.cluster.local"
        firsts = {addresses(await ask.udp(question(name)), name)[0] for _ in range(8)}
        assert firsts == {"10.2.0.1", "10.2.0.2"}

    serve(story)


def test_a_long_answer_is_truncated_by_udp_and_whole_by_tcp() -> None:
    async def story(ask: Asker, zone: Zone) -> None:
        name = "many.default.svc.cluster.local"
        short = await ask.udp(question(name))
        assert short[2] & 2
        assert len(short) <= 512
        (whole,) = await ask.tcp(question(name))
        assert len(addresses(whole, name)) == 300

    serve(story)


def test_garbage_is_survived() -> None:
    async def story(ask: Asker, zone: Zone) -> None:
        assert code(await ask.udp(b"ab\x01\0" + bytes(8))) == packet.FORMERR
        for data in (b"", b"x", b"\xff" * 50):
            with pytest.raises(TimeoutError):
                await ask.udp(data, timeout=0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", ask.port)
        writer.write(b"\0\x03abc")
        assert await reader.read() == b""
        writer.close()
        assert code(await ask.udp(question("web.default.svc.cluster.local"))) == NOERROR

    serve(story)


def test_idle_clients_do_not_keep_the_server_from_ending() -> None:
    with socket.socket() as client:

        async def story(ask: Asker, zone: Zone) -> None:
            client.connect(("127.0.0.1", ask.port))
            client.sendall(packet.join([question("web.default.svc.cluster.local")]))
            await ask.tcp(question("web.default.svc.cluster.local"))

        async def all_of_it() -> None:
            async with asyncio.timeout(5):
                await asyncio.to_thread(serve, story)

        asyncio.run(all_of_it())
        client.settimeout(5)
        assert client.recv(2)


def example(data: bytes) -> bytes:
    """An upstream server that knows every name as 192.0.2.1."""
    found = packet.parse(data)
    assert isinstance(found, Query)
    answer = packet.Answer(records=[record(packet.QUESTION_POINTER, A, 60, bytes([192, 0, 2, 1]))])
    return packet.build(found, answer, 512)


def test_other_names_are_forwarded_once_and_remembered() -> None:
    asked: list[bytes] = []

    def upstream(data: bytes) -> bytes:
        asked.append(data)
        return example(data)

    async def story(ask: Asker, zone: Zone) -> None:
        name = "www.example.com"
        many = await asyncio.gather(*(ask.udp(question(name, identity=bytes([0, n]))) for n in range(10)))
        assert {a[1] for a in many} == set(range(10))
        assert all(addresses(a, name) == ["192.0.2.1"] for a in many)
        assert not many[0][2] & 4
        assert addresses(await ask.udp(question(name.upper())), name) == ["192.0.2.1"]
        assert len(asked) == 1

    serve(story, upstream=upstream)


def test_an_external_name_comes_with_the_address_it_leads_to() -> None:
    async def story(ask: Asker, zone: Zone) -> None:
        name = "ext.default.svc.cluster.local"
        for answer in (await ask.udp(question(name)), await ask.udp(question(name))):
            assert struct.unpack_from("!H", answer, 6) == (2,)
            assert addresses(answer, name) == ["192.0.2.1"]

    serve(story, upstream=example)


def test_without_an_upstream_server_the_answer_is_quick() -> None:
    async def story(ask: Asker, zone: Zone) -> None:
        assert code(await ask.udp(question("www.example.com"), timeout=1)) == NXDOMAIN

    serve(story)


def test_a_silent_upstream_server_is_servfail_and_then_a_quick_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "TIMEOUT", 0.2)

    async def story(ask: Asker, zone: Zone) -> None:
        assert code(await ask.udp(question("www.example.com"))) == SERVFAIL
        assert code(await ask.udp(question("web.default.svc.cluster.local"))) == NOERROR
        assert code(await ask.udp(question("www.example.org"), timeout=1)) == SERVFAIL

    serve(story, silent=True)


def test_a_forged_answer_is_not_taken() -> None:
    def upstream(data: bytes) -> bytes:
        good = example(data)
        return bytes([good[0] ^ 1]) + good[1:]

    async def story(ask: Asker, zone: Zone) -> None:
        with pytest.raises(TimeoutError):
            await ask.udp(question("www.example.com"), timeout=0.3)

    serve(story, upstream=upstream)


def test_resolv_conf_is_read_with_its_traps(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# x\nsearch a b\nnameserver 127.0.0.1\nnameserver 10.96.0.10\nnameserver 192.0.2.53\nnameserver x\n"
    )
    assert read_servers(str(path), own=["10.96.0.10"], loopback=False) == ["192.0.2.53"]
    assert read_servers(str(path), loopback=True) == ["127.0.0.1", "10.96.0.10", "192.0.2.53"]
    assert read_servers(str(tmp_path / "none")) == []


@pytest.mark.kernel
def test_busybox_finds_services_in_a_pod(lab) -> None:
    pod = lab.namespace("pod")
    stop = asyncio.Event

    async def story() -> str:
        zone = make_zone()
        ready = stop()
        forwarder = Forwarder(list, clock=SystemClock())
        async with asyncio.TaskGroup() as group:
            task = group.create_task(Server(zone, forwarder).run("127.0.0.1", 53, ready=ready))
            await ready.wait()
            found = await asyncio.to_thread(
                subprocess.run,
                ["busybox", "nslookup", "web.default.svc.cluster.local", "127.0.0.1"],
                capture_output=True,
                text=True,
                timeout=20,
            )
            task.cancel()
        return found.stdout

    run: Callable[[Callable[[], Coroutine[Any, Any, str]]], str] = lambda s: lab.run(pod, s)  # noqa: E731
    assert "10.96.0.9" in run(story)
