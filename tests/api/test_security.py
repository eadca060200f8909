"""Who may come in and what they may do, on the real engine: certificates, tokens, RBAC, reviews."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from jota.api.filters.attributes import User
from jota.api.rbac import bootstrap
from jota.api.security import secure, write_roles
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, NODES, PODS, SECRETS, SERVICEACCOUNTS, Resource
from jota.pki.ca import CertificateAuthority, Subject
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer
from jota.wire.message import Peer, Request, Response

ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
ISSUER = "https://kubernetes.default.svc.cluster.local"
BOB = User("bob", groups=("system:authenticated",))


@asynccontextmanager
async def secured() -> AsyncIterator[ApiServer]:
    server = ApiServer()
    secure(server.api, TokenSigner(TokenSigner.create_key()), ISSUER)
    async with server:
        await write_roles(server.api)
        yield server


async def ask(
    server: ApiServer, path: str, *, token: str = "", certificate: bytes | None = None, method: str = "GET"
) -> Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return await server.api.handle(Request(method, path, headers=headers, peer=Peer("127.0.0.1", 1, certificate)))


async def account_token(server: ApiServer, **spec: Any) -> str:
    await server.client.create(SERVICEACCOUNTS, {"metadata": {"name": "robot"}}, "default")
    body = {"spec": {"expirationSeconds": 600, **spec}}
    answer = await server.client.create(SERVICEACCOUNTS, body, "default", "token", "robot")
    return str(answer["status"]["token"])


def test_a_token_among_websocket_protocols_goes_no_further() -> None:
    async def story() -> None:
        async with secured() as server:
            encoded = base64.urlsafe_b64encode((await account_token(server)).encode()).decode().rstrip("=")
            offer = f"base64url.bearer.authorization.k8s.io.{encoded}"
            for offers, left in ((f"{offer}, v4.channel.k8s.io", "v4.channel.k8s.io"), (offer, None)):
                request = Request("GET", "/version", headers={"sec-websocket-protocol": offers})
                assert server.api.authenticator is not None
                user = await server.api.authenticator.authenticate(request)
                assert user is not None
                assert user.name == "system:serviceaccount:default:robot"
                assert request.headers.get("sec-websocket-protocol") == left

    asyncio.run(story())


def test_strangers_see_health_and_nothing_else() -> None:
    async def story() -> None:
        async with secured() as server:
            assert (await ask(server, "/healthz")).status == 200
            assert (await ask(server, "/api/v1/secrets")).status == 403
            assert (await ask(server, "/api/v1/secrets", token="nonsense")).status == 401
            assert (await ask(server, "/metrics")).status == 403

    asyncio.run(story())


def test_a_client_certificate_names_user_and_groups() -> None:
    async def story() -> None:
        async with secured() as server:
            now = server.clock.now()
            authority = CertificateAuthority(CertificateAuthority.create("ca", days=9, now=now))
            ders = []
            for subject, status in ((Subject("root", ("system:masters",)), 200), (Subject("bob", ()), 403)):
                pair = authority.issue(subject, days=1, client=True, server=False, now=now)
                ders.append(ssl.PEM_cert_to_DER_cert(pair.certificate.decode()))
                assert (await ask(server, "/api/v1/nodes", certificate=ders[-1])).status == status
            await server.advance(86_000)
            assert (await ask(server, "/api/v1/nodes", certificate=ders[0])).status == 200
            await server.advance(500)
            late = await ask(server, "/api/v1/nodes", certificate=ders[0])
            assert (late.status, b"has expired" in late.body) == (401, True), "the connection may be older than that"

    asyncio.run(story())


def test_a_service_account_token_works_until_its_account_is_gone() -> None:
    async def story() -> None:
        async with secured() as server:
            token = await account_token(server)
            assert (await ask(server, "/api/v1/namespaces/default/pods", token=token)).status == 403
            review = await server.request(
                "POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}}
            )
            status = orjson.loads(review.body)["status"]
            assert status["user"]["username"] == "system:serviceaccount:default:robot"
            assert "system:serviceaccounts:default" in status["user"]["groups"]
            await server.client.delete(SERVICEACCOUNTS, "robot", "default")
            assert (await ask(server, "/api/v1/namespaces/default/pods", token=token)).status == 401

    asyncio.run(story())


def test_a_bound_token_dies_with_its_pod_and_with_time() -> None:
    async def story() -> None:
        async with secured() as server:
            await server.client.create(SERVICEACCOUNTS, {"metadata": {"name": "robot"}}, "default")
            pod = {
                "metadata": {"name": "p"},
                "spec": {"serviceAccountName": "robot", "containers": [{"name": "c", "image": "x"}]},
            }
            made = await server.client.create(PODS, pod, "default")
            ref = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": made["metadata"]["uid"]}
            spec = {"expirationSeconds": 600, "boundObjectRef": ref}
            answers = [
                (await server.client.create(SERVICEACCOUNTS, {"spec": spec}, "default", "token", "robot"))["status"][
                    "token"
                ]
                for _ in range(2)
            ]
            assert (await ask(server, "/version", token=answers[0])).status == 200
            with pytest.raises(ApiError) as wrong:
                body = {"spec": {**spec, "boundObjectRef": {**ref, "uid": "other"}}}
                await server.client.create(SERVICEACCOUNTS, body, "default", "token", "robot")
            assert wrong.value.code == 409
            await server.client.delete(PODS, "p", "default", grace=0)
            assert (await ask(server, "/version", token=answers[0])).status == 401

            token = await server.client.create(
                SERVICEACCOUNTS, {"spec": {"expirationSeconds": 600}}, "default", "token", "robot"
            )
            assert (await ask(server, "/version", token=token["status"]["token"])).status == 200
            await server.advance(700)
            assert (await ask(server, "/version", token=token["status"]["token"])).status == 401

    asyncio.run(story())


@pytest.mark.parametrize("kind", ["ServiceAccount", "Pod", "Secret", "Node"])
def test_a_token_dies_with_what_is_bound_to_go_and_held(kind: str) -> None:
    """Upstream's rule: a minute after the deletionTimestamp, however long finalizers keep the object."""

    async def story() -> None:
        async with secured() as server:
            client, held = server.client, {"name": "it", "finalizers": ["example.com/hold"]}
            resource = {"ServiceAccount": SERVICEACCOUNTS, "Pod": PODS, "Secret": SECRETS, "Node": NODES}[kind]
            where = "default" if resource.namespaced else ""
            spec: dict[str, Any] = {"expirationSeconds": 3600}
            if kind != "ServiceAccount":
                await client.create(SERVICEACCOUNTS, {"metadata": {"name": "robot"}}, "default")
                spec["boundObjectRef"] = {"kind": kind, "apiVersion": "v1", "name": "it"}
            more = {"containers": [{"name": "c", "image": "x"}], "serviceAccountName": "robot"} if kind == "Pod" else {}
            await client.create(resource, {"metadata": held, **({"spec": more} if more else {})}, where)
            account = "it" if kind == "ServiceAccount" else "robot"
            made = await client.create(SERVICEACCOUNTS, {"spec": spec}, "default", "token", account)
            token = made["status"]["token"]
            assert (await ask(server, "/version", token=token)).status == 200
            await client.delete(resource, "it", where, grace=0)
            assert (await client.get(resource, "it", where))["metadata"]["deletionTimestamp"]
            assert (await ask(server, "/version", token=token)).status == 200
            await server.advance(62)
            assert (await ask(server, "/version", token=token)).status == 401

    asyncio.run(story())


