"""The short ways are the long one: whatever is asked, in whatever order, and whoever may at the time, a server that knows its clients
(Api.reply) answers, stores, notes and counts what one does that looks at each request (Api.handle)."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack, suppress
from random import Random
from typing import Any

import orjson
import pytest
from tests.api.happenings import EVENTS, Event, calm, definition
from tests.api.test_alikepatches import nobody_may_write
from tests.api.test_straight import RBAC, Server, counts, secured, whole
from tests.api.test_straightwrite import Passes, config

from jota.api.admission.webhooks import VALIDATING as WEBHOOKS
from jota.api.filters.attributes import COMPONENT
from jota.api.rbac.index import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES
from jota.kinds.apiextensions.crd import CRDS
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, LEASES, NAMESPACES, PODS, Resource
from jota.wire.message import Request

Object = dict[str, Any]
LIMIT_RANGES = Resource("", "v1", "limitranges", "LimitRange")
PRIORITIES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False)
STORAGE = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)
STEPS = 120
CORE, LEASE_URL = "/api/v1/namespaces/default", "/apis/coordination.k8s.io/v1/namespaces/default/leases"
LEAVING = "/api/v1/namespaces/leaving/configmaps"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
PLACES = [f"{CORE}/configmaps", f"{CORE}/pods", LEASE_URL, "/api/v1/persistentvolumes"]
MORE_PLACES = [LEAVING, WIDGETS, DEPLOYMENTS, f"{CORE}/persistentvolumeclaims", "/api/v1/nodes"]
NAMES = ["a", "b", "status", "configmaps", "A", "", "%61", "b%2Fstatus"]
QUERIES = [
    *[""] * 6,
    "fieldManager=hand",
    "dryRun=All",
    "dryRun=All&dryRun=None",
    "fieldValidation=Strict",
    "fieldValidation=Ignore",
    "timeout=9s",
    "timeout=x",
    "pretty=true",
    "force=true",
    "resourceVersion=0",
    "gracePeriodSeconds=0",
    "propagationPolicy=Orphan",
    "limit=1",
    "fieldSelector=metadata.name%3Da",
]
JSON_PATCH, APPLY = "application/json-patch+json", "application/apply-patch+yaml"
MEDIA = [
    "application/json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    JSON_PATCH,
    APPLY,
]
ODD_MEDIA = [
    "application/json; charset=utf-8",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "",
    "text/plain",
]
ACCEPT = [
    "application/json",
    "*/*",
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    "application/json;as=Table;g=meta.k8s.io;v=v1",
    "application/vnd.kubernetes.protobuf",
    "application/yaml",
    "text/html",
]
ODD_HEADERS = [
    ("impersonate-user", "eve"),
    ("impersonate-group", "system:masters"),
    ("audit-id", "mine"),
    ("user-agent", "b/2"),
    ("user-agent", "curl/8.1"),
    ("accept-encoding", "gzip"),
    ("authorization", "Bearer nonsense"),
]
BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"NaN",
    b"\xef\xbb\xbf{}",
    b'{"metadata":{"name":"a","name":"b"},"data":{"k":"v"},"data":{"k":"w"}}',
    b'{"metadata":{"name":"a","resource\\u0056ersion":"7"}}',
    b'{"metadata":{"name":"a"},"data":' + b'{"d":' * 999 + b"1" + b"}" * 1000,
    b'{"metadata":{"name":"a","generation":1e400}}',
]
META = [
    {"uid": "u"},
    {"resourceVersion": "7"},
    {"labels": {"-": "wrong"}},
    {"labels": {"l": "m"}},
    {"finalizers": ["a/b"]},
    {"finalizers": None},
    {"managedFields": []},
    {"managedFields": [{}]},
    {"annotations": {"k": "v"}},
    {"namespace": "other"},
    {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "u", "blockOwnerDeletion": True}]},
]
ADMIN = {"kind": "User", "name": "ada", "apiGroup": RBAC}


def body_of(random: Random, place: str, name: str) -> bytes:
    meta: Object = {"name": name} if random.random() < 0.8 else {"generateName": "g-"}
    if random.random() < 0.2:
        meta |= random.choice(META)
    made: Object = {"metadata": meta}
    if place.endswith("leases"):
        made["spec"] = {"renewTime": f"2026-01-01T00:00:00.{random.randrange(9):06}Z"}
    elif place.endswith("pods"):
        made["spec"] = {"containers": [{"name": "c", "image": "i"}], "automountServiceAccountToken": False}
        made["status"] = {"phase": "Running", "podIP": f"10.0.0.{random.randrange(1, 9)}"}
    elif place.endswith("claims"):
        made["spec"] = {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}}
        made["spec"]["volumeName"] = f"v{random.randrange(3)}"
        made["status"] = {"phase": random.choice(["Bound", "Pending"])}
    elif place.endswith("deployments"):
        inner = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        made["spec"] = {"selector": {"matchLabels": {"a": "b"}}, "template": inner, "replicas": random.randrange(3)}
        made["status"] = {"replicas": random.randrange(3)}
    elif place.endswith(("widgets", "nodes")):
        made["spec"] = {"n": random.randrange(3)} if place.endswith("widgets") else {"podCIDR": "10.0.0.0/24"}
        made["status"] = {"phase": random.choice(["Running", "Pending"])}
    elif place.endswith("volumes"):
        made["spec"] = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"], "hostPath": {"path": "/x"}}
        made["status"] = {"phase": random.choice(["Bound", "Available"])}
    else:
        made["data"] = {"k": random.choice(["v", "w"])}
    if random.random() < 0.1:
        made["unknown"] = 1
    if random.random() < 0.05:
        return random.choice(BODIES)
    return orjson.dumps(made)


def patch_of(random: Random, place: str, media: str, made: bytes) -> bytes:
    if media == JSON_PATCH:
        field = random.choice(["/metadata/labels", "/data/k", "/status/phase", "/metadata/annotations", "/spec/n"])
        value = {"l": "m"} if field.startswith("/metadata") else "v"
        steps = [{"op": random.choice(["add", "replace", "remove", "test"]), "path": field, "value": value}]
        return orjson.dumps(steps)
    if media == APPLY and made[:1] == b"{" and random.random() < 0.9:
        kinds = {"configmaps": "ConfigMap", "pods": "Pod", "leases": "Lease", "widgets": "Widget", "nodes": "Node"}
        version = "v1" if place.startswith("/api/") else "/".join(place.split("/")[2:4])
        kind = kinds.get(place.rpartition("/")[2], "Deployment")
        return b'{"apiVersion":"%b","kind":"%b",%b' % (version.encode(), kind.encode(), made[1:])
    return made


def deletion_of(random: Random) -> bytes:
    if random.random() < 0.6:
        return b""
    options: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
    more: list[Object] = [
        {},
        {"preconditions": {"uid": "u"}},
        {"preconditions": {"resourceVersion": "7"}},
        {"gracePeriodSeconds": random.choice([-1, 0, 5])},
        {"propagationPolicy": random.choice(["Foreground", "Orphan", "Background", "Sideways"])},
        {"dryRun": ["All"]},
        {"dryRun": ["All", "Some"]},
        {"orphanDependents": True},
    ]
    return orjson.dumps(options | random.choice(more))


def request_of(random: Random, *, restless: bool) -> Request:
    place = random.choice(MORE_PLACES if restless and random.random() < 0.3 else PLACES)
    method = random.choice(["GET", "POST", "POST", "PUT", "PUT", "PATCH", "PATCH", "DELETE"])
    if restless and random.random() < 0.1:
        method = random.choice(["HEAD", "OPTIONS"])
    name = random.choice(["a", "a", "b", *NAMES])
    path = place if method == "POST" and random.random() < 0.9 else f"{place}/{name}"
    if method in ("GET", "PUT", "PATCH") and random.random() < 0.4:
        path += "/status"
    headers = {"host": "x", "user-agent": "a/1", "accept": "application/json", "content-type": MEDIA[0]}
    if method == "PATCH":
        headers["content-type"] = random.choice(MEDIA[1:] if restless else MEDIA[1:3])
    if random.random() < 0.15:
        headers["accept"] = random.choice(ACCEPT)
    if restless and random.random() < 0.05:
        headers["content-type"] = random.choice(ODD_MEDIA)
    if restless and random.random() < 0.1:
        header, value = random.choice(ODD_HEADERS)
        headers[header] = value
    sent = deletion_of(random) if method == "DELETE" else b""
    if method in ("POST", "PUT", "PATCH"):
        sent = patch_of(random, place, headers["content-type"], body_of(random, place, name))
    query = random.choice(QUERIES) if restless or random.random() < 0.5 else ""
    return Request(method, path, query, headers, sent)


async def prepared(stack: AsyncExitStack) -> Server:
    server = await stack.enter_async_context(secured())
    rule = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    role = {
        "metadata": {"name": "all"},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"part": "yes"}}]},
    }
    await server.client.create(CLUSTER_ROLES, {**role, "rules": []})
    part = {"metadata": {"name": "part", "labels": {"part": "yes"}}, "rules": [rule]}
    await server.client.create(CLUSTER_ROLES, part)
    await _let(server)
    space = {"metadata": {"name": "leaving", "labels": {"l": "m"}}, "spec": {"finalizers": ["kubernetes"]}}
    await server.client.create(NAMESPACES, space)
    await server.client.create(CRDS, definition({"type": "integer"}))
    await server.until(lambda: ("example.com", "v1", "widgets") in server.api.served)
    return server


async def _let(server: Server) -> None:
    ref = {"kind": "ClusterRole", "apiGroup": RBAC, "name": "all"}
    await server.client.create(
        CLUSTER_ROLE_BINDINGS, {"metadata": {"name": "all"}, "roleRef": ref, "subjects": [ADMIN]}
    )


async def _turn(server: Server, step: int, happens: float, event: Event | None) -> None:
    """What changes for everybody now and then."""
    if event is not None and happens > 0.85:
        await event(server)
    elif event is not None and happens > 0.5:  # most of the time things are calm, or nothing would be foreseen
        await calm(server)
    if happens < 0.03:
        await server.advance(1)
    elif happens < 0.04 and step > STEPS // 2:
        with suppress(ApiError):
            await server.client.delete(CLUSTER_ROLE_BINDINGS, "all")
    elif happens < 0.05 and step > STEPS // 2:
        if not (await server.client.list(WEBHOOKS))["items"]:
            await nobody_may_write(server, "pods")
    elif happens < 0.2:
        for resource in (CONFIGMAPS, PODS, LEASES):
            made = {**config(f"s{step}"), "spec": {"containers": [{"name": "c", "image": "i"}]}}
            for field in {CONFIGMAPS: ["spec"], LEASES: ["data", "spec"], PODS: ["data"]}[resource]:
                made.pop(field)
            with suppress(ApiError):
                await server.client.create(resource, made, "default")
    if happens < 0.05:
        bound = await server.client.list(CLUSTER_ROLE_BINDINGS, fields="metadata.name=all")
        if not bound["items"] and 0.03 <= happens < 0.04 and step % 2:
            await _let(server)


def plain(data: bytes) -> bytes:
    """Without what is drawn or counted anew each time."""
    data = re.sub(rb"[0-9a-f]{8}-[0-9a-f]{4}-[-0-9a-f]{22}", b"ID", data)
    return re.sub(rb"\bg-[a-z0-9]{5}\b", b"DRAWN", data)


@pytest.mark.parametrize(("seed", "restless"), [(seed, seed % 2 > 0) for seed in range(8)])
def test_short_and_long_are_the_same(seed: int, restless: bool) -> None:
    async def main() -> tuple[int, int]:
        random, short, foreseen = Random(seed), 0, 0
        async with AsyncExitStack() as stack:
            passes = Passes(stack.enter_context(pytest.MonkeyPatch.context()))
            known, asked = [await prepared(stack) for _ in range(2)]
            ada, bob = known.connect(), asked.connect()
            for step in range(STEPS):
                request, happens = request_of(random, restless=restless), random.random()
                event = random.choice(EVENTS) if restless else None
                again = random.choice([1, 1, 7] if restless else [1, 7])
                for server in (known, asked):
                    await _turn(server, step, happens, event)
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
    assert short > (STEPS // 8 if restless else STEPS // 2)
    assert restless or foreseen > 0


def by_headers(connection: Any, request: Request) -> Any:
    """Requests are alike that have the same method and headers."""
    kept = connection.__dict__.setdefault("kept", {})
    return kept.setdefault(tuple(request.headers.items()), type(connection._alikes)(connection._alikes.default_factory))


async def dump(server: Server) -> list[bytes]:
    found = []
    for url in (*PLACES, *MORE_PLACES):
        answer = await server.request("GET", url, user=COMPONENT)
        found += [plain(orjson.dumps(item)) for item in orjson.loads(whole(answer)[2])["items"]]
    return sorted(found)
