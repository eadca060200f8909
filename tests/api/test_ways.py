"""The short ways are the long one: whatever is asked, in whatever order, and whoever may at the time, a server that knows its clients
(Api.reply) answers, stores, notes and counts what one does that looks at each request (Api.handle)."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import orjson
import pytest
from tests.api.test_alikepatches import nobody_may_write
from tests.api.test_straight import RBAC, Server, counts, secured, whole
from tests.api.test_straightwrite import Passes, config

from jota.api.filters.attributes import COMPONENT
from jota.api.rbac.index import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES
from jota.meta.resource import CONFIGMAPS, LEASES, PODS
from jota.wire.message import Request

Object = dict[str, Any]
STEPS = 120
CORE, LEASE_URL = "/api/v1/namespaces/default", "/apis/coordination.k8s.io/v1/namespaces/default/leases"
NAMES = ["a", "b", "status", "configmaps", "A", ""]
QUERIES = [
    "",
    "",
    "",
    "",
    "fieldManager=hand",
    "dryRun=All",
    "fieldValidation=Strict",
    "timeout=9s",
    "timeout=x",
    "pretty=true",
]
MEDIA = ["application/json", "application/merge-patch+json", "application/strategic-merge-patch+json"]
ACCEPT = [
    "application/json",
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    "application/yaml",
    "text/html",
]
ADMIN = {"kind": "User", "name": "ada", "apiGroup": RBAC}


def body_of(random: Random, place: str, name: str) -> bytes:
    meta: Object = {"name": name} if random.random() < 0.8 else {"generateName": "g-"}
    if random.random() < 0.1:
        meta |= random.choice(
            [{"uid": "u"}, {"resourceVersion": "7"}, {"labels": {"-": "wrong"}}, {"finalizers": ["a/b"]}]
        )
    made: Object = {"metadata": meta}
    if place.endswith("leases"):
        made["spec"] = {"renewTime": f"2026-01-01T00:00:00.{random.randrange(9):06}Z"}
    elif place.endswith("pods"):
        made["spec"] = {"containers": [{"name": "c", "image": "i"}], "automountServiceAccountToken": False}
        made["status"] = {"phase": "Running", "podIP": f"10.0.0.{random.randrange(1, 9)}"}
    elif place.endswith("volumes"):
        made["spec"] = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"], "hostPath": {"path": "/x"}}
        made["status"] = {"phase": random.choice(["Bound", "Available"])}
    else:
        made["data"] = {"k": random.choice(["v", "w"])}
    if random.random() < 0.1:
        made["unknown"] = 1
    return random.choice([b"", b"{", b"[]", b"null"]) if random.random() < 0.05 else orjson.dumps(made)


def request_of(random: Random) -> Request:
    place = random.choice([f"{CORE}/configmaps", f"{CORE}/pods", LEASE_URL, "/api/v1/persistentvolumes"])
    method = random.choice(["GET", "POST", "POST", "PUT", "PUT", "PATCH", "PATCH", "DELETE"])
    name = random.choice(NAMES[:-1] if method in ("GET", "DELETE") else NAMES)
    path = place if method == "POST" and random.random() < 0.9 else f"{place}/{name}"
    if method in ("GET", "PUT", "PATCH") and random.random() < 0.4:
        path += "/status"
    headers = {"host": "x", "user-agent": "a/1", "accept": "application/json", "content-type": MEDIA[0]}
    if method == "PATCH":
        headers["content-type"] = random.choice(MEDIA[1:])
    if random.random() < 0.15:
        headers["accept"] = random.choice(ACCEPT)
    sent = b"" if method in ("GET", "DELETE") else body_of(random, place, name)
    return Request(method, path, random.choice(QUERIES), headers, sent)


async def prepared(stack: AsyncExitStack) -> Server:
    server = await stack.enter_async_context(secured())
    rule = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    await server.client.create(CLUSTER_ROLES, {"metadata": {"name": "all"}, "rules": [rule]})
    await _let(server)
    return server


async def _let(server: Server) -> None:
    ref = {"kind": "ClusterRole", "apiGroup": RBAC, "name": "all"}
    await server.client.create(
        CLUSTER_ROLE_BINDINGS, {"metadata": {"name": "all"}, "roleRef": ref, "subjects": [ADMIN]}
    )


async def _turn(server: Server, step: int, happens: float) -> None:
    """What changes for everybody now and then."""
    if happens < 0.03:
        await server.advance(1)
    elif happens < 0.04 and step > STEPS // 2:
        await server.client.delete(CLUSTER_ROLE_BINDINGS, "all")
    elif happens < 0.05 and step > STEPS // 2:
        await nobody_may_write(server, "pods")
    elif happens < 0.2:
        for resource in (CONFIGMAPS, PODS, LEASES):
            made = {**config(f"s{step}"), "spec": {"containers": [{"name": "c", "image": "i"}]}}
            for field in {CONFIGMAPS: ["spec"], LEASES: ["data", "spec"], PODS: ["data"]}[resource]:
                made.pop(field)
            await server.client.create(resource, made, "default")
    if happens < 0.05:
        bound = await server.client.list(CLUSTER_ROLE_BINDINGS, fields="metadata.name=all")
        if not bound["items"] and 0.03 <= happens < 0.04 and step % 2:
            await _let(server)


def plain(data: bytes) -> bytes:
    """Without what is drawn or counted anew each time."""
    data = re.sub(rb"[0-9a-f]{8}-[0-9a-f]{4}-[-0-9a-f]{22}", b"ID", data)
    return re.sub(rb"\bg-[a-z0-9]{5}\b", b"DRAWN", data)


@pytest.mark.parametrize("seed", range(8))
def test_short_and_long_are_the_same(seed: int) -> None:
    async def main() -> tuple[int, int]:
        random, short, foreseen = Random(seed), 0, 0
        async with AsyncExitStack() as stack:
            passes = Passes(stack.enter_context(pytest.MonkeyPatch.context()))
            known, asked = [await prepared(stack) for _ in range(2)]
            ada, bob = known.connect(), asked.connect()
            for step in range(STEPS):
                request, happens = request_of(random), random.random()
                again = random.choice([1, 1, 7])
                for server in (known, asked):
                    await _turn(server, step, happens)
                for turn in range(again):
                    if request.method == "POST" and again > 1:
                        request.body = re.sub(
                            rb'"name":"[^"]*"', b'"name":"n%d-%d"' % (step, turn), request.body, count=1
                        )
                    url = f"{request.path}?{request.query}" if request.query else request.path
                    got = []
                    for server, connection in ((known, ada), (asked, bob)):
                        await server.settle()
                        server.lines()
                        before = counts(server)
                        passed = passes.count
                        if server is known:
                            connection._headers = request.headers
                            connection._alikes = by_headers(connection, request)
                            at_once, answer = await connection.get(url, request.method, request.body)
                            short += passes.count == passed
                            foreseen += at_once and request.method != "GET"
                        else:
                            sent = Request(
                                request.method, request.path, request.query, {**request.headers}, request.body
                            )
                            sent.peer = connection._peer
                            answer = await server.api.handle(sent)
                        await server.settle()
                        after = counts(server)
                        grown = {key: more for key in after if (more := after[key] - before.get(key, 0))}
                        code, headers, body, own = whole(answer)
                        lines = [plain(line) for line in server.lines()]
                        got.append((code, headers, plain(body), plain(own), lines, grown))
                    assert got[0] == got[1], (step, request)
            assert await dump(known) == await dump(asked)
            assert known.api.flows.executing() == asked.api.flows.executing() == 0
        return short, foreseen

    short, foreseen = asyncio.run(main())
    assert short > STEPS // 2
    assert foreseen > 0


def by_headers(connection: Any, request: Request) -> Any:
    """Requests are alike that have the same method and headers."""
    kept = connection.__dict__.setdefault("kept", {})
    return kept.setdefault(tuple(request.headers.items()), type(connection._alikes)(connection._alikes.default_factory))


async def dump(server: Server) -> list[bytes]:
    found = []
    for url in (f"{CORE}/configmaps", f"{CORE}/pods", LEASE_URL, "/api/v1/persistentvolumes"):
        answer = await server.request("GET", url, user=COMPONENT)
        found += [plain(orjson.dumps(item)) for item in orjson.loads(whole(answer)[2])["items"]]
    return sorted(found)
