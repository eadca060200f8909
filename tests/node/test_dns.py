"""DNS of a node against the real API server: what is created can be asked for, what is deleted cannot."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from jota.aio.clock import SystemClock
from jota.client.informers import Informers
from jota.meta.resource import ENDPOINTSLICES, NAMESPACES, SERVICES
from jota.net.dns import packet
from jota.net.dns.packet import NOERROR, NXDOMAIN, A
from jota.node.dns import run_dns
from jota.testing.cluster import ApiServer


async def ask(port: int, name: str) -> tuple[int, list[str]]:
    """(code, A records) by UDP."""
    question = b"ab\1\0\0\1\0\0\0\0\0\0" + packet.encode_name(name) + b"\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.setblocking(False)
        door.connect(("127.0.0.1", port))
        await asyncio.get_running_loop().sock_sendall(door, question)
        async with asyncio.timeout(5):
            answer = await asyncio.get_running_loop().sock_recv(door, 4096)
    records = packet._records(answer, len(question), struct.unpack_from("!H", answer, 6)[0])
    return answer[3] & 15, [socket.inet_ntoa(answer[a:b]) for kind, _, _, (_, a, b) in records if kind == A]


async def become(port: int, name: str, expected: tuple[int, list[str]]) -> None:
    async with asyncio.timeout(10):
        while (found := await ask(port, name)) != expected:
            assert found[0] in (NOERROR, NXDOMAIN)
            await asyncio.sleep(0.01)


def test_names_follow_the_api() -> None:
    asyncio.run(_story())


async def _story() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    clock = SystemClock()
    async with ApiServer(clock=clock) as api, asyncio.TaskGroup() as group:
        informers, ready = Informers(api.client, clock), asyncio.Event()
        dns = run_dns(
            informers, address="127.0.0.1", domain="cluster.local", clock=clock, port=port, servers=list, ready=ready
        )
        tasks = [group.create_task(informers.run()), group.create_task(dns)]
        async with asyncio.timeout(10):
            await ready.wait()
        await api.client.create(NAMESPACES, {"metadata": {"name": "shop"}})
        await become(port, "1-2-3-4.shop.pod.cluster.local", (NOERROR, ["1.2.3.4"]))
        name = "web.shop.svc.cluster.local"
        await become(port, name, (NXDOMAIN, []))
        meta = {"name": "web", "namespace": "shop"}
        spec: dict[str, Any] = {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}
        await api.client.create(SERVICES, {"metadata": meta, "spec": spec})
        await become(port, name, (NOERROR, []))
        await api.client.create(
            ENDPOINTSLICES,
            {
                "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.244.0.7"], "hostname": "a", "conditions": {"ready": True}}],
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            },
        )
        await become(port, name, (NOERROR, ["10.244.0.7"]))
        await become(port, f"a.{name}", (NOERROR, ["10.244.0.7"]))
        await api.client.delete(ENDPOINTSLICES, "web-1", "shop")
        await become(port, name, (NOERROR, []))
        await api.client.delete(SERVICES, "web", "shop")
        await become(port, name, (NXDOMAIN, []))
        for task in tasks:
            task.cancel()
