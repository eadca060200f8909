"""Secrets: `stringData` is a write-only convenience that is merged into `data`; well-known types have required keys."""

from __future__ import annotations

import base64
import binascii

from jota.kinds import names
from jota.kinds.common import AGE, NAME, path_cell, plain
from jota.kinds.core.configmap import MAX_BYTES, frozen_errors
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, meta, part, put_missing, strings, text
from jota.meta.errors import FieldError, invalid, required, too_long
from jota.meta.resource import SECRETS

OPAQUE = "Opaque"
SERVICE_ACCOUNT_TOKEN = "kubernetes.io/service-account-token"
DOCKER_CFG = "kubernetes.io/dockercfg"
DOCKER_CONFIG_JSON = "kubernetes.io/dockerconfigjson"
TLS = "kubernetes.io/tls"
BASIC_AUTH = "kubernetes.io/basic-auth"
SSH_AUTH = "kubernetes.io/ssh-auth"
ACCOUNT_NAME = "kubernetes.io/service-account.name"
ACCOUNT_UID = "kubernetes.io/service-account.uid"

REQUIRED_KEYS = {
    DOCKER_CFG: (".dockercfg",),
    DOCKER_CONFIG_JSON: (".dockerconfigjson",),
    SSH_AUTH: ("ssh-privatekey",),
    TLS: ("tls.crt", "tls.key"),
}


def default(secret: Object) -> None:
    put_missing(secret, "type", OPAQUE)
    plain_texts = secret.pop("stringData", None)
    if isinstance(plain_texts, dict) and plain_texts:
        data = attach(secret, "data")
        for key, value in plain_texts.items():
            if isinstance(value, str):
                data[key] = base64.b64encode(value.encode()).decode()


def validate(secret: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    data, size = part(secret, "data"), 0
    for key, value in data.items():
        errors += [invalid(f"data[{key}]", key, problem) for problem in names.config_map_key(key)]
        size += len(value) * 3 // 4 if isinstance(value, str) else 0
    if size > MAX_BYTES:
        errors.append(too_long("data", MAX_BYTES))
    return errors + _validate_type(secret, text(secret, "type"), data)


def _validate_type(secret: Object, type: str, data: Object) -> list[FieldError]:
    errors = [required(f"data[{key}]") for key in REQUIRED_KEYS.get(type, ()) if key not in data]
    if type in (DOCKER_CFG, DOCKER_CONFIG_JSON) and not errors:
        key = REQUIRED_KEYS[type][0]
        if not _is_json(data[key]):
            errors.append(invalid(f"data[{key}]", "<secret contents redacted>", "invalid character in JSON"))
    elif type == BASIC_AUTH and "username" not in data and "password" not in data:
        errors += [required("data[username]"), required("data[password]")]
    elif type == SERVICE_ACCOUNT_TOKEN and not strings(meta(secret), "annotations").get(ACCOUNT_NAME):
        errors.append(required(f"metadata.annotations[{ACCOUNT_NAME}]"))
    return errors


def _is_json(encoded: object) -> bool:
    import json

    try:
        json.loads(base64.b64decode(encoded if isinstance(encoded, str) else ""))
    except (ValueError, binascii.Error):
        return False
    return True


def validate_update(new: Object, old: Object) -> list[FieldError]:
    errors = []
    if text(new, "type") != text(old, "type"):
        errors.append(invalid("type", text(new, "type"), "field is immutable"))
    return errors + frozen_errors(new, old, ("data",))


KIND = Kind(
    SECRETS,
    schema="io.k8s.api.core.v1.Secret",
    singular="secret",
    default=default,
    validate=validate,
    validate_update=validate_update,
    columns=(
        NAME,
        plain("Type", path_cell("type", missing=""), about="Used to facilitate programmatic handling of secret data."),
        plain("Data", lambda secret, _now: len(part(secret, "data")), about="The number of keys."),
        AGE,
    ),
    selectable={"type": lambda secret: text(secret, "type")},
)
