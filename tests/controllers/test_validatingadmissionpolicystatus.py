"""What a policy gets wrong about the kinds that it matches is told in its status."""

from __future__ import annotations

import asyncio
from typing import Any

from jota.controllers.validatingadmissionpolicystatus import DEFINITIONS, POLICIES

from .stories import running

Object = dict[str, Any]


def policy(*validations: Object, groups: list[str], resources: list[str], **spec: Any) -> Object:
    rule = {"operations": ["*"], "apiGroups": groups, "apiVersions": ["v1"], "resources": resources}
    constraints = {"resourceRules": [rule]}
    return {
        "metadata": {"name": "p"},
        "spec": {"matchConstraints": constraints, "validations": list(validations), **spec},
    }


def judged(made: Object) -> list[Object]:
    async def story() -> list[Object]:
        async with running() as api:
            widget = {
                "type": "object",
                "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}},
            }
            version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": widget}}
            names = {"plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList"}
            spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
            await api.client.create(DEFINITIONS, {"metadata": {"name": "widgets.example.com"}, "spec": spec})
            await api.client.create(POLICIES, made)
            await api.advance(2)
            stored = await api.client.get(POLICIES, "p")
            assert stored["status"]["observedGeneration"] == stored["metadata"]["generation"]
            found: list[Object] = stored["status"]["typeChecking"].get("expressionWarnings", [])
            return found

    return asyncio.run(story())


def test_a_field_that_no_deployment_has() -> None:
    rule = {"expression": "object.replicas > 1", "messageExpression": "object.spec.replicas"}
    (found,) = judged(policy(rule, groups=["apps"], resources=["deployments"]))
    assert found == {
        "fieldRef": "spec.validations[0].expression",
        "warning": "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n"
        " | object.replicas > 1\n | ......^\n",
    }


def test_what_fits_and_what_cannot_be_known() -> None:
    fits = {"expression": "object.spec.replicas > variables.least", "message": "x"}
    variables = [{"name": "least", "expression": "1"}]
    assert judged(policy(fits, groups=["apps"], resources=["deployments", "*/scale"], variables=variables)) == []
    assert judged(policy({"expression": "object.nothing"}, groups=["*"], resources=["deployments"])) == []


def test_custom_resources_and_parameters() -> None:
    rules = [{"expression": "object.spec.n > 1 && object.spec.m > 1"}, {"expression": "params.dat.x == ''"}]
    made = policy(
        *rules, groups=["example.com"], resources=["widgets"], paramKind={"apiVersion": "v1", "kind": "ConfigMap"}
    )
    found = judged(made)
    assert [w["fieldRef"] for w in found] == ["spec.validations[0].expression", "spec.validations[1].expression"]
    assert "example.com/v1, Kind=Widget: ERROR: <input>:1:33: undefined field 'm'" in found[0]["warning"]
    assert "undefined field 'dat'" in found[1]["warning"]
