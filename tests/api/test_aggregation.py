"""Another server's group version behind this one, with a real extension server over TLS (jota.testing.extension)."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from jota.aio.clock import SystemClock
from jota.api.aggregation import autoregister, availability, documents, openapi, remote, tls
from jota.api.config import ApiConfig, FrontProxy
from jota.api.filters.attributes import COMPONENT, User
from jota.api.openapi.documents import PROTOBUF, PROTOBUF_ACCEPTED, Document
from jota.api.security import secure, write_roles
from jota.client.client import Client
from jota.client.https import Https
from jota.controllers.discovery import discover
from jota.kinds.apiextensions.crd import CRDS
from jota.kinds.apiregistration.apiservice import APISERVICES, KIND
from jota.kinds.rbac import clusterrole, clusterrolebinding
from jota.meta import conditions
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, ENDPOINTSLICES, NAMESPACES, SERVICEACCOUNTS, SERVICES, Resource
from jota.pki.ca import CertificateAuthority, Subject, private_pem
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer, story
from jota.testing.extension import GROUP, ROOT, VERSION, ExtensionServer
from jota.wire.dial import dial
from jota.wire.http import HttpServer
from jota.wire.message import Request

Object = dict[str, Any]
NAME = f"{VERSION}.{GROUP}"
FLUNDERS = Resource(GROUP, VERSION, "flunders", "Flunder")
BOB = User("böb", "u-1", ("team, one", "system:authenticated"), {"example.com/Scopes": ["a", "b"]})


@dataclass
class World:
    api: ApiServer
    extension: ExtensionServer
    edge: HttpServer
    directory: Path
    bundle: str
    authorities: dict[str, CertificateAuthority]
    port: int = 0

    async def register(self, **spec: Any) -> None:
        """Service, endpoints and APIService of the extension server."""
        await self.service()
        given = {"caBundle": self.bundle, **spec}
        await self.api.client.create(APISERVICES, apiservice(**{k: v for k, v in given.items() if v is not None}))

    async def service(self, namespace: str = "wardle") -> None:
        client = self.api.client
        await client.create(NAMESPACES, {"metadata": {"name": namespace}})
        ports = [{"name": "https", "port": 443}]
        await client.create(SERVICES, {"metadata": {"name": "api"}, "spec": {"ports": ports}}, namespace)
        await self.endpoints(True, namespace)

    async def endpoints(self, ready: bool, namespace: str = "wardle") -> None:
        piece = {
            "metadata": {"name": "api-1", "labels": {"kubernetes.io/service-name": "api"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": ready}}],
            "ports": [{"name": "https", "port": self.port, "protocol": "TCP"}],
        }
        await put_local(self.api, piece, namespace)

    async def becomes(self, status: str, reason: str) -> Object:
        """Wait for the condition Available."""

        def found() -> Object | None:
            stored = self.api.api.registry.get(APISERVICES, "", NAME) or {}
            return conditions.find((stored.get("status") or {}).get("conditions"), "Available")

        await self.api.until(
            lambda: [(found() or {}).get(k) for k in ("status", "reason")] == [status, reason], within=10
        )
        return found() or {}

    async def get(self, path: str, user: User = COMPONENT, **headers: str) -> tuple[int, Any]:
        answer = await self.api.request("GET", path, user=user, **headers)
        body = answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)
        if answer.stream is not None:
            from jota.wire.dial import whole

            body = await whole(answer, 1 << 24)
        try:
            return answer.status, orjson.loads(body)
        except orjson.JSONDecodeError:
            return answer.status, body.decode()

    def client(self, certificate: str = "", **more: Any) -> Client:
        pair = {"certificate": self.directory / f"{certificate}.crt", "key": self.directory / f"{certificate}.key"}
        url = f"https://127.0.0.1:{self.edge.port}"
        return Client(Https(url, ca=self.directory / "ca.crt", **(pair if certificate else {}), **more))


async def put_local(api: ApiServer, piece: Object, namespace: str) -> None:
    """Store an EndpointSlice of this machine's own address, which the API would refuse."""
    served = api.api.engine.kind(ENDPOINTSLICES)
    key = served.key(namespace, piece["metadata"]["name"])
    known = api.store.get(key)
    whole = {**piece, "metadata": {**piece["metadata"], "namespace": namespace, "uid": key}}
    await api.store.put(key, served.encode(whole), expect=known.revision if known is not None else 0)


def apiservice(**spec: Any) -> Object:
    where = {"namespace": "wardle", "name": "api"}
    given = {"group": GROUP, "version": VERSION, "groupPriorityMinimum": 2000, "versionPriority": 200, "service": where}
    return {"metadata": {"name": f"{spec.get('version', VERSION)}.{spec.get('group', GROUP)}"}, "spec": given | spec}


def put(directory: Path, name: str, authority: CertificateAuthority, subject: Subject, *, server: bool = False) -> None:
    pair = authority.issue(subject, days=1, client=not server, server=server, now=SystemClock().now())
    (directory / f"{name}.crt").write_bytes(pair.certificate)
    (directory / f"{name}.key").write_bytes(pair.key)


