"""YAML request bodies: one document in, the JSON value and the duplicate keys out. Safe on hostile text.

Uses libyaml's parser through PyYAML. Anchors and aliases are refused beyond a small budget (a "billion laughs" document
is a few lines), and only types that JSON has are produced, as upstream's YAML to JSON conversion does.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from jota.meta.errors import bad_request

MAX_ALIASED = 10_000
"""Nodes that aliases may add in one document."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(body: bytes, max_depth: int) -> tuple[Any, list[str]]:
    """(value, texts about duplicate keys, in the words of upstream's strict converter) of the first document.

    Raises ApiError 400 with the line."""
    if not body.strip():
        raise bad_request("EOF")
    try:
        loader = _LOADER(body)
        try:
            return _Builder(loader, max_depth).document()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise bad_request(f"error converting YAML to JSON: yaml: {line}{e.problem or e.context}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as e:
        raise bad_request(f"error converting YAML to JSON: yaml: {e}") from None


class _Builder:
    """Builds values from parser events, which neither recurse in C nor construct Python objects."""

    def __init__(self, loader: Any, max_depth: int) -> None:
        self.loader = loader
        self.max_depth = max_depth
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.open: set[str] = set()
        self.aliased = 0
        self.duplicates: list[str] = []

    def document(self) -> tuple[Any, list[str]]:
        self.loader.get_event()  # stream start
        if self.loader.check_event(yaml.StreamEndEvent):
            return None, []
        self.loader.get_event()  # document start
        value, _ = self.node("", 0)
        texts = ["yaml: unmarshal errors:\n" + "\n".join("  " + d for d in self.duplicates)] if self.duplicates else []
        return value, texts

    def node(self, path: str, depth: int) -> tuple[Any, int]:
        """(value, nodes in it) of the next node."""
        if depth > self.max_depth:
            raise bad_request(f"error converting YAML to JSON: exceeded max depth {self.max_depth}")
        event = self.loader.get_event()
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        anchor = event.anchor
        if anchor:
            self.open.add(anchor)
        if isinstance(event, yaml.ScalarEvent):
            built: tuple[Any, int] = (self.scalar(event), 1)
        elif isinstance(event, yaml.SequenceStartEvent):
            built = self.sequence(path, depth)
        else:
            built = self.mapping(path, depth)
        if anchor:
            self.open.discard(anchor)
            self.anchors[anchor] = built
        return built

    def alias(self, event: Any) -> tuple[Any, int]:
        found = self.anchors.get(event.anchor)
        if found is None or event.anchor in self.open:
            raise _at(event, f"unknown anchor '{event.anchor}' referenced")
        self.aliased += found[1]
        if self.aliased > MAX_ALIASED:
            raise _at(event, "document contains excessive aliasing")
        return _copy(found[0]), found[1]

    def sequence(self, path: str, depth: int) -> tuple[list[Any], int]:
        out: list[Any] = []
        size = 1
        while not self.loader.check_event(yaml.SequenceEndEvent):
            value, inner = self.node(f"{path}[{len(out)}]", depth + 1)
            out.append(value)
            size += inner
        self.loader.get_event()
        return out, size

    def mapping(self, path: str, depth: int) -> tuple[dict[str, Any], int]:
        out: dict[str, Any] = {}
        merged: list[Any] = []
        size = 1
        while not self.loader.check_event(yaml.MappingEndEvent):
            event = self.loader.peek_event()
            plain_key, _ = self.node(path, depth + 1)
            is_merge = isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]
            key = _key(plain_key, event)
            where = f"{path}.{key}" if path else key
            value, inner = self.node(where, depth + 1)
            size += inner + 1
            if is_merge:
                merged += value if isinstance(value, list) else [value]
                continue
            if key in out:
                line = event.start_mark.line + 1
                self.duplicates.append(f'line {line}: key "{key}" already set in map')
                if len(self.duplicates) > 100:
                    raise _at(event, "too many duplicate keys")
            out[key] = value
        self.loader.get_event()
        for source in merged:
            if not isinstance(source, dict):
                raise bad_request(
                    "error converting YAML to JSON: yaml: map merge requires map or sequence of maps as the value"
                )
            out = {**source, **out}
        return out, size

    def scalar(self, event: Any) -> Any:
        tag = event.tag
        if tag is None or tag == "!":
            plain = event.implicit[0]
            return resolve(event.value) if plain else event.value
        match tag.removeprefix("tag:yaml.org,2002:"):
            case "str" | "binary" | "timestamp":
                return event.value
            case "null":
                return None
            case "int" | "float" | "bool":
                value = resolve(event.value)
                if isinstance(value, str):
                    raise _at(event, f"cannot decode !!str `{event.value[:20]}` as a !!{tag.rpartition(':')[2]}")
                return value
        raise _at(event, f"unknown tag {tag}")


def _at(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _copy(value: Any) -> Any:
    """Aliased parts become values of their own: later steps change objects in place."""
    if isinstance(value, dict):
        return {key: _copy(child) for key, child in value.items()}
    return [_copy(child) for child in value] if isinstance(value, list) else value


def _key(value: Any, event: Any) -> str:
    """JSON keys are strings: numbers and booleans are spelled as JSON spells them."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if value is None:
        return "null"
    raise _at(event, "a mapping key must be a scalar")


_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
"""YAML 1.1, as the Go library that Kubernetes uses."""
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_OCTAL = re.compile(r"([-+]?)0o?([0-7_]+)")
_HEX = re.compile(r"([-+]?)0x([0-9a-fA-F_]+)")
_BINARY = re.compile(r"([-+]?)0b([01_]+)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NUMBERISH = frozenset("0123456789+-.")


def resolve(text: str) -> Any:
    """The JSON value of a plain scalar."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    found = _BOOLEANS.get(text)
    if found is not None:
        return found
    if text[0] not in _NUMBERISH or len(text) > 400:
        return text
    if _INTEGER.fullmatch(text):
        return _bounded(int(text.replace("_", "")), text)
    for pattern, base in ((_HEX, 16), (_BINARY, 2), (_OCTAL, 8)):
        form = pattern.fullmatch(text)
        if form and form[2].strip("_"):
            return _bounded(int(form[1] + form[2].replace("_", ""), base), text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return text if math.isinf(number) else number
    return text


def _bounded(number: int, text: str) -> int | float:
    """JSON integers beyond 64 bits are floats for Go."""
    return number if -(2**63) <= number < 2**64 else float(number)
