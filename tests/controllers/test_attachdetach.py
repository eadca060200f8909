"""Attach and detach: the decision as a table and as a property, and stories with a driver's sidecar on the real API server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.controllers.attachdetach import ATTACHMENTS, DRIVERS, AttachDetachController
from jota.controllers.attachdetach_plan import GONE, PATIENCE, NodeFact, Plan, Volume, multi_attach, plan
from jota.controllers.podgc import PodGarbageCollector
from jota.controllers.statefulset_pods import PVCS
from jota.controllers.volumeprotection import PVS
from jota.meta.errors import ApiError
from jota.meta.resource import EVENTS, NODES, PODS
from jota.testing.cluster import ApiServer

from .stories import exists, names, running

Object = dict[str, Any]
ONE = Volume("pv", "csi.example.com", "vol-1", ("ReadWriteOnce",))
MANY = Volume("pv", "csi.example.com", "vol-1", ("ReadWriteMany",))
HELD, SILENT = NodeFact(in_use=True), NodeFact(in_use=True, ready=False)
CLOSED = NodeFact(in_use=True, ready=False, out_of_service=True)


@pytest.mark.parametrize(
    ("volume", "wanted", "attached", "nodes", "since", "expected"),
    [
        (ONE, ["a"], {}, {"a": NodeFact()}, {}, Plan(attach=["a"])),
        (ONE, ["a"], {"a": False}, {"a": NodeFact()}, {}, Plan()),
        (ONE, ["a"], {}, {"a": GONE}, {}, Plan()),
        (ONE, ["a", "b"], {}, {"a": NodeFact(), "b": NodeFact()}, {}, Plan(attach=["a"], blocked={"b": ["a"]})),
        (MANY, ["a", "b"], {}, {"a": NodeFact(), "b": NodeFact()}, {}, Plan(attach=["a", "b"])),
        (ONE, ["b"], {"a": False}, {"a": HELD, "b": NodeFact()}, {"a": 0}, Plan(blocked={"b": ["a"]})),
        (ONE, ["b"], {"a": False}, {"a": NodeFact(), "b": NodeFact()}, {"a": 0}, Plan([], ["a"], {"b": ["a"]})),
        (ONE, ["b"], {"a": True}, {"a": NodeFact(), "b": NodeFact()}, {}, Plan(blocked={"b": ["a"]})),
        (ONE, [], {"a": False}, {"a": SILENT}, {"a": 100}, Plan(again=PATIENCE)),
        (ONE, [], {"a": False}, {"a": SILENT}, {"a": 90}, Plan(again=PATIENCE - 10)),
        (ONE, [], {"a": False}, {"a": SILENT}, {"a": 100 - PATIENCE}, Plan(detach=["a"])),
        (ONE, [], {"a": False}, {"a": HELD}, {"a": 100 - 9 * PATIENCE}, Plan()),
        (ONE, [], {"a": False}, {"a": CLOSED}, {"a": 100}, Plan(detach=["a"])),
        (ONE, [], {"a": False}, {}, {"a": 100}, Plan(detach=["a"])),
    ],
)  # fmt: skip
def test_plan(
    volume: Volume,
    wanted: list[str],
    attached: dict[str, bool],
    nodes: dict[str, NodeFact],
    since: dict[str, float],
    expected: Plan,
) -> None:
    assert plan(volume, wanted, attached, nodes, since, 100.0) == expected


facts = st.builds(NodeFact, st.booleans(), st.booleans(), st.booleans(), st.booleans())


@given(
    st.sampled_from([ONE, MANY]),
    st.lists(st.sampled_from("abc"), unique=True),
    st.dictionaries(st.sampled_from("abc"), st.booleans()),
    st.fixed_dictionaries(dict.fromkeys("abc", facts)),
    st.floats(0, 1000),
)
def test_an_exclusive_volume_goes_to_one_node_and_is_never_taken_from_one_that_uses_it(
    volume: Volume, wanted: list[str], attached: dict[str, bool], nodes: dict[str, NodeFact], waited: float
) -> None:
    since = {n: 1000.0 - waited for n in attached if n not in wanted}
    found = plan(volume, wanted, attached, nodes, since, 1000.0)
    if volume.exclusive:
        assert len(found.attach) <= 1
        assert not found.attach or not attached
    assert set(found.detach) <= set(attached) - set(wanted)
    for node in found.detach:
        fact = nodes[node]
        silent = not fact.ready and waited >= PATIENCE
        assert not (fact.in_use and fact.exists) or fact.out_of_service or silent
    living = [n for n in wanted if nodes[n].exists]
    assert all(n in attached or n in found.attach or n in found.blocked for n in living)


def test_the_texts_of_multi_attach_errors() -> None:
    start = 'Multi-Attach error for volume "pv" Volume is already '
    assert multi_attach(ONE, "ns", []) == start + "exclusively attached to one node and can't be attached to another"
    assert multi_attach(ONE, "ns", [("ns", "b"), ("ns", "a")]) == start + "used by pod(s) a, b"
    assert multi_attach(ONE, "ns", [("x", "a")]) == start + "used by 1 pod(s) in different namespaces"


# --- stories ---------------------------------------------------------------------------------------------------------


class Sidecar:
    """A driver's external attacher: attaches what it is told to, and lets go of what is deleted."""

    def __init__(self, api: ApiServer) -> None:
        self.api, self.error, self.idle = api, "", False

    async def tick(self) -> None:
        for found in (await self.api.client.list(ATTACHMENTS))["items"]:
            meta = found["metadata"]
            if self.idle:
                continue
            if "deletionTimestamp" in meta:
                await self.api.client.patch(ATTACHMENTS, meta["name"], "", {"metadata": {"finalizers": None}})
            elif not found["status"].get("attached"):
                patch = {"metadata": {"finalizers": ["external-attacher/csi-example-com"]}}
                await self.api.client.patch(ATTACHMENTS, meta["name"], "", patch)
                status: Object = {"attached": not self.error}
                if self.error:
                    status["attachError"] = {"message": self.error}
                await self.api.client.patch(ATTACHMENTS, meta["name"], "", {"status": status}, subresource="status")

    async def rest(self, seconds: int = 3) -> None:
        for _ in range(seconds):
            await self.api.advance(1)
            await self.tick()
        await self.api.advance(1)


