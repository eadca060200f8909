"""The statuses of pods that are alike: what is worked out once for all is what the long way would have made of each, to the byte.

Two servers get the same requests, one of which always takes the long way (test_apart.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.api.test_apart import KUBELET, MERGE, STRATEGIC, Pair

from jota.api.alikepatches import AlikePatches, Found, Manner
from jota.api.filters.attributes import User
from jota.api.resource import Likes
from jota.meta.resource import PODS
from jota.store.protocol import Entry
from jota.testing.cluster import ApiServer, story

Object = dict[str, Any]
ADMIN = User("admin", groups=("system:masters",))
NAMELESS = User("kubelet", groups=("system:nodes", "system:masters"))
ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.12", "10.0.1.2", "10.9.0.1", "10.9.0.2", "256.0.0.1", "fd00::1")
_JSON = "application/json"
READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}


@contextmanager
def found(likes: type[Likes] = AlikePatches) -> Iterator[list[bool]]:
    """Of each patch that might be that of others, whether it was."""
    kept: Any = likes.find
    answers = list[bool]()

    def find(self: Likes, manner: Manner, entry: Entry, body: bytes) -> Found:
        write, learn = kept(self, manner, entry, body)
        if write is not None or learn is not None:
            answers.append(write is not None)
        return write, learn

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(likes, "find", find)
        yield answers


def pod(name: str, node: str = "n1", image: str = "i", **spec: Any) -> Object:
    placed: Object = {"nodeName": node} if node else {}
    placed["automountServiceAccountToken"] = False  # its volume has a name of its own, which only twins share
    containers = [{"name": "a", "image": image}, {"name": "b", "image": image}]
    return {"metadata": {"name": name, "labels": {"a": "b"}}, "spec": {"containers": containers, **placed, **spec}}


def running(host: str, ip: str, *ids: str) -> Object:
    statuses = [
        {"name": name, "ready": True, "restartCount": 0, "image": "i", "imageID": "", "containerID": id}
        for name, id in zip("ab", ids, strict=False)
    ]
    listed = {"hostIPs": [{"ip": host}], "podIPs": [{"ip": ip}]}
    return {
        "phase": "Running",
        "conditions": [READY],
        "hostIP": host,
        "podIP": ip,
        **listed,
        "containerStatuses": statuses,
    }


def report(random: Random, kind: int) -> Object:
    """What a kubelet says of a pod that runs, of some kinds; or something else. Who is asked twice gives other addresses."""
    first, second, third = (random.choice(ADDRESSES) for _ in range(3))
    ids = [f"c://{random.randrange(9)}" for _ in range(kind % 3)]
    status = running(first, second, *ids)
    match kind:
        case 0:
            return {"conditions": [{**READY, "type": "PodScheduled"}]}
        case 1:
            return {"nominatedNodeName": random.choice(["n1", "n2"])}
        case 2:
            return {"podIPs": [{"ip": first}, {"ip": second}], "podIP": third}
        case 3:
            return {"containerStatuses": running(first, second, "x", "x")["containerStatuses"]}
        case 4:
            return {**status, "message": random.choice(['"ip":"10.0.0.1"', "\\", "é"])}
        case 5:
            return {**status, random.choice(["podIP", "hostIPs", "unknown"]): None}
        case 6:
            return {"hostIP": first, "containerStatuses": status["containerStatuses"]}
        case 7 | 8:
            return {key: status[key] for key in reversed(status)}
    return status


def written(random: Random, kind: int, uid: str) -> bytes:
    status = report(random, kind)
    body: Object = {"status": status}
    if random.random() < 0.7:
        body = {"metadata": {"uid": "other" if random.random() < 0.05 else uid}, **body}
    text = orjson.dumps(body)
    if random.random() < 0.05:
        return text.replace(b'":"', b'": "')
    if random.random() < 0.05:
        return text.replace(b'"podIP"', b'"pod\\u0049P"')
    return text


async def play(seed: int) -> int:
    """Random reports, of one kind about several pods; how many were made of others'."""
    random, pair = Random(seed), Pair(exact=True)
    async with pair.short, pair.long:
        uids = {}
        for n in range(10):
            spec: Object = {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["x"]}]} if random.random() < 0.1 else {}
            made = pod(f"p{n}", random.choice(["n1", "n1", "n1", "n2", "n2", ""]), random.choice("iiiiiiij"), **spec)
            sent = orjson.dumps(made)
            got = await pair.both("POST", PODS.path("default"), sent, "fieldManager=set", content_type=_JSON)
            uids[f"p{n}"] = got["metadata"]["uid"]
        with found() as answers:
            kinds = random.choices(range(12), k=2)
            for _ in range(5):
                if random.random() < 0.3:
                    for api in (pair.short, pair.long):
                        await api.advance(1)
                kind, query = random.choice(kinds), "fieldManager=" + random.choice(["kubelet", "kubelet", "other"])
                more: Object = {"content_type": random.choice([STRATEGIC, STRATEGIC, MERGE])}
                for name in random.sample(list(uids), 8):
                    who, path = (
                        random.choice([ADMIN, ADMIN, ADMIN, KUBELET, KUBELET, NAMELESS]),
                        PODS.path("default", name),
                    )
                    body = written(random, kind, uids[name])
                    await pair.both("PATCH", path + "/status", body, query, user=who, **more)
                    await pair.both("GET", path, b"", "")
    return sum(answers)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_known_of_others_is_what_the_long_way_makes(seed: int) -> None:
    asyncio.run(play(seed))


