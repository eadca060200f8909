"""Whether something is there, and how to say that it is not."""

from __future__ import annotations

from collections.abc import Iterator

from jota.api.registry import Registry
from jota.kinds.kind import Object
from jota.meta.resource import Resource

STORAGE_CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)
PRIORITY_CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False)
RUNTIME_CLASSES = Resource("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", False)
INGRESS_CLASSES = Resource("networking.k8s.io", "v1", "ingressclasses", "IngressClass", False)
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")


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
