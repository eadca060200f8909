"""A namespaced user cannot grow: not by roles, bindings, aggregation, impersonation, tokens, selectors or subresources."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from jota.api.admission import mutating_policies, policies
from jota.api.filters.attributes import User
from jota.api.rbac.index import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from jota.api.security import secure, write_roles
from jota.client.client import Client
from jota.controllers.clusterrole_aggregation import plan
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, CSRS, LEASES, PODS, SECRETS, SERVICEACCOUNTS
from jota.pki.ca import CertificateAuthority, Subject, create_csr
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer

GROUP = "rbac.authorization.k8s.io"
EVE = User("eve", groups=("team", "system:authenticated"))
"""Admin of the namespace "hers", nothing elsewhere."""


def bound(name: str, role: str, *subjects: str, kind: str = "ClusterRole") -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
        "subjects": [{"kind": "User", "apiGroup": GROUP, "name": s} for s in subjects],
    }


def rule(verbs: str, resource: str, group: str = "", **more: Any) -> dict[str, Any]:
    return {"verbs": verbs.split(), "apiGroups": [group], "resources": [resource], **more}


@asynccontextmanager
async def cluster() -> AsyncIterator[tuple[ApiServer, Client]]:
    server = ApiServer()
    secure(server.api, TokenSigner(TokenSigner.create_key()), "https://issuer")
    async with server:
        await write_roles(server.api)
        for namespace in ("hers", "theirs"):
            await server.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
            secret = {"metadata": {"name": "s", "labels": {"a": "b"}}, "stringData": {"k": "hidden-" + namespace}}
            await server.client.create(SECRETS, secret, namespace)
        await server.client.create(ROLE_BINDINGS, bound("eve", "admin", "eve"), "hers")
        yield server, server.client_for(EVE)


async def refused(work: Any, code: int = 403) -> str:
    with pytest.raises(ApiError) as caught:
        await work
    assert caught.value.code == code, caught.value
    return caught.value.message


def test_a_role_may_hold_what_its_writer_holds() -> None:
    async def story() -> None:
        async with cluster() as (_, eve):
            await eve.create(ROLES, {"metadata": {"name": "ok"}, "rules": [rule("get list", "secrets")]}, "hers")
            worse = {"metadata": {"name": "bad"}, "rules": [rule("get create", "nodes"), rule("get", "pods")]}
            text = await refused(eve.create(ROLES, worse, "hers"))
            assert text == (
                'roles.rbac.authorization.k8s.io "bad" is forbidden: user "eve" (groups=["team" "system:authenticated"]) '
                "is attempting to grant RBAC permissions not currently held:\n"
                '{APIGroups:[""], Resources:["nodes"], Verbs:["create" "get"]}'
            )
            await refused(eve.patch(ROLES, "ok", "hers", {"rules": [rule("*", "*", "*")]}))
            applied = {"apiVersion": f"{GROUP}/v1", "kind": "Role", "rules": [rule("escalate", "roles", GROUP)]}
            applied["metadata"] = {"name": "ssa"}
            await refused(eve.patch(ROLES, "ssa", "hers", applied, type="apply", manager="m"))
            # naming everything is not holding everything
            await refused(
                eve.create(ROLES, {"metadata": {"name": "x"}, "rules": [rule("get", "*")]}, "hers"),
            )

    asyncio.run(story())


def test_who_may_change_but_not_create_makes_nothing() -> None:
    """Neither by an apply, nor by a PUT of a kind that lets one create."""

    async def story() -> None:
        async with cluster() as (server, _):
            rules = [rule("patch update", "configmaps"), rule("patch update", "leases", "coordination.k8s.io")]
            named = [rule("create", "configmaps", resourceNames=["hers"])]
            await server.client.create(ROLES, {"metadata": {"name": "w"}, "rules": rules + named}, "hers")
            await server.client.create(ROLE_BINDINGS, bound("w", "w", "wes", kind="Role"), "hers")
            wes = server.client_for(User("wes", groups=("system:authenticated",)), manager="wes")

            def config(name: str) -> dict[str, Any]:
                return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}}

            revision = server.store.revision
            text = await refused(wes.patch(CONFIGMAPS, "new", "hers", config("new"), type="apply"))
            assert 'User "wes" cannot create resource "configmaps" in API group "" in the namespace "hers"' in text
            lease = {"metadata": {"name": "l", "namespace": "hers"}, "spec": {}}
            assert "cannot create resource" in await refused(wes.update(LEASES, lease))
            assert server.store.revision == revision
            await server.client.create(CONFIGMAPS, config("old"), "hers")
            await wes.patch(CONFIGMAPS, "old", "hers", config("old"), type="apply")
            await wes.patch(CONFIGMAPS, "hers", "hers", config("hers"), type="apply")

    asyncio.run(story())


@pytest.mark.parametrize("stream", ["exec", "attach", "portforward"])
def test_who_may_but_look_opens_no_stream(stream: str) -> None:
    """A WebSocket begins with a GET; what it does in the pod is no reading (AuthorizePodWebsocketUpgradeCreatePermission)."""

    async def story() -> None:
        async with cluster() as (server, _):
            pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
            await server.client.create(PODS, pod, "hers")
            for name, verbs in (("vic", "get list watch"), ("wes", "get create")):
                await server.client.create(ROLES, {"metadata": {"name": name}, "rules": [rule(verbs, "*")]}, "hers")
                await server.client.create(ROLE_BINDINGS, bound(name, name, name, kind="Role"), "hers")
            path, query = f"/api/v1/namespaces/hers/pods/p/{stream}", "command=sh&stdout=1&ports=80"

            async def knock(who: str, method: str) -> tuple[int, str]:
                user = User(who, groups=("system:authenticated",))
                response = await server.request(method, path, query=query, user=user)
                return response.status, orjson.loads(response.body)["message"]  # type: ignore[arg-type]

            for method in ("GET", "POST"):
                code, text = await knock("vic", method)
                assert (code, f'cannot create resource "pods/{stream}"' in text) == (403, True), text
                assert await knock("wes", method) == (400, "pod p does not have a host assigned")

    asyncio.run(story())


@pytest.mark.parametrize("module", [policies, mutating_policies])
def test_who_writes_policies_reads_no_parameters_by_them(module: Any) -> None:
    """An expression, or its message, would tell what is in the Secret that is the policy's parameter."""

    async def story() -> None:
        async with cluster() as (server, _):
            group = module.POLICIES.group
            rules = [rule("*", plural, group) for plural in (module.POLICIES.plural, module.BINDINGS.plural)]
            await server.client.create(CLUSTER_ROLES, {"metadata": {"name": "p"}, "rules": rules})
            await server.client.create(CLUSTER_ROLE_BINDINGS, bound("p", "p", "pat"))
            pat, constraints = (
                server.client_for(User("pat", groups=("system:authenticated",))),
                [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
            )

            def policy(name: str, kind: str) -> dict[str, Any]:
                spec: dict[str, Any] = {"matchConstraints": {"resourceRules": constraints}}
                if kind:
                    spec["paramKind"] = {"apiVersion": "v1", "kind": kind}
                if module is policies:
                    spec["validations"] = [{"expression": "true"}]
                else:
                    change = {"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}
                    spec |= {"mutations": [change], "reinvocationPolicy": "Never"}
                return {"metadata": {"name": name}, "spec": spec}

            def binding(**ref: Any) -> dict[str, Any]:
                spec: dict[str, Any] = {"policyName": "secret", "paramRef": {"parameterNotFoundAction": "Deny", **ref}}
                if module is policies:
                    spec["validationActions"] = ["Deny"]
                return {"metadata": {"name": "b"}, "spec": spec}

            await pat.create(module.POLICIES, policy("plain", ""))
            text = await refused(pat.create(module.POLICIES, policy("mine", "Secret")), 422)
            assert 'spec.paramKind: Forbidden: user pat must have "get" permission on all objects' in text
            made = await pat.create(module.POLICIES, policy("later", ""))
            made["spec"]["paramKind"] = {"apiVersion": "v1", "kind": "Secret"}
            await refused(pat.update(module.POLICIES, made), 422)
            await server.client.create(module.POLICIES, policy("secret", "Secret"))
            for ref in ({"name": "s", "namespace": "hers"}, {"selector": {}}):
                assert "spec.paramRef: Forbidden" in await refused(pat.create(module.BINDINGS, binding(**ref)), 422)
            reads = [rule("get", "secrets", resourceNames=["s"])]
            await server.client.create(ROLES, {"metadata": {"name": "r"}, "rules": reads}, "hers")
            await server.client.create(ROLE_BINDINGS, bound("r", "r", "pat", kind="Role"), "hers")
            await pat.create(module.BINDINGS, binding(name="s", namespace="hers"))

    asyncio.run(story())


def test_a_binding_may_give_what_its_writer_holds() -> None:
    async def story() -> None:
        async with cluster() as (server, eve):
            await eve.create(ROLE_BINDINGS, bound("ok", "view", "bob"), "hers")
            assert "attempting to grant" in await refused(
                eve.create(ROLE_BINDINGS, bound("bad", "cluster-admin", "eve"), "hers")
            )
            await refused(eve.create(ROLE_BINDINGS, bound("none", "ghost", "eve"), "hers"), 404)
            await refused(eve.create(CLUSTER_ROLE_BINDINGS, bound("all", "view", "eve")))
            # who may bind one role by name may bind this one alone
            allowed = rule("bind", "clusterroles", GROUP, resourceNames=["cluster-admin"])
            await server.client.create(ROLES, {"metadata": {"name": "binder"}, "rules": [allowed]}, "hers")
            await server.client.create(ROLE_BINDINGS, bound("binder", "binder", "eve", kind="Role"), "hers")
            await refused(eve.create(ROLE_BINDINGS, bound("bad", "system:node", "eve"), "hers"))
            await eve.create(ROLE_BINDINGS, bound("good", "cluster-admin", "eve"), "hers")
            await eve.get(SECRETS, "s", "hers")
            await refused(eve.get(SECRETS, "s", "theirs"))

    asyncio.run(story())


def test_the_verb_escalate_lifts_the_check() -> None:
    async def story() -> None:
        async with cluster() as (server, eve):
            await server.client.create(
                ROLES, {"metadata": {"name": "up"}, "rules": [rule("escalate", "roles", GROUP)]}, "hers"
            )
            await server.client.create(ROLE_BINDINGS, bound("up", "up", "eve", kind="Role"), "hers")
            await eve.create(ROLES, {"metadata": {"name": "any"}, "rules": [rule("*", "*", "*")]}, "hers")

    asyncio.run(story())


def test_an_aggregation_rule_needs_everything() -> None:
    async def story() -> None:
        async with cluster() as (server, eve):
            writer = {"metadata": {"name": "writer"}, "rules": [rule("create update", "clusterroles", GROUP)]}
            await server.client.create(CLUSTER_ROLES, writer)
            await server.client.create(CLUSTER_ROLE_BINDINGS, bound("writer", "writer", "eve"))
            selectors = {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}
            text = await refused(
                eve.create(CLUSTER_ROLES, {"metadata": {"name": "x"}, "aggregationRule": selectors, "rules": []})
            )
            assert "must have cluster-admin privileges to use an aggregationRule" in text

    asyncio.run(story())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/secrets"),
        ("GET", "/api/v1/secrets?fieldSelector=metadata.namespace=hers"),
        ("GET", "/api/v1/secrets?watch=1&fieldSelector=metadata.namespace=hers"),
        ("GET", "/api/v1/watch/secrets"),
        ("GET", "/api/v1/namespaces/theirs/secrets"),
        ("GET", "/api/v1/namespaces/theirs/secrets?labelSelector=a=b"),
        ("GET", "/api/v1/namespaces/theirs/secrets/s"),
        ("GET", "/api/v1/namespaces/theirs/secrets/absent"),
        ("HEAD", "/api/v1/namespaces/theirs/secrets/s"),
        ("GET", "/api/v1/watch/namespaces/theirs/secrets/s"),
        ("GET", "/api/v1/namespaces/hers/../theirs/secrets/s"),
        ("GET", "/api/v1/namespaces/%74heirs/secrets/s"),
        ("GET", "/api/v1/namespaces/theirs/secrets/s/"),
        ("PUT", "/api/v1/namespaces/theirs/secrets/s"),
        ("PATCH", "/api/v1/namespaces/theirs/secrets/s"),
        ("POST", "/api/v1/namespaces/theirs/secrets"),
        ("DELETE", "/api/v1/namespaces/theirs/secrets/s"),
        ("DELETE", "/api/v1/namespaces/theirs/secrets"),
        ("POST", "/api/v1/namespaces/theirs/serviceaccounts/default/token"),
        ("GET", "/api/v1/namespaces/theirs/pods/p/log"),
        ("POST", "/api/v1/namespaces/theirs/pods/p/exec"),
        ("GET", "/api/v1/namespaces/theirs/services/web/proxy/"),
        ("POST", "/api/v1/namespaces/theirs/bindings"),
        ("POST", "/api/v1/namespaces/theirs/pods/p/eviction"),
        ("PUT", "/api/v1/namespaces/theirs/finalize"),
        ("PUT", "/api/v1/namespaces/hers/finalize"),
        ("DELETE", "/api/v1/namespaces/hers"),
        ("POST", "/api/v1/namespaces"),
        ("GET", "/api/v1/nodes/n/proxy/pods"),
        ("PUT", "/api/v1/namespaces/hers/resourcequotas/q"),
        ("GET", "/metrics"),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/admin"),
        ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews"),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews"),
        ("POST", "/apis/authorization.k8s.io/v1/namespaces/theirs/localsubjectaccessreviews"),
    ],
)
def test_the_neighbour_stays_closed_and_silent(method: str, path: str) -> None:
    async def story() -> None:
        async with cluster() as (server, _):
            body = orjson.dumps({"metadata": {"name": "s"}})
            answer = await server.request(method, path, body, user=EVE)
            text = answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)
            assert answer.status in (403, 404), (answer.status, text)
            if answer.status == 404:
                assert ".." in path
            assert b"hidden" not in text

    asyncio.run(story())


