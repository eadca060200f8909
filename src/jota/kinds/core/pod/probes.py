"""Validation of probes and lifecycle handlers."""

from __future__ import annotations

import re

from jota.kinds import names
from jota.kinds.numbers import NEGATIVE
from jota.kinds.shape import Object, part, parts, text, texts
from jota.meta.errors import FieldError, forbidden_field, invalid, not_supported, required

PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
LIFECYCLE_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
SCHEMES = ["HTTP", "HTTPS"]
_HEADER = re.compile(r"[-A-Za-z0-9]+")
_HEADER_RULE = (
    "a valid HTTP header must consist of alphanumeric characters or '-' "
    f"(e.g. 'X-Header-Name', regex used for validation is '{_HEADER.pattern}')"
)


def validate_probes(container: Object, key: str, path: str, grace: int, errors: list[FieldError]) -> None:
    """One probe of a container: `key` is livenessProbe, readinessProbe or startupProbe."""
    probe, where = part(container, key), f"{path}.{key}"
    _handler(probe, where, PROBE_HANDLERS, grace, errors)
    for field in NUMBERS:
        value = probe.get(field)
        if type(value) is int and value < 0:
            errors.append(invalid(f"{where}.{field}", value, NEGATIVE))
    own_grace = probe.get("terminationGracePeriodSeconds")
    if type(own_grace) is int:
        if own_grace <= 0:
            errors.append(invalid(f"{where}.terminationGracePeriodSeconds", own_grace, "must be greater than 0"))
        if key == "readinessProbe":
            detail = "must not be set for readinessProbes"
            errors.append(invalid(f"{where}.terminationGracePeriodSeconds", own_grace, detail))
    if key != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        errors.append(invalid(f"{where}.successThreshold", probe["successThreshold"], "must be 1"))


def validate_lifecycle(lifecycle: Object, path: str, grace: int, errors: list[FieldError]) -> None:
    for key in ("postStart", "preStop"):
        if isinstance(lifecycle.get(key), dict):
            _handler(lifecycle[key], f"{path}.{key}", LIFECYCLE_HANDLERS, grace, errors)


def _handler(owner: Object, path: str, kinds: tuple[str, ...], grace: int, errors: list[FieldError]) -> None:
    """Exactly one way of asking."""
    given = [kind for kind in kinds if isinstance(owner.get(kind), dict)]
    if not given:
        errors.append(required(path, "must specify a handler type"))
        return
    for kind in given[1:]:
        errors.append(forbidden_field(f"{path}.{kind}", "may not specify more than 1 handler type"))
    kind, action, where = given[0], owner[given[0]], f"{path}.{given[0]}"
    if kind == "exec" and not texts(action, "command"):
        errors.append(required(f"{where}.command"))
    elif kind == "httpGet":
        _http(action, where, errors)
    elif kind in ("tcpSocket", "grpc"):
        _port(action.get("port"), where, errors)
    elif kind == "sleep":
        _sleep(action.get("seconds"), where, grace, errors)


def _http(action: Object, path: str, errors: list[FieldError]) -> None:
    if not text(action, "path"):
        errors.append(required(f"{path}.path"))
    _port(action.get("port"), path, errors)
    if text(action, "scheme") not in SCHEMES:
        errors.append(not_supported(f"{path}.scheme", text(action, "scheme"), SCHEMES))
    for header in parts(action, "httpHeaders"):
        if not _HEADER.fullmatch(text(header, "name")):
            errors.append(invalid(f"{path}.httpHeaders", text(header, "name"), _HEADER_RULE))


def _port(port: object, path: str, errors: list[FieldError]) -> None:
    for problem in names.port_ref(port):
        errors.append(invalid(f"{path}.port", port, problem))


def _sleep(seconds: object, path: str, grace: int, errors: list[FieldError]) -> None:
    if type(seconds) is int and not 0 <= seconds <= grace:
        detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        errors.append(invalid(path, seconds, detail))
