"""MutatingAdmissionPolicy: changes in CEL. ApplyConfiguration lays Object{...} over the object as server-side apply merges;
JSONPatch applies a list of JSONPatch{...}.

Policies go by name, before the mutating webhooks; those with reinvocationPolicy IfNeeded go again when the object was
changed after them. A failure counts by the policy's failurePolicy. Next: policy_set.py matches, policy_scope.py evaluates.
Upstream: pkg/admission/plugin/policy/mutating, whose words the errors have.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from jota.aio import slices
from jota.api.admission.plugin import AdmissionAttributes
from jota.api.admission.policies import conditions_hold
from jota.api.admission.policy_set import PolicySet, Use
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import part, parts, text
from jota.meta import apply, check, fieldset, schema
from jota.meta.errors import ApiError, FieldError
from jota.meta.patch import json as json_patch
from jota.meta.resource import Resource
from jota.meta.schema import Type

if TYPE_CHECKING:
    from jota.meta.cel import Program

GROUP = "admissionregistration.k8s.io"
POLICIES = Resource(GROUP, "v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", False)
BINDINGS = Resource(GROUP, "v1", "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", False)
FIELDS = {"ApplyConfiguration": ("applyConfiguration", "Object"), "JSONPatch": ("jsonPatch", "list(JSONPatch)")}
"""patchType -> (field of the mutation, what its expression gives)."""


@dataclass(slots=True)
class Mutations:
    """A policy's expressions, compiled."""

    conditions: list[Program]
    variables: dict[str, Program]
    steps: list[tuple[str, Program]]
    """(patchType, expression)."""


class Unapplied(Exception):
    """A mutation cannot be applied."""


def compile_mutations(policy: Object) -> Mutations:
    """Raises CelCompileError."""
    from jota.meta.cel.admission import Terms

    spec = part(policy, "spec")
    terms = Terms(params=bool(part(spec, "paramKind")))
    variables = {
        text(v, "name"): terms.define(text(v, "name"), text(v, "expression")) for v in parts(spec, "variables")
    }
    steps = []
    for mutation in parts(spec, "mutations"):
        patch = text(mutation, "patchType")
        field, returns = FIELDS[patch]
        expression = text(part(mutation, field), "expression")
        steps.append((patch, terms.compile(expression, returns=returns, objects=True)))
    conditions = [terms.compile(text(c, "expression"), returns="bool") for c in parts(spec, "matchConditions")]
    return Mutations(conditions, variables, steps)


@dataclass(slots=True)
class Form:
    """How an object is turned into another version's form and back."""

    values: Callable[[Resource], Awaitable[dict[str, Any]]]
    """The values of all expressions, as the object is now."""
    shown: Callable[[Resource], Awaitable[Object]]
    """The object in the form of that resource, free to be changed."""
    stored: Callable[[Object, Resource], Awaitable[Object]]
    """An object in that form, in its own again."""
    kind: Callable[[Resource], Kind]


class Round:
    """The policies' part in one write: a first pass, and a second for those that want to see what others changed."""

    def __init__(self, policies: PolicySet[Mutations], attrs: AdmissionAttributes, form: Form) -> None:
        self._policies, self._attrs, self._form = policies, attrs, form
        self._after: dict[tuple[str, str, str], bytes] = {}
        """Of those with IfNeeded: the object as they left it."""

    async def run(self, equivalents: Callable[[], list[Resource]], *, again: bool) -> bool:
        """Change the object in place. True: somebody did. Raises ApiError 403."""
        if self._attrs.object is None:
            return False
        changed, errors = False, list[tuple[str, str]]()
        for use in self._policies.uses(self._attrs, equivalents):
            if use.problem:
                self._failed(use, use.problem, "", errors)
            for params in use.parameters:
                try:
                    changed |= await self._invoke(use, params, again)
                except Unapplied as problem:
                    self._failed(use, str(problem), "Invalid", errors)
        if errors:
            raise self._refused(errors)
        return changed

    @staticmethod
    def _failed(use: Use[Mutations], message: str, reason: str, errors: list[tuple[str, str]]) -> None:
        if not use.bound.lenient:
            names = f"policy '{use.bound.name}' with binding '{use.binding['metadata']['name']}'"
            errors.append((f"{names} denied request: {message}", reason))

    def _refused(self, errors: list[tuple[str, str]]) -> ApiError:
        resource = self._attrs.kind.resource
        message, reason = errors[0]
        causes = [FieldError("", "", said) for said, _ in errors]
        return ApiError(
            403,
            reason or "Forbidden",
            message,
            name=self._attrs.name,
            group=resource.group,
            kind=resource.plural,
            causes=causes,
        )

    async def _invoke(self, use: Use[Mutations], params: Object | None, again: bool) -> bool:
        """Raises Unapplied."""
        from jota.api.admission.policy_scope import Failed, patiently
        from jota.meta.cel import CelCompileError

        bound, meta = use.bound, part(params or {}, "metadata")
        key = (bound.name, use.binding["metadata"]["name"], f"{meta.get('namespace', '')}/{meta.get('name', '')}")
        obj = self._attrs.object
        assert obj is not None
        if again and self._after.get(key, _digest(obj)) == _digest(obj):
            return False
        before = _digest(obj)
        try:
            mutations = bound.program
            if mutations is None:
                mutations = bound.program = await slices.run(lambda: compile_mutations(bound.policy))
            values = {**await self._form.values(use.seen), "params": params}
            if not await patiently(partial(_concerned, mutations, values)):
                return False
            for patch, program in mutations.steps:
                values = {**await self._form.values(use.seen), "params": params}
                await self._step(use.seen, patch, await patiently(partial(_result, mutations, program, values)))
        except (Failed, CelCompileError) as failure:
            raise Unapplied(str(failure)) from None
        if text(bound.spec, "reinvocationPolicy") == "IfNeeded":
            self._after[key] = _digest(obj)
        return _digest(obj) != before

    async def _step(self, seen: Resource, patch: str, result: Any) -> None:
        obj, form = self._attrs.object, self._form
        assert obj is not None
        kind = form.kind(seen)
        make = _applied if patch == "ApplyConfiguration" else _patched
        new = make(await form.shown(seen), result, kind)
        kind.default(new)
        new = await form.stored(new, seen)
        obj.clear()
        obj.update(new)


