"""Many requests in one, within the server's process: what is made is what each would have made, and each fails alone."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

import msgspec
import orjson
import pytest

from jota.api import several
from jota.api.audit import Audit
from jota.api.filters.attributes import Attributes, Decision, User
from jota.api.subresources import binding as bindings
from jota.client.client import Client
from jota.client.inprocess import InProcess
from jota.meta.errors import ApiError
from jota.meta.resource import BINDINGS, CONFIGMAPS, PODS, SERVICES, Resource
from jota.store.drivers.memory import MemoryStore
from jota.store.protocol import Entry, Unavailable
from jota.testing.cluster import ApiServer, story

Object = dict[str, Any]
QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
BODY = orjson.dumps({"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "a", "image": "i"}]}})


BODIES = {"rules": [{"level": "Request"}], "omitStages": ["RequestReceived"]}


class Meta(msgspec.Struct):
    name: str
    resourceVersion: str


class Made(msgspec.Struct):
    metadata: Meta


class Sink:
    def __init__(self) -> None:
        self.lines: list[Object] = []

    def write(self, found: list[bytes]) -> None:
        self.lines.extend(map(orjson.loads, found))


async def alike(client: Client, times: int) -> list[Made]:
    return await client.create_alike(PODS, BODY, "default", times, type=Made)


def binding(pod: str, node: str = "n1", **meta: str) -> Object:
    head = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod, "namespace": "default", **meta}}
    return {**head, "target": {"apiVersion": "v1", "kind": "Node", "name": node}}


async def some_pods(api: ApiServer, count: int) -> list[str]:
    names = []
    while len(names) < count:
        names += [made.metadata.name for made in await alike(api.client, count - len(names))]
    return names


# -- creations


@story
async def test_what_is_alike_is_made_in_one_go_once_it_is_known(api: ApiServer) -> None:
    assert [len(await alike(api.client, 5)) for _ in range(2)] == [1, 5]
    made = await alike(api.client, 50)
    pods = (await api.client.list(PODS, "default"))["items"]
    known = {pod["metadata"]["name"]: pod for pod in pods}
    assert len(known) == len({pod["metadata"]["uid"] for pod in pods}) == 56
    first = pods[0]
    for one in made:
        pod = known[one.metadata.name]
        assert one.metadata.resourceVersion == pod["metadata"]["resourceVersion"]
        assert (pod["spec"], pod["status"]) == (first["spec"], first["status"])
        assert pod["metadata"]["managedFields"] == first["metadata"]["managedFields"]


@story
async def test_a_quota_counts_each(api: ApiServer) -> None:
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "3"}}}
    await api.client.create(QUOTAS, quota, "default")
    assert [len(await alike(api.client, 5)) for _ in range(3)] == [1, 1, 1]
    try:
        await alike(api.client, 5)
    except ApiError as refused:
        assert refused.code == 403
    else:
        raise AssertionError("the fourth is one too many")


@story
async def test_an_audit_trail_that_wants_bodies_has_each_by_itself(api: ApiServer) -> None:
    names, sink = await some_pods(api, 3), Sink()
    api.api.audit = Audit(BODIES, sink, api.clock)
    assert len(await alike(api.client, 5)) == 1
    assert await api.client.create_each(BINDINGS, [binding(name) for name in names], "default") == [False] * 3
    assert "nodeName" not in (await api.client.get(PODS, names[0], "default"))["spec"]


@story
async def test_names_that_are_taken_are_left_out(api: ApiServer) -> None:
    """A random source that gives the same names again: what there is stays, and fewer are made."""
    await some_pods(api, 2)
    random = api.api.engine.random
    state = random.getstate()
    first = await alike(api.client, 4)
    random.setstate(state)
    again = await alike(api.client, 4)
    names = [made.metadata.name for made in (*first, *again)]
    assert len(set(names)) == len(names)
    assert len((await api.client.list(PODS, "default"))["items"]) == 2 + len(names)


# -- bindings


@story
async def test_bindings_are_made_in_one_go(api: ApiServer) -> None:
    names = await some_pods(api, 20)
    sent = [binding(name, f"n{n}") for n, name in enumerate(names)]
    answers = await api.client.create_each(BINDINGS, sent, "default")
    assert answers == [True] * 20
    for n, name in enumerate(names):
        pod = await api.client.get(PODS, name, "default")
        assert pod["spec"]["nodeName"] == f"n{n}"
        assert [(c["type"], c["status"]) for c in pod["status"]["conditions"]] == [("PodScheduled", "True")]


@story
async def test_bindings_of_pods_with_names_of_their_own(api: ApiServer) -> None:
    """What became of the first is what becomes of its like, under their own names."""
    names = []
    for n in range(5):
        claim = {"name": "v", "persistentVolumeClaim": {"claimName": f"data-{n}"}}
        spec = {"containers": [{"name": "a", "image": "i"}], "volumes": [claim], "hostname": f"host-{n}"}
        made = await api.client.create(PODS, {"metadata": {"generateName": "web-"}, "spec": spec}, "default")
        names.append(made["metadata"]["name"])
    before = [await api.client.get(PODS, name, "default") for name in names]
    answers = await api.client.create_each(
        BINDINGS, [binding(name, f"n{n}") for n, name in enumerate(names)], "default"
    )
    assert all(answers)
    for n, (name, was) in enumerate(zip(names, before, strict=True)):
        pod = await api.client.get(PODS, name, "default")
        assert pod["spec"] == {**was["spec"], "nodeName": f"n{n}"}
        assert pod["spec"]["hostname"] == f"host-{n}"
        assert [(c["type"], c["status"]) for c in pod["status"]["conditions"]] == [("PodScheduled", "True")]


@story
async def test_bindings_of_pods_that_are_nominated(api: ApiServer) -> None:
    """Wherever to: that is over then. What is called so elsewhere stays."""
    names, selectors = [], [{}] * 5 + [{"nominatedNodeName": f"s{n}"} for n in range(5)]
    for n, selector in enumerate(selectors):
        spec = {"containers": [{"name": "a", "image": "i"}], "nodeSelector": selector}
        made = await api.client.create(PODS, {"metadata": {"generateName": "web-"}, "spec": spec}, "default")
        names.append(made["metadata"]["name"])
        status = {"status": {"nominatedNodeName": f"n{n}"}}
        await api.client.patch(PODS, names[-1], "default", status, subresource="status")
    before = [await api.client.get(PODS, name, "default") for name in names]
    bodies = [binding(name, f"n{n + 1}") for n, name in enumerate(names)]
    with patch.object(bindings, "_gap", wraps=bindings._gap) as gap:
        answers = await api.client.create_each(BINDINGS, bodies[:5], "default")
        assert gap.call_count == 1
    answers += await api.client.create_each(BINDINGS, bodies[5:], "default")
    assert answers == [True] * 10
    for n, (name, was) in enumerate(zip(names, before, strict=True)):
        pod = await api.client.get(PODS, name, "default")
        assert pod["spec"] == {**was["spec"], "nodeName": f"n{n + 1}"}
        assert pod["spec"].get("nodeSelector", {}) == selectors[n]
        assert was["status"].pop("nominatedNodeName") == f"n{n}"
        assert {**pod["status"], "conditions": None} == {**was["status"], "conditions": None}
        found = await api.client.list(PODS, "default", fields=f"metadata.name={name},status.nominatedNodeName=n{n}")
        assert found["items"] == []


@story
async def test_each_binding_fails_alone_and_tells_why_when_it_is_sent_by_itself(api: ApiServer) -> None:
    gone, bound, other, ending, twice, good, nowhere, strange = await some_pods(api, 8)
    await api.client.create(PODS, binding(bound, "n9"), "default", subresource="binding", name=bound)
    await api.client.delete(PODS, gone, "default", grace=0)
    await api.client.patch(PODS, ending, "default", {"metadata": {"finalizers": ["example.com/f"]}})
    await api.client.delete(PODS, ending, "default")
    sent = [
        *(binding(gone), binding(bound), binding(other, uid="another"), binding(ending)),
        *(binding(twice, "n1"), binding(twice, "n2"), binding(good), {**binding(nowhere), "target": {}}),
        {**binding(strange), "unknown": 1},
    ]
    answers = await api.client.create_each(BINDINGS, sent, "default")
    assert answers == [False] * 4 + [True, False, True, False, False]
    refusals = []
    for one, answer in zip(sent, answers, strict=True):
        if not answer:
            try:
                name = one["metadata"]["name"]
                await api.client.create(PODS, one, "default", subresource="binding", name=name)
            except ApiError as refused:
                refusals.append(refused.code)
    assert refusals == [404, 409, 409, 409, 409, 422]
    nodes = [(await api.client.get(PODS, n, "default"))["spec"].get("nodeName") for n in (bound, other, ending, twice)]
    assert nodes == ["n9", None, None, "n1"]


# -- patches and deletions


def mark(uid: str = "", **status: Any) -> Object:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    meta = {"metadata": {"uid": uid}} if uid else {}
    return {**meta, "status": {"conditions": [condition], **status}}


async def marked(api: ApiServer, sent: list[tuple[str, Object]]) -> list[bool]:
    return [*await api.client.patch_each(PODS, sent, "default", type="strategic", subresource="status")]


async def uid_of(api: ApiServer, name: str) -> str:
    uid: str = (await api.client.get(PODS, name, "default"))["metadata"]["uid"]
    return uid


@story
async def test_a_patch_among_many_leaves_what_it_would_have_left_alone(api: ApiServer) -> None:
    alone, *names = await some_pods(api, 4)
    await api.client.patch(PODS, alone, "default", mark(), type="strategic", subresource="status")
    assert await marked(api, [(name, mark(await uid_of(api, name))) for name in names]) == [True] * 3
    wanted = await api.client.get(PODS, alone, "default")
    for name in names:
        pod = await api.client.get(PODS, name, "default")
        assert pod["status"] == wanted["status"]
        assert pod["metadata"]["managedFields"] == wanted["metadata"]["managedFields"]
        assert int(pod["metadata"]["resourceVersion"]) > int(wanted["metadata"]["resourceVersion"])


@story
async def test_each_patch_fails_alone_and_tells_why_when_it_is_sent_by_itself(api: ApiServer) -> None:
    gone, other, wrong, strange, same, twice, good = names = await some_pods(api, 7)
    await api.client.delete(PODS, gone, "default", grace=0)
    await api.client.patch(PODS, same, "default", mark(), type="strategic", subresource="status")
    sent = [
        *(
            (gone, mark()),
            (other, mark("another")),
            (wrong, {"status": {"phase": 7}}),
            (strange, {"spec": {}, "status": {}}),
        ),
        *((same, mark()), (twice, mark()), (twice, mark(message="again")), (good, mark())),
    ]
    assert await marked(api, sent) == [False] * 5 + [True, False, True]
    for (name, body), code in zip(sent[:3], (404, 409, 422), strict=True):
        try:
            await api.client.patch(PODS, name, "default", body, type="strategic", subresource="status")
        except ApiError as refused:
            assert refused.code == code
        else:
            raise AssertionError(f"{name} was patched")
    found = [(await api.client.get(PODS, n, "default"))["status"].get("conditions") for n in names if n != gone]
    assert [bool(conditions) for conditions in found] == [False, False, False, True, True, True]


@story
async def test_patches_of_more_than_one_field_and_of_metadata_are_sent_by_themselves(api: ApiServer) -> None:
    names = await some_pods(api, 2)
    label: Object = {"metadata": {"labels": {"a": "b"}}}
    both: Object = {**label, "spec": {"activeDeadlineSeconds": 5}}
    for body in (label, both):
        answers = await api.client.patch_each(PODS, [(name, body) for name in names], "default", "strategic")
        assert list(answers) == [False] * 2
    assert "labels" not in (await api.client.get(PODS, names[0], "default"))["metadata"]
    deadlines = [(name, {"spec": {"activeDeadlineSeconds": 5}}) for name in names]
    assert list(await api.client.patch_each(PODS, deadlines, "default")) == [False] * 2, (
        "a pod's spec is no field apart"
    )


@story
async def test_deletions_are_made_in_one_go_each_by_its_own_pods_rules(api: ApiServer) -> None:
    _, held, *bound = names = await some_pods(api, 5)
    for name in bound:
        await api.client.create(PODS, binding(name), "default", subresource="binding", name=name)
    await api.client.patch(PODS, held, "default", {"metadata": {"finalizers": ["example.com/f"]}})
    uids = [(name, await uid_of(api, name)) for name in names]
    assert list(await api.client.delete_each(PODS, uids, "default")) == [True] * 5
    left = {p["metadata"]["name"]: p["metadata"] for p in (await api.client.list(PODS, "default"))["items"]}
    assert {n: m["deletionGracePeriodSeconds"] for n, m in left.items()} == {held: 0, **dict.fromkeys(bound, 30)}
    assert all(m["deletionTimestamp"] for m in left.values())
    assert list(await api.client.delete_each(PODS, uids[2:], "default", grace=0)) == [True] * 3
    assert [p["metadata"]["name"] for p in (await api.client.list(PODS, "default"))["items"]] == [held]


@story
async def test_each_deletion_fails_alone(api: ApiServer) -> None:
    gone, other, twice, held, good = names = await some_pods(api, 5)
    await api.client.patch(PODS, held, "default", {"metadata": {"finalizers": ["example.com/f"]}})
    await api.client.delete(PODS, held, "default")
    uids = {name: await uid_of(api, name) for name in names}
    await api.client.delete(PODS, gone, "default", grace=0)
    sent = [(gone, uids[gone]), (other, "another"), (twice, uids[twice]), (twice, ""), (held, ""), (good, "")]
    answers = await api.client.delete_each(PODS, sent, "default")
    assert list(answers) == [False, False, True, False, False, True]
    left = [p["metadata"]["name"] for p in (await api.client.list(PODS, "default"))["items"]]
    assert sorted(left) == sorted([other, held])


@story
async def test_who_must_see_each_patch_and_deletion_sees_them_by_themselves(api: ApiServer) -> None:
    """Webhooks, an audit trail with bodies, an authorizer that asks for names; and kinds of which more is written than the object."""
    names = await some_pods(api, 2)
    uids = [(name, "") for name in names]
    sent = [(name, mark()) for name in names]
    hook = {
        "metadata": {"name": "h"},
        "webhooks": [
            {
                "name": "h.example.com",
                "clientConfig": {"url": "https://127.0.0.1:1/"},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["pods"]}],
                "sideEffects": "None",
                "failurePolicy": "Ignore",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }
    hooks = Resource("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "x", False)
    await api.client.create(hooks, hook)
    assert [*await api.client.delete_each(PODS, uids, "default"), *await marked(api, sent)] == [False] * 4
    await api.client.delete(hooks, "h")

    api.api.audit = Audit(BODIES, sink := Sink(), api.clock)
    assert [*await api.client.delete_each(PODS, uids, "default"), *await marked(api, sent)] == [False] * 4
    assert sink.lines == [], "nothing was asked of the server yet"
    api.api.audit = None

    api.api.authorizer = OnlyNames(set(names))
    assert [*await api.client.delete_each(PODS, uids, "default"), *await marked(api, sent)] == [False] * 4
    api.api.authorizer = OnlyNames({"*", *names})
    assert [*await api.client.delete_each(PODS, uids, "default"), *await marked(api, sent)] == [False] * 4
    api.api.authorizer = None

    services = [
        {"metadata": {"name": f"s{n}"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}} for n in range(2)
    ]
    for one in services:
        await api.client.create(SERVICES, one, "default")
    assert list(await api.client.delete_each(SERVICES, [("s0", ""), ("s1", "")], "default")) == [False] * 2
    assert list(await api.client.delete_each(PODS, uids, "default")) == [True] * 2


class OnlyNames:
    """An Authorizer that looks at names."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        return Decision(attributes.name in self._names)


