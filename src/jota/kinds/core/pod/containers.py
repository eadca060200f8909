"""Validation of containers: names, images, ports. In: a pod spec. Out: errors. Next: validate.py."""

from __future__ import annotations

from jota.kinds import names
from jota.kinds.shape import Object, parts, text
from jota.meta.errors import FieldError, duplicate, invalid, not_supported, required

PULL_POLICIES = ["Always", "IfNotPresent", "Never"]
PROTOCOLS = ["SCTP", "TCP", "UDP"]


def validate_containers(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    if not parts(spec, "containers"):
        errors.append(required(f"{path}.containers"))
    for key in ("containers", "initContainers"):
        for i, container in enumerate(parts(spec, key)):
            _container(container, f"{path}.{key}[{i}]", seen, errors)
    return errors


def _container(container: Object, path: str, seen: set[str], errors: list[FieldError]) -> None:
    name = text(container, "name")
    if not name:
        errors.append(required(f"{path}.name"))
    else:
        errors += [invalid(f"{path}.name", name, problem) for problem in names.dns_label(name)]
        if name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
    image = text(container, "image")
    if not image:
        errors.append(required(f"{path}.image"))
    elif image != image.strip():
        errors.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    policy = text(container, "imagePullPolicy")
    if policy not in PULL_POLICIES:
        errors.append(not_supported(f"{path}.imagePullPolicy", policy, PULL_POLICIES))
    for j, port in enumerate(parts(container, "ports")):
        errors += [
            invalid(f"{path}.ports[{j}].containerPort", port.get("containerPort"), p)
            for p in names.port_number(port.get("containerPort"))
        ]
        if text(port, "protocol") not in PROTOCOLS:
            errors.append(not_supported(f"{path}.ports[{j}].protocol", text(port, "protocol"), PROTOCOLS))
