"""What claims, ingresses, autoscalers and role bindings refer to."""

from __future__ import annotations

from collections.abc import Iterator

from jota.api.hints.lookup import INGRESS_CLASSES, STORAGE_CLASSES, Lookup, Reference
from jota.kinds.kind import Object
from jota.kinds.shape import deep, meta, number, part, parts, text
from jota.meta.resource import DEPLOYMENTS, REPLICASETS, SECRETS, SERVICEACCOUNTS, SERVICES, Resource

_SCALED = {
    ("apps/v1", "Deployment"): DEPLOYMENTS,
    ("apps/v1", "ReplicaSet"): REPLICASETS,
    ("apps/v1", "StatefulSet"): Resource("apps", "v1", "statefulsets", "StatefulSet"),
    ("v1", "ReplicationController"): Resource("", "v1", "replicationcontrollers", "ReplicationController"),
}
_RBAC = "rbac.authorization.k8s.io"
_ROLES = {
    "Role": Resource(_RBAC, "v1", "roles", "Role"),
    "ClusterRole": Resource(_RBAC, "v1", "clusterroles", "ClusterRole", False),
}


def claim(obj: Object) -> Iterator[Reference]:
    spec = part(obj, "spec")
    name = text(spec, "storageClassName")
    if name and not text(spec, "volumeName"):
        consequence = "the claim stays Pending until it does"
        yield Reference("spec.storageClassName", STORAGE_CLASSES, name, consequence)


def ingress(obj: Object, lookup: Lookup) -> Iterator[str]:
    spec = part(obj, "spec")
    name = text(spec, "ingressClassName")
    yield from lookup.missing(
        "spec.ingressClassName", INGRESS_CLASSES, name, "nobody serves this Ingress until it does"
    )
    for i, tls in enumerate(parts(spec, "tls")):
        path, consequence = f"spec.tls[{i}].secretName", "its hosts have no certificate until it does"
        yield from lookup.missing(path, SECRETS, text(tls, "secretName"), consequence)
    yield from _backend(part(spec, "defaultBackend"), "spec.defaultBackend", lookup)
    for i, rule in enumerate(parts(spec, "rules")):
        for j, route in enumerate(parts(part(rule, "http"), "paths")):
            yield from _backend(part(route, "backend"), f"spec.rules[{i}].http.paths[{j}].backend", lookup)


def _backend(backend: Object, path: str, lookup: Lookup) -> Iterator[str]:
    service = part(backend, "service")
    name, port = text(service, "name"), part(service, "port")
    found = lookup.get(SERVICES, name) if name else None
    if found is None:
        yield from lookup.missing(f"{path}.service.name", SERVICES, name, "its requests fail until it does")
        return
    ports = parts(part(found, "spec"), "ports")
    wanted = text(port, "name") or number(port, "number")
    if wanted and not any(wanted in (text(p, "name"), number(p, "port")) for p in ports):
        have = ", ".join(str(number(p, "port")) for p in ports)
        yield f'{path}.service.port: Service "{name}" has no port {wanted} (it has {have}): its requests fail'


def autoscaler(obj: Object, lookup: Lookup) -> Iterator[str]:
    target = deep(obj, "spec", "scaleTargetRef")
    resource = _SCALED.get((text(target, "apiVersion"), text(target, "kind")))
    if resource is not None:
        consequence = "there is nothing to scale until it does"
        yield from lookup.missing("spec.scaleTargetRef.name", resource, text(target, "name"), consequence)


def role_binding(obj: Object, lookup: Lookup) -> Iterator[str]:
    ref = part(obj, "roleRef")
    resource = _ROLES.get(text(ref, "kind"))
    if resource is not None:
        yield from lookup.missing(
            "roleRef.name", resource, text(ref, "name"), "the binding grants nothing until it does"
        )
    for i, subject in enumerate(parts(obj, "subjects")):
        # of other namespaces nothing is told: whoever binds may not see into them
        if text(subject, "kind") == "ServiceAccount" and text(subject, "namespace") == meta(obj).get("namespace"):
            path, consequence = f"subjects[{i}].name", "nobody has these rights until it does"
            yield from lookup.missing(path, SERVICEACCOUNTS, text(subject, "name"), consequence)
