"""What a caller may not reach, asked of everything that is served: kinds, custom kinds, aggregated ones, all subresources.

The list of what there is comes from discovery itself, so a new kind or subresource is asked as soon as it is served. What is
open is written down here in full; everything else must be closed, and closed doors must look the same whatever is behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from random import Random
from typing import NamedTuple

import orjson
import pytest

from jota.api.config import ApiConfig
from jota.api.filters.attributes import User
from jota.api.rbac.index import ROLE_BINDINGS
from jota.api.security import secure, write_roles
from jota.meta.resource import CONFIGMAPS, NODES, PODS, SECRETS
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer

RBAC = "rbac.authorization.k8s.io"
MARK = "behind-the-door"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
EVE = User("eve", groups=("system:authenticated",))
"""Admin of "hers"."""
VIC = User("vic", groups=("system:authenticated",))
"""Viewer of "hers"."""
ROY = User("roy", groups=("system:authenticated",))
"""Who may do everything in "hers"."""
NODE = User("system:node:n1", groups=("system:nodes", "system:authenticated"))
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
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"},
                },
            }
        ],
    },
}
ANYBODYS = {
    "authentication.k8s.io/v1/selfsubjectreviews",
    "authorization.k8s.io/v1/selfsubjectaccessreviews",
    "authorization.k8s.io/v1/selfsubjectrulesreviews",
}
"""What every user may create (system:basic-user)."""


class Door(NamedTuple):
    """A resource, or one of its subresources."""

    group: str
    version: str
    plural: str
    sub: str
    namespaced: bool

    @property
    def name(self) -> str:
        return "/".join(part for part in (self.group, self.version, self.plural, self.sub) if part)

    def path(self, namespace: str, name: str, *, watched: bool = False) -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        where = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        end = "".join(f"/{part}" for part in (name, self.sub) if part)
        return f"{root}{'/watch' if watched else ''}{where}/{self.plural}{end}"


async def doors(server: ApiServer) -> list[Door]:
    found = []
    for root in ("/api", "/apis"):
        response = await server.request("GET", root, accept=AGGREGATED)
        for group in orjson.loads(response.body)["items"]:  # type: ignore[arg-type]
            for version in group["versions"]:
                for resource in version["resources"]:
                    named = group["metadata"].get("name", ""), version["version"], resource["resource"]
                    for sub in ("", *(s["subresource"] for s in resource.get("subresources", ()))):
                        found.append(Door(*named, sub, resource["scope"] == "Namespaced"))
    # another server's: it does not answer here, and must not even be asked
    return [
        *found,
        Door("far.example.com", "v1", "things", "", True),
        Door("far.example.com", "v1", "things", "status", True),
    ]


@asynccontextmanager
async def cluster() -> AsyncIterator[ApiServer]:
    server = ApiServer(config=ApiConfig(runtime_config={"api/all": True}))
    secure(server.api, TokenSigner(TokenSigner.create_key()), "https://issuer")
    async with server:
        await write_roles(server.api)
        await server.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD)
        await server.until(lambda: ("example.com", "v1", "widgets") in server.api.served)
        foreign = {"group": "far.example.com", "version": "v1", "groupPriorityMinimum": 10, "versionPriority": 10}
        foreign["service"] = {"namespace": "theirs", "name": "api"}  # type: ignore[assignment]
        body = {"metadata": {"name": "v1.far.example.com"}, "spec": foreign}
        await server.request("POST", "/apis/apiregistration.k8s.io/v1/apiservices", body)
        await server.client.create(NODES, {"metadata": {"name": "n1", "labels": {"mark": MARK}}})
        for namespace in ("hers", "theirs"):
            await server.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
            labels = {"mark": MARK}
            await server.client.create(
                SECRETS, {"metadata": {"name": "kept", "labels": labels}, "stringData": {"k": MARK}}, namespace
            )
            await server.client.create(
                CONFIGMAPS, {"metadata": {"name": "kept", "labels": labels}, "data": {"k": MARK}}, namespace
            )
            pod = {
                "metadata": {"name": "kept", "labels": labels},
                "spec": {"containers": [{"name": "c", "image": MARK}]},
            }
            await server.client.create(PODS, pod, namespace)
            widget = {
                "apiVersion": "example.com/v1",
                "kind": "Widget",
                "metadata": {"name": "kept"},
                "spec": {"n": 1, "k": MARK},
            }
            await server.request("POST", f"/apis/example.com/v1/namespaces/{namespace}/widgets", widget)
        for user, role in (("eve", "admin"), ("vic", "view"), ("roy", "cluster-admin")):
            subject = {"kind": "User", "apiGroup": RBAC, "name": user}
            ref = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
            await server.client.create(
                ROLE_BINDINGS, {"metadata": {"name": user}, "roleRef": ref, "subjects": [subject]}, "hers"
            )
        yield server


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
BODY = orjson.dumps({"metadata": {"name": "kept"}})


async def knock(server: ApiServer, user: User, method: str, path: str) -> tuple[int, str]:
    media = "application/merge-patch+json" if method == "PATCH" else "application/json"
    body = BODY if method in ("POST", "PUT", "PATCH") else b""
    response = await server.request(method, path, body, user=user, content_type=media)
    if response.stream is not None or response.upgrade is not None:
        return response.status, ""
    parts = [response.body] if isinstance(response.body, bytes) else response.body
    return response.status, b"".join(parts).decode()


def ways_in(door: Door, namespace: str) -> Iterator[tuple[str, str]]:
    """(method, path) of every way to a door, the odd ones too."""
    names = ("kept", "absent") if door.sub else ("", "kept", "absent")
    for name in names:
        for method in METHODS:
            yield method, door.path(namespace, name)
    if not door.sub:
        for query in (
            "watch=1",
            "fieldSelector=metadata.namespace%3Dhers",
            "labelSelector=mark",
            "fieldSelector=metadata.name%3Dkept",
        ):
            yield "GET", f"{door.path(namespace, '')}?{query}"
        yield "GET", f"{door.path(namespace, 's')}?watch=1"
        yield "GET", door.path(namespace, "", watched=True)
        yield "GET", door.path(namespace, "kept", watched=True)
        yield "DELETE", f"{door.path(namespace, '')}?labelSelector=mark"
    if namespace == "theirs":
        yield "GET", door.path("%74heirs", "kept")


def test_a_namespaces_admin_is_a_stranger_everywhere_else() -> None:
    async def story() -> None:
        async with cluster() as server:
            everything = await doors(server)
            assert len(everything) > 130
            for door in everything:
                for namespace in ("theirs", "") if door.namespaced and not door.sub else ("theirs",):
                    for method, path in ways_in(door, namespace):
                        status, text = await knock(server, EVE, method, path)
                        told = (method, path, status, text)
                        if door.name in ANYBODYS and method == "POST":
                            continue
                        if door.plural == "namespaces" and not door.sub and path.endswith("/theirs"):
                            continue
                        assert status == 403, told
                        assert MARK not in text, told

    asyncio.run(story())


def test_what_stands_in_no_namespace_is_not_reached_through_one() -> None:
    """RBAC judges by the namespace in the path: for who may do everything there, the path must not lead anywhere else."""

    async def story() -> None:
        async with cluster() as server:
            before = server.store.revision
            for door in await doors(server):
                if door.namespaced:
                    continue
                inside = door._replace(namespaced=True)
                for method, path in ways_in(inside, "hers"):
                    status, text = await knock(server, ROY, method, path)
                    assert status in (404, 405), (method, path, status, text)
                    assert MARK not in text
                for name in ("n1", "hers", "theirs", "kube-system"):
                    status, text = await knock(server, ROY, "GET", inside.path("hers", name))
                    assert status == 404, (inside.path("hers", name), status, text)
            assert server.store.revision == before, "something was written"
            assert (await knock(server, ROY, "GET", "/api/v1/namespaces/hers"))[0] == 200

    asyncio.run(story())


PIECES = [
    *(
        "namespaces",
        "namespaces/theirs",
        "theirs",
        "%74heirs",
        "hers%2Ftheirs",
        "%2e%2e/theirs",
        "kube-system",
        "watch",
    ),
    *(
        "nodes",
        "nodes/n1",
        "clusterroles/cluster-admin",
        "certificatesigningrequests/kept",
        "apps/v1",
        "..",
        "*",
        "%2F",
    ),
    *(
        "secrets",
        "secrets/kept",
        "configmaps/kept",
        "theirs%2Fkept",
        "pods/kept",
        "widgets/kept",
        "serviceaccounts/default",
    ),
    *("status", "proxy", "proxy/pods", "finalize", "approval", "log", "scale", "binding", "token"),
]
QUERIES = [
    "",
    "watch=1&timeoutSeconds=1",
    "fieldSelector=metadata.namespace%3Dtheirs",
    "fieldSelector=metadata.name%3Dkept",
    "labelSelector=mark",
    "limit=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiLi4vdGhlaXJzLyJ9",
]
STARTS = ["/api/v1/namespaces/hers", "/api/v1/watch/namespaces/hers", "/api/v1", "/apis"]
STARTS += [f"/apis/{group}/v1/namespaces/hers" for group in ("example.com", RBAC, "certificates.k8s.io")]


@pytest.mark.parametrize("seed", range(4))
def test_no_path_leads_out_of_a_namespace(seed: int) -> None:
    """Whoever may do everything in one asks along paths that nobody would think of: of others nothing is said, nothing changes."""

    async def story() -> None:
        random = Random(seed)
        async with cluster() as server:
            await server.request("DELETE", "/api/v1/namespaces/hers/secrets")
            for plural in ("pods", "configmaps"):
                await server.request("DELETE", f"/api/v1/namespaces/hers/{plural}?gracePeriodSeconds=0")
            await server.request("DELETE", "/apis/example.com/v1/namespaces/hers/widgets")
            before = {entry.key: entry.value for entry in server.store.range("/")}
            for _ in range(2500):
                pieces = random.choices([*PIECES, "", ""], k=random.randrange(1, 4))
                path = "/".join([random.choice(STARTS), *pieces])
                query = random.choice(QUERIES)
                status, text = await knock(server, ROY, random.choice(METHODS), f"{path}?{query}" if query else path)
                assert status >= 300 or MARK not in text, (path, query, text)
            after = {entry.key: entry.value for entry in server.store.range("/")}
            changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
            assert not {key for key in changed if "/hers" not in key}

    asyncio.run(story())


def test_what_is_behind_a_closed_door_cannot_be_told_from_the_refusal() -> None:
    async def story() -> None:
        async with cluster() as server:
            for door in await doors(server):
                for method in METHODS:
                    there = await knock(server, EVE, method, door.path("theirs", "kept"))
                    absent = await knock(server, EVE, method, door.path("theirs", "absent"))
                    nowhere = await knock(server, EVE, method, door.path("nowhere", "kept"))
                    if there[0] != 403:
                        continue
                    assert there[1].replace("kept", "?") == absent[1].replace("absent", "?")
                    assert there[1].replace("theirs", "?") == nowhere[1].replace("nowhere", "?")

    asyncio.run(story())


NOT_FOR_VIEWERS = ("secrets", "roles", "rolebindings", "proxy", "exec", "attach", "portforward", "token", "widgets")


def test_a_viewer_changes_nothing_and_sees_no_secret() -> None:
    async def story() -> None:
        async with cluster() as server:
            before = server.store.revision
            for door in await doors(server):
                if not door.namespaced:
                    continue
                for method, path in ways_in(door, "hers"):
                    status, text = await knock(server, VIC, method, path)
                    closed = method not in ("GET", "HEAD") or {door.plural, door.sub} & set(NOT_FOR_VIEWERS)
                    if door.name == "authorization.k8s.io/v1/localsubjectaccessreviews":
                        closed = True
                    if closed:
                        assert status == 403, (method, path, status, text)
            assert server.store.revision == before, "something was written"

    asyncio.run(story())


OPEN_TO_NODES = {
    (method, name)
    for methods, names in (
        # what routes traffic and starts pods: the service proxy and DNS run with their node's credential
        ("GET HEAD", "v1/endpoints v1/namespaces v1/nodes v1/services discovery.k8s.io/v1/endpointslices"),
        ("GET HEAD", "networking.k8s.io/v1/servicecidrs"),
        ("GET HEAD", "node.k8s.io/v1/runtimeclasses storage.k8s.io/v1/csidrivers"),
        ("GET HEAD", "certificates.k8s.io/v1/clustertrustbundles certificates.k8s.io/v1beta1/clustertrustbundles"),
        ("GET HEAD POST", "certificates.k8s.io/v1/certificatesigningrequests"),
        ("POST PUT PATCH", "v1/events events.k8s.io/v1/events"),
        # its own node and pods: the admission plugin NodeRestriction says which, and that an absent one is absent
        ("POST PUT PATCH", "v1/nodes"),
        ("PUT PATCH", "v1/nodes/status v1/pods/status"),
        ("POST DELETE", "v1/pods"),
        ("POST", "v1/pods/eviction storage.k8s.io/v1/csinodes"),
        # well-formed ones for its own pods: the admission plugin NodePodCertificates says which
        ("POST", "certificates.k8s.io/v1/podcertificaterequests"),
        # asks on behalf of who calls its kubelet API
        ("POST", "authentication.k8s.io/v1/tokenreviews authorization.k8s.io/v1/subjectaccessreviews"),
        ("POST", "authorization.k8s.io/v1/localsubjectaccessreviews"),
    )
    for method in methods.split()
    for name in names.split()
}


def test_a_node_reaches_its_own_and_what_is_written_here() -> None:
    """Objects named "kept" and "absent" are not n1's: what is not refused is open to all nodes, and listed."""

    async def story() -> set[tuple[str, str]]:
        open_: set[tuple[str, str]] = set()
        async with cluster() as server:
            for door in await doors(server):
                for namespace in ("theirs", "") if door.namespaced and not door.sub else ("theirs",):
                    for method, path in ways_in(door, namespace):
                        if door.name in ANYBODYS:
                            continue
                        status, text = await knock(server, NODE, method, path)
                        if status != 403:
                            open_.add((method, door.name))
                        if door.plural == "secrets":
                            assert MARK not in text
                            assert status == 403, (method, path, text)
        return open_

    found = asyncio.run(story())
    assert found == OPEN_TO_NODES, sorted(found ^ OPEN_TO_NODES)
