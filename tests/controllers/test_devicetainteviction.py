"""Pods lose devices that are tainted NoExecute: at once, after the tolerated time, or never."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jota.controllers.devicetainteviction import RULES, SLICES, DeviceTaintEvictionController, plan, ruled
from jota.controllers.resourceclaim import CLAIMS
from jota.meta.resource import EVENTS, PODS

from .builders import NOW
from .stories import running

Object = dict[str, Any]
DEVICE = ("gpu.example.com", "a", "g0")
REQUEST = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}


def allocated(*tolerations: Object) -> Object:
    result = {
        "request": "r",
        "driver": DEVICE[0],
        "pool": DEVICE[1],
        "device": DEVICE[2],
        "tolerations": [*tolerations],
    }
    return {"status": {"allocation": {"devices": {"results": [result]}}}}


@pytest.mark.parametrize(
    ("tolerations", "added", "goes"),
    [
        ([], None, NOW),
        ([], "2026-01-01T00:00:00Z", 1767225600.0),
        ([{"operator": "Exists"}], None, None),
        ([{"key": "sick", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}], None, NOW + 30),
        ([{"key": "other", "operator": "Exists"}], None, NOW),
        ([{"key": "sick", "operator": "Equal", "value": "x"}], None, NOW),
        ([{"key": "sick", "operator": "Equal", "value": "yes"}], None, None),
    ],
)
def test_plan(tolerations: list[Object], added: str | None, goes: float | None) -> None:
    taint: Object = {"key": "sick", "value": "yes", "effect": "NoExecute"}
    if added:
        taint["timeAdded"] = added
    assert plan(allocated(*tolerations), {DEVICE: [taint]}, {(DEVICE, "sick"): NOW}) == goes
    assert plan(allocated(*tolerations), {}, {}) is None


def test_the_pods_of_a_claim_go_when_its_device_falls_sick() -> None:
    async def story() -> None:
        async with running(DeviceTaintEvictionController) as api:
            spec = {
                "driver": DEVICE[0],
                "pool": {"name": "a", "generation": 1, "resourceSliceCount": 1},
                "nodeName": "n1",
            }
            made = await api.client.create(
                SLICES, {"metadata": {"name": "s"}, "spec": {**spec, "devices": [{"name": "g0"}]}}
            )
            for name in ("patient", "hasty"):
                claim = await api.client.create(
                    CLAIMS, {"metadata": {"name": name, "namespace": "ns"}, "spec": REQUEST}
                )
                pod = {
                    "metadata": {"name": name, "namespace": "ns"},
                    "spec": {"containers": [{"name": "c", "image": "x"}]},
                }
                uid = (await api.client.create(PODS, pod))["metadata"]["uid"]
                wait = [{"key": "sick", "operator": "Exists", "tolerationSeconds": 60}] if name == "patient" else []
                status = allocated(*wait)["status"] | {"reservedFor": [{"resource": "pods", "name": name, "uid": uid}]}
                await api.client.update(CLAIMS, {**claim, "status": status}, subresource="status")

            async def left() -> list[str]:
                return [p["metadata"]["name"] for p in (await api.client.list(PODS, "ns"))["items"]]

            await api.advance(10)
            assert await left() == ["hasty", "patient"]
            made["spec"]["devices"][0]["taints"] = [{"key": "sick", "effect": "NoExecute"}]
            await api.client.update(SLICES, made)
            await api.advance(10)
            assert await left() == ["patient"]
            events = (await api.client.list(EVENTS, "ns"))["items"]
            assert [e["reason"] for e in events] == ["DeviceTaintManagerEviction"]
            await api.advance(60)
            assert await left() == []

    asyncio.run(story())


def test_a_rule_of_an_administrator_does_the_same() -> None:
    async def story() -> None:
        async with running(DeviceTaintEvictionController) as api:
            claim = await api.client.create(CLAIMS, {"metadata": {"name": "c", "namespace": "ns"}, "spec": REQUEST})
            pod = {"metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
            uid = (await api.client.create(PODS, pod))["metadata"]["uid"]
            status = allocated()["status"] | {"reservedFor": [{"resource": "pods", "name": "p", "uid": uid}]}
            await api.client.update(CLAIMS, {**claim, "status": status}, subresource="status")
            taint = {"key": "sick", "effect": "NoExecute"}
            for name, selector in (("other", {"device": "g1"}), ("this", {"pool": "a", "device": "g0"})):
                spec = {"deviceSelector": selector, "taint": taint}
                await api.client.create(RULES, {"metadata": {"name": name}, "spec": spec})
                await api.advance(5)
                assert len((await api.client.list(PODS, "ns"))["items"]) == (name == "other")

    asyncio.run(story())


def test_which_devices_a_rule_is_about() -> None:
    assert not ruled({"spec": {}}, DEVICE)
    assert ruled({"spec": {"deviceSelector": {}}}, DEVICE)
    assert ruled({"spec": {"deviceSelector": {"driver": DEVICE[0]}}}, DEVICE)
    assert not ruled({"spec": {"deviceSelector": {"driver": DEVICE[0], "device": "g1"}}}, DEVICE)