def _concerned(mutations: Mutations, values: dict[str, Any]) -> bool:
    """Raises Failed."""
    from jota.api.admission.policy_scope import Scope

    return conditions_hold(mutations.conditions, Scope(values, mutations.variables))


def _result(mutations: Mutations, program: Program, values: dict[str, Any]) -> Any:
    """Raises Failed."""
    from jota.api.admission.policy_scope import Scope

    return Scope(values, mutations.variables).run(program)


def _digest(obj: Object) -> bytes:
    return orjson.dumps(obj, option=orjson.OPT_SORT_KEYS)


# --- apply configurations ----------------------------------------------------------------------------------------------


def _applied(live: Object, result: Any, kind: Kind) -> Object:
    """Raises Unapplied."""
    from jota.meta.cel.errors import CelError
    from jota.meta.cel.values import ObjectValue, type_name, written

    if not isinstance(result, ObjectValue):
        raise Unapplied(f"unsupported return type from ApplyConfiguration expression: {type_name(result)}")
    wrong = _misnamed(result, "Object")
    if wrong:
        raise Unapplied("type mismatch: " + "\n".join(wrong))
    try:
        wanted = written(result)
    except CelError as e:
        raise Unapplied(f"error applying patch: {e}") from None
    for key in ("apiVersion", "kind"):
        wanted.setdefault(key, live.get(key))
        if wanted[key] != live.get(key):
            raise Unapplied("error applying patch: patch and original object are not of the same gvk")
    root = apply.root_of(kind.definition)
    undeclared = [
        f".{p.path}: field not declared in schema" if p.kind == "unknown" else f".{p.path}: {p.message}"
        for p in check.check_type(root, wanted)
    ]
    if undeclared:
        text_ = "failed to convert patch object to typed object: " + "\n".join(undeclared)
        raise Unapplied(f"error applying patch: {text_}")
    atomic = _atomics(wanted, root, "")
    if atomic:
        text_ = f"invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {', '.join(atomic)}"
        raise Unapplied(f"error applying patch: {text_}")
    try:
        merged: Object = fieldset.merge(live, wanted, root)
    except fieldset.BadList as e:
        raise Unapplied(f"error applying patch: failed to merge patch: {e}") from None
    return merged


def _misnamed(value: Any, path: str) -> list[str]:
    """Objects whose type's name is not their place."""
    from jota.meta.cel.values import ObjectValue

    found: list[str] = []
    if isinstance(value, ObjectValue):
        if value.name != path:
            which = "which matches field name path from root Object type"
            found.append(f'unexpected type name "{value.name}", expected "{path}", {which}')
        for key, child in value.items():
            found += _misnamed(child, f"{path}.{key}")
    elif isinstance(value, list | dict):
        for child in value if isinstance(value, list) else value.values():
            found += _misnamed(child, path)
    return found


def _atomics(value: Any, type_: Type, path: str) -> list[str]:
    """Places of lists, maps and structs that have one owner as a whole: a merge would drop what is not named."""
    found: list[str] = []
    if isinstance(value, list):
        if type_.kind == "list" and type_.list_type == "atomic":
            found.append(path)
        for index, child in enumerate(value):
            found += _atomics(child, type_.item or schema.ANY, f"{path}[{index}]")
    elif isinstance(value, dict):
        if type_.atomic and path:
            found.append(path)
        for key, child in value.items():
            field = type_.fields.get(key) if type_.kind == "struct" else type_.item
            if field is not None:
                found += _atomics(child, field, f"{path}.{key}")
    return found


# --- JSON patches ------------------------------------------------------------------------------------------------------


def _patched(live: Object, result: Any, kind: Kind) -> Object:
    """Raises Unapplied."""
    from jota.meta.cel.errors import CelError
    from jota.meta.cel.values import ObjectValue, written

    if not isinstance(result, list):
        raise Unapplied("type mismatch: JSONPatchType.expression should evaluate to array")
    steps = []
    for item in result:
        if not isinstance(item, ObjectValue) or item.name != "JSONPatch":
            raise Unapplied("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch")
        value = item.get("value")
        wrong = _misnamed(value, value.name) if isinstance(value, ObjectValue) else []
        if wrong:
            raise Unapplied("type mismatch: " + "\n".join(wrong))
        try:
            steps.append(written(item))
        except CelError as e:
            text_ = f"JSONPath valueExpression evaluated to a type that could not marshal to JSON: {e}"
            raise Unapplied(text_) from None
    try:
        new = json_patch.apply(live, steps)
    except ApiError as error:
        if error.message.endswith("test failed"):
            return live  # the patch is not applied, and that is no failure
        raise Unapplied(f"JSONPath: {error.message}") from None
    if not isinstance(new, dict) or not isinstance(new.get("metadata"), dict):
        raise Unapplied("JSONPath: nothing is left of the object")
    problems = check.check_type(apply.root_of(kind.definition), new) if kind.definition else []
    if problems:
        raise Unapplied("strict decoding error: " + ", ".join(p.message for p in problems))
    return new