@asynccontextmanager
async def world(*, aggregated: bool = True) -> AsyncIterator[World]:
    clock = SystemClock()
    ours, proxies, theirs = (
        CertificateAuthority(CertificateAuthority.create(n, days=1, now=clock.now()))
        for n in ("ca", "proxies", "theirs")
    )
    with TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "ca.crt").write_bytes(ours.certificate_pem)
        put(directory, "server", ours, Subject("api", (), ("localhost",), ("127.0.0.1",)), server=True)
        put(directory, "alice", ours, Subject("alice", ()))
        put(directory, "wardle", ours, Subject("system:serviceaccount:wardle:api", ()))
        put(directory, "front-proxy-client", proxies, Subject("front-proxy-client", ()))
        put(directory, "stranger", proxies, Subject("stranger", ()))
        put(directory, "extension", theirs, Subject("x", (), ("api.wardle.svc",)), server=True)
        proxy = FrontProxy(
            directory / "front-proxy-client.crt",
            directory / "front-proxy-client.key",
            proxies.certificate_pem.decode(),
            ours.certificate_pem.decode(),
        )
        api = ApiServer(clock=clock, config=ApiConfig(front_proxy=proxy))
        secure(api.api, TokenSigner(TokenSigner.create_key()), "https://x")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "server.crt", directory / "server.key")
        context.load_verify_locations(cadata=(ours.certificate_pem + proxies.certificate_pem).decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        edge = HttpServer(api.api.handle, ssl=context, clock=clock)
        async with api:
            await write_roles(api.api)
            await edge.start("127.0.0.1", 0)
            bundle = base64.b64encode(theirs.certificate_pem).decode()
            authorities = {"ours": ours, "proxies": proxies}
            found = World(api, None, edge, directory, bundle, authorities)  # type: ignore[arg-type]
            await grant(api.client, "delegator", "system:auth-delegator", "system:serviceaccount:wardle:api")
            rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}
            await api.client.create(clusterrole.KIND.resource, {"metadata": {"name": "maps"}, "rules": [rule]})
            await grant(api.client, "maps", "maps", "system:serviceaccount:wardle:api")
            own = found.client("wardle")
            pair = directory / "extension.crt", directory / "extension.key"
            found.extension = ExtensionServer(own, *pair, aggregated=aggregated)
            found.port = await found.extension.start()
            try:
                yield found
            finally:
                await found.extension.close()
                await own.close()
                await edge.close(0)


