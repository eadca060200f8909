"""Resource claims on the node: a pod whose devices need a driver waits and says why; one that needs nothing done starts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jota.meta.resource import PODS
from jota.node.claims import CLAIMS, problem

from .world import World, pod

Object = dict[str, Any]


def claim(*results: Object, uid: str = "u", allocated: bool = True) -> Object:
    status: Object = {"reservedFor": [{"resource": "pods", "name": "web", "uid": uid}]} if uid else {}
    if allocated:
        status["allocation"] = {"devices": {"results": list(results)}}
    return {"metadata": {"name": "c"}, "spec": {}, "status": status}


def result(driver: str, *skips: str) -> Object:
    return {"request": "r", "driver": driver, "pool": "p", "device": "d", "skipNodeOperations": list(skips)}


def named(uid: str = "u", **entry: Any) -> Object:
    obj = pod(resourceClaims=[{"name": "e", **entry}])
    obj["metadata"]["uid"] = uid
    return obj


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, 'resourceclaim "c" not found'),
        (claim(allocated=False), 'resourceclaim "c": not allocated'),
        (claim(result("a.io"), uid="other"), "not reserved for the pod"),
        (claim(result("b.io"), result("a.io")), "DRA driver a.io, b.io is not registered on this node"),
        (claim(result("a.io", "NodePrepareResources", "NodeUnprepareResources")), ""),
        (claim(), ""),
    ],
)
def test_what_keeps_a_pod_from_starting(found: Object | None, text: str) -> None:
    said = problem(named(resourceClaimName="c"), lambda _kind, _name: found)
    assert text in said
    assert bool(said) == bool(text)


def test_an_entry_without_its_claim_and_one_that_needs_none() -> None:
    obj = named(resourceClaimTemplateName="t")
    assert problem(obj, lambda _kind, _name: None) == 'the resource claim of entry "e" is not created yet'
    obj["status"] = {"resourceClaimStatuses": [{"name": "e"}]}
    assert problem(obj, lambda _kind, _name: None) == ""


def test_a_pod_waits_for_its_driver_in_plain_words_and_starts_when_nothing_is_to_be_done(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            request = {"name": "r", "exactly": {"deviceClassName": "gpu"}}
            made = {"metadata": {"name": "c"}, "spec": {"devices": {"requests": [request]}}}
            await w.api.client.create(CLAIMS, made, "default")
            await w.create(pod(resourceClaims=[{"name": "e", "resourceClaimName": "c"}]))
            await w.advance(1)
            state = (await w.status())["containerStatuses"][0]["state"]["waiting"]
            assert state["reason"] == "ContainerCreating"
            text = 'Failed to prepare dynamic resources: resourceclaim "c": '
            assert state["message"] == text + "not allocated"
            assert (await w.events("FailedPrepareDynamicResources"))[0] == text + "not allocated"
            stored = await w.api.client.get(CLAIMS, "c", "default")
            uid = (await w.api.client.get(PODS, "web", "default"))["metadata"]["uid"]
            stored["status"] = claim(result("gpu.example.com"), uid=uid)["status"]
            stored = await w.api.client.update(CLAIMS, stored, subresource="status")
            await w.advance(5)
            state = (await w.status())["containerStatuses"][0]["state"]["waiting"]
            assert "DRA driver gpu.example.com is not registered on this node" in state["message"]
            stored["status"] = claim(result("gpu.example.com", "NodePrepareResources"), uid=uid)["status"]
            await w.api.client.update(CLAIMS, stored, subresource="status")
            await w.until_phase("Running", within=10)

    asyncio.run(story())