def test_the_play_above_has_likes() -> None:
    assert sum(asyncio.run(play(seed)) for seed in range(8)) > 8


# -- stories


async def patch(api: ApiServer, name: str, status: Object, user: User = ADMIN, query: str = "") -> tuple[int, Object]:
    answer = await api.request(
        "PATCH",
        PODS.path("default", name, "status"),
        {"status": status},
        user=user,
        query="fieldManager=kubelet" + query,
        content_type=STRATEGIC,
    )
    return answer.status, orjson.loads(answer.body if isinstance(answer.body, bytes) else b"".join(answer.body))


@story
async def test_the_pods_of_a_rollout_run_under_addresses_of_their_own(api: ApiServer) -> None:
    nodes = ("n1", "n1", "n2")
    for n, node in enumerate(nodes):
        await api.client.create(PODS, pod(f"p{n}", node), "default")
    with found() as answers:
        for n in range(3):
            await patch(api, f"p{n}", running(f"10.9.0.{n}", f"10.0.0.{n}", f"c://a{n}", f"c://b{n}"))
    assert answers == [False, True, True]
    for n, node in enumerate(nodes):
        made = await api.client.get(PODS, f"p{n}", "default")
        assert made["spec"]["nodeName"] == node
        told = running(f"10.9.0.{n}", f"10.0.0.{n}", f"c://a{n}", f"c://b{n}")
        assert {key: made["status"][key] for key in told} == told
        (owned,) = (one["fieldsV1"]["f:status"] for one in made["metadata"]["managedFields"] if "subresource" in one)
        assert f'k:{{"ip":"10.0.0.{n}"}}' in owned["f:podIPs"]
        assert (owned["f:hostIPs"], owned["f:containerStatuses"]) == ({}, {})  # each owned as one


@story
async def test_a_node_reports_of_its_own_pods_alone(api: ApiServer) -> None:
    for name, node in (("a", "n1"), ("b", "n1"), ("c", "n2"), ("d", "")):
        await api.client.create(PODS, pod(name, node), "default")
    with found() as answers:
        for name in "ab":
            assert (await patch(api, name, running("10.9.0.1", "10.0.0.1"), KUBELET))[0] == 200
        code, refusal = await patch(api, "c", running("10.9.0.1", "10.0.0.2"), KUBELET)
        assert (code, "spec.nodeName set to itself" in refusal["message"]) == (403, True)
        assert (await patch(api, "d", {"phase": "Failed"}))[0] == 200
        assert (await patch(api, "d", {"phase": "Failed"}, NAMELESS))[0] == 403
    assert answers == [False, True, False]


@story
async def test_what_others_may_write_a_node_may_not(api: ApiServer) -> None:
    """Which claims were made for a pod is not the node's to say (upstream's node restriction)."""
    for name in "ab":
        await api.client.create(PODS, pod(name), "default")
    claims = {"resourceClaimStatuses": [{"name": "c", "resourceClaimName": "made"}]}
    with found() as answers:
        assert (await patch(api, "a", claims))[0] == 200
        code, refusal = await patch(api, "b", claims, KUBELET)
        assert (code, "cannot update resource claim statuses" in refusal["message"]) == (403, True)
        assert (await patch(api, "b", claims))[0] == 200
        assert (await patch(api, "b", {"phase": "Running"}, KUBELET))[0] == 200
    assert answers == [False, False, True, False]


