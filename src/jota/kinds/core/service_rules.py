"""Validation of services (ValidateService): ports, types, addresses, and what may not change."""

from __future__ import annotations

from jota.kinds import labels, names
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.shape import Object, part, parts, text, texts
from jota.meta.errors import FieldError, duplicate, invalid, not_supported, required

TYPES = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]
PROTOCOLS = ["SCTP", "TCP", "UDP"]


def validate(service: Object) -> list[FieldError]:
    spec = part(service, "spec")
    type, errors = text(spec, "type"), labels.validate_labels(spec.get("selector"), "spec.selector")
    if type not in TYPES:
        errors.append(not_supported("spec.type", type, TYPES))
    headless = text(spec, "clusterIP") == "None"
    if not parts(spec, "ports") and not headless and type != "ExternalName":
        errors.append(required("spec.ports"))
    errors += _validate_ports(parts(spec, "ports"))
    affinity = text(spec, "sessionAffinity")
    if affinity not in ("ClientIP", "None"):
        errors.append(not_supported("spec.sessionAffinity", affinity, ["ClientIP", "None"]))
    if type == "ExternalName" and not text(spec, "externalName"):
        errors.append(required("spec.externalName"))
    return errors


def _validate_ports(ports: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    names_seen: set[str] = set()
    for i, port in enumerate(ports):
        path, name = f"spec.ports[{i}]", text(port, "name")
        if not name and len(ports) > 1:
            errors.append(required(f"{path}.name"))
        elif name:
            errors += [invalid(f"{path}.name", name, p) for p in names.dns_label(name)]
            if name in names_seen:
                errors.append(duplicate(f"{path}.name", name))
            names_seen.add(name)
        errors += [invalid(f"{path}.port", port.get("port"), p) for p in names.port_number(port.get("port"))]
        if text(port, "protocol") not in PROTOCOLS:
            errors.append(not_supported(f"{path}.protocol", text(port, "protocol"), PROTOCOLS))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    after, before = part(new, "spec"), part(old, "spec")
    if "ExternalName" in (text(after, "type"), text(before, "type")):
        return []
    was, now = texts(before, "clusterIPs"), texts(after, "clusterIPs")
    if was and now[:1] != was[:1]:
        return [invalid("spec.clusterIPs[0]", now, IMMUTABLE)]
    return []


def warnings(service: Object) -> list[str]:
    return []