@pytest.mark.parametrize(
    "headers",
    [
        {"impersonate_user": "kubernetes-admin"},
        {"impersonate_user": "eve", "impersonate_group": "system:masters"},
        {"impersonate_user": "system:serviceaccount:theirs:default"},
        {"impersonate_user": "system:node:n1", "impersonate_group": "system:nodes"},
        {"impersonate_user": "eve", "impersonate_uid": "1"},
        {"impersonate_user": "eve", "impersonate_extra_scopes": "all"},
    ],
)
def test_nobody_else_is_impersonated(headers: dict[str, str]) -> None:
    async def story() -> None:
        async with cluster() as (server, _):
            answer = await server.request("GET", "/api/v1/namespaces/hers/secrets", user=EVE, **headers)
            assert answer.status == 403
            alone = await server.request("GET", "/api/v1/namespaces/hers/secrets", user=EVE, impersonate_group="x")
            assert alone.status == 400

    asyncio.run(story())


def test_a_namespace_admin_acts_as_its_accounts_and_is_still_within() -> None:
    async def story() -> None:
        async with cluster() as (server, eve):
            await eve.create(SERVICEACCOUNTS, {"metadata": {"name": "robot"}}, "hers")
            path = "/api/v1/namespaces/hers/secrets"
            robot = "system:serviceaccount:hers:robot"
            assert (await server.request("GET", path, user=EVE, impersonate_user=robot)).status == 403
            await eve.create(ROLE_BINDINGS, bound("robot", "edit", robot), "hers")
            assert (await server.request("GET", path, user=EVE, impersonate_user=robot)).status == 200

    asyncio.run(story())


