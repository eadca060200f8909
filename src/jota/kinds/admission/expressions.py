"""Whether the CEL expressions of policies and webhooks compile: told when they are written, not when they are needed.

In: a policy's or a webhook's parts. Out: field errors in upstream's words. The CEL engine is loaded on first use.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from jota.kinds.shape import Object, part, parts, text
from jota.meta.errors import FieldError, invalid

if TYPE_CHECKING:
    from jota.meta.cel.admission import Terms


def compiled(obj: Object, path: str, compile_: Callable[[str], object]) -> list[FieldError]:
    """The error of one expression at `path` (its last word is the field); an empty one is for others to refuse."""
    from jota.meta import cel

    expression = text(obj, path.rpartition(".")[2])
    if not expression.strip():
        return []
    try:
        compile_(expression)
    except cel.CelCompileError as error:
        return [invalid(path, expression, str(error))]
    return []


def conditions(spec: Object, path: str, terms: Terms) -> list[FieldError]:
    found: list[FieldError] = []
    for i, condition in enumerate(parts(spec, "matchConditions")):
        at = f"{path}matchConditions[{i}].expression"
        found += compiled(condition, at, lambda e: terms.compile(e, returns="bool"))
    return found


def variables(spec: Object, terms: Terms) -> list[FieldError]:
    found: list[FieldError] = []
    for i, variable in enumerate(parts(spec, "variables")):
        define = partial(terms.define, text(variable, "name"))
        found += compiled(variable, f"spec.variables[{i}].expression", define)
    return found


def validating_policy(policy: Object) -> list[FieldError]:
    from jota.meta.cel.admission import Terms

    spec = part(policy, "spec")
    terms = Terms(params=bool(part(spec, "paramKind")))
    found = variables(spec, terms) + conditions(spec, "spec.", terms)
    for i, rule in enumerate(parts(spec, "validations")):
        at = f"spec.validations[{i}]"
        found += compiled(rule, f"{at}.expression", lambda e: terms.compile(e, returns="bool"))
        message = f"{at}.messageExpression"
        found += compiled(rule, message, lambda e: terms.compile(e, returns="string", authorizer=False))
    for i, annotation in enumerate(parts(spec, "auditAnnotations")):
        at = f"spec.auditAnnotations[{i}].valueExpression"
        found += compiled(annotation, at, lambda e: terms.compile(e, returns="string|null_type"))
    return found


RETURNS = {"applyConfiguration": "Object", "jsonPatch": "list(JSONPatch)"}
"""The field of a mutation that holds its expression -> what that must give."""


def mutating_policy(policy: Object) -> list[FieldError]:
    from jota.meta.cel.admission import Terms

    spec = part(policy, "spec")
    terms = Terms(params=bool(part(spec, "paramKind")))
    found = variables(spec, terms) + conditions(spec, "spec.", terms)
    for i, mutation in enumerate(parts(spec, "mutations")):
        for field, returns in RETURNS.items():
            at = f"spec.mutations[{i}].{field}.expression"
            found += compiled(part(mutation, field), at, partial(terms.compile, returns=returns, objects=True))
    return found


def webhooks(config: Object) -> list[FieldError]:
    """Match conditions of all webhooks of a configuration."""
    found: list[FieldError] = []
    for i, hook in enumerate(parts(config, "webhooks")):
        if parts(hook, "matchConditions"):
            from jota.meta.cel.admission import Terms

            found += conditions(hook, f"webhooks[{i}].", Terms(params=False, composed=False))
    return found


def changed(
    judge: Callable[[Object], list[FieldError]], field: str
) -> Callable[[Object, Object | None, list[FieldError]], list[FieldError]]:
    """A Kind's `judge`: on updates, expressions are judged again only when `field` differs."""
    return lambda new, old, _: judge(new) if old is None or new.get(field) != old.get(field) else []
