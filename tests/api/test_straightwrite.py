"""A write like one before it passes no chain: it is made, answered, noted and counted as any other. Each story asks both ways: over a
connection that has sent its like, and over one that has not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from tests.api.test_alikepatches import nobody_may_write
from tests.api.test_straight import CM, RBAC, Connection, Server, counts, secured, whole

from jota.api import chain
from jota.api.auditpolicy import EVERYTHING
from jota.api.filters.attributes import COMPONENT, User
from jota.api.rbac.index import ROLE_BINDINGS
from jota.client.client import Client
from jota.client.inprocess import InProcess
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, SERVICES
from jota.store.protocol import Unavailable
from jota.testing.cluster import story_in

Object = dict[str, Any]
JSON = "application/json"
MERGE = "application/merge-patch+json"
PODS_URL = "/api/v1/namespaces/default/pods"
SERVICES_URL = "/api/v1/namespaces/default/services"
STRICT = "?fieldManager=hand&fieldValidation=Strict"


@asynccontextmanager
async def ready(policy: Any = EVERYTHING) -> AsyncIterator[Server]:
    """Ada and Bob may do anything with ConfigMaps, Pods and Services."""
    async with secured(policy) as server:
        for name in ("ada", "bob"):
            who = {"kind": "User", "name": name, "apiGroup": RBAC}
            await server.let(f"{name}-writes", who, verbs=["*"], resources=["configmaps", "pods", "services"])
        yield server


story = story_in(ready)


def config(name: str, **more: Any) -> Object:
    return {"metadata": {"name": name}, "data": {"k": "v"}, **more}


class Passes:
    """How many requests passed the chain."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        handle = chain.handle

        def counted(*args: Any) -> Any:
            self.count += 1
            return handle(*args)

        patch.setattr(chain, "handle", counted)


@story
async def test_who_goes_before_the_answer_is_noted_all_the_same(server: Server) -> None:
    """What is begun goes on: nobody changes anything unseen by closing the connection."""
    ada = server.connect()
    for name in "abcdefgh":
        await ada.get(CM, "POST", orjson.dumps(config(name)))
        await ada.get(PODS_URL, "POST", orjson.dumps(_pod(name)))
    places: list[tuple[str, Callable[[str], Object]]] = [(CM, config), (PODS_URL, _pod)]
    for place, make in places:
        for way, connection in (("long", server.connect()), ("short", ada)):
            await server.settle()
            server.lines()
            name = f"gone-{way}"
            work = asyncio.ensure_future(connection.send(place, "POST", orjson.dumps(make(name))))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            work.cancel()
            await server.settle()
            assert (await server.request("GET", f"{place}/{name}")).status == 200
            await server.settle()
            lines = [line for line in server.lines() if b'"create"' in line and b"ResponseComplete" in line]
            assert [orjson.loads(line)["objectRef"]["name"] for line in lines] == [name], (place, way)
    assert server.api.flows.executing() == 0


Send = Callable[[Connection, str], Any]


def _post(url: str, make: Callable[[str], Object]) -> Send:
    return lambda connection, name: connection.get(url, "POST", orjson.dumps(make(name)))


def _put(url: str, make: Callable[[str], Object]) -> Send:
    path, _, query = url.partition("?")
    return lambda connection, name: connection.get(f"{path}/{name}?{query}", "PUT", orjson.dumps(make(name)))


def _pod(name: str) -> Object:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def _patch(body: Object) -> Send:
    return lambda connection, name: connection.get(f"{CM}/{name}", "PATCH", orjson.dumps(body))


CASES: dict[str, tuple[str, Send, int]] = {
    "create": (JSON, _post(CM, config), 201),
    "create with a manager": (JSON, _post(CM + STRICT, config), 201),
    "create what is there": (JSON, _post(CM, lambda _: config("c")), 409),
    "create what is wrong": (JSON, _post(CM, lambda name: config(name, data={"/": "v"})), 422),
    "create what is unknown": (JSON, _post(CM, lambda name: config(name, dat={})), 201),
    "create what is unknown, strictly": (JSON, _post(CM + STRICT, lambda name: config(name, dat={})), 400),
    "create nothing": (JSON, lambda connection, _: connection.get(CM, "POST", b""), 400),
    "create as a dry run": (JSON, _post(CM + "?dryRun=All", config), 201),
    "create as a wrong run": (JSON, _post(CM + "?dryRun=Some", config), 422),
    "create a pod": (JSON, _post(PODS_URL, _pod), 201),
    "create a service, with an address": (
        JSON,
        _post(SERVICES_URL, lambda name: {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}),
        201,
    ),
    "replace": (JSON, _put(CM, config), 200),
    "replace another": (JSON, _put(CM, lambda name: config("other")), 400),
    "patch": (MERGE, _patch({"data": {"k": "2"}}), 200),
    "patch wrongly": (MERGE, _patch({"data": {"k": 2}}), 422),
    "delete": (JSON, lambda connection, name: connection.get(f"{CM}/{name}", "DELETE"), 200),
    "delete another": (
        JSON,
        lambda connection, name: connection.get(
            f"{CM}/{name}", "DELETE", orjson.dumps({"preconditions": {"uid": "other"}})
        ),
        409,
    ),
    "delete what is not there": (JSON, lambda connection, name: connection.get(f"{CM}/no-{name}", "DELETE"), 404),
}


