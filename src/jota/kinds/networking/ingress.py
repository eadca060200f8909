"""Ingresses: HTTP routes into services, for an ingress controller to serve."""

from __future__ import annotations

from jota.kinds import names
from jota.kinds.common import AGE, NAME, path_cell, plain, some
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, deep, meta, number, part, parts, strings, text
from jota.meta.errors import FieldError, forbidden_field, invalid, not_supported, required
from jota.meta.resource import Resource

PATH_TYPES = ["Exact", "ImplementationSpecific", "Prefix"]
CLASS_ANNOTATION = "kubernetes.io/ingress.class"


def default(ingress: Object) -> None:
    attach(ingress, "spec")
    attach(attach(ingress, "status"), "loadBalancer")


def validate(ingress: Object) -> list[FieldError]:
    spec = part(ingress, "spec")
    errors: list[FieldError] = []
    if not parts(spec, "rules") and not isinstance(spec.get("defaultBackend"), dict):
        detail = "either `defaultBackend` or `rules` must be specified"
        errors.append(invalid("spec", parts(spec, "rules"), detail))
    if isinstance(spec.get("defaultBackend"), dict):
        errors += _validate_backend(spec["defaultBackend"], "spec.defaultBackend")
    for i, rule in enumerate(parts(spec, "rules")):
        errors += _validate_host(text(rule, "host"), f"spec.rules[{i}].host")
        if isinstance(rule.get("http"), dict):
            errors += _validate_paths(part(rule, "http"), f"spec.rules[{i}].http.paths")
    class_name = text(spec, "ingressClassName")
    if class_name:
        errors += [invalid("spec.ingressClassName", class_name, p) for p in names.dns_subdomain(class_name)]
    return errors


def _validate_host(host: str, path: str) -> list[FieldError]:
    if not host:
        return []
    if host.replace(".", "").isdecimal() and host.count(".") == 3:
        return [invalid(path, host, "must be a DNS name, not an IP address")]
    checked = host[2:] if host.startswith("*.") else host
    return [invalid(path, host, p) for p in names.dns_subdomain(checked)]


def _validate_paths(http: Object, path: str) -> list[FieldError]:
    routes = parts(http, "paths")
    errors = [] if routes else [required(path)]
    for i, route in enumerate(routes):
        type, where, value = text(route, "pathType"), f"{path}[{i}]", text(route, "path")
        if not type:
            errors.append(required(f"{where}.pathType", "pathType must be specified"))
        elif type not in PATH_TYPES:
            errors.append(not_supported(f"{where}.pathType", type, PATH_TYPES))
        if type in ("Exact", "Prefix"):
            errors += _validate_path(value, f"{where}.path")
        elif value and not value.startswith("/"):
            errors.append(invalid(f"{where}.path", value, "must be an absolute path"))
        errors += _validate_backend(part(route, "backend"), f"{where}.backend")
    return errors


def _validate_path(value: str, path: str) -> list[FieldError]:
    if not value.startswith("/"):
        return [invalid(path, value, "must be an absolute path")]
    errors = [
        invalid(path, value, f"must not contain '{bad}'") for bad in ("//", "/./", "/../", "%2f", "%2F") if bad in value
    ]
    return errors + [invalid(path, value, f"cannot end with '{end}'") for end in ("/..", "/.") if value.endswith(end)]


def _validate_backend(backend: Object, path: str) -> list[FieldError]:
    service, resource = part(backend, "service"), part(backend, "resource")
    if resource and service:
        return [invalid(path, "", "cannot set both resource and service backends")]
    if resource:
        return []
    if not text(service, "name"):
        return [required(f"{path}.service.name")]
    errors = [invalid(f"{path}.service.name", service["name"], p) for p in names.dns_1035_label(service["name"])]
    port = part(service, "port")
    if text(port, "name") and number(port, "number"):
        errors.append(invalid(path, "", "cannot set both port name & port number"))
    elif not text(port, "name") and "number" not in port:
        errors.append(required(path, "port name or number is required"))
    elif "number" in port and not text(port, "name"):
        errors += [invalid(f"{path}.service.port.number", port["number"], p) for p in names.port_number(port["number"])]
    return errors


def validate_create(ingress: Object) -> list[FieldError]:
    """The old annotation and the field exclude each other."""
    class_name = text(part(ingress, "spec"), "ingressClassName")
    if class_name and strings(meta(ingress), "annotations").get(CLASS_ANNOTATION):
        detail = "can not be set when the class field is also set"
        return [forbidden_field(f"metadata.annotations[{CLASS_ANNOTATION}]", detail)]
    return []


def warnings(ingress: Object) -> list[str]:
    if CLASS_ANNOTATION in strings(meta(ingress), "annotations"):
        return [f"annotation \"{CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"]
    return []


def _hosts(ingress: Object, _now: float) -> str:
    return some([text(r, "host") for r in parts(part(ingress, "spec"), "rules") if text(r, "host")], empty="*")


def _address(ingress: Object, _now: float) -> str:
    points = parts(deep(ingress, "status", "loadBalancer"), "ingress")
    return ",".join(sorted({text(p, "ip") or text(p, "hostname") for p in points} - {""}))


KIND = Kind(
    Resource("networking.k8s.io", "v1", "ingresses", "Ingress"),
    schema="io.k8s.api.networking.v1.Ingress",
    singular="ingress",
    short_names=("ing",),
    default=default,
    validate=validate,
    validate_create=validate_create,
    warnings=warnings,
    columns=(
        NAME,
        plain("Class", path_cell("spec", "ingressClassName"), about="The class of controller that serves it."),
        plain("Hosts", _hosts, about="Hosts that are routed."),
        plain("Address", _address, about="Where it is reached."),
        plain("Ports", lambda i, _now: "80, 443" if parts(part(i, "spec"), "tls") else "80"),
        AGE,
    ),
    status=True,
    generation=True,
)
