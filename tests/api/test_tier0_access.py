"""Tier 0 of the conformance suite, its rows about who may what: reviews, impersonation, tokens, certificates, CEL policies."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from jota.api.filters.attributes import User
from jota.api.security import secure, write_roles
from jota.pki.ca import CertificateAuthority, Subject, create_csr
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer, Watching, story
from jota.wire.limits import Limits
from jota.wire.message import Request
from jota.wire.reading import Reader

MERGE = "application/merge-patch+json"
WHEN = "2026-01-01T00:00:00Z"
EXTENSION = "/apis/admissionregistration.k8s.io/v1"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def guarded(test: Callable[[ApiServer], Awaitable[None]]) -> Callable[[], None]:
    """As `story`, with authentication and RBAC."""

    def run() -> None:
        async def main() -> None:
            server = ApiServer()
            secure(server.api, TokenSigner(TokenSigner.create_key()), "https://issuer")
            async with server:
                await write_roles(server.api)
                await test(server)

        asyncio.run(main())

    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    return run


async def do(api: ApiServer, method: str, path: str, body: Any = b"", **more: Any) -> tuple[int, Any]:
    response = await api.request(method, path, body, **more)
    data = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    return response.status, orjson.loads(data)


async def ok(api: ApiServer, method: str, path: str, body: Any = b"", **more: Any) -> Any:
    status, data = await do(api, method, path, body, **more)
    assert status in (200, 201), (method, path, data)
    return data


def deployment(name: str, replicas: int = 1, **meta: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    return {"metadata": {"name": name, **meta}, "spec": spec}


@guarded
async def test_api_table_406(api: ApiServer) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    spec = {"resourceAttributes": {"namespace": "default", "resource": "pods", "verb": "list"}}
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    status, told = await do(api, "POST", path, {"spec": spec}, accept=table)
    assert (status, told["code"], told["reason"]) == (406, 406, "NotAcceptable")


@guarded
async def test_auth_subject_access_review_agrees_with_the_real_call(api: ApiServer) -> None:
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    rule = {"verbs": ["list"], "apiGroups": [""], "resources": ["configmaps"]}
    await ok(api, "POST", f"{rbac}/roles", {"metadata": {"name": "r"}, "rules": [rule]})
    account = {"kind": "ServiceAccount", "name": "e2e", "namespace": "default"}
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    await ok(api, "POST", f"{rbac}/rolebindings", {"metadata": {"name": "b"}, "roleRef": ref, "subjects": [account]})
    name = "system:serviceaccount:default:e2e"
    groups = ["system:authenticated", "system:serviceaccounts", "system:serviceaccounts:default"]
    group = "/apis/authorization.k8s.io/v1"
    for verb in ("list", "delete", "get"):
        for namespace in ("default", "kube-system"):
            attributes = {"namespace": namespace, "verb": verb, "resource": "configmaps", "version": "v1"}
            spec = {"user": name, "groups": groups, "resourceAttributes": attributes}
            whole = await ok(api, "POST", f"{group}/subjectaccessreviews", {"spec": spec})
            local = await ok(
                api,
                "POST",
                f"{group}/namespaces/{namespace}/localsubjectaccessreviews",
                {"metadata": {"namespace": namespace}, "spec": spec},
            )
            method, end = {"list": ("GET", ""), "get": ("GET", "/x"), "delete": ("DELETE", "/x")}[verb]
            status, _ = await do(
                api,
                method,
                f"/api/v1/namespaces/{namespace}/configmaps{end}",
                impersonate_user=name,
                impersonate_group="system:authenticated",
                impersonate_uid="1",
            )
            assert whole["status"]["allowed"] == local["status"]["allowed"] == (status != 403), (verb, namespace)
    other = {"namespace": "kube-system", "verb": "list", "resource": "configmaps"}
    body = {"metadata": {"namespace": "default"}, "spec": {"user": name, "resourceAttributes": other}}
    assert (await do(api, "POST", f"{group}/namespaces/default/localsubjectaccessreviews", body))[0] in (400, 422)


@guarded
async def test_auth_tokenrequest_tokenreview(api: ApiServer) -> None:
    where = "/api/v1/namespaces/default/serviceaccounts"
    await ok(api, "POST", where, {"metadata": {"name": "sa"}})
    made = await ok(api, "POST", f"{where}/sa/token", {"spec": {"expirationSeconds": 3600, "audiences": ["vault"]}})
    assert made["kind"] == "TokenRequest"
    assert made["status"]["expirationTimestamp"].endswith("Z")
    token, reviews = made["status"]["token"], "/apis/authentication.k8s.io/v1/tokenreviews"
    for audiences, good in ((["vault"], True), ([], False), (["other"], False)):
        told = await ok(api, "POST", reviews, {"spec": {"token": token, "audiences": audiences}})
        assert bool(told["status"].get("authenticated")) is good, audiences
    told = await ok(api, "POST", reviews, {"spec": {"token": token, "audiences": ["vault"]}})
    assert told["status"]["user"]["username"] == "system:serviceaccount:default:sa"
    assert told["status"]["audiences"] == ["vault"]


@guarded
async def test_auth_csr_api(api: ApiServer) -> None:
    where = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    request = base64.b64encode(create_csr(Subject("e2e", ()))[0]).decode()
    spec = {"request": request, "signerName": "example.com/e2e", "usages": ["digital signature", "client auth"]}
    async with Watching(api, f"{where}?watch=1&fieldSelector=spec.signerName%3Dexample.com/e2e") as watching:
        made = await ok(api, "POST", where, {"metadata": {"name": "c", "labels": {"e2e": "1"}}, "spec": spec})
        assert made["spec"]["username"]
        assert (await do(api, "POST", where, {"metadata": {"name": "bad"}, "spec": {**spec, "request": "eA=="}}))[
            0
        ] == 422
        await ok(api, "PATCH", f"{where}/c", {"metadata": {"annotations": {"p": "1"}}}, content_type=MERGE)
        got = await ok(api, "GET", f"{where}/c/approval")
        condition = {"type": "Approved", "status": "True", "reason": "E2E", "message": "m"}
        got["status"]["conditions"] = [condition]
        told = await ok(api, "PUT", f"{where}/c/approval", got)
        assert told["status"]["conditions"][0]["type"] == "Approved"
        patch = {"status": {"conditions": [*told["status"]["conditions"], {**condition, "type": "ApprovalPatch"}]}}
        told = await ok(api, "PATCH", f"{where}/c/approval", patch, content_type=MERGE)
        assert [c["type"] for c in told["status"]["conditions"]] == ["Approved", "ApprovalPatch"]
        # neither endpoint lets the other's part through, and a decision stays
        assert (await do(api, "PATCH", f"{where}/c/approval", {"status": {"conditions": None}}, content_type=MERGE))[
            0
        ] == 422
        told["status"]["conditions"].append({**condition, "type": "StatusUpdate"})
        told = await ok(api, "PUT", f"{where}/c/status", told)
        assert told["status"]["conditions"][-1]["type"] == "StatusUpdate"
        assert (await do(api, "PATCH", f"{where}/c/status", {"status": {"certificate": "eA=="}}, content_type=MERGE))[
            0
        ] == 422
        undecided = [c for c in told["status"]["conditions"] if c["type"] != "Approved"]
        patch = {"status": {"conditions": undecided}}
        assert (await do(api, "PATCH", f"{where}/c/status", patch, content_type=MERGE))[0] == 422
        pem = base64.b64encode(CertificateAuthority.create("x", days=1, now=1.8e9).certificate).decode()
        told = await ok(api, "PATCH", f"{where}/c/status", {"status": {"certificate": pem}}, content_type=MERGE)
        assert told["status"]["certificate"] == pem
        assert (await do(api, "PATCH", f"{where}/c/status", {"status": {"certificate": None}}, content_type=MERGE))[
            0
        ] == 422
        await ok(api, "DELETE", f"{where}?labelSelector=e2e%3D1")
        await api.settle()
        assert watching.names()[0] == ("ADDED", "c")
        assert watching.names()[-1] == ("DELETED", "c")


@story
async def test_api_validating_admission_policy(api: ApiServer) -> None:
    rules = [
        {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}
    ]
    spec: dict[str, Any] = {
        "matchConstraints": {"resourceRules": rules},
        "variables": [{"name": "replicas", "expression": "object.spec.replicas"}],
        "validations": [
            {
                "expression": "variables.replicas > 1",
                "messageExpression": "'wants more than ' + string(variables.replicas)",
            },
            {
                "expression": "namespaceObject.metadata.name == 'default'",
                "message": "default only",
                "reason": "Forbidden",
            },
        ],
    }
    policies, bindings = f"{EXTENSION}/validatingadmissionpolicies", f"{EXTENSION}/validatingadmissionpolicybindings"
    made = await ok(api, "POST", policies, {"metadata": {"name": "p", "labels": {"e2e": "1"}}, "spec": spec})
    assert (made["spec"]["failurePolicy"], made["metadata"]["generation"]) == ("Fail", 1)
    bad = {"metadata": {"name": "bad"}, "spec": {**spec, "validations": [{"expression": "object.foo >"}]}}
    status, told = await do(api, "POST", policies, bad)
    assert (status, "compilation failed" in told["message"]) == (422, True)
    await ok(
        api, "POST", bindings, {"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}}
    )
    await api.settle()
    status, told = await do(api, "POST", DEPLOYMENTS, deployment("one", 1))
    assert (status, told["reason"], "wants more than 1" in told["message"]) == (422, "Invalid", True)
    await ok(api, "POST", DEPLOYMENTS, deployment("two", 2))
    elsewhere = DEPLOYMENTS.replace("default", "kube-public")
    status, told = await do(api, "POST", elsewhere, deployment("two", 2))
    assert (status, "default only" in told["message"]) == (403, True)
    condition = {"type": "e2e", "status": "True", "reason": "r", "message": "m", "lastTransitionTime": WHEN}
    told = await ok(api, "PATCH", f"{policies}/p/status", {"status": {"conditions": [condition]}}, content_type=MERGE)
    assert told["status"]["conditions"] == [condition]
    told["status"]["conditions"][0]["message"] = "put"
    told["spec"]["validations"] = []
    told = await ok(api, "PUT", f"{policies}/p/status", told)
    assert (told["status"]["conditions"][0]["message"], len(told["spec"]["validations"])) == ("put", 2)
    await ok(api, "DELETE", f"{policies}?labelSelector=e2e%3D1")
    await ok(api, "DELETE", bindings)
    await api.settle()
    await ok(api, "POST", DEPLOYMENTS, deployment("one", 1))


@story
async def test_api_mutating_admission_policy(api: ApiServer) -> None:
    rules = [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]
    policies, bindings = f"{EXTENSION}/mutatingadmissionpolicies", f"{EXTENSION}/mutatingadmissionpolicybindings"
    applied = {"expression": "Object{metadata: Object.metadata{annotations: {'by': 'apply'}}}"}
    patched = {"expression": "[JSONPatch{op: 'add', path: '/metadata/labels', value: {'by': 'patch'}}]"}
    spec = {
        "matchConstraints": {
            "resourceRules": rules,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
        },
        "reinvocationPolicy": "Never",
        "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": applied},
            {"patchType": "JSONPatch", "jsonPatch": patched},
        ],
    }
    async with Watching(api, f"{policies}?watch=1") as watching:
        made = await ok(api, "POST", policies, {"metadata": {"name": "m", "labels": {"e2e": "1"}}, "spec": spec})
        assert made["spec"]["failurePolicy"] == "Fail"
        await ok(api, "POST", bindings, {"metadata": {"name": "b"}, "spec": {"policyName": "m"}})
        await api.settle()
        meta = (await ok(api, "POST", DEPLOYMENTS, deployment("d")))["metadata"]
        assert (meta["annotations"]["by"], meta["labels"]["by"]) == ("apply", "patch")
        outside = (await ok(api, "POST", DEPLOYMENTS.replace("default", "kube-public"), deployment("d")))["metadata"]
        assert "labels" not in outside
        await ok(api, "PATCH", f"{policies}/m", {"metadata": {"labels": {"more": "1"}}}, content_type=MERGE)
        await ok(api, "DELETE", f"{policies}?labelSelector=more%3D1")
        await api.settle()
        assert watching.names() == [("ADDED", "m"), ("MODIFIED", "m"), ("DELETED", "m")]
    assert "labels" not in (await ok(api, "POST", DEPLOYMENTS, deployment("after")))["metadata"]


@guarded
async def test_auth_impersonation_needs_leave_for_every_part(api: ApiServer) -> None:
    rule = {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["carl"]}
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    await ok(api, "POST", f"{rbac}/clusterroles", {"metadata": {"name": "imp"}, "rules": [rule]})
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "dora"}
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "imp"}
    await ok(
        api, "POST", f"{rbac}/clusterrolebindings", {"metadata": {"name": "b"}, "roleRef": ref, "subjects": [subject]}
    )
    dora, whoami = User("dora", groups=("system:authenticated",)), "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    told = await ok(api, "POST", whoami, {}, user=dora, impersonate_user="carl")
    assert told["status"]["userInfo"]["username"] == "carl"
    for headers in (
        {"impersonate_user": "dave"},
        {"impersonate_user": "carl", "impersonate_group": "system:masters"},
        {"impersonate_user": "carl", "impersonate_uid": "7"},
        {"impersonate_user": "carl", "impersonate_extra_scope": "all"},
    ):
        assert (await do(api, "POST", whoami, {}, user=dora, **headers))[0] == 403, headers
    assert (await do(api, "POST", whoami, {}, user=dora, impersonate_group="x"))[0] in (400, 403)


@guarded
async def test_auth_impersonated_names_are_taken_as_they_are(api: ApiServer) -> None:
    """A header line each, in UTF-8; groups of a directory hold commas."""
    whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    name, groups = "사용자", ("cn=운영,ou=본사", "ops")
    head = f"POST {whoami} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Type: application/json\r\n"
    head += f"Impersonate-User: {name}\r\n" + "".join(f"Impersonate-Group: {group}\r\n" for group in groups)
    head += "Impersonate-Extra-Scope: a, b\r\nImpersonate-Extra-Scope: c\r\n\r\n"
    taken: list[Request] = []
    reader = Reader(Kept(taken), Limits())
    reader.feed(head.encode() + b"{}")
    taken[0].user = User("root", groups=("system:masters",))
    told = orjson.loads((await api.api.handle(taken[0])).body)["status"]["userInfo"]  # type: ignore[arg-type]
    assert (told["username"], told["groups"]) == (name, [*groups, "system:authenticated"])
    assert told["extra"] == {"scope": ["a, b", "c"]}


class Kept:
    """A Taker (wire/reading.py) that keeps what comes."""

    deadline = 0.0

    def __init__(self, taken: list[Request]) -> None:
        self._taken = taken

    def within(self, seconds: float) -> None: ...

    def go_on(self) -> None: ...

    def take(self, request: Request, keep: bool, upgrade: bool, old: bool) -> None:
        self._taken.append(request)
