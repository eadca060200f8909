"""The statuses of volumes and claims that are alike: what is worked out once for all is what the long way would have made of each.

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
from tests.api.test_alikepatches import nobody_may_write
from tests.api.test_apart import CLAIMS, KUBELET, MAKERS, VOLUMES, Pair, broken

from jota.api.alikeputs import AlikePuts, possible
from jota.api.filters.attributes import User
from jota.kinds.table import KINDS
from jota.meta.resource import Resource
from jota.testing.cluster import ApiServer, story

Object = dict[str, Any]
JSON = "application/json"
ADMIN = User("admin", groups=("system:masters",))
BOUND = {"phase": "Bound"}


@contextmanager
def found() -> Iterator[list[bool]]:
    """Of each PUT that might be that of others, whether it was."""
    kept, answers = AlikePuts.find, list[bool]()

    def find(self: AlikePuts, call: Any, wish: Any) -> Any:
        wanted = kept(self, call, wish)
        answers.append(wanted is not None)
        return wanted

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(AlikePuts, "find", find)
        yield answers


def template(resource: Resource, name: str, status: Object | None = None, **meta: Any) -> Object:
    """As who makes many fills it in."""
    modes, amount = ["ReadOnlyMany"], {"storage": "1Gi"}
    spec: Object = {"accessModes": modes, "resources": {"requests": amount}, "volumeName": name}
    if resource == VOLUMES:
        holder = {"kind": "PersistentVolumeClaim", "namespace": "default", "name": name}
        csi = {"driver": "d", "volumeHandle": f"vol-{name}"}
        spec = {"accessModes": modes, "capacity": amount, "claimRef": holder, "csi": csi}
    made = {"apiVersion": "v1", "kind": resource.kind, "metadata": {"name": name, **meta}, "spec": spec}
    return made if status is None else {**made, "status": status}


def collection(resource: Resource) -> str:
    return resource.path("default" if resource.namespaced else "")


def edited(random: Random, sent: Object) -> Object:
    """Now and then another object than the others', or one that is wrong."""
    meta: Object = sent["metadata"]
    choices: list[Object] = [
        {**sent, "metadata": {**meta, "labels": {"name": meta["name"]}}},
        {**sent, "metadata": {**meta, "annotations": {"uid": "u"}}},
        {**sent, "metadata": {**meta, "finalizers": ["example.com/one"]}},
        {**sent, "metadata": {**meta, "name": "other"}},
        {**sent, "metadata": {**meta, "uid": "other"}},
        {**sent, "metadata": {**meta, "namespace": "other"}},
        {**sent, "metadata": {**meta, "resourceVersion": "1"}},
        {**sent, "metadata": {**meta, "unknown": 1}},
        {**sent, "spec": {**sent["spec"], "unknown": 1}},
        {**sent, "spec": {**sent["spec"], "accessModes": 1}},
        {**sent, "kind": "Other"},
        {**sent, "unknown": {}},
        {key: sent[key] for key in reversed(sent)},
        {key: value for key, value in sent.items() if key != "spec"},
        {key: value for key, value in sent.items() if key != "status"},
        {**sent, "status": broken(random, sent["status"])},
    ]
    return random.choice(choices)


async def play(seed: int, resource: Resource) -> int:
    """Random statuses of several objects; how many were made of others'."""
    random, pair = Random(seed), Pair(exact=False)
    where, names = collection(resource), [f"o{n}" for n in range(6)]
    more = random.choice([{}, {"annotations": {"a": "b"}}, {"labels": {"name": "o1"}}])
    async with pair.short, pair.long:
        for name in names:
            sent = template(resource, name, **(more if random.random() < 0.9 else {}))
            await pair.both("POST", where, orjson.dumps(sent), "fieldManager=set", content_type=JSON)
        with found() as answers:
            for _ in range(6):
                if random.random() < 0.3:
                    for api in (pair.short, pair.long):
                        await api.advance(1)
                status, again = MAKERS[resource](random), random.random() < 0.5
                query = random.choice(["", "fieldManager=a", "fieldValidation=Strict", "dryRun=All"])
                for name in random.sample(names, 5):
                    got = await pair.both("GET", f"{where}/{name}", b"", "")
                    sent = {**got, "status": status} if again else template(resource, name, status, **more)
                    if random.random() < 0.15:
                        sent = edited(random, sent)
                    who = random.choice([ADMIN, ADMIN, ADMIN, ADMIN, KUBELET])
                    body, path = orjson.dumps(sent), f"{where}/{name}/status"
                    await pair.both("PUT", path, body, query, content_type=JSON, user=who)
                    await pair.both("GET", f"{where}/{name}", b"", "")
    return sum(answers)


@pytest.mark.parametrize("resource", [CLAIMS, VOLUMES], ids=lambda r: r.plural)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_known_of_others_is_what_the_long_way_makes(resource: Resource, seed: int) -> None:
    asyncio.run(play(seed, resource))


