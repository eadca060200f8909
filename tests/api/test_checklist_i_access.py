"""API checklist, section I: who comes in, tokens, health, admission order, defaults of pods and services."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from jota.api.filters.attributes import User
from jota.api.security import secure, write_roles
from jota.meta.resource import SERVICEACCOUNTS
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer, story
from jota.wire.message import Peer, Request

ISSUER = "https://kubernetes.default.svc.cluster.local"
PODS = "/api/v1/namespaces/default/pods"


def read(response: Any) -> Any:
    return orjson.loads(response.body)


@asynccontextmanager
async def secured() -> AsyncIterator[ApiServer]:
    server = ApiServer()
    secure(server.api, TokenSigner(TokenSigner.create_key()), ISSUER)
    async with server:
        await write_roles(server.api)
        yield server


async def ask(server: ApiServer, method: str, path: str, body: Any = None, **headers: str) -> Any:
    data = b"" if body is None else orjson.dumps(body)
    named = {k.replace("_", "-"): v for k, v in headers.items()} | {"content-type": "application/json"}
    return await server.api.handle(Request(method, path, headers=named, body=data, peer=Peer("127.0.0.1", 1, None)))


async def token_of(server: ApiServer, **spec: Any) -> str:
    await server.client.create(SERVICEACCOUNTS, {"metadata": {"name": "robot"}}, "default")
    answer = await server.client.create(SERVICEACCOUNTS, {"spec": spec}, "default", "token", "robot")
    return str(answer["status"]["token"])


def claims(token: str) -> Any:
    part = token.split(".")[1]
    return orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_65_a_token_carries_its_claims_and_strangers_are_refused() -> None:
    async def main() -> None:
        async with secured() as server:
            token = await token_of(server)
            said = claims(token)
            assert {"iss", "sub", "aud", "exp", "iat", "nbf", "kubernetes.io"} <= said.keys()
            assert said["kubernetes.io"]["namespace"] == "default"
            assert said["kubernetes.io"]["serviceaccount"]["name"] == "robot"
            stranger = await ask(server, "GET", PODS)
            assert (stranger.status, "system:anonymous" in read(stranger)["message"]) == (403, True)
            for bad in ("x.y.z", "nonsense", "abcdef.0123456789abcdef"):
                refused = await ask(server, "GET", PODS, authorization=f"Bearer {bad}")
                # kubectl prints it in brackets, and scripts look for that
                assert (refused.status, read(refused)["message"]) == (401, "Unauthorized")
            known = await ask(server, "GET", PODS, authorization=f"Bearer {token}")
            assert (known.status, read(known)["details"]["kind"]) == (403, "pods")
            borrowed = {"authorization": f"Bearer {token}", "impersonate_user": "admin"}
            assert (await ask(server, "GET", PODS, **borrowed)).status == 403

    asyncio.run(main())


def test_66_tokens_are_requested_and_reviewed() -> None:
    async def main() -> None:
        async with secured() as server:
            token = await token_of(server, expirationSeconds=600)
            body = {"spec": {"token": token}}
            review = "/apis/authentication.k8s.io/v1/tokenreviews"
            status = read(await server.request("POST", review, body))["status"]
            assert (status["authenticated"], status["user"]["username"]) == (
                True,
                "system:serviceaccount:default:robot",
            )
            assert "system:serviceaccounts" in status["user"]["groups"]
            assert ISSUER in status["audiences"] or status["audiences"]
            where = "/api/v1/namespaces/default/serviceaccounts/robot/token"
            short = await server.request("POST", where, {"spec": {"expirationSeconds": 10}})
            assert short.status == 422
            told = orjson.loads(short.body)["message"]  # of a request that has no name, also where it is told one
            assert told.startswith('TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: ')
            me = await ask(
                server,
                "POST",
                "/apis/authentication.k8s.io/v1/selfsubjectreviews",
                {},
                authorization=f"Bearer {token}",
            )
            assert read(me)["status"]["userInfo"]["username"].endswith(":robot")

    asyncio.run(main())


def test_03_a_review_cannot_be_had_as_a_table() -> None:
    async def main() -> None:
        async with secured() as server:
            review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
            body = {"spec": {"nonResourceAttributes": {"verb": "get", "path": "/"}}}
            table = "application/json;as=Table;v=v1;g=meta.k8s.io"
            refused = await server.request("POST", review, body, accept=table)
            assert (refused.status, read(refused)["code"]) == (406, 406)
            assert (await server.request("POST", review, body)).status == 201

    asyncio.run(main())


def test_67_the_issuer_describes_itself() -> None:
    async def main() -> None:
        async with secured() as server:
            document = read(await server.request("GET", "/.well-known/openid-configuration"))
            assert document["issuer"] == ISSUER
            keys = read(await server.request("GET", "/openid/v1/jwks"))["keys"]
            assert {"kty", "kid", "alg", "use"} <= keys[0].keys()

    asyncio.run(main())


@story
async def test_68_health_is_told_in_words(api: ApiServer) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/livez/ping"):
        assert ((await api.request("GET", path)).body, path) == (b"ok", path)
    assert b"[+]ping ok\n" in (await api.request("GET", "/readyz?verbose")).body  # type: ignore[operator]
    assert (await api.request("GET", "/livez/nothing")).status == 404
    assert b"# TYPE" in (await api.request("GET", "/metrics")).body  # type: ignore[operator]
    assert "/apis" in read(await api.request("GET", "/"))["paths"]


@story
async def test_70_mutation_comes_before_validation(api: ApiServer) -> None:
    """The priority of a class is filled in, and what the client said instead is refused; nothing is stored then."""
    container = {"name": "c", "image": "i"}
    wrong = {"metadata": {"name": "p"}, "spec": {"containers": [container], "priority": 7}}
    assert (await api.request("POST", PODS, wrong)).status == 403
    assert (await api.request("GET", f"{PODS}/p")).status == 404
    right = {
        "metadata": {"name": "p"},
        "spec": {"containers": [container], "priorityClassName": "system-node-critical"},
    }
    assert read(await api.request("POST", PODS, right))["spec"]["priority"] == 2_000_001_000


@story
async def test_71_defaults_of_pods_and_services(api: ApiServer) -> None:
    containers = [
        {"name": "a", "image": "i", "ports": [{"containerPort": 80}], "readinessProbe": {"httpGet": {"port": 80}}},
        {"name": "b", "image": "i:1"},
    ]
    spec = read(await api.request("POST", PODS, {"metadata": {"name": "p"}, "spec": {"containers": containers}}))[
        "spec"
    ]
    expected = {
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "terminationGracePeriodSeconds": 30,
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
        "priority": 0,
        "securityContext": {},
        "serviceAccountName": "default",
    }
    assert {k: spec[k] for k in expected} == expected
    assert [t["tolerationSeconds"] for t in spec["tolerations"]] == [300, 300]
    first, second = spec["containers"]
    assert (first["imagePullPolicy"], second["imagePullPolicy"]) == ("Always", "IfNotPresent")
    assert first["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert first["readinessProbe"] == {
        "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert (first["terminationMessagePath"], first["terminationMessagePolicy"]) == ("/dev/termination-log", "File")
    assert any(v["name"].startswith("kube-api-access-") for v in spec["volumes"])
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    made = read(await api.request("POST", "/api/v1/namespaces/default/services", service))["spec"]
    address = made["clusterIP"]
    assert made == {
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "type": "ClusterIP",
        "clusterIP": address,
        "clusterIPs": [address],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "None",
    }


def test_who_may_do_everything_is_told_so_once() -> None:
    async def main() -> None:
        async with secured() as server:
            path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
            admin = User("admin", groups=("system:masters", "system:authenticated"))
            answer = await server.request("POST", path, {"spec": {"namespace": "default"}}, user=admin)
            status = read(answer)["status"]
            everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
            assert status["resourceRules"].count(everything) == 1
            assert status["nonResourceRules"].count({"nonResourceURLs": ["*"], "verbs": ["*"]}) == 1

    asyncio.run(main())
