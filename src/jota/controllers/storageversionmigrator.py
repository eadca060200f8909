"""StorageVersionMigrations -> every object of the named resource written once more, so that it lies in the storage version.

One migration of a resource runs at a time, the oldest first (`plan`). It is marked Running, and its CustomResourceDefinition
StorageMigrating; then each object gets an empty patch that is bound to its uid and resourceVersion: who wrote it meanwhile has
migrated it. At the end it is Succeeded or Failed, and a definition that did not change meanwhile keeps only its storage version
in status.storedVersions. Every step can be done again: an object that lies right already is not written. A definition whose
migration was deleted while it ran is told so, too; upstream leaves it StorageMigrating.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import msgspec

from jota.aio.clock import parse_rfc3339, rfc3339
from jota.controllers.controller import Context, Controller, Object
from jota.controllers.discovery import discover
from jota.kinds.apiextensions.crd import CRDS, storage_version
from jota.kinds.shape import deep, part, parts, text
from jota.kinds.storagemigration.storageversionmigration import MIGRATIONS
from jota.meta import conditions
from jota.meta.errors import ApiError
from jota.meta.resource import Resource

PAGE = 500
APPEARS_WITHIN = 60.0
"""Seconds after its creation in which a migration waits for its resource to be served."""
LOOK_AGAIN = 5.0
RUNNING, SUCCEEDED, FAILED, MIGRATING = "Running", "Succeeded", "Failed", "StorageMigrating"
OF_DEFINITION = "definition/"
"""Keys of definitions in the queue begin so; no migration's name has a slash."""
Step = Literal["nothing", "wait", "start", "migrate", "finish"]


class _Meta(msgspec.Struct, gc=False):
    name: str
    uid: str = ""
    resourceVersion: str = ""


class _Condition(msgspec.Struct, gc=False):
    type: str = ""
    status: str = ""


class _Status(msgspec.Struct, gc=False):
    conditions: list[_Condition] | None = None


class Definition(msgspec.Struct, gc=False):
    """What is read of a CustomResourceDefinition."""

    metadata: _Meta
    status: _Status = msgspec.field(default_factory=_Status)

    @property
    def migrating(self) -> bool:
        return any(c.type == MIGRATING and c.status == "True" for c in self.status.conditions or ())


class Impossible(Exception):
    """The migration has failed for good; the text is the condition's message."""


def state(migration: Object, type_: str) -> bool:
    return conditions.is_true(parts(part(migration, "status"), "conditions"), type_)


def ended(migration: Object) -> bool:
    return state(migration, SUCCEEDED) or state(migration, FAILED)


def settled(migration: Object) -> bool:
    """It has ended, and has nothing more to say."""
    return ended(migration) and conditions.find(parts(part(migration, "status"), "conditions"), RUNNING) is None


def plan(mine: Object, same: Iterable[Object]) -> Step:
    """What is next for a migration; `same`: all migrations of its resource, itself included."""
    if ended(mine):
        return "nothing" if settled(mine) else "finish"
    if state(mine, RUNNING):
        return "migrate"
    open_ = [m for m in same if not ended(m)]
    # the one before it has still to say that it is done with the definition
    if any(conditions.find(parts(part(m, "status"), "conditions"), RUNNING) for m in same):
        return "wait"
    first = min(open_, key=lambda m: (text(m["metadata"], "creationTimestamp"), m["metadata"]["name"]))
    return "start" if first["metadata"]["name"] == mine["metadata"]["name"] else "wait"