@story
async def test_other_kinds_are_deleted_in_one_go_too(api: ApiServer) -> None:
    for n in range(3):
        await api.client.create(CONFIGMAPS, {"metadata": {"name": f"c{n}"}, "data": {"a": "b"}}, "default")
    await api.client.patch(CONFIGMAPS, "c2", "default", {"metadata": {"finalizers": ["example.com/f"]}})
    names = [(f"c{n}", "") for n in range(3)]
    assert list(await api.client.delete_each(CONFIGMAPS, names, "default", propagation="Foreground")) == [True] * 3
    left = {c["metadata"]["name"]: c for c in (await api.client.list(CONFIGMAPS, "default"))["items"]}
    assert {n: c["metadata"]["finalizers"] for n, c in left.items()} == {
        **{name: ["foregroundDeletion"] for name in ("c0", "c1")},
        "c2": ["example.com/f", "foregroundDeletion"],
    }
    assert all(c["data"] == {"a": "b"} for c in left.values())


@pytest.mark.parametrize("failing", [range(4, 5), range(4, 7), range(1, 7)])
def test_a_store_that_fails_midway_leaves_undone_what_it_did_not_take(failing: range) -> None:
    """The pieces of a request become durable while the next are worked out: each by itself, and the client hears that some are not."""

    class Store(MemoryStore):
        commits = -1
        """Since the first deletion; negative: before it."""

        def append(self, batch: list[Entry]) -> None:
            if self.commits >= 0:
                self.commits += 1
                if self.commits in failing:
                    raise Unavailable("the disk is full")

    async def play() -> None:
        store = Store()
        async with ApiServer(store=store) as api:
            names = await some_pods(api, 6)
            store.commits = 0
            with pytest.MonkeyPatch.context() as patched, pytest.raises(ApiError) as refused:
                patched.setattr(several, "_TURN", -1.0)  # each is a piece of its own
                await api.client.delete_each(PODS, [(name, "") for name in names], "default", grace=0)
            assert refused.value.code == 503
            await api.settle()
            assert store.commits == 6
            left = [p["metadata"]["name"] for p in (await api.client.list(PODS, "default"))["items"]]
            assert sorted(left) == sorted(names[n - 1] for n in failing)

    asyncio.run(play())


@story
async def test_other_transports_send_each_by_itself(api: ApiServer) -> None:
    class Wire:
        """One that knows nothing of several."""

        several = False

        def __init__(self, inner: InProcess) -> None:
            self._inner = inner

        async def request(self, *args: Any, times: int = 1) -> Any:
            return await self._inner.request(*args)

    assert isinstance(api.client.transport, InProcess)
    client = Client(Wire(api.client.transport))  # type: ignore[arg-type]
    assert [len(await alike(client, 5)) for _ in range(3)] == [1, 1, 1]
    assert await client.create_each(BINDINGS, [binding("a"), binding("b")], "default") == [False, False]
    assert await client.patch_each(PODS, [("a", {}), ("b", {})], "default") == [False, False]
    assert await client.delete_each(PODS, [("a", ""), ("b", "")], "default") == [False, False]
