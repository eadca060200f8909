"""Request bodies: bytes of any accepted media type in, the JSON value and warnings out.

Well-formed machine-made JSON takes a fast path: one orjson parse and one typed check (structs.py). Only when that finds
something, or duplicates are possible, the slow walks run and word the errors as upstream. Next: api/verbs.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from jota.meta import schema, structs
from jota.meta.check import Problem, suggest
from jota.meta.depth import MAX_DEPTH, too_deep
from jota.meta.errors import ApiError, Undecodable, bad_request, unsupported_media_type
from jota.meta.schema import Type

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
ACCEPTED = [JSON, YAML, PROTOBUF]
_MAX_LISTED = 30
"""Problems named in one error or set of warnings."""
_MAX_HINTS = 5

_JSON_TYPES = frozenset(
    ("", JSON, "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json")
)
_YAML_TYPES = frozenset((YAML, "application/apply-patch+yaml", "text/yaml", "application/x-yaml"))


def decode_body(
    content_type: str, body: bytes, definition: str | Type | None, *, strict: str = "Ignore"
) -> tuple[Any, list[str]]:
    """(value, warnings) of a request body.

    `definition` is what the value must be (a schema name or Type), None for values without a type. `strict` is the
    request's fieldValidation: Ignore | Warn | Strict. Raises ApiError 400 (unparsable, wrong type, strict errors) or
    415 (unknown media type)."""
    media = content_type.partition(";")[0].strip().lower()
    if media in _JSON_TYPES:
        return _decode_json(body, definition, strict)
    if media in _YAML_TYPES:
        if (found := _decode_json_as_yaml(body, definition, strict)) is not None:
            return found
        from jota.meta import yamlbody

        value, repeated = yamlbody.load(body, MAX_DEPTH)
        return value, validate_object(value, definition, strict=strict, yaml=repeated)
    if media == PROTOBUF:
        from jota.meta import protobuf

        value = protobuf.decode(body)
        return value, validate_object(value, definition, strict="Ignore")
    raise unsupported_media_type(ACCEPTED)


def _decode_json(body: bytes, definition: str | Type | None, strict: str) -> tuple[Any, list[str]]:
    value = parse_json(body)
    order: dict[str, int] = {}
    if strict != "Ignore" and _may_repeat_keys(body, value):
        order = duplicate_keys(body)
    if not order and isinstance(definition, str) and structs.clean(definition, body):
        return value, []
    return value, validate_object(value, definition, strict=strict, duplicates=order)


def _decode_json_as_yaml(body: bytes, definition: str | Type | None, strict: str) -> tuple[Any, list[str]] | None:
    """What is said to be YAML and is JSON, which client-go and kubectl always send: the same value in a tenth of the time. None:
    it is none, or one of which something is to be said."""
    if body[:1] != b"{":
        return None
    try:
        value = parse_json(body)
    except ApiError:
        return None
    if _may_repeat_keys(body, value) and duplicate_keys(body):
        return None
    if isinstance(definition, str) and structs.clean(definition, body):
        return value, []
    return value, validate_object(value, definition, strict=strict)


class Unreadable(Undecodable):
    """400: what came is no JSON."""


def parse_json(body: bytes) -> Any:
    """One JSON value. Raises ApiError 400 with the position of the error, or when it is nested too deep."""
    if not body.strip():
        raise bad_request("EOF")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as e:
        detail = f"{e.msg} at line {e.lineno} column {e.colno}"
        raise Unreadable(f"error parsing JSON: {detail}", detail) from None
    if (body.count(b"{") > MAX_DEPTH or body.count(b"[") > MAX_DEPTH) and too_deep(value):
        raise bad_request(f"error parsing JSON: exceeded max depth {MAX_DEPTH}")
    return value


def validate_object(
    value: Any,
    definition: str | Type | None,
    *,
    strict: str,
    duplicates: dict[str, int] | None = None,
    yaml: list[str] | None = None,
) -> list[str]:
    """Check a decoded (or patched) value against its type, drop unknown fields and nulls in place, give the warnings.

    Wrong types are 400 always; unknown and duplicate fields are 400 when `strict` is Strict, warnings when Warn. Both come
    with what was probably meant, as further warnings.
    `duplicates` is what `duplicate_keys` found, `yaml` the texts that yamlbody.py found."""
    problems: list[Problem] = []
    if definition is not None and not (isinstance(definition, str) and structs.clean_value(definition, value)):
        problems = schema.check(definition, value)
        wrong = next((p for p in problems if p.kind == "type" and _typed(definition, p.path)), None)
        if wrong is not None:
            raise Undecodable(_cannot_be_handled(value, wrong.message), wrong.message)
        schema.prune(definition, value)
    if strict == "Ignore":
        return []
    unknown = [p for p in problems if p.kind == "unknown"]
    texts = list(yaml or ()) + _ordered(unknown, duplicates or {})
    if not texts:
        return []
    hints = _hints(definition, unknown) if definition is not None else []
    if strict == "Strict":
        detail = "strict decoding error: " + ", ".join(texts[:_MAX_LISTED])
        error = Undecodable(_cannot_be_handled(value, detail), detail)
        error.warnings = hints
        raise error
    return texts[:_MAX_LISTED] + hints


def _hints(definition: str | Type, unknown: list[Problem]) -> list[str]:
    """What was probably meant: beside upstream's texts, which clients match."""
    root = schema.definition(definition) if isinstance(definition, str) else definition
    if root is None:
        return []
    found = [(p.path, suggest(root, p.path)) for p in unknown[:_MAX_HINTS]]
    return [f'"{path}": did you mean "{better}"?' for path, better in found if better]


