"""What objects use of a ResourceQuota. Pure: admission (api/admission/resource_quota.py) and the counting controller share it.

Amounts are nano-units by the quota's own resource names ("requests.cpu", "count/deployments.apps"). The evaluators and
scopes are upstream's (pkg/quota/v1): pods until they end, services, claims, and a count of anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jota.kinds.core.pod.qos import qos_class
from jota.kinds.core.pod.resources import is_extended
from jota.kinds.core.pod.totals import Amounts, add, held
from jota.kinds.quantities import nanos
from jota.kinds.shape import Object, part, parts, text, texts
from jota.meta.quantity import NANO, Quantity
from jota.meta.resource import PODS, SERVICES, Resource

CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
COUNTED = {
    name: Resource("", "v1", name, kind)
    for name, kind in (
        ("configmaps", "ConfigMap"),
        ("secrets", "Secret"),
        ("replicationcontrollers", "ReplicationController"),
        ("resourcequotas", "ResourceQuota"),
        ("persistentvolumeclaims", "PersistentVolumeClaim"),
        ("services", "Service"),
    )
}
"""Core objects that may be limited by their bare plural."""
COUNT = "count/"
CLASS = ".storageclass.storage.k8s.io/"
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_EXPLICIT = {"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"}
"""A quota on these makes every container name its amount."""


def usage(resource: Resource, obj: Object) -> Amounts:
    """What one object uses of any quota."""
    used: Amounts = {COUNT + resource.group_resource: NANO}
    if resource == PODS:
        if not finished(obj):
            used.update(_pod(obj))
    elif resource == SERVICES:
        used.update(_service(part(obj, "spec")))
    elif resource == CLAIMS:
        used.update(_claim(obj))
    elif not resource.group and resource.plural in COUNTED:
        used[resource.plural] = NANO
    return used


def finished(pod: Object) -> bool:
    return text(part(pod, "status"), "phase") in ("Succeeded", "Failed")


def _pod(pod: Object) -> Amounts:
    used: Amounts = {"pods": NANO}
    requests, limits = held(pod, "requests"), held(pod, "limits")
    for name, amount in requests.items():
        if name in _COMPUTE or name.startswith("hugepages-"):
            used[name] = used["requests." + name] = amount
        elif is_extended(name):
            used["requests." + name] = amount
    for name, amount in limits.items():
        if name in _COMPUTE:
            used["limits." + name] = amount
    return used


def _service(spec: Object) -> Amounts:
    used = {"services": NANO, "services.nodeports": 0, "services.loadbalancers": 0}
    ports, type_ = len(parts(spec, "ports")) * NANO, text(spec, "type")
    if type_ == "NodePort":
        used["services.nodeports"] = ports
    elif type_ == "LoadBalancer":
        used["services.loadbalancers"] = NANO
        if spec.get("allocateLoadBalancerNodePorts") is not False:
            used["services.nodeports"] = ports
    return used


def _claim(claim: Object) -> Amounts:
    spec = part(claim, "spec")
    storage = nanos(part(part(spec, "resources"), "requests").get("storage")) or 0
    used = {"persistentvolumeclaims": NANO, "requests.storage": storage}
    name = text(spec, "storageClassName")
    if name:
        used[f"{name}{CLASS}persistentvolumeclaims"] = NANO
        used[f"{name}{CLASS}requests.storage"] = storage
    return used


def matches(quota: Object, resource: Resource, obj: Object) -> bool:
    """Whether the object is in the quota's scopes. Only pods can be in a scope."""
    spec = part(quota, "spec")
    wanted: list[tuple[str, str, list[str]]] = [(scope, "Exists", []) for scope in texts(spec, "scopes")]
    for e in parts(part(spec, "scopeSelector"), "matchExpressions"):
        wanted.append((text(e, "scopeName"), text(e, "operator"), texts(e, "values")))
    if not wanted:
        return True
    return resource == PODS and all(_in_scope(part(obj, "spec"), *scope) for scope in wanted)


def _in_scope(spec: Object, scope: str, operator: str, values: list[str]) -> bool:
    deadline = spec.get("activeDeadlineSeconds")
    match scope:
        case "Terminating":
            return isinstance(deadline, int) and deadline >= 0
        case "NotTerminating":
            return not isinstance(deadline, int)
        case "BestEffort":
            return qos_class(spec) == "BestEffort"
        case "NotBestEffort":
            return qos_class(spec) != "BestEffort"
        case "PriorityClass":
            name = text(spec, "priorityClassName")
            checks = {"In": name in values, "NotIn": name not in values, "Exists": bool(name)}
            return checks.get(operator, not name)
        case "CrossNamespacePodAffinity":
            return _crosses(spec)
    return False


def _crosses(spec: Object) -> bool:
    affinity = part(spec, "affinity")
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = part(affinity, kind)
        terms = parts(rules, "requiredDuringSchedulingIgnoredDuringExecution")
        terms = terms + [
            part(t, "podAffinityTerm") for t in parts(rules, "preferredDuringSchedulingIgnoredDuringExecution")
        ]
        if any(texts(t, "namespaces") or t.get("namespaceSelector") is not None for t in terms):
            return True
    return False


def hard(quota: Object) -> Amounts:
    """The limits of a quota."""
    return {name: nanos(amount) or 0 for name, amount in part(part(quota, "spec"), "hard").items()}


def total(quota: Object, resource: Resource, objects: Iterable[Object]) -> Amounts:
    """What these objects use of one quota."""
    used: Amounts = {}
    for obj in objects:
        if matches(quota, resource, obj):
            add(used, usage(resource, obj))
    return used


def silent_containers(pod: Object, limited: Iterable[str]) -> str:
    """ "limits.cpu for: a,b; memory for: a": amounts that a quota needs and containers do not name; "" when all do."""
    spec = part(pod, "spec")
    if part(spec, "resources"):
        return ""
    lacking: dict[str, list[str]] = {}
    for container in [*parts(spec, "containers"), *parts(spec, "initContainers")]:
        resources = part(container, "resources")
        for name in _EXPLICIT.intersection(limited):
            side, _, amount = name.rpartition(".")
            if amount not in part(resources, side or "requests"):
                lacking.setdefault(name, []).append(text(container, "name"))
    return "; ".join(f"{name} for: {','.join(sorted(lacking[name]))}" for name in sorted(lacking))


def shown(name: str, amount: int) -> str:
    """As an amount of this resource is written."""
    binary = any(part in name for part in ("memory", "storage", "hugepages-")) and not name.endswith("claims")
    return str(Quantity(amount, "BinarySI" if binary else "DecimalSI"))


def resource_of(name: str, known: dict[str, Any]) -> Resource | None:
    """Which objects a quota's resource name counts; `known`: group resource ("deployments.apps") -> Resource."""
    if name.startswith(COUNT):
        return known.get(name[len(COUNT) :])
    if name.startswith("services"):
        return SERVICES
    if name == "requests.storage" or CLASS in name:
        return CLAIMS
    return COUNTED.get(name, PODS)
