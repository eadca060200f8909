"""What makes a schema structural (KEP "structural schema"): every node has a type, value rules stand apart from shape.

In: an `openAPIV3Schema` as plain JSON and its path. Out: errors. Defaults must be valid by their own schema. CEL rules are
compiled by `compile_rules`. Schemas may be large: who calls this lets others have their turn (aio/slices.py).
"""

from __future__ import annotations

from typing import Any

from jota.aio.slices import spend
from jota.kinds.shape import Object, part, parts
from jota.meta.errors import FieldError, forbidden_field, invalid, not_supported, required
from jota.meta.structural import checks, defaults, patterns
from jota.meta.structural.mentions import mentions

_TYPES = ["array", "boolean", "integer", "number", "object", "string"]
_NODE = 3
"""Units (aio/slices.py) that one node of a schema takes."""
_FORBIDDEN = (
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "id",
    "patternProperties",
    "additionalItems",
    "readOnly",
    "writeOnly",
    "xml",
    "$ref",
    "$schema",
)
_FORBIDDEN_KEYS = frozenset(_FORBIDDEN)
_SHAPE = ("type", "additionalProperties", "default", "nullable", "title", "description")
"""What may not stand inside allOf, anyOf, oneOf and not."""
_EXTENSIONS = ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource", "x-kubernetes-int-or-string")
_LOGIC = ("allOf", "anyOf", "oneOf")
_DEEP = 100


def validate(schema: Object, at: str) -> list[FieldError]:
    """Errors of a version's root schema."""
    errors: list[FieldError] = []
    _node(schema, at, errors, root=True)
    if schema.get("type") != "object" and not any(e.field == f"{at}.type" for e in errors):
        errors.append(invalid(f"{at}.type", schema.get("type") or "", "must be object at the root"))
    for key in ("x-kubernetes-preserve-unknown-fields",):
        if schema.get(key) not in (None, True):
            errors.append(invalid(f"{at}.{key}", False, "must be true or undefined"))
    _metadata(schema, at, errors)
    return errors


def _metadata(schema: Object, at: str, errors: list[FieldError]) -> None:
    """metadata is Kubernetes' own: a CRD may only narrow its name."""
    metadata = part(part(schema, "properties"), "metadata")
    for key in metadata:
        if key not in ("type", "properties", "description", "x-kubernetes-validations"):
            detail = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            errors.append(forbidden_field(f"{at}.properties[metadata]", detail))
            return
    for key in part(metadata, "properties"):
        if key not in ("name", "generateName"):
            detail = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            errors.append(forbidden_field(f"{at}.properties[metadata]", detail))
            return


def _node(schema: Any, at: str, errors: list[FieldError], *, root: bool = False, depth: int = 0) -> None:
    if not isinstance(schema, dict):
        return
    if depth > _DEEP:
        errors.append(forbidden_field(at, "the schema is nested too deeply"))
        return
    spend(_NODE)
    for key in () if _FORBIDDEN_KEYS.isdisjoint(schema) else _FORBIDDEN:
        if schema.get(key):
            errors.append(forbidden_field(f"{at}.{key}", f"{key} is not supported" if key[0] == "$" else ""))
    if schema.get("uniqueItems") is True:
        errors.append(
            forbidden_field(
                f"{at}.uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
            )
        )
    _type(schema, at, errors, root=root)
    _values(schema, at, errors)
    _lists(schema, at, errors)
    properties = part(schema, "properties")
    if properties and schema.get("additionalProperties", True) is not True:
        errors.append(
            forbidden_field(f"{at}.additionalProperties", "additionalProperties and properties are mutual exclusive")
        )
    elif schema.get("additionalProperties") is False:
        errors.append(forbidden_field(f"{at}.additionalProperties", "additionalProperties cannot be set to false"))
    for name, child in properties.items():
        _node(child, f"{at}.properties[{name}]", errors, depth=depth + 1)
    for key in ("additionalProperties", "items"):
        if isinstance(schema.get(key), list):
            errors.append(forbidden_field(f"{at}.{key}", "items must be a schema object and not an array"))
        else:
            _node(schema.get(key), f"{at}.{key}", errors, depth=depth + 1)
    for key in _LOGIC:
        for index, child in enumerate(parts(schema, key)):
            _logic(child, f"{at}.{key}[{index}]", errors, schema, depth + 1)
    if isinstance(schema.get("not"), dict):
        _logic(schema["not"], f"{at}.not", errors, schema, depth + 1)
    _default(schema, at, errors)