@pytest.mark.parametrize("case", CASES)
def test_answer_and_line_and_counts_are_those_of_the_long_way(case: str) -> None:
    content, send, expected = CASES[case]

    async def main() -> None:
        async with ready() as server:
            for name in ("x0", "x1", "x2") if not case.startswith("create") else ():
                await server.client.create(CONFIGMAPS, config(name), "default")
            ada, seen = server.connect(content_type=content), []
            with pytest.MonkeyPatch.context() as patch:
                passes = Passes(patch)
                await send(ada, "x0")
                for name, connection in (("x1", ada), ("x2", server.connect(content_type=content))):
                    await server.settle()
                    server.lines()
                    before, passed = counts(server), passes.count
                    answer = (await send(connection, name))[1]
                    await server.settle()
                    after = counts(server)
                    grown = {key: more for key in after if (more := after[key] - before.get(key, 0))}
                    lines = [line.replace(name.encode(), b"x") for line in server.lines()]
                    code, headers, body, own = whole(answer)
                    told = _without_own(orjson.loads(body), name)
                    seen.append((passes.count - passed, code, headers, told, own, lines, grown))
            assert [one[0] for one in seen] == [0, 1]
            assert seen[0][1:] == seen[1][1:]
            assert seen[0][1] == expected
            assert len(seen[0][5]) == 1
            assert server.api.flows.executing() == 0

    asyncio.run(main())


def _without_own(body: Object, name: str) -> Object:
    for field in ("uid", "creationTimestamp", "resourceVersion", "managedFields"):
        body["metadata"].pop(field, None)
    body.get("details", {}).pop("uid", None)
    body.get("spec", {}).pop("clusterIP", None)
    body.get("spec", {}).pop("clusterIPs", None)
    text = re.sub(rb"[0-9a-f]{8}-[-0-9a-f]{27}", b"uid", orjson.dumps(body))
    found: Object = orjson.loads(text.replace(name.encode(), b"x"))
    return found


@story
async def test_who_may_no_longer_is_refused(server: Server) -> None:
    ada = server.connect(content_type=JSON)
    for n in range(3):
        assert (await ada.get(CM, "POST", orjson.dumps(config(f"x{n}"))))[1].status == 201
    await server.client.delete(ROLE_BINDINGS, "ada-writes", "default")
    assert (await ada.get(CM, "POST", orjson.dumps(config("x3"))))[1].status == 403


@story
async def test_a_path_that_ends_in_a_slash_is_the_whole_collection(server: Server) -> None:
    ada = server.connect(content_type=JSON)
    for n in range(3):
        await server.client.create(CONFIGMAPS, config(f"x{n}"), "default")
        assert (await ada.get(f"{CM}/x{n}", "DELETE"))[1].status == 200
        assert (await ada.get(f"{CM}/none/", "DELETE"))[1].status == 404
        assert (await ada.get(f"{CM}//status", "PUT", orjson.dumps(config("c"))))[1].status in (403, 404, 405)
    await server.client.create(CONFIGMAPS, config("last"), "default")
    assert (await ada.get(f"{CM}/", "DELETE"))[1].status == 200
    assert not (await server.client.list(CONFIGMAPS, "default"))["items"]


@story
async def test_a_webhook_that_comes_in_between_is_asked(server: Server) -> None:
    ada = server.connect(content_type=JSON)
    for n in range(3):
        assert (await ada.get(f"{CM}/c", "PUT", orjson.dumps(config("c", data={"n": str(n)}))))[1].status == 200
    await nobody_may_write(server, "configmaps")
    assert (await ada.get(f"{CM}/c", "PUT", orjson.dumps(config("c"))))[1].status == 500


