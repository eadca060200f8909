"""Property: a client that lists and watches, however often it is cut off, ends with what the store holds, and never sees
an event out of order or twice. Writers, compactions and reconnects happen at random."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS
from jota.testing.cluster import ApiServer, Watching

PATH = "/api/v1/namespaces/default/configmaps"


class Follower:
    """A reflector in small: list, watch, and again from the last version; a 410 means list again."""

    def __init__(self, api: ApiServer, selector: str) -> None:
        self.api, self.selector = api, selector
        self.state: dict[str, str] = {}
        self.version = 0
        self.watching: Watching | None = None
        self.taken = 0

    async def connect(self, *, listed: bool) -> None:
        query = f"labelSelector={self.selector}" if self.selector else ""
        if listed or not self.version:
            response = await self.api.request("GET", f"{PATH}?{query}")
            body = orjson.loads(b"".join(response.body))  # type: ignore[arg-type]
            self.state = {o["metadata"]["name"]: o["metadata"]["resourceVersion"] for o in body["items"]}
            self.version = int(body["metadata"]["resourceVersion"])
        watching = Watching(self.api, f"{PATH}?watch=1&allowWatchBookmarks=true&resourceVersion={self.version}&{query}")
        self.watching, self.taken = await watching.__aenter__(), 0

    async def disconnect(self) -> None:
        if self.watching is not None:
            self.take()
            await self.watching.__aexit__()
            self.watching = None

    def take(self) -> bool:
        """Apply new events; False when told to list again."""
        assert self.watching is not None
        events, self.taken = self.watching.events[self.taken :], len(self.watching.events)
        for kind, obj in events:
            if kind == "ERROR":
                assert obj["code"] == 410
                self.version = 0
                return False
            self.apply(kind, obj)
        return True

    def apply(self, kind: str, obj: dict[str, Any]) -> None:
        version = int(obj["metadata"]["resourceVersion"])
        if kind == "BOOKMARK":
            assert version >= self.version
            self.version = version
            return
        assert version > self.version, "out of order, or twice"
        self.version = version
        name = obj["metadata"]["name"]
        assert (kind == "ADDED") == (name not in self.state), (kind, name)
        if kind == "DELETED":
            del self.state[name]
        else:
            self.state[name] = str(version)


STEPS = st.sampled_from(["put", "put", "put", "flip", "delete", "delete", "compact", "settle", "drop", "minute"])


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=40), st.integers(0, 10_000), st.sampled_from(["", "on%3D1", "on!%3D1"]))
def test_list_and_watch_converge(steps: list[str], seed: int, selector: str) -> None:
    async def write(api: ApiServer, random: Random, step: str) -> None:
        name = f"c{random.randrange(4)}"
        try:
            if step == "delete":
                await api.client.delete(CONFIGMAPS, name, "default")
            else:
                on = {"metadata": {"labels": {"on": str(random.randrange(2))}}} if step == "flip" else {}
                await api.client.patch(CONFIGMAPS, name, "default", {"data": {"n": str(random.random())}, **on})
        except ApiError as e:
            assert e.code == 404
            if step != "delete":
                labels = {"on": str(random.randrange(2))}
                await api.client.create(CONFIGMAPS, {"metadata": {"name": name, "labels": labels}}, "default")

    async def main() -> None:
        random = Random(seed)
        async with ApiServer(seed=seed) as api:
            follower = Follower(api, selector)
            await follower.connect(listed=True)
            for step in steps:
                if step == "compact":
                    await api.store.compact(api.store.revision)
                elif step == "settle":
                    await api.settle()
                elif step == "minute":
                    await api.advance(61)
                elif step == "drop":
                    await follower.disconnect()
                    await follower.connect(listed=False)
                else:
                    await write(api, random, step)
                if not follower.take():
                    await follower.disconnect()
                    await follower.connect(listed=True)
            await api.settle()
            while not follower.take():
                await follower.disconnect()
                await follower.connect(listed=True)
            query = f"labelSelector={selector}" if selector else ""
            response = await api.request("GET", f"{PATH}?{query}")
            body = orjson.loads(b"".join(response.body))  # type: ignore[arg-type]
            assert follower.state == {o["metadata"]["name"]: o["metadata"]["resourceVersion"] for o in body["items"]}
            await follower.disconnect()

    asyncio.run(main())
