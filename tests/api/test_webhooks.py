"""Admission webhooks over real TLS: order, patches, reinvocation, verdicts, failure policies, selectors, dry run."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest

from jota.aio.clock import SystemClock
from jota.api.admission import mutating_policies
from jota.api.admission.webhook_match import rule_covers
from jota.api.admission.webhooks import MUTATING, VALIDATING
from jota.api.webhook_client import WebhookClient, WebhookFailed
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, NAMESPACES, PODS
from jota.pki.ca import CertificateAuthority, Subject
from jota.testing.cluster import ApiServer
from jota.wire.http import HttpServer
from jota.wire.message import Request, Response

Object = dict[str, Any]
Answer = Callable[[Object], Object]


class Hooks:
    """A webhook server: what each path answers, and what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, Object]] = []
        self.port, self.bundle = 0, ""

    async def handle(self, request: Request) -> Response:
        review = orjson.loads(request.body)
        self.asked.append((request.path, review["request"]))
        if request.path == "/slow":
            await asyncio.sleep(30)
        response = {"uid": review["request"]["uid"], "allowed": True, **self.answers[request.path](review["request"])}
        body = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}
        return Response(200, [("Content-Type", "application/json")], orjson.dumps(body))

    def hook(self, path: str, **more: Any) -> Object:
        rule = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
        return {
            "name": f"{path.strip('/')}.example.com",
            "clientConfig": {"url": f"https://localhost:{self.port}{path}", "caBundle": self.bundle},
            "rules": [rule],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **more,
        }


@asynccontextmanager
async def hooked() -> AsyncIterator[tuple[ApiServer, Hooks]]:
    hooks, clock = Hooks(), SystemClock()
    authority = CertificateAuthority(CertificateAuthority.create("hooks", days=1, now=clock.now()))
    pair = authority.issue(Subject("x", (), ("localhost",)), days=1, client=False, server=True, now=clock.now())
    hooks.bundle = base64.b64encode(authority.certificate_pem).decode()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as directory:
        for name, content in (("c", pair.certificate), ("k", pair.key)):
            (Path(directory) / name).write_bytes(content)
        context.load_cert_chain(Path(directory) / "c", Path(directory) / "k")
    server = HttpServer(hooks.handle, ssl=context, clock=clock)
    await server.start("127.0.0.1", 0)
    hooks.port = server.port
    async with ApiServer(clock=clock) as api:
        yield api, hooks
    await server.close(0.1)


async def register(api: ApiServer, resource: Any, name: str, *hooks: Object) -> None:
    await api.client.create(resource, {"metadata": {"name": name}, "webhooks": list(hooks)})
    await api.settle()


def patch(*steps: Object) -> Object:
    return {"patchType": "JSONPatch", "patch": base64.b64encode(orjson.dumps(list(steps))).decode()}


def add(key: str, value: str) -> Answer:
    """Adds to data; appends when it is there already."""

    def answer(request: Object) -> Object:
        have = (request["object"].get("data") or {}).get(key, "")
        start = [] if request["object"].get("data") else [{"op": "add", "path": "/data", "value": {}}]
        return patch(*start, {"op": "add", "path": f"/data/{key}", "value": have + value})

    return answer


async def make(api: ApiServer, name: str = "c", **data: str) -> Object:
    return await api.client.create(CONFIGMAPS, {"metadata": {"name": name}, "data": data}, "default")


def told(story: Callable[[ApiServer, Hooks], Any]) -> Callable[[], None]:
    def test() -> None:
        async def run() -> None:
            async with hooked() as (api, hooks):
                await story(api, hooks)

        asyncio.run(run())

    test.__name__ = story.__name__
    return test


@told
async def test_the_path_of_an_url_is_cleaned(api: ApiServer, hooks: Hooks) -> None:
    hooks.answers = {"/one/two": add("x", "1")}
    for i, path in enumerate(("/one/two", "//one/two", "/one//two/", "/one/./three/../two")):
        await register(api, MUTATING, f"w{i}", hooks.hook(path, name="w.example.com"))
        await make(api, f"c{i}")
        await api.client.delete(MUTATING, f"w{i}")
        await api.settle()
    assert [path for path, _ in hooks.asked] == ["/one/two"] * 4


