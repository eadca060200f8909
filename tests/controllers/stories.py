"""Stories on the real API server in virtual time: controllers running, a kubelet that makes pods ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from jota.aio.clock import Clock, rfc3339
from jota.client.client import Client
from jota.controllers.controller import Context, Controller, ControllerConfig
from jota.controllers.table import CONTROLLERS, run_controllers
from jota.meta.errors import ApiError
from jota.meta.resource import NAMESPACES, PODS
from jota.testing.cluster import ApiServer

from .builders import CA_PEM

Object = dict[str, Any]


@asynccontextmanager
async def running(
    *controllers: Callable[[Context], Controller],
    config: ControllerConfig | None = None,
    client: Callable[[Client], Client] = lambda c: c,
    namespace: str = "ns",
    clock: Clock | None = None,
) -> AsyncIterator[ApiServer]:
    """An API server with the given controllers (default: all) over it."""
    async with ApiServer(clock=clock) as api:
        if namespace:
            await api.client.create(NAMESPACES, {"metadata": {"name": namespace}})
        stop = asyncio.Event()
        work = run_controllers(
            client(api.client),
            api.clock,
            config or ControllerConfig(ca_pem=CA_PEM),
            stop,
            random=Random(7),
            controllers=controllers or CONTROLLERS,
        )
        task = asyncio.ensure_future(work)
        try:
            await api.settle()
            yield api
        finally:
            stop.set()
            await task


async def names(api: ApiServer, resource: Any, namespace: str = "ns", labels: str = "") -> list[str]:
    items = (await api.client.list(resource, namespace, labels))["items"]
    return [i["metadata"]["name"] for i in items]


async def exists(api: ApiServer, resource: Any, name: str, namespace: str = "") -> bool:
    try:
        await api.client.get(resource, name, namespace)
    except ApiError as e:
        if e.code == 404:
            return False
        raise
    return True


class Kubelet:
    """Binds pending pods to a node, gives them addresses, makes them ready, and removes what terminates."""

    def __init__(self, api: ApiServer, node: str = "n1") -> None:
        self.api, self.node, self.address = api, node, 0

    async def tick(self) -> bool:
        """One look at all pods; True when it changed one."""
        changed = False
        for pod in (await self.api.client.list(PODS))["items"]:
            try:
                changed = await self.look(pod) or changed
            except ApiError as e:
                if e.code not in (404, 409):  # controllers go on meanwhile: the pod may be gone
                    raise
        return changed

    async def look(self, pod: Object) -> bool:
        meta = pod["metadata"]
        if "deletionTimestamp" in meta:
            await self.api.client.delete(PODS, meta["name"], meta["namespace"], grace=0)
            return True
        if pod["status"].get("phase", "Pending") == "Pending":
            await self.start(pod)
            return True
        return False

    async def start(self, pod: Object) -> None:
        meta = pod["metadata"]
        if not pod["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": self.node}
            await self.api.client.create(
                PODS,
                {"metadata": {"name": meta["name"]}, "target": target},
                meta["namespace"],
                subresource="binding",
                name=meta["name"],
            )
        self.address += 1
        ip = f"10.0.{self.address // 250}.{self.address % 250 + 1}"
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(self.api.clock.now())}
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]}
        await self.api.client.patch(PODS, meta["name"], meta["namespace"], {"status": status}, subresource="status")

    async def settle(self) -> None:
        """Until controllers and kubelet are at rest."""
        for _ in range(100):
            await self.api.advance(0.5)
            if not await self.tick():
                await self.api.advance(2)
                if not await self.tick():
                    return
        raise AssertionError("the cluster does not come to rest")


def web(replicas: int = 3, image: str = "web:1", **spec: Any) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [{"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}]
                },
            },
            **spec,
        },
    }
