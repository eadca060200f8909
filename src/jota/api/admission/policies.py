"""ValidatingAdmissionPolicy: rules in CEL over object, oldObject, request, params, namespaceObject and variables.

Each binding puts its policy in force for what both match, once per parameter. A rule that fails to evaluate counts by the
policy's failurePolicy. Deny refuses, Warn warns, Audit notes. Next: meta/cel.py evaluates; webhook_match.py matches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import orjson

from jota.api.admission import webhook_match as match
from jota.api.admission.plugin import AdmissionAttributes
from jota.api.registry import Registry
from jota.kinds.kind import Object
from jota.kinds.shape import part, parts, text, texts
from jota.meta.errors import ApiError, forbidden
from jota.meta.resource import NAMESPACES, Resource
from jota.meta.selectors import from_object

if TYPE_CHECKING:
    from jota.meta.cel import Program

GROUP = "admissionregistration.k8s.io"
POLICIES = Resource(GROUP, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False)
BINDINGS = Resource(GROUP, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", False)
CODES = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}
_NAMES = ("object", "oldObject", "request", "params", "namespaceObject", "variables")
_MOST_PROGRAMS = 1000
_AUDIT = "validation.policy.admission.k8s.io/validation_failure"


class Policies:
    def __init__(self, registry: Registry, kind_of: Callable[[str, str], Resource | None]) -> None:
        """`kind_of`: (apiVersion, kind) -> the resource of a parameter."""
        self._registry, self._kind_of = registry, kind_of
        self._programs: dict[tuple[str, str], Program] = {}
        self._bound: list[tuple[Object, Object]] | None = None
        for resource in (POLICIES, BINDINGS):
            registry.subscribe(resource, self._forget)

    def _forget(self) -> None:
        self._bound = None

    def bound(self) -> list[tuple[Object, Object]]:
        """(policy, binding) of everything in force."""
        if self._bound is None:
            policies = {p["metadata"]["name"]: p for p in self._registry.objects(POLICIES)}
            bindings = [
                (policies.get(text(part(b, "spec"), "policyName")), b) for b in self._registry.objects(BINDINGS)
            ]
            self._bound = [(policy, binding) for policy, binding in bindings if policy is not None]
        return self._bound

    def validate(self, attrs: AdmissionAttributes, request: Object) -> None:
        """`request`: as in an AdmissionReview. Raises ApiError of the first refusal."""
        for policy, binding in self.bound():
            wanted = part(part(policy, "spec"), "matchConstraints")
            narrower = part(part(binding, "spec"), "matchResources")
            if _concerns(wanted, attrs, always=False) and _concerns(narrower, attrs, always=True):
                self._enforce(policy, binding, attrs, request)

    def _enforce(self, policy: Object, binding: Object, attrs: AdmissionAttributes, request: Object) -> None:
        values = {
            "object": request["object"],
            "oldObject": request["oldObject"],
            "request": request,
            "namespaceObject": self._registry.get(NAMESPACES, "", attrs.namespace) if attrs.namespace else None,
        }
        try:
            parameters = list(self._parameters(policy, binding, attrs))
        except _Failed as failure:
            self._act(policy, binding, attrs, [(str(failure), "Invalid")])
            return
        for params in parameters:
            self._act(policy, binding, attrs, self._broken(part(policy, "spec"), {**values, "params": params}))

    def _broken(self, spec: Object, values: dict[str, Any]) -> list[tuple[str, str]]:
        """(message, reason) of each rule that is not met."""
        values = {**values, "variables": {}}
        lenient = text(spec, "failurePolicy") == "Ignore"
        try:
            for condition in parts(spec, "matchConditions"):
                if self._run(text(condition, "expression"), values) is not True:
                    return []
            for variable in parts(spec, "variables"):
                values["variables"][text(variable, "name")] = self._run(text(variable, "expression"), values, "")
        except _Failed as failure:
            return [] if lenient else [(str(failure), "Invalid")]
        broken = []
        for rule in parts(spec, "validations"):
            try:
                if self._run(text(rule, "expression"), values) is not True:
                    broken.append((self._message(rule, values), text(rule, "reason") or "Invalid"))
            except _Failed as failure:
                if not lenient:
                    broken.append((str(failure), "Invalid"))
        return broken

    def _message(self, rule: Object, values: dict[str, Any]) -> str:
        if text(rule, "messageExpression"):
            try:
                said = self._run(text(rule, "messageExpression"), values, "string")
            except _Failed:
                said = ""
            if isinstance(said, str) and said.strip() and "\n" not in said:
                return said.strip()
        return text(rule, "message") or f"failed expression: {text(rule, 'expression').strip()}"

    def _act(self, policy: Object, binding: Object, attrs: AdmissionAttributes, broken: list[tuple[str, str]]) -> None:
        actions = texts(part(binding, "spec"), "validationActions")
        names = f"'{policy['metadata']['name']}' with binding '{binding['metadata']['name']}'"
        for message, reason in broken:
            if "Warn" in actions:
                attrs.warnings.append(f"Validation failed for ValidatingAdmissionPolicy {names}: {message}")
            if "Audit" in actions:
                noted = {
                    "message": message,
                    "policy": policy["metadata"]["name"],
                    "binding": binding["metadata"]["name"],
                }
                attrs.audit[_AUDIT] = orjson.dumps([{**noted, "validationActions": actions}]).decode()
            if "Deny" in actions:
                raise _refused(attrs, f"ValidatingAdmissionPolicy {names} denied request: {message}", reason)

    def _parameters(self, policy: Object, binding: Object, attrs: AdmissionAttributes) -> Iterator[Object | None]:
        """The objects that `params` stands for, one after the other; None without parameters. Raises _Failed."""
        wanted, ref = part(part(policy, "spec"), "paramKind"), part(part(binding, "spec"), "paramRef")
        if not wanted or not ref:
            yield None
            return
        resource = self._kind_of(text(wanted, "apiVersion"), text(wanted, "kind"))
        if resource is None:
            raise _Failed(f"failed to find resource referenced by paramKind: '{wanted}'")
        namespace = (text(ref, "namespace") or attrs.namespace) if resource.namespaced else ""
        if text(ref, "name"):
            found = self._registry.get(resource, namespace, text(ref, "name"))
            objects = [found] if found is not None else []
        else:
            selector = from_object(ref.get("selector") or {})
            objects = [
                o for o in self._registry.objects(resource, namespace) if selector.matches(o["metadata"].get("labels"))
            ]
        if not objects and text(ref, "parameterNotFoundAction") != "Allow":
            raise _Failed("no params found for policy binding with `Deny` parameterNotFoundAction")
        yield from objects

    def _run(self, expression: str, values: dict[str, Any], returns: str = "bool") -> Any:
        """Raises _Failed."""
        # the CEL engine costs some 50 ms to load: only who uses expressions pays
        from jota.meta import cel

        try:
            program = self._programs.get((expression, returns))
            if program is None:
                program = cel.compile(expression, dict.fromkeys(_NAMES), returns=returns)
                if len(self._programs) >= _MOST_PROGRAMS:
                    self._programs.clear()
                self._programs[(expression, returns)] = program
            return program.evaluate(values)
        except (cel.CelCompileError, cel.CelError) as error:
            raise _Failed(f"expression '{expression.strip()}' resulted in error: {error}") from None


class _Failed(Exception):
    """An expression or a parameter could not be had."""


def _concerns(resources: Object, attrs: AdmissionAttributes, *, always: bool) -> bool:
    """MatchResources. `always`: without rules everything matches (bindings)."""
    rules = parts(resources, "resourceRules")

    def covered(listed: list[Object]) -> bool:
        return any(
            match.rule_covers(r, attrs.kind.resource, attrs.subresource, attrs.operation) and _named(r, attrs)
            for r in listed
        )

    if covered(parts(resources, "excludeResourceRules")) or not (covered(rules) if rules else always):
        return False
    return match.selected(resources, attrs)


def _named(rule: Object, attrs: AdmissionAttributes) -> bool:
    names = texts(rule, "resourceNames")
    return not names or attrs.name in names


def _refused(attrs: AdmissionAttributes, message: str, reason: str) -> ApiError:
    resource = attrs.kind.resource
    error = forbidden(resource.plural, attrs.name, message, resource.group)
    error.code, error.reason = CODES.get(reason, 422), reason
    return error
