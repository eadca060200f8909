"""Authorization webhooks with a real one behind TLS: what is granted, what fails, what is remembered, who asks."""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jota.api.authn.fetch import FetchFailed
from jota.api.authn.kubeconfig import endpoint
from jota.api.authz.config import Webhook
from jota.api.authz.webhook import decision_of
from jota.api.filters.attributes import User
from jota.meta.resource import CONFIGMAPS, NODES, PODS, SECRETS, Resource
from jota.pki.ca import Subject, create_csr
from jota.wire.message import Response

from .elsewhere import (
    ADA,
    BINDINGS,
    CSRS,
    ROLES,
    Service,
    Spec,
    cluster,
    config_map,
    may,
    refusal,
    review,
    role,
    serving,
    story,
)

# -- what is granted


@story
async def test_a_webhook_that_allows_one_verb_grants_only_that(service: Service, folder: Path) -> None:
    service.judge = may(verb="get", resource="secrets", namespace="default", name="s")
    async with cluster(("Node", "RBAC", service.webhook(folder))) as server:
        for name in ("s", "t"):
            await server.client.create(SECRETS, {"metadata": {"name": name}, "data": {"a": "aGlkZGVu"}}, "default")
        ada = server.client_for(ADA)
        assert (await ada.get(SECRETS, "s", "default"))["data"] == {"a": "aGlkZGVu"}
        for attempt in (
            ada.get(SECRETS, "t", "default"),
            ada.get(SECRETS, "s", "other"),
            ada.list(SECRETS, "default"),
            ada.list(SECRETS, "default", fields="metadata.name=s"),
            ada.create(SECRETS, {"metadata": {"name": "u"}}, "default"),
            ada.patch(SECRETS, "s", "default", {"data": {"a": "Yg=="}}),
            ada.delete(SECRETS, "s", "default"),
            ada.delete_collection(SECRETS, "default"),
            ada.get(CONFIGMAPS, "s", "default"),
        ):
            error = await refusal(attempt)
            assert (error.code, error.reason) == (403, "Forbidden"), error
            assert "hidden" not in str(error)
            assert "aGlkZGVu" not in str(error)
        for path in ("/api/v1/namespaces/default/secrets?watch=1", "/metrics"):
            assert (await server.request("GET", path, user=ADA)).status == 403
        assert (await server.client.get(SECRETS, "s", "default"))["data"] == {"a": "aGlkZGVu"}


@story
async def test_a_review_says_who_asks_for_what(service: Service, folder: Path) -> None:
    async with cluster((service.webhook(folder),)) as server:
        ada = server.client_for(ADA)
        error = await refusal(
            ada.list(PODS, "default", labels="app=web,tier in (a,b),!old,n>3", fields="status.phase!=Running")
        )
        assert error.code == 403
        assert service.requests[-1].headers["authorization"] == "Bearer secret"
        assert service.asked[-1] == {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": "ada",
                "uid": "7",
                "groups": ["dev", "system:authenticated"],
                "extra": {"scope": ["a"]},
                "resourceAttributes": {
                    "namespace": "default",
                    "verb": "list",
                    "version": "v1",
                    "resource": "pods",
                    "fieldSelector": {
                        "requirements": [{"key": "status.phase", "operator": "NotIn", "values": ["Running"]}]
                    },
                    "labelSelector": {
                        "requirements": [
                            {"key": "app", "operator": "In", "values": ["web"]},
                            {"key": "old", "operator": "DoesNotExist"},
                            {"key": "tier", "operator": "In", "values": ["a", "b"]},
                        ]
                    },
                },
            },
        }
        await server.request("GET", "/healthz/etcd", user=ADA)
        assert service.specs[-1]["nonResourceAttributes"] == {"path": "/healthz/etcd", "verb": "get"}
        await server.request("GET", "/api/v1/namespaces/default/pods?labelSelector=%28%28", user=ADA)
        assert "labelSelector" not in service.specs[-1]["resourceAttributes"], "what cannot be read is not told"


@story
async def test_the_old_version_names_groups_as_group(service: Service, folder: Path) -> None:
    async with cluster((service.webhook(folder, version="v1beta1"),)) as server:
        await refusal(server.client_for(ADA).list(PODS, "default"))
        assert service.asked[-1]["apiVersion"] == "authorization.k8s.io/v1beta1"
        assert service.specs[-1]["group"] == ["dev", "system:authenticated"]
        assert "groups" not in service.specs[-1]


# -- the chain


