"""What an object refers to, whether it is there, and how to say that it is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jota.api.registry import Registry
from jota.kinds.kind import Object
from jota.kinds.shape import part, strings
from jota.meta.resource import CONFIGMAPS, Resource

STORAGE_CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)
PRIORITY_CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False)
RUNTIME_CLASSES = Resource("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", False)
INGRESS_CLASSES = Resource("networking.k8s.io", "v1", "ingressclasses", "IngressClass", False)
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")


class Reference(NamedTuple):
    """One object that another one needs."""

    path: str
    """The field that names it."""
    resource: Resource
    name: str
    consequence: str
    """What does not work without it."""
    key_path: str = ""
    key: str = ""
    """What of its data is needed."""


class Lookup:
    """The cluster as one object sees it from its namespace."""

    def __init__(self, registry: Registry, namespace: str) -> None:
        self.registry, self.namespace = registry, namespace

    def has(self, resource: Resource, name: str) -> bool:
        return self.registry.exists(resource, self.namespace, name)

    def get(self, resource: Resource, name: str) -> Object | None:
        return self.registry.get(resource, self.namespace, name)

    def missing(self, path: str, resource: Resource, name: str, consequence: str) -> Iterator[str]:
        """One text when a named object is not there; an empty name refers to nothing."""
        if name and not self.has(resource, name):
            where = f' in namespace "{self.namespace}"' if resource.namespaced else ""
            yield f'{path}: {resource.kind} "{name}" does not exist{where}: {consequence}'

    def all_missing(self, references: Iterable[Reference]) -> Iterator[str]:
        """One text for each that is not there, or lacks the key."""
        for reference in references:
            path, resource, name, consequence, key_path, key = reference
            if not self.has(resource, name):
                yield from self.missing(path, resource, name, consequence)
            elif key and resource is CONFIGMAPS:
                # of a Secret, only that it is there is told: its keys are for those who may read it
                found = self.get(resource, name) or {}
                if key not in strings(found, "data") and key not in part(found, "binaryData"):
                    yield f'{key_path}: ConfigMap "{name}" has no key "{key}": {consequence}'
