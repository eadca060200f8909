"""A write of which it is known what it makes passes no chain: it is made, answered, noted and counted as any other. Each story asks
both ways."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from tests.api.test_alikepatches import nobody_may_write
from tests.api.test_apart import STRATEGIC, VOLUMES
from tests.api.test_straight import ADA, Connection, Server, counts, secured, whole

from jota.api.rbac.index import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS
from jota.meta.resource import CONFIGMAPS, LEASES, PODS, Resource
from jota.store.protocol import Unavailable
from jota.testing.cluster import story_in
from jota.wire.message import Response

Object = dict[str, Any]
WHERE = "/api/v1/namespaces/default/pods"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}


def running(n: int, **more: Any) -> bytes:
    ip = f"10.0.0.{n}"
    status = {"phase": "Running", "conditions": [READY], "hostIP": "10.9.0.1", "podIP": ip, "podIPs": [{"ip": ip}]}
    return orjson.dumps({"status": {**status, **more}})


def renewed(n: int) -> bytes:
    return orjson.dumps({"spec": {"renewTime": f"2026-01-01T00:00:00.{n:06}Z"}})


@asynccontextmanager
async def ready(**policy: Any) -> AsyncIterator[Server]:
    """Pods p0 to p9 and leases l0 to l9, which ada may patch; the first of each has been."""
    async with secured(**policy) as server:
        rule = {"verbs": ["patch"], "resources": ["pods", "pods/status", "leases"]}
        await server.let("patches", ADA, **rule)
        for n in range(10):
            spec = {"containers": [{"name": "c", "image": "i"}], "automountServiceAccountToken": False, "nodeName": "n"}
            await server.client.create(PODS, {"metadata": {"name": f"p{n}"}, "spec": spec}, "default")
            await server.client.create(LEASES, {"metadata": {"name": f"l{n}"}, "spec": {"renewTime": None}}, "default")
        await server.advance(1)
        yield server


story = story_in(ready)


def connect(server: Server, **headers: str) -> Connection:
    return server.connect(content_type=STRATEGIC, **headers)


def status(n: int) -> str:
    return f"{WHERE}/p{n}/status"


async def learned(server: Server, connection: Connection) -> None:
    """Pods p0 and p1 run; the next one's patch passes no chain."""
    for n in range(2):
        assert (await connection.get(status(n), "PATCH", running(n)))[1].status == 200


async def patched(connection: Connection, n: int) -> tuple[bool, int]:
    straight, answer = await connection.get(status(n), "PATCH", running(n))
    return straight, answer.status


@pytest.mark.parametrize("accept", ["application/json", METADATA])
def test_answer_and_line_and_counts_are_those_of_the_long_way(accept: str) -> None:
    async def main() -> None:
        async with ready() as server:
            ada, bob = connect(server, accept=accept), connect(server, accept=accept)
            await learned(server, ada)
            seen = []
            for n, connection in ((2, ada), (3, bob)):  # bob's is the first of its connection
                await server.settle()
                server.lines()
                before = counts(server)
                straight, answer = await connection.get(status(n), "PATCH", running(n))
                await server.settle()
                after = counts(server)
                code, headers, body, own = whole(answer)
                got = orjson.loads(body)
                stored = await server.client.get(PODS, f"p{n}", "default")
                assert got["metadata"] == stored["metadata"]
                assert ("status" in got) == (accept == "application/json")
                assert stored["status"]["podIP"] == f"10.0.0.{n}"
                lines = [line.replace(b"p%d" % n, b"p") for line in server.lines()]
                grown = {key: more for key in after if (more := after[key] - before.get(key, 0))}
                seen.append((straight, code, headers, own, lines, grown))
            assert [one[0] for one in seen] == [True, False]
            assert seen[0][1:] == seen[1][1:]
            assert seen[0][1] == 200
            assert len(seen[0][4]) == 1

    asyncio.run(main())


VOLUMES_URL = "/api/v1/persistentvolumes"


def volume(name: str, **more: Any) -> Object:
    holder = {"kind": "PersistentVolumeClaim", "namespace": "default", "name": name}
    spec = {"accessModes": ["ReadOnlyMany"], "capacity": {"storage": "1Gi"}, "claimRef": holder}
    return {"metadata": {"name": name}, "spec": {**spec, "hostPath": {"path": "/x"}}, **more}


