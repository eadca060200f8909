"""The filter chain: who gets in, who may, and what else every answer has in common."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import orjson
import pytest

from jota.api.config import ApiConfig
from jota.api.filters.attributes import Attributes, Decision, User
from jota.kinds.kind import Kind
from jota.meta.errors import unauthorized
from jota.meta.resource import CONFIGMAPS, Resource
from jota.store.protocol import Unavailable
from jota.testing.cluster import ApiServer, Watching, story
from jota.wire.message import Request, joined

ADA = User("ada", groups=("dev",))
CM = "/api/v1/namespaces/default/configmaps"
DRAFTS = Resource("example.com", "v1alpha1", "drafts", "Draft")


class Door:
    """Lets in whoever says the word."""

    async def authenticate(self, request: Request) -> User | None:
        word = request.headers.get("authorization", "")
        if word == "bad":
            raise unauthorized()
        return ADA if word == "ada" else None


class Rules:
    """Ada may get, and impersonate Bob."""

    def __init__(self) -> None:
        self.asked: list[Attributes] = []

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        self.asked.append(attributes)
        if user.name == "system:apiserver":
            return Decision(True)
        if attributes.verb == "impersonate":
            return Decision(attributes.name in ("bob", "dev"))
        return Decision(user.name == "ada" and attributes.verb == "get", "no rule")


def run(test: Any, **options: Any) -> Rules:
    rules = Rules()

    async def main() -> None:
        async with ApiServer(authenticator=Door(), authorizer=rules, **options) as api:
            rules.asked.clear()
            await test(api)

    asyncio.run(main())
    return rules


def test_credentials() -> None:
    async def check(api: ApiServer) -> None:
        for word, code in (("", 401), ("bad", 401), ("ada", 200)):
            response = await api.request("GET", "/api/v1/namespaces/default", user=None, authorization=word)
            assert response.status == code
        assert (await api.request("GET", "/version", user=None)).status == 401

    run(check)


def test_refusals_say_who_cannot_do_what() -> None:
    async def check(api: ApiServer) -> None:
        response = await api.request("DELETE", f"{CM}/x", user=ADA)
        status = orjson.loads(response.body)  # type: ignore[arg-type]
        assert (response.status, status["reason"]) == (403, "Forbidden")
        text = 'configmaps "x" is forbidden: User "ada" cannot delete resource "configmaps" in API group "" in the namespace "default"'
        assert status["message"] == text + ": no rule"
        response = await api.request("GET", "/api/v1/nodes", user=ADA)
        assert b'cannot list resource \\"nodes\\" in API group \\"\\" at the cluster scope' in response.body
        response = await api.request("POST", "/healthz", user=ADA)
        assert b'User \\"ada\\" cannot post path \\"/healthz\\"' in response.body

    asked = run(check).asked
    assert (asked[0].verb, asked[0].resource, asked[0].namespace, asked[0].name) == (
        "delete",
        "configmaps",
        "default",
        "x",
    )


def test_refused_before_it_is_known_whether_it_exists() -> None:
    async def check(api: ApiServer) -> None:
        assert (await api.request("PUT", f"{CM}/none", {}, user=ADA)).status == 403
        assert (await api.request("GET", f"{CM}/none", user=ADA)).status == 404

    run(check)


def test_impersonation() -> None:
    async def check(api: ApiServer) -> None:
        path = "/api/v1/namespaces/default"
        assert (await api.request("GET", path, user=ADA, impersonate_user="eve")).status == 403
        response = await api.request("GET", path, user=ADA, impersonate_user="bob", impersonate_group="dev")
        assert (response.status, b'User \\"bob\\" cannot get' in response.body) == (403, True)

    asked = run(check).asked
    last = asked[-1]
    assert (last.user.name, last.user.groups) == ("bob", ("dev", "system:authenticated"))
    assert [a.resource for a in asked if a.verb == "impersonate"] == ["users", "users", "groups"]


def test_documents_for_machines_are_not_written_anew_for_people() -> None:
    async def check(api: ApiServer) -> None:
        for path, lines in (("/apis", True), ("/openapi/v3", False)):
            answer = await api.request("GET", path, user=None, authorization="ada", user_agent="curl/8")
            assert (answer.status, b'{\n  "' in joined(answer.body)) == (200, lines), path

    run(check)


@story
async def test_large_answers_are_compressed_for_those_who_ask(api: ApiServer) -> None:
    for i in range(3):
        await api.client.create(CONFIGMAPS, {"metadata": {"name": f"c{i}"}, "data": {"k": "v" * 100_000}}, "default")
    plain = await api.request("GET", CM)
    small = await api.request("GET", CM, accept_encoding="gzip")
    assert ("Content-Encoding", "gzip") in small.headers
    assert gzip.decompress(small.body) == b"".join(plain.body)  # type: ignore[arg-type]
    few = await api.request("GET", f"{CM}?limit=1", accept_encoding="gzip")
    assert ("Content-Encoding", "gzip") not in few.headers


@story
async def test_a_store_that_cannot_write_is_503_and_nothing_changes(api: ApiServer) -> None:
    async def full(*_: object, **__: object) -> None:
        raise Unavailable("disk full")

    api.store.put = full  # type: ignore[method-assign, assignment]
    response = await api.request("POST", CM, {"metadata": {"name": "a"}})
    assert response.status == 503
    assert ("Retry-After", "1") in response.headers


@story
async def test_a_write_that_does_not_become_durable_in_time_is_504(api: ApiServer) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    api.store.put = never  # type: ignore[method-assign, assignment]
    api.api.config.request_timeout = 0.01
    response = await api.request("POST", CM, {"metadata": {"name": "a"}})
    assert response.status == 504


@story
async def test_health_version_and_metrics(api: ApiServer) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/readyz/ping"):
        response = await api.request("GET", path)
        assert (response.status, response.body) == (200, b"ok"), path
    verbose = (await api.request("GET", "/readyz?verbose&exclude=log")).body
    assert verbose == b"[+]ping ok\n[+]log excluded: ok\n[+]shutdown ok\nreadyz check passed\n"
    api.api.documents.checks["broken"] = lambda: False
    response = await api.request("GET", "/readyz")
    assert response.status == 500
    assert b"[-]broken failed: reason withheld\n" in response.body
    assert (await api.request("GET", "/readyz?exclude=broken")).status == 200
    told = (await api.request("GET", "/metrics/slis")).body
    assert isinstance(told, bytes)
    assert b'\nkubernetes_healthcheck{name="ping",type="livez"} 1\n' in told
    assert b'\nkubernetes_healthcheck{name="broken",type="readyz"} 0\n' in told
    version = orjson.loads((await api.request("GET", "/version")).body)  # type: ignore[arg-type]
    assert (version["major"], version["minor"], version["gitVersion"]) == ("1", "37", "v1.37.0")
    metrics = (await api.request("GET", "/metrics")).body
    assert b'apiserver_request_total{verb="POST",group=""' not in metrics
    assert b'verb="CREATE",group="",resource="namespaces",subresource="",code="201"} 4' in metrics
    paths = orjson.loads((await api.request("GET", "/")).body)["paths"]  # type: ignore[arg-type]
    assert {"/api/v1", "/apis/apps/v1", "/version", "/readyz"} <= set(paths)


@pytest.mark.parametrize(
    ("config", "expected"),
    [({}, False), ({"api/alpha": True}, True), ({"example.com/v1alpha1": True}, True), ({"api/all": True}, True)],
)
def test_what_is_not_stable_is_served_only_when_asked_for(config: dict[str, bool], expected: bool) -> None:
    assert ApiConfig(runtime_config=config).serves(Kind(DRAFTS, stability="alpha")) is expected
    off = {"apps/v1/deployments": False}
    assert ApiConfig(runtime_config=off).serves(Kind(Resource("apps", "v1", "deployments", "Deployment"))) is False


@story
async def test_kinds_come_and_go(api: ApiServer) -> None:
    path = "/apis/example.com/v1alpha1/namespaces/default/drafts"
    assert (await api.request("GET", path)).status == 404
    api.api.install(Kind(DRAFTS, status=True, generation=True))
    made = await api.client.create(DRAFTS, {"metadata": {"name": "d"}, "spec": {"any": ["thing"]}}, "default")
    assert (made["spec"], made["metadata"]["generation"]) == ({"any": ["thing"]}, 1)
    (item,) = (await api.client.list(DRAFTS))["items"]
    assert item["kind"] == "Draft"
    group = orjson.loads((await api.request("GET", "/apis/example.com")).body)  # type: ignore[arg-type]
    assert group["name"] == "example.com"
    patch = {"content_type": "application/strategic-merge-patch+json"}
    assert (await api.request("PATCH", f"{path}/d", {}, **patch)).status == 415  # type: ignore[arg-type]
    async with Watching(api, f"{path}?watch=1") as seen:
        api.api.uninstall("example.com", "v1alpha1", "drafts")
        await api.settle()
        assert seen.ended
    assert (await api.request("GET", path)).status == 404