@story
async def test_only_questions_that_nobody_else_settles_get_to_the_webhook(service: Service, folder: Path) -> None:
    service.judge = lambda _: {"allowed": False, "denied": True, "reason": "not today"}
    async with cluster(("Node", "RBAC", service.webhook(folder))) as server:
        await server.client.create(ROLES, role("get", "list"), "default")
        await server.client.create(
            BINDINGS,
            {
                "metadata": {"name": "b"},
                "roleRef": {"apiGroup": ROLES.group, "kind": "Role", "name": "r"},
                "subjects": [{"kind": "User", "apiGroup": ROLES.group, "name": "ada"}],
            },
            "default",
        )
        ada = server.client_for(ADA)
        await ada.list(SECRETS, "default")
        node = server.client_for(User("system:node:n", groups=("system:nodes", "system:authenticated")))
        await node.create(NODES, {"metadata": {"name": "n"}})
        assert service.asked == []
        error = await refusal(ada.list(PODS, "default"))
        assert error.message.endswith('in the namespace "default": not today')
        error = await refusal(node.get(SECRETS, "s", "default"))
        assert "no relationship found between node 'n' and this object\nnot today" in error.message
        await server.client.list(SECRETS, "default")  # system:masters is asked of nobody
        assert len(service.asked) == 2


@story
async def test_a_denial_before_rbac_stands_and_no_opinion_does_not(service: Service, folder: Path) -> None:
    service.judge = lambda spec: {"allowed": False, "denied": spec["resourceAttributes"]["verb"] == "list"}
    async with cluster((service.webhook(folder), "AlwaysDeny", "AlwaysAllow")) as server:
        ada = server.client_for(ADA)
        assert (await refusal(ada.list(PODS, "default"))).code == 403
        await ada.create(CONFIGMAPS, config_map("c"), "default")
        assert (await ada.get(CONFIGMAPS, "c", "default"))["metadata"]["name"] == "c"


@story
async def test_two_webhooks_are_asked_one_after_the_other(service: Service, folder: Path) -> None:
    async with serving(folder) as second:
        second.judge = may(verb="get")
        async with cluster((service.webhook(folder), "RBAC", second.webhook(folder))) as server:
            await server.client.create(CONFIGMAPS, config_map("c"), "default")
            await server.client_for(ADA).get(CONFIGMAPS, "c", "default")
            assert [len(s.asked) for s in (service, second)] == [1, 1]
            service.judge = lambda _: {"allowed": False, "denied": True}
            await server.client_for(ADA).get(CONFIGMAPS, "c", "default")
            await server.advance(31)
            assert (await refusal(server.client_for(ADA).get(CONFIGMAPS, "c", "default"))).code == 403
            assert [len(s.asked) for s in (service, second)] == [2, 1], "a remembered yes does not overrule a denial"


# -- what fails


@story
async def test_a_webhook_that_fails_never_lets_anybody_in(service: Service, folder: Path) -> None:
    answers: list[Any] = [b"", b"{", b"[]", b"null", b"{}", b'{"status":{"allowed":true}}']
    answers += [{"allowed": "true"}, {"allowed": 1}, {"allowed": None}, {}, {"allowed": True, "denied": "no"}]
    answers += [Response(500, [], b'{"kind":"SubjectAccessReview","status":{"allowed":true}}')]
    answers += [Response(302, [("Location", "https://127.0.0.1:1/")], b""), {"allowed": True, "denied": True}]
    for deny in (False, True):
        webhook = service.webhook(folder, deny_on_error=deny)
        async with cluster(("Node", "RBAC", webhook)) as server:
            await server.client.create(CONFIGMAPS, config_map("c"), "default")
            ada = server.client_for(ADA)
            for answer in answers:
                service.judge = lambda _, answer=answer: answer
                error = await refusal(ada.get(CONFIGMAPS, "c", "default"))
                assert error.code == (403 if answer in ({},) else 500), (answer, error)
                await server.advance(400)
            service.judge = may(verb="get")
            assert await ada.get(CONFIGMAPS, "c", "default"), "a failure is not remembered"


@story
async def test_the_failure_policy_says_whether_others_are_asked(service: Service, folder: Path) -> None:
    service.judge = lambda _: b"?"
    for deny in (False, True):
        async with cluster((service.webhook(folder, deny_on_error=deny), "AlwaysAllow")) as server:
            ada = server.client_for(ADA)
            if not deny:
                await ada.create(CONFIGMAPS, config_map("c"), "default")
                continue
            assert (await refusal(ada.create(CONFIGMAPS, config_map("c"), "default"))).code == 500
            status = await review(
                server, "SelfSubjectAccessReview", {"nonResourceAttributes": {"path": "/", "verb": "get"}}
            )
            assert status["code"] == 500, "who may not even ask is told that the webhook failed"


