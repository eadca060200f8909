"""A writer that says what it changed spares readers the decoding; what they make of it is what the bytes say, always."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.api import object as at_rest
from jota.client.informer import Informer
from jota.client.pods import Pod
from jota.kinds.core.pod import KIND
from jota.meta.errors import ApiError
from jota.meta.resource import PODS
from jota.meta.watchevent import WatchEvent
from jota.store.protocol import Entry
from jota.testing.cluster import ApiServer, Watching, story

_PATH = PODS.path("default")
_SELECTED = "watch=1&fieldSelector=spec.nodeName!%3D,status.phase!%3DFailed,status.podIP!%3Dx&labelSelector=app!%3Dx"
_STAMPS = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T00:00:07Z"])
_CONDITIONS = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["Ready", "PodScheduled", "PodResizePending"]),
            "status": st.sampled_from(["True", "False"]),
            "lastTransitionTime": _STAMPS,
        }
    ),
    max_size=2,
    unique_by=lambda condition: condition["type"],
)
_CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.just("c"),
            "image": st.just("i"),
            "imageID": st.just(""),
            "ready": st.booleans(),
            "restartCount": st.integers(0, 2),
            "allocatedResources": st.just({"cpu": "1"}),
        }
    ),
    max_size=1,
)
_STATUS = st.fixed_dictionaries(
    {"phase": st.sampled_from(["Pending", "Running"])},
    optional={
        "conditions": _CONDITIONS,
        "containerStatuses": _CONTAINERS,
        "podIP": st.sampled_from(["10.0.0.1", "10.0.0.2"]),
        "startTime": _STAMPS,
        "observedGeneration": st.integers(0, 2),
        "nominatedNodeName": st.sampled_from(["", "n9"]),
    },
)
_WHO = st.integers(0, 3)
_STEPS = st.one_of(
    st.tuples(st.just("make"), st.sampled_from(["web", "db", "large", "claims"])),
    st.tuples(st.just("several"), st.sampled_from(["web", "db"])),
    st.tuples(st.just("bind"), _WHO, st.sampled_from(["n1", "n2", 'n"\\u00e9']), st.booleans()),
    st.tuples(st.just("patch"), _WHO, _STATUS),
    st.tuples(st.just("put"), _WHO, _STATUS),
    st.tuples(st.just("label"), _WHO, st.sampled_from(["x", "y", None])),
    st.tuples(st.just("finalizers"), _WHO, st.sampled_from([["example.com/a"], [], None])),
    st.tuples(st.just("several gone"), _WHO, _WHO),
    st.tuples(st.just("image"), _WHO, st.sampled_from(["i:1", "i:2"])),
    st.tuples(st.just("resize"), _WHO, st.sampled_from(["1", "2"])),
    st.tuples(st.just("delete"), _WHO, st.sampled_from([None, 0])),
    st.tuples(
        st.just("foreign"), _WHO, st.sampled_from([b',"status":null', b',"status":{"phase":7}', b"", b',"new":{}'])
    ),
)


def _template(app: str, number: int = 0) -> dict[str, Any]:
    """`number`: of its claim, when it has one of its own."""
    meta: dict[str, Any] = {"generateName": f"{app}-", "labels": {"app": app}, "annotations": {"a": ',"nodeName":"x"}'}}
    if app == "db":
        del meta["labels"]
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}}
    spec: dict[str, Any] = {"containers": [container], "nodeSelector": {"nodeName": "x"}}
    if app == "claims":
        spec["hostname"] = f"host-{number}"
        spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": f"data-{number}"}}]
    if app == "large":
        spec["containers"][0]["args"] = ["x" * 70_000]
    return {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": spec}


class _Play:
    """One API server, what watches it in process, and steps that change pods by every way there is."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self.events: list[WatchEvent] = []
        self.made = 0

    def name(self, number: int) -> str:
        """One of the pods that are there."""
        entries = self.api.store.range("/core/pods/default/")
        return entries[number % len(entries)].key.rpartition("/")[2] if entries else "nobody"

    async def take(self) -> None:
        async for batch in self.api.client.watch_batches(PODS):
            self.events += batch

    async def step(self, verb: str, *more: Any) -> None:
        api, client = self.api, self.api.client
        if verb == "make":
            self.made += 1
            sent = orjson.dumps(_template(more[0], self.made))
            assert (await api.request("POST", _PATH, sent, content_type="application/json")).status == 201
            return
        if verb == "several":
            await client.create_alike(PODS, orjson.dumps(_template(more[0])), "default", 2, type=msgspec.Raw)
            return
        name, what = self.name(more[0]), more[1]
        if verb == "several gone":
            await client.delete_each(PODS, [(name, ""), (self.name(what), "")], "default")
            return
        if verb == "bind":
            meta = {"name": name, "annotations": {"bound": "so"}} if more[2] else {"name": name}
            binding = {"metadata": meta, "target": {"name": what}}
            await api.request("POST", f"{_PATH}/{name}/binding", binding, content_type="application/json")
        elif verb == "patch":
            await client.patch(PODS, name, "default", {"status": what}, type="strategic", subresource="status")
        elif verb == "put":
            pod = await client.get(PODS, name, "default")
            await client.update(PODS, {**pod, "status": {**(pod.get("status") or {}), **what}}, "status")
        elif verb == "label":
            await client.patch(PODS, name, "default", {"metadata": {"labels": {"app": what}}})
        elif verb == "finalizers":
            await client.patch(PODS, name, "default", {"metadata": {"finalizers": what}})
        elif verb == "image":
            patch: Any = {"spec": {"containers": [{"name": "c", "image": what}]}}
            await client.patch(PODS, name, "default", patch, type="strategic")
        elif verb == "resize":
            amounts = {"requests": {"cpu": what}, "limits": {"cpu": what}}
            patch = {"spec": {"containers": [{"name": "c", "resources": amounts}]}}
            await client.patch(PODS, name, "default", patch, type="strategic", subresource="resize")
        elif verb == "delete":
            await client.delete(PODS, name, "default", grace=what)
        else:
            await self._foreign(name, what)

    async def _foreign(self, name: str, segments: bytes) -> None:
        """As an older or another program might have left it."""
        entry = self.api.store.get(f"/core/pods/default/{name}")
        if entry is not None:
            metadata, _ = at_rest.parts(entry.value or b"")
            value = metadata + b'\n,"spec":{"containers":[],"unknown":{"nodeName":"x"}}' + segments
            await self.api.store.put(entry.key, value)