async def grant(client: Client, name: str, role: str, user: str) -> None:
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}
    ref = {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": role}
    obj = {"metadata": {"name": name}, "roleRef": ref, "subjects": [subject]}
    await client.create(clusterrolebinding.KIND.resource, obj)


def told(tale: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    def test() -> None:
        async def run() -> None:
            async with world() as found:
                await tale(found)

        asyncio.run(run())

    test.__name__ = tale.__name__
    return test


def flunder(name: str) -> Object:
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Flunder", "metadata": {"name": name}}


# -- requests


@told
async def test_requests_reach_the_extension_server_as_their_user(w: World) -> None:
    await w.register()
    await w.becomes("True", "Passed")
    rule = {"verbs": ["*"], "apiGroups": [GROUP], "resources": ["flunders"]}
    await w.api.client.create(clusterrole.KIND.resource, {"metadata": {"name": "flunders"}, "rules": [rule]})
    await grant(w.api.client, "flunders", "flunders", BOB.name)
    bob = w.api.client_for(BOB)
    made = await bob.create(FLUNDERS, flunder("f"), "default")
    assert made["metadata"]["uid"]
    assert [f["metadata"]["name"] for f in (await bob.list(FLUNDERS, "default"))["items"]] == ["f"]
    user, groups, headers = w.extension.users[-1]
    assert (user, groups) == (BOB.name, list(BOB.groups))
    assert headers["x-remote-uid"] == "u-1"
    assert headers["x-remote-extra-example.com%2fscopes"] == "a\nb"
    with pytest.raises(ApiError) as missing:
        await bob.get(FLUNDERS, "none", "default")
    assert missing.value.reason == "NotFound"
    await bob.delete(FLUNDERS, "f", "default")
    assert w.extension.flunders == {}


@told
async def test_rights_are_judged_here_first_and_there_again(w: World) -> None:
    await w.register()
    await w.becomes("True", "Passed")
    before = len(w.extension.users)
    status, body = await w.get(f"{ROOT}/namespaces/default/flunders", BOB)
    assert (status, body["reason"]) == (403, "Forbidden")
    assert 'cannot list resource "flunders" in API group "wardle.example.com"' in body["message"]
    assert len(w.extension.users) == before, "it never saw the request"
    # the extension server asks by itself whether somebody it hears of may: an unknown front proxy's word is not taken
    answer = await w.extension._client.raw(
        "POST",
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        body=orjson.dumps({"spec": {"user": "bob", "resourceAttributes": {"group": GROUP, "resource": "flunders"}}}),
        headers={"content-type": "application/json"},
    )
    assert orjson.loads(answer.body)["status"]["allowed"] is False


@told
async def test_what_a_client_claims_of_itself_ends_here(w: World) -> None:
    await w.register()
    await w.becomes("True", "Passed")
    path = f"{ROOT}/namespaces/default/flunders"
    claims = {"x_remote_user": "admin", "x_remote_group": "system:masters", "x_remote_extra_a": "b"}
    assert (await w.get(path, BOB, **claims))[0] == 403
    assert (await w.get(path, COMPONENT, authorization="Bearer secret", **claims))[0] == 200
    user, groups, headers = w.extension.users[-1]
    assert user == COMPONENT.name
    assert "system:masters" in groups
    assert not {"authorization", "x-remote-extra-a", "x-remote-uid"} & set(headers)
    assert (await w.get(path, COMPONENT, impersonate_user="alice"))[0] == 403
    assert (await w.get(ROOT, COMPONENT, impersonate_user="alice"))[0] == 200
    assert w.extension.users[-1][0] == "alice"
    assert "impersonate-user" not in w.extension.users[-1][2]
    names = ("X_Remote_User", "x-remote_group", "X_Remote-Extra-A", "AUTHORIZATION", "Impersonate_User", "x_kept")
    headers = {name.lower(): "v" for name in names} | {"connection": "X-Remote-User, close"}
    answer = await w.api.api.handle(Request("GET", path, headers=headers, user=COMPONENT))
    assert answer.status == 200
    user, groups, seen = w.extension.users[-1]
    assert (user, "system:masters" in groups) == (COMPONENT.name, True)
    assert seen["x_kept"] == "v"
    spellings = {k: v for k, v in seen.items() if k.replace("_", "-").startswith(("x-remote-", "impersonate-", "auth"))}
    assert set(spellings) == {"x-remote-user", "x-remote-group"}, (
        "another spelling of the same name is the same name to some"
    )


@told
async def test_watches_and_upgrades_pass_through(w: World) -> None:
    await w.register()
    await w.becomes("True", "Passed")
    seen: list[tuple[str, str]] = []

    async def watch() -> None:
        async for event, obj in w.api.client.watch(FLUNDERS, "default"):
            seen.append((event, orjson.loads(obj)["metadata"]["name"]))

    watching = asyncio.ensure_future(watch())
    for name in ("a", "b"):
        await w.api.client.create(FLUNDERS, flunder(name), "default")
    await w.api.client.delete(FLUNDERS, "a", "default")
    await w.api.until(lambda: ("DELETED", "a") in seen)
    watching.cancel()
    assert seen[-3:] == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]
    # over the wire, with the client certificate of an administrator
    await grant(w.api.client, "root", "cluster-admin", "alice")
    tls = ssl.create_default_context(cafile=str(w.directory / "ca.crt"))
    tls.load_cert_chain(w.directory / "alice.crt", w.directory / "alice.key")
    duplex = await dial("127.0.0.1", w.edge.port, ssl=tls)
    head = f"POST {ROOT}/namespaces/default/flunders/a/connect HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n"
    duplex.write(head.encode() + b"Content-Length: 0\r\n\r\n")
    assert (await duplex.read()).startswith(b"HTTP/1.1 101 ")
    duplex.write(b"hello")
    assert await duplex.read() == b"hello"
    duplex.close()
    assert w.extension.users[-1][0] == "alice"


@told
async def test_requests_that_pass_through_are_counted_and_noted(w: World) -> None:
    from jota.api.audit import Audit
    from jota.api.auditpolicy import EVERYTHING

    lines: list[Object] = []

    class Sink:
        def write(self, found: list[bytes]) -> None:
            lines.extend(map(orjson.loads, found))

    await w.register()
    await w.becomes("True", "Passed")
    w.api.api.audit = Audit(EVERYTHING, Sink(), w.api.clock)
    assert (await w.get(f"{ROOT}/namespaces/default/flunders/none"))[0] == 404
    await asyncio.sleep(0)  # the trail is written at the end of the turn
    noted = [e for e in lines if e.get("objectRef", {}).get("apiGroup") == GROUP]
    assert [(e["stage"], e["verb"], e["responseStatus"]["code"]) for e in noted][-1] == ("ResponseComplete", "get", 404)
    assert noted[-1]["objectRef"] | {"resource": "flunders", "name": "none"} == noted[-1]["objectRef"]
    assert noted[-1]["user"]["username"] == COMPONENT.name
    counted = (await w.get("/metrics"))[1]
    assert f'group="{GROUP}",resource="flunders"' in counted


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"items":[1,{"metadata":[],"versions":{}},{"metadata":{"name":"wardle.example.com"},"versions":[7]}]}',
        b'{"resources":{"name":1},"paths":[1],"items":7}',
        b'{"resources":[{"name":7},{"name":"a/b/c","verbs":"x"},null],"paths":{"apis/wardle.example.com/v1alpha1":3}}',
        b"[" * 5000,
    ],
)
def test_an_extension_server_that_talks_nonsense_harms_nobody_else(garbage: bytes) -> None:
    async def tale() -> None:
        from jota.wire.message import Response

        async def handle(request: Request) -> Response:
            kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            return Response(200, [("Content-Type", kind)], garbage)

        async with world() as w:
            w.extension.handle = handle  # type: ignore[method-assign]
            await w.extension.close()
            w.port = await w.extension.start()
            await w.register()
            await w.becomes("True", "Passed")
            await asyncio.sleep(0.05)
            for path in ("/apis", "/openapi/v2", "/openapi/v3", f"/apis/{GROUP}", "/api/v1"):
                status, body = await w.get(path)
                assert status == 200, path
                assert isinstance(body, dict)
            accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            items = (await w.get("/apis", accept=accept))[1]["items"]
            assert {"apps", GROUP} <= {i["metadata"]["name"] for i in items}
            assert isinstance(await discover(w.api.client), object)

    asyncio.run(tale())


