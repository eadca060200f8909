"""Warnings about what an object refers to and is not there: told to whoever writes it, never a refusal.

In: an object that was found valid, and what it replaces. Out: texts for Warning headers. Only writes from outside are looked
at, only when the spec changed, and optional references are silent. A few keys are looked up, nothing is listed but for
Services; what a pod refers to is known by its shape (shapes.py). What only comes later in the same `kubectl apply` is warned
of, too: the object works once it is there. Next: pods.py, services.py, others.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from jota.api.filters.attributes import COMPONENT, User
from jota.api.hints import others, pods, services
from jota.api.hints.lookup import CLAIMS, Lookup, Reference
from jota.api.registry import Registry
from jota.api.shapes import Shape
from jota.kinds.kind import Object
from jota.meta.resource import PODS, Resource

MOST = 8
"""Warnings of one write."""
Check = Callable[[Object, Lookup], Iterator[str]]
_CHECKS: dict[tuple[str, str], Check] = {
    ("", "replicationcontrollers"): pods.workload,
    ("apps", "deployments"): pods.workload,
    ("apps", "replicasets"): pods.workload,
    ("apps", "daemonsets"): pods.workload,
    ("apps", "statefulsets"): pods.stateful_set,
    ("batch", "jobs"): pods.workload,
    ("batch", "cronjobs"): pods.cron_job,
    ("", "services"): services.service,
    ("", "persistentvolumeclaims"): lambda claim, lookup: lookup.all_missing(others.claim(claim)),
    ("networking.k8s.io", "ingresses"): others.ingress,
    ("autoscaling", "horizontalpodautoscalers"): others.autoscaler,
    ("rbac.authorization.k8s.io", "rolebindings"): others.role_binding,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): others.role_binding,
}
_PARTS = ("spec", "roleRef", "subjects")
"""Where references stand: when these are as they were, everything was said already."""


def outside(user: User) -> bool:
    """Not one of the cluster's own parts."""
    return user.name != COMPONENT.name and not user.name.startswith("system:node:")


def warnings(
    registry: Registry, resource: Resource, new: Object, old: Object | None = None, shape: Shape | None = None
) -> list[str]:
    """Raises nothing: objects of any shape are looked at."""
    if resource == PODS:
        if shape is None:
            if old is not None and new.get("spec") == old.get("spec"):
                return []
            refers = tuple(pods.pod(new))
        else:
            if shape.references is None:
                shape.references = tuple(pods.pod(new))
            refers = shape.references
        return missing(registry, refers, new["metadata"].get("namespace", "")) if refers else []
    check = _CHECKS.get((resource.group, resource.plural))
    if check is None or (old is not None and all(new.get(p) == old.get(p) for p in _PARTS)):
        return []
    return _few(check(new, Lookup(registry, new["metadata"].get("namespace", ""))))


def needed(resource: Resource, new: Object) -> tuple[Reference, ...] | None:
    """What an object refers to; None for kinds of which that is not known."""
    if resource == PODS:
        return tuple(pods.pod(new))
    if resource == CLAIMS:
        return tuple(others.claim(new))
    return None if (resource.group, resource.plural) in _CHECKS else ()


def missing(registry: Registry, refers: tuple[Reference, ...], namespace: str) -> list[str]:
    """What `warnings` says to an object in this namespace that refers to these."""
    return _few(Lookup(registry, namespace).all_missing(refers))


def _few(texts: Iterator[str]) -> list[str]:
    found: list[str] = []
    for text in texts:
        if text not in found:
            found.append(text)
        if len(found) == MOST:
            break
    return found