def told(story: Callable[[ApiServer, Sidecar], Awaitable[None]], mode: str = "ReadWriteOnce") -> None:
    """Nodes a and b, and a bound claim "data" of the volume "pv"."""

    async def run() -> None:
        async with running(AttachDetachController, PodGarbageCollector) as api:
            for name in "ab":
                await api.client.create(NODES, {"metadata": {"name": name}})
                await node_status(api, name)
            await storage(api, mode)
            await story(api, Sidecar(api))

    asyncio.run(run())


async def storage(api: ApiServer, mode: str) -> None:
    spec = {"accessModes": [mode], "capacity": {"storage": "1Gi"}, "storageClassName": "x"}
    ref = {"kind": "PersistentVolumeClaim", "namespace": "ns", "name": "data"}
    csi = {"driver": "csi.example.com", "volumeHandle": "vol-1"}
    await api.client.create(PVS, {"metadata": {"name": "pv"}, "spec": {**spec, "csi": csi, "claimRef": ref}})
    asked = {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": "pv"}
    await api.client.create(PVCS, {"metadata": {"name": "data", "namespace": "ns"}, "spec": asked})


async def node_status(api: ApiServer, name: str, *, ready: bool = True, in_use: bool = False) -> None:
    status: Object = {"conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}]}
    status["volumesInUse"] = ["kubernetes.io/csi/csi.example.com^vol-1"] if in_use else None
    await api.client.patch(NODES, name, "", {"status": status}, subresource="status")


async def pod(api: ApiServer, name: str, node: str) -> None:
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "x"}], "volumes": [volume]}
    await api.client.create(PODS, {"metadata": {"name": name, "namespace": "ns"}, "spec": spec})


async def attached_to(api: ApiServer) -> list[str]:
    found = (await api.client.list(ATTACHMENTS))["items"]
    return sorted(a["spec"]["nodeName"] for a in found if a["status"].get("attached"))


async def reported(api: ApiServer, node: str) -> list[str]:
    status = (await api.client.get(NODES, node))["status"]
    return [v["name"] for v in status.get("volumesAttached") or ()]


async def texts(api: ApiServer, pod: str) -> list[tuple[str, str]]:
    events = (await api.client.list(EVENTS, "ns"))["items"]
    return [(e["reason"], e["message"]) for e in events if e["involvedObject"]["name"] == pod]


def test_a_volume_is_attached_told_and_detached_after_its_pod_is_gone() -> None:
    async def story(api: ApiServer, sidecar: Sidecar) -> None:
        await pod(api, "p", "a")
        await api.advance(2)
        (made,) = (await api.client.list(ATTACHMENTS))["items"]
        assert made["metadata"]["name"] == ONE.attachment("a")
        assert made["spec"] == {
            "attacher": "csi.example.com",
            "nodeName": "a",
            "source": {"persistentVolumeName": "pv"},
        }
        assert await reported(api, "a") == []
        await sidecar.rest()
        assert await reported(api, "a") == ["kubernetes.io/csi/csi.example.com^vol-1"]
        assert await texts(api, "p") == [("SuccessfulAttachVolume", 'AttachVolume.Attach succeeded for volume "pv" ')]
        await node_status(api, "a", in_use=True)
        await api.client.delete(PODS, "p", "ns", grace=0)
        await sidecar.rest(600)
        assert await attached_to(api) == ["a"], "the node still has it mounted, and it is alive"
        await node_status(api, "a")
        await sidecar.rest()
        assert await names(api, ATTACHMENTS, "") == []
        assert await reported(api, "a") == []

    told(story)