def test_every_kind_of_which_likes_are_known_is_played_above() -> None:
    assert {kind.resource for kind in KINDS if possible(kind)} == {CLAIMS, VOLUMES}


@pytest.mark.parametrize("resource", [CLAIMS, VOLUMES], ids=lambda r: r.plural)
def test_the_play_above_has_likes(resource: Resource) -> None:
    assert sum(asyncio.run(play(seed, resource)) for seed in range(8)) > 20


@pytest.mark.parametrize("resource", [CLAIMS, VOLUMES], ids=lambda r: r.plural)
@pytest.mark.parametrize(
    "finalizers", [{}, {"finalizers": ["kubernetes.io/pvc-protection", "kubernetes.io/pv-protection"]}]
)
def test_a_template_that_is_filled_in_leaves_the_same_bytes(resource: Resource, finalizers: Object) -> None:
    """One that does not speak of finalizers takes them away, as upstream's does."""

    async def both() -> None:
        # what changes nothing but the status keeps the stored order of fields, the long way the client's (test_apart.py)
        pair, where = Pair(exact=not finalizers), collection(resource)
        async with pair.short, pair.long:
            with found() as answers:
                for name in ("a", "b", "c", "d"):
                    body = orjson.dumps(template(resource, name, BOUND, **finalizers))
                    await pair.both("POST", where, body, "", content_type=JSON)
                    made = await pair.both("PUT", f"{where}/{name}/status", body, "", content_type=JSON)
                    assert (made["status"]["phase"], made["spec"].get("volumeName", name)) == ("Bound", name)
                    assert made["metadata"].get("finalizers") == finalizers.get("finalizers")
                    await pair.both("GET", f"{where}/{name}", b"", "")
            # from the third on they were made as twins, whose metadata may stand in another order
            assert (answers[:2], answers[3:]) == ([False, True], [True])

    asyncio.run(both())


# -- stories


async def put(api: ApiServer, name: str, status: Object = BOUND, user: User = ADMIN) -> tuple[int, Object]:
    body = orjson.dumps(template(CLAIMS, name, status))
    answer = await api.request("PUT", f"{collection(CLAIMS)}/{name}/status", body, user=user, content_type=JSON)
    return answer.status, orjson.loads(answer.body if isinstance(answer.body, bytes) else b"".join(answer.body))


async def make(api: ApiServer, *names: str) -> None:
    for name in names:
        await api.client.create(CLAIMS, template(CLAIMS, name), "default")


@story
async def test_in_the_next_second_it_is_worked_out_anew(api: ApiServer) -> None:
    await make(api, "a", "b")
    times = []
    with found() as answers:
        for name in "ab":
            await api.advance(1)
            _, made = await put(api, name)
            times += [one["time"] for one in made["metadata"]["managedFields"] if "subresource" in one]
    assert answers == [False, False]
    assert times[0] < times[1]


@story
async def test_what_was_warned_of_is_warned_of_each_time(api: ApiServer) -> None:
    await make(api, "a", "b")
    for name in "ab":
        body = orjson.dumps({**template(CLAIMS, name, BOUND), "unknown": 1})
        answer = await api.request("PUT", f"{collection(CLAIMS)}/{name}/status", body, user=ADMIN, content_type=JSON)
        assert (answer.status, [text for key, text in answer.headers if key == "Warning"]) == (
            200,
            ['299 - "unknown field \\"unknown\\""'],
        )


@story
async def test_a_webhook_that_comes_in_between_is_asked(api: ApiServer) -> None:
    await make(api, "a", "b", "c")
    assert [(await put(api, name))[0] for name in "ab"] == [200, 200]
    await nobody_may_write(api, "persistentvolumeclaims/status")
    code, refusal = await put(api, "c")
    assert (code, "no.example.com" in refusal["message"]) == (500, True)
    assert (await api.client.get(CLAIMS, "c", "default"))["status"]["phase"] == "Pending"


@story
async def test_who_loses_a_race_looks_again(api: ApiServer) -> None:
    await make(api, "a", "b")
    assert (await put(api, "a"))[0] == 200
    with found() as answers:
        codes = await asyncio.gather(put(api, "b", {"phase": "Lost"}), put(api, "b"))
    assert ([code for code, _ in codes], answers) == (
        [200, 200],
        [False, True],
    )  # known, but another one is being written
    assert (await api.client.get(CLAIMS, "b", "default"))["status"]["phase"] == "Bound"


@story
async def test_what_is_being_deleted_goes_when_its_finalizers_do(api: ApiServer) -> None:
    await make(api, "a", "b", "c")
    await api.client.delete(CLAIMS, "c", "default")
    assert (await api.client.get(CLAIMS, "c", "default"))["metadata"]["deletionTimestamp"]
    assert [(await put(api, name))[0] for name in "abc"] == [200, 200, 200]
    left = await api.client.list(CLAIMS, "default")
    assert [one["metadata"]["name"] for one in left["items"]] == ["a", "b"]
