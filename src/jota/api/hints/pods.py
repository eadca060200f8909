"""What pods and the templates of workloads refer to: configuration, credentials, volumes, classes."""

from __future__ import annotations

from collections.abc import Iterator

from jota.api.hints.lookup import CLAIMS, PRIORITY_CLASSES, RUNTIME_CLASSES, STORAGE_CLASSES, Lookup
from jota.kinds.kind import Object
from jota.kinds.shape import deep, part, parts, strings, text
from jota.meta.resource import CONFIGMAPS, SECRETS, SERVICEACCOUNTS, SERVICES, Resource

_WAITS = "containers that need it do not start until it does"
_INJECTED = "kube-api-access-"
"""Begins the name of the volume that every pod gets; what it needs, the cluster makes itself."""


def refers(obj: Object) -> bool:
    """Whether a pod may refer to anything at all: most do not, and creating them must cost no more for it."""
    spec = obj.get("spec") or {}
    if spec.get("imagePullSecrets"):
        return True
    for volume in spec.get("volumes") or ():
        if not volume["name"].startswith(_INJECTED):
            return True
    for field in ("containers", "initContainers"):
        for container in spec.get(field) or ():
            if "envFrom" in container or any("valueFrom" in v for v in container.get("env") or ()):
                return True
    return False


def pod(obj: Object, lookup: Lookup) -> Iterator[str]:
    """Service account and classes of a pod itself are refused by admission when they are missing."""
    yield from _spec(part(obj, "spec"), "spec", lookup)


def workload(obj: Object, lookup: Lookup) -> Iterator[str]:
    yield from _template(deep(obj, "spec", "template", "spec"), "spec.template.spec", lookup)


def cron_job(obj: Object, lookup: Lookup) -> Iterator[str]:
    path = "spec.jobTemplate.spec.template.spec"
    yield from _template(deep(obj, *path.split(".")), path, lookup)


def stateful_set(obj: Object, lookup: Lookup) -> Iterator[str]:
    yield from workload(obj, lookup)
    spec = part(obj, "spec")
    consequence = "the pods have no names in DNS until it does"
    yield from lookup.missing("spec.serviceName", SERVICES, text(spec, "serviceName"), consequence)
    for i, claim in enumerate(parts(spec, "volumeClaimTemplates")):
        path = f"spec.volumeClaimTemplates[{i}].spec.storageClassName"
        name = text(part(claim, "spec"), "storageClassName")
        yield from lookup.missing(path, STORAGE_CLASSES, name, "the claims stay Pending until it does")


def _template(spec: Object, path: str, lookup: Lookup) -> Iterator[str]:
    refused = "its pods are refused until it does"
    for field, resource in (
        ("serviceAccountName", SERVICEACCOUNTS),
        ("priorityClassName", PRIORITY_CLASSES),
        ("runtimeClassName", RUNTIME_CLASSES),
    ):
        name = text(spec, field)
        if not (resource is SERVICEACCOUNTS and name == "default"):
            yield from lookup.missing(f"{path}.{field}", resource, name, refused)
    yield from _spec(spec, path, lookup)


def _spec(spec: Object, path: str, lookup: Lookup) -> Iterator[str]:
    for i, volume in enumerate(parts(spec, "volumes")):
        if not text(volume, "name").startswith(_INJECTED):
            yield from _volume(volume, f"{path}.volumes[{i}]", lookup)
    for field in ("initContainers", "containers"):
        for i, container in enumerate(parts(spec, field)):
            if "env" in container or "envFrom" in container:
                yield from _environment(container, f"{path}.{field}[{i}]", lookup)
    for i, secret in enumerate(parts(spec, "imagePullSecrets")):
        consequence = "images that need it cannot be pulled"
        yield from lookup.missing(f"{path}.imagePullSecrets[{i}]", SECRETS, text(secret, "name"), consequence)


def _volume(volume: Object, path: str, lookup: Lookup) -> Iterator[str]:
    sources = [(f"{path}.projected.sources[{i}]", s) for i, s in enumerate(parts(part(volume, "projected"), "sources"))]
    for at, source in [(path, volume), *sources]:
        own = at == path
        yield from _named(part(source, "configMap"), "name", f"{at}.configMap", CONFIGMAPS, lookup)
        field = "secretName" if own else "name"
        yield from _named(part(source, "secret"), field, f"{at}.secret", SECRETS, lookup)
    claim = text(part(volume, "persistentVolumeClaim"), "claimName")
    consequence = "the pods stay Pending until it does"
    yield from lookup.missing(f"{path}.persistentVolumeClaim.claimName", CLAIMS, claim, consequence)


def _named(source: Object, field: str, path: str, resource: Resource, lookup: Lookup) -> Iterator[str]:
    if source.get("optional") is not True:
        yield from lookup.missing(f"{path}.{field}", resource, text(source, field), _WAITS)


def _environment(container: Object, path: str, lookup: Lookup) -> Iterator[str]:
    for i, source in enumerate(parts(container, "envFrom")):
        for field, resource in (("configMapRef", CONFIGMAPS), ("secretRef", SECRETS)):
            yield from _named(part(source, field), "name", f"{path}.envFrom[{i}].{field}", resource, lookup)
    for i, variable in enumerate(parts(container, "env")):
        for field, resource in (("configMapKeyRef", CONFIGMAPS), ("secretKeyRef", SECRETS)):
            source = part(part(variable, "valueFrom"), field)
            if source:
                yield from _key(source, f"{path}.env[{i}].valueFrom.{field}", resource, lookup)


def _key(source: Object, path: str, resource: Resource, lookup: Lookup) -> Iterator[str]:
    name, key = text(source, "name"), text(source, "key")
    if source.get("optional") is True or not name:
        return
    found = lookup.get(resource, name)
    if found is None:
        yield from lookup.missing(f"{path}.name", resource, name, _WAITS)
    elif resource is CONFIGMAPS and key not in strings(found, "data") and key not in part(found, "binaryData"):
        # of a Secret, only that it is there is told: its keys are for those who may read it
        yield f'{path}.key: ConfigMap "{name}" has no key "{key}": {_WAITS}'