def test_the_next_node_waits_for_the_last_one_and_says_who_has_it() -> None:
    async def story(api: ApiServer, sidecar: Sidecar) -> None:
        await pod(api, "first", "a")
        await sidecar.rest()
        await pod(api, "second", "b")
        await sidecar.rest()
        assert await attached_to(api) == ["a"]
        text = 'Multi-Attach error for volume "pv" Volume is already used by pod(s) first'
        assert await texts(api, "second") == [("FailedAttachVolume", text)]
        sidecar.idle = True
        await api.client.delete(PODS, "first", "ns", grace=0)
        await api.advance(5)
        assert await names(api, ATTACHMENTS, "") == [ONE.attachment("a")], "detaching has begun, attaching has not"
        assert await reported(api, "a") == []
        sidecar.idle = False
        await sidecar.rest()
        assert await attached_to(api) == ["b"]

    told(story)


def test_a_volume_for_many_is_attached_to_many() -> None:
    async def story(api: ApiServer, sidecar: Sidecar) -> None:
        await pod(api, "first", "a")
        await pod(api, "second", "b")
        await sidecar.rest()
        assert await attached_to(api) == ["a", "b"]

    told(story, "ReadWriteMany")


def test_an_error_of_the_driver_is_told_to_the_pod_once() -> None:
    async def story(api: ApiServer, sidecar: Sidecar) -> None:
        sidecar.error = "no such disk"
        await pod(api, "p", "a")
        await sidecar.rest(5)
        assert await texts(api, "p") == [
            ("FailedAttachVolume", 'AttachVolume.Attach failed for volume "pv" : no such disk')
        ]
        assert await reported(api, "a") == []
        sidecar.error = ""
        await sidecar.rest()
        assert (await texts(api, "p"))[-1][0] == "SuccessfulAttachVolume"

    told(story)


def test_a_silent_node_is_waited_for_six_minutes() -> None:
    async def story(api: ApiServer, sidecar: Sidecar) -> None:
        await pod(api, "first", "a")
        await sidecar.rest()
        await node_status(api, "a", ready=False, in_use=True)
        await api.client.delete(PODS, "first", "ns", grace=0)
        await pod(api, "second", "b")
        await sidecar.rest(300)
        assert await attached_to(api) == ["a"]
        await sidecar.rest(90)
        assert await attached_to(api) == ["b"]

    told(story)


def test_an_out_of_service_node_loses_its_pods_and_volumes_at_once() -> None:
    async def story(api: ApiServer, sidecar: Sidecar) -> None:
        await pod(api, "first", "a")
        await sidecar.rest()
        await node_status(api, "a", ready=False, in_use=True)
        await api.client.delete(PODS, "first", "ns")
        await pod(api, "second", "b")
        await sidecar.rest(100)
        assert await exists(api, PODS, "first", "ns"), "its node does not answer"
        taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
        await api.client.patch(NODES, "a", "", {"spec": {"taints": [taint]}})
        await sidecar.rest(30)
        assert not await exists(api, PODS, "first", "ns")
        assert await attached_to(api) == ["b"]

    told(story)


def test_drivers_that_need_no_attaching_and_attachments_of_others_are_left_alone() -> None:
    async def story(api: ApiServer, sidecar: Sidecar) -> None:
        await api.client.create(DRIVERS, {"metadata": {"name": "csi.example.com"}, "spec": {"attachRequired": False}})
        source = {"persistentVolumeName": "pv"}
        foreign = {"attacher": "csi.example.com", "nodeName": "b", "source": source}
        await api.client.create(ATTACHMENTS, {"metadata": {"name": "by-hand"}, "spec": foreign})
        await pod(api, "p", "a")
        await sidecar.rest(10)
        assert await names(api, ATTACHMENTS, "") == ["by-hand"]
        with pytest.raises(ApiError):
            await api.client.get(ATTACHMENTS, ONE.attachment("a"))

    told(story)


def test_a_volume_that_vanished_leaves_no_attachment_behind() -> None:
    async def story(api: ApiServer, sidecar: Sidecar) -> None:
        await pod(api, "p", "a")
        await sidecar.rest()
        await api.client.delete(PVS, "pv")
        await api.client.patch(PVS, "pv", "", {"metadata": {"finalizers": None}})
        await sidecar.rest()
        assert await names(api, ATTACHMENTS, "") == []

    told(story)