def test_a_pods_token_tells_where_the_pod_runs() -> None:
    """KEP-4193: the node's name, its uid when it is known; the token does not depend on the node."""

    async def story() -> None:
        async with secured() as server:
            client = server.client
            await client.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, "default")
            node = await client.create(NODES, {"metadata": {"name": "here"}})
            expected: dict[str, dict[str, list[str]]] = {
                "": {},
                "here": {"node-name": ["here"], "node-uid": [node["metadata"]["uid"]]},
                "gone": {"node-name": ["gone"]},
            }
            for name, told in expected.items():
                spec = {"nodeName": name, "containers": [{"name": "c", "image": "x"}]}
                pod = await client.create(PODS, {"metadata": {"name": f"on-{name or 'none'}"}, "spec": spec}, "default")
                of = pod["metadata"]
                ref = {"kind": "Pod", "apiVersion": "v1", "name": of["name"], "uid": of["uid"]}
                asked = {"spec": {"boundObjectRef": ref}}
                token = (await client.create(SERVICEACCOUNTS, asked, "default", "token", "default"))["status"]["token"]
                if name == "here":
                    await client.delete(NODES, "here")
                path = "/apis/authentication.k8s.io/v1/tokenreviews"
                body = (await server.request("POST", path, {"spec": {"token": token}})).body
                extra = orjson.loads(body)["status"]["user"]["extra"]  # type: ignore[arg-type]
                extra.pop("authentication.kubernetes.io/credential-id")
                told = {"pod-name": [of["name"]], "pod-uid": [of["uid"]], **told}
                assert extra == {f"authentication.kubernetes.io/{key}": value for key, value in told.items()}

    asyncio.run(story())


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"token-secret": "0" * 16}, False),
        ({"usage-bootstrap-authentication": "false"}, False),
        ({"expiration": "2001-01-01T00:00:00Z"}, False),
        ({"expiration": "nonsense"}, False),
    ],
)
def test_bootstrap_tokens(changes: dict[str, str], good: bool) -> None:
    async def story() -> None:
        async with secured() as server:
            data = {
                "token-id": "abcdef",
                "token-secret": "0123456789abcdef",
                "usage-bootstrap-authentication": "true",
                **changes,
            }
            secret = {
                "metadata": {"name": "bootstrap-token-abcdef"},
                "type": "bootstrap.kubernetes.io/token",
                "data": {k: base64.b64encode(v.encode()).decode() for k, v in data.items()},
            }
            await server.client.create(SECRETS, secret, "kube-system")
            token = "abcdef.0123456789abcdef"
            path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
            assert (await ask(server, path, token=token)).status == (200 if good else 401)
            if good:
                assert (await ask(server, "/api/v1/secrets", token=token)).status == 403

    asyncio.run(story())


