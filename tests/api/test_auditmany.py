"""What was done by one request for many is in the audit log as if each had come alone."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import orjson
from tests.api.test_audit import Kept

from jota.api.audit import Audit
from jota.api.auditpolicy import EVERYTHING
from jota.api.filters.attributes import COMPONENT
from jota.client.client import Client
from jota.client.inprocess import InProcess
from jota.meta.resource import BINDINGS, PODS
from jota.testing.cluster import ApiServer

Object = dict[str, Any]
BODY = orjson.dumps({"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "a", "image": "i"}]}})
STATUS = {"status": {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}}


class Meta(msgspec.Struct):
    name: str


class Made(msgspec.Struct):
    metadata: Meta


def binding(pod: str) -> Object:
    meta = {"name": pod, "namespace": "default"}
    target = {"apiVersion": "v1", "kind": "Node", "name": "n"}
    return {"apiVersion": "v1", "kind": "Binding", "metadata": meta, "target": target}


class Story:
    def __init__(self, api: ApiServer, policy: Object) -> None:
        self.api, self.kept, self.client = api, Kept(), Client(InProcess(api.api.handle, COMPONENT), user_agent="us/1")
        self._policy = policy

    async def begin(self) -> None:
        """Some are known already: the first of its kind is made by itself."""
        await self.client.create_alike(PODS, BODY, "default", 1, type=Made)
        self.api.api.audit = Audit(self._policy, self.kept, self.api.clock)

    async def told(self) -> list[Object]:
        """Since the last look, without what is never the same; the id of each is its own."""
        await self.api.settle()
        found = [orjson.loads(line) for line in self.kept.lines]
        self.kept.lines.clear()
        assert len({event.pop("auditID") for event in found}) == len(found)
        for event in found:
            for key in ("requestReceivedTimestamp", "stageTimestamp"):
                event.pop(key)
        return found


def audited(policy: Object, test: Any) -> None:
    async def main() -> None:
        async with ApiServer() as api:
            story = Story(api, policy)
            await story.begin()
            await test(story)

    asyncio.run(main())


async def make(story: Story, count: int) -> list[str]:
    """In one go, or alone where that is wanted."""
    names: list[str] = []
    while len(names) < count:
        found = await story.client.create_alike(PODS, BODY, "default", count - len(names), type=Made)
        names += [made.metadata.name for made in found]
    return names


def named(events: list[Object], names: list[str], other: list[str]) -> list[Object]:
    """The events with other names."""
    text = orjson.dumps(events).decode()
    for old, new in zip(names, other, strict=True):
        text = text.replace(old, new)
    found: list[Object] = orjson.loads(text)
    return found


def test_each_is_noted_as_if_it_had_come_alone() -> None:
    async def test(story: Story) -> None:
        client = story.client
        names = await make(story, 3)
        created = await story.told()
        assert len(created) == 3
        assert await client.create_each(BINDINGS, [binding(name) for name in names], "default") == [True] * 3
        bound = await story.told()
        assert (
            await client.patch_each(PODS, [(n, STATUS) for n in names], "default", "strategic", "status") == [True] * 3
        )
        patched = await story.told()
        assert await client.delete_each(PODS, [(n, "") for n in names], "default", grace=0) == [True] * 3
        deleted = await story.told()

        other = []
        for _ in range(3):
            other += [m.metadata.name for m in await client.create_alike(PODS, BODY, "default", 1, type=Made)]
        assert created == await story.told()
        for name in other:
            await client.create(BINDINGS, binding(name), "default")
        assert named(bound, names, other) == await story.told()
        for name in other:
            await client.patch(PODS, name, "default", STATUS, type="strategic", subresource="status")
        assert named(patched, names, other) == await story.told()
        for name in other:
            await client.delete(PODS, name, "default", grace=0)
        assert named(deleted, names, other) == await story.told()

    audited(EVERYTHING, test)


def test_what_was_not_done_is_not_noted() -> None:
    async def test(story: Story) -> None:
        names = await make(story, 2)
        await story.told()
        sent = [(names[0], STATUS), ("nobody", STATUS), (names[1], {"status": {"nonsense": 1}})]
        assert await story.client.patch_each(PODS, sent, "default", "strategic", "status") == [True, False, False]
        assert [event["objectRef"]["name"] for event in await story.told()] == [names[0]]

    audited(EVERYTHING, test)


def test_where_nothing_is_noted_all_go_together() -> None:
    async def test(story: Story) -> None:
        names = await make(story, 3)
        sent = [(name, "") for name in names]
        assert await story.client.delete_each(PODS, sent, "default", grace=0) == [True] * 3
        assert await story.told() == []

    audited({"rules": [{"level": "None"}]}, test)


def test_a_policy_that_judges_by_names_or_wants_bodies_sees_each() -> None:
    async def test(story: Story) -> None:
        names = await make(story, 2)
        await story.told()
        sent = [(name, "") for name in names]
        assert await story.client.delete_each(PODS, sent, "default", grace=0) == [False] * 2
        assert await story.told() == []
        assert len(await story.client.create_alike(PODS, BODY, "default", 5, type=Made)) == 1
        assert len(await story.told()) == 1

    by_name = {"level": "None", "resources": [{"group": "", "resources": ["secrets"], "resourceNames": ["d"]}]}
    omitted = {"omitStages": ["RequestReceived"]}
    audited({"rules": [by_name, {"level": "Metadata"}], **omitted}, test)
    audited({"rules": [{"level": "RequestResponse"}], **omitted}, test)
