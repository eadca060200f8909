"""Many patches of pods that are alike take over what became of the first; each leaves what it would have left alone."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.api import apart
from jota.meta.errors import ApiError
from jota.meta.resource import PODS
from jota.testing.cluster import ApiServer, story

Object = dict[str, Any]
_STAMP = "2026-01-01T00:00:00Z"
_NODES = st.sampled_from(["", "n1", "n2"])
_CONDITION = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["PodScheduled", "DisruptionTarget"]),
        "status": st.sampled_from(["True", "False"]),
        "message": st.sampled_from(["", '"nominatedNodeName":"n1"', '"nodeName":"n1"']),
        "lastTransitionTime": st.just(_STAMP),
    }
)
_STATUS = st.fixed_dictionaries(
    {},
    optional={
        "conditions": st.lists(_CONDITION, max_size=2, unique_by=lambda one: one["type"]),
        "nominatedNodeName": st.sampled_from(["n1", "n2", 'n"3', None]),
        "phase": st.sampled_from(["Pending", "Running", 7]),
        "unknown": st.just(1),
        "qosClass": st.just("Guaranteed"),
    },
)
_PATCH = st.tuples(_STATUS, st.sampled_from(["", "own", "other"]), st.booleans())
"""(the status, whose uid is named, whether something else is sent, too)"""
_POD = st.tuples(st.sampled_from(["web", "db"]), _NODES, st.lists(_STATUS, max_size=1), st.booleans())
"""(template, its node, what was patched before, whether it is being deleted)"""


def _body(app: str) -> Object:
    meta: Object = {"generateName": f"{app}-", "labels": {"app": app, "managedFields": ""}}
    meta["annotations"] = {"managedFields": "["}
    spec: Object = {"containers": [{"name": "c", "image": "i"}], "nodeSelector": {"nodeName": "n1"}}
    if app == "db":
        spec["restartPolicy"] = "Never"
        meta["finalizers"] = ["example.com/a"]
    return {"metadata": meta, "spec": spec}


async def _made(api: ApiServer, wanted: tuple[str, str, list[Object], bool]) -> tuple[str, str]:
    """(name, uid)"""
    app, node, before, going = wanted
    made = (await api.client.create(PODS, _body(app), "default"))["metadata"]
    name: str = made["name"]
    if node:
        binding = {"metadata": {"name": name}, "target": {"name": node}}
        await api.client.create(PODS, binding, "default", subresource="binding", name=name)
    for status in before:
        await _alone(api, name, {"status": status})
    if going:
        await api.client.delete(PODS, name, "default", grace=30)
    return name, made["uid"]


async def _alone(api: ApiServer, name: str, body: Object) -> None:
    try:
        await api.client.patch(PODS, name, "default", body, type="strategic", subresource="status")
    except ApiError as refused:
        assert refused.code in (400, 404, 409, 422)


def _sent(wanted: tuple[Object, str, bool], uid: str) -> Object:
    status, whose, more = wanted
    body: Object = {"status": status}
    if whose:
        body["metadata"] = {"uid": uid if whose == "own" else "another"}
    if more:
        body["kind"] = "Pod"
    return body


def _left(api: ApiServer, name: str) -> tuple[Object, bytes] | None:
    """What is at rest, without what is each pod's own: metadata and the rest."""
    entry = api.store.get(f"/core/pods/default/{name}")
    if entry is None or entry.value is None:
        return None
    line, _, rest = entry.value.partition(b"\n")
    return {key: value for key, value in orjson.loads(line).items() if key not in ("name", "uid")}, rest


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(_POD, _PATCH), min_size=2, max_size=6), st.integers(2, 3))
def test_each_leaves_what_it_would_have_left_alone(wanted: list[tuple[Any, Any]], times: int) -> None:
    async def play() -> None:
        async with ApiServer() as api:
            await api.settle()
            together = [await _made(api, pod) for pod, _ in wanted * times]
            alone = [await _made(api, pod) for pod, _ in wanted * times]
            await api.advance(3)
            for (name, uid), (_, one) in zip(alone, wanted * times, strict=True):
                await _alone(api, name, _sent(one, uid))
            sent = [(name, _sent(one, uid)) for (name, uid), (_, one) in zip(together, wanted * times, strict=True)]
            done = await api.client.patch_each(PODS, sent, "default", type="strategic", subresource="status")
            for (name, body), answer in zip(sent, done, strict=True):
                if not answer:
                    await _alone(api, name, body)
            left = [_left(api, name) for name, _ in together]
            assert left == [_left(api, name) for name, _ in alone]
            for (name, _), rest in zip(together, left, strict=True):
                chosen = f"metadata.name={name},status.nominatedNodeName=n1"
                found = (await api.client.list(PODS, "default", fields=chosen))["items"]
                assert bool(found) == (rest is not None and b'"nominatedNodeName":"n1"' in rest[1])

    asyncio.run(play())


@story
async def test_those_that_are_alike_go_the_whole_way_once(api: ApiServer) -> None:
    """Whatever node each of them is on or nominated to."""
    marked = [await _made(api, ("web", f"n{n}", [], False)) for n in range(5)]
    nominated = [await _made(api, ("web", "", [], False)) for _ in range(5)]
    mark = {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": _STAMP}
    marks = [(name, {"metadata": {"uid": uid}, "status": {"conditions": [mark]}}) for name, uid in marked]
    news = [(name, {"status": {"nominatedNodeName": f"n{n}"}}) for n, (name, _) in enumerate(nominated)]
    with patch.object(apart, "plan", wraps=apart.plan) as plan:
        for sent in (marks, news):
            done = await api.client.patch_each(PODS, sent, "default", type="strategic", subresource="status")
            assert list(done) == [True] * 5
    assert plan.call_count == 2
    for n, ((one, _), (other, _)) in enumerate(zip(marked, nominated, strict=True)):
        pod = await api.client.get(PODS, one, "default")
        assert pod["spec"]["nodeName"] == f"n{n}"
        assert {c["type"] for c in pod["status"]["conditions"]} == {"DisruptionTarget", "PodScheduled"}
        assert (await api.client.get(PODS, other, "default"))["status"]["nominatedNodeName"] == f"n{n}"