# -- availability


@told
async def test_the_condition_follows_the_service_and_its_endpoints(w: World) -> None:
    await w.api.client.create(APISERVICES, apiservice(caBundle=w.bundle))
    found = await w.becomes("False", "ServiceNotFound")
    assert found["message"] == 'service/api in "wardle" is not present'
    assert await w.get(f"{ROOT}/flunders") == (503, "service unavailable\n")
    await w.service()
    await w.becomes("True", "Passed")
    assert (await w.get(f"{ROOT}/flunders"))[0] == 200
    await w.endpoints(False)
    found = await w.becomes("False", "MissingEndpoints")
    assert found["message"] == 'endpointslices for service/api in "wardle" have no addresses with port name "https"'
    assert await w.get(ROOT) == (503, "service unavailable\n")
    await w.endpoints(True)
    await w.becomes("True", "Passed")
    await w.extension.close()
    await w.api.client.patch(APISERVICES, NAME, patch={"spec": {"versionPriority": 7}})
    found = await w.becomes("False", "FailedDiscoveryCheck")
    assert f"failing or missing response from https://127.0.0.1:{w.port}{ROOT}" in found["message"]
    await w.api.client.delete(APISERVICES, NAME)
    w.api.api.registry.catch_up()
    assert (await w.get(f"{ROOT}/flunders"))[0] == 404


@told
async def test_a_server_that_is_not_the_one_of_the_bundle_is_not_believed(w: World) -> None:
    other = base64.b64encode((w.directory / "ca.crt").read_bytes()).decode()
    await w.register(caBundle=other)
    await w.becomes("True", "Passed")  # the check asks only whether somebody answers, as upstream's
    status, body = await w.get(f"{ROOT}/flunders")
    assert status == 503
    assert "certificate verify failed" in body
    await w.api.client.patch(APISERVICES, NAME, patch={"spec": {"caBundle": base64.b64encode(b"no PEM").decode()}})
    w.api.api.registry.catch_up()
    assert (await w.get(f"{ROOT}/flunders"))[0] == 500
    await w.api.client.patch(APISERVICES, NAME, patch={"spec": {"caBundle": None, "insecureSkipTLSVerify": True}})
    w.api.api.registry.catch_up()
    assert (await w.get(f"{ROOT}/flunders"))[0] == 200


@told
async def test_a_crash_between_any_two_steps_is_mended_by_the_next_start(w: World) -> None:
    await w.register()
    await w.becomes("True", "Passed")
    again = ApiServer(clock=SystemClock(), store=w.api.store, config=w.api.api.config)
    await again.api.start()
    answer = await again.request("GET", f"{ROOT}/flunders")
    assert answer.status == 200, "what was known before is known at once"
    await again.api.close()


def test_verdicts() -> None:
    reference = {"namespace": "n", "name": "s", "port": 8443}
    service = {"spec": {"type": "ClusterIP", "ports": [{"name": "a", "port": 8443}]}}
    ready = {"ports": [{"name": "a", "port": 1}], "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {}}]}
    for given, slices, reason in (
        (None, [], "ServiceNotFound"),
        ({"spec": {"ports": [{"port": 443}]}}, [ready], "ServicePortError"),
        (service, [], "EndpointsNotFound"),
        (service, [{**ready, "ports": [{"name": "b", "port": 1}]}], "MissingEndpoints"),
        (
            service,
            [{**ready, "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": False}}]}],
            "MissingEndpoints",
        ),
    ):
        verdict = availability.judge(reference, given, slices)
        assert verdict is not None
        assert verdict[:2] == ("False", reason)
    assert availability.judge(reference, service, [ready]) is None
    assert availability.judge(reference, {"spec": {"type": "ExternalName", "externalName": "x"}}, []) is None


# -- discovery, OpenAPI, namespaces