class StorageVersionMigrator(Controller):
    name: ClassVar[str] = "storage-version-migrator-controller"
    workers: ClassVar[int] = 5

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.migrations = self.watch(MIGRATIONS, self._concerned)
        self.definitions = self.watch(
            CRDS, lambda d: (f"{OF_DEFINITION}{d.metadata.name}",), when=lambda _, d: d is not None and d.migrating,
            type=Definition,
        )  # fmt: skip

    def _concerned(self, changed: Object) -> Iterable[str]:
        """Itself, those of the same resource that may wait for it, and the definition that it may leave behind."""
        own = changed["metadata"]["name"]
        return {own, f"{OF_DEFINITION}{_crd_of(changed)}", *(m["metadata"]["name"] for m in self._same(changed))}

    def _same(self, migration: Object) -> list[Object]:
        wanted = deep(migration, "spec", "resource")
        return [m for m in self.migrations.list() if deep(m, "spec", "resource") == wanted]

    async def reconcile(self, key: str) -> float | None:
        if key.startswith(OF_DEFINITION):
            await self._abandoned(key.removeprefix(OF_DEFINITION))
            return None
        migration = self.migrations.get(key)
        if migration is None or migration["metadata"].get("deletionTimestamp"):
            return None
        step = plan(migration, self._same(migration))
        try:
            if step == "start":
                return await self._start(key, migration)
            if step == "migrate":
                if await self._migrate(key, migration):
                    await self._end(key, migration, SUCCEEDED, "StorageVersionMigrationSucceeded", "")
            elif step == "finish":
                await self._finish(key, migration)
        except Impossible as problem:
            await self._end(key, migration, FAILED, "StorageVersionMigrationFailed", str(problem))
        return None

    async def _abandoned(self, name: str) -> None:
        """A definition that says StorageMigrating, but every migration of it is gone or over: it says so no more."""
        found = self.definitions.get(name)
        if found is None or not found.migrating:
            return
        if all(settled(m) for m in self.migrations.list() if _crd_of(m) == name):
            text = "The migration has failed: it was deleted or given up before it ended"
            await self._mark(name, status="False", reason="MigrationFailed", message=text)

    # -- steps

    async def _start(self, key: str, migration: Object) -> float | None:
        resource = await self._resource(migration)
        if resource is None:
            age = self.clock.now() - parse_rfc3339(migration["metadata"]["creationTimestamp"])
            if age < APPEARS_WITHIN:
                return LOOK_AGAIN
            raise Impossible("resource not found")
        about = f"Migration {key} is running"
        await self._mark(_crd_of(migration), status="True", reason="MigrationRunning", message=about)
        newest = await self._list(resource, limit=1)
        status = {**part(migration, "status"), "resourceVersion": newest["metadata"]["resourceVersion"]}
        status["conditions"] = self._condition(status, RUNNING, "True", "MigrationRunning", "The migration is running")
        await self._write(key, migration, status)
        return None

    async def _migrate(self, key: str, migration: Object) -> bool:
        """False: it was deleted meanwhile, and is given up. Raises Impossible, and ApiError for what may pass."""
        resource = await self._resource(migration)
        if resource is None:
            raise Impossible("resource not found")
        token = ""
        while self._wanted(key, migration):
            try:
                page = await self._list(resource, PAGE, token)
            except ApiError as problem:
                if problem.code != 410:
                    raise
                # it took so long that history is gone: what is left, as it is now, and anew without a token
                token = problem.continue_token
                continue
            for item in page["items"]:
                await self._touch(resource, item["metadata"])
            token = page["metadata"].get("continue", "")
            if not token:
                return self._wanted(key, migration)
        return False

    def _wanted(self, key: str, migration: Object) -> bool:
        meta = (self.migrations.get(key) or {"metadata": {}})["metadata"]
        return meta.get("uid") == migration["metadata"]["uid"] and "deletionTimestamp" not in meta

    async def _touch(self, resource: Resource, meta: Object) -> None:
        patch = {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}}
        try:
            await self.client.patch(resource, meta["name"], meta.get("namespace", ""), patch)
        except ApiError as problem:
            # gone, or written by somebody else in the meantime: migrated either way
            if problem.code not in (404, 409):
                raise _judged(problem) from None

    async def _list(self, resource: Resource, limit: int, token: str = "") -> Object:
        try:
            return await self.client.list(resource, limit=limit, continue_=token, metadata=True)
        except ApiError as problem:
            raise _judged(problem) from None

    async def _end(self, key: str, migration: Object, type_: str, reason: str, message: str) -> None:
        """What must be undone besides is `_finish`'s: it comes back as a change."""
        status = dict(part(migration, "status"))
        running = conditions.find(parts(status, "conditions"), RUNNING)
        if running is None:
            status["conditions"] = self._condition(status, type_, "True", reason, message)
        else:
            said = (text(running, "reason"), text(running, "message"))
            status["conditions"] = self._condition(status, RUNNING, "False", *said)
            status["conditions"] = self._condition(status, type_, "True", reason, message)
        await self._write(key, migration, status)

    async def _finish(self, key: str, migration: Object) -> None:
        name, done = _crd_of(migration), state(migration, SUCCEEDED)
        reason, text = ("MigrationSucceeded", "succeeded") if done else ("MigrationFailed", "failed")
        await self._mark(name, status="False", reason=reason, message=f"The migration has {text}")
        status = dict(part(migration, "status"))
        status["conditions"] = conditions.remove(parts(status, "conditions"), RUNNING)
        await self._write(key, migration, status)

    # -- parts

    async def _resource(self, migration: Object) -> Resource | None:
        """The resource in its storage version where that is served, else in the preferred one; None: it is not served."""
        wanted = deep(migration, "spec", "resource")
        name = (text(wanted, "group"), text(wanted, "resource"))
        found = next((r for r in (await discover(self.client)).resources if (r.group, r.plural) == name), None)
        crd = await self._definition(_crd_of(migration)) if found is not None else None
        if found is None or crd is None:
            return found
        storage = storage_version(crd)
        served = any(v.get("name") == storage and v.get("served") for v in parts(part(crd, "spec"), "versions"))
        return found._replace(version=storage) if served else found

    async def _definition(self, name: str) -> Object | None:
        try:
            found: Object = await self.client.get(CRDS, name)
        except ApiError as problem:
            if problem.code == 404:
                return None
            raise
        return found

    async def _mark(self, name: str, *, status: str, reason: str, message: str) -> None:
        """Say on the definition what goes on; after a success it forgets the versions that nothing is stored in any more."""
        crd = await self._definition(name)
        if crd is None:
            return
        new, generation = dict(part(crd, "status")), crd["metadata"].get("generation", 0)
        before = conditions.find(parts(new, "conditions"), MIGRATING)
        if status == "False" and (before is None or before.get("status") != "True"):
            return  # this was done before
        same = before is not None and before.get("observedGeneration") == generation
        if reason == "MigrationSucceeded":
            message += (
                " and the stored versions have been updated"
                if same
                else (" but the stored versions have not been updated due to a generation mismatch")
            )
            if same:
                new["storedVersions"] = [storage_version(crd)]
        new["conditions"] = conditions.set(
            parts(new, "conditions"),
            MIGRATING,
            status,
            now=rfc3339(self.clock.now()),
            reason=reason,
            message=message,
            observed_generation=generation,
        )
        await self.client.update(CRDS, {**crd, "status": new}, "status")

    def _condition(self, status: Object, type_: str, value: str, reason: str, message: str) -> list[Any]:
        now = rfc3339(self.clock.now())
        found = conditions.set(parts(status, "conditions"), type_, value, now=now, reason=reason, message=message)
        # `message` is a required field of metav1.Condition
        return [{**c, "message": c.get("message", "")} for c in found]

    async def _write(self, key: str, migration: Object, status: Object) -> None:
        new = await self.client.update(MIGRATIONS, {**migration, "status": status}, "status")
        self.wrote(key, self.migrations, new)


def _crd_of(migration: Object) -> str:
    """The name of the definition that its resource has, if it has one."""
    wanted = deep(migration, "spec", "resource")
    return f"{text(wanted, 'resource')}.{text(wanted, 'group')}"


def _judged(problem: ApiError) -> Exception:
    """What passes by itself is tried again; any other refusal is the end of the migration."""
    if problem.code in (410, 429, 503, 504):
        return problem
    return Impossible(f"migration encountered unhandled error: {problem.message}")
