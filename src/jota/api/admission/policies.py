"""ValidatingAdmissionPolicy: rules in CEL over object, oldObject, request, params, namespaceObject, variables, authorizer.

Each binding puts its policy in force for what both match, once per parameter. A rule that fails to evaluate counts by the
policy's failurePolicy. All are judged; then the first that denies refuses the write. Warn warns, Audit notes. Next:
policy_set.py matches, policy_scope.py evaluates. Upstream: pkg/admission/plugin/policy/validating.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from jota.aio import slices
from jota.api.admission.plugin import AdmissionAttributes
from jota.api.admission.policy_set import Bound, PolicySet, Use
from jota.kinds.kind import Object
from jota.kinds.shape import part, parts, text, texts
from jota.meta.errors import ApiError, FieldError, forbidden
from jota.meta.resource import Resource

if TYPE_CHECKING:
    from jota.api.admission.policy_scope import Scope
    from jota.meta.cel import Program

GROUP = "admissionregistration.k8s.io"
POLICIES = Resource(GROUP, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False)
BINDINGS = Resource(GROUP, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", False)
CODES = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}
LONGEST_MESSAGE, LONGEST_ANNOTATION = 5 * 1024, 10 * 1024
_AUDIT = "validation.policy.admission.k8s.io/validation_failure"


@dataclass(slots=True)
class Rules:
    """A policy's expressions, compiled."""

    conditions: list[Program]
    variables: dict[str, Program]
    rules: list[tuple[Object, Program, Program | None]]
    """(validation, expression, messageExpression)."""
    annotations: list[tuple[str, Program]]


@dataclass(slots=True)
class Broken:
    index: int
    """Of the validation."""
    message: str
    reason: str = "Invalid"


class Denial(Exception):
    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.message, self.reason = message, reason


Values = Callable[[Resource], Awaitable[dict[str, Any]]]
"""The values of all expressions, with the object in the form of that resource."""


def compile_rules(policy: Object) -> Rules:
    """Raises CelCompileError."""
    from jota.meta.cel.admission import Terms

    spec = part(policy, "spec")
    terms = Terms(params=bool(part(spec, "paramKind")))
    variables = {
        text(v, "name"): terms.define(text(v, "name"), text(v, "expression")) for v in parts(spec, "variables")
    }
    rules = []
    for rule in parts(spec, "validations"):
        said = text(rule, "messageExpression")
        message = terms.compile(said, returns="string", authorizer=False) if said else None
        rules.append((rule, terms.compile(text(rule, "expression"), returns="bool"), message))
    return Rules(
        [terms.compile(text(c, "expression"), returns="bool") for c in parts(spec, "matchConditions")],
        variables,
        rules,
        [
            (text(a, "key"), terms.compile(text(a, "valueExpression"), returns="string|null_type"))
            for a in parts(spec, "auditAnnotations")
        ],
    )


async def validate(
    policies: PolicySet[Rules], attrs: AdmissionAttributes, equivalents: Callable[[], list[Resource]], values: Values
) -> None:
    """Raises ApiError of the first refusal."""
    denials: list[Denial] = []
    annotations: dict[str, list[str]] = {}
    for use in policies.uses(attrs, equivalents):
        broken = await _judge(use, values, annotations)
        _act(use, attrs, broken, denials)
    for key, said in annotations.items():
        attrs.audit[key] = ", ".join(said)
    if denials:
        raise _refused(attrs, denials[0])


async def _judge(use: Use[Rules], values: Values, annotations: dict[str, list[str]]) -> list[Broken]:
    # the CEL engine costs some 20 ms to load: only who has policies pays
    from jota.api.admission.policy_scope import Failed, patiently
    from jota.meta.cel import CelCompileError

    bound = use.bound
    if use.problem:
        return [] if bound.lenient else [Broken(0, use.problem)]
    found: list[Broken] = []
    try:
        rules = bound.program
        if rules is None:
            rules = bound.program = await slices.run(lambda: compile_rules(bound.policy))
        seen = await values(use.seen)
        for params in use.parameters:
            given = {**seen, "params": params}
            broken, said = await patiently(partial(_broken, bound, rules, given))
            found += broken
            _note(bound, said, annotations)
    except (Failed, CelCompileError) as failure:
        if not bound.lenient:
            found.append(Broken(0, str(failure)))
    return found


