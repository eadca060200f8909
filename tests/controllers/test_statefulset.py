"""StatefulSet: stories on the real API server in virtual time; each tier-1 behaviour of upstream's application tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from copy import deepcopy
from typing import Any, cast

import pytest

from jota.aio.clock import Clock
from jota.controllers import history
from jota.controllers.controller import Context
from jota.controllers.garbagecollector import GarbageCollector
from jota.controllers.history import CONTROLLERREVISIONS, HASH
from jota.controllers.statefulset import StatefulSetController
from jota.controllers.statefulset_plan import BURST, Plan, plan
from jota.controllers.statefulset_pods import PVCS, STATEFULSETS, claim_owners, ordinal_of
from jota.controllers.volumeprotection import ClaimProtectionController
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, EVENTS, NAMESPACES, PODS
from jota.testing.cluster import ApiServer

from .builders import pod
from .stories import Kubelet, names, running, web
from .test_crash_at_every_step import Process

Object = dict[str, Any]
CLAIM = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


def told(story: Callable[[ApiServer, Kubelet], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running(StatefulSetController, GarbageCollector, ClaimProtectionController) as api:
            await story(api, Kubelet(api))

    asyncio.run(run())


async def got(api: ApiServer) -> Object:
    return await api.client.get(STATEFULSETS, "web", "ns")


async def image(api: ApiServer, text: str) -> None:
    patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": text}]
    await api.client.patch(STATEFULSETS, "web", "ns", patch, "json")


async def images(api: ApiServer) -> dict[str, str]:
    pods = (await api.client.list(PODS, "ns"))["items"]
    return {p["metadata"]["name"]: p["spec"]["containers"][0]["image"] for p in pods}


async def unready(api: ApiServer, name: str) -> None:
    status = {"conditions": [{"type": "Ready", "status": "False"}]}
    await api.client.patch(PODS, name, "ns", {"status": status}, subresource="status")


def test_pods_come_in_order_with_names_and_claims_of_their_own() -> None:
    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        await api.client.create(STATEFULSETS, web(3, serviceName="svc", volumeClaimTemplates=[CLAIM]))
        await api.advance(1)
        assert await names(api, PODS) == ["web-0"], "the second waits for the first"
        await kubelet.settle()
        assert await names(api, PODS) == ["web-0", "web-1", "web-2"]
        assert await names(api, PVCS) == ["data-web-0", "data-web-1", "data-web-2"]
        pod = await api.client.get(PODS, "web-1", "ns")
        labels = pod["metadata"]["labels"]
        assert labels["statefulset.kubernetes.io/pod-name"] == "web-1"
        assert labels["apps.kubernetes.io/pod-index"] == "1"
        assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("web-1", "svc")
        claim = next(v for v in pod["spec"]["volumes"] if v["name"] == "data")
        assert claim["persistentVolumeClaim"]["claimName"] == "data-web-1"
        status = (await got(api))["status"]
        assert status["readyReplicas"] == status["availableReplicas"] == status["currentReplicas"] == 3
        assert status["currentRevision"] == status["updateRevision"] == labels[HASH]

    told(story)


def test_scaling_is_ordered_and_halts_while_a_pod_is_unready() -> None:
    """Scaling should happen in predictable order and halt if any stateful pod is unhealthy"""

    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        await api.client.create(STATEFULSETS, web(2))
        await kubelet.settle()
        await unready(api, "web-0")
        await api.client.patch(STATEFULSETS, "web", "ns", {"spec": {"replicas": 4}})
        await kubelet.settle()
        assert await names(api, PODS) == ["web-0", "web-1"]
        pod = await api.client.get(PODS, "web-0", "ns")
        await api.client.patch(PODS, "web-0", "ns", {"status": {"phase": "Pending"}}, subresource="status")
        assert pod["status"]["phase"] == "Running"
        await kubelet.settle()
        assert len(await names(api, PODS)) == 4
        await unready(api, "web-1")
        await unready(api, "web-3")
        await api.client.patch(STATEFULSETS, "web", "ns", {"spec": {"replicas": 0}})
        await kubelet.settle()
        assert len(await names(api, PODS)) == 4, "two are unhealthy: the higher one stays, and all below it"
        ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        await api.client.patch(PODS, "web-3", "ns", ready, subresource="status")
        await kubelet.settle()
        assert not await names(api, PODS), "one alone goes when its turn comes"

    told(story)


def test_parallel_sets_burst() -> None:
    """Burst scaling should run to completion even with unhealthy pods"""

    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        await api.client.create(STATEFULSETS, web(3, podManagementPolicy="Parallel", ordinals={"start": 5}))
        await api.advance(1)
        assert await names(api, PODS) == ["web-5", "web-6", "web-7"]

    told(story)


def test_rolling_updates_go_from_the_highest_ordinal_and_back() -> None:
    """should perform rolling updates and roll backs of template modifications"""

    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        await api.client.create(STATEFULSETS, web(3))
        await kubelet.settle()
        first = (await got(api))["status"]["currentRevision"]
        await image(api, "web:2")
        await api.advance(1)
        assert "deletionTimestamp" in (await api.client.get(PODS, "web-2", "ns"))["metadata"]
        status = (await got(api))["status"]
        assert status["currentRevision"] == first != status["updateRevision"]
        await kubelet.settle()
        assert set((await images(api)).values()) == {"web:2"}
        status = (await got(api))["status"]
        assert status["currentRevision"] == status["updateRevision"] != first
        await image(api, "web:1")
        await kubelet.settle()
        assert (await got(api))["status"]["currentRevision"] == first, "the old revision came back with its old hash"
        revisions = (await api.client.list(CONTROLLERREVISIONS, "ns"))["items"]
        assert sorted(r["revision"] for r in revisions) == [2, 3]

    told(story)


async def uids(api: ApiServer) -> dict[str, str]:
    return {p["metadata"]["name"]: p["metadata"]["uid"] for p in (await api.client.list(PODS, "ns"))["items"]}


def test_a_set_that_comes_again_takes_over_pods_and_revisions_and_restarts_nothing() -> None:
    """How claim templates are changed: kubectl delete --cascade=orphan, then create."""

    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        await api.client.create(STATEFULSETS, web(2))
        await kubelet.settle()
        await image(api, "web:2")
        await kubelet.settle()
        pods, hash_ = await uids(api), (await got(api))["status"]["currentRevision"]
        await api.client.delete(STATEFULSETS, "web", "ns", propagation="Orphan")
        await kubelet.settle()
        assert await names(api, STATEFULSETS) == []
        again = web(2, volumeClaimTemplates=[CLAIM])
        again["spec"]["template"]["spec"]["containers"][0]["image"] = "web:2"
        made = await api.client.create(STATEFULSETS, again)
        await kubelet.settle()
        assert await uids(api) == pods
        status = (await got(api))["status"]
        assert (status["currentRevision"], status["updateRevision"]) == (hash_, hash_)
        assert status.get("collisionCount", 0) == 0
        revisions = (await api.client.list(CONTROLLERREVISIONS, "ns"))["items"]
        assert sorted(r["revision"] for r in revisions) == [1, 2]
        assert {r["metadata"]["ownerReferences"][0]["uid"] for r in revisions} == {made["metadata"]["uid"]}
        await image(api, "web:1")
        await kubelet.settle()
        revisions = (await api.client.list(CONTROLLERREVISIONS, "ns"))["items"]
        assert sorted(r["revision"] for r in revisions) == [2, 3], "the history goes on"

    told(story)


@pytest.mark.parametrize(("owner", "taken"), [(None, True), ({"kind": "StatefulSet", "name": "x", "uid": "u"}, False)])
def test_a_revision_that_was_left_behind_this_moment_is_taken_over(owner: Object | None, taken: bool) -> None:
    async def story() -> None:
        async with ApiServer() as api:
            await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
            made = await api.client.create(STATEFULSETS, web(1))
            decided = history.plan(made, STATEFULSETS, [], history.STATEFUL_HASH)
            assert decided.create is not None
            left = deepcopy(decided.create)
            references = [{**owner, "apiVersion": "apps/v1", "controller": True}] if owner else []
            left["metadata"]["ownerReferences"] = references
            there = await api.client.create(CONTROLLERREVISIONS, left)
            kept = await history.keep(api.client, made, STATEFULSETS, decided)
            assert kept.collided is not taken
            now = await api.client.get(CONTROLLERREVISIONS, left["metadata"]["name"], "ns")
            assert (now == kept.current) is taken
            assert (now == there) is not taken
            if taken:
                (mine,) = now["metadata"]["ownerReferences"]
                assert (mine["uid"], mine["controller"]) == (made["metadata"]["uid"], True)
            # an owner that is gone adopts nothing
            await api.client.delete(STATEFULSETS, "web", "ns")
            if not taken:
                await api.client.patch(
                    CONTROLLERREVISIONS, now["metadata"]["name"], "ns", {"metadata": {"ownerReferences": None}}
                )
                with pytest.raises(ApiError, match="not found"):
                    await history.keep(api.client, made, STATEFULSETS, decided)

    asyncio.run(story())


def test_a_partition_makes_canaries_and_keeps_the_rest_at_their_revision() -> None:
    """should perform canary updates and phased rolling updates of template modifications"""

    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
        await api.client.create(STATEFULSETS, web(3, updateStrategy=rolling))
        await kubelet.settle()
        await image(api, "web:2")
        await kubelet.settle()
        assert await images(api) == {"web-0": "web:1", "web-1": "web:1", "web-2": "web:2"}
        for name in ("web-0", "web-2"):
            await api.client.delete(PODS, name, "ns", grace=0)
        await kubelet.settle()
        assert await images(api) == {"web-0": "web:1", "web-1": "web:1", "web-2": "web:2"}
        patch = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}
        await api.client.patch(STATEFULSETS, "web", "ns", patch)
        await kubelet.settle()
        assert set((await images(api)).values()) == {"web:2"}

    told(story)


def test_on_delete_waits_for_the_owner() -> None:
    """should implement legacy replacement when the update strategy is OnDelete"""

    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        await api.client.create(STATEFULSETS, web(2, updateStrategy={"type": "OnDelete"}))
        await kubelet.settle()
        await image(api, "web:2")
        await kubelet.settle()
        assert set((await images(api)).values()) == {"web:1"}
        await api.client.delete(PODS, "web-1", "ns", grace=0)
        await kubelet.settle()
        assert await images(api) == {"web-0": "web:1", "web-1": "web:2"}

    told(story)


def test_an_evicted_pod_is_made_again() -> None:
    """Should recreate evicted statefulset"""

    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        await api.client.create(STATEFULSETS, web(1))
        await kubelet.settle()
        before = (await api.client.get(PODS, "web-0", "ns"))["metadata"]["uid"]
        await api.client.patch(PODS, "web-0", "ns", {"status": {"phase": "Failed"}}, subresource="status")
        await kubelet.settle()
        after = await api.client.get(PODS, "web-0", "ns")
        assert after["metadata"]["uid"] != before
        assert after["status"]["phase"] == "Running"
        said = {e["reason"]: (e["type"], e["message"]) for e in (await api.client.list(EVENTS, "ns"))["items"]}
        assert said["RecreatingFailedPod"] == ("Warning", "StatefulSet ns/web is recreating failed Pod web-0")

    told(story)


def test_claims_follow_the_retention_policy() -> None:
    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
        body = web(2, volumeClaimTemplates=[CLAIM], persistentVolumeClaimRetentionPolicy=policy)
        await api.client.create(STATEFULSETS, body)
        await kubelet.settle()
        await api.client.patch(STATEFULSETS, "web", "ns", {"spec": {"replicas": 1}})
        await kubelet.settle()
        await api.advance(10)
        assert await names(api, PVCS) == ["data-web-0"]
        await api.client.delete(STATEFULSETS, "web", "ns", propagation="Background")
        await kubelet.settle()
        await api.advance(10)
        assert not await names(api, PVCS)

    told(story)


SET = {
    "metadata": {"name": "web", "uid": "s"},
    "spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}},
}


def refers(kind: str, name: str, uid: str, **more: Any) -> dict[str, Any]:
    version = "apps/v1" if kind == "StatefulSet" else "v1"
    return {"apiVersion": version, "kind": kind, "name": name, "uid": uid, **more}


CONTROLS = {"controller": True, "blockOwnerDeletion": True}
MINE = refers("StatefulSet", "web", "s", **CONTROLS)
OTHERS = refers("ConfigMap", "c", "c")


@pytest.mark.parametrize(
    ("have", "wanted"),
    [
        ([], [MINE]),
        ([OTHERS], [OTHERS, MINE]),
        ([MINE, OTHERS], [MINE, OTHERS]),
        ([refers("StatefulSet", "web", "s", controller=False)], [MINE]),
        ([refers("Pod", "web-1", "p", **CONTROLS)], [MINE]),
        ([refers("StatefulSet", "web", "before")], [refers("StatefulSet", "web", "before")]),
        ([refers("StatefulSet", "other", "o", **CONTROLS)], [refers("StatefulSet", "other", "o", **CONTROLS)]),
        ([MINE, {**OTHERS, "controller": True}], [{**OTHERS, "controller": True}]),
    ],
)
def test_a_claim_has_one_controller_and_keeps_what_others_say(have: list[Any], wanted: list[Any]) -> None:
    member = pod("web-1", uid="p")
    assert claim_owners(SET, have, member, condemned=False) == wanted
    assert claim_owners(SET, wanted, member, condemned=False) is wanted, "a second look changes nothing"


def test_a_claim_that_somebody_else_controls_outlives_scaling_down() -> None:
    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        keeper = await api.client.create(CONFIGMAPS, {"metadata": {"name": "keeper", "namespace": "ns"}})
        body = web(2, volumeClaimTemplates=[CLAIM], persistentVolumeClaimRetentionPolicy={"whenScaled": "Delete"})
        await api.client.create(STATEFULSETS, body)
        await kubelet.settle()
        owners = [refers("ConfigMap", "keeper", keeper["metadata"]["uid"], controller=True)]
        await api.client.patch(PVCS, "data-web-1", "ns", {"metadata": {"ownerReferences": owners}})
        await api.client.patch(STATEFULSETS, "web", "ns", {"spec": {"replicas": 0}})
        await kubelet.settle()
        await api.advance(10)
        assert await names(api, PVCS) == ["data-web-1"]
        said = {e["reason"]: e["message"] for e in (await api.client.list(EVENTS, "ns"))["items"]}
        assert "data-web-1 is controlled by another owner" in said["ConflictingController"]

    told(story)


def test_a_pod_waits_until_the_claim_of_the_one_before_it_is_gone() -> None:
    """Scaled down and up again under whenScaled: Delete, before the garbage collector came by."""

    async def story() -> None:
        async with running(StatefulSetController) as api:
            kubelet, policy = Kubelet(api), {"whenScaled": "Delete"}
            body = web(2, volumeClaimTemplates=[CLAIM], persistentVolumeClaimRetentionPolicy=policy)
            await api.client.create(STATEFULSETS, body)
            await kubelet.settle()
            doomed = (await api.client.get(PVCS, "data-web-1", "ns"))["metadata"]["uid"]
            for size in (1, 2):
                await api.client.patch(STATEFULSETS, "web", "ns", {"spec": {"replicas": size}})
                await kubelet.settle()
            assert await names(api, PODS) == ["web-0"]
            await api.client.patch(PVCS, "data-web-1", "ns", {"metadata": {"finalizers": None}})
            await api.client.delete(PVCS, "data-web-1", "ns", uid=doomed)
            await kubelet.settle()
            assert await names(api, PODS) == ["web-0", "web-1"]
            assert (await api.client.get(PVCS, "data-web-1", "ns"))["metadata"]["uid"] != doomed

    asyncio.run(story())


def test_claims_are_kept_by_default() -> None:
    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        await api.client.create(STATEFULSETS, web(2, volumeClaimTemplates=[CLAIM]))
        await kubelet.settle()
        await api.client.patch(STATEFULSETS, "web", "ns", {"spec": {"replicas": 0}})
        await kubelet.settle()
        assert len(await names(api, PVCS)) == 2

    told(story)


def test_max_unavailable_lets_several_go_at_once() -> None:
    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}
        await api.client.create(STATEFULSETS, web(4, updateStrategy=rolling, podManagementPolicy="Parallel"))
        await kubelet.settle()
        await image(api, "web:2")
        await api.advance(1)
        pods = (await api.client.list(PODS, "ns"))["items"]
        assert [p["metadata"]["name"] for p in pods if "deletionTimestamp" in p["metadata"]] == ["web-2", "web-3"]

    told(story)


def test_a_million_replicas_come_in_bounded_steps() -> None:
    meta = {"name": "web", "namespace": "ns", "uid": "u", "generation": 1}
    owner = {"metadata": meta, "spec": {"replicas": 1_000_000, "podManagementPolicy": "Parallel"}}
    decided = plan(owner, [], "r", "r", 0.0)
    assert [o for o, _ in decided.create] == list(range(BURST))


def test_a_namesake_does_not_come_before_kubectl_can_see_the_end() -> None:
    """kubectl compares uids once, then lists by name: within a second of the mark it would wait for the namesake's end."""

    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        await api.client.create(STATEFULSETS, web(2))
        await kubelet.settle()
        old = await api.client.delete(PODS, "web-0", "ns")
        await api.settle()
        await kubelet.tick()  # ended within the same moment
        await api.advance(0.9)
        assert await names(api, PODS) == ["web-1"]
        await api.advance(0.2)
        assert await names(api, PODS) == ["web-0", "web-1"]
        await kubelet.settle()
        assert (await api.client.get(PODS, "web-0", "ns"))["metadata"]["uid"] != old["metadata"]["uid"]

    told(story)


