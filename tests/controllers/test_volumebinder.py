"""Claims and volumes: tables for the choice, stories for binding, provisioning, growing and reclaiming."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jota.controllers import volumebinder_plan as rules
from jota.controllers.statefulset_pods import PVCS
from jota.controllers.volumebinder import CLASSES, VolumeBinder
from jota.controllers.volumeprotection import PVS, ClaimProtectionController, VolumeProtectionController
from jota.meta.errors import ApiError
from jota.meta.resource import EVENTS, NAMESPACES, NODES
from jota.testing.cluster import ApiServer

from .stories import exists, running
from .test_crash_at_every_step import Process

Object = dict[str, Any]


def claim(name: str = "data", size: str = "3Gi", class_: str | None = "", **spec: Any) -> Object:
    body = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    if class_ is not None:
        body["storageClassName"] = class_
    return {"metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}"}, "spec": body}


def volume(name: str, size: str = "5Gi", class_: str = "", **spec: Any) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": f"/tmp/{name}"},
            "storageClassName": class_,
            **spec,
        },
    }


LOCAL = {"metadata": {"name": "local"}, "provisioner": rules.LOCAL, "volumeBindingMode": "WaitForFirstConsumer"}
NOW = {"metadata": {"name": "now"}, "provisioner": rules.LOCAL, "volumeBindingMode": "Immediate"}
FOREIGN = {"metadata": {"name": "csi"}, "provisioner": "example.com/csi", "volumeBindingMode": "Immediate"}
MINE = {"namespace": "ns", "name": "data"}
PLACED = {"metadata": {**claim()["metadata"], "annotations": {rules.SELECTED_NODE: "n1"}}}


@pytest.mark.parametrize(
    ("one", "volumes", "found", "takes", "provision", "reason"),
    [
        (claim(), [volume("big", "10Gi"), volume("mid"), volume("small", "1Gi")], None, "mid", False, ""),
        (claim(), [volume("other", class_="x")], None, None, False, "FailedBinding"),
        (claim(), [volume("taken", claimRef={"namespace": "ns", "name": "else"})], None, None, False, "FailedBinding"),
        (claim(), [volume("mine", "3Gi", "x", claimRef={"namespace": "ns", "name": "data"})], None, "mine", False, ""),
        (claim(), [volume("mine", "1Gi", claimRef=MINE), volume("free")], None, "free", False, ""),
        (claim(volumeMode="Block"), [volume("mine", claimRef=MINE)], None, None, False, "FailedBinding"),
        (claim(volumeMode="Block"), [volume("files")], None, None, False, "FailedBinding"),
        (claim(class_="local"), [], LOCAL, None, False, "WaitForFirstConsumer"),
        ({**claim(class_="local"), **PLACED}, [], LOCAL, None, True, ""),
        (claim(class_="now"), [], NOW, None, True, ""),
        (claim(class_="csi"), [], FOREIGN, None, False, "ExternalProvisioning"),
        (claim(class_="gone"), [], None, None, False, "ProvisioningFailed"),
    ],
)
def test_what_a_claim_takes(
    one: Object, volumes: list[Object], found: Object | None, takes: str | None, provision: bool, reason: str
) -> None:
    choice = rules.choose(one, volumes, found)
    assert (choice.volume["metadata"]["name"] if choice.volume else None) == takes
    assert (choice.provision, choice.reason) == (provision, reason)


def told(story: Callable[[ApiServer], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running(VolumeBinder, ClaimProtectionController, VolumeProtectionController) as api:
            await story(api)

    asyncio.run(run())


async def phases(api: ApiServer, name: str, of: str) -> tuple[str, str]:
    one = await api.client.get(PVCS, of, "ns")
    return one["status"]["phase"], (await api.client.get(PVS, name))["status"]["phase"]


def test_a_claim_is_bound_and_its_volume_released_with_it() -> None:
    async def story(api: ApiServer) -> None:
        await api.client.create(PVS, volume("v"))
        await api.advance(1)
        assert (await api.client.get(PVS, "v"))["status"]["phase"] == "Available"
        await api.client.create(PVCS, claim())
        await api.advance(1)
        assert await phases(api, "v", "data") == ("Bound", "Bound")
        got = await api.client.get(PVCS, "data", "ns")
        assert got["spec"]["volumeName"] == "v"
        assert got["status"]["capacity"] == {"storage": "5Gi"}
        assert got["metadata"]["annotations"][rules.BIND_COMPLETED] == "yes"
        await api.client.delete(PVS, "v")
        await api.advance(1)
        assert await exists(api, PVS, "v"), "a bound volume is protected"
        await api.client.delete(PVCS, "data", "ns")
        await api.advance(1)
        assert not await exists(api, PVCS, "data", "ns")
        assert not await exists(api, PVS, "v")

    told(story)


def test_a_waiting_claim_is_bound_when_a_volume_appears_and_lost_with_it() -> None:
    async def story(api: ApiServer) -> None:
        await api.client.create(PVCS, claim())
        await api.advance(1)
        reasons = {e["reason"] for e in (await api.client.list(EVENTS, "ns"))["items"]}
        assert "FailedBinding" in reasons
        await api.client.create(PVS, volume("late"))
        await api.advance(1)
        assert await phases(api, "late", "data") == ("Bound", "Bound")
        await api.client.patch(PVS, "late", "", {"metadata": {"finalizers": None}})
        await api.client.delete(PVS, "late")
        await api.advance(20)
        assert (await api.client.get(PVCS, "data", "ns"))["status"]["phase"] == "Lost"

    told(story)


def test_a_directory_is_promised_on_the_selected_node_grows_and_is_reclaimed() -> None:
    async def story(api: ApiServer) -> None:
        labels = {"kubernetes.io/hostname": "n1"}
        notes = {rules.LOCAL_ROOT: "/data/local-volumes"}
        await api.client.create(NODES, {"metadata": {"name": "n1", "labels": labels, "annotations": notes}})
        assert (await api.client.get(CLASSES, "local"))["provisioner"] == rules.LOCAL
        await api.client.create(PVCS, claim(class_=None))
        await api.advance(1)
        got = await api.client.get(PVCS, "data", "ns")
        assert (got["spec"]["storageClassName"], got["status"]["phase"]) == ("local", "Pending")
        patch = {"metadata": {"annotations": {rules.SELECTED_NODE: "n1"}}}
        await api.client.patch(PVCS, "data", "ns", patch)
        await api.advance(1)
        name = f"pvc-{got['metadata']['uid']}"
        assert await phases(api, name, "data") == ("Bound", "Bound")
        made = await api.client.get(PVS, name)
        assert made["spec"]["local"] == {"path": f"/data/local-volumes/{name}"}
        assert rules.node_of(made) == "n1"
        more = {"spec": {"resources": {"requests": {"storage": "8Gi"}}}}
        await api.client.patch(PVCS, "data", "ns", more)
        await api.advance(1)
        assert (await api.client.get(PVCS, "data", "ns"))["status"]["capacity"] == {"storage": "8Gi"}
        await api.client.delete(PVCS, "data", "ns")
        await api.advance(2)
        assert (await api.client.get(PVS, name))["status"]["phase"] == "Released", "the node does not answer"
        await api.client.delete(NODES, "n1")
        await api.advance(60)
        assert not await exists(api, PVS, name), "with its node the directory is gone"

    told(story)


OURS = {"metadata": {"name": "v", "annotations": {rules.PROVISIONED_BY: rules.LOCAL}}}
THEIRS = {"metadata": {"name": "v", "annotations": {rules.PROVISIONED_BY: "example.com/csi"}}}


@pytest.mark.parametrize(
    ("one", "policy", "delete", "reason"),
    [
        ({**volume("v"), **OURS}, "Delete", True, ""),
        ({**volume("v"), **OURS}, "Retain", False, ""),
        ({**volume("v"), **THEIRS}, "Delete", False, ""),
        (volume("v"), "Retain", False, ""),
        (volume("v"), "", False, ""),
        (volume("v"), "Delete", False, "VolumeFailedDelete"),
        (volume("v"), "Recycle", False, "VolumeFailedRecycle"),
    ],
)
def test_what_becomes_of_a_volume(one: Object, policy: str, delete: bool, reason: str) -> None:
    verdict = rules.reclaim({**one, "spec": {**one["spec"], "persistentVolumeReclaimPolicy": policy}})
    assert (verdict.delete, verdict.reason) == (delete, reason)


def test_a_retained_volume_is_released_and_free_again_when_somebody_says_so() -> None:
    async def story(api: ApiServer) -> None:
        await api.client.create(PVS, volume("v", persistentVolumeReclaimPolicy="Retain"))
        await api.client.create(PVS, volume("w", "50Gi", persistentVolumeReclaimPolicy="Delete"))
        await api.client.create(PVCS, claim())
        await api.client.create(PVCS, claim("big", "40Gi"))
        await api.advance(1)
        for name in ("data", "big"):
            await api.client.delete(PVCS, name, "ns")
        await api.advance(1)
        assert (await api.client.get(PVS, "v"))["status"] == {"phase": "Released"}
        failed = (await api.client.get(PVS, "w"))["status"]
        text = 'error getting deleter volume plugin for volume "w": no deletable volume plugin matched'
        assert failed == {"phase": "Failed", "message": text}
        events = [e for e in (await api.client.list(EVENTS))["items"] if e["reason"] == "VolumeFailedDelete"]
        assert [(e["involvedObject"]["name"], e["count"]) for e in events] == [("w", 1)]
        await api.client.create(PVCS, claim("next"))
        await api.advance(30)
        assert (await api.client.get(PVCS, "next", "ns"))["status"]["phase"] == "Pending", "its data is somebody's"
        await api.client.patch(PVS, "v", "", {"spec": {"claimRef": None}})
        await api.advance(20)
        assert await phases(api, "v", "next") == ("Bound", "Bound")

    told(story)


def test_a_retained_volume_that_is_to_be_deleted_after_all_goes() -> None:
    async def story(api: ApiServer) -> None:
        labels = {"kubernetes.io/hostname": "n1", rules.HOLLOW: "true"}
        await api.client.create(
            NODES, {"metadata": {"name": "n1", "labels": labels, "annotations": {rules.LOCAL_ROOT: "/data"}}}
        )
        await api.client.create(CLASSES, {**NOW, "reclaimPolicy": "Retain"})
        made = await api.client.create(PVCS, claim(class_="now"))
        name = f"pvc-{made['metadata']['uid']}"
        await api.advance(1)
        assert await phases(api, name, "data") == ("Bound", "Bound")
        await api.client.delete(PVCS, "data", "ns")
        await api.advance(60)
        assert (await api.client.get(PVS, name))["status"]["phase"] == "Released"
        await api.client.patch(PVS, name, "", {"spec": {"persistentVolumeReclaimPolicy": "Delete"}})
        await api.advance(5)
        assert not await exists(api, PVS, name)

    told(story)


def test_a_node_that_is_gone_is_chosen_no_longer() -> None:
    async def story(api: ApiServer) -> None:
        await api.client.create(PVCS, claim(class_=None))
        chosen = {"metadata": {"annotations": {rules.SELECTED_NODE: "n1"}}}
        await api.client.patch(PVCS, "data", "ns", chosen)
        await api.advance(1)
        assert rules.SELECTED_NODE not in rules.notes(await api.client.get(PVCS, "data", "ns"))
        events = [e["message"] for e in (await api.client.list(EVENTS, "ns"))["items"]]
        assert "node n1 is gone" in events
        notes = {rules.LOCAL_ROOT: "/data"}
        await api.client.create(NODES, {"metadata": {"name": "n1", "annotations": notes}})
        await api.client.patch(PVCS, "data", "ns", chosen)
        await api.advance(20)
        assert (await api.client.get(PVCS, "data", "ns"))["status"]["phase"] == "Bound"

    told(story)


@pytest.mark.parametrize(("grows", "refusal"), [(True, ""), (False, "only dynamically provisioned pvc can be resized")])
def test_only_classes_that_allow_it_let_claims_grow(grows: bool, refusal: str) -> None:
    async def story(api: ApiServer) -> None:
        await api.client.create(CLASSES, {**FOREIGN, "allowVolumeExpansion": grows})
        await api.client.create(PVS, volume("v", class_="csi"))
        await api.client.create(PVCS, claim(class_="csi"))
        await api.advance(1)
        more = {"spec": {"resources": {"requests": {"storage": "8Gi"}}}}
        if grows:
            await api.client.patch(PVCS, "data", "ns", more)
        else:
            with pytest.raises(ApiError, match=refusal) as refused:
                await api.client.patch(PVCS, "data", "ns", more)
            assert refused.value.code == 403
        await api.advance(1)
        got = await api.client.get(PVCS, "data", "ns")
        assert got["status"]["capacity"] == {"storage": "5Gi"}, "its own provisioner makes it larger"
        reasons = [e["reason"] for e in (await api.client.list(EVENTS, "ns"))["items"]]
        assert ("ExternalExpanding" in reasons) == grows

    told(story)


async def died(at: int, after: bool) -> tuple[Any, bool]:
    async with ApiServer() as api:
        await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
        process = Process(api, at, after, (VolumeBinder,))
        try:
            for n, size in enumerate(("5Gi", "4Gi")):
                await api.client.create(PVS, volume(f"v{n}", size))
                await api.client.create(PVCS, claim(f"c{n}", size))
            for _ in range(3):
                await api.advance(40)
                await process.revive()
            claims = (await api.client.list(PVCS, "ns"))["items"]
            volumes = (await api.client.list(PVS))["items"]
            taken = sorted(v["spec"].get("claimRef", {}).get("name", "") for v in volumes)
            return (
                [c["status"]["phase"] for c in claims],
                taken,
                [v["status"]["phase"] for v in volumes],
            ), process.died
        finally:
            await process.end()


@pytest.mark.fault
@pytest.mark.parametrize("after", [False, True])
def test_no_volume_is_lost_or_taken_twice_wherever_the_process_dies(after: bool) -> None:
    async def tell() -> None:
        for at in range(1, 40):
            end, dead = await died(at, after)
            assert end == (["Bound", "Bound"], ["c0", "c1"], ["Bound", "Bound"]), f"died at write {at}"
            if not dead:
                break
        assert at > 6

    asyncio.run(tell())


@pytest.mark.parametrize(
    ("one", "asked", "why"),
    [
        (volume("v", "1Gi"), claim(), "requested PV is too small"),
        (volume("v", class_="x"), claim(), "storageClassName does not match"),
        (volume("v"), claim(volumeMode="Block"), "incompatible volumeMode"),
        (volume("v"), claim(accessModes=["ReadWriteMany"]), "incompatible accessMode"),
    ],
)
def test_a_claim_does_not_get_a_volume_that_it_names_and_that_is_not_what_it_asks_for(
    one: Object, asked: Object, why: str
) -> None:
    async def story(api: ApiServer) -> None:
        await api.client.create(PVS, one)
        asked["spec"]["volumeName"] = "v"
        await api.client.create(PVCS, asked)
        await api.advance(5)
        assert await phases(api, "v", "data") == ("Pending", "Available")
        (event,) = (await api.client.list(EVENTS, "ns"))["items"]
        assert (event["reason"], event["type"]) == ("VolumeMismatch", "Warning")
        assert event["message"] == f'Cannot bind to requested volume "v": {why}'

    told(story)


def test_of_two_claims_that_are_bound_to_one_volume_the_wrong_one_is_lost() -> None:
    async def story(api: ApiServer) -> None:
        await api.client.create(PVS, volume("v"))
        await api.client.create(PVCS, claim())
        await api.advance(5)
        wrong = claim(volumeName="v")
        wrong["metadata"] = {"name": "wrong", "namespace": "ns", "annotations": {rules.BIND_COMPLETED: "yes"}}
        await api.client.create(PVCS, wrong)
        await api.advance(5)
        assert await phases(api, "v", "wrong") == ("Lost", "Bound")
        assert await phases(api, "v", "data") == ("Bound", "Bound")
        assert "ClaimMisbound" in {e["reason"] for e in (await api.client.list(EVENTS, "ns"))["items"]}

    told(story)


def test_a_claim_that_came_before_there_was_a_default_class_gets_the_first_one() -> None:
    async def story(api: ApiServer) -> None:
        marked = {"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}
        await api.client.patch(CLASSES, "local", "", {"metadata": {"annotations": None}})
        for name, class_ in (("early", None), ("none", "")):
            one = claim()
            one["metadata"]["name"] = name
            one["spec"].pop("storageClassName", None)
            if class_ is not None:
                one["spec"]["storageClassName"] = class_
            await api.client.create(PVCS, one)
        await api.advance(20)
        assert "storageClassName" not in (await api.client.get(PVCS, "early", "ns"))["spec"]
        await api.client.patch(CLASSES, "local", "", marked)
        await api.advance(2)
        assert (await api.client.get(PVCS, "early", "ns"))["spec"]["storageClassName"] == "local"
        assert (await api.client.get(PVCS, "none", "ns"))["spec"]["storageClassName"] == ""
        events = (await api.client.list(EVENTS, "ns"))["items"]
        waits = {e["involvedObject"]["name"] for e in events if e["reason"] == "WaitForFirstConsumer"}
        assert waits == {"early"}

    told(story)