@pytest.mark.parametrize("aggregated", [True, False])
def test_discovery_names_what_the_extension_server_has(aggregated: bool) -> None:
    async def tale() -> None:
        async with world(aggregated=aggregated) as w:
            await w.register()
            await w.becomes("True", "Passed")
            accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

            async def version() -> Object:
                items = (await w.get("/apis", accept=accept))[1]["items"]
                names = [i["metadata"]["name"] for i in items]
                assert names[0] == "apiregistration.k8s.io"
                assert names.index("discovery.k8s.io") < names.index(GROUP) < names.index("metrics.k8s.io")
                found = next(i for i in items if i["metadata"]["name"] == GROUP)["versions"]
                assert [v["version"] for v in found] == [VERSION]
                return found[0]

            for _ in range(100):
                if (await version())["resources"]:
                    break
                await asyncio.sleep(0.05)
            found = await version()
            assert found["freshness"] == "Current"
            (resource,) = found["resources"]
            assert resource["resource"] == "flunders"
            assert resource["shortNames"] == ["fl"]
            assert resource["responseKind"] == {"group": GROUP, "version": VERSION, "kind": "Flunder"}
            assert (resource["scope"], resource["singularResource"]) == ("Namespaced", "flunder")
            groups = (await w.get("/apis"))[1]["groups"]
            assert groups[0]["name"] == "apiregistration.k8s.io"
            group = next(g for g in groups if g["name"] == GROUP)
            assert group["preferredVersion"] == {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
            assert (await w.get(f"/apis/{GROUP}"))[1]["versions"] == group["versions"]
            assert (await w.get(ROOT))[1]["resources"][0]["name"] == "flunders"
            assert ROOT in (await w.get("/"))[1]["paths"]
            await w.endpoints(False)
            await w.becomes("False", "MissingEndpoints")
            assert (await version())["freshness"] == "Stale"
            found_ = await discover(w.api.client)
            assert list(found_.failed) == [f"{GROUP}/{VERSION}"]
            assert "service unavailable" in found_.failed[f"{GROUP}/{VERSION}"]

    asyncio.run(tale())


@told
async def test_openapi_holds_the_extension_servers_schemas(w: World) -> None:
    await w.register()
    await w.becomes("True", "Passed")
    for _ in range(100):
        paths = (await w.get("/openapi/v3"))[1]["paths"]
        if ROOT[1:] in paths:
            break
        await asyncio.sleep(0.05)
    url = paths[ROOT[1:]]["serverRelativeURL"]
    assert "api/v1" in paths
    document = (await w.get(url))[1]
    assert "com.example.wardle.v1alpha1.Flunder" in document["components"]["schemas"]
    status, swagger = await w.get("/openapi/v2")
    assert status == 200
    assert "io.k8s.api.core.v1.Pod" in swagger["definitions"]
    spec = swagger["definitions"]["com.example.wardle.v1alpha1.Flunder"]["properties"]["spec"]
    assert spec["description"] == "What a flunder is."
    assert f"{ROOT}/namespaces/{{namespace}}/flunders" in swagger["paths"]
    assert w.extension.looks.count("/openapi/v2") == 1
    await w.get("/openapi/v2")
    assert w.extension.looks.count("/openapi/v2") == 1, "what was read a moment ago is not asked again"
    old = await w.api.request("GET", "/openapi/v2", accept=PROTOBUF_ACCEPTED[0])
    assert dict(old.headers)["Content-Type"] == PROTOBUF
    assert isinstance(old.body, bytes)
    for name in (
        "io.k8s.api.core.v1.Pod",
        "com.example.wardle.v1alpha1.Flunder",
        f"{ROOT}/namespaces/{{namespace}}/flunders",
    ):
        assert name.encode() in old.body
    known = dict(old.headers)["ETag"]
    again = await w.api.request("GET", "/openapi/v2", accept=PROTOBUF_ACCEPTED[1], **{"if-none-match": known})
    assert (again.status, w.extension.looks.count("/openapi/v2")) == (304, 1)


def test_definitions_of_the_same_name_live_side_by_side() -> None:
    import zlib

    def document(value: Object) -> Document:
        squeeze = zlib.compressobj(6, zlib.DEFLATED, 31)
        return Document("application/json", '"x"', squeeze.compress(orjson.dumps(value)) + squeeze.flush())

    reference = {"$ref": "#/definitions/T"}
    own = document(
        {"paths": {"/api/v1/x": reference}, "definitions": {"T": {"type": "object"}, "Same": {"type": "string"}}}
    )
    theirs = {
        "paths": {"/apis/g/v1/x": reference, "/apis/g/v11/x": reference, "/api/v1/x": {"hostile": True}},
        "definitions": {
            "T": {"properties": {"a": {"$ref": "#/definitions/Same"}}},
            "Same": {"type": "string"},
            "Unused": {},
        },
    }
    deep: Any = {}
    for _ in range(3000):
        deep = {"a": deep}
    merged = orjson.loads(openapi.merge(own, [("/apis/g/v1", orjson.dumps(theirs)), ("/apis/h/v1", b"{")]).identity())
    assert merged["paths"] == {"/api/v1/x": reference, "/apis/g/v1/x": {"$ref": "#/definitions/T_v2"}}
    assert merged["definitions"]["T"] == {"type": "object"}
    assert merged["definitions"]["T_v2"] == {"properties": {"a": {"$ref": "#/definitions/Same"}}}
    assert set(merged["definitions"]) == {"T", "T_v2", "Same"}
    import json

    nested = json.dumps({"paths": {"/apis/h/v1": {}}, "definitions": {"X": {}}}).replace("{}", "[" * 900 + "]" * 900, 1)
    assert "/api/v1/x" in orjson.loads(openapi.merge(own, [("/apis/h/v1", nested.encode())]).identity())["paths"]


def test_resources_of_the_old_form() -> None:
    found = documents.from_legacy(
        "g",
        "v1",
        [
            {
                "name": "as/scale",
                "kind": "Scale",
                "group": "autoscaling",
                "version": "v1",
                "verbs": ["get"],
                "namespaced": True,
            },
            {
                "name": "as",
                "singularName": "a",
                "kind": "A",
                "namespaced": True,
                "verbs": ["list"],
                "categories": ["all"],
            },
            {"name": "as/status", "kind": "A", "verbs": ["get"], "namespaced": True},
        ],
    )
    (resource,) = found["resources"]
    assert resource["verbs"] == ["list"]
    assert resource["categories"] == ["all"]
    assert [s["subresource"] for s in resource["subresources"]] == ["scale", "status"]
    assert resource["subresources"][0]["responseKind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert resource["subresources"][1]["responseKind"] == {"group": "g", "version": "v1", "kind": "A"}


# -- identity


@told
async def test_front_proxies_may_speak_for_users_here(w: World) -> None:
    async def whoami(client: Client, **headers: str) -> tuple[int, Object]:
        path, named = (
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            {k.replace("_", "-"): v for k, v in headers.items()},
        )
        answer = await client.raw("POST", path, body=b"{}", headers={"content-type": "application/json", **named})
        await client.close()
        return answer.status, orjson.loads(answer.body)

    claims = {
        "x_remote_user": "carol",
        "x_remote_group": "a, b",
        "x_remote_uid": "7",
        "x_remote_extra_example.com%2fkey": "v",
    }
    status, review = await whoami(w.client("front-proxy-client"), **claims)
    assert status == 201
    assert review["status"]["userInfo"] == {
        "username": "carol",
        "uid": "7",
        "groups": ["a, b", "system:authenticated"],
        "extra": {"example.com/key": ["v"]},
    }
    status, review = await whoami(w.client("alice"), **claims)
    assert (status, review["status"]["userInfo"]["username"]) == (201, "alice"), (
        "its own CA does not make it a front proxy"
    )
    assert (await whoami(w.client("stranger"), **claims))[0] == 401, "a name that no front proxy has"
    assert (await whoami(w.client("front-proxy-client")))[0] == 401, "a front proxy is nobody by itself"
    token = await _token(w)
    status, review = await whoami(w.client("front-proxy-client", token=lambda: token))
    assert review["status"]["userInfo"]["username"] == "system:serviceaccount:default:robot"


@told
async def test_a_certificate_of_an_intermediate_authority_names_nobody(w: World) -> None:
    """TLS trusts both CAs: what stands below the front proxies' must not pass for a user's certificate."""
    for root in ("proxies", "ours"):
        below(w.directory, f"below-{root}", w.authorities[root], "admin", "system:masters")
        for headers in ({}, {"x-remote-user": "carol"}):
            client = w.client(f"below-{root}")
            answer = await client.raw("GET", "/api/v1/namespaces", headers=headers)
            await client.close()
            assert (answer.status, b"not directly from a CA" in answer.body) == (401, True), root


def below(directory: Path, name: str, root: CertificateAuthority, common_name: str, organisation: str) -> None:
    """A client certificate from an intermediate CA of `root`, with the chain that proves it."""
    now = datetime.now(UTC)

    def made(subject: x509.Name, issuer: x509.Name, key: Any, signer: Any, ca: bool) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        return builder.sign(signer, hashes.SHA256())

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    middle = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "middle")])
    leaf = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
        ]
    )
    top = x509.load_pem_x509_certificate(root.certificate_pem).subject
    chain = [made(leaf, middle, keys[0], keys[1], False), made(middle, top, keys[1], root._key, True)]
    pem = serialization.Encoding.PEM
    (directory / f"{name}.crt").write_bytes(b"".join(c.public_bytes(pem) for c in chain))
    (directory / f"{name}.key").write_bytes(private_pem(keys[0]))