def _note(bound: Bound[Rules], said: list[tuple[str, str]], annotations: dict[str, list[str]]) -> None:
    for key, value in said:
        listed = annotations.setdefault(f"{bound.name}/{key}", [])
        if value not in listed:
            listed.append(value)


def _broken(bound: Bound[Rules], rules: Rules, values: dict[str, Any]) -> tuple[list[Broken], list[tuple[str, str]]]:
    """The rules that are not met, and (key, value) of the audit annotations. Raises Failed for what no rule answers for,
    Waits."""
    from jota.api.admission.policy_scope import Failed, OutOfBudget, Scope

    scope, said = Scope(values, rules.variables), list[tuple[str, str]]()
    if not conditions_hold(rules.conditions, scope):
        return [], said
    found = []
    for index, (rule, program, message) in enumerate(rules.rules):
        try:
            if scope.run(program) is not True:
                found.append(Broken(index, _message(rule, message, scope), text(rule, "reason") or "Invalid"))
        except OutOfBudget:
            raise
        except Failed as failure:
            if not bound.lenient:
                found.append(Broken(index, str(failure)))
    for key, program in rules.annotations:
        value = scope.run(program)
        if isinstance(value, str) and value.strip():
            said.append((key, value.strip()[:LONGEST_ANNOTATION]))
    return found, said


def conditions_hold(conditions: list[Program], scope: Scope) -> bool:
    """matchConditions: one that is false settles it, even when another fails. Raises Failed."""
    from jota.api.admission.policy_scope import Failed, OutOfBudget

    failures = []
    for condition in conditions:
        try:
            if scope.run(condition) is not True:
                return False
        except OutOfBudget:
            raise
        except Failed as failure:
            failures.append(str(failure))
    if failures:
        raise Failed(failures[0] if len(failures) == 1 else f"[{', '.join(failures)}]")
    return True


def _message(rule: Object, program: Program | None, scope: Scope) -> str:
    from jota.api.admission.policy_scope import Failed, OutOfBudget

    if program is not None:
        try:
            said = scope.run(program)
        except OutOfBudget as problem:
            raise Failed(f"failed messageExpression: {problem}") from None
        except Failed:
            said = ""
        good = isinstance(said, str) and "\n" not in said.strip() and len(said.strip()) <= LONGEST_MESSAGE
        if good and said.strip():
            return str(said).strip()
    return text(rule, "message").strip() or f"failed expression: {text(rule, 'expression').strip()}"


def _act(use: Use[Rules], attrs: AdmissionAttributes, broken: list[Broken], denials: list[Denial]) -> None:
    actions = texts(part(use.binding, "spec"), "validationActions")
    policy, binding = use.bound.name, use.binding["metadata"]["name"]
    names = f"'{policy}' with binding '{binding}'"
    for one in broken:
        if "Warn" in actions:
            attrs.warnings.append(f"Validation failed for ValidatingAdmissionPolicy {names}: {one.message}")
        if "Audit" in actions and _AUDIT not in attrs.audit:
            noted = {
                "message": one.message,
                "policy": policy,
                "binding": binding,
                "expressionIndex": one.index,
                "validationActions": actions,
            }
            attrs.audit[_AUDIT] = orjson.dumps([noted]).decode()
        if "Deny" in actions or use.problem:
            denials.append(Denial(f"ValidatingAdmissionPolicy {names} denied request: {one.message}", one.reason))


def _refused(attrs: AdmissionAttributes, denial: Denial) -> ApiError:
    resource = attrs.kind.resource
    causes = [FieldError("", "", denial.message)]
    error = forbidden(resource.plural, attrs.name, denial.message, resource.group, causes)
    error.code, error.reason = CODES.get(denial.reason, 422), denial.reason
    return error