def _type(schema: Object, at: str, errors: list[FieldError], *, root: bool) -> None:
    kind = schema.get("type")
    free = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-int-or-string")
    if not kind and not free:
        detail = "must not be empty at the root" if root else "must not be empty for specified object fields"
        if at.endswith("items"):
            detail = "must not be empty for specified array items"
        errors.append(required(f"{at}.type", detail))
    elif kind and kind not in _TYPES:
        errors.append(not_supported(f"{at}.type", kind, _TYPES))
    if schema.get("x-kubernetes-int-or-string") and kind:
        errors.append(invalid(f"{at}.type", kind, "must be empty if x-kubernetes-int-or-string is true"))
    if schema.get("x-kubernetes-embedded-resource"):
        if kind != "object":
            errors.append(invalid(f"{at}.type", kind or "", "must be object if x-kubernetes-embedded-resource is true"))
        if not schema.get("properties") and not schema.get("x-kubernetes-preserve-unknown-fields"):
            detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
            errors.append(required(f"{at}.properties", detail))
    if kind == "array" and not isinstance(schema.get("items"), dict | list):
        errors.append(required(f"{at}.items", "must be specified"))


def _values(schema: Object, at: str, errors: list[FieldError]) -> None:
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        try:
            patterns.compile(pattern)
        except patterns.PatternError as e:
            errors.append(invalid(f"{at}.pattern", pattern, f"must be a valid regular expression, but isn't: {e}"))
    for low, high in (("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties")):
        for key in (low, high):
            if isinstance(schema.get(key), int) and schema[key] < 0:
                errors.append(invalid(f"{at}.{key}", schema[key], "must be greater than or equal to 0"))


def _lists(schema: Object, at: str, errors: list[FieldError]) -> None:
    kind, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys")
    if kind is not None and schema.get("type") != "array":
        if schema.get("type"):
            errors.append(
                invalid(f"{at}.type", schema.get("type"), "must be array if x-kubernetes-list-type is specified")
            )
        else:
            errors.append(required(f"{at}.type", "must be array if x-kubernetes-list-type is specified"))
    if kind not in (None, "atomic", "set", "map"):
        errors.append(not_supported(f"{at}.x-kubernetes-list-type", kind, ["atomic", "map", "set"]))
    if kind == "map":
        _map_list(schema, keys, at, errors)
    elif keys:
        detail = "must be map if x-kubernetes-list-map-keys is non-empty"
        errors.append(
            invalid(f"{at}.x-kubernetes-list-type", kind, detail)
            if kind
            else required(f"{at}.x-kubernetes-list-type", detail)
        )
    if kind == "set":
        items = part(schema, "items")
        atomic = items.get("x-kubernetes-map-type") == "atomic" or items.get("x-kubernetes-list-type") == "atomic"
        if items.get("type") == "object" and not atomic:
            detail = "must be set as atomic if the parent is a list of type set"
            errors.append(invalid(f"{at}.items.x-kubernetes-map-type", items.get("x-kubernetes-map-type"), detail))
        if items.get("nullable"):
            errors.append(
                forbidden_field(f"{at}.items.nullable", "cannot be nullable when x-kubernetes-list-type is set")
            )
    shape = schema.get("x-kubernetes-map-type")
    if shape not in (None, "granular", "atomic"):
        errors.append(not_supported(f"{at}.x-kubernetes-map-type", shape, ["atomic", "granular"]))


