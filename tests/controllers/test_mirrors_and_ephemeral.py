"""EndpointSlice mirroring, and claims of generic ephemeral volumes: stories on the real API server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from jota.controllers.endpointslicemirroring import MANAGED_BY, MANAGER, EndpointSliceMirroring
from jota.controllers.ephemeralvolume import EphemeralVolumeController
from jota.controllers.garbagecollector import GarbageCollector
from jota.controllers.statefulset_pods import PVCS
from jota.controllers.volumeprotection import ClaimProtectionController
from jota.meta.resource import ENDPOINTS, ENDPOINTSLICES, EVENTS, PODS, SERVICES
from jota.testing.cluster import ApiServer

from .stories import exists, names, running

Object = dict[str, Any]
PORT = {"name": "http", "port": 80, "protocol": "TCP"}


def told(story: Callable[[ApiServer], Awaitable[None]]) -> None:
    async def run() -> None:
        work = (EndpointSliceMirroring, EphemeralVolumeController, GarbageCollector, ClaimProtectionController)
        async with running(*work) as api:
            await story(api)

    asyncio.run(run())


async def mirrors(api: ApiServer) -> list[Object]:
    return list((await api.client.list(ENDPOINTSLICES, "ns", f"{MANAGED_BY}={MANAGER}"))["items"])


def test_hand_written_endpoints_are_mirrored_changed_and_removed() -> None:
    """should mirror a custom Endpoints resource through create update and delete"""

    async def story(api: ApiServer) -> None:
        meta = {"name": "db", "namespace": "ns"}
        await api.client.create(SERVICES, {"metadata": meta, "spec": {"ports": [PORT]}})
        subset = {"addresses": [{"ip": "10.1.2.3"}, {"ip": "fd00::1"}], "ports": [PORT]}
        await api.client.create(ENDPOINTS, {"metadata": meta, "subsets": [subset]})
        await api.advance(1)
        found = {s["addressType"]: s for s in await mirrors(api)}
        assert sorted(found) == ["IPv4", "IPv6"]
        assert found["IPv4"]["endpoints"][0]["addresses"] == ["10.1.2.3"]
        assert found["IPv4"]["metadata"]["labels"]["kubernetes.io/service-name"] == "db"
        assert found["IPv4"]["metadata"]["ownerReferences"][0]["kind"] == "Endpoints"
        changed = {"subsets": [{"notReadyAddresses": [{"ip": "10.2.3.4"}], "ports": [PORT]}]}
        await api.client.patch(ENDPOINTS, "db", "ns", changed)
        await api.advance(1)
        (one,) = await mirrors(api)
        assert one["metadata"]["name"] == found["IPv4"]["metadata"]["name"], "the slice was updated, not replaced"
        assert one["endpoints"] == [{"addresses": ["10.2.3.4"], "conditions": {"ready": False}}]
        await api.client.patch(
            ENDPOINTS, "db", "ns", {"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}}
        )
        await api.advance(1)
        assert not await mirrors(api)

    told(story)


def test_made_endpoints_are_not_mirrored() -> None:
    async def story(api: ApiServer) -> None:
        meta = {"name": "web", "namespace": "ns"}
        await api.client.create(SERVICES, {"metadata": meta, "spec": {"ports": [PORT], "selector": {"app": "web"}}})
        await api.client.create(ENDPOINTS, {"metadata": meta, "subsets": [{"addresses": [{"ip": "10.1.2.3"}]}]})
        await api.advance(1)
        assert not await mirrors(api)

    told(story)


def test_an_ephemeral_volume_has_a_claim_that_goes_with_its_pod() -> None:
    async def story(api: ApiServer) -> None:
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        volume = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}
        spec = {"containers": [{"name": "c", "image": "x"}], "volumes": [volume]}
        await api.client.create(PVCS, {"metadata": {"name": "other-scratch", "namespace": "ns"}, "spec": claim})
        for name in ("one", "other"):
            await api.client.create(PODS, {"metadata": {"name": name, "namespace": "ns"}, "spec": spec})
        await api.advance(1)
        assert await names(api, PVCS) == ["one-scratch", "other-scratch"]
        messages = [e["message"] for e in (await api.client.list(EVENTS, "ns"))["items"]]
        assert (
            "ephemeral volume scratch: PVC ns/other-scratch was not created for pod ns/other (pod is not owner)"
            in messages
        )
        await api.client.delete(PODS, "one", "ns", grace=0)
        await api.advance(5)
        assert not await exists(api, PVCS, "one-scratch", "ns")
        assert await exists(api, PVCS, "other-scratch", "ns"), "a foreign claim stays"

    told(story)