def test_certificates_are_approved_and_signed_by_those_who_may() -> None:
    async def story() -> None:
        async with cluster() as (server, _):
            import base64

            await server.client.create(
                CLUSTER_ROLES,
                {
                    "metadata": {"name": "clerk"},
                    "rules": [
                        rule("create get", "certificatesigningrequests", CSRS.group),
                        rule("update", "certificatesigningrequests/approval", CSRS.group),
                        rule("update", "certificatesigningrequests/status", CSRS.group),
                        rule("approve", "signers", CSRS.group, resourceNames=["example.com/*"]),
                    ],
                },
            )
            await server.client.create(CLUSTER_ROLE_BINDINGS, bound("clerk", "clerk", "carl"))
            carl = server.client_for(User("carl"))

            def request(name: str, signer: str, *groups: str) -> dict[str, Any]:
                csr, _ = create_csr(Subject("carl", groups))
                spec = {"request": base64.b64encode(csr).decode(), "signerName": signer, "usages": ["client auth"]}
                return {"metadata": {"name": name}, "spec": spec}

            approved = [{"type": "Approved", "status": "True", "reason": "r", "message": "m"}]
            mine = await carl.create(CSRS, request("mine", "example.com/s"))
            approving = {**mine, "status": {"conditions": approved}}
            signed = await carl.update(CSRS, approving, "approval")
            assert signed["status"]["conditions"][0]["type"] == "Approved"
            other = await carl.create(CSRS, request("other", "kubernetes.io/kube-apiserver-client"))
            text = await refused(carl.update(CSRS, {**other, "status": {"conditions": approved}}, "approval"))
            assert 'not permitted to approve requests with signerName "kubernetes.io/kube-apiserver-client"' in text
            pem = base64.b64encode(CertificateAuthority.create("x", days=1, now=1.8e9).certificate).decode()
            text = await refused(
                carl.update(CSRS, {**signed, "status": {**signed["status"], "certificate": pem}}, "status")
            )
            assert "not permitted to sign" in text
            # whoever may write the status does not decide by it
            decided = {**other, "status": {"conditions": approved}}
            assert "updates may not add" in await refused(carl.update(CSRS, decided, "status"), 422)
            masters = request("masters", "kubernetes.io/kube-apiserver-client", "system:masters")
            assert "system:masters" in await refused(carl.create(CSRS, masters))

    asyncio.run(story())