async def _token(w: World) -> str:
    await w.api.client.create(SERVICEACCOUNTS, {"metadata": {"name": "robot"}}, "default")
    body = {"spec": {"expirationSeconds": 600}}
    return str((await w.api.client.create(SERVICEACCOUNTS, body, "default", "token", "robot"))["status"]["token"])


@told
async def test_extension_servers_learn_whom_to_believe(w: World) -> None:
    data = (await w.api.client.get(CONFIGMAPS, "extension-apiserver-authentication", "kube-system"))["data"]
    assert data["client-ca-file"].startswith("-----BEGIN CERTIFICATE")
    assert data["requestheader-client-ca-file"] != data["client-ca-file"]
    assert {k: orjson.loads(v) for k, v in data.items() if not k.endswith("file")} == {
        "requestheader-allowed-names": ["front-proxy-client"],
        "requestheader-extra-headers-prefix": ["X-Remote-Extra-"],
        "requestheader-group-headers": ["X-Remote-Group"],
        "requestheader-uid-headers": ["X-Remote-Uid"],
        "requestheader-username-headers": ["X-Remote-User"],
    }


def test_names_travel_unharmed() -> None:
    assert remote.identity(User("x", extra={"a b/c": ["1", "2"]}))[-2:] == [
        ("X-Remote-Extra-a%20b%2Fc", "1"),
        ("X-Remote-Extra-a%20b%2Fc", "2"),
    ]
    assert remote.identity(User("조타"))[0][1].encode("latin-1").decode() == "조타"


# -- registrations


