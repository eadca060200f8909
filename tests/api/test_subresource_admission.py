"""Subresources that speak a kind of their own (Binding, Eviction, Scale, TokenRequest) are shown to webhooks and policies as that, once,
as upstream shows them; who refuses or changes it is heard."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from tests.api.test_straight import Server, secured, whole
from tests.api.test_webhooks import Hooks, hooked, register

from jota.api.admission import mutating_policies
from jota.api.admission.policies import BINDINGS, POLICIES
from jota.api.admission.webhooks import MUTATING, VALIDATING
from jota.meta.errors import ApiError
from jota.meta.resource import DEPLOYMENTS, NODES, PODS, SERVICEACCOUNTS
from jota.testing.cluster import ApiServer, story_in

Object = dict[str, Any]
CORE = "/api/v1/namespaces/default"
SCALE = "/apis/apps/v1/namespaces/default/deployments/d/scale"
EVERYTHING = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}
story, tale = story_in(hooked), story_in(secured)  # type: ignore[arg-type]


async def do(api: ApiServer, method: str, url: str, body: Any, media: str = "application/json") -> tuple[int, Object]:
    code, _, answer, _ = whole(await api.request(method, url, body, content_type=media))
    return code, orjson.loads(answer)


def pod(name: str) -> Object:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


async def furnish(api: ApiServer) -> None:
    inner = {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": inner, "replicas": 1}
    await api.client.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": spec}, "default")
    await api.client.create(NODES, {"metadata": {"name": "n"}})
    for name in "abc":
        await api.client.create(PODS, pod(name), "default")


SENT: list[tuple[str, str, Object, str, tuple[str, str, str, str, str]]] = [
    (
        "POST",
        f"{CORE}/pods/a/binding",
        {"target": {"name": "n"}},
        "application/json",
        ("CREATE", "/v1 Binding", "/v1 pods", "binding", "a"),
    ),
    (
        "POST",
        f"{CORE}/bindings",
        {"metadata": {"name": "b"}, "target": {"name": "n"}},
        "application/json",
        ("CREATE", "/v1 Binding", "/v1 bindings", "", "b"),
    ),
    (
        "POST",
        f"{CORE}/pods/c/eviction",
        {"metadata": {"name": "c"}},
        "application/json",
        ("CREATE", "policy/v1 Eviction", "/v1 pods", "eviction", "c"),
    ),
    (
        "PUT",
        SCALE,
        {"metadata": {"name": "d"}, "spec": {"replicas": 2}},
        "application/json",
        ("UPDATE", "autoscaling/v1 Scale", "apps/v1 deployments", "scale", "d"),
    ),
    (
        "PATCH",
        SCALE,
        {"spec": {"replicas": 3}},
        "application/merge-patch+json",
        ("UPDATE", "autoscaling/v1 Scale", "apps/v1 deployments", "scale", "d"),
    ),
]


def seen(request: Object) -> tuple[str, ...]:
    kind, resource = request["kind"], request["resource"]
    assert request["requestKind"] == kind
    assert request["object"]["kind"] == kind["kind"]
    return (
        request["operation"],
        f"{kind['group']}/{kind['version']} {kind['kind']}",
        f"{resource['group']}/{resource['version']} {resource['resource']}",
        request.get("subResource", ""),
        request["name"],
    )


@pytest.mark.parametrize("configuration", [MUTATING, VALIDATING])
def test_webhooks_are_shown_what_was_sent(configuration: Any) -> None:
    async def body(world: tuple[ApiServer, Hooks]) -> None:
        api, hooks = world
        await furnish(api)
        hooks.answers["/see"] = lambda _: {}
        await register(api, configuration, "see", hooks.hook("/see", rules=[EVERYTHING]))
        for method, url, sent, media, expected in SENT:
            hooks.asked.clear()
            code, answer = await do(api, method, url, sent, media)
            assert code < 300, answer
            assert [seen(request) for _, request in hooks.asked] == [expected]

    story(body)()


@pytest.mark.parametrize("configuration", [MUTATING, VALIDATING])
def test_who_refuses_it_is_heard(configuration: Any) -> None:
    async def body(world: tuple[ApiServer, Hooks]) -> None:
        api, hooks = world
        await furnish(api)
        hooks.answers["/no"] = lambda _: {"allowed": False, "status": {"message": "because", "code": 403}}
        await register(api, configuration, "no", hooks.hook("/no", rules=[EVERYTHING]))
        revision = api.store.revision
        for method, url, sent, media, _ in SENT:
            code, answer = await do(api, method, url, sent, media)
            assert (code, "because" in answer["message"]) == (403, True), (url, answer)
        assert api.store.revision == revision

    story(body)()


@story
async def test_who_changes_it_is_heard(world: tuple[ApiServer, Hooks]) -> None:
    api, hooks = world
    await furnish(api)

    def change(request: Object) -> Object:
        path = {"Scale": "/spec/replicas", "Binding": "/target/name", "Eviction": "/deleteOptions"}[
            request["kind"]["kind"]
        ]
        value: Any = {"Scale": 7, "Binding": "other", "Eviction": {"gracePeriodSeconds": 5}}[request["kind"]["kind"]]
        patch = orjson.dumps([{"op": "add", "path": path, "value": value}])
        return {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}

    hooks.answers["/change"] = change
    await register(api, MUTATING, "change", hooks.hook("/change", rules=[EVERYTHING]))
    for method, url, sent, media, _ in SENT:
        code, answer = await do(api, method, url, sent, media)
        assert code < 300, answer
    assert (await api.client.get(DEPLOYMENTS, "d", "default"))["spec"]["replicas"] == 7
    for name in "ab":
        assert (await api.client.get(PODS, name, "default"))["spec"]["nodeName"] == "other"


@tale
async def test_a_mutating_policy_changes_what_is_sent(server: Server) -> None:
    """By the schema of what is spoken there, not of what it is about."""
    await furnish(server)
    apply = {"patchType": "ApplyConfiguration"}
    apply["applyConfiguration"] = {"expression": 'Object{metadata: Object.metadata{labels: {"x": "y"}}}'}  # type: ignore[assignment]
    steps = '[JSONPatch{op: "add", path: "/metadata/annotations", value: {"p": "q"}}]'
    mutations = [apply, {"patchType": "JSONPatch", "jsonPatch": {"expression": steps}}]
    constraints = {
        "resourceRules": [{**EVERYTHING, "resources": ["pods/*", "bindings", "*/scale", "serviceaccounts/token"]}]
    }
    spec = {"matchConstraints": constraints, "mutations": mutations, "reinvocationPolicy": "Never"}
    await server.client.create(mutating_policies.POLICIES, {"metadata": {"name": "m"}, "spec": spec})
    await server.client.create(mutating_policies.BINDINGS, {"metadata": {"name": "m"}, "spec": {"policyName": "m"}})
    await server.client.create(SERVICEACCOUNTS, {"metadata": {"name": "robot"}}, "default")
    assert (await server.client.create(SERVICEACCOUNTS, {"spec": {}}, "default", "token", "robot"))["status"]["token"]
    for method, url, sent, media, _ in SENT:
        code, answer = await do(server, method, url, sent, media)
        assert code < 300, answer
    meta = (await server.client.get(PODS, "a", "default"))["metadata"]
    assert (meta["labels"], meta["annotations"]) == ({"x": "y"}, {"p": "q"}), "a Binding gives its own to the pod"


@tale
async def test_a_policy_judges_what_tokens_are_asked_for(server: Server) -> None:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["serviceaccounts/token"]}
    check = {"expression": "object.spec.audiences == ['vault']", "message": "for the vault alone"}
    spec = {"matchConstraints": {"resourceRules": [rule]}, "validations": [check]}
    await server.client.create(POLICIES, {"metadata": {"name": "p"}, "spec": spec})
    bound = {"policyName": "p", "validationActions": ["Deny"]}
    await server.client.create(BINDINGS, {"metadata": {"name": "p"}, "spec": bound})
    await server.client.create(SERVICEACCOUNTS, {"metadata": {"name": "robot"}}, "default")
    good = {"spec": {"audiences": ["vault"]}}
    assert (await server.client.create(SERVICEACCOUNTS, good, "default", "token", "robot"))["status"]["token"]
    with pytest.raises(ApiError, match="for the vault alone"):
        await server.client.create(SERVICEACCOUNTS, {"spec": {}}, "default", "token", "robot")
