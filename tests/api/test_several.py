"""Many requests in one, within the server's process: what is made is what each would have made, and each fails alone."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from jota.api.audit import Audit
from jota.api.auditpolicy import EVERYTHING
from jota.client.client import Client
from jota.client.inprocess import InProcess
from jota.meta.errors import ApiError
from jota.meta.resource import BINDINGS, PODS, Resource
from jota.testing.cluster import ApiServer, story

Object = dict[str, Any]
QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
BODY = orjson.dumps({"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "a", "image": "i"}]}})


class Meta(msgspec.Struct):
    name: str
    uid: str
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
        assert (one.metadata.uid, one.metadata.resourceVersion) == (
            pod["metadata"]["uid"],
            pod["metadata"]["resourceVersion"],
        )
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
async def test_an_audit_trail_has_each_by_itself(api: ApiServer) -> None:
    names, sink = await some_pods(api, 3), Sink()
    api.api.audit = Audit(EVERYTHING, sink, api.clock)
    assert len(await alike(api.client, 5)) == 1
    assert await api.client.create_each(BINDINGS, [binding(name) for name in names], "default") == [None] * 3
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
    assert [answer and answer["status"] for answer in answers] == ["Success"] * 20
    for n, name in enumerate(names):
        pod = await api.client.get(PODS, name, "default")
        assert pod["spec"]["nodeName"] == f"n{n}"
        assert [(c["type"], c["status"]) for c in pod["status"]["conditions"]] == [("PodScheduled", "True")]


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
    assert [answer is not None for answer in answers] == [False] * 4 + [True, False, True, False, False]
    refusals = []
    for one, answer in zip(sent, answers, strict=True):
        if answer is None:
            try:
                name = one["metadata"]["name"]
                await api.client.create(PODS, one, "default", subresource="binding", name=name)
            except ApiError as refused:
                refusals.append(refused.code)
    assert refusals == [404, 409, 409, 409, 409, 422]
    nodes = [(await api.client.get(PODS, n, "default"))["spec"].get("nodeName") for n in (bound, other, ending, twice)]
    assert nodes == ["n9", None, None, "n1"]


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
    assert await client.create_each(BINDINGS, [binding("a"), binding("b")], "default") == [None, None]