@story
async def test_this_servers_own_group_versions_are_registered(api: ApiServer) -> None:
    listed = {s["metadata"]["name"]: s for s in (await api.client.list(APISERVICES))["items"]}
    assert {"v1.", "v1.apps", "v2.autoscaling"} <= set(listed)
    assert "v1beta1.metrics.k8s.io" not in listed, "free for a metrics server"
    assert "v1.apiregistration.k8s.io" not in listed
    core = listed["v1."]
    assert core["spec"] == {"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1}
    assert core["metadata"]["labels"] == {autoregister.LABEL: "onstart"}
    (condition,) = core["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("True", "Local")
    table = await api.request("GET", APISERVICES.path(), accept="application/json;as=Table;g=meta.k8s.io;v=v1")
    rows = {r["cells"][0]: r["cells"] for r in orjson.loads(table.body)["rows"]}  # type: ignore[arg-type]
    assert rows["v1.apps"] == ["v1.apps", "Local", "True", "0s"]


@story
async def test_a_start_sets_right_what_was_changed_and_removes_what_is_no_longer_built_in(api: ApiServer) -> None:
    await api.client.patch(APISERVICES, "v1.apps", patch={"spec": {"groupPriorityMinimum": 5}})
    await api.client.delete(APISERVICES, "v1.batch")
    old = apiservice(group="gone.k8s.io", version="v1", service=None)
    old["metadata"]["labels"] = {autoregister.LABEL: "onstart"}
    await api.client.create(APISERVICES, old)
    await api.settle()
    assert (await api.client.get(APISERVICES, "v1.apps"))["spec"]["groupPriorityMinimum"] == 5, "until the next start"
    names = {s["metadata"]["name"] for s in (await api.client.list(APISERVICES))["items"]}
    assert "v1.batch" not in names
    assert "v1.gone.k8s.io" in names
    again = ApiServer(clock=api.clock, store=api.store)
    await again.api.start()
    listed = {s["metadata"]["name"]: s for s in (await again.client.list(APISERVICES))["items"]}
    assert listed["v1.apps"]["spec"]["groupPriorityMinimum"] == 17800
    assert "v1.batch" in listed
    assert "v1.gone.k8s.io" not in listed
    await again.api.close()


def definition(group: str, version: str) -> Object:
    names = {"plural": "flunders", "kind": "Flunder"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [{"name": version, "served": True, "storage": True, "schema": schema}]
    return {
        "metadata": {"name": f"flunders.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": versions},
    }


@story
async def test_definitions_come_and_go_with_their_apiservices(api: ApiServer) -> None:
    await api.client.create(CRDS, definition("example.com", "v1"))
    await api.settle()
    found = await api.client.get(APISERVICES, "v1.example.com")
    assert (found["spec"]["groupPriorityMinimum"], found["spec"]["versionPriority"]) == (1000, 100)
    assert found["metadata"]["labels"] == {autoregister.LABEL: "true"}
    # somebody who takes it over is set right again, as long as the label says that it is ours
    await api.client.patch(APISERVICES, "v1.example.com", patch={"spec": {"service": {"namespace": "a", "name": "b"}}})
    await api.settle()
    assert "service" not in (await api.client.get(APISERVICES, "v1.example.com"))["spec"]
    await api.client.delete(CRDS, "flunders.example.com")
    await api.settle()
    with pytest.raises(ApiError):
        await api.client.get(APISERVICES, "v1.example.com")


@told
async def test_who_registered_a_group_version_by_hand_keeps_it_before_a_definition(w: World) -> None:
    await w.register()
    await w.becomes("True", "Passed")
    await w.api.client.create(CRDS, definition(GROUP, VERSION))
    await w.api.settle()
    assert "service" in (await w.api.client.get(APISERVICES, NAME))["spec"]
    await w.api.client.create(FLUNDERS, flunder("f"), "default")
    assert ("default", "f") in w.extension.flunders
    await w.api.client.delete(APISERVICES, NAME)
    await w.api.until(lambda: w.api.api.registry.get(APISERVICES, "", NAME) is not None)
    assert (await w.api.client.list(FLUNDERS, "default"))["items"] == [], "now the definition's own"


@story
async def test_a_metrics_server_takes_over_and_gives_back(api: ApiServer) -> None:
    name, path = "v1beta1.metrics.k8s.io", "/apis/metrics.k8s.io/v1beta1/nodes"
    assert (await api.request("GET", path)).status == 200
    service = {"namespace": "kube-system", "name": "metrics-server"}
    spec = {"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100}
    spec |= {"service": service, "insecureSkipTLSVerify": True}
    await api.client.create(APISERVICES, {"metadata": {"name": name}, "spec": spec})
    await api.settle()
    assert (await api.request("GET", path)).status == 503, "registered, and not there yet"
    again = ApiServer(clock=api.clock, store=api.store)
    await again.api.start()
    assert (await again.client.get(APISERVICES, name))["spec"]["service"]["name"] == "metrics-server"
    await again.api.close()
    await api.client.delete(APISERVICES, name)
    await api.settle()
    assert (await api.request("GET", path)).status == 200


def test_plan_of_registrations() -> None:
    want = autoregister.wanted(
        [("apps", "v1"), ("unknown.io", "v1"), ("apiregistration.k8s.io", "v1")], [("c.io", "v1")]
    )
    assert set(want) == {"v1.apps", "v1.c.io"}

    def have(label: str, **spec: Any) -> Object:
        return {"metadata": {"name": "n", "labels": {autoregister.LABEL: label} if label else {}}, "spec": spec}

    def steps(desired: Object | None, current: Object | None, *, old: bool = False, synced: bool = False) -> str:
        names, done = frozenset(["n"] if old else []), frozenset(["n"] if synced else [])
        found = autoregister.plan({"n": desired} if desired else {}, {"n": current} if current else {}, names, done)
        return "".join(c for c, some in zip("cud", (found.create, found.update, found.delete), strict=True) if some)

    once, always = have("onstart", a=1), have("true", a=1)
    for desired, current, wanted_ in (
        (None, None, ""),
        (once, None, "c"),
        (always, None, "c"),
        (None, have(""), ""),
        (once, have(""), ""),
        (always, have(""), ""),
        (None, have("onstart"), ""),
        (once, have("onstart"), ""),
        (None, have("true"), "d"),
        (once, have("true"), "u"),
        (always, have("true"), "u"),
        (always, have("true", a=1), ""),
    ):
        assert steps(desired, current) == wanted_, (desired, current)
    assert steps(None, have("onstart"), old=True) == "d"
    assert steps(once, have("onstart"), old=True) == "u"
    assert steps(once, have("onstart"), old=True, synced=True) == ""
    assert steps(once, None, synced=True) == ""
    assert steps(always, None, synced=True) == "c"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"metadata": {"name": "x"}},
            'metadata.name: Invalid value: "x": must be `spec.version+"."+spec.group`: "v1.g.io"',
        ),
        ({"spec": {"group": "", "version": "v2"}}, "spec.group: Required value: only v1 may have an empty group"),
        ({"spec": {"group": "G_"}}, 'spec.group: Invalid value: "G_"'),
        ({"spec": {"version": "1"}}, 'spec.version: Invalid value: "1"'),
        (
            {"spec": {"groupPriorityMinimum": 20001}},
            "spec.groupPriorityMinimum: Invalid value: 20001: must be positive",
        ),
        (
            {"spec": {"versionPriority": 0}},
            "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
        ),
        ({"spec": {"service": {"name": "s"}}}, "spec.service.namespace: Required value"),
        (
            {"spec": {"insecureSkipTLSVerify": True, "caBundle": "YQ=="}},
            "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present",
        ),
        (
            {"spec": {"service": None, "caBundle": "YWJj"}},
            'spec.caBundle: Invalid value: "3 bytes": local APIServices may not have a caBundle',
        ),
        (
            {"spec": {"service": None, "insecureSkipTLSVerify": True}},
            "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
        ),
    ],
)
def test_what_an_apiservice_may_not_say(change: Object, message: str) -> None:
    given = apiservice(group="g.io", version="v1")
    KIND.default(given)
    assert given["spec"]["service"]["port"] == 443
    assert KIND.validate(given) == []
    for key, value in change.items():
        given[key] = given[key] | value
    found = [f"{e.field}: {e.message}" for e in KIND.validate(given)]
    assert any(message in f for f in found), found