def _map_list(schema: Object, keys: Any, at: str, errors: list[FieldError]) -> None:
    where = f"{at}.x-kubernetes-list-map-keys"
    if not keys:
        errors.append(required(where, "must not be empty if x-kubernetes-list-type is map"))
        return
    items = part(schema, "items")
    if items.get("type") != "object":
        detail = "must be object if parent array's x-kubernetes-list-type is map"
        errors.append(invalid(f"{at}.items.type", items.get("type") or "", detail))
        return
    for index, key in enumerate(keys):
        found = part(items, "properties").get(key)
        if not isinstance(found, dict):
            errors.append(invalid(f"{where}[{index}]", key, "must refer to an existing property"))
        elif found.get("type") in ("object", "array"):
            detail = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            errors.append(invalid(f"{at}.items.properties[{key}].type", found["type"], detail))
        elif "default" not in found and key not in (items.get("required") or ()):
            detail = (
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            )
            errors.append(required(f"{at}.items.properties[{key}].default", detail))


def _logic(schema: Any, at: str, errors: list[FieldError], shape: Object, depth: int) -> None:
    """Value rules: no shape of their own, and every field that they name is specified outside."""
    if not isinstance(schema, dict) or depth > _DEEP:
        return
    whole = shape.get("x-kubernetes-int-or-string")
    for key in _SHAPE:
        if key in schema and schema[key] not in (None, "", False) and not (whole and key == "type"):
            errors.append(
                forbidden_field(
                    f"{at}.{key}",
                    "must be empty to be structural" if key == "type" else "must be undefined to be structural",
                )
            )
    for key in (*_EXTENSIONS, "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"):
        if schema.get(key):
            errors.append(
                forbidden_field(
                    f"{at}.{key}",
                    "must be false to be structural" if key in _EXTENSIONS else "must be undefined to be structural",
                )
            )
    _values(schema, at, errors)
    for name, child in part(schema, "properties").items():
        outside = part(shape, "properties").get(name)
        if not isinstance(outside, dict):
            if not isinstance(shape.get("additionalProperties"), dict):
                plain = _outer(at)
                errors.append(
                    required(f"{plain}.properties[{name}]", f"because it is defined in {at}.properties[{name}]")
                )
                continue
            outside = shape["additionalProperties"]
        _logic(child, f"{at}.properties[{name}]", errors, outside, depth + 1)
    if isinstance(schema.get("items"), dict):
        _logic(schema["items"], f"{at}.items", errors, part(shape, "items"), depth + 1)
    for key in _LOGIC:
        for index, child in enumerate(parts(schema, key)):
            _logic(child, f"{at}.{key}[{index}]", errors, shape, depth + 1)
    if isinstance(schema.get("not"), dict):
        _logic(schema["not"], f"{at}.not", errors, shape, depth + 1)


def _outer(at: str) -> str:
    """The path without its logic parts: x.anyOf[0].properties[a] -> x.properties[a]."""
    import re

    return re.sub(r"\.(?:allOf|anyOf|oneOf)\[\d+\]|\.not(?=\.|$)", "", at)


def _default(schema: Object, at: str, errors: list[FieldError]) -> None:
    """A default must be complete and valid by itself."""
    if "default" not in schema:
        return
    import copy

    value = copy.deepcopy(schema["default"])
    defaults.fill(schema, value)
    for problem in checks.check(schema, value, f"{at}.default"):
        errors.append(problem)


def compile_rules(crd: Object) -> list[FieldError]:
    """Errors of the x-kubernetes-validations of every version."""
    errors: list[FieldError] = []
    for index, version in enumerate(parts(part(crd, "spec"), "versions")):
        schema = part(part(version, "schema"), "openAPIV3Schema")
        if mentions(schema, "x-kubernetes-validations"):
            import jota.meta.structural.rules as rules

            errors += rules.validate(schema, f"spec.versions[{index}].schema.openAPIV3Schema")
    return errors