def pod(**meta: Any) -> Object:
    return {
        "metadata": meta,
        "spec": {"containers": [{"name": "c", "image": "i"}], "automountServiceAccountToken": False},
    }


MAKES: dict[str, tuple[str, str, Any, bool]] = {
    "a pod by its name": ("POST", WHERE, lambda name: pod(name=name), True),
    "a pod by a prefix": ("POST", WHERE, lambda _: pod(generateName="g-"), True),
    "a pod with a uid": ("POST", WHERE, lambda name: pod(name=name, uid="u"), True),
    "a volume": ("POST", VOLUMES_URL, volume, True),
    "a volume, strictly": ("POST", VOLUMES_URL + "?fieldManager=m&fieldValidation=Strict", volume, True),
    "a volume as a dry run": ("POST", VOLUMES_URL + "?dryRun=All", volume, False),
    "a volume that is wrong": ("POST", VOLUMES_URL, lambda name: volume(name, spec={}), False),
    "a volume that is there": ("POST", VOLUMES_URL, lambda _: volume("v0"), False),
    "a status": ("PUT", VOLUMES_URL + "/%s/status", lambda name: volume(name, status={"phase": "Bound"}), True),
}


@pytest.mark.parametrize("accept", ["application/json", METADATA])
@pytest.mark.parametrize("case", MAKES)
def test_creations_and_statuses_are_made_so(case: str, accept: str) -> None:
    method, url, make, foreseen = MAKES[case]

    async def main() -> None:
        async with ready() as server:
            await server.let("makes", ADA, verbs=["create"], resources=["pods"])
            rules = [
                {"verbs": ["*"], "apiGroups": [""], "resources": ["persistentvolumes", "persistentvolumes/status"]}
            ]
            await server.client.create(CLUSTER_ROLES, {"metadata": {"name": "v"}, "rules": rules})
            ref = {"kind": "ClusterRole", "apiGroup": ROLE_BINDINGS.group, "name": "v"}
            binding = {"metadata": {"name": "v"}, "roleRef": ref, "subjects": [ADA]}
            await server.client.create(CLUSTER_ROLE_BINDINGS, binding)
            names = [f"v{n}" for n in range(6)]
            for name in names if "%s" in url else names[:1]:
                await server.client.create(VOLUMES, volume(name))
            await server.advance(1)
            ada, bob = (server.connect(content_type="application/json", accept=accept) for _ in range(2))

            def send(connection: Connection, name: str) -> Any:
                return connection.get(url % name if "%s" in url else url, method, orjson.dumps(make(name)))

            for name in names[1:4]:
                await send(ada, name)
            seen = []
            for name, connection in ((names[4], ada), (names[5], bob)):
                await server.settle()
                server.lines()
                before = counts(server)
                straight, answer = await send(connection, name)
                await server.settle()
                after = counts(server)
                grown = {key: more for key in after if (more := after[key] - before.get(key, 0))}
                code, headers, body, own = whole(answer)
                told = orjson.loads(body)
                if foreseen:
                    kept = await server.client.get(
                        _resource(url), told["metadata"]["name"], "default" if url == WHERE else ""
                    )
                    assert kept["metadata"] == told["metadata"]
                own_name = told["metadata"].get("name", "none").encode()
                lines = [re.sub(own_name + b"|" + name.encode(), b"x", line) for line in server.lines()]
                seen.append((straight, code, headers, _alike(told, own_name, name), own, lines, grown))
            assert [one[0] for one in seen] == [foreseen, False]
            assert seen[0][1:] == seen[1][1:]
            assert len(seen[0][5]) == 1
            assert executing(server) == 0

    asyncio.run(main())


def _resource(url: str) -> Resource:
    return PODS if url == WHERE else VOLUMES


def _alike(body: Object, own_name: bytes, name: str) -> Object:
    for field in ("uid", "creationTimestamp", "resourceVersion"):
        body["metadata"].pop(field, None)
    found: Object = orjson.loads(re.sub(own_name + b"|" + name.encode(), b"x", orjson.dumps(body)))
    return found


