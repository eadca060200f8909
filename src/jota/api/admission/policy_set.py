"""Policies in CEL and their bindings: which are in force for a write, with which parameters. Both kinds of policy use it.

In: policies and bindings as they are stored. Out: Matches, in the order of the policies' names, then of the bindings'.
Next: policy_scope.py evaluates; policies.py and mutating_policies.py act.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from jota.api.admission import webhook_match as match
from jota.api.admission.plugin import AdmissionAttributes
from jota.api.registry import Registry
from jota.kinds.kind import Object
from jota.kinds.shape import part, parts, text, texts
from jota.meta.resource import Resource
from jota.meta.selectors import from_object

T = TypeVar("T")


class BadConfiguration(Exception):
    """A policy or binding that cannot be used as it is; counts by the policy's failurePolicy."""


@dataclass(slots=True)
class Bound(Generic[T]):
    """A policy and the bindings that put it in force."""

    policy: Object
    bindings: list[Object]
    program: T | None = None
    """Its expressions, compiled on first use."""

    @property
    def name(self) -> str:
        return str(self.policy["metadata"]["name"])

    @property
    def spec(self) -> Object:
        return part(self.policy, "spec")

    @property
    def lenient(self) -> bool:
        return text(self.spec, "failurePolicy") == "Ignore"


@dataclass(slots=True)
class Use(Generic[T]):
    """One binding of a policy that a write falls under."""

    bound: Bound[T]
    binding: Object
    seen: Resource
    """The resource in whose form the policy gets the object."""
    parameters: list[Object | None] = field(default_factory=list)
    """What `params` stands for, one after the other; [None] without parameters, [] when they may be missing and are."""
    problem: str = ""
    """Why the binding cannot be used."""


class PolicySet(Generic[T]):
    def __init__(
        self, registry: Registry, policies: Resource, bindings: Resource, kind_of: Callable[[str, str], Resource | None]
    ) -> None:
        """`kind_of`: (apiVersion, kind) -> the resource of a parameter."""
        self._registry, self._policies, self._bindings, self._kind_of = registry, policies, bindings, kind_of
        self._bound: list[Bound[T]] | None = None
        for resource in (policies, bindings):
            registry.subscribe(resource, self._forget)

    def _forget(self) -> None:
        self._bound = None

    def bound(self) -> list[Bound[T]]:
        """Everything in force, by the policies' names."""
        if self._bound is None:
            found = {p["metadata"]["name"]: Bound[T](p, []) for p in self._registry.objects(self._policies)}
            for binding in self._registry.objects(self._bindings):
                owner = found.get(text(part(binding, "spec"), "policyName"))
                if owner is not None:
                    owner.bindings.append(binding)
            self._bound = [b for _, b in sorted(found.items()) if b.bindings]
        return self._bound

    def uses(self, attrs: AdmissionAttributes, equivalents: Callable[[], list[Resource]]) -> Iterator[Use[T]]:
        """`equivalents`: the resources in whose form the object can be shown beside its own."""
        for bound in self.bound():
            seen = _seen(part(bound.spec, "matchConstraints"), attrs, equivalents)
            if seen is None:
                continue
            for binding in bound.bindings:
                if not _narrowed(part(part(binding, "spec"), "matchResources"), attrs, equivalents):
                    continue
                use = Use(bound, binding, seen)
                try:
                    use.parameters = self._parameters(bound.spec, part(binding, "spec"), attrs)
                except BadConfiguration as problem:
                    use.problem = f"failed to configure binding: {problem}"
                yield use

    def _parameters(self, policy: Object, binding: Object, attrs: AdmissionAttributes) -> list[Object | None]:
        """Raises BadConfiguration."""
        wanted, ref = part(policy, "paramKind"), part(binding, "paramRef")
        if not wanted or not ref:
            return [None]
        resource = self._kind_of(text(wanted, "apiVersion"), text(wanted, "kind"))
        if resource is None:
            shown = f"&ParamKind{{APIVersion:{text(wanted, 'apiVersion')},Kind:{text(wanted, 'kind')},}}"
            raise BadConfiguration(f"paramKind kind `{shown}` not known")
        namespace = self._namespace(resource, ref, attrs)
        found: list[Object | None]
        if text(ref, "name"):
            one = self._registry.get(resource, namespace, text(ref, "name"))
            found = [] if one is None else [one]
        else:
            selector = from_object(ref.get("selector") or {})
            every = self._registry.objects(resource, namespace)
            found = [o for o in every if selector.matches(o["metadata"].get("labels") or {})]
        if not found and text(ref, "parameterNotFoundAction") == "Deny":
            raise BadConfiguration("no params found for policy binding with `Deny` parameterNotFoundAction")
        return found

    @staticmethod
    def _namespace(resource: Resource, ref: Object, attrs: AdmissionAttributes) -> str:
        if not resource.namespaced:
            if text(ref, "namespace"):
                raise BadConfiguration("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
            return ""
        namespace = text(ref, "namespace") or attrs.namespace
        if not namespace:
            text_ = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
            raise BadConfiguration(text_)
        return namespace


def _seen(resources: Object, attrs: AdmissionAttributes, equivalents: Callable[[], list[Resource]]) -> Resource | None:
    """The resource in whose form MatchResources wants the object; None when it does not match."""
    own = attrs.kind.resource
    if _covered(parts(resources, "excludeResourceRules"), own, attrs):
        return None
    rules = parts(resources, "resourceRules")
    found: Resource | None = own if _covered(rules, own, attrs) else None
    if found is None and text(resources, "matchPolicy") != "Exact" and not attrs.subresource:
        found = next((e for e in equivalents() if _covered(rules, e, attrs)), None)
    return found if found is not None and match.selected(resources, attrs) else None


def _narrowed(resources: Object, attrs: AdmissionAttributes, equivalents: Callable[[], list[Resource]]) -> bool:
    """A binding's matchResources: without rules everything matches."""
    if parts(resources, "resourceRules"):
        return _seen(resources, attrs, equivalents) is not None
    if _covered(parts(resources, "excludeResourceRules"), attrs.kind.resource, attrs):
        return False
    return match.selected(resources, attrs)


def _covered(rules: list[Object], resource: Resource, attrs: AdmissionAttributes) -> bool:
    return any(
        match.rule_covers(rule, resource, attrs.subresource, attrs.operation) and _named(rule, attrs) for rule in rules
    )


def _named(rule: Object, attrs: AdmissionAttributes) -> bool:
    names = texts(rule, "resourceNames")
    return not names or attrs.name in names
