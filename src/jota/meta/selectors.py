"""Label and field selectors: query text or a LabelSelector object in, a predicate out.

The grammar and the error texts are apimachinery's (`labels.Parse`, `fields.ParseSelector`). Next: api/verbs, which
filter lists and watches with what is parsed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from jota.meta import names
from jota.meta.errors import ApiError, bad_request

Labels = Mapping[str, str]


class Requirement(NamedTuple):
    """One term. `op` is one of: in, notin, =, ==, !=, exists, !, gt, lt."""

    key: str
    op: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Labels) -> bool:
        value = labels.get(self.key)
        match self.op:
            case "in" | "=" | "==":
                return value is not None and value in self.values
            case "notin" | "!=":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
            case _:
                return _compare(value, self.op, self.values[0])

    def __str__(self) -> str:
        match self.op:
            case "exists":
                return self.key
            case "!":
                return "!" + self.key
            case "in" | "notin":
                return f"{self.key} {self.op} ({','.join(sorted(self.values))})"
            case "gt" | "lt":
                return f"{self.key}{'>' if self.op == 'gt' else '<'}{self.values[0]}"
            case _:
                return f"{self.key}{self.op}{self.values[0]}"


def _compare(value: str | None, op: str, bound: str) -> bool:
    """Gt and Lt hold only for integers, as node affinity has them."""
    if value is None or not _INTEGER.fullmatch(value):
        return False
    return int(value) > int(bound) if op == "gt" else int(value) < int(bound)


_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


class LabelSelector:
    """All requirements must hold. `empty` matches everything; a selector made from None matches nothing."""

    __slots__ = ("nothing", "requirements")

    def __init__(self, requirements: tuple[Requirement, ...] = (), *, nothing: bool = False) -> None:
        self.requirements = requirements
        self.nothing = nothing

    @property
    def empty(self) -> bool:
        """True when it selects everything."""
        return not self.requirements and not self.nothing

    def matches(self, labels: Labels | None) -> bool:
        if self.nothing:
            return False
        have: Labels = labels or {}
        for requirement in self.requirements:  # noqa: SIM110 - a generator takes twice as long
            if not requirement.matches(have):
                return False
        return True

    def __str__(self) -> str:
        return ",".join(str(r) for r in self.requirements)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelSelector) and (self.requirements, self.nothing) == (
            other.requirements,
            other.nothing,
        )

    def __hash__(self) -> int:
        return hash((self.requirements, self.nothing))


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)


# --- the text form ---------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"[ \t\r\n]*(==|!=|[=!(),<>]|[^ \t\r\n=!(),<>]+)")
_SYMBOLS = frozenset({"==", "!=", "=", "!", "(", ")", ",", "<", ">"})
_BINARY = {"in": "in", "notin": "notin", "=": "=", "==": "==", "!=": "!=", ">": "gt", "<": "lt"}
_EXPECTED_OPERATOR = "in, notin, =, ==, !=, gt, lt"


class _Parser:
    """Recursive descent over the tokens; the end of the text is the token ""."""

    def __init__(self, text: str) -> None:
        self.tokens = [m.group(1) for m in _TOKEN.finditer(text)]
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def is_identifier(self) -> bool:
        token = self.peek()
        return bool(token) and token not in _SYMBOLS

    def parse(self) -> tuple[Requirement, ...]:
        found: list[Requirement] = []
        if not self.peek():
            return ()
        if not self.is_identifier() and self.peek() != "!":
            raise bad_request(f"found '{self.peek()}', expected: !, identifier, or 'end of string'")
        while True:
            try:
                found.append(self.requirement())
            except _Unparsable as e:
                raise bad_request(f"unable to parse requirement: {e}") from None
            token = self.next()
            if not token:
                return tuple(sorted(found, key=lambda r: r.key))
            if token != ",":
                raise bad_request(f"found '{token}', expected: ',' or 'end of string'")
            if not self.is_identifier() and self.peek() != "!":
                raise bad_request(f"found '{self.peek()}', expected: identifier after ','")

    def requirement(self) -> Requirement:
        absent = self.peek() == "!"
        if absent:
            self.next()
        if not self.is_identifier():
            raise _Unparsable(f"found '{self.peek()}', expected: identifier")
        key = _checked_key(self.next(), "<nil>")
        if absent:
            return Requirement(key, "!")
        if self.peek() in ("", ","):
            return Requirement(key, "exists")
        token = self.next()
        op = _BINARY.get(token)
        if op is None:
            raise _Unparsable(f"found '{token}', expected: {_EXPECTED_OPERATOR}")
        values = self.values() if op in ("in", "notin") else self.exact_value()
        return _checked(key, op, values)

    def exact_value(self) -> tuple[str, ...]:
        if self.peek() in ("", ","):
            return ("",)
        if not self.is_identifier():
            raise _Unparsable(f"found '{self.peek()}', expected: identifier")
        return (self.next(),)

    def values(self) -> tuple[str, ...]:
        token = self.next()
        if token != "(":
            raise _Unparsable(f"found '{token}' expected: '('")
        found: list[str] = []
        while True:
            named = self.is_identifier()
            found.append(self.next() if named else "")
            token = self.next()
            if token == ")":
                return tuple(dict.fromkeys(found))
            if token != ",":
                wanted = "',' or ')'" if named else "',', ')' or identifier"
                raise _Unparsable(f"found '{token}', expected: {wanted}")


class _Unparsable(Exception):
    pass


def _checked_key(key: str, path: str) -> str:
    detail = names.qualified_name(key)
    if detail:
        raise _Unparsable(f'{path}: Invalid value: "{key}": {"; ".join(detail)}')
    return key


def _checked(key: str, op: str, values: tuple[str, ...]) -> Requirement:
    for index, value in enumerate(values):
        if op in ("gt", "lt"):
            if not _INTEGER.fullmatch(value):
                raise _Unparsable(
                    f"values[{index}]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer"
                )
            continue
        detail = names.label_value(value)
        if detail:
            raise _Unparsable(f'values[{index}][{key}]: Invalid value: "{value}": {"; ".join(detail)}')
    return Requirement(key, op, values)


@lru_cache(maxsize=512)
def parse_labels(text: str) -> LabelSelector:
    """`labelSelector` query text, e.g. "app=web,tier in (a,b),!old". Raises ApiError 400 in upstream's words."""
    requirements = _Parser(text).parse()
    return LabelSelector(requirements) if requirements else EVERYTHING


