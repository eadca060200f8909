"""A crash between any two API calls: claims are made once and freed, volumes are attached once and let go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jota.controllers.attachdetach import AttachDetachController
from jota.controllers.resourceclaim import CLAIMS, TEMPLATES, ResourceClaimController
from jota.meta.resource import NAMESPACES, NODES, PODS
from jota.testing.cluster import ApiServer

from . import test_attachdetach as attaching
from . import test_resourceclaim as claiming
from .stories import names
from .test_crash_at_every_step import Process

Story = Callable[[ApiServer, Process], Awaitable[Any]]


async def rest(api: ApiServer, process: Process) -> None:
    await api.advance(40)
    if process.transport.dead:
        await process.revive()
        await api.advance(40)


async def claims(api: ApiServer, process: Process) -> Any:
    """Two pods from one template; one ends with its claim in use."""
    template = {"metadata": {"name": "t", "namespace": "ns"}, "spec": {"spec": claiming.REQUEST}}
    await api.client.create(TEMPLATES, template)
    for name in ("p", "q"):
        await api.client.create(PODS, claiming.pod(name))
    await rest(api, process)
    made = (await api.client.list(CLAIMS, "ns"))["items"]
    for claim in made:
        owner = claim["metadata"]["ownerReferences"][0]
        used = [{"resource": "pods", "name": owner["name"], "uid": owner["uid"]}]
        claim["metadata"]["finalizers"] = [claiming.FINALIZER]
        claim = await api.client.update(CLAIMS, claim)
        status = {"allocation": claiming.ALLOCATION, "reservedFor": used}
        await api.client.update(CLAIMS, {**claim, "status": status}, subresource="status")
    await api.client.patch(PODS, "p", "ns", {"status": {"phase": "Succeeded"}}, subresource="status")
    await rest(api, process)
    left = (await api.client.list(CLAIMS, "ns"))["items"]
    statuses = [p["status"].get("resourceClaimStatuses") for p in (await api.client.list(PODS, "ns"))["items"]]
    return len(made), [c["metadata"]["ownerReferences"][0]["name"] for c in left], [len(s) for s in statuses]


async def volumes(api: ApiServer, process: Process) -> Any:
    """A pod moves from one node to the other."""
    for name in "ab":
        await api.client.create(NODES, {"metadata": {"name": name}})
        await attaching.node_status(api, name)
    await attaching.storage(api, "ReadWriteOnce")
    sidecar = attaching.Sidecar(api)
    await attaching.pod(api, "first", "a")
    for _ in range(2):
        await sidecar.rest(20)
        await rest(api, process)
    first = await attaching.attached_to(api), await attaching.reported(api, "a")
    await api.client.delete(PODS, "first", "ns", grace=0)
    await attaching.pod(api, "second", "b")
    for _ in range(2):
        await sidecar.rest(20)
        await rest(api, process)
    second = await attaching.attached_to(api), await attaching.reported(api, "a"), await attaching.reported(api, "b")
    return first, second, len(await names(api, attaching.ATTACHMENTS, ""))


WORKING: dict[Any, Any] = {claims: (ResourceClaimController,), volumes: (AttachDetachController,)}


async def told(story: Story, at: int, after: bool) -> tuple[Any, bool]:
    async with ApiServer() as api:
        await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
        process = Process(api, at, after, WORKING[story])
        try:
            end = await story(api, process)
        finally:
            await process.end()
        return end, process.died


@pytest.mark.fault
@pytest.mark.parametrize("story", [claims, volumes])
@pytest.mark.parametrize("after", [False, True])
def test_the_end_is_the_same_wherever_the_process_dies(story: Story, after: bool) -> None:
    async def tell() -> None:
        wanted, _ = await told(story, -1, False)
        deaths = 0
        for at in range(1, 60):
            end, died = await told(story, at, after)
            assert end == wanted, f"died at write {at} ({'after' if after else 'before'} it)"
            if not died:
                break
            deaths += 1
        assert deaths >= 5

    asyncio.run(tell())