def _typed(definition: str | Type, path: str) -> bool:
    """Types of a custom resource's own fields are its validation's business (422), not the decoder's."""
    return (
        isinstance(definition, str) or bool(definition.name) or path.split(".")[0] in ("apiVersion", "kind", "metadata")
    )


def _ordered(unknown: list[Problem], duplicates: dict[str, int]) -> list[str]:
    """Messages in document order; a repeated unknown field is only unknown, as upstream."""
    texts = [(duplicates.get(p.path, index), p.message) for index, p in enumerate(unknown)]
    if not duplicates:
        return [text for _, text in texts]
    paths = {p.path for p in unknown}
    for path, position in duplicates.items():
        if path.startswith(_REPEATED) and path[len(_REPEATED) :] not in paths:
            texts.append((position, f'duplicate field "{path[len(_REPEATED) :]}"'))
    return [text for _, text in sorted(texts, key=lambda pair: pair[0])]


def _cannot_be_handled(value: Any, detail: str) -> str:
    """Upstream names the kind where it can."""
    kind = value.get("kind") if isinstance(value, dict) else None
    version = value.get("apiVersion") if isinstance(value, dict) else None
    if not isinstance(kind, str) or not isinstance(version, str):
        return detail
    return f'{kind} in version "{version.rpartition("/")[2]}" cannot be handled as a {kind}: {detail}'


# --- duplicate keys --------------------------------------------------------------------------------------------------


_KEY = re.compile(rb'"[ \t\r\n]*:')
"""The end of a key; also in a string, where a quote that is escaped and a colon stand together."""
_HIDDEN = re.compile(rb"\\u00(?:20|22|3[aA])")
"""Blank, quote and colon written as numbers: strings that hold them may have an end of a key more when they are encoded anew."""


def _may_repeat_keys(body: bytes, value: Any) -> bool:
    """False when no key of the body was lost: the value's compact encoding is as long, or has as many keys.

    Where that cannot be told it says True, which only costs time."""
    encoded = orjson.dumps(value)
    if len(encoded) == len(body.rstrip(b"\n")):
        return False
    return _HIDDEN.search(body) is not None or len(_KEY.findall(encoded)) != len(_KEY.findall(body))


class _Pairs:
    """An object with its pairs as written."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


_REPEATED = "="
"""Marks the position of a repetition in the map of positions; no path begins with it."""


def duplicate_keys(body: bytes) -> dict[str, int]:
    """{} when no object has a key twice; otherwise the position, in document order, of every path and of every
    repetition (under _REPEATED + path)."""
    repeats = False

    def hook(pairs: list[tuple[str, Any]]) -> Any:
        nonlocal repeats
        if len({key for key, _ in pairs}) != len(pairs):
            repeats = True
        return _Pairs(pairs)

    tree = json.loads(body, object_pairs_hook=hook)
    positions: dict[str, int] = {}
    if repeats:
        _collect(tree, "", positions)
    return positions


def _collect(node: Any, path: str, positions: dict[str, int]) -> None:
    if isinstance(node, list):
        for index, child in enumerate(node):
            _collect(child, f"{path}[{index}]", positions)
    elif isinstance(node, _Pairs):
        seen: set[str] = set()
        for key, child in node.pairs:
            where = f"{path}.{key}" if path else key
            if key in seen:
                positions.setdefault(_REPEATED + where, len(positions))
            positions.setdefault(where, len(positions))
            seen.add(key)
            _collect(child, where, positions)
