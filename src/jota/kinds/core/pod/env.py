"""Validation of environment variables and their sources."""

from __future__ import annotations

import re

from jota.kinds import names
from jota.kinds.shape import Object, part, parts, text
from jota.meta.errors import FieldError, invalid, not_supported, required

ENV_FIELDS = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
]
VOLUME_FIELDS = ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"]
RESOURCES = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
]
SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_SUBSCRIPT = re.compile(r"(metadata\.(?:annotations|labels))\['(.+)'\]\Z")


def validate_env(container: Object, path: str, errors: list[FieldError]) -> None:
    """`env` and `envFrom` of one container."""
    for i, variable in enumerate(parts(container, "env")):
        name = text(variable, "name")
        if not name:
            errors.append(required(f"{path}.env[{i}].name"))
        else:
            for problem in names.env_name(name):
                errors.append(invalid(f"{path}.env[{i}].name", name, problem))
        source = variable.get("valueFrom")
        if isinstance(source, dict):
            _source(source, text(variable, "value"), f"{path}.env[{i}].valueFrom", errors)
    for i, source in enumerate(parts(container, "envFrom")):
        _from(source, f"{path}.envFrom[{i}]", errors)


def _source(source: Object, value: str, path: str, errors: list[FieldError]) -> None:
    given = [key for key in SOURCES if isinstance(source.get(key), dict)]
    if not given:
        choices = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        errors.append(invalid(path, "", f"must specify one of: {choices}"))
        return
    if value:
        errors.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(given) > 1:
        errors.append(invalid(path, "", "may not have more than one field specified at a time"))
    for key in given:
        where, reference = f"{path}.{key}", part(source, key)
        if key == "fieldRef":
            field_ref(reference, where, ENV_FIELDS, errors)
        elif key == "resourceFieldRef":
            resource_ref(reference, where, errors)
        elif key == "fileKeyRef":
            errors += [required(f"{where}.{f}") for f in ("volumeName", "path", "key") if not text(reference, f)]
        else:
            _key_ref(reference, where, errors)


def _key_ref(reference: Object, path: str, errors: list[FieldError]) -> None:
    if not text(reference, "name"):
        errors.append(required(f"{path}.name"))
    key = text(reference, "key")
    if not key:
        errors.append(required(f"{path}.key"))
    else:
        errors += [invalid(f"{path}.key", key, problem) for problem in names.config_map_key(key)]


def field_ref(reference: Object, path: str, allowed: list[str], errors: list[FieldError]) -> None:
    """A field of the pod itself, for the environment or a downward API volume."""
    if not text(reference, "apiVersion"):
        errors.append(required(f"{path}.apiVersion"))
        return
    field, where = text(reference, "fieldPath"), f"{path}.fieldPath"
    if not field:
        errors.append(required(where))
        return
    subscript = _SUBSCRIPT.match(field)
    if subscript:
        key = subscript[2].lower() if subscript[1].endswith("annotations") else subscript[2]
        errors += [invalid(where, field, problem) for problem in names.qualified_name(key)]
    elif field not in allowed:
        if field in ENV_FIELDS or field in VOLUME_FIELDS:
            errors.append(not_supported(where, field, allowed))
        else:
            detail = f"error converting fieldPath: field label not supported: {field}"
            errors.append(invalid(where, field, detail))


def resource_ref(reference: Object, path: str, errors: list[FieldError], in_volume: bool = False) -> None:
    if in_volume and not text(reference, "containerName"):
        errors.append(required(f"{path}.containerName"))
    resource = text(reference, "resource")
    if not resource:
        errors.append(required(f"{path}.resource"))
    elif resource not in RESOURCES and not resource.startswith(("limits.hugepages-", "requests.hugepages-")):
        errors.append(not_supported(f"{path}.resource", resource, RESOURCES))


def _from(source: Object, path: str, errors: list[FieldError]) -> None:
    prefix = text(source, "prefix")
    if prefix:
        errors += [invalid(f"{path}.prefix", prefix, problem) for problem in names.env_name(prefix)]
    given = [key for key in ("configMapRef", "secretRef") if isinstance(source.get(key), dict)]
    if not given:
        errors.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
    elif len(given) > 1:
        errors.append(invalid(path, "", "may not have more than one field specified at a time"))
    for key in given:
        if not text(part(source, key), "name"):
            errors.append(required(f"{path}.{key}.name"))