@pytest.mark.parametrize("takes", [0.05, 0.1, 0.2, 0.5])
def test_a_namesake_comes_though_its_time_comes_while_the_set_is_looked_at(takes: float) -> None:
    """Too early when the look began, and not any more when it ended: nothing else would bring the set back."""

    class Late:
        """A clock that can be put forward."""

        def __init__(self, real: Clock) -> None:
            self.real, self.late = real, 0.0

        def monotonic(self) -> float:
            return self.real.monotonic() + self.late

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    class Looking(StatefulSetController):
        def __init__(self, context: Context) -> None:
            super().__init__(context)
            self.late = Late(context.clock)
            self.clock = cast("Clock", self.late)

        async def _carry_out(self, key: str, owner: Object, decided: Plan, *rest: Any) -> Exception | None:
            failure = await super()._carry_out(key, owner, decided, *rest)
            if decided.status == owner.get("status"):  # a status that is written would bring the set back
                self.late.late += takes
            return failure

    async def story() -> None:
        async with running(Looking) as api:
            kubelet = Kubelet(api)
            await api.client.create(STATEFULSETS, web(1))
            await kubelet.settle()
            await api.client.delete(PODS, "web-0", "ns")
            await kubelet.tick()
            await api.advance(30)
            assert await names(api, PODS) == ["web-0"]

    asyncio.run(story())


