"""What a CustomResourceDefinition must obey beside its schemas: names, versions, conversion, columns, subresources.

In: the object as plain JSON. Out: errors with upstream's paths and reasons. Next: structural.py for the schemas.
"""

from __future__ import annotations

import re
from typing import Any

from jota.kinds.apiextensions import structural
from jota.kinds.clientconfig import client_config
from jota.kinds.shape import Object, meta, part, parts, strings, text, texts
from jota.meta import names as rules
from jota.meta.errors import FieldError, duplicate, forbidden_field, invalid, not_supported, required

APPROVAL = "api-approved.kubernetes.io"
_PROTECTED = re.compile(r"(.*\.)?(k8s|kubernetes)\.io")
_PATH = re.compile(r"(\.[A-Za-z_][A-Za-z0-9_-]*|\['[^']+'\])+")
_COLUMN_TYPES = ["boolean", "date", "integer", "number", "string"]
_COLUMN_FORMATS = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"]
_REVIEWS = ("v1", "v1beta1")
MOST_SELECTABLE = 8


def validate(crd: Object) -> list[FieldError]:
    spec = part(crd, "spec")
    errors = _name(crd, spec) + _group(spec) + _names(part(spec, "names"))
    if text(spec, "scope") not in ("Cluster", "Namespaced"):
        scope = text(spec, "scope")
        errors.append(
            not_supported("spec.scope", scope, ["Cluster", "Namespaced"]) if scope else required("spec.scope")
        )
    if spec.get("preserveUnknownFields") is True:
        detail = (
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        )
        errors.append(invalid("spec.preserveUnknownFields", True, detail))
    return errors + _versions(spec) + _conversion(part(spec, "conversion"))


def validate_create(crd: Object) -> list[FieldError]:
    """Groups of the project itself need its approval."""
    group = text(part(crd, "spec"), "group")
    errors = []
    if _PROTECTED.fullmatch(group) and not strings(meta(crd), "annotations").get(APPROVAL):
        detail = f'protected groups must have approval annotation "{APPROVAL}", see '
        detail += "https://github.com/kubernetes/enhancements/pull/1111"
        errors.append(required(f"metadata.annotations[{APPROVAL}]", detail))
    return errors


def judge(new: Object, old: Object | None, _wrong: list[FieldError]) -> list[FieldError]:
    """New schemas must be structural, and their rules compile."""
    versions, errors = parts(part(new, "spec"), "versions"), list[FieldError]()
    if old is not None and versions == parts(part(old, "spec"), "versions"):
        return errors
    for index, version in enumerate(versions):
        schema = part(version, "schema").get("openAPIV3Schema")
        if isinstance(schema, dict):
            errors += structural.validate(schema, f"spec.versions[{index}].schema.openAPIV3Schema")
    return errors + structural.compile_rules(new)


def validate_update(new: Object, old: Object) -> list[FieldError]:
    """Group, plural, scope and (once served) kind stay; versions that objects are stored in may not go."""
    spec, was, errors = part(new, "spec"), part(old, "spec"), []
    fixed = [("group", spec.get("group"), was.get("group")), ("scope", spec.get("scope"), was.get("scope"))]
    for key in ("plural", "kind", "listKind"):
        if key == "plural" or _established(old):
            fixed.append((f"names.{key}", part(spec, "names").get(key), part(was, "names").get(key)))
    for path, now, before in fixed:
        if now != before:
            errors.append(invalid(f"spec.{path}", now, "field is immutable"))
    have = {text(v, "name") for v in parts(spec, "versions")}
    for index, version in enumerate(texts(part(new, "status"), "storedVersions")):
        if version not in have:
            detail = "missing from spec.versions; was previously a storage version, and must remain in spec.versions "
            detail += f"until a storage migration ensures no data remains persisted in {version} and removes {version} "
            errors.append(invalid(f"status.storedVersions[{index}]", version, detail + "from status.storedVersions"))
    return errors


