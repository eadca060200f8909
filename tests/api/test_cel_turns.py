"""Expressions that cost all they may do not keep others from being served."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from jota.aio import slices
from jota.api.admission.policies import BINDINGS, POLICIES
from jota.meta import cel
from jota.meta.resource import CONFIGMAPS, Resource
from jota.testing.cluster import ApiServer, story

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
HEAVY = "/apis/example.com/v1/namespaces/default/heavies"
SLOW = "self.items.all(x, self.items.all(y, x + y >= 0))"
HOOKS = Resource(
    "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", False
)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[slices.Sliced[Any]]:
    """The computations that were too long for the loop."""
    made: list[slices.Sliced[Any]] = []
    begin = slices.Sliced.__init__

    def noted(self: slices.Sliced[Any], work: Any) -> None:
        made.append(self)
        begin(self, work)

    monkeypatch.setattr(slices.Sliced, "__init__", noted)
    return made


def definition(*rules: str) -> dict[str, Any]:
    items = {"type": "array", "maxItems": 300, "items": {"type": "integer"}}
    spec = {
        "type": "object",
        "properties": {"items": items},
        "x-kubernetes-validations": [{"rule": rule, "message": "no"} for rule in rules],
    }
    schema = {"type": "object", "properties": {"spec": spec}}
    names = {"plural": "heavies", "singular": "heavy", "kind": "Heavy"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "heavies.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }


def heavy(name: str, count: int) -> dict[str, Any]:
    spec = {"items": list(range(count))}
    return {"apiVersion": "example.com/v1", "kind": "Heavy", "metadata": {"name": name}, "spec": spec}


async def served_during(api: ApiServer, work: asyncio.Task[Any]) -> int:
    """Requests of others that were answered before it was done."""
    count = 0
    while not work.done():
        answer = await api.request("GET", "/api/v1/namespaces/default")
        assert answer.status == 200
        await asyncio.sleep(0)
        count += not work.done()
    return count


def test_rules_of_custom_resources(threads: list[slices.Sliced[Any]]) -> None:
    @story
    async def run(api: ApiServer) -> None:
        assert (await api.request("POST", CRDS, definition(SLOW, "self.items.size() != 7"))).status == 201
        await api.settle()
        assert (await api.request("POST", HEAVY, heavy("light", 5))).status == 201
        refused = await api.request("POST", HEAVY, heavy("seven", 7))
        assert (refused.status, b"no" in refused.body) == (422, True)
        assert not threads  # ordinary ones stay on the loop

        work = asyncio.ensure_future(api.request("POST", HEAVY, heavy("slow", 300)))
        served = await served_during(api, work)
        assert work.result().status == 201
        (thread,) = threads
        units = cel.compile(SLOW, {"self": None}).measure({"self": {"items": list(range(300))}})[1]
        assert units // slices.SLICE <= thread.slices <= 2 * units // slices.SLICE + 2
        assert served >= thread.slices // 2

        work = asyncio.ensure_future(
            api.request("PUT", HEAVY + "/slow", {**heavy("slow", 299), "metadata": await _meta(api, "slow")})
        )
        assert await served_during(api, work) >= 10
        assert (work.result().status, len(threads)) == (200, 2)

    run()


async def _meta(api: ApiServer, name: str) -> dict[str, Any]:
    meta: dict[str, Any] = orjson.loads((await api.request("GET", f"{HEAVY}/{name}")).body)["metadata"]
    return meta


def test_who_comes_first_wins_although_rules_take_turns(threads: list[slices.Sliced[Any]]) -> None:
    @story
    async def run(api: ApiServer) -> None:
        await api.request("POST", CRDS, definition(SLOW))
        await api.settle()
        await api.request("POST", HEAVY, heavy("a", 1))
        meta = await _meta(api, "a")
        both = [api.request("PUT", f"{HEAVY}/a", {**heavy("a", n), "metadata": meta}) for n in (300, 299)]
        answers = sorted([a.status for a in await asyncio.gather(*both)])
        assert answers == [200, 409]
        assert len(threads) == 2

    run()


def test_rules_that_cost_too_much_fail_in_upstreams_words(threads: list[slices.Sliced[Any]]) -> None:
    @story
    async def run(api: ApiServer) -> None:
        crd = definition("self.items.all(x, self.items.all(y, [x].map(z, [z, x, y]).size() == 1))")
        items = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["items"]
        items["maxItems"] = 400
        assert (await api.request("POST", CRDS, crd)).status == 201
        await api.settle()
        work = asyncio.ensure_future(api.request("POST", HEAVY, heavy("a", 400)))
        assert await served_during(api, work) > 50
        assert work.result().status == 422
        assert b"call cost exceeds limit for rule" in work.result().body
        assert threads[0].slices >= cel.CALL_LIMIT // slices.SLICE

    run()


def test_policies_and_match_conditions(threads: list[slices.Sliced[Any]]) -> None:
    @story
    async def run(api: ApiServer) -> None:
        slow = (
            "'x'.matches('^x$') && object.data.n.split(',').all(x, object.data.n.split(',').all(y, x != 'z' || y != x))"
        )
        rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
        spec = {
            "matchConstraints": {"resourceRules": [rule]},
            "variables": [{"name": "slow", "expression": slow}],
            "validations": [{"expression": "variables.slow"}, {"expression": "object.data.n != '1'"}],
        }
        await api.client.create(POLICIES, {"metadata": {"name": "p"}, "spec": spec})
        bound = {"policyName": "p", "validationActions": ["Deny"]}
        await api.client.create(BINDINGS, {"metadata": {"name": "b"}, "spec": bound})
        await api.settle()
        threads.clear()
        await api.client.create(CONFIGMAPS, {"metadata": {"name": "light"}, "data": {"n": "1,2"}}, "default")
        assert not threads
        path = CONFIGMAPS.path("default")
        body = {"metadata": {"name": "slow"}, "data": {"n": ",".join(map(str, range(200)))}}
        work = asyncio.ensure_future(api.request("POST", path, body))
        assert await served_during(api, work) >= 10
        assert work.result().status == 201
        assert len(threads) == 1
        await api.client.delete(BINDINGS, "b")

        condition = {"name": "c", "expression": f"!({slow})"}
        hook = {
            "name": "h.example.com",
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "rules": [rule],
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "matchConditions": [condition],
        }
        await api.client.create(HOOKS, {"metadata": {"name": "h"}, "webhooks": [hook]})
        await api.settle()
        threads.clear()
        work = asyncio.ensure_future(api.request("POST", path, {**body, "metadata": {"name": "again"}}))
        assert await served_during(api, work) >= 10
        assert work.result().status == 201  # nobody was called
        assert len(threads) == 1

    run()


def test_definitions_with_many_rules_are_compiled_in_slices(threads: list[slices.Sliced[Any]]) -> None:
    @story
    async def run(api: ApiServer) -> None:
        rule = " && ".join(f"self.items.size() < {n}" for n in range(1000, 1300))
        work = asyncio.ensure_future(api.request("POST", CRDS, definition(*[rule] * 5)))
        assert await served_during(api, work) >= 10
        assert work.result().status == 201
        broken = definition(rule, "self.nope")
        broken["metadata"]["name"] = "heavies.example.com"
        answer = await api.request("POST", CRDS, broken)
        assert (answer.status, b"undefined field 'nope'" in answer.body) == (422, True)
        assert threads

    run()