@told
async def test_mutating_webhooks_go_one_after_the_other_by_name(api: ApiServer, hooks: Hooks) -> None:
    hooks.answers = {"/one": add("x", "1"), "/two": add("x", "2")}
    await register(api, MUTATING, "b", hooks.hook("/two"))
    await register(api, MUTATING, "a", hooks.hook("/one", reinvocationPolicy="IfNeeded"))
    assert (await make(api))["data"] == {"x": "121"}, "the first is asked again, for the second changed the object"
    paths = [path for path, _ in hooks.asked]
    assert paths == ["/one", "/two", "/one"]
    request = hooks.asked[0][1]
    assert request["operation"] == "CREATE"
    assert request["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert request["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert request["requestResource"] == request["resource"]
    assert (request["namespace"], request["name"], request["dryRun"]) == ("default", "c", False)
    assert request["userInfo"]["username"] == "system:apiserver"
    assert request["object"]["kind"] == "ConfigMap"
    assert request["oldObject"] is None
    assert request["options"]["kind"] == "CreateOptions"


@told
async def test_a_refusal_reaches_the_client(api: ApiServer, hooks: Hooks) -> None:
    hooks.answers["/no"] = lambda r: {
        "allowed": r["operation"] == "CREATE",
        "status": {"message": "because", "code": 403, "reason": "Forbidden"},
        "warnings": ["careful"],
    }
    await register(api, VALIDATING, "v", hooks.hook("/no"))
    await make(api)
    with pytest.raises(ApiError) as caught:
        await api.client.patch(CONFIGMAPS, "c", "default", {"data": {"a": "b"}})
    assert caught.value.message == 'admission webhook "no.example.com" denied the request: because'
    assert (caught.value.code, caught.value.reason) == (403, "Forbidden")
    with pytest.raises(ApiError, match="denied the request"):
        await api.client.delete(CONFIGMAPS, "c", "default")
    assert hooks.asked[-1][1]["object"] is None
    assert hooks.asked[-1][1]["oldObject"]["metadata"]["name"] == "c"
    said = await api.request("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "d"}})
    assert ("Warning", '299 - "careful"') in said.headers


@told
async def test_a_call_that_fails_is_a_refusal_or_nothing(api: ApiServer, hooks: Hooks) -> None:
    hooks.answers = {"/slow": lambda r: {}, "/odd": lambda r: {"uid": "another"}}
    fails = hooks.hook("/odd")
    await register(api, VALIDATING, "v", fails)
    with pytest.raises(ApiError, match=r'failed calling webhook "odd.example.com": expected response.uid') as caught:
        await make(api)
    assert caught.value.code == 500
    await api.client.delete(VALIDATING, "v")
    ignored = [
        hooks.hook("/odd", failurePolicy="Ignore"),
        hooks.hook("/slow", failurePolicy="Ignore", timeoutSeconds=1),
    ]
    await register(api, VALIDATING, "v", *ignored)
    await make(api)


@told
async def test_whoever_the_bundle_does_not_vouch_for_is_not_asked(api: ApiServer, hooks: Hooks) -> None:
    hooks.answers["/x"] = lambda r: {}
    other = CertificateAuthority.create("other", days=1, now=SystemClock().now()).certificate
    hook = hooks.hook("/x")
    hook["clientConfig"]["caBundle"] = base64.b64encode(other).decode()
    await register(api, VALIDATING, "v", hook)
    with pytest.raises(ApiError, match="failed to call webhook: Post"):
        await make(api)
    assert hooks.asked == []


@told
async def test_selectors_dry_run_and_what_cannot_be_hooked(api: ApiServer, hooks: Hooks) -> None:
    hooks.answers["/x"] = lambda r: {"allowed": False}
    everything = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}
    chosen = {"namespaceSelector": {"matchLabels": {"strict": "yes"}}, "objectSelector": {"matchLabels": {"a": "b"}}}
    await register(api, VALIDATING, "v", hooks.hook("/x", rules=[everything], **chosen))
    await make(api)
    await api.client.create(NAMESPACES, {"metadata": {"name": "strict", "labels": {"strict": "yes"}}})
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "c"}}, "strict")
    with pytest.raises(ApiError, match="without explanation"):
        await api.client.create(CONFIGMAPS, {"metadata": {"name": "d", "labels": {"a": "b"}}}, "strict")
    await register(api, MUTATING, "all", hooks.hook("/x", rules=[everything]))
    with pytest.raises(ApiError, match="without explanation"):
        await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}, "default")
    dry = await api.request("POST", "/api/v1/namespaces/default/configmaps?dryRun=All", {"metadata": {"name": "z"}})
    assert dry.status == 400
    assert hooks.asked[-1][1]["dryRun"] is True
    await api.client.delete(MUTATING, "all")
    await make(api, "free")


