"""What load balancers hear of the service proxy: over real sockets on loopback, with a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable

import pytest

from jota.aio.clock import SystemClock
from jota.client.informers import Informers
from jota.meta.resource import ENDPOINTSLICES, NODES, SERVICES
from jota.node import proxyhealth
from jota.node.proxy import run_proxy
from jota.node.proxyhealth import Check, ProxyHealth
from jota.testing.cluster import ApiServer

from .test_proxy import NotingProxy, service, slice_of


class HandClock(SystemClock):
    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(autouse=True)
def ports(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Other clusters on this machine may hold the real ones."""
    own = free_port(), free_port()
    monkeypatch.setattr(proxyhealth, "HEALTH_PORT", own[0])
    monkeypatch.setattr(proxyhealth, "STATUS_PORT", own[1])
    return own


async def get(port: int, path: str = "/healthz") -> tuple[int, str, str]:
    """(code, head, body). Raises ConnectionRefusedError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(10):
        text = (await reader.read()).decode()
    writer.close()
    head, _, body = text.partition("\r\n\r\n")
    return int(head.split()[1]), head.lower(), body


def story(body: Callable[[ProxyHealth, HandClock], Awaitable[None]]) -> None:
    async def run() -> None:
        clock = HandClock()
        health = ProxyHealth(clock, "127.0.0.1")
        try:
            await body(health, clock)
        finally:
            await health.close()

    asyncio.run(run())


def test_a_change_that_waits_for_long_makes_the_proxy_unhealthy(ports: tuple[int, int]) -> None:
    async def body(health: ProxyHealth, clock: HandClock) -> None:
        await health.serve([])
        code, _, text = await get(ports[0])
        told = json.loads(text)
        assert (code, told["healthy"], told["nodeEligible"], told["status"]["IPv4"]["healthy"]) == (
            200,
            True,
            True,
            True,
        )
        assert told["lastUpdated"] == told["currentTime"]
        health.waits()
        clock.ahead = 59
        assert (await get(ports[0]))[0] == 200
        health.waits()  # the first of those that wait counts
        clock.ahead = 61
        code, _, text = await get(ports[0])
        assert (code, json.loads(text)["healthy"]) == (503, False)
        health.applied()
        assert (await get(ports[0]))[0] == 200

    story(body)


def test_a_node_that_leaves_is_no_longer_eligible_but_alive(ports: tuple[int, int]) -> None:
    async def body(health: ProxyHealth, clock: HandClock) -> None:
        health.eligible = False
        await health.serve([])
        code, _, text = await get(ports[0])
        assert (code, json.loads(text)["nodeEligible"]) == (503, False)
        assert (await get(ports[0], "/livez"))[0] == 200
        assert (await get(ports[0], "/other"))[0] == 404
        assert (await get(ports[1], "/proxyMode"))[::2] == (200, "nftables")

    story(body)


def test_a_service_is_healthy_where_it_has_ready_endpoints() -> None:
    async def body(health: ProxyHealth, clock: HandClock) -> None:
        port = free_port()
        await health.serve([Check(port, "ns", "web", 2)])
        code, head, text = await get(port)
        assert code == 200
        assert "x-load-balancing-endpoint-weight: 2" in head
        assert json.loads(text) == {
            "service": {"namespace": "ns", "name": "web"},
            "localEndpoints": 2,
            "serviceProxyHealthy": True,
        }
        await health.serve([Check(port, "ns", "web", 0)])
        code, head, _ = await get(port)
        assert code == 503
        assert "x-load-balancing-endpoint-weight: 0" in head
        await health.serve([])
        with pytest.raises(ConnectionRefusedError):
            await get(port)

    story(body)


def test_a_port_that_is_taken_is_served_once_it_is_free(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "jota.node.proxyhealth")

    async def body(health: ProxyHealth, clock: HandClock) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            await health.serve([Check(port, "ns", "web", 1)])
            await health.serve([Check(port, "ns", "web", 1)])
        assert caplog.text.count(f"127.0.0.1:{port}") == 1, "it is told once"
        await health.serve([Check(port, "ns", "web", 1)])
        assert (await get(port))[0] == 200

    story(body)


def test_the_loop_tells_what_the_api_says(ports: tuple[int, int]) -> None:
    """Endpoints on this node that are ready count; a node that is about to go is not eligible."""

    async def until(port: int, code: int) -> None:
        async with asyncio.timeout(10):
            while True:
                try:
                    if (await get(port))[0] == code:
                        return
                except ConnectionRefusedError:
                    pass
                await asyncio.sleep(0.01)

    async def run() -> None:
        clock = SystemClock()
        async with ApiServer(clock=clock) as api:
            informers, health = Informers(api.client, clock), ProxyHealth(clock, "127.0.0.1")
            async with asyncio.TaskGroup() as group:
                looping = [
                    group.create_task(informers.run()),
                    group.create_task(run_proxy(informers, NotingProxy(), clock=clock, node="n1", health=health)),
                ]
                await api.client.create(NODES, {"metadata": {"name": "n1"}})
                made = await api.client.create(
                    SERVICES, service("web", type="LoadBalancer", externalTrafficPolicy="Local")
                )
                port = made["spec"]["healthCheckNodePort"]
                await until(port, 503)
                await api.client.create(ENDPOINTSLICES, slice_of("web", "a", "10.244.0.5"))
                await until(port, 200)
                leaving = slice_of("web", "a", "10.244.0.5", ready=False, serving=True, terminating=True)
                await api.client.update(ENDPOINTSLICES, leaving)
                await until(port, 503)
                await until(ports[0], 200)
                taints = [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]
                await api.client.patch(NODES, "n1", "", {"spec": {"taints": taints}})
                await until(ports[0], 503)
                for task in looping:
                    task.cancel()
        with pytest.raises(ConnectionRefusedError):
            await get(ports[0])

    asyncio.run(run())