@story
async def test_what_the_store_refuses_and_what_fails_is_told(server: Server) -> None:
    ada = server.connect(content_type=JSON)
    await ada.get(CM, "POST", orjson.dumps(config("x0")))
    for problem, code in ((Unavailable("the disk is full"), 503), (ZeroDivisionError("oops"), 500)):
        with pytest.MonkeyPatch.context() as patch:
            passes = Passes(patch)

            async def fails(*_: Any, problem: Exception = problem, **__: Any) -> Any:
                raise problem

            patch.setattr(server.api.store, "put", fails)
            answer = (await ada.get(CM, "POST", orjson.dumps(config("x1"))))[1]
            assert (answer.status, passes.count, server.api.flows.executing()) == (code, 0, 0)
            assert str(problem).encode() in whole(answer)[2]


@story
async def test_who_waits_too_long_is_told_so(server: Server) -> None:
    ada = server.connect(content_type=JSON)
    for n, query in enumerate(("?timeout=10ms", "?timeout=10ms")):
        with pytest.MonkeyPatch.context() as patch:

            async def waits(*_: Any, **__: Any) -> Any:
                await asyncio.Event().wait()

            passes = Passes(patch)
            patch.setattr(server.api.store, "put", waits)
            answer = (await ada.get(CM + query, "POST", orjson.dumps(config("x"))))[1]
            assert (answer.status, passes.count) == (504, 1 - n)
    assert server.api.flows.executing() == 0
    answer = (await ada.get(CM + "?timeout=soon", "POST", orjson.dumps(config("x"))))[1]
    assert answer.status == 400


@story
async def test_who_finds_no_seat_waits_as_others_do(server: Server) -> None:
    ada = server.connect(content_type=JSON)
    for n in range(2):
        await ada.get(CM, "POST", orjson.dumps(config(f"x{n}")))
    with pytest.MonkeyPatch.context() as patch:
        passes = Passes(patch)
        patch.setattr(server.api.flows, "enter", lambda *_: False)
        waiting = asyncio.ensure_future(ada.get(CM, "POST", orjson.dumps(config("x2"))))
        answer = (await waiting)[1]
        assert (answer.status, passes.count) == (201, 1)


def test_what_the_policy_wants_of_bodies_is_noted() -> None:
    rules = [{"level": "RequestResponse", "verbs": ["create"]}, {"level": "Metadata"}]

    async def main() -> None:
        async with ready({"rules": rules, "omitStages": ["RequestReceived"]}) as server:
            ada, asked = server.connect(content_type=JSON), []
            await server.settle()
            server.lines()
            for n in range(3):
                await ada.get(CM, "POST", orjson.dumps(config(f"x{n}")))
            await server.settle()
            asked = [orjson.loads(line)["requestObject"]["metadata"]["name"] for line in server.lines()]
            assert asked == ["x0", "x1", "x2"]

    asyncio.run(main())


@story
async def test_users_of_this_process_are_themselves(server: Server) -> None:
    """Each by its own client, with all that authorization says of it."""
    ada, eve = (Client(InProcess(server.api.reply, User(name))) for name in ("ada", "eve"))
    await ada.create(CONFIGMAPS, config("first"), "default")
    with pytest.MonkeyPatch.context() as patch:
        passes = Passes(patch)
        for n in range(4):
            await ada.create(CONFIGMAPS, config(f"x{n}"), "default")
            with pytest.raises(ApiError) as refused:
                await eve.create(CONFIGMAPS, config(f"y{n}"), "default")
            assert refused.value.code == 403
        assert passes.count == 4  # all of eve's
    lines = [orjson.loads(line) for line in server.lines()]
    assert {line["user"]["username"] for line in lines if "-" not in line["user"]["username"]} >= {"ada", "eve"}


@story
async def test_who_impersonates_is_asked_each_time(server: Server) -> None:
    transport = InProcess(server.api.reply, COMPONENT)
    for n in range(3):
        headers = {"content-type": JSON, "impersonate-user": "eve"}
        reply = await transport.request("POST", CM, "", orjson.dumps(config(f"x{n}")), headers)
        assert reply.status == 403


@story
async def test_allocated_addresses_are_free_again_when_nothing_was_written(server: Server) -> None:
    ada = server.connect(content_type=JSON)
    spec = {"clusterIP": "10.96.0.77", "ports": [{"port": 80}]}
    body = orjson.dumps({"metadata": {"name": "s"}, "spec": spec})
    await ada.get(SERVICES_URL, "POST", orjson.dumps({"metadata": {"name": "first"}, "spec": {"ports": [{"port": 1}]}}))
    with pytest.MonkeyPatch.context() as patch:

        async def refuses(*_: Any, **__: Any) -> Any:
            raise Unavailable("no")

        patch.setattr(server.api.store, "put", refuses)
        assert (await ada.get(SERVICES_URL, "POST", body))[1].status == 503
    assert (await ada.get(SERVICES_URL, "POST", body))[1].status == 201
    assert (await server.client.get(SERVICES, "s", "default"))["spec"]["clusterIP"] == "10.96.0.77"