@told
async def test_a_mutated_object_is_validated_and_keeps_its_identity(api: ApiServer, hooks: Hooks) -> None:
    hooks.answers["/x"] = lambda r: patch({"op": "replace", "path": "/metadata/name", "value": "stolen"})
    await register(api, MUTATING, "m", hooks.hook("/x"))
    assert (await make(api, "mine"))["metadata"]["name"] == "mine"
    hooks.answers["/x"] = lambda r: patch({"op": "add", "path": "/data", "value": {"no spaces allowed": "x"}})
    with pytest.raises(ApiError, match="is invalid: data"):
        await make(api, "bad")
    hooks.answers["/x"] = lambda r: patch({"op": "remove", "path": "/nothing/here"})
    with pytest.raises(ApiError, match="patch that cannot be applied"):
        await make(api, "worse")


@told
async def test_debugging_containers_can_be_changed(api: ApiServer, hooks: Hooks) -> None:
    never = {"op": "add", "path": "/spec/ephemeralContainers/0/imagePullPolicy", "value": "Never"}
    elsewhere = {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}
    hooks.answers["/a"] = lambda request: patch(never, elsewhere)
    rule = {
        "operations": ["UPDATE"],
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "resources": ["pods/ephemeralcontainers"],
    }
    await register(api, MUTATING, "a", hooks.hook("/a", rules=[rule]))
    spec = {"containers": [{"name": "c", "image": "i:1"}]}
    await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")
    more = {"spec": {"ephemeralContainers": [{"name": "d", "image": "i:1"}]}}
    await api.client.patch(PODS, "p", "default", more, type="strategic", subresource="ephemeralcontainers")
    live = await api.client.get(PODS, "p", "default")
    assert live["spec"]["ephemeralContainers"][0]["imagePullPolicy"] == "Never"
    assert "labels" not in live["metadata"]  # of no concern here, whoever asks
    assert hooks.asked[0][1]["subResource"] == "ephemeralcontainers"


@told
async def test_configurations_are_checked(api: ApiServer, hooks: Hooks) -> None:
    hook = {**hooks.hook("/x"), "name": "short", "sideEffects": "Some", "timeoutSeconds": 99}
    hook["clientConfig"] = {"url": "http://x"}
    with pytest.raises(ApiError) as caught:
        await api.client.create(VALIDATING, {"metadata": {"name": "v"}, "webhooks": [hook]})
    fields = {cause.field for cause in caught.value.causes}
    assert fields == {f"webhooks[0].{f}" for f in ("name", "sideEffects", "timeoutSeconds", "clientConfig.url")}


@told
async def test_addresses_that_cannot_be_are_refused_or_fail_as_any_call(api: ApiServer, hooks: Hooks) -> None:
    for url in ("https://localhost:99999/x", "https://localhost:port/x", "https://[::1/x", "https://u:p@localhost/x"):
        hook = {**hooks.hook("/x"), "clientConfig": {"url": url}}
        with pytest.raises(ApiError) as caught:
            await api.client.create(VALIDATING, {"metadata": {"name": "v"}, "webhooks": [hook]})
        assert [cause.field for cause in caught.value.causes] == ["webhooks[0].clientConfig.url"], url
    nowhere = {"clientConfig": {"url": f"https://{'a' * 64}.example.com/x"}}
    await register(api, VALIDATING, "v", {**hooks.hook("/x"), **nowhere, "failurePolicy": "Ignore"})
    await make(api)
    await register(api, VALIDATING, "w", {**hooks.hook("/x"), **nowhere})
    with pytest.raises(ApiError, match="failed calling webhook"):
        await make(api, "d")


@told
async def test_warnings_of_any_content_reach_the_client_as_one_header(api: ApiServer, hooks: Hooks) -> None:
    hooks.answers["/x"] = lambda _: {"warnings": ["one\r\nSet-Cookie: a=b", "\0\x7f\x85two"]}
    await register(api, VALIDATING, "v", hooks.hook("/x"))
    body = orjson.dumps({"metadata": {"name": "c"}})
    answer = await api.client.raw(
        "POST", CONFIGMAPS.path("default"), body=body, headers={"content-type": "application/json"}
    )
    assert answer.status == 201
    assert [v for k, v in answer.headers if k == "warning"] == ['299 - "one Set-Cookie: a=b", 299 - "two"']


@told
async def test_attaching_can_be_denied(api: ApiServer, hooks: Hooks) -> None:
    hooks.answers["/attach"] = lambda r: {"allowed": False, "status": {"message": "attaching to pod is not allowed"}}
    rule = {"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/attach"]}
    await register(api, VALIDATING, "v", hooks.hook("/attach", rules=[rule]))
    await api.client.create(
        PODS, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}, "default"
    )
    path = "/api/v1/namespaces/default/pods/p"
    answer = await api.request("POST", f"{path}/attach?stdin=true&tty=false&container=c")
    assert b'"attach.example.com\\" denied the request: attaching to pod is not allowed' in answer.body
    request = hooks.asked[0][1]
    assert request["kind"] == {"group": "", "version": "v1", "kind": "PodAttachOptions"}
    assert (request["subResource"], request["operation"], request["name"]) == ("attach", "CONNECT", "p")
    wanted = {"kind": "PodAttachOptions", "apiVersion": "v1", "stdin": True, "tty": False, "container": "c"}
    assert request["object"] == wanted
    assert b"denied" not in (await api.request("POST", f"{path}/exec?command=ls")).body