def validate_status(new: Object, _old: Object) -> list[FieldError]:
    """What is stored may only be said to be gone of versions that nothing new is stored in."""
    stored, at = texts(part(new, "status"), "storedVersions"), "status.storedVersions"
    versions = parts(part(new, "spec"), "versions")
    if not stored:
        return [invalid(at, stored, "must have at least one stored version")]
    errors = [
        invalid(at, text(v, "name"), f"must have the storage version {text(v, 'name')}")
        for v in versions
        if v.get("storage") is True and text(v, "name") not in stored
    ]
    have = {text(v, "name") for v in versions}
    for index, version in enumerate(stored):
        if version not in have:
            errors.append(invalid(f"{at}[{index}]", version, "must appear in spec.versions"))
    return errors


def _established(crd: Object) -> bool:
    conditions = parts(part(crd, "status"), "conditions")
    return any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions)


def _name(crd: Object, spec: Object) -> list[FieldError]:
    wanted = f"{text(part(spec, 'names'), 'plural')}.{text(spec, 'group')}"
    name = text(meta(crd), "name")
    if name == wanted:
        return []
    return [invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group')]


def _group(spec: Object) -> list[FieldError]:
    group = text(spec, "group")
    if not group:
        return [required("spec.group")]
    errors = [invalid("spec.group", group, detail) for detail in rules.dns_subdomain(group)]
    if "." not in group and not errors:
        errors.append(invalid("spec.group", group, "should be a domain with at least one dot"))
    return errors


def _names(names: Object) -> list[FieldError]:
    at = "spec.names"
    errors = []
    for key in ("plural", "singular", "kind", "listKind"):
        value = text(names, key)
        if not value and key != "singular":
            errors.append(required(f"{at}.{key}"))
        elif value:
            errors += [invalid(f"{at}.{key}", value, detail) for detail in rules.dns_1035_label(value.lower())]
    for key in ("shortNames", "categories"):
        for index, value in enumerate(texts(names, key)):
            errors += [invalid(f"{at}.{key}[{index}]", value, detail) for detail in rules.dns_1035_label(value)]
    if text(names, "kind") and text(names, "kind") == text(names, "listKind"):
        errors.append(invalid(f"{at}.listKind", text(names, "listKind"), "kind and listKind may not be the same"))
    return errors


def _versions(spec: Object) -> list[FieldError]:
    versions, errors, seen = parts(spec, "versions"), [], set()
    if not versions:
        errors.append(required("spec.versions", "must have at least one version"))
    for index, version in enumerate(versions):
        name, at = text(version, "name"), f"spec.versions[{index}]"
        if name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
        errors += [invalid(f"{at}.name", name, detail) for detail in rules.dns_1035_label(name)]
        errors += _version(version, at)
    stored = sum(v.get("storage") is True for v in versions)
    if versions and stored != 1:
        detail = "must have exactly one version marked as storage version"
        errors.append(invalid("spec.versions", _GO_LIST, detail))
    return errors


_GO_LIST = "[]"


def _version(version: Object, at: str) -> list[FieldError]:
    errors = []
    schema = part(version, "schema").get("openAPIV3Schema")
    if not isinstance(schema, dict):
        errors.append(required(f"{at}.schema.openAPIV3Schema", "schemas are required"))
    if text(version, "deprecationWarning") and version.get("deprecated") is not True:
        value, detail = text(version, "deprecationWarning"), "can only be set for deprecated versions"
        errors.append(invalid(f"{at}.deprecationWarning", value, detail))
    for index, column in enumerate(parts(version, "additionalPrinterColumns")):
        errors += _column(column, f"{at}.additionalPrinterColumns[{index}]")
    errors += _scale(part(version, "subresources").get("scale"), f"{at}.subresources.scale")
    return errors + _selectable(version, schema if isinstance(schema, dict) else {}, f"{at}.selectableFields")


def _column(column: Object, at: str) -> list[FieldError]:
    errors = []
    if not text(column, "name"):
        errors.append(required(f"{at}.name"))
    kind = text(column, "type")
    if not kind:
        errors.append(required(f"{at}.type", f"must be one of {','.join(_COLUMN_TYPES)}"))
    elif kind not in _COLUMN_TYPES:
        errors.append(invalid(f"{at}.type", kind, f"must be one of {','.join(_COLUMN_TYPES)}"))
    form = text(column, "format")
    if form and form not in _COLUMN_FORMATS:
        errors.append(invalid(f"{at}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}"))
    path = text(column, "jsonPath")
    if not path:
        return [*errors, required(f"{at}.jsonPath")]
    try:
        from jota.meta.jsonpath import compile

        compile(path)
    except ValueError as e:
        errors.append(invalid(f"{at}.jsonPath", path, str(e)))
    return errors


def _scale(scale: Any, at: str) -> list[FieldError]:
    if not isinstance(scale, dict):
        return []
    errors = []
    for key, roots in (
        ("specReplicasPath", (".spec.",)),
        ("statusReplicasPath", (".status.",)),
        ("labelSelectorPath", (".status.", ".spec.")),
    ):
        value = text(scale, key)
        if not value:
            if key != "labelSelectorPath":
                errors.append(required(f"{at}.{key}"))
        elif not _PATH.fullmatch(value):
            errors.append(invalid(f"{at}.{key}", value, "must be a simple json path starting with ."))
        elif not value.startswith(roots):
            errors.append(
                invalid(f"{at}.{key}", value, f"should be a json path under {' or '.join(roots).replace('s.', 's')}")
            )
    return errors


def _selectable(version: Object, schema: Object, at: str) -> list[FieldError]:
    errors, seen, fields = [], set(), parts(version, "selectableFields")
    if len(fields) > MOST_SELECTABLE:
        text_ = f"Too many: {len(fields)}: must have at most {MOST_SELECTABLE} items"
        errors.append(FieldError("FieldValueTooMany", at, text_))
    for index, field in enumerate(fields):
        path, where = text(field, "jsonPath"), f"{at}[{index}].jsonPath"
        if not path:
            errors.append(required(where))
            continue
        if path in seen:
            errors.append(duplicate(where, path))
        seen.add(path)
        problem = _selectable_problem(path, schema)
        if problem:
            errors.append(invalid(where, path, problem))
    return errors


def _selectable_problem(path: str, schema: Object) -> str:
    if not _PATH.fullmatch(path):
        return "is an invalid path: must be a simple json path starting with ."
    at = schema
    for key in path.lstrip(".").split("."):
        at = part(part(at, "properties"), key)
        if not at:
            return "is an invalid path: does not refer to a valid field"
    if path == ".metadata" or path.startswith(".metadata."):
        return "must not point to fields in metadata"
    if at.get("type") not in ("string", "integer", "boolean"):
        return "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."
    return ""


def _conversion(conversion: Object) -> list[FieldError]:
    at, strategy, webhook = "spec.conversion", text(conversion, "strategy"), conversion.get("webhook")
    if strategy not in ("None", "Webhook"):
        return [
            not_supported(f"{at}.strategy", strategy, ["None", "Webhook"]) if strategy else required(f"{at}.strategy")
        ]
    if strategy == "None":
        return (
            [forbidden_field(f"{at}.webhook", "should not be set when strategy is not set to Webhook")]
            if webhook
            else []
        )
    if not isinstance(webhook, dict) or not isinstance(webhook.get("clientConfig"), dict):
        return [required(f"{at}.webhook.clientConfig", "required when strategy is set to Webhook")]
    errors = client_config(webhook["clientConfig"], f"{at}.webhook.clientConfig")
    reviews = texts(webhook, "conversionReviewVersions")
    where = f"{at}.webhook.conversionReviewVersions"
    if not reviews:
        errors.append(required(where, "required when strategy is set to Webhook"))
    elif not any(v in _REVIEWS for v in reviews):
        shown = "[" + " ".join(reviews) + "]"
        errors.append(invalid(where, shown, f"must include at least one of {', '.join(_REVIEWS)}"))
    for index, version in enumerate(reviews):
        errors += [invalid(f"{where}[{index}]", version, d) for d in rules.dns_1035_label(version)]
    return errors
