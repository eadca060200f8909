"""CEL rules of a structural schema (x-kubernetes-validations): compiled once per schema, run on every write.

`validate` judges the rules of a new definition, their estimated cost included; `compile_schema` makes a tree of programs
along the schema, whose `check` walks an object within a budget. A rule that names `oldSelf` is a transition rule: it runs
only where an old value is known, unless `optionalOldSelf`. Values are made ready first (adapt.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from jota.aio import slices
from jota.meta import cel
from jota.meta.cel import cost, types
from jota.meta.cel.values import NONE, Optional
from jota.meta.errors import FieldError, duplicate, forbidden_field, invalid, not_supported, required
from jota.meta.structural import checks
from jota.meta.structural.adapt import adapt

Schema = dict[str, Any]
MOST_ERRORS = 10
_REASONS = {
    "": "FieldValueInvalid",
    "FieldValueInvalid": "FieldValueInvalid",
    "FieldValueForbidden": "FieldValueForbidden",
    "FieldValueRequired": "FieldValueRequired",
    "FieldValueDuplicate": "FieldValueDuplicate",
}
_ABSENT: Any = object()


@dataclass(slots=True)
class Rule:
    program: cel.Program
    source: str
    message: str = ""
    message_program: cel.Program | None = None
    reason: str = ""
    field_path: str = ""
    transition: bool = False
    optional_old: bool = False


@dataclass(slots=True)
class Node:
    """The rules at one place of the schema, and below it."""

    schema: Schema
    rules: list[Rule] = field(default_factory=list)
    fields: dict[str, Node] = field(default_factory=dict)
    item: Node | None = None

    @property
    def empty(self) -> bool:
        return not self.rules and not self.fields and self.item is None

    def check(self, new: Any, old: Any | None) -> list[FieldError]:
        """Errors of a whole object; `old` None: it is new."""
        run = _Run([], cel.BUDGET)
        try:
            _walk(self, new, _ABSENT if old is None else old, "", run)
        except _Stop:
            pass  # what was found until then is the answer
        return run.found


@dataclass(slots=True)
class _Run:
    """The check of one object: what was found, and what may still be spent."""

    found: list[FieldError]
    left: int
    """Units of cost."""


class _Stop(Exception):
    """No rule is run any more."""


# --- compiling ---------------------------------------------------------------------------------------------------------


def compile_schema(schema: Schema) -> Node:
    """Rules that do not compile (of a definition that an older release let through) fail their objects."""
    return _build({**schema, "x-jota-root": True}, _Place("", 1, True), None)


def validate(schema: Schema, at: str) -> list[FieldError]:
    """Errors of the rules of a root schema."""
    judged = _Judged()
    _build({**schema, "x-jota-root": True}, _Place(at, 1, True), judged)
    if judged.total > cost.TOTAL_LIMIT:
        name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        judged.errors.append(forbidden_field(at, cost.exceeded(name, judged.total, cost.TOTAL_LIMIT)))
        name = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        judged.errors += [forbidden_field(where, name) for where, part in judged.parts if part * 10 > judged.total]
    return judged.errors


@dataclass(slots=True)
class _Judged:
    errors: list[FieldError] = field(default_factory=list)
    total: int = 0
    """Units that all rules together cost at most."""
    parts: list[tuple[str, int]] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class _Place:
    """Where in a schema a rule stands."""

    at: str
    most: int
    """How many values there may be, at most, in one object."""
    correlatable: bool
    """Whether an old value can be found for a new one."""


def _build(schema: Schema, place: _Place, judged: _Judged | None) -> Node:
    node = Node(schema)
    for index, raw in enumerate(schema.get("x-kubernetes-validations") or ()):
        where = replace(place, at=f"{place.at}.x-kubernetes-validations[{index}]")
        rule = _rule(raw, schema, where, judged)
        if rule is not None:
            node.rules.append(rule)
    for name, child in (schema.get("properties") or {}).items():
        below = _build(child, replace(place, at=f"{place.at}.properties[{name}]"), judged)
        if not below.empty:
            node.fields[name] = below
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            below = _build(schema[key], _inside(schema, key, place), judged)
            node.item = None if below.empty else below
    return node


def _inside(schema: Schema, key: str, place: _Place) -> _Place:
    of = types.of_schema(schema)
    most = min(place.most * cost.largest(of), cost.UNBOUNDED) if of is not None else cost.UNBOUNDED
    known = key == "additionalProperties" or schema.get("x-kubernetes-list-type") == "map"
    return _Place(f"{place.at}.{key}", most, place.correlatable and known)


def _rule(raw: dict[str, Any], schema: Schema, place: _Place, judged: _Judged | None) -> Rule | None:
    """None when it does not compile, which `judged` then tells."""
    found: list[FieldError] = []
    source, at = str(raw.get("rule") or ""), place.at
    rule = None
    if not source.strip():
        found.append(required(f"{at}.rule", "rule is not specified"))
    else:
        try:
            program = cel.compile(source, _variables(raw, schema))
            transition = "oldSelf" in program.uses
            rule = Rule(program, source, str(raw.get("message") or "").strip(), transition=transition)
        except cel.CelCompileError as e:
            text = str(e)
            if text.startswith("must evaluate"):
                text = "cel expression must evaluate to a bool"
            found.append(invalid(f"{at}.rule", raw, text))
    if rule is not None:
        rule.optional_old = raw.get("optionalOldSelf") is True
        rule.reason, rule.field_path = str(raw.get("reason") or ""), str(raw.get("fieldPath") or "")
        _message(rule, raw, schema, at, found)
        found += _extras(rule, schema, place)
    if judged is not None:
        if rule is not None:
            _price(rule, place, judged, found)
        judged.errors += found
    return rule


def _variables(raw: dict[str, Any], schema: Schema) -> dict[str, types.Type]:
    own = types.of_schema(schema, "object", root=bool(schema.get("x-jota-root"))) or types.DYN
    old = types.Type("optional", (own,)) if raw.get("optionalOldSelf") is True else own
    return {"self": own, "oldSelf": old}


def _price(rule: Rule, place: _Place, judged: _Judged, found: list[FieldError]) -> None:
    """The rule's estimated cost, and its message's."""
    for name, words, program in (
        ("rule", "estimated rule cost", rule.program),
        ("messageExpression", "estimated messageExpression cost", rule.message_program),
    ):
        if program is None:
            continue
        most = min(program.most_cost * place.most, cost.UNBOUNDED)
        if most > cost.LIMIT:
            found.append(forbidden_field(f"{place.at}.{name}", cost.exceeded(words, most, cost.LIMIT)))
        judged.total = min(judged.total + most, cost.UNBOUNDED)
        judged.parts.append((f"{place.at}.{name}", most))


def _message(rule: Rule, raw: dict[str, Any], schema: Schema, at: str, found: list[FieldError]) -> None:
    expression = str(raw.get("messageExpression") or "")
    if "\n" in rule.message:
        found.append(invalid(f"{at}.message", rule.message, "message must not contain line breaks"))
    elif "\n" in rule.source and not rule.message:
        found.append(required(f"{at}.message", "message must be specified if rule contains line breaks"))
    if not expression:
        return
    try:
        rule.message_program = cel.compile(expression, _variables(raw, schema), returns="string")
    except cel.CelCompileError as e:
        text = str(e)
        if text.startswith("must evaluate"):
            text = "must evaluate to a string"
        found.append(invalid(f"{at}.messageExpression", raw, text))


def _extras(rule: Rule, schema: Schema, place: _Place) -> list[FieldError]:
    at, found = place.at, []
    if rule.reason not in _REASONS:
        found.append(not_supported(f"{at}.reason", rule.reason, sorted(r for r in _REASONS if r)))
    if rule.optional_old and not rule.transition:
        detail = "may not be set if oldSelf is not used in rule"
        found.append(invalid(f"{at}.optionalOldSelf", True, detail))
    if rule.field_path and _path_of(schema, rule.field_path) is None:
        detail = "fieldPath must be a valid path: does not refer to a valid field"
        found.append(invalid(f"{at}.fieldPath", rule.field_path, detail))
    if rule.transition and not place.correlatable and not rule.optional_old:
        detail = "oldSelf cannot be used on the uncorrelatable portion of the schema"
        found.append(forbidden_field(f"{at}.rule", detail))
    return found


def _path_of(schema: Schema, path: str) -> str | None:
    """A fieldPath as an error spells it (`.a.b`, `['x']`); None when the schema has no such field."""
    import re

    at, parts = schema, re.findall(r"\.([^.\[\]']+)|\['((?:[^'\\]|\\.)+)'\]", path)
    if not parts or "".join(f".{a}" if a else f"['{b}']" for a, b in parts) != path:
        return None
    out = ""
    for plain, quoted in parts:
        name = plain or quoted
        child = (at.get("properties") or {}).get(name)
        extra = at.get("additionalProperties")
        out += f".{name}" if isinstance(child, dict) else f"[{name}]"
        following = child if isinstance(child, dict) else extra if isinstance(extra, dict) else None
        if following is None:
            return None
        at = following
    return out


# --- running -----------------------------------------------------------------------------------------------------------


def _walk(node: Node, new: Any, old: Any, path: str, run: _Run) -> None:
    if len(run.found) > MOST_ERRORS or new is None:
        return
    slices.spend(1)
    if old is not _ABSENT and checks.same(new, old) and not any(r.transition for r in node.rules):
        return  # nothing changed: what was valid before is not judged again
    if node.rules:
        _apply(node, new, old, path, run)
    if isinstance(new, dict):
        for key, value in new.items():
            below = node.fields.get(key, node.item)
            if below is not None:
                was = old.get(key, _ABSENT) if isinstance(old, dict) else _ABSENT
                where = f"{path}.{key}" if key in node.fields else f"{path}[{key}]"
                _walk(below, value, _ABSENT if was is None else was, where.lstrip("."), run)
    elif isinstance(new, list) and node.item is not None:
        partner: Callable[[Any], Any] = checks.correlated(node.schema, old)
        for index, value in enumerate(new):
            was = partner(value)
            _walk(node.item, value, _ABSENT if was is checks.UNKNOWN else was, f"{path}[{index}]", run)


def _apply(node: Node, new: Any, old: Any, path: str, run: _Run) -> None:
    values = {"self": adapt(node.schema, new)}
    if old is not _ABSENT:
        values["oldSelf"] = adapt(node.schema, old)
    for rule in node.rules:
        given = values
        if rule.optional_old:
            given = {**values, "oldSelf": Optional(values["oldSelf"]) if "oldSelf" in values else NONE}
        elif rule.transition and old is _ABSENT:
            continue
        problem = _judge(rule, node, given, path, run)
        if problem is not None:
            run.found.append(problem)


def _judge(rule: Rule, node: Node, values: dict[str, Any], path: str, run: _Run) -> FieldError | None:
    """Raises _Stop when the budget is spent."""
    where, type_ = path or checks.ROOT, str(node.schema.get("type") or "object")
    named = rule.message or rule.source.strip()
    try:
        good, spent = rule.program.measure(values)
    except cel.CelCostError as e:
        text = f"'{e}': no further validation rules will be run due to call cost exceeds limit for rule: {named}"
        run.found.append(invalid(where, type_, text))
        raise _Stop from None
    except cel.CelError as e:
        _spend(run, e.spent, where, type_)
        if str(e).startswith("no such overload"):
            text = "call arguments did not match a supported operator, function or macro signature for rule"
            return invalid(where, type_, f"'{e}': {text}: {named}")
        return invalid(where, type_, f"{e} evaluating rule: {named}")
    _spend(run, spent, where, type_)
    if good is True:
        return None
    text = _text(rule, values, run)
    if rule.field_path:
        where = f"{path}{_path_of(node.schema, rule.field_path) or ''}".lstrip(".")
    match rule.reason:
        case "FieldValueForbidden":
            return forbidden_field(where, text)
        case "FieldValueRequired":
            return required(where, text)
        case "FieldValueDuplicate":
            return duplicate(where, type_)
    return invalid(where, type_, text)


def _spend(run: _Run, units: int, where: str, type_: str) -> None:
    """Raises _Stop when the budget is spent."""
    run.left -= units
    if run.left < 0:
        run.found.append(invalid(where, type_, cel.OUT_OF_BUDGET))
        raise _Stop


def _text(rule: Rule, values: dict[str, Any], run: _Run) -> str:
    default = rule.message or f"failed rule: {rule.source.strip()}"
    if rule.message_program is None:
        return default
    try:
        text, spent = rule.message_program.measure(values, max(0, min(cel.CALL_LIMIT, run.left)))
    except cel.CelError as e:
        run.left -= e.spent
        return default
    run.left -= spent
    good = isinstance(text, str) and text.strip() and "\n" not in text and len(text) <= 5 * 1024
    return text.strip() if good else default