def test_bootstrap_policy_heals_and_leaves_additions() -> None:
    async def story() -> None:
        async with cluster() as (server, _):
            client = server.client
            basic = await client.get(CLUSTER_ROLES, "system:basic-user")
            await client.update(CLUSTER_ROLES, {**basic, "rules": [rule("get", "pods")]})
            await client.patch(CLUSTER_ROLE_BINDINGS, "system:discovery", patch={"subjects": []})
            kept = {"metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}, "rules": []}
            await client.patch(CLUSTER_ROLES, "system:kube-dns", patch=kept)
            await client.delete(CLUSTER_ROLE_BINDINGS, "system:basic-user")
            await client.create(CLUSTER_ROLE_BINDINGS, bound("system:basic-user", "view", "bob"))
            await write_roles(server.api)
            rules = (await client.get(CLUSTER_ROLES, "system:basic-user"))["rules"]
            assert rule("get", "pods") in rules
            assert len(rules) == 1 + len(basic["rules"])
            subjects = (await client.get(CLUSTER_ROLE_BINDINGS, "system:discovery"))["subjects"]
            assert [s["name"] for s in subjects] == ["system:authenticated"]
            assert not (await client.get(CLUSTER_ROLES, "system:kube-dns")).get("rules")
            again = await client.get(CLUSTER_ROLE_BINDINGS, "system:basic-user")
            assert again["roleRef"]["name"] == "system:basic-user"
            revision = server.store.revision
            await write_roles(server.api)
            assert server.store.revision == revision, "a second start has nothing to mend"

    asyncio.run(story())


def test_an_aggregated_role_is_the_sum_of_its_parts() -> None:
    def role(name: str, labels: dict[str, str], *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"metadata": {"name": name, "labels": labels}, "rules": list(rules), **more}

    a, b = role("a", {"x": "1"}, rule("get", "pods")), role("b", {"x": "1"}, rule("get", "pods"), rule("get", "nodes"))
    whole = role("all", {"x": "1"}, aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"x": "1"}}]})
    assert plan(whole, [b, whole, a, role("c", {}, rule("get", "secrets"))]) == [
        rule("get", "pods"),
        rule("get", "nodes"),
    ]
