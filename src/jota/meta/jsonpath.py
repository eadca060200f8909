"""JSONPath as printer columns use it: `.a.b`, `['a']`, `[0]`, `[*]`, `[-1:]`, `..`, `[?(@.type=="Ready")]`.

Text in, a function from a value to every match out. The subset is what client-go's jsonpath does with a single expression;
no braces needed. Missing keys match nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

Step = Callable[[Any], Iterator[Any]]
Path = Callable[[Any], list[Any]]
_FIELD = re.compile(r"\.((?:\\.|[^.\[\]\s'\"()?@])+)")
_QUOTED = re.compile(r"""\[\s*(?:'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)")\s*\]""")
_SLICE = re.compile(r"\[\s*(-?\d{1,18})?\s*(?::\s*(-?\d{1,18})?\s*(?::\s*(\d{1,18})?\s*)?)?\]", re.ASCII)
_FILTER = re.compile(
    r"""\[\?\(\s*@(?P<path>[^=!<>\s)]*)\s*(?:(?P<op>==|!=|<=|>=|<|>)\s*(?P<value>"[^"]*"|'[^']*'|[^)\s]+)\s*)?\)\]"""
)


class JsonPathError(ValueError):
    """Not a path of this form."""


@lru_cache(maxsize=1024)
def compile(text: str) -> Path:
    """Raises JsonPathError."""
    rest = text.strip()
    if rest.startswith("{") and rest.endswith("}"):
        rest = rest[1:-1].strip()
    rest = rest.removeprefix("$").removeprefix("@")
    if rest and rest[0] not in ".[":
        raise JsonPathError(
            f"is an invalid path: unexpected path string, expected {{.name1.name2}} or .name1.name2: {text}"
        )
    steps: list[Step] = []
    while rest and rest != ".":
        step, size = _step(rest, text)
        steps.append(step)
        rest = rest[size:]

    def find(value: Any) -> list[Any]:
        found = [value]
        for step in steps:
            found = [child for one in found for child in step(one)]
        return found

    return find


def first(text: str, value: Any) -> Any:
    """The first match, None when there is none. Raises JsonPathError."""
    found = compile(text)(value)
    return found[0] if found else None


def _step(rest: str, whole: str) -> tuple[Step, int]:
    if rest.startswith(".."):
        name = _FIELD.match(rest[1:])
        if name is None:
            raise JsonPathError(f"is an invalid path: {whole}")
        return _deep(_plain(name[1])), 1 + name.end()
    if rest.startswith((".*", "[*]")):
        return _every, 2 if rest[0] == "." else 3
    field = _FIELD.match(rest)
    if field is not None:
        return _field(_plain(field[1])), field.end()
    quoted = _QUOTED.match(rest)
    if quoted is not None:
        return _field(_plain(quoted[1] if quoted[1] is not None else quoted[2])), quoted.end()
    chosen = _FILTER.match(rest)
    if chosen is not None:
        return _filter(chosen), chosen.end()
    part = _SLICE.match(rest)
    if part is not None and (part[1] or ":" in part[0]):
        return _slice(part), part.end()
    if rest.startswith(".["):
        step, size = _step(rest[1:], whole)
        return step, size + 1
    raise JsonPathError(f"is an invalid path: unrecognized part at {rest!r} in {whole}")


def _plain(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name)


def _field(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _every(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _deep(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]
        for child in _every(value):
            yield from step(child)

    return step


def _slice(part: re.Match[str]) -> Step:
    start, end, stride = (int(number) if number else None for number in part.groups())
    whole = slice(start, end, stride or None)

    def step(value: Any) -> Iterator[Any]:
        if not isinstance(value, list):
            return
        if ":" in part[0]:
            yield from value[whole]
        elif start is not None and -len(value) <= start < len(value):
            yield value[start]

    return step


def _filter(found: re.Match[str]) -> Step:
    path = compile(found["path"] or "")
    operator, literal = found["op"], found["value"]
    wanted = _literal(literal) if literal is not None else None

    def step(value: Any) -> Iterator[Any]:
        for item in _every(value):
            have = path(item)
            if (operator is None and have) or (operator is not None and have and _compare(have[0], operator, wanted)):
                yield item

    return step


def _literal(text: str) -> Any:
    if text[0] in "'\"":
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


def _compare(have: Any, operator: str, wanted: Any) -> bool:
    if operator == "==":
        return bool(have == wanted)
    if operator == "!=":
        return bool(have != wanted)
    try:
        return bool({"<": have < wanted, "<=": have <= wanted, ">": have > wanted, ">=": have >= wanted}[operator])
    except TypeError:
        return False