def test_rules() -> None:
    def covers(*resources: str, sub: str = "", operation: str = "CREATE", **more: Any) -> bool:
        rule = {
            "operations": ["CREATE"],
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "resources": list(resources),
            **more,
        }
        return rule_covers(rule, PODS, sub, operation)

    assert covers("pods")
    assert covers("*")
    assert not covers("pods", sub="status")
    assert covers("pods/*", sub="status")
    assert covers("*/status", sub="status")
    assert not covers("pods/status")
    assert not covers("pods", operation="DELETE")
    assert not covers("pods", scope="Cluster")
    assert not covers("pods", apiGroups=["apps"])


def test_a_service_is_resolved_to_a_ready_endpoint() -> None:
    class Registry:
        def get(self, resource: Any, namespace: str, name: str) -> Object | None:
            return {"spec": {"ports": [{"name": "web", "port": 443}]}} if name == "hook" else None

        def objects(self, resource: Any, namespace: str = "") -> list[Object]:
            endpoints = [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": False}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": True}},
            ]
            labels = {"kubernetes.io/service-name": "hook"}
            return [{"metadata": {"labels": labels}, "ports": [{"name": "web", "port": 8443}], "endpoints": endpoints}]

    client = WebhookClient(Registry())  # type: ignore[arg-type]
    where = client._where({"service": {"namespace": "ns", "name": "hook", "port": 443, "path": "/p"}})
    assert where == ("10.0.0.2", 8443, "hook.ns.svc", "/p", "https://hook.ns.svc:443/p")
    for service in ({"namespace": "ns", "name": "none"}, {"namespace": "ns", "name": "hook", "port": 1}):
        with pytest.raises(WebhookFailed):
            client._where({"service": service})


@told
async def test_match_conditions(api: ApiServer, hooks: Hooks) -> None:
    hooks.answers["/marked"] = add("by", "hook")
    conditions = [
        {"name": "not-free", "expression": "object.metadata.name != 'free'"},
        {"name": "may", "expression": "authorizer.group('').resource('configmaps').check('create').allowed()"},
    ]
    await register(api, MUTATING, "a", hooks.hook("/marked", matchConditions=conditions))
    assert (await make(api, "bound"))["data"] == {"by": "hook"}
    assert (await make(api, "free"))["data"] == {}
    fails = [{"name": "fails", "expression": "object.metadata.nothing == 1"}]
    await register(api, VALIDATING, "b", hooks.hook("/marked", matchConditions=fails))
    with pytest.raises(ApiError, match="no such key: nothing"):
        await make(api, "x")


@pytest.mark.parametrize("expression", ["object.", "request.nme == ''", "variables.x", "namespaceObject == null", "1"])
def test_bad_match_conditions_are_refused_when_they_are_written(expression: str) -> None:
    @told
    async def run(api: ApiServer, hooks: Hooks) -> None:
        bad = hooks.hook("/x", matchConditions=[{"name": "c", "expression": expression}])
        with pytest.raises(ApiError) as caught:
            await register(api, VALIDATING, "a", bad)
        assert caught.value.code == 422
        assert [c.field for c in caught.value.causes] == ["webhooks[0].matchConditions[0].expression"]
        assert "must evaluate to bool" in caught.value.message or "compilation failed" in caught.value.message

    run()


@told
async def test_policies_change_an_object_before_webhooks_see_it(api: ApiServer, hooks: Hooks) -> None:
    hooks.answers["/one"] = add("x", "w")
    await register(api, MUTATING, "a", hooks.hook("/one"))
    expression = "Object{data: {'x': has(object.data.x) ? object.data.x + 'p' : 'p'}}"
    rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "reinvocationPolicy": "IfNeeded",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
    }
    await api.client.create(mutating_policies.POLICIES, {"metadata": {"name": "p"}, "spec": spec})
    await api.client.create(mutating_policies.BINDINGS, {"metadata": {"name": "p"}, "spec": {"policyName": "p"}})
    await api.settle()
    assert (await make(api))["data"] == {"x": "pwp"}, "and once more, for the webhook changed it"
    assert hooks.asked[0][1]["object"]["data"] == {"x": "p"}
