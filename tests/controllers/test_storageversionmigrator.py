"""Storage migrations: objects move to the storage version, one migration of a resource at a time, and every end is told."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from jota.client.client import Client
from jota.controllers.controller import ControllerConfig
from jota.controllers.storageversionmigrator import StorageVersionMigrator, plan
from jota.controllers.table import run_controllers
from jota.kinds.apiextensions.crd import CRDS
from jota.kinds.storagemigration.storageversionmigration import MIGRATIONS
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, NAMESPACES, Resource
from jota.testing.cluster import ApiServer

from .stories import running

Object = dict[str, Any]
V1, V2 = (Resource("example.com", v, "widgets", "Widget") for v in ("v1", "v2"))
NAME = "widgets.example.com"


def definition(storage: str, *names: str, **spec: Any) -> Object:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}}
    versions = [
        {"name": n, "served": True, "storage": n == storage, "schema": {"openAPIV3Schema": schema}} for n in names
    ]
    plural = {"plural": "widgets", "kind": "Widget"}
    base = {"group": "example.com", "scope": "Namespaced", "names": plural, "versions": versions}
    return {"metadata": {"name": NAME}, "spec": {**base, **spec}}


async def widgets(api: ApiServer, count: int = 3) -> None:
    """Some, stored as v1; the storage version is v2 then."""
    await api.client.create(CRDS, definition("v1", "v1", "v2"))
    await api.until(lambda: ("example.com", "v2", "widgets") in api.api.served)
    for i in range(count):
        await api.client.create(V1, {"metadata": {"name": f"w{i:04}"}, "spec": {"a": "x"}}, "ns")
    await api.client.patch(CRDS, NAME, "", {"spec": definition("v2", "v1", "v2")["spec"]})
    await api.settle()


def migration(name: str = "m", group: str = "example.com", plural: str = "widgets") -> Object:
    return {"metadata": {"name": name}, "spec": {"resource": {"group": group, "resource": plural}}}


def stored(api: ApiServer) -> list[str]:
    """The versions that the widgets lie in."""
    found = api.store.range("/example.com/widgets/")
    return [(e.value or b"").partition(b'"~":"')[2].partition(b" ")[0].decode() for e in found]


def state(obj: Object) -> dict[str, tuple[str, str, str]]:
    return {c["type"]: (c["status"], c["reason"], c["message"]) for c in obj["status"].get("conditions", [])}


async def read(api: ApiServer, name: str = "m") -> Object:
    found: Object = await api.client.get(MIGRATIONS, name)
    return found


SUCCEEDED = {"Succeeded": ("True", "StorageVersionMigrationSucceeded", "")}


def test_every_object_moves_and_the_definition_forgets_the_old_version() -> None:
    async def tale() -> None:
        async with running() as api:
            await widgets(api, 1100)
            before = {o["metadata"]["name"]: o for o in (await api.client.list(V2))["items"]}
            assert set(stored(api)) == {"v1"}
            at = api.store.revision
            await api.client.create(MIGRATIONS, migration())
            await api.advance(5)
            done = await read(api)
            assert state(done) == SUCCEEDED
            assert int(done["status"]["resourceVersion"]) >= at
            assert stored(api) == ["v2"] * 1100
            after = {o["metadata"]["name"]: o for o in (await api.client.list(V2))["items"]}
            for name, obj in after.items():
                was = before[name]
                assert obj["metadata"]["resourceVersion"] != was["metadata"]["resourceVersion"]
                for key in ("uid", "generation", "managedFields"):
                    assert obj["metadata"].get(key) == was["metadata"].get(key)
                assert obj["spec"] == was["spec"]
            crd = await api.client.get(CRDS, NAME)
            assert crd["status"]["storedVersions"] == ["v2"]
            text = "The migration has succeeded and the stored versions have been updated"
            assert state(crd)["StorageMigrating"] == ("False", "MigrationSucceeded", text)
            spec = definition("v2", "v2")["spec"]
            await api.client.patch(CRDS, NAME, "", {"spec": spec})
            revision = api.store.revision
            await api.client.create(MIGRATIONS, migration("again"))
            await api.advance(5)
            assert state(await read(api, "again")) == SUCCEEDED
            moved = [e for e in api.store.range("/example.com/widgets/") if e.revision > revision]
            assert moved == [], "what lies right is not written again"

    asyncio.run(tale())


def test_one_at_a_time_the_oldest_first() -> None:
    def open_(name: str, age: int = 0, *conditions: Object) -> Object:
        stamp = f"2026-01-01T00:00:0{age}Z"
        return {"metadata": {"name": name, "creationTimestamp": stamp}, "status": {"conditions": list(conditions)}}

    def is_(type_: str, status: str = "True") -> Object:
        return {"type": type_, "status": status}

    a, b = open_("a", 2), open_("b", 1)
    assert (plan(a, [a, b]), plan(b, [a, b])) == ("wait", "start")
    same = open_("c", 1)
    assert (plan(same, [same, b]), plan(b, [same, b])) == ("wait", "start")
    active = open_("x", 3, is_("Running"))
    assert (plan(active, [active, b]), plan(b, [active, b])) == ("migrate", "wait")
    ending = open_("y", 1, is_("Running", "False"), is_("Failed"))
    assert (plan(ending, [ending, a]), plan(a, [ending, a])) == ("finish", "wait")
    over = open_("z", 1, is_("Succeeded"))
    assert (plan(over, [over, a]), plan(a, [over, a])) == ("nothing", "start")


def test_two_of_the_same_resource_both_succeed() -> None:
    async def tale() -> None:
        async with running() as api:
            await widgets(api)
            for name in ("one", "two"):
                await api.client.create(MIGRATIONS, migration(name))
            await api.advance(5)
            for name in ("one", "two"):
                assert state(await read(api, name)) == SUCCEEDED

    asyncio.run(tale())


def test_a_built_in_resource() -> None:
    async def tale() -> None:
        async with running() as api:
            await api.client.create(CONFIGMAPS, {"metadata": {"name": "c"}}, "ns")
            await api.client.create(MIGRATIONS, migration(group="", plural="configmaps"))
            await api.advance(5)
            assert state(await read(api)) == SUCCEEDED

    asyncio.run(tale())


def test_a_resource_that_is_not_there_is_waited_for_and_then_not_any_more() -> None:
    async def tale() -> None:
        async with running() as api:
            await api.client.create(MIGRATIONS, migration())
            await api.client.create(MIGRATIONS, migration("never", "other.example.com"))
            await api.advance(20)
            assert (await read(api))["status"].get("conditions", []) == []
            await api.client.create(CRDS, definition("v1", "v1"))
            await api.advance(20)
            assert state(await read(api)) == SUCCEEDED
            await api.advance(60)
            failed = {"Failed": ("True", "StorageVersionMigrationFailed", "resource not found")}
            assert state(await read(api, "never")) == failed

    asyncio.run(tale())


def test_a_webhook_that_does_not_answer_fails_the_migration() -> None:
    async def tale() -> None:
        async with running() as api:
            await widgets(api)
            client = {"service": {"name": "no", "namespace": "ns"}}
            webhook = {"clientConfig": client, "conversionReviewVersions": ["v1"]}
            crd = await api.client.get(CRDS, NAME)
            crd["spec"]["conversion"] = {"strategy": "Webhook", "webhook": webhook}
            await api.client.update(CRDS, crd)
            await api.client.create(MIGRATIONS, migration())
            await api.advance(5)
            why = 'conversion webhook for example.com/v1, Kind=Widget failed: service "no" not found'
            text = f"migration encountered unhandled error: {why}"
            assert state(await read(api)) == {"Failed": ("True", "StorageVersionMigrationFailed", text)}
            assert set(stored(api)) == {"v1"}
            crd = await api.client.get(CRDS, NAME)
            assert crd["status"]["storedVersions"] == ["v1", "v2"]

    asyncio.run(tale())


def test_a_definition_that_changed_meanwhile_keeps_its_stored_versions() -> None:
    async def tale() -> None:
        async with running() as api:
            await widgets(api)
            made = await api.client.create(MIGRATIONS, migration())
            # as if the process had died between the two ends of a migration, and the definition was changed then
            now = made["metadata"]["creationTimestamp"]
            await api.advance(5)
            crd = await api.client.get(CRDS, NAME)
            mark = {"type": "StorageMigrating", "status": "True", "reason": "MigrationRunning", "message": "m"}
            others = [c for c in crd["status"]["conditions"] if c["type"] != "StorageMigrating"]
            generation = crd["metadata"]["generation"] - 1
            crd["status"]["conditions"] = [
                *others,
                {**mark, "lastTransitionTime": now, "observedGeneration": generation},
            ]
            crd["status"]["storedVersions"] = ["v1", "v2"]
            done = await read(api)
            running_ = {"type": "Running", "status": "False", "reason": "MigrationRunning", "message": ""}
            done["status"]["conditions"].append({**running_, "lastTransitionTime": now})
            # both at once: a definition that says so alone would be one that was left behind
            await asyncio.gather(api.client.update(MIGRATIONS, done, "status"), api.client.update(CRDS, crd, "status"))
            await api.advance(5)
            crd = await api.client.get(CRDS, NAME)
            assert crd["status"]["storedVersions"] == ["v1", "v2"]
            assert state(crd)["StorageMigrating"][2].endswith("have not been updated due to a generation mismatch")
            assert state(await read(api)) == SUCCEEDED

    asyncio.run(tale())


@pytest.mark.parametrize("finalizers", [[], ["example.com/hold"]], ids=["gone", "held"])
@pytest.mark.parametrize("busy", [False, True], ids=["seen while it waits", "seen when it goes on"])
def test_a_migration_that_is_deleted_while_it_runs_leaves_no_mark(finalizers: list[str], busy: bool) -> None:
    """Neither on the definition nor on a namesake; and it touches nothing more."""
    halted, go_on = asyncio.Event(), asyncio.Event()

    def halting(client: Client) -> Client:
        """The second page of widgets is not given before `go_on`."""
        real = client.transport.request

        async def request(method: str, path: str, query: str = "", *rest: Any, **named: Any) -> Any:
            if method == "GET" and path.endswith("/widgets") and "continue=" in query and not halted.is_set():
                halted.set()
                await go_on.wait()
            return await real(method, path, query, *rest, **named)

        client.transport.request = request  # type: ignore[method-assign]
        return client

    async def tale() -> None:
        async with running(client=halting) as api:
            await widgets(api, 1100)
            made = migration()
            await api.client.create(MIGRATIONS, {**made, "metadata": {**made["metadata"], "finalizers": finalizers}})
            await api.until(halted.is_set)
            assert state(await api.client.get(CRDS, NAME))["StorageMigrating"][0] == "True"
            assert state(await read(api))["Running"][0] == "True"
            await api.client.delete(MIGRATIONS, "m")
            if finalizers:
                await api.client.patch(MIGRATIONS, "m", "", {"metadata": {"finalizers": None}})
            if not busy:
                await api.advance(5)
                told = state(await api.client.get(CRDS, NAME))["StorageMigrating"]
                assert told[:2] == ("False", "MigrationFailed")
            go_on.set()
            await api.advance(5)
            assert stored(api).count("v2") <= 1000, "what was asked for when it was deleted is the last"
            assert state(await api.client.get(CRDS, NAME))["StorageMigrating"][:2] == ("False", "MigrationFailed")
            assert (await api.client.get(CRDS, NAME))["status"]["storedVersions"] == ["v1", "v2"]
            await api.client.create(MIGRATIONS, migration())
            await api.settle()
            assert "Failed" not in state(await read(api))
            await api.advance(10)
            assert state(await read(api)) == SUCCEEDED
            assert (await api.client.get(CRDS, NAME))["status"]["storedVersions"] == ["v2"]

    asyncio.run(tale())


def test_a_mark_that_was_left_while_nobody_looked_is_taken_off() -> None:
    """The process died between the mark on the definition and all else, and the migration was deleted before the next."""

    async def tale() -> None:
        async with ApiServer() as api:
            await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
            await widgets(api)
            crd = await api.client.get(CRDS, NAME)
            mark = {"type": "StorageMigrating", "status": "True", "reason": "MigrationRunning", "message": "m"}
            crd["status"]["conditions"].append({**mark, "lastTransitionTime": "2026-01-01T00:00:00Z"})
            await api.client.update(CRDS, crd, "status")
            stop = asyncio.Event()
            work = run_controllers(
                api.client, api.clock, ControllerConfig(), stop, random=Random(1), controllers=[StorageVersionMigrator]
            )
            task = asyncio.ensure_future(work)
            await api.advance(5)
            assert state(await api.client.get(CRDS, NAME))["StorageMigrating"][0] == "False"
            stop.set()
            await task

    asyncio.run(tale())


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (["Succeeded", "Failed"], "Both success and failed conditions cannot be true at the same time"),
        (["Succeeded", "Running"], "Running condition cannot be true when success condition is true"),
        (["Failed", "Running"], "Running condition cannot be true when failed condition is true"),
    ],
)
def test_what_a_status_may_not_say(conditions: list[str], message: str) -> None:
    async def tale() -> None:
        async with ApiServer() as api:
            made = await api.client.create(MIGRATIONS, migration())
            base = {"status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
            status = {"conditions": [{"type": t, **base} for t in conditions]}
            with pytest.raises(ApiError, match=message):
                await api.client.update(MIGRATIONS, {**made, "status": status}, "status")
            with pytest.raises(ApiError, match="field is immutable"):
                await api.client.patch(MIGRATIONS, "m", "", {"spec": {"resource": {"resource": "others"}}})

    asyncio.run(tale())


def test_it_is_one_of_the_controllers() -> None:
    from jota.controllers.table import CONTROLLERS

    assert StorageVersionMigrator in CONTROLLERS
