"""ValidatingAdmissionPolicies -> `status.typeChecking`: what their expressions get wrong about the kinds that they match.

When a policy runs, objects have any shape. Here each expression is checked against the types of the first ten kinds that the
policy names without wildcards; what does not fit becomes a warning in the status, in upstream's words, and nothing else:
admission never reads it. Upstream: validatingadmissionpolicy-status-controller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from typing import TYPE_CHECKING, ClassVar

from jota.aio import slices
from jota.controllers.controller import Context, Controller, Object
from jota.kinds.shape import part, parts, text, texts
from jota.kinds.table import KINDS
from jota.meta import schema
from jota.meta.resource import Resource

if TYPE_CHECKING:
    from jota.meta.cel.types import Type

POLICIES = Resource(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False
)
DEFINITIONS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)
MOST_KINDS = 10

Find = Callable[[str, str, str], schema.Type | None]
"""(group, version, Kind) -> its type."""
_PREFIX = "compilation failed: "


def matched(policy: Object, kinds: Iterable[Resource]) -> list[Resource]:
    """The kinds that a policy names without wildcards, at most MOST_KINDS, by group, version and kind."""
    by_name = {(r.group, r.version, r.plural): r for r in kinds}
    found: set[Resource] = set()
    for rule in parts(part(part(policy, "spec"), "matchConstraints"), "resourceRules"):
        groups, versions = texts(rule, "apiGroups"), texts(rule, "apiVersions")
        if any("*" in name for name in [*groups, *versions]):
            continue
        resources = [r for r in texts(rule, "resources") if "*" not in r and "/" not in r]
        for key in product(sorted(groups), sorted(versions), sorted(resources)):
            if key in by_name and len(found) < MOST_KINDS:
                found.add(by_name[key])
    return sorted(found, key=lambda r: (r.group, r.version, r.kind))


def plan(policy: Object, kinds: list[Resource], find: Find) -> Object:
    """The status that a policy should have."""
    status: Object = {"observedGeneration": policy["metadata"].get("generation", 1), "typeChecking": {}}
    warnings: list[Object] = []
    for i, rule in enumerate(parts(part(policy, "spec"), "validations")):
        for field in ("expression", "messageExpression"):
            said = _check(policy, text(rule, field), kinds, find) if text(rule, field) else ""
            if said:
                warnings.append({"fieldRef": f"spec.validations[{i}].{field}", "warning": said})
    if warnings:
        status["typeChecking"] = {"expressionWarnings": warnings}
    return status


def _check(policy: Object, expression: str, kinds: list[Resource], find: Find) -> str:
    """What is wrong with an expression, kind by kind."""
    # the CEL engine costs some 20 ms to load: only who has policies pays
    from jota.meta import cel
    from jota.meta.cel.admission import Terms

    spec, found = part(policy, "spec"), []
    for kind in kinds:
        given = find(kind.group, kind.version, kind.kind)
        if given is None:
            continue
        wanted = part(spec, "paramKind")
        group, _, version = text(wanted, "apiVersion").rpartition("/")
        params = find(group, version, text(wanted, "kind"))
        terms = Terms(params=bool(wanted), object_type=_type(given, kind.kind), params_type=_type(params, "params"))
        for variable in parts(spec, "variables"):
            _quietly(terms.define, text(variable, "name"), text(variable, "expression"))
        try:
            terms.compile(expression, returns="")
        except cel.CelCompileError as error:
            version = kind.api_version if kind.group else f"/{kind.version}"
            found.append(f"{version}, Kind={kind.kind}: {str(error).removeprefix(_PREFIX)}\n")
    return "\n".join(found)


def _type(given: schema.Type | None, name: str) -> Type:
    from jota.meta.cel import types

    return types.DYN if given is None else types.of_definition(given, name)


def _quietly(define: Callable[[str, str], object], name: str, expression: str) -> None:
    """A variable that does not fit is told where it is used."""
    from jota.meta import cel

    try:
        define(name, expression)
    except cel.CelCompileError:
        return


class ValidatingAdmissionPolicyStatusController(Controller):
    name: ClassVar[str] = "validatingadmissionpolicy-status-controller"
    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.policies = self.watch(POLICIES)
        self.policies.add_handler(lambda old, new: self._look(new))

    def _look(self, policy: Object | None) -> None:
        if policy is not None and _due(policy):
            self.queue.add(policy["metadata"]["name"])

    def all_keys(self) -> Iterable[str]:
        return [p["metadata"]["name"] for p in self.policies.list() if _due(p)]

    async def reconcile(self, key: str) -> float | None:
        policy = self.policies.get(key)
        if policy is None or not _due(policy) or policy["metadata"].get("deletionTimestamp"):
            return None
        kinds, find = await self._known(policy)
        found = await slices.run(lambda: plan(policy, matched(policy, kinds), find))
        new = {**policy, "status": {**part(policy, "status"), **found}}
        self.wrote(key, self.policies, await self.client.update(POLICIES, new, subresource="status"))
        return None

    async def _known(self, policy: Object) -> tuple[list[Resource], Find]:
        """Built-in kinds, and custom resources when the policy names a group that is not built in."""
        kinds = [k.resource for k in KINDS]
        own: dict[tuple[str, str, str], schema.Type] = {}
        if not _groups(policy) <= {r.group for r in kinds}:
            for definition in (await self.client.list(DEFINITIONS))["items"]:
                _custom(definition, kinds, own)

        def find(group: str, version: str, kind: str) -> schema.Type | None:
            name = _BUILT_IN.get((group, version, kind))
            return schema.definition(name) if name else own.get((group, version, kind))

        return kinds, find


_BUILT_IN = {(k.resource.group, k.resource.version, k.resource.kind): k.schema for k in KINDS}


def _due(policy: Object) -> bool:
    return bool(part(policy, "status").get("observedGeneration") != policy["metadata"].get("generation", 1))


def _groups(policy: Object) -> set[str]:
    spec = part(policy, "spec")
    rules = parts(part(spec, "matchConstraints"), "resourceRules")
    named = {group for rule in rules for group in texts(rule, "apiGroups") if "*" not in group}
    return named | {text(part(spec, "paramKind"), "apiVersion").rpartition("/")[0]}


def _custom(definition: Object, kinds: list[Resource], types: dict[tuple[str, str, str], schema.Type]) -> None:
    spec = part(definition, "spec")
    names, group = part(spec, "names"), text(spec, "group")
    for version in parts(spec, "versions"):
        name = text(version, "name")
        kind, plural = text(names, "kind"), text(names, "plural")
        kinds.append(Resource(group, name, plural, kind, text(spec, "scope") == "Namespaced"))
        raw = part(part(version, "schema"), "openAPIV3Schema")
        types[(group, name, kind)] = schema.from_structural(raw)
