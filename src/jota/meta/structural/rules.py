"""CEL rules of a structural schema (x-kubernetes-validations): compiled once per schema, run on every write.

`validate` judges the rules of a new definition; `compile_schema` makes a tree of programs along the schema, whose `check`
walks an object. A rule that names `oldSelf` is a transition rule: it runs only where an old value is known, unless
`optionalOldSelf`. Values are made ready first (`adapt`): properties under their escaped names, numbers as doubles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jota.meta import cel
from jota.meta.errors import FieldError, duplicate, forbidden_field, invalid, not_supported, required
from jota.meta.structural import checks

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
_OLD = "oldSelfOrNone"


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
        found: list[FieldError] = []
        _walk(self, new, _ABSENT if old is None else old, "", found)
        return found


# --- compiling ---------------------------------------------------------------------------------------------------------


def compile_schema(schema: Schema) -> Node:
    """Rules that do not compile (of a definition that an older release let through) fail their objects."""
    return _build({**schema, "x-jota-root": True}, "", None)


def validate(schema: Schema, at: str) -> list[FieldError]:
    """Errors of the rules of a root schema."""
    errors: list[FieldError] = []
    _build({**schema, "x-jota-root": True}, at, errors)
    return errors


def _build(schema: Schema, at: str, errors: list[FieldError] | None) -> Node:
    node = Node(schema)
    for index, raw in enumerate(schema.get("x-kubernetes-validations") or ()):
        rule = _rule(raw, schema, f"{at}.x-kubernetes-validations[{index}]", errors)
        if rule is not None:
            node.rules.append(rule)
    for name, child in (schema.get("properties") or {}).items():
        below = _build(child, f"{at}.properties[{name}]", errors)
        if not below.empty:
            node.fields[name] = below
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            below = _build(schema[key], f"{at}.{key}", errors)
            node.item = None if below.empty else below
    return node


def _rule(raw: dict[str, Any], schema: Schema, at: str, errors: list[FieldError] | None) -> Rule | None:
    """None when it does not compile, which `errors` then tells."""
    found: list[FieldError] = []
    source = str(raw.get("rule") or "")
    rule = None
    if not source.strip():
        found.append(required(f"{at}.rule", "rule is not specified"))
    else:
        try:
            variables = {"self": schema, "oldSelf": None if raw.get("optionalOldSelf") else schema}
            program = cel.compile(source, variables)
            transition = "oldSelf" in program.uses
            if raw.get("optionalOldSelf"):
                program = _optional(source, schema, "bool")
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
        found += _extras(rule, schema, at)
    if errors is None:
        return rule
    errors += found
    return rule


def _optional(source: str, schema: Schema, returns: str) -> cel.Program:
    """The same expression with `oldSelf` as an optional, from a list of one or none."""
    bound = f"cel.bind(oldSelf, {_OLD}.size() > 0 ? optional.of({_OLD}[0]) : optional.none(), {source}\n)"
    return cel.compile(bound, {"self": schema, _OLD: None}, returns=returns)


def _message(rule: Rule, raw: dict[str, Any], schema: Schema, at: str, found: list[FieldError]) -> None:
    expression = str(raw.get("messageExpression") or "")
    if "\n" in rule.message:
        found.append(invalid(f"{at}.message", rule.message, "message must not contain line breaks"))
    elif "\n" in rule.source and not rule.message:
        found.append(required(f"{at}.message", "message must be specified if rule contains line breaks"))
    if not expression:
        return
    try:
        variables = {"self": schema, "oldSelf": None if rule.optional_old else schema}
        rule.message_program = cel.compile(expression, variables, returns="string")
        if rule.optional_old:
            rule.message_program = _optional(expression, schema, "string")
    except cel.CelCompileError as e:
        text = str(e)
        if text.startswith("must evaluate"):
            text = "must evaluate to a string"
        found.append(invalid(f"{at}.messageExpression", raw, text))


def _extras(rule: Rule, schema: Schema, at: str) -> list[FieldError]:
    found = []
    if rule.reason not in _REASONS:
        found.append(not_supported(f"{at}.reason", rule.reason, sorted(r for r in _REASONS if r)))
    if rule.optional_old and not rule.transition:
        detail = "may not be set if oldSelf is not used in rule"
        found.append(invalid(f"{at}.optionalOldSelf", True, detail))
    if rule.field_path and _path_of(schema, rule.field_path) is None:
        detail = "fieldPath must be a valid path: does not refer to a valid field"
        found.append(invalid(f"{at}.fieldPath", rule.field_path, detail))
    if rule.transition and schema.get("x-jota-uncorrelatable"):
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


def _walk(node: Node, new: Any, old: Any, path: str, found: list[FieldError]) -> None:
    if len(found) > MOST_ERRORS or new is None:
        return
    if old is not _ABSENT and checks.same(new, old) and not any(r.transition for r in node.rules):
        return  # nothing changed: what was valid before is not judged again
    if node.rules:
        _apply(node, new, old, path, found)
    if isinstance(new, dict):
        for key, value in new.items():
            below = node.fields.get(key, node.item)
            if below is not None:
                was = old.get(key, _ABSENT) if isinstance(old, dict) else _ABSENT
                where = f"{path}.{key}" if key in node.fields else f"{path}[{key}]"
                _walk(below, value, _ABSENT if was is None else was, where.lstrip("."), found)
    elif isinstance(new, list) and node.item is not None:
        partner: Callable[[Any], Any] = checks.correlated(node.schema, old)
        for index, value in enumerate(new):
            was = partner(value)
            _walk(node.item, value, _ABSENT if was is checks.UNKNOWN else was, f"{path}[{index}]", found)


def _apply(node: Node, new: Any, old: Any, path: str, found: list[FieldError]) -> None:
    values = {"self": adapt(node.schema, new)}
    if old is not _ABSENT:
        values["oldSelf"] = adapt(node.schema, old)
    for rule in node.rules:
        given = values
        if rule.optional_old:
            given = {"self": values["self"], _OLD: [values["oldSelf"]] if "oldSelf" in values else []}
        elif rule.transition and old is _ABSENT:
            continue
        problem = _judge(rule, node, given, path)
        if problem is not None:
            found.append(problem)


def _judge(rule: Rule, node: Node, values: dict[str, Any], path: str) -> FieldError | None:
    where, type_ = path or checks.ROOT, str(node.schema.get("type") or "object")
    try:
        if rule.program.evaluate(values) is True:
            return None
    except cel.CelError as e:
        if e.over_budget:
            text = "no further validation rules will be run due to call cost exceeds limit for rule: "
            return forbidden_field(where, text + rule.source)
        return invalid(where, type_, f"{e} evaluating rule: {rule.message or rule.source}")
    text = _text(rule, values)
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


def _text(rule: Rule, values: dict[str, Any]) -> str:
    default = rule.message or f"failed rule: {rule.source.strip()}"
    if rule.message_program is None:
        return default
    try:
        text = rule.message_program.evaluate(values)
    except cel.CelError:
        return default
    good = isinstance(text, str) and text.strip() and "\n" not in text and len(text) <= 5 * 1024
    return text.strip() if good else default


def adapt(schema: Schema, value: Any) -> Any:
    """The value as CEL sees it; the value itself when nothing has to change."""
    if isinstance(value, dict):
        if schema.get("x-jota-root") or schema.get("x-kubernetes-embedded-resource"):
            value = _narrowed(value)
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        out: dict[str, Any] = {}
        for key, child in value.items():
            rule = properties.get(key)
            if rule is None and isinstance(extra, dict):
                rule = extra
            name = (cel.escape(key) or key) if key in properties else key
            out[name] = adapt(rule, child) if isinstance(rule, dict) else child
        return out
    if isinstance(value, list):
        items = schema.get("items")
        return [adapt(items, item) for item in value] if isinstance(items, dict) else value
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if schema.get("type") == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _narrowed(value: dict[str, Any]) -> dict[str, Any]:
    """Of metadata, rules see the names alone."""
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        return value
    return {**value, "metadata": {k: metadata[k] for k in ("name", "generateName") if k in metadata}}
