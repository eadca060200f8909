"""One version of a CustomResourceDefinition -> Kind: pruning, defaulting, schema and rules as the Kind's pure functions.

Order on a write, as upstream: prune, default, then types and values, then lists, then CEL rules. Unchanged parts of an
object are not judged again on update (ratcheting). Next: manager.py installs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jota.kinds.common import AGE, NAME, moment, since
from jota.kinds.kind import Column, Kind, Object, Scale
from jota.kinds.shape import part, parts, text, texts
from jota.kinds.status import only_status
from jota.meta import jsonpath, schema
from jota.meta.errors import FieldError
from jota.meta.resource import Resource
from jota.meta.structural import checks, defaults, embedded, lists
from jota.meta.structural.mentions import mentions

IMPLICIT = ("apiVersion", "kind", "metadata")
"""Fields of the root that are the engine's business."""


def version_of(crd: Object, name: str) -> Object:
    """The entry of spec.versions. Raises StopIteration when there is none."""
    return next(v for v in parts(part(crd, "spec"), "versions") if v.get("name") == name)


def kind_for(crd: Object, version: str, storage: str) -> Kind:
    """The Kind of one version; `storage` is the version that objects are kept in."""
    spec, entry = part(crd, "spec"), version_of(crd, version)
    names = part(part(crd, "status"), "acceptedNames") or part(spec, "names")
    group, plural, namespaced = text(spec, "group"), text(names, "plural"), text(spec, "scope") == "Namespaced"
    resource = Resource(group, version, plural, text(names, "kind"), namespaced)
    stored = resource._replace(version=storage)
    rules = Rules(part(entry, "schema").get("openAPIV3Schema") or {})
    sub = part(entry, "subresources")
    status = isinstance(sub.get("status"), dict)
    return Kind(
        resource,
        structure=rules.type,
        published=rules.schema,
        singular=text(names, "singular"),
        short_names=tuple(texts(names, "shortNames")),
        categories=tuple(texts(names, "categories")),
        default=rules.normalize,
        validate_create=rules.check_new,
        validate_update=rules.check_update,
        validate_status=rules.check_update,
        judge=rules.judge if rules.has_cel else None,
        prepare_status=only_status,
        columns=tuple(_columns(entry)),
        selectable={_label(f): _selector(f) for f in parts(entry, "selectableFields")},
        status=status,
        scale=_scale(part(sub, "scale")) if isinstance(sub.get("scale"), dict) else None,
        generation=True,
        unconditional_update=False,
        storage=None if version == storage else stored,
        deprecated=_deprecated(resource, entry),
    )


class Rules:
    """What a structural schema says about objects."""

    def __init__(self, raw: Object) -> None:
        self.schema = raw
        self.type = schema.from_structural(raw)
        properties = {k: v for k, v in part(raw, "properties").items() if k not in IMPLICIT}
        self._own: Object = {**raw, "properties": properties}
        self._names = part(part(part(raw, "properties"), "metadata"), "properties")
        self._embedded = mentions(raw, "x-kubernetes-embedded-resource")
        self._cel: Any = None
        self.has_cel = mentions(raw, "x-kubernetes-validations")

    def normalize(self, obj: Object) -> None:
        """Prune and default in place. Idempotent."""
        schema.prune(self.type, obj)
        defaults.fill(self._own, obj)

    def check_new(self, obj: Object) -> list[FieldError]:
        return self._check(obj, None)

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        return self._check(new, old)

    def _check(self, new: Object, old: Object | None) -> list[FieldError]:
        own = _without_implicit(new)
        was = None if old is None else _without_implicit(old)
        errors = checks.check(self._own, own, old=was)
        errors += lists.check(self._own, own)
        for key, rule in self._names.items():
            if key in new["metadata"]:
                errors += checks.check(rule, new["metadata"][key], f"metadata.{key}")
        if self._embedded:
            errors += embedded.check(self._own, own)
        return errors

    def judge(self, new: Object, old: Object | None, wrong: list[FieldError]) -> list[FieldError]:
        """The rules in CEL, of an object that is as its schema says."""
        if wrong:
            return []
        found: list[FieldError] = self._rules().check(new, old)
        return found

    def _rules(self) -> Any:
        if self._cel is None:
            from jota.meta.structural.rules import compile_schema

            self._cel = compile_schema(self.schema)
        return self._cel


def _without_implicit(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in IMPLICIT}


# --- columns -------------------------------------------------------------------------------------------------------------


def _columns(entry: Object) -> list[Column]:
    wanted = parts(entry, "additionalPrinterColumns")
    return [NAME, *(_column(c) for c in wanted)] if wanted else [NAME, AGE]


def _column(column: Object) -> Column:
    path, kind = jsonpath.compile(text(column, "jsonPath")), text(column, "type")

    def cell(obj: Object, now: float) -> Any:
        found = path(obj)
        return _cell(found[0], kind, now) if found else None

    priority = column.get("priority")
    number = priority if isinstance(priority, int) else 0
    about = (
        text(column, "description")
        or f"Custom resource definition column (in JSONPath format): {column.get('jsonPath')}"
    )
    return Column(text(column, "name"), cell, kind, text(column, "format"), about, number)


def _cell(value: Any, kind: str, now: float) -> Any:
    """As upstream's cellForJSONValue: what does not have the column's type is left empty."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "string":
            return _printed(value)
        case "integer":
            return int(value) if number and -(2**63) <= value < 2**63 else None
        case "number":
            return float(value) if number else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case "date":
            if not isinstance(value, str):
                return None
            return since(value, now) if moment(value) is not None else "<invalid>"
    return None


def _printed(value: Any) -> str:
    if isinstance(value, str):
        return value
    import orjson

    return orjson.dumps(value).decode()


# --- subresources, selectors -----------------------------------------------------------------------------------------------


def _scale(scale: Object) -> Scale:
    return Scale(
        text(scale, "specReplicasPath").lstrip("."),
        text(scale, "statusReplicasPath").lstrip("."),
        text(scale, "labelSelectorPath").lstrip("."),
    )


def _label(field: Object) -> str:
    return text(field, "jsonPath").lstrip(".")


def _selector(field: Object) -> Callable[[Object], str]:
    path = jsonpath.compile(text(field, "jsonPath"))

    def read(obj: Object) -> str:
        found = path(obj)
        if not found or found[0] is None:
            return ""
        return str(found[0]).lower() if isinstance(found[0], bool) else str(found[0])

    return read


def _deprecated(resource: Resource, entry: Object) -> str:
    if entry.get("deprecated") is not True:
        return ""
    return text(entry, "deprecationWarning") or f"{resource.api_version} {resource.kind} is deprecated"
