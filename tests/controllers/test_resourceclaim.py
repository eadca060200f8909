"""ResourceClaims of pods: the decision about one claim as a table, and templates that are made into claims whatever happens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jota.controllers.resourceclaim import CLAIMS, FINALIZER, POD_CLAIM, TEMPLATES, Plan, ResourceClaimController, plan
from jota.meta.resource import EVENTS, PODS

from .stories import names, running

Object = dict[str, Any]
ALLOCATION = {"devices": {"results": []}}
REQUEST = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}


def consumer(uid: str) -> Object:
    return {"resource": "pods", "name": "p" + uid, "uid": uid}


def claim(*uids: str, allocated: bool = True, closing: bool = False, finalizer: bool = True) -> Object:
    status: Object = {"allocation": ALLOCATION} if allocated else {}
    if uids:
        status["reservedFor"] = [consumer(u) for u in uids]
    meta: Object = {"name": "c", "finalizers": [FINALIZER, "other"] if finalizer else ["other"]}
    if closing:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"metadata": meta, "spec": {}, "status": status}


@pytest.mark.parametrize(
    ("observed", "gone", "owner_over", "expected"),
    [
        (claim("1", "2"), set(), False, Plan()),
        (claim("1", "2"), {"1"}, False, Plan({"allocation": ALLOCATION, "reservedFor": [consumer("2")]})),
        (claim("1", "2"), {"1", "2"}, False, Plan({}, ["other"])),
        (claim("1"), {"1"}, True, Plan({}, ["other"], delete=True)),
        (claim("1"), set(), True, Plan()),
        (claim(), set(), False, Plan()),  # allocated, and its first pod is just about to be reserved
        (claim(closing=True), set(), False, Plan({}, ["other"])),
        (claim("1", closing=True), set(), False, Plan()),
        (claim(allocated=False, finalizer=False), set(), False, Plan()),
        (claim(allocated=False, finalizer=False), set(), True, Plan(delete=True)),
        (claim(allocated=False, closing=True), set(), True, Plan(None, ["other"])),
    ],
)
def test_plan(observed: Object, gone: set[str], owner_over: bool, expected: Plan) -> None:
    assert plan(observed, gone, owner_over) == expected


def pod(name: str = "p", template: str = "t") -> Object:
    entries = [{"name": "gpu", "resourceClaimTemplateName": template}]
    spec = {"containers": [{"name": "c", "image": "x"}], "resourceClaims": entries}
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": spec}


def test_one_claim_per_entry_however_often_it_is_looked_at() -> None:
    async def story() -> None:
        async with running(ResourceClaimController) as api:
            await api.client.create(
                TEMPLATES, {"metadata": {"name": "t", "namespace": "ns"}, "spec": {"spec": REQUEST}}
            )
            await api.client.create(PODS, pod())
            await api.advance(2)
            (made,) = await names(api, CLAIMS)
            stored = await api.client.get(PODS, "p", "ns")
            assert stored["status"]["resourceClaimStatuses"] == [{"name": "gpu", "resourceClaimName": made}]
            # The status is lost, as when a controller dies between two writes: the claim is found again.
            lost = {"status": {"resourceClaimStatuses": [{"name": "gpu", "$patch": "delete"}]}}
            await api.client.patch(PODS, "p", "ns", lost, type="strategic", subresource="status")
            await api.advance(2)
            assert await names(api, CLAIMS) == [made]
            stored = await api.client.get(PODS, "p", "ns")
            assert stored["status"]["resourceClaimStatuses"] == [{"name": "gpu", "resourceClaimName": made}]
            # The claim is lost: another one is made.
            await api.client.delete(CLAIMS, made, "ns")
            await api.advance(2)
            (again,) = await names(api, CLAIMS)
            assert again != made
            stored = await api.client.get(PODS, "p", "ns")
            assert stored["status"]["resourceClaimStatuses"] == [{"name": "gpu", "resourceClaimName": again}]
            claim = await api.client.get(CLAIMS, again, "ns")
            assert claim["metadata"]["annotations"][POD_CLAIM] == "gpu"
            assert claim["spec"]["devices"]["requests"][0]["exactly"]["count"] == 1

    asyncio.run(story())


def test_a_missing_template_is_told_and_awaited() -> None:
    async def story() -> None:
        async with running(ResourceClaimController) as api:
            await api.client.create(PODS, pod(template="later"))
            await api.advance(2)
            events = (await api.client.list(EVENTS, "ns"))["items"]
            assert [(e["reason"], e["message"]) for e in events] == [
                ("FailedResourceClaimCreation", 'PodResourceClaim resourceclaimtemplate "later" not found')
            ]
            made = {"metadata": {"name": "later", "namespace": "ns"}, "spec": {"spec": REQUEST}}
            await api.client.create(TEMPLATES, made)
            await api.advance(2)
            assert len(await names(api, CLAIMS)) == 1

    asyncio.run(story())