def test_a_namespaced_role_reaches_its_namespace_and_its_names_only() -> None:
    async def story() -> None:
        async with secured() as server:
            bob = server.client_for(BOB)
            for name in ("mine", "other"):
                await server.client.create(CONFIGMAPS, {"metadata": {"name": name}}, "default")
            rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"]}
            await server.client.create(ROLES, {"metadata": {"name": "r"}, "rules": [rule]}, "default")
            subject = {"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}
            ref = {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"}
            await server.client.create(
                ROLE_BINDINGS, {"metadata": {"name": "b"}, "roleRef": ref, "subjects": [subject]}, "default"
            )
            assert (await bob.get(CONFIGMAPS, "mine", "default"))["metadata"]["name"] == "mine"
            for attempt in (
                bob.get(CONFIGMAPS, "other", "default"),
                bob.get(CONFIGMAPS, "mine", "kube-system"),
                bob.list(CONFIGMAPS, "default"),
                bob.delete(CONFIGMAPS, "mine", "default"),
                bob.list(NODES),
            ):
                with pytest.raises(ApiError) as refused:
                    await attempt
                assert refused.value.code == 403
            assert (
                'User "bob" cannot list resource "nodes" in API group "" at the cluster scope' in refused.value.message
            )
            await server.client.delete(ROLE_BINDINGS, "b", "default")
            with pytest.raises(ApiError):
                await bob.get(CONFIGMAPS, "mine", "default")

    asyncio.run(story())


RBAC = "rbac.authorization.k8s.io"


@pytest.mark.parametrize(
    ("role", "allowed", "denied"),
    [
        (
            "view",
            [("get", "", "pods"), ("list", "apps", "deployments")],
            [("get", "", "secrets"), ("create", "", "pods")],
        ),
        (
            "edit",
            [("create", "", "pods"), ("get", "", "secrets"), ("create", "", "pods/exec")],
            # who writes endpoints sends the traffic of others where it likes (CVE-2021-25740)
            [("create", RBAC, "roles"), ("update", "", "endpoints"), ("create", "discovery.k8s.io", "endpointslices")],
        ),
        (
            "admin",
            [("create", RBAC, "roles"), ("delete", "apps", "deployments")],
            [("create", "", "nodes"), ("patch", "", "endpoints")],
        ),
    ],
)
def test_the_user_facing_roles(
    role: str, allowed: list[tuple[str, str, str]], denied: list[tuple[str, str, str]]
) -> None:
    async def story() -> None:
        async with secured() as server:
            ref = {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"}
            subject = {"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}
            await server.client.create(
                ROLE_BINDINGS, {"metadata": {"name": "b"}, "roleRef": ref, "subjects": [subject]}, "default"
            )
            for questions, wanted in ((allowed, True), (denied, False)):
                for verb, group, resource in questions:
                    plural, _, sub = resource.partition("/")
                    asked = {
                        "verb": verb,
                        "group": group,
                        "resource": plural,
                        "subresource": sub,
                        "namespace": "default",
                    }
                    review = {"spec": {"user": "bob", "resourceAttributes": asked}}
                    answer = await server.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
                    assert orjson.loads(answer.body)["status"]["allowed"] is wanted, (verb, resource)

    asyncio.run(story())


def test_every_bootstrap_binding_names_a_role_that_exists() -> None:
    made = bootstrap.objects()
    roles = {(o["kind"], o["metadata"]["name"]) for _, o in made}
    for _, obj in made:
        if "roleRef" in obj:
            assert (obj["roleRef"]["kind"], obj["roleRef"]["name"]) in roles


def test_who_am_i_and_the_key_that_verifies_tokens() -> None:
    async def story() -> None:
        async with secured() as server:
            answer = await server.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, user=BOB)
            assert orjson.loads(answer.body)["status"]["userInfo"]["username"] == "bob"
            keys = await server.request("GET", "/openid/v1/jwks")
            assert orjson.loads(keys.body)["keys"][0]["kty"] == "EC"
            issuer = await server.request("GET", "/.well-known/openid-configuration")
            assert orjson.loads(issuer.body)["issuer"] == ISSUER

    asyncio.run(story())


def test_a_bound_token_is_not_revived_by_a_namesake() -> None:
    """Pod, account, node and secret: gone and made anew under the same name, they are others."""

    async def story() -> None:
        async with secured() as server:
            client = server.client
            account = {"metadata": {"name": "robot"}}
            spec = {"serviceAccountName": "robot", "nodeName": "n", "containers": [{"name": "c", "image": "x"}]}
            objects: dict[str, tuple[Resource, dict[str, Any], str]] = {
                "Pod": (PODS, {"metadata": {"name": "p"}, "spec": spec}, "default"),
                "Secret": (SECRETS, {"metadata": {"name": "s"}}, "default"),
                "Node": (NODES, {"metadata": {"name": "n"}}, ""),
            }
            await client.create(SERVICEACCOUNTS, account, "default")
            for kind, (resource, body, namespace) in reversed(objects.items()):
                made = await client.create(resource, body, namespace)
                ref = {
                    "kind": kind,
                    "apiVersion": "v1",
                    "name": made["metadata"]["name"],
                    "uid": made["metadata"]["uid"],
                }
                asked = {"spec": {"expirationSeconds": 600, "boundObjectRef": ref}}
                given = await client.create(SERVICEACCOUNTS, asked, "default", "token", "robot")
                token = given["status"]["token"]
                assert (await ask(server, "/version", token=token)).status == 200
                await client.delete(resource, made["metadata"]["name"], namespace, grace=0)
                assert (await ask(server, "/version", token=token)).status == 401, kind
                await client.create(resource, body, namespace)
                assert (await ask(server, "/version", token=token)).status == 401, kind
                review = await server.request(
                    "POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}}
                )
                assert not orjson.loads(review.body)["status"].get("authenticated"), kind  # type: ignore[arg-type]
            given = await client.create(SERVICEACCOUNTS, {"spec": {}}, "default", "token", "robot")
            token = given["status"]["token"]
            assert (await ask(server, "/version", token=token)).status == 200
            await client.delete(SERVICEACCOUNTS, "robot", "default")
            await client.create(SERVICEACCOUNTS, account, "default")
            assert (await ask(server, "/version", token=token)).status == 401

    asyncio.run(story())