def test_columns() -> None:
    cells = [c.cell(apiservice(), 0.0) for c in KIND.columns[1:3]]
    assert cells == ["wardle/api", "Unknown"]
    failed = {"status": {"conditions": [{"type": "Available", "status": "False", "reason": "MissingEndpoints"}]}}
    assert KIND.columns[2].cell({**apiservice(), **failed}, 0.0) == "False (MissingEndpoints)"


@told
async def test_a_namespace_does_not_end_while_a_group_version_cannot_be_seen(w: World) -> None:
    from random import Random

    from jota.client.informers import Informers
    from jota.controllers.controller import Context, ControllerConfig
    from jota.controllers.namespace import NamespaceController

    await w.register()
    await w.becomes("True", "Passed")
    await w.api.client.create(NAMESPACES, {"metadata": {"name": "end"}})
    await w.api.client.create(FLUNDERS, flunder("f"), "end")
    await w.endpoints(False)
    await w.becomes("False", "MissingEndpoints")
    informers = Informers(w.api.client, w.api.clock)
    controller = NamespaceController(Context(w.api.client, w.api.clock, ControllerConfig(), informers, Random(0)))
    running = [asyncio.ensure_future(informers.run()), asyncio.ensure_future(controller.run())]
    await w.api.client.delete(NAMESPACES, "end")

    def condition() -> Object:
        found = w.api.api.registry.get(NAMESPACES, "", "end") or {}
        return conditions.find((found.get("status") or {}).get("conditions"), "NamespaceDeletionDiscoveryFailure") or {}

    await w.api.until(lambda: condition().get("status") == "True", within=10)
    assert condition()["reason"] == "DiscoveryFailed"
    assert f"{GROUP}/{VERSION}" in condition()["message"]
    await w.endpoints(True)
    await w.api.until(lambda: w.api.api.registry.get(NAMESPACES, "", "end") is None, within=20)
    assert w.extension.flunders == {}, "deleted there, through discovery"
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def test_contexts_of_replaced_bundles_are_not_kept_for_ever() -> None:
    contexts, now = tls.Contexts(None), SystemClock().now()
    authority = CertificateAuthority(CertificateAuthority.create("one", days=1, now=now)).certificate_pem
    bundles = [base64.b64encode(authority + b"\n" * n).decode() for n in range(20)]
    probe = contexts.context("", insecure=True)
    for bundle in bundles:
        one = contexts.context(bundle, insecure=False)
        assert contexts.context(bundle, insecure=False) is one
        assert contexts.context("", insecure=True) is probe, "what is in use stays"
    assert len(contexts._kept) <= tls.MOST