def _read(data: bytes) -> Pod | None:
    try:
        return Pod.from_json(data)
    except msgspec.MsgspecError:
        return None


@settings(max_examples=150, deadline=None)
@given(st.lists(_STEPS, min_size=1, max_size=14))
def test_what_is_made_of_a_change_is_what_the_bytes_say(steps: list[tuple[Any, ...]]) -> None:
    async def main() -> None:
        async with ApiServer() as api:
            play = _Play(api)
            informer = Informer(api.client, PODS, type=Pod, clock=api.clock)
            tasks = [asyncio.create_task(informer.run()), asyncio.create_task(play.take())]
            async with Watching(api, f"{_PATH}?{_SELECTED}"):
                await api.settle()
                for step in [("make", "web"), ("make", "web"), ("make", "claims"), ("make", "claims"), *steps]:
                    try:
                        await play.step(*step)
                    except ApiError:
                        pass  # refused: nothing changed
                    await api.settle()
                    for event in play.events:
                        if event.type in ("ADDED", "MODIFIED", "DELETED"):
                            assert event.views.get(Pod) == _read(event.body), (step, event)
                    play.events.clear()
                    _check_memos(api)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    asyncio.run(main())


def _check_memos(api: ApiServer) -> None:
    """What is known of an entry without a look at it is what a look says."""
    for entry in api.store.range("/core/pods/"):
        fresh, known = Entry(entry.key, entry.value, entry.revision, entry.created), entry.memo
        if known is None:
            continue
        assert known.change is None, "it serves nobody any more"
        assert known.labels in (None, at_rest.labels(fresh))
        for name, value in (known.fields or {}).items():
            assert at_rest.field(fresh, KIND, name) == value


def test_the_common_life_of_a_pod_is_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    from_parts = Pod.from_parts

    def watched(metadata: bytes, rest: bytes, version: str) -> Pod:
        decoded.append(orjson.loads(metadata)["name"])
        return from_parts(metadata, rest, version)

    monkeypatch.setattr(Pod, "from_parts", watched)

    async def main() -> None:
        async with ApiServer() as api:
            play = _Play(api)
            informer = Informer(api.client, PODS, type=Pod, clock=api.clock)
            running = asyncio.create_task(informer.run())
            await api.settle()
            for _ in range(4):
                await play.step("make", "web")
                await api.settle()
            *_, third, fourth = (e.key.rpartition("/")[2] for e in sorted(_pods(api), key=lambda e: e.created))
            decoded.clear()
            bound: tuple[Any, ...] = ("bind", "n1", False)
            ran: tuple[Any, ...] = ("patch", {"phase": "Running", "observedGeneration": 1})
            for name, steps in ((third, (bound, ran, ("delete", None))), (fourth, (bound, ("delete", 0)))):
                for verb, *more in steps:
                    names = [e.key.rpartition("/")[2] for e in _pods(api)]
                    await play.step(verb, names.index(name), *more)
                    await api.settle()
            assert decoded == []
            assert informer.get(f"default/{fourth}") is None
            left = informer.get(f"default/{third}")
            assert left is not None
            assert (left.spec.nodeName, left.status.phase, left.terminating) == ("n1", "Running", True)
            assert left == Pod.from_json(orjson.dumps(await api.client.get(PODS, third, "default")))
            running.cancel()
            await asyncio.wait({running})

    asyncio.run(main())


@story
async def test_who_selects_pods_by_their_node_is_told_it_by_the_binding(api: ApiServer) -> None:
    play, looked = _Play(api), list[str]()
    await play.step("make", "web")
    async with Watching(api, f"{_PATH}?watch=1&resourceVersion=0&fieldSelector=spec.nodeName!%3D") as kubelet:
        await play.step("make", "web")  # it asks for the first time
        await api.settle()
        look = at_rest._selectable_part
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(at_rest, "_selectable_part", lambda *of: looked.append(of[0].key) or look(*of))
            await play.step("bind", 0, "n1", False)
            await play.step("patch", 0, {"phase": "Running"})
            await api.settle()
        assert looked == []
        assert [(type, obj["spec"]["nodeName"]) for type, obj in kubelet.events] == [
            ("ADDED", "n1"),
            ("MODIFIED", "n1"),
        ]


@story
async def test_twins_with_names_of_their_own_keep_them(api: ApiServer) -> None:
    play, informer = _Play(api), Informer(api.client, PODS, type=Pod, clock=api.clock)
    running = asyncio.create_task(informer.run())
    await api.settle()
    for _ in range(4):
        await play.step("make", "claims")
    await api.settle()
    assert len(api.api.engine.twins._kept) == 1, "they are twins"
    assert sorted((p.spec.hostname, *p.claims) for p in informer.list()) == [
        (f"host-{n}", f"default/data-{n}") for n in (1, 2, 3, 4)
    ]
    running.cancel()
    await asyncio.wait({running})


def _pods(api: ApiServer) -> list[Entry]:
    return api.store.range("/core/pods/")
