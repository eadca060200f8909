"""What pods and the templates of workloads refer to: configuration, credentials, volumes, classes. A spec in, References out,
which pods of one shape share (references.py)."""

from __future__ import annotations

from collections.abc import Iterator

from jota.api.hints.lookup import CLAIMS, PRIORITY_CLASSES, RUNTIME_CLASSES, STORAGE_CLASSES, Lookup, Reference
from jota.kinds.kind import Object
from jota.kinds.shape import deep, part, parts, text
from jota.meta.resource import CONFIGMAPS, SECRETS, SERVICEACCOUNTS, SERVICES, Resource

_WAITS = "containers that need it do not start until it does"
_INJECTED = "kube-api-access-"
"""Begins the name of the volume that every pod gets; what it needs, the cluster makes itself."""


def pod(obj: Object) -> Iterator[Reference]:
    """Service account and classes of a pod itself are refused by admission when they are missing."""
    yield from _spec(part(obj, "spec"), "spec")


def workload(obj: Object, lookup: Lookup) -> Iterator[str]:
    return lookup.all_missing(_template(deep(obj, "spec", "template", "spec"), "spec.template.spec"))


def cron_job(obj: Object, lookup: Lookup) -> Iterator[str]:
    path = "spec.jobTemplate.spec.template.spec"
    return lookup.all_missing(_template(deep(obj, *path.split(".")), path))


def stateful_set(obj: Object, lookup: Lookup) -> Iterator[str]:
    yield from workload(obj, lookup)
    spec = part(obj, "spec")
    consequence = "the pods have no names in DNS until it does"
    yield from lookup.missing("spec.serviceName", SERVICES, text(spec, "serviceName"), consequence)
    for i, claim in enumerate(parts(spec, "volumeClaimTemplates")):
        path = f"spec.volumeClaimTemplates[{i}].spec.storageClassName"
        name = text(part(claim, "spec"), "storageClassName")
        yield from lookup.missing(path, STORAGE_CLASSES, name, "the claims stay Pending until it does")


def _template(spec: Object, path: str) -> Iterator[Reference]:
    refused = "its pods are refused until it does"
    for field, resource in (
        ("serviceAccountName", SERVICEACCOUNTS),
        ("priorityClassName", PRIORITY_CLASSES),
        ("runtimeClassName", RUNTIME_CLASSES),
    ):
        name = text(spec, field)
        if name and not (resource is SERVICEACCOUNTS and name == "default"):
            yield Reference(f"{path}.{field}", resource, name, refused)
    yield from _spec(spec, path)


def _spec(spec: Object, path: str) -> Iterator[Reference]:
    for i, volume in enumerate(parts(spec, "volumes")):
        if not text(volume, "name").startswith(_INJECTED):
            yield from _volume(volume, f"{path}.volumes[{i}]")
    for field in ("initContainers", "containers"):
        for i, container in enumerate(parts(spec, field)):
            if "env" in container or "envFrom" in container:
                yield from _environment(container, f"{path}.{field}[{i}]")
    for i, secret in enumerate(parts(spec, "imagePullSecrets")):
        if name := text(secret, "name"):
            yield Reference(f"{path}.imagePullSecrets[{i}]", SECRETS, name, "images that need it cannot be pulled")


def _volume(volume: Object, path: str) -> Iterator[Reference]:
    sources = [(f"{path}.projected.sources[{i}]", s) for i, s in enumerate(parts(part(volume, "projected"), "sources"))]
    for at, source in [(path, volume), *sources]:
        own = at == path
        yield from _named(part(source, "configMap"), "name", f"{at}.configMap", CONFIGMAPS)
        field = "secretName" if own else "name"
        yield from _named(part(source, "secret"), field, f"{at}.secret", SECRETS)
    if claim := text(part(volume, "persistentVolumeClaim"), "claimName"):
        where = f"{path}.persistentVolumeClaim.claimName"
        yield Reference(where, CLAIMS, claim, "the pods stay Pending until it does")


def _named(source: Object, field: str, path: str, resource: Resource) -> Iterator[Reference]:
    name = text(source, field)
    if name and source.get("optional") is not True:
        yield Reference(f"{path}.{field}", resource, name, _WAITS)


def _environment(container: Object, path: str) -> Iterator[Reference]:
    for i, source in enumerate(parts(container, "envFrom")):
        for field, resource in (("configMapRef", CONFIGMAPS), ("secretRef", SECRETS)):
            yield from _named(part(source, field), "name", f"{path}.envFrom[{i}].{field}", resource)
    for i, variable in enumerate(parts(container, "env")):
        for field, resource in (("configMapKeyRef", CONFIGMAPS), ("secretKeyRef", SECRETS)):
            source = part(part(variable, "valueFrom"), field)
            name = text(source, "name")
            if name and source.get("optional") is not True:
                at = f"{path}.env[{i}].valueFrom.{field}"
                yield Reference(f"{at}.name", resource, name, _WAITS, f"{at}.key", text(source, "key"))