@story
async def test_in_the_next_second_it_is_worked_out_anew(api: ApiServer) -> None:
    for name in "ab":
        await api.client.create(PODS, pod(name), "default")
    times = []
    with found() as answers:
        for n, name in enumerate("ab"):
            await api.advance(1)
            _, made = await patch(api, name, running("10.9.0.1", f"10.0.0.{n}"))
            times += [one["time"] for one in made["metadata"]["managedFields"] if "subresource" in one]
    assert answers == [False, False]
    assert times[0] < times[1]


async def nobody_may_write(api: ApiServer, resource: str) -> None:
    """A webhook that cannot be reached has to be asked about updates of a resource of the core group."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": [resource]}
    hook = {
        "name": "no.example.com",
        "rules": [rule],
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    }
    config = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    body = {**config, "metadata": {"name": "no"}, "webhooks": [hook]}
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    assert (await api.request("POST", path, body, content_type=_JSON)).status == 201


@story
async def test_a_webhook_that_comes_in_between_is_asked(api: ApiServer) -> None:
    for name in "ab":
        await api.client.create(PODS, pod(name), "default")
    assert (await patch(api, "a", running("10.9.0.1", "10.0.0.1")))[0] == 200
    await nobody_may_write(api, "pods/status")
    code, refusal = await patch(api, "b", running("10.9.0.1", "10.0.0.2"))
    assert (code, "no.example.com" in refusal["message"]) == (500, True)
    assert (await api.client.get(PODS, "b", "default"))["status"]["phase"] == "Pending"


@story
async def test_who_loses_a_race_looks_again(api: ApiServer) -> None:
    for name in "abc":
        await api.client.create(PODS, pod(name), "default")
    assert (await patch(api, "a", running("10.9.0.1", "10.0.0.1")))[0] == 200
    answers = await asyncio.gather(
        patch(api, "b", {"reason": "first"}),
        patch(api, "b", running("10.9.0.1", "10.0.0.2")),
    )
    assert [code for code, _ in answers] == [200, 200]
    made = (await api.client.get(PODS, "b", "default"))["status"]
    assert (made["reason"], made["podIP"]) == ("first", "10.0.0.2")


def test_what_is_there_already_is_compared_with_whatever_its_spelling() -> None:
    async def main() -> None:
        pair = Pair(exact=True)
        async with pair.short, pair.long:
            for n in range(3):
                sent = orjson.dumps(pod(f"p{n}"))
                await pair.both("POST", PODS.path("default"), sent, "fieldManager=set", content_type=_JSON)
                status = orjson.dumps({"status": {"phase": "Running", "podIP": f"10.0.0.{n}"}})
                more: Object = {"user": ADMIN, "content_type": STRATEGIC}
                await pair.both("PATCH", PODS.path("default", f"p{n}", "status"), status, "fieldManager=a", **more)
            for body in (b'{"status": {"phase": "Failed", "podIP": "10.0.0.1"}}', b'{"status":{"podIP":"10.0.0.1"}}'):
                for n in (1, 0, 2):  # of the first, it is so already
                    path = PODS.path("default", f"p{n}", "status")
                    await pair.both("PATCH", path, body, "fieldManager=b", user=ADMIN, content_type=STRATEGIC)

    asyncio.run(main())


@pytest.mark.parametrize(
    "body", [b'{"sta\x92us":{}}', b'{"status":{"a":' + b"[" * 3000 + b"]" * 3000 + b"}}"], ids=["utf-8", "depth"]
)
def test_what_cannot_be_decoded_is_refused_as_on_the_long_way(body: bytes) -> None:
    """msgspec raises more than its own errors for such: the server's fault it was, in the answer."""

    async def main() -> None:
        async with ApiServer() as api:
            await api.client.create(PODS, pod("p"), "default")
            path = "/api/v1/namespaces/default/pods/p/status"
            response = await api.request("PATCH", path, body, content_type="application/strategic-merge-patch+json")
            assert response.status == 400

    asyncio.run(main())
