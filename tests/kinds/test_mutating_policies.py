"""MutatingAdmissionPolicies and their bindings: what is wrong with one, in upstream's words, and what kubectl shows of it."""

from __future__ import annotations

from typing import Any

import pytest
from kinds_build import changed, kind, shown

RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
POLICY: dict[str, Any] = {
    "metadata": {"name": "p"},
    "spec": {
        "matchConstraints": {"resourceRules": [RULE]},
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}],
        "reinvocationPolicy": "IfNeeded",
    },
}
BINDING: dict[str, Any] = {
    "metadata": {"name": "b"},
    "spec": {"policyName": "p", "paramRef": {"name": "x", "parameterNotFoundAction": "Deny"}, "matchResources": {}},
}
CONSTRAINTS = "spec.matchConstraints"
RULES = f"{CONSTRAINTS}.resourceRules"
OPERATIONS = 'supported values: "*", "CONNECT", "CREATE", "UPDATE"'


def errors(plural: str, obj: dict[str, Any]) -> list[str]:
    of = kind(plural)
    of.default(obj)
    return shown(of.validate(obj))


def test_good_ones_have_no_errors() -> None:
    assert errors("mutatingadmissionpolicies", changed(POLICY, "metadata.name", "p")) == []
    assert errors("mutatingadmissionpolicybindings", changed(BINDING, "metadata.name", "b")) == []


def test_an_empty_policy_hears_of_all_that_it_lacks() -> None:
    assert errors("mutatingadmissionpolicies", {"metadata": {"name": "p"}}) == [
        "spec.matchConstraints: Required value",
        "spec.mutations: Required value: mutations must contain at least one item",
        "spec.reinvocationPolicy: Required value",
    ]


@pytest.mark.parametrize(
    ("path", "value", "wanted"),
    [
        ("failurePolicy", "x", ['spec.failurePolicy: Unsupported value: "x": supported values: "Fail", "Ignore"']),
        (
            "reinvocationPolicy",
            "x",
            ['spec.reinvocationPolicy: Unsupported value: "x": supported values: "Never", "IfNeeded"'],
        ),
        ("matchConstraints.resourceRules", [], [f"{RULES}: Required value"]),
        (
            "matchConstraints.resourceRules.0.operations",
            ["DELETE"],
            [f'{RULES}.operations: Unsupported value: "DELETE": {OPERATIONS}'],
        ),
        (
            "matchConstraints.resourceRules.0.apiGroups",
            ["*", "apps"],
            [
                f'{RULES}[0].apiGroups: Invalid value: ["*","apps"]: if \'*\' is present, must not specify other API groups'
            ],
        ),
        (
            "matchConstraints.resourceRules.0.resources",
            ["*", "pods"],
            [
                f'{RULES}[0].resources: Invalid value: ["*","pods"]: if \'*\' is present, must not specify other '
                "resources without subresources"
            ],
        ),
        (
            "matchConstraints.matchPolicy",
            "x",
            [f'{CONSTRAINTS}.matchPolicy: Unsupported value: "x": supported values: "Equivalent", "Exact"'],
        ),
        ("mutations.0.patchType", "", ["spec.mutations[0].patchType: Required value"]),
        (
            "mutations.0.patchType",
            "x",
            [
                'spec.mutations[0].patchType: Unsupported value: "x": supported values: "ApplyConfiguration", "JSONPatch"'
            ],
        ),
        (
            "mutations.0.patchType",
            "JSONPatch",
            [
                'spec.mutations[0].applyConfiguration: Invalid value: "{applyConfiguration}": must not be specified when '
                "patchType is JSONPatch",
                "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
            ],
        ),
        (
            "mutations.0.applyConfiguration.expression",
            " ",
            ["spec.mutations[0].applyConfiguration.expression: Required value: expression is not specified"],
        ),
        ("paramKind", {"apiVersion": "v1"}, ["spec.paramKind.kind: Required value"]),
        (
            "paramKind",
            {"apiVersion": "a/b/c", "kind": "X"},
            ['spec.paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c'],
        ),
        ("matchConditions", [{"expression": "true"}], ["spec.matchConditions[0].name: Required value"]),
        (
            "matchConditions",
            [{"name": "a", "expression": "true"}] * 2,
            ['spec.matchConditions[1].name: Duplicate value: "a"'],
        ),
        (
            "matchConditions",
            [{"name": f"a{i}", "expression": "true"} for i in range(65)],
            ["spec.matchConditions: Too many: 65: must have at most 64 items"],
        ),
        (
            "variables",
            [{"name": "for", "expression": "1"}, {"name": "a"}],
            [
                'spec.variables[0].name: Invalid value: "for": name is not a valid CEL identifier',
                "spec.variables[1].expression: Required value: expression is not specified",
            ],
        ),
    ],
)
def test_policies(path: str, value: Any, wanted: list[str]) -> None:
    assert errors("mutatingadmissionpolicies", changed(POLICY, f"spec.{path}", value)) == wanted


@pytest.mark.parametrize(
    ("path", "value", "wanted"),
    [
        ("policyName", None, ["spec.policyName: Required value"]),
        ("paramRef.parameterNotFoundAction", None, ["spec.paramRef.parameterNotFoundAction: Required value"]),
        ("paramRef.name", None, ["spec.paramRef: Required value: one of name or selector must be specified"]),
        (
            "paramRef.selector",
            {},
            [
                "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
            ],
        ),
        (
            "matchResources.resourceRules",
            [RULE | {"operations": ["DELETE"]}],
            [f'spec.matchResources.resourceRules.operations: Unsupported value: "DELETE": {OPERATIONS}'],
        ),
    ],
)
def test_bindings(path: str, value: Any, wanted: list[str]) -> None:
    assert errors("mutatingadmissionpolicybindings", changed(BINDING, f"spec.{path}", value)) == wanted


def test_columns() -> None:
    def cells(plural: str, obj: dict[str, Any]) -> list[Any]:
        return [column.cell(obj, 0) for column in kind(plural).columns[:-1]]

    with_params = changed(POLICY, "spec.paramKind", {"apiVersion": "v1", "kind": "ConfigMap"})
    assert cells("mutatingadmissionpolicies", POLICY) == ["p", 1, "<unset>"]
    assert cells("mutatingadmissionpolicies", with_params) == ["p", 1, "v1/ConfigMap"]
    assert cells("mutatingadmissionpolicybindings", BINDING) == ["b", "p", "x"]
    assert cells("mutatingadmissionpolicybindings", changed(BINDING, "spec.paramRef.namespace", "n")) == [
        "b",
        "p",
        "n/x",
    ]