def test_a_pod_that_took_its_time_to_end_comes_again_at_once() -> None:
    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        await api.client.create(STATEFULSETS, web(2))
        await kubelet.settle()
        await api.client.delete(PODS, "web-0", "ns")
        await api.advance(1.5)
        await kubelet.tick()
        await api.settle()
        assert await names(api, PODS) == ["web-0", "web-1"]
        # one that is removed by force is gone before its deletion is answered: kubectl sees another uid
        await api.client.delete(PODS, "web-0", "ns", grace=0)
        await api.settle()
        assert await names(api, PODS) == ["web-0", "web-1"]

    told(story)


def test_a_rolling_update_does_not_wait_for_anybody() -> None:
    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        await api.client.create(STATEFULSETS, web(1))
        await kubelet.settle()
        await image(api, "web:2")
        await api.settle()
        await kubelet.tick()
        await api.settle()
        assert await images(api) == {"web-0": "web:2"}

    told(story)


def test_names_tell_members() -> None:
    assert ordinal_of("web", "web-10") == 10
    assert ordinal_of("web", "web-01") is None
    assert ordinal_of("web", "webs-1") is None
    assert ordinal_of("a-1", "a-1-0") == 0


async def died(at: int, after: bool) -> tuple[Any, bool]:
    async with ApiServer() as api:
        await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
        process, kubelet = Process(api, at, after, (StatefulSetController,)), Kubelet(api)

        async def rest() -> None:
            await kubelet.settle()
            await process.revive()
            await kubelet.settle()

        try:
            await api.client.create(STATEFULSETS, web(2, volumeClaimTemplates=[CLAIM]))
            await rest()
            await image(api, "web:2")
            await rest()
            await api.client.patch(STATEFULSETS, "web", "ns", {"spec": {"replicas": 1}})
            await rest()
            status = (await got(api))["status"]
            revisions = (await api.client.list(CONTROLLERREVISIONS, "ns"))["items"]
            numbers = sorted(r["revision"] for r in revisions)
            return (status, await images(api), await names(api, PVCS), numbers), process.died
        finally:
            await process.end()


@pytest.mark.fault
@pytest.mark.parametrize("after", [False, True])
def test_the_end_is_the_same_wherever_the_process_dies(after: bool) -> None:
    async def tell() -> None:
        wanted, _ = await died(-1, False)
        for at in range(1, 60):
            end, dead = await died(at, after)
            assert end == wanted, f"died at write {at}"
            if not dead:
                break
        assert at > 10

    asyncio.run(tell())