# --- the object form -------------------------------------------------------------------------------------------------

_OBJECT_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}
_NODE_OPERATORS = _OBJECT_OPERATORS | {"Gt": "gt", "Lt": "lt"}


def from_object(selector: Mapping[str, Any] | None) -> LabelSelector:
    """A meta/v1 LabelSelector object: None selects nothing, {} everything. Raises ApiError 400."""
    if selector is None:
        return NOTHING
    found: list[Requirement] = []
    for key, value in (selector.get("matchLabels") or {}).items():
        found.append(_from_expression(key, "In", (value,)))
    for expression in selector.get("matchExpressions") or ():
        values = tuple(expression.get("values") or ())
        found.append(_from_expression(expression.get("key", ""), expression.get("operator", ""), values))
    return LabelSelector(tuple(sorted(found, key=lambda r: r.key))) if found else EVERYTHING


def from_map(labels: Labels | None) -> LabelSelector:
    """A plain map selector (Service, ReplicationController): every pair must match; an empty map selects nothing here,
    as those kinds treat "no selector" as "managed by someone else"."""
    if not labels:
        return NOTHING
    return LabelSelector(tuple(Requirement(key, "=", (labels[key],)) for key in sorted(labels)))


def from_node_terms(expressions: list[Mapping[str, Any]]) -> LabelSelector:
    """`matchExpressions` of a NodeSelectorTerm (adds Gt and Lt). Raises ApiError 400."""
    return LabelSelector(
        tuple(
            _from_expression(e.get("key", ""), e.get("operator", ""), tuple(e.get("values") or ()), _NODE_OPERATORS)
            for e in expressions
        )
    )


