"""The proxy's loop against the real API server, with a proxy that notes what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jota.aio.clock import SystemClock
from jota.client.informers import Informers
from jota.meta.resource import ENDPOINTSLICES, NODES, SERVICES
from jota.net.protocol import Endpoint, ServicePort
from jota.node import proxy as loop
from jota.node.proxy import run_proxy
from jota.testing.cluster import ApiServer


class NotingProxy:
    def __init__(self) -> None:
        self.applied: list[list[ServicePort]] = []
        self.fail = 0
        self.standing = True
        self.checks = 0
        self.news = asyncio.Event()

    async def apply(self, ports: list[ServicePort]) -> None:
        if self.fail:
            self.fail -= 1
            raise RuntimeError("nft says no")
        # The API server makes default/kubernetes by itself.
        self.applied.append([port for port in ports if port.name != "kubernetes"])
        self.news.set()

    async def check(self) -> bool:
        self.checks += 1
        return self.standing

    async def until(self, holds: Callable[[list[ServicePort]], bool]) -> list[ServicePort]:
        async with asyncio.timeout(10):
            while not self.applied or not holds(self.applied[-1]):
                self.news.clear()
                await self.news.wait()
        return self.applied[-1]


def service(name: str, **spec: Any) -> dict[str, Any]:
    whole = {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}], "clusterIP": "10.96.0.9", **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": whole}


def slice_of(name: str, suffix: str, *addresses: str, **conditions: bool) -> dict[str, Any]:
    endpoints = [{"addresses": [a], "nodeName": "n1", "conditions": conditions or {"ready": True}} for a in addresses]
    labels = {"kubernetes.io/service-name": name}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-{suffix}", "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def story(body: Callable[[Any, NotingProxy], Awaitable[None]]) -> None:
    async def run() -> None:
        clock = SystemClock()
        async with ApiServer(clock=clock) as api:
            noting = NotingProxy()
            informers = Informers(api.client, clock)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(informers.run()),
                    group.create_task(run_proxy(informers, noting, clock=clock, node="n1")),
                ]
                await body(api.client, noting)
                for task in tasks:
                    task.cancel()

    asyncio.run(run())


def here(address: str, ready: bool = True) -> Endpoint:
    return Endpoint(address, 8080, ready, "n1")


def test_services_and_slices_become_ports_and_changes_follow() -> None:
    async def body(client: Any, proxy: NotingProxy) -> None:
        await client.create(SERVICES, service("web"))
        (port,) = await proxy.until(lambda ports: len(ports) == 1)
        assert (port.cluster_ip, port.port, port.endpoints) == ("10.96.0.9", 80, ())
        await client.create(ENDPOINTSLICES, slice_of("web", "a", "10.244.0.5"))
        await client.create(ENDPOINTSLICES, slice_of("web", "b", "10.244.0.4"))
        both = (here("10.244.0.4"), here("10.244.0.5"))
        await proxy.until(lambda ports: {*ports[0].endpoints} == {*both})
        await client.delete(ENDPOINTSLICES, "web-b", "default")
        await proxy.until(lambda ports: ports[0].endpoints == both[1:])
        await client.delete(SERVICES, "web", "default")
        await proxy.until(lambda ports: ports == [])

    story(body)


def test_a_slice_that_comes_before_its_service_counts() -> None:
    async def body(client: Any, proxy: NotingProxy) -> None:
        await client.create(ENDPOINTSLICES, slice_of("web", "a", "10.244.0.5"))
        await client.create(SERVICES, service("web"))
        await proxy.until(lambda ports: bool(ports) and ports[0].endpoints == (here("10.244.0.5"),))

    story(body)


@pytest.mark.parametrize(
    "spec",
    [
        {"clusterIP": "None"},
        {"type": "ExternalName", "externalName": "example.com", "clusterIP": None, "ports": None},
    ],
)
def test_what_has_no_address_is_not_proxied(spec: dict[str, Any]) -> None:
    async def body(client: Any, proxy: NotingProxy) -> None:
        await client.create(SERVICES, service("other", **spec))
        await client.create(SERVICES, service("web"))
        assert [p.name for p in await proxy.until(lambda ports: len(ports) > 0)] == ["web"]

    story(body)


def test_a_label_leaves_a_service_to_another_proxy() -> None:
    async def body(client: Any, proxy: NotingProxy) -> None:
        other = service("web")
        other["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "mine"}
        await client.create(SERVICES, other)
        await proxy.until(lambda ports: ports == [])
        await client.patch(SERVICES, "web", "default", {"metadata": {"labels": None}})
        await proxy.until(lambda ports: len(ports) == 1)

    story(body)


@pytest.mark.parametrize("label", ["service.kubernetes.io/headless", "service.kubernetes.io/service-proxy-name"])
def test_a_label_leaves_a_slice_to_another_proxy(label: str) -> None:
    async def body(client: Any, proxy: NotingProxy) -> None:
        await client.create(SERVICES, service("web"))
        await client.create(ENDPOINTSLICES, slice_of("web", "a", "10.244.0.5"))
        await proxy.until(lambda ports: bool(ports) and ports[0].endpoints == (here("10.244.0.5"),))
        await client.patch(ENDPOINTSLICES, "web-a", "default", {"metadata": {"labels": {label: ""}}})
        await proxy.until(lambda ports: ports[0].endpoints == ())

    story(body)


def test_terminating_endpoints_are_offered_as_such_and_dead_ones_not() -> None:
    async def body(client: Any, proxy: NotingProxy) -> None:
        await client.create(SERVICES, service("web"))
        leaving = {"ready": False, "serving": True, "terminating": True}
        await client.create(ENDPOINTSLICES, slice_of("web", "a", "10.244.0.5", **leaving))
        await client.create(ENDPOINTSLICES, slice_of("web", "b", "10.244.0.6", ready=False, serving=False))
        await proxy.until(lambda ports: ports[0].endpoints == (here("10.244.0.5", False),))

    story(body)


def test_hints_follow_the_zone_of_the_node() -> None:
    async def body(client: Any, proxy: NotingProxy) -> None:
        def near(ports: list[ServicePort]) -> list[str]:
            return [e.ip for p in ports for e in p.endpoints if e.near]

        await client.create(SERVICES, service("web"))
        whole = slice_of("web", "a", "10.244.0.4", "10.244.0.5")
        for endpoint, zone in zip(whole["endpoints"], "xy", strict=True):
            endpoint["hints"] = {"forZones": [{"name": zone}]}
        await client.create(ENDPOINTSLICES, whole)
        await proxy.until(lambda ports: near(ports) == ["10.244.0.4", "10.244.0.5"])
        labels = {"topology.kubernetes.io/zone": "y"}
        await client.create(NODES, {"metadata": {"name": "n1", "labels": labels}})
        await proxy.until(lambda ports: near(ports) == ["10.244.0.5"])
        await client.patch(NODES, "n1", "", {"metadata": {"labels": {"topology.kubernetes.io/zone": "x"}}})
        await proxy.until(lambda ports: near(ports) == ["10.244.0.4"])
        await client.delete(NODES, "n1")
        await proxy.until(lambda ports: near(ports) == ["10.244.0.4", "10.244.0.5"])

    story(body)


def test_a_failure_is_tried_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "RETRY", 0.01)

    async def body(client: Any, proxy: NotingProxy) -> None:
        proxy.fail = 3
        await client.create(SERVICES, service("web"))
        await proxy.until(lambda ports: len(ports) == 1)
        assert proxy.fail == 0

    story(body)


def test_a_table_that_vanished_is_applied_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECK", 0.02)

    async def body(client: Any, proxy: NotingProxy) -> None:
        await client.create(SERVICES, service("web"))
        await proxy.until(lambda ports: len(ports) == 1)
        async with asyncio.timeout(10):
            while proxy.checks < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        count = len(proxy.applied)
        proxy.standing = False
        proxy.news.clear()
        await asyncio.wait_for(proxy.news.wait(), 10)
        assert len(proxy.applied) > count

    story(body)


def test_a_burst_is_applied_together() -> None:
    async def body(client: Any, proxy: NotingProxy) -> None:
        await proxy.until(lambda ports: ports == [])
        for n in range(40):
            await client.create(SERVICES, service(f"web{n}", clusterIP=f"10.96.1.{n + 1}"))
        await proxy.until(lambda ports: len(ports) == 40)
        assert len(proxy.applied) < 30

    story(body)