@story
async def test_a_name_that_is_taken_meanwhile_is_another_one(server: Server) -> None:
    await server.let("makes", ADA, verbs=["create"], resources=["pods"])
    ada = server.connect(content_type="application/json")
    body = orjson.dumps(pod(generateName="g-"))
    for _ in range(3):
        assert (await ada.get(WHERE, "POST", body))[1].status == 201
    with pytest.MonkeyPatch.context() as patch:
        drawn = iter(["taken", "taken", "taken", "free"])
        patch.setattr("jota.meta.names.generate_name", lambda *_: next(drawn))
        first, second = (ada.send(WHERE, "POST", body) for _ in range(2))
        assert isinstance(first, asyncio.Future)
        assert not isinstance(second, (Response, asyncio.Future))
        made = [orjson.loads(whole(await one)[2])["metadata"]["name"] for one in (first, second)]
    assert made == ["taken", "free"]


@story
async def test_what_it_needs_and_is_gone_is_warned_of(server: Server) -> None:
    await server.let("makes", ADA, verbs=["create"], resources=["pods"])
    ada = server.connect(content_type="application/json")
    sent = pod(generateName="g-")
    sent["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "c"}}]
    for _ in range(3):
        assert (await ada.get(WHERE, "POST", orjson.dumps(sent)))[1].status == 201
    straight, answer = await ada.get(WHERE, "POST", orjson.dumps(sent))
    assert (straight, "Warning" in dict(answer.headers)) == (True, False)
    await server.client.delete(CONFIGMAPS, "c", "default")
    straight, answer = await ada.get(WHERE, "POST", orjson.dumps(sent))
    assert (straight, "Warning" in dict(answer.headers)) == (True, True)


@story
async def test_leases_are_renewed_so(server: Server) -> None:
    ada, answers = connect(server), []
    for turn in range(4):
        for n in range(3):
            straight, answer = await ada.get(f"{LEASE}/l{n}", "PATCH", renewed(10 * turn + n))
            assert answer.status == 200
            answers.append(straight)
            lease = await server.client.get(LEASES, f"l{n}", "default")
            assert lease["spec"]["renewTime"] == f"2026-01-01T00:00:00.{10 * turn + n:06}Z"
        await server.advance(2)
    assert answers[-6:] == [True] * 6


@story
async def test_who_may_no_longer_is_refused(server: Server) -> None:
    ada = connect(server)
    await learned(server, ada)
    assert await patched(ada, 2) == (True, 200)
    await server.client.delete(ROLE_BINDINGS, "patches", "default")
    assert await patched(ada, 3) == (False, 403)
    rule = {"verbs": ["patch"], "apiGroups": [""], "resources": ["pods/status"], "resourceNames": ["p3"]}
    await server.let("names", ADA, **rule)
    assert await patched(ada, 3) == (False, 200)
    assert await patched(ada, 4) == (False, 403)


@story
async def test_what_is_unlike_goes_the_long_way(server: Server) -> None:
    ada = connect(server)
    await learned(server, ada)
    for body, code in (
        (running(2, message="other"), 200),
        (orjson.dumps({"metadata": {"uid": "other"}, "status": {"phase": "Running"}}), 409),
        (b'{"status":', 400),
        (b'{"status":{"phase":1}}', 422),
    ):
        straight, answer = await ada.get(status(2), "PATCH", body)
        assert (straight, answer.status) == (False, code), body
    assert (await ada.get(status(99), "PATCH", running(2)))[0] is False
    straight, answer = await ada.get(f"{status(3)}?dryRun=All", "PATCH", running(3))
    assert (straight, answer.status) == (False, 200)
    assert "podIP" not in (await server.client.get(PODS, "p3", "default"))["status"]
    straight, answer = await ada.get(f"{status(6)}?timeout=5s", "PATCH", running(6))
    assert (straight, answer.status) == (True, 200)
    table = connect(server, accept="application/json;as=Table;g=meta.k8s.io;v=v1")
    for n in (4, 5):
        straight, answer = await table.get(status(n), "PATCH", running(n))
        assert (straight, b'"kind":"Table"' in whole(answer)[2]) == (False, True)


@story
async def test_a_webhook_that_comes_in_between_is_asked(server: Server) -> None:
    ada = connect(server)
    await learned(server, ada)
    await nobody_may_write(server, "pods/status")
    assert await patched(ada, 2) == (False, 500)
    assert "podIP" not in (await server.client.get(PODS, "p2", "default"))["status"]


@story
async def test_two_writes_of_one_pod_wait_for_each_other(server: Server) -> None:
    ada, bob = connect(server), connect(server)
    await learned(server, ada)
    await learned(server, bob)
    assert await patched(bob, 2) == (True, 200)
    first, second = (c.send(status(3), "PATCH", running(3, **more)) for c, more in ((ada, {}), (bob, {"reason": "r"})))
    assert isinstance(first, asyncio.Future)
    assert not isinstance(second, (Response, asyncio.Future))
    answers = [await one for one in (first, second)]
    assert [answer.status for answer in answers] == [200, 200]
    assert (await server.client.get(PODS, "p3", "default"))["status"]["reason"] == "r"


class Slow:
    """A store whose commits end when they are told to."""

    def __init__(self, server: Server, patch: pytest.MonkeyPatch) -> None:
        self.told: Any = None
        patch.setattr(server.api.store, "submit", self._submit)

    def _submit(self, _: Any, told: Any) -> bool:
        self.told = told
        return True


def executing(server: Server) -> int:
    return server.api.flows.executing()


@story
async def test_what_the_store_refuses_is_told_in_the_words_of_the_long_way(server: Server) -> None:
    ada = connect(server)
    await learned(server, ada)
    with pytest.MonkeyPatch.context() as patch:
        slow = Slow(server, patch)
        answer = ada.send(status(2), "PATCH", running(2))
        assert isinstance(answer, asyncio.Future)
        assert executing(server) == 1

        async def refuses(*_: Any, **__: Any) -> Any:
            raise Unavailable("the disk is full")

        patch.setattr(server.api.store, "submit", lambda *_: False)
        patch.setattr(server.api.store, "put", refuses)
        slow.told(None, Unavailable("the disk is full"))
        refused = await answer
    assert (refused.status, b"the disk is full" in whole(refused)[2]) == (503, True)
    assert executing(server) == 0
    assert await patched(ada, 2) == (True, 200)


@story
async def test_who_waits_too_long_is_told_so(server: Server) -> None:
    server.api.config.request_timeout = 0.2
    ada = connect(server)
    await learned(server, ada)
    with pytest.MonkeyPatch.context() as patch:
        slow = Slow(server, patch)
        await server.settle()
        server.lines()
        answer = ada.send(status(2), "PATCH", running(2))
        assert isinstance(answer, asyncio.Future)
        late = await answer
        assert (late.status, orjson.loads(whole(late)[2])["reason"]) == (504, "Timeout")
        assert b"Audit-Id: " in late.own
        await server.settle()
        (line,) = server.lines()
        event = orjson.loads(line)
        assert (event["responseStatus"]["code"], event["objectRef"]["name"]) == (504, "p2")
        assert executing(server) == 1  # it is still at work
        slow.told(server.api.store.get("/core/pods/default/p2"), None)
        await server.settle()
        assert (executing(server), server.lines()) == (0, [])


@story
async def test_a_client_that_goes_leaves_its_write_to_end(server: Server) -> None:
    ada = connect(server)
    await learned(server, ada)
    answer = ada.send(status(2), "PATCH", running(2))
    assert isinstance(answer, asyncio.Future)
    answer.cancel()
    await server.settle()
    assert executing(server) == 0
    assert (await server.client.get(PODS, "p2", "default"))["status"]["podIP"] == "10.0.0.2"


@story
async def test_a_namesake_of_the_subresource(server: Server) -> None:
    """A lease may be called `status`."""
    await server.client.create(LEASES, {"metadata": {"name": "status"}, "spec": {}}, "default")
    await server.client.create(LEASES, {"metadata": {"name": "leases"}, "spec": {}}, "default")
    ada = connect(server)
    for n in range(5):
        for name in ("status", "leases", "l1"):
            answer = (await ada.get(f"{LEASE}/{name}", "PATCH", renewed(n)))[1]
            assert (answer.status, orjson.loads(whole(answer)[2])["metadata"]["name"]) == (200, name)
        await server.advance(2)
    assert (await ada.get(f"{LEASE}/status", "PATCH", renewed(9)))[0] is False
    assert (await ada.get(f"{LEASE}/l1", "PATCH", renewed(9)))[0] is True