@story
async def test_a_webhook_that_is_slow_fails_in_its_time(service: Service, folder: Path) -> None:
    gate = asyncio.Event()

    async def never(_: Spec) -> dict[str, Any]:
        await gate.wait()
        return {"allowed": True}

    service.judge = lambda spec: never(spec)
    async with cluster((service.webhook(folder, timeout=0.05),)) as server:
        error = await refusal(server.client_for(ADA).list(PODS, "default"))
        assert error.code == 500
        assert "no answer within 0.05 s" in error.message
    gate.set()


@story
async def test_a_webhook_that_is_not_there_or_not_trusted_lets_nobody_in(service: Service, folder: Path) -> None:
    service.judge = may()
    stranger = ssl.create_default_context()
    real = service.webhook(folder)
    gone = endpoint(
        {**service.config, "clusters": [{"name": "w", "cluster": {"server": "https://127.0.0.1:1"}}]}, folder
    )
    untrusted = type(gone)(real.endpoint.url, stranger)
    for where in (gone, untrusted):
        async with cluster((Webhook("w", where, "v1"),)) as server:
            assert (await refusal(server.client_for(ADA).list(PODS, "default"))).code == 500
    assert service.asked == []


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3)))
@settings(max_examples=60, deadline=None)
def test_only_a_plain_yes_is_one(value: Any) -> None:
    """Whatever stands where the answer should, nothing but `allowed: true` without a denial allows."""
    for status in ({"allowed": value}, {"allowed": True, "denied": value}, value):
        try:
            decision = decision_of({"kind": "SubjectAccessReview", "status": status})
        except FetchFailed:
            continue
        plain = isinstance(status, dict) and status["allowed"] is True and status.get("denied", False) is False
        assert decision.allowed == plain


# -- what is remembered


@story
async def test_answers_are_remembered_for_their_time_and_asked_for_once(service: Service, folder: Path) -> None:
    allowed = [True]
    service.judge = lambda _: {"allowed": allowed[0]}
    webhook = service.webhook(folder, authorized_ttl=300.0, unauthorized_ttl=30.0)
    async with cluster((webhook,)) as server:
        await server.client.create(CONFIGMAPS, config_map("c"), "default")
        ada = server.client_for(ADA)
        await asyncio.gather(*(ada.get(CONFIGMAPS, "c", "default") for _ in range(20)))
        assert len(service.asked) == 1, "one question for all who wait"
        allowed[0] = False
        await server.advance(299)
        await ada.get(CONFIGMAPS, "c", "default")
        await server.advance(2)
        assert (await refusal(ada.get(CONFIGMAPS, "c", "default"))).code == 403
        allowed[0] = True
        await server.advance(29)
        assert (await refusal(ada.get(CONFIGMAPS, "c", "default"))).code == 403
        await server.advance(2)
        await ada.get(CONFIGMAPS, "c", "default")
        assert len(service.asked) == 3
        other = server.client_for(User("ada", "8", ADA.groups, ADA.extra))
        allowed[0] = False
        assert (await refusal(other.get(CONFIGMAPS, "c", "default"))).code == 403, "somebody else's yes"
        long = "x" * 250
        for _ in range(2):
            labels = ",".join(f"{long[:60]}{n} in ({long[:60]})" for n in range(100))
            await refusal(ada.list(PODS, "default", labels=labels))
        assert len(service.asked) == 6, "too long to be remembered"


@story
async def test_nothing_is_remembered_when_told_so(service: Service, folder: Path) -> None:
    service.judge = may()
    async with cluster((service.webhook(folder, authorized_ttl=0.0, unauthorized_ttl=0.0),)) as server:
        for n in range(1, 4):
            await server.client_for(ADA).list(PODS, "default")
            assert len(service.asked) == n


@story
async def test_who_asks_first_may_go_away(service: Service, folder: Path) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def slow(_: Spec) -> dict[str, Any]:
        arrived.set()
        await go.wait()
        return {"allowed": True}

    service.judge = slow
    async with cluster((service.webhook(folder),)) as server:
        await server.client.create(CONFIGMAPS, config_map("c"), "default")
        ada = server.client_for(ADA)
        first, second = (asyncio.ensure_future(ada.get(CONFIGMAPS, "c", "default")) for _ in range(2))
        await arrived.wait()
        first.cancel()
        go.set()
        assert (await second)["metadata"]["name"] == "c"
        assert len(service.asked) == 1


# -- everybody who asks "may?"


