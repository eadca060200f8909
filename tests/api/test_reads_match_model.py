"""Model check of every way to read: lists, pages, exact and minimal versions, watches, WatchLists, in three forms, through
selectors, over several resources, while others write, history is compacted, watchers stall and the server restarts.

The store's log is the truth. From it a model, written without the server's code, folds what each answer must have been:

    a list at version R        the state that the log gives at R, through the selection, by key
    page after page            the same for the version of page one; after a 410 the rest, at the version of now
    a watch after version R    what the log holds after R, each entry judged before and after by the selection
    a cut-off watch            a beginning of that, and, taken up from its last version, the rest of it
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jota.api.config import ApiConfig
from jota.kinds.table import KINDS
from jota.store.drivers.memory import MemoryStore
from jota.store.drivers.sqlite import SqliteStore
from jota.store.protocol import Store, Watch
from jota.testing.cluster import ApiServer, Watching

Object = dict[str, Any]
CRD = {
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "properties": {"color": {"type": "string"}}}},
                    }
                },
            }
        ],
    },
}
ROOTS = {"configmaps": "/api/v1", "pods": "/api/v1", "widgets": "/apis/example.com/v1"}
PREFIXES = {"configmaps": "/core/configmaps/", "pods": "/core/pods/", "widgets": "/example.com/widgets/"}
NAMESPACES, NAMES = ("default", "kube-public"), ("a", "b", "c", "d")
FORMS = ("", "Table", "PartialObjectMetadata")


class State(NamedTuple):
    """One version of one object, as far as selections see it."""

    revision: int
    labels: dict[str, str]
    field: str
    """spec.nodeName of a pod, spec.color of a widget."""


class Change(NamedTuple):
    revision: int
    key: str
    """namespace/name."""
    state: State | None
    """None: deleted."""


LABELS: dict[str, Callable[[dict[str, str]], bool]] = {
    "": lambda _: True,
    "on=1": lambda own: own.get("on") == "1",
    "on!=1": lambda own: own.get("on") != "1",
    "!on": lambda own: "on" not in own,
    "on in (0,1)": lambda own: own.get("on") in ("0", "1"),
    "on,on notin (1)": lambda own: own.get("on") not in (None, "1"),
}
FIELDS: dict[str, Callable[[str, str], bool]] = {
    "": lambda key, value: True,
    "metadata.name=a": lambda key, value: key.endswith("/a"),
    "metadata.name!=a": lambda key, value: not key.endswith("/a"),
    "metadata.namespace=default": lambda key, value: key.startswith("default/"),
    "FIELD=x": lambda key, value: value == "x",
    "FIELD!=x,metadata.namespace!=kube-public": lambda key, value: value != "x" and key.startswith("default/"),
}
FIELD = {"pods": "spec.nodeName", "widgets": "spec.color"}


@dataclass(frozen=True)
class Selection:
    resource: str
    namespace: str
    labels: str
    fields: str

    @staticmethod
    def random(random: Random) -> Selection:
        resource = random.choice(list(ROOTS))
        fields = random.choice([f for f in FIELDS if resource in FIELD or "FIELD" not in f])
        return Selection(resource, random.choice(("", "", *NAMESPACES)), random.choice(list(LABELS)), fields)

    @property
    def path(self) -> str:
        where = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"{ROOTS[self.resource]}{where}/{self.resource}"

    @property
    def query(self) -> str:
        fields = self.fields.replace("FIELD", FIELD.get(self.resource, ""))
        return f"labelSelector={quote(self.labels)}&fieldSelector={quote(fields)}"

    def takes(self, key: str, state: State | None) -> bool:
        if state is None or (self.namespace and not key.startswith(self.namespace + "/")):
            return False
        return LABELS[self.labels](state.labels) and FIELDS[self.fields](key, state.field)


class Model:
    """What the log says, per resource."""

    def __init__(self) -> None:
        self.log: dict[str, list[Change]] = {resource: [] for resource in ROOTS}

    def at(self, resource: str, revision: int) -> dict[str, State]:
        state: dict[str, State] = {}
        for change in self.log[resource]:
            if change.revision > revision:
                break
            if change.state is None:
                state.pop(change.key, None)
            else:
                state[change.key] = change.state
        return state

    def listed(self, selection: Selection, revision: int) -> list[tuple[str, int]]:
        """(key, version) in order."""
        found = self.at(selection.resource, revision)
        return sorted((key, state.revision) for key, state in found.items() if selection.takes(key, state))

    def events(self, selection: Selection, after: int) -> list[tuple[str, str, int]]:
        """(type, key, version) of a watch that begins after a revision."""
        state: dict[str, State] = dict(self.at(selection.resource, after))
        out = []
        for change in self.log[selection.resource]:
            if change.revision <= after:
                continue
            before, now = selection.takes(change.key, state.get(change.key)), selection.takes(change.key, change.state)
            if before or now:
                kind = "DELETED" if not now else "MODIFIED" if before else "ADDED"
                out.append((kind, change.key, change.revision))
            if change.state is None:
                state.pop(change.key, None)
            else:
                state[change.key] = change.state
        return out


def accept(form: str) -> dict[str, str]:
    return {"accept": f"application/json;as={form};v=v1;g=meta.k8s.io,application/json"} if form else {}


def identity(obj: Object) -> tuple[str, int]:
    meta = obj["metadata"]
    return f"{meta['namespace']}/{meta['name']}", int(meta["resourceVersion"])


def items_of(body: Object, form: str) -> list[tuple[str, int]]:
    if form == "Table":
        assert body["kind"] == "Table"
        return [identity(row["object"]) for row in body.get("rows") or ()]
    return [identity(item) for item in body["items"]]


@dataclass
class Pager:
    """One list in pages, taken at leisure."""

    selection: Selection
    limit: int
    form: str
    token: str = ""
    version: int = 0
    left: list[tuple[str, int]] = field(default_factory=list)

    async def page(self, world: World) -> bool:
        """Take one page and judge it; False when that was the last."""
        query = f"{self.selection.query}&limit={self.limit}&continue={self.token}"
        status, body = await world.get(f"{self.selection.path}?{query}", self.form)
        if status == 410:
            assert self.token, body
            assert self.version < world.compacted, "expired although its history is there"
            self.token, self.version = body["metadata"]["continue"], 0
            return True
        assert status == 200, body
        version = int(body["metadata"]["resourceVersion"])
        if not self.version:
            # page one, or going on at the version of now after the last key that was given
            done = self.left[0][0] if self.left else ""
            self.version, self.left = version, world.model.listed(self.selection, version)
            assert version == world.api.store.revision
            if done:
                self.left = [item for item in self.left if item[0] >= done]
                # what was made meanwhile between the last key given and the next one expected comes too
                self.left = sorted(
                    {*self.left, *world.between(self.selection, version, world.last.get(id(self), ""), done)}
                )
        assert version == self.version, "the version changed between pages"
        got, self.left = items_of(body, self.form), self.left
        assert got == self.left[: self.limit], (got, self.left)
        self.left = self.left[self.limit :]
        if got:
            world.last[id(self)] = got[-1][0]
        self.token = body["metadata"].get("continue", "")
        assert bool(self.token) == bool(self.left)
        if not self.selection.labels and not self.selection.fields:
            assert body["metadata"].get("remainingItemCount", 0) == len(self.left)
        return bool(self.token)


@dataclass
class Watcher:
    """One watch, cut off and taken up again as it comes; what it has seen so far must be what the model says."""

    selection: Selection
    form: str
    began: int = 0
    seen: list[tuple[str, str, int]] = field(default_factory=list)
    first: list[tuple[str, int]] = field(default_factory=list)
    """What a watch that began with the state must have begun with."""
    version: int = 0
    taken: int = 0
    stream: Watching | None = None
    lost: bool = False

    async def begin(self, world: World, how: str) -> None:
        query = f"{self.selection.path}?watch=1&allowWatchBookmarks=true&{self.selection.query}"
        if how == "list":
            status, body = await world.get(f"{self.selection.path}?{self.selection.query}", self.form)
            assert status == 200, body
            self.version = int(body["metadata"]["resourceVersion"])
            self.first = items_of(body, self.form)
            assert self.first == world.model.listed(self.selection, self.version)
        elif how == "resume":
            pass
        else:
            query += "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan" if how == "watchlist" else ""
            self.version = 0
        if how != "resume":
            self.began, self.seen = self.version or world.api.store.revision, []
        self.taken, self.lost = 0, False
        if how in ("list", "resume"):
            query += f"&resourceVersion={self.version}"
        self.stream = await Watching(world.api, query, **accept(self.form)).__aenter__()
        if how in ("state", "watchlist"):
            self.first = self._initial(world, how)
            assert sorted(self.first) == world.model.listed(self.selection, self.began)

    def _initial(self, world: World, how: str) -> list[tuple[str, int]]:
        assert self.stream is not None
        events = self.stream.events
        count = len(world.model.listed(self.selection, self.began))
        out = []
        for kind, obj in events[:count]:
            assert kind == "ADDED"
            out.append(identity(self._object(obj)))
        self.taken, self.version = count, self.began
        if how == "watchlist":
            kind, mark = events[count]
            mark = self._object(mark)
            assert (kind, mark["metadata"]["annotations"]) == ("BOOKMARK", {"k8s.io/initial-events-end": "true"})
            assert int(mark["metadata"]["resourceVersion"]) == self.began
            self.taken += 1
        return out

    def _object(self, obj: Object) -> Object:
        if self.form == "Table" and obj["kind"] == "Table":
            # a bookmark may have no row: its version is the Table's
            return dict(obj["rows"][0]["object"]) if obj["rows"] else obj
        return obj

    def take(self) -> None:
        assert self.stream is not None
        fresh, self.taken = self.stream.events[self.taken :], len(self.stream.events)
        for kind, obj in fresh:
            if kind == "ERROR":
                assert obj["code"] == 410, obj
                self.lost = True
                return
            obj = self._object(obj)
            version = int(obj["metadata"]["resourceVersion"])
            assert version >= self.version, "backwards"
            self.version = version
            if kind != "BOOKMARK":
                self.seen.append((kind, *identity(obj)))

    async def cut(self) -> None:
        if self.stream is not None:
            self.take()
            await self.stream.__aexit__()
            self.stream = None

    def judge(self, model: Model, *, whole: bool) -> None:
        expected = model.events(self.selection, self.began)
        assert self.seen == expected[: len(self.seen)], (self.seen, expected)
        if whole and not self.lost:
            assert self.seen == expected, (self.seen, expected)


class World:
    def __init__(self, random: Random, path: Path | None) -> None:
        self.random, self.path, self.model = random, path, Model()
        self.watchers: list[Watcher] = []
        self.pagers: list[Pager] = []
        self.last: dict[int, str] = {}
        self.compacted = 0
        self.api: ApiServer
        self.truth: dict[str, Watch] = {}

    def store(self) -> Store:
        return MemoryStore() if self.path is None else SqliteStore(str(self.path / "db"))

    async def start(self) -> None:
        store = self.store()
        after = store.revision
        self.truth = {resource: store.watch(PREFIXES[resource], after=after, limit=1 << 20) for resource in ROOTS}
        self.api = await ApiServer(store=store, seed=self.random.randrange(1 << 30)).__aenter__()
        await self.api.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD)
        for _ in range(1000):
            if ("example.com", "v1", "widgets") in self.api.api.served:
                return
            await self.api.advance(0.1)
            await asyncio.sleep(0.002)  # the disk's time is not virtual
        raise AssertionError("the custom resource is not served")

    async def stop(self) -> None:
        for watcher in self.watchers:
            await watcher.cut()
        self.learn()
        await self.api.__aexit__(None, None, None)

    def learn(self) -> None:
        """Take what is new in the log into the model."""
        for resource, truth in self.truth.items():
            for entry in truth.pending():
                key = entry.key[len(PREFIXES[resource]) :]
                state = None
                if entry.value is not None:
                    meta, _, rest = entry.value.partition(b"\n")
                    labels = orjson.loads(meta).get("labels") or {}
                    spec = orjson.loads(b"{" + rest.lstrip(b",") + b"}").get("spec") or {}
                    state = State(entry.revision, labels, spec.get("nodeName") or spec.get("color") or "")
                self.model.log[resource].append(Change(entry.revision, key, state))

    async def get(self, path: str, form: str) -> tuple[int, Object]:
        response = await self.api.request("GET", path, **accept(form))
        data = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        return response.status, orjson.loads(data)

    def between(self, selection: Selection, version: int, last: str, next_: str) -> list[tuple[str, int]]:
        return [item for item in self.model.listed(selection, version) if last < item[0] < next_]

    # -- steps

    async def write(self) -> None:
        """Several writers at once."""
        await asyncio.gather(*(self._write() for _ in range(self.random.choice((1, 2, 4)))))
        self.learn()

    async def _write(self) -> None:
        random = self.random
        resource, namespace, name = random.choice(list(ROOTS)), random.choice(NAMESPACES), random.choice(NAMES)
        where = f"{ROOTS[resource]}/namespaces/{namespace}/{resource}"
        labels = random.choice(({}, {"on": "0"}, {"on": "1"}))
        value = random.choice(("x", "y"))
        body: Object = {"metadata": {"name": name, "labels": labels}}
        if resource == "pods":
            body["spec"] = {"nodeName": value, "containers": [{"name": "c", "image": "i"}]}
        elif resource == "widgets":
            body |= {"apiVersion": "example.com/v1", "kind": "Widget", "spec": {"color": value}}
        what = random.choice(("create", "create", "patch", "patch", "delete"))
        if what == "create":
            response = await self.api.request("POST", where, body)
        elif what == "delete":
            response = await self.api.request("DELETE", f"{where}/{name}?gracePeriodSeconds=0")
        else:
            change: Object = {"metadata": {"labels": {"on": labels.get("on")}}}
            if resource == "widgets":
                change["spec"] = {"color": value}
            media = "application/merge-patch+json"
            response = await self.api.request("PATCH", f"{where}/{name}", change, content_type=media)
        assert response.status in (200, 201, 404, 409), response.body

    async def compact(self) -> None:
        self.compacted = max(self.compacted, self.api.store.revision - self.random.choice((0, 2, 6)))
        await self.api.store.compact(self.compacted)

    async def open_list(self) -> None:
        pager = Pager(Selection.random(self.random), self.random.choice((1, 1, 2, 3, 50)), self.random.choice(FORMS))
        if await pager.page(self):
            self.pagers.append(pager)

    async def next_page(self) -> None:
        if self.pagers:
            pager = self.random.choice(self.pagers)
            if not await pager.page(self):
                self.pagers.remove(pager)

    async def past(self) -> None:
        """Exact and NotOlderThan, at some version that was."""
        selection, form = Selection.random(self.random), self.random.choice(FORMS)
        now = self.api.store.revision
        version = self.random.randint(max(1, now - 12), now)
        query = f"{selection.path}?{selection.query}&resourceVersion={version}&resourceVersionMatch="
        status, body = await self.get(query + "Exact", form)
        if status == 410:
            assert version < self.compacted
        else:
            assert status == 200, body
            assert int(body["metadata"]["resourceVersion"]) == version
            assert items_of(body, form) == self.model.listed(selection, version)
        status, body = await self.get(query + "NotOlderThan", form)
        assert status == 200, body
        given = int(body["metadata"]["resourceVersion"])
        assert given >= version
        assert items_of(body, form) == self.model.listed(selection, given)

    async def open_watch(self) -> None:
        if len(self.watchers) < 6:
            watcher = Watcher(Selection.random(self.random), self.random.choice(FORMS))
            await watcher.begin(self, self.random.choice(("list", "state", "watchlist")))
            self.watchers.append(watcher)

    async def cut(self) -> None:
        for watcher in self.watchers:
            if self.random.random() < 0.5:
                await watcher.cut()

    async def stall(self) -> None:
        """A watcher takes nothing while others write: it is cut off, and goes on from where it was."""
        live = [w for w in self.watchers if w.stream is not None]
        if live:
            watcher = self.random.choice(live)
            assert watcher.stream is not None
            watcher.stream.buffered = 1 << 30
            for _ in range(3):
                await self.write()
            await self.api.settle()
            watcher.take()
            watcher.judge(self.model, whole=False)
            await watcher.cut()

    async def settle(self) -> None:
        await self.api.settle()
        await self.follow()

    async def minute(self) -> None:
        await self.api.advance(61)
        await self.follow()

    async def restart(self) -> None:
        if self.path is not None:
            await self.stop()
            await self.start()
            self.learn()

    async def follow(self) -> None:
        """Take up what was cut off, judge everybody."""
        await self.api.settle()
        for watcher in self.watchers:
            if watcher.stream is None:
                await watcher.begin(self, "resume")
            watcher.take()
            watcher.judge(self.model, whole=True)
            if watcher.lost:
                assert watcher.version < self.compacted or watcher.stream.buffered, "told 410 without need"  # type: ignore[union-attr]
                await watcher.cut()
                await watcher.begin(self, self.random.choice(("list", "watchlist")))


STEPS = ["write"] * 12 + ["compact", "open_list", "open_list", "next_page", "next_page", "next_page", "past", "past"]
STEPS += ["open_watch", "open_watch", "cut", "stall", "settle", "settle", "minute"]


async def play(world: World, steps: list[str]) -> None:
    await world.start()
    try:
        for step in ["write"] * 10 + steps:
            await getattr(world, step)()
        await world.follow()
        await world.follow()
        for pager in world.pagers:
            while await pager.page(world):
                pass
    finally:
        await world.stop()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(STEPS), min_size=30, max_size=60), st.integers(0, 1 << 30))
def test_every_read_is_what_the_log_says(steps: list[str], seed: int) -> None:
    asyncio.run(play(World(Random(seed), None), steps))


@pytest.mark.parametrize("seed", range(4))
def test_and_so_it_is_after_restarts(seed: int) -> None:
    random = Random(seed)
    steps = random.choices([*STEPS, "restart", "restart"], k=60)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(World(random, Path(folder)), steps))


@pytest.mark.parametrize("form", FORMS)
def test_a_watch_list_of_every_kind_tells_where_the_beginning_ends(form: str) -> None:
    async def main() -> None:
        async with ApiServer(config=ApiConfig(runtime_config={"api/all": True})) as api:
            for kind in KINDS:
                if "watch" not in kind.verbs:
                    continue
                query = "watch=1&allowWatchBookmarks=1&sendInitialEvents=1&resourceVersionMatch=NotOlderThan"
                async with Watching(api, f"{kind.resource.path('')}?{query}", **accept(form)) as watching:
                    type_, mark = watching.events[-1]
                    meta = (mark["rows"][0]["object"] if form == "Table" else mark)["metadata"]
                    assert (type_, meta["annotations"]) == ("BOOKMARK", {"k8s.io/initial-events-end": "true"})
                    assert int(meta["resourceVersion"]) == api.store.revision

    asyncio.run(main())
