"""ValidatingAdmissionPolicy: CEL rules on writes, bindings, parameters, variables, actions and failures."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import pytest

from jota.api.admission.policies import BINDINGS, POLICIES
from jota.api.admission.policy_scope import Failed, OutOfBudget, Scope
from jota.api.audit import Audit
from jota.api.auditpolicy import EVERYTHING
from jota.meta import cel
from jota.meta.cel import types
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, DEPLOYMENTS, NAMESPACES
from jota.testing.cluster import ApiServer, story

RULE = {"operations": ["CREATE", "UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}


async def enforce(
    api: ApiServer, *validations: dict[str, Any], binding: dict[str, Any] | None = None, **spec: Any
) -> None:
    rules = {"resourceRules": [RULE]}
    policy = {"matchConstraints": rules, "validations": list(validations), **spec}
    await api.client.create(POLICIES, {"metadata": {"name": "p"}, "spec": policy})
    bound = {"policyName": "p", "validationActions": ["Deny"], **(binding or {})}
    await api.client.create(BINDINGS, {"metadata": {"name": "b"}, "spec": bound})
    await api.settle()


async def deploy(api: ApiServer, name: str, replicas: int, namespace: str = "default", **meta: Any) -> Any:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    return await api.request("POST", DEPLOYMENTS.path(namespace), {"metadata": {"name": name, **meta}, "spec": spec})


@story
async def test_what_breaks_the_rule_is_refused(api: ApiServer) -> None:
    await enforce(api, {"expression": "object.spec.replicas <= 5"})
    assert (await deploy(api, "fine", 5)).status == 201
    refused = await deploy(api, "big", 6)
    assert refused.status == 422
    words = (
        "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: object.spec.replicas <= 5"
    )
    assert words.encode() in refused.body
    with pytest.raises(ApiError, match="denied request"):
        await api.client.patch(DEPLOYMENTS, "fine", "default", {"spec": {"replicas": 9}})
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "c"}}, "default")


@story
async def test_who_may_not_write_may_not_write_the_same_again(api: ApiServer) -> None:
    assert (await deploy(api, "fine", 5)).status == 201
    await enforce(api, {"expression": "request.operation != 'UPDATE'"})
    as_it_is = await api.client.get(DEPLOYMENTS, "fine", "default")
    with pytest.raises(ApiError, match="denied request"):
        await api.client.update(DEPLOYMENTS, as_it_is)
    with pytest.raises(ApiError, match="denied request"):
        await api.client.patch(DEPLOYMENTS, "fine", "default", {})
    assert await api.client.get(DEPLOYMENTS, "fine", "default") == as_it_is


@story
async def test_the_policys_word_comes_before_the_stores(api: ApiServer) -> None:
    await enforce(api, {"expression": "object.spec.replicas <= 5"})
    assert b"denied request" in (await deploy(api, "big", 6, resourceVersion="7")).body
    assert b"resourceVersion should not be set" in (await deploy(api, "small", 5, resourceVersion="7")).body


@story
async def test_messages_reasons_variables_and_conditions(api: ApiServer) -> None:
    await enforce(
        api,
        {
            "expression": "variables.n < 3 || has(request.dryRun) && request.dryRun",
            "messageExpression": "'no more than 2, not ' + string(variables.n)",
            "reason": "Forbidden",
        },
        variables=[{"name": "n", "expression": "object.spec.replicas"}],
        matchConditions=[{"name": "not-free", "expression": "object.metadata.name != 'free'"}],
    )
    refused = await deploy(api, "x", 4)
    assert refused.status == 403
    assert b"denied request: no more than 2, not 4" in refused.body
    assert (await deploy(api, "free", 4)).status == 201


@story
async def test_parameters_and_selectors(api: ApiServer) -> None:
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "limits"}, "data": {"most": "2"}}, "default")
    await api.client.create(NAMESPACES, {"metadata": {"name": "strict", "labels": {"strict": "yes"}}})
    binding = {
        "paramRef": {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"},
        "matchResources": {"namespaceSelector": {"matchLabels": {"strict": "yes"}}},
    }
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    await enforce(api, {"expression": "object.spec.replicas <= int(params.data.most)"}, paramKind=kind, binding=binding)
    assert (await deploy(api, "x", 4)).status == 201, "another namespace"
    assert (await deploy(api, "x", 4, "strict")).status == 422
    await api.client.patch(CONFIGMAPS, "limits", "default", {"data": {"most": "4"}})
    assert (await deploy(api, "x", 4, "strict")).status == 201
    await api.client.delete(CONFIGMAPS, "limits", "default")
    assert b"no params found" in (await deploy(api, "y", 1, "strict")).body


@story
async def test_warn_lets_through_and_says_so(api: ApiServer) -> None:
    await enforce(api, {"expression": "false", "message": "mind"}, binding={"validationActions": ["Warn", "Audit"]})
    made = await deploy(api, "x", 1)
    assert made.status == 201
    said = [value for name, value in made.headers if name == "Warning"]
    assert said == ["299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': mind\""]


@pytest.mark.parametrize(("policy", "status"), [("Fail", 422), ("Ignore", 201)])
def test_a_rule_that_fails_counts_by_its_policy(policy: str, status: int) -> None:
    @story
    async def run(api: ApiServer) -> None:
        await enforce(api, {"expression": "object.spec.nothing.here == 1"}, failurePolicy=policy)
        assert (await deploy(api, "x", 1)).status == status

    run()


@story
async def test_incomplete_policies_are_refused(api: ApiServer) -> None:
    with pytest.raises(ApiError) as caught:
        await api.client.create(POLICIES, {"metadata": {"name": "p"}, "spec": {}})
    assert {c.field for c in caught.value.causes} == {
        "spec.matchConstraints",
        "spec.validations",
        "spec.auditAnnotations",
    }
    with pytest.raises(ApiError, match="both Deny and Warn"):
        spec = {"policyName": "p", "validationActions": ["Deny", "Warn"]}
        await api.client.create(BINDINGS, {"metadata": {"name": "b"}, "spec": spec})


@story
async def test_all_are_judged_before_one_refuses(api: ApiServer) -> None:
    await enforce(api, {"expression": "false", "message": "no"})
    spec = {"policyName": "p", "validationActions": ["Warn", "Audit"]}
    await api.client.create(BINDINGS, {"metadata": {"name": "z"}, "spec": spec})
    await api.settle()
    refused = await deploy(api, "x", 1)
    assert refused.status == 422
    said = [value for name, value in refused.headers if name == "Warning"]
    assert said == ["299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'z': no\""]
    assert b'"causes":[{"reason":"","message":"ValidatingAdmissionPolicy' in refused.body


@story
async def test_variables_build_on_each_other_and_are_had_when_needed(api: ApiServer) -> None:
    variables = [
        {"name": "n", "expression": "object.spec.replicas"},
        {"name": "twice", "expression": "variables.n * 2"},
        {"name": "broken", "expression": "object.spec.nothing.here"},
    ]
    await enforce(
        api,
        {"expression": "variables.twice <= 4"},
        {"expression": "object.metadata.name != 'ask' || variables.broken == 1"},
        variables=variables,
    )
    assert (await deploy(api, "fine", 2)).status == 201
    assert (await deploy(api, "big", 3)).status == 422
    refused = await deploy(api, "ask", 1)
    words = b'resulted in error: composited variable \\"broken\\" fails to evaluate: no such key: nothing'
    assert words in refused.body


@story
async def test_the_namespace_and_the_authorizer(api: ApiServer) -> None:
    await api.client.create(NAMESPACES, {"metadata": {"name": "dev", "labels": {"env": "dev"}}})
    await enforce(
        api,
        {"expression": "namespaceObject.metadata.?labels['env'].orValue('') == 'dev'", "message": "only in dev"},
        {"expression": "authorizer.requestResource.check('delete').allowed()"},
        {"expression": "request.userInfo.username == 'system:apiserver' && request.resource.resource == 'deployments'"},
    )
    assert b"only in dev" in (await deploy(api, "x", 1)).body
    assert (await deploy(api, "x", 1, "dev")).status == 201


def test_audit_annotations() -> None:
    @story
    async def run(api: ApiServer) -> None:
        lines: list[bytes] = []

        class Sink:
            def write(self, found: list[bytes]) -> None:
                lines.extend(found)

        api.api.audit = Audit(EVERYTHING, Sink(), api.clock)
        annotations = [
            {"key": "who", "valueExpression": "'by ' + request.userInfo.username"},
            {"key": "nobody", "valueExpression": "null"},
        ]
        await enforce(api, auditAnnotations=annotations, binding={"validationActions": ["Audit"]})
        await deploy(api, "x", 1)
        await api.settle()
        noted = orjson.loads(lines[-1])["annotations"]
        assert noted["p/who"] == "by system:apiserver"
        assert "p/nobody" not in noted

    run()


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        (
            {"validations": [{"expression": "object.x =="}]},
            "spec.validations[0].expression",
            "compilation failed: ERROR",
        ),
        ({"validations": [{"expression": "1"}]}, "spec.validations[0].expression", "must evaluate to bool"),
        (
            {"validations": [{"expression": "request.nme == ''"}]},
            "spec.validations[0].expression",
            "undefined field 'nme'",
        ),
        (
            {"validations": [{"expression": "params.x == 1"}]},
            "spec.validations[0].expression",
            "undeclared reference to 'params'",
        ),
        (
            {
                "validations": [
                    {"expression": "true", "messageExpression": "authorizer.path('/').check('get').reason()"}
                ]
            },
            "spec.validations[0].messageExpression",
            "undeclared reference to 'authorizer'",
        ),
        (
            {"validations": [{"expression": "variables.b"}], "variables": [{"name": "a", "expression": "true"}]},
            "spec.validations[0].expression",
            "undefined field 'b'",
        ),
        (
            {"validations": [{"expression": "true"}], "variables": [{"name": "a", "expression": "variables.b"}]},
            "spec.variables[0].expression",
            "undefined field 'b'",
        ),
        (
            {"auditAnnotations": [{"key": "k", "valueExpression": "1"}]},
            "spec.auditAnnotations[0].valueExpression",
            "must evaluate to one of [string null_type]",
        ),
        (
            {"validations": [{"expression": "true"}], "matchConditions": [{"name": "c", "expression": "1 +"}]},
            "spec.matchConditions[0].expression",
            "compilation failed",
        ),
    ],
)
def test_expressions_are_judged_when_they_are_written(spec: dict[str, Any], field: str, words: str) -> None:
    @story
    async def run(api: ApiServer) -> None:
        with pytest.raises(ApiError) as caught:
            await enforce(api, *spec.pop("validations", ()), **spec)
        assert caught.value.code == 422
        assert [c.field for c in caught.value.causes] == [field]
        assert words in caught.value.message

    run()


def test_what_fails_has_cost_too() -> None:
    """Else a policy of many rules that all fail late could occupy the server for as long as it likes."""
    program = cel.compile(f"[{', '.join(['0'] * 100)}].all(a, a >= 0) && 1 / int(a) == 0", {"a": types.STRING})
    scope = Scope({"a": "0"}, {}, budget=1000)
    with pytest.raises(Failed, match="division by zero"):
        scope.run(program)
    assert 0 < scope.left < 800
    with pytest.raises(OutOfBudget):
        for _ in range(10):
            with contextlib.suppress(cel.CelError):
                scope.measure(program)


@story
async def test_a_rule_that_costs_too_much_fails(api: ApiServer) -> None:
    many = "[" + ",".join(["0"] * 100) + "]"
    await enforce(api, {"expression": f"{many}.all(a, {many}.all(b, {many}.all(c, a + b + c == 0)))"})
    assert b"resulted in error: operation cancelled: actual cost limit exceeded" in (await deploy(api, "x", 1)).body