@story
async def test_reviews_ask_the_webhook_too(service: Service, folder: Path) -> None:
    def judge(spec: Spec) -> dict[str, Any]:
        attributes = spec.get("resourceAttributes", {})
        if attributes.get("group") == "authorization.k8s.io":
            return {"allowed": True}
        if attributes.get("verb") == "delete":
            return {"allowed": False, "denied": True, "reason": "never"}
        return {"allowed": attributes.get("verb") == "get" and spec["user"] == "bob", "reason": "by hand"}

    service.judge = judge
    async with cluster(("RBAC", service.webhook(folder))) as server:
        pods = {"resource": "pods", "namespace": "default"}
        mine = await review(server, "SelfSubjectAccessReview", {"resourceAttributes": {**pods, "verb": "get"}})
        assert mine == {"allowed": False, "reason": "by hand"}
        his = {"resourceAttributes": {**pods, "verb": "get"}, "user": "bob", "groups": ["x"]}
        assert await review(server, "SubjectAccessReview", his) == {"allowed": True, "reason": "by hand"}
        no = {**his, "resourceAttributes": {**pods, "verb": "delete"}}
        assert await review(server, "SubjectAccessReview", no) == {"allowed": False, "denied": True, "reason": "never"}
        chosen = {
            **pods,
            "verb": "list",
            "fieldSelector": {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n"]}]},
            "labelSelector": {"rawSelector": "app=web"},
        }
        await review(server, "SubjectAccessReview", {**his, "resourceAttributes": chosen})
        seen = service.specs[-1]["resourceAttributes"]
        assert seen["fieldSelector"] == chosen["fieldSelector"]
        assert seen["labelSelector"] == {"requirements": [{"key": "app", "operator": "In", "values": ["web"]}]}
        bad = {**pods, "verb": "list", "fieldSelector": {"rawSelector": "a=b", "requirements": [{"key": "a"}]}}
        refused = await review(server, "SubjectAccessReview", {**his, "resourceAttributes": bad})
        assert refused["code"] == 422
        fields = {c["field"] for c in refused["details"]["causes"]}
        assert "spec.resourceAttributes.fieldSelector.rawSelector" in fields
        unread = {**pods, "verb": "get", "labelSelector": {"rawSelector": "(("}}
        told = await review(server, "SubjectAccessReview", {**his, "resourceAttributes": unread})
        assert told["allowed"]
        assert "labelSelector ignored" in told["evaluationError"]
        service.judge = lambda spec: {"allowed": True} if spec.get("resourceAttributes", {}).get("group") else b"?"
        failed = await review(server, "SubjectAccessReview", {**his, "user": "eve"})
        assert failed["allowed"] is False
        assert "no JSON" in failed["evaluationError"]


@story
async def test_a_rules_review_owns_that_it_is_incomplete(service: Service, folder: Path) -> None:
    service.judge = may(resource="selfsubjectrulesreviews")
    for chain, incomplete in ((("RBAC", service.webhook(folder)), True), (("RBAC",), False)):
        async with cluster(chain) as server:
            status = await review(server, "SelfSubjectRulesReview", {"namespace": "default"})
            assert status["incomplete"] is incomplete
            said = "webhook authorizer does not support user rule resolution" if incomplete else None
            assert status.get("evaluationError") == said
            assert any("selfsubjectaccessreviews" in r["resources"] for r in status["resourceRules"])


@story
async def test_impersonation_escalation_and_binding_are_asked_about(service: Service, folder: Path) -> None:
    allowed: set[tuple[str, str]] = {("create", "roles"), ("create", "rolebindings"), ("update", "roles")}

    def judge(spec: Spec) -> dict[str, Any]:
        attributes = spec.get("resourceAttributes", {})
        return {"allowed": (attributes.get("verb", ""), attributes.get("resource", "")) in allowed}

    service.judge = judge
    webhook = service.webhook(folder, authorized_ttl=0.0, unauthorized_ttl=0.0)
    async with cluster(("Node", "RBAC", webhook)) as server:
        ada = server.client_for(ADA)
        path = "/api/v1/namespaces/default/configmaps"
        await server.client.create(CONFIGMAPS, config_map("c"), "default")
        assert (await server.request("GET", path, user=ADA, impersonate_user="bob")).status == 403
        asked = service.specs[-1]["resourceAttributes"]
        assert (asked["verb"], asked["resource"], asked["name"]) == ("impersonate", "users", "bob")
        allowed.add(("impersonate", "users"))
        assert (await server.request("GET", path, user=ADA, impersonate_user="bob")).status == 403
        assert service.specs[-1]["user"] == "bob", "who is impersonated is judged by who it is"
        response = await server.request(
            "GET", path, user=ADA, impersonate_user="bob", impersonate_group="system:masters"
        )
        assert response.status == 403, "a user may be impersonated, its groups may not"

        error = await refusal(ada.create(ROLES, role("get"), "default"))
        assert "attempting to grant RBAC permissions not currently held" in error.message
        allowed.add(("escalate", "roles"))
        made = await ada.create(ROLES, role("get"), "default")
        allowed.remove(("escalate", "roles"))
        made["rules"][0]["verbs"] = ["*"]
        assert (await refusal(ada.update(ROLES, made))).code == 403
        binding = {
            "metadata": {"name": "b"},
            "roleRef": {"apiGroup": ROLES.group, "kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "apiGroup": ROLES.group, "name": "ada"}],
        }
        assert (await refusal(ada.create(BINDINGS, binding, "default"))).code == 403
        allowed.add(("bind", "roles"))
        await ada.create(BINDINGS, binding, "default")
        service.judge = lambda spec: b"?" if spec["resourceAttributes"]["verb"] == "bind" else judge(spec)
        other = {**binding, "metadata": {"name": "b2"}, "roleRef": {**binding["roleRef"], "name": "r2"}}  # type: ignore[dict-item]
        await server.client.create(ROLES, {**role("*"), "metadata": {"name": "r2"}}, "default")
        assert (await refusal(ada.create(BINDINGS, other, "default"))).code == 403, "no answer is no permission"


@story
async def test_signers_are_asked_about(service: Service, folder: Path) -> None:
    allowed = {("update", "certificatesigningrequests")}

    def judge(spec: Spec) -> dict[str, Any]:
        attributes = spec.get("resourceAttributes", {})
        return {"allowed": (attributes.get("verb", ""), attributes.get("resource", "")) in allowed}

    service.judge = judge
    async with cluster(("RBAC", service.webhook(folder, authorized_ttl=0.0, unauthorized_ttl=0.0))) as server:
        request = base64.b64encode(create_csr(Subject("x", ()))[0]).decode()
        spec = {"signerName": "example.com/s", "request": request, "usages": ["client auth"]}
        csr = await server.client.create(CSRS, {"metadata": {"name": "c"}, "spec": spec})
        csr["status"] = {"conditions": [{"type": "Approved", "status": "True", "reason": "r", "message": "m"}]}
        ada = server.client_for(ADA)
        error = await refusal(ada.update(CSRS, csr, subresource="approval"))
        assert 'user not permitted to approve requests with signerName "example.com/s"' in error.message
        assert [s["resourceAttributes"].get("name") for s in service.specs[-2:]] == ["example.com/s", "example.com/*"]
        allowed.add(("approve", "signers"))
        await ada.update(CSRS, csr, subresource="approval")


@story
async def test_policies_in_cel_wait_for_the_webhook(service: Service, folder: Path) -> None:
    """An expression that asks is begun again with the answer; each question goes out once for a write."""
    group = "admissionregistration.k8s.io"
    policies = Resource(group, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False)
    bindings = Resource(group, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", False)
    service.judge = may(verb="create", resource="configmaps")
    check = "authorizer.group('').resource('configmaps').namespace('default').check"
    async with cluster(("RBAC", service.webhook(folder, authorized_ttl=0.0, unauthorized_ttl=0.0))) as server:
        rules = [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}]
        expression = f"object.metadata.name == 'free' || {check}('bless').allowed() && {check}('create').allowed()"
        await server.client.create(
            policies,
            {
                "metadata": {"name": "p"},
                "spec": {
                    "matchConstraints": {"resourceRules": rules},
                    "validations": [{"expression": expression, "message": "not blessed"}],
                },
            },
        )
        binding = {"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}}
        await server.client.create(bindings, binding)
        ada = server.client_for(ADA)
        await ada.create(CONFIGMAPS, config_map("free"), "default")
        assert [s["resourceAttributes"]["verb"] for s in service.specs] == ["create"]
        assert "not blessed" in (await refusal(ada.create(CONFIGMAPS, config_map("a"), "default"))).message
        assert [s["resourceAttributes"]["verb"] for s in service.specs] == ["create", "create", "bless"]
        service.judge = lambda spec: {"allowed": spec["resourceAttributes"]["verb"] in ("create", "bless")}
        service.asked.clear()
        await ada.create(CONFIGMAPS, config_map("a"), "default")
        assert [s["resourceAttributes"]["verb"] for s in service.specs] == ["create", "bless", "create"]
        service.judge = lambda spec: b"?" if spec["resourceAttributes"]["verb"] == "bless" else {"allowed": True}
        assert "not blessed" in (await refusal(ada.create(CONFIGMAPS, config_map("b"), "default"))).message