def _from_expression(
    key: str, operator: str, values: tuple[str, ...], operators: Mapping[str, str] = _OBJECT_OPERATORS
) -> Requirement:
    op = operators.get(operator)
    if op is None:
        raise bad_request(f'"{operator}" is not a valid label selector operator')
    try:
        _checked_key(key, "key")
        if op in ("in", "notin") and not values:
            raise _Unparsable("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
        if op in ("exists", "!") and values:
            raise _Unparsable("values: Invalid value: values set must be empty for exists and does not exist")
        if op in ("gt", "lt") and len(values) != 1:
            raise _Unparsable("values: Invalid value: for 'Gt', 'Lt' operators, exactly one value is required")
        return _checked(key, op, values)
    except _Unparsable as e:
        raise bad_request(str(e)) from None


# --- field selectors -------------------------------------------------------------------------------------------------


class FieldRequirement(NamedTuple):
    """`op` is "=" or "!="."""

    field: str
    op: str
    value: str


class FieldSelector:
    """All requirements must hold. Which fields exist is the kind's business: look at `requirements` first."""

    __slots__ = ("requirements",)

    def __init__(self, requirements: list[FieldRequirement]) -> None:
        self.requirements = requirements

    @property
    def empty(self) -> bool:
        return not self.requirements

    def matches(self, get: Callable[[str], str]) -> bool:
        """`get(field)` gives the field's value as text, "" when absent."""
        return all((get(field) == value) == (op == "=") for field, op, value in self.requirements)

    def exact(self, field: str) -> str | None:
        """The value that `field` must equal, when the selector says so (metadata.name=x makes a list a single get)."""
        for name, op, value in self.requirements:
            if name == field and op == "=":
                return value
        return None

    def __str__(self) -> str:
        return ",".join(f"{r.field}{r.op}{_escape(r.value)}" for r in self.requirements)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


_FIELD_PARTS = re.compile(r"((?:\\.|[^=!\\]|!(?!=))*)(==|!=|=)(.*)", re.DOTALL)


def parse_fields(text: str) -> FieldSelector:
    """`fieldSelector` query text, e.g. "metadata.name=a,status.phase!=Running"; backslash escapes `\\`, `,` and `=`.

    Raises ApiError 400."""
    found: list[FieldRequirement] = []
    for term in _split_terms(text):
        if not term:
            continue
        parts = _FIELD_PARTS.fullmatch(term)
        if parts is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        op = "!=" if parts[2] == "!=" else "="
        found.append(FieldRequirement(parts[1], op, _unescape(parts[3])))
    return FieldSelector(sorted(found))


def _split_terms(text: str) -> list[str]:
    terms, start, at = [], 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == ",":
            terms.append(text[start:at])
            start = at + 1
        at += 1
    terms.append(text[start:])
    return terms


def _unescape(value: str) -> str:
    if "\\" not in value and "=" not in value:
        return value
    out, at = [], 0
    while at < len(value):
        char = value[at]
        if char == "\\":
            at += 1
            if at >= len(value) or value[at] not in "\\,=":
                bad = value[at] if at < len(value) else ""
                raise _invalid_escape(bad, value)
            char = value[at]
        elif char in ",=":
            raise bad_request(f"invalid field selector: unescaped character in value: {char}")
        out.append(char)
        at += 1
    return "".join(out)


def _invalid_escape(char: str, value: str) -> ApiError:
    return bad_request(f"invalid field selector: invalid escape sequence: \\{char} in '{value}'")
