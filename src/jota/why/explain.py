"""Kind and name -> the causal chain, most visible symptom first, root cause last."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from jota.meta.resource import DEPLOYMENTS, NAMESPACES, NODES, PODS, REPLICASETS, SERVICES, Resource
from jota.why import others, pod, service, workload
from jota.why.finding import Finding, Object, nearest
from jota.why.world import World

Explainer = Callable[[World, Object], Awaitable[list[Finding]]]

KINDS: dict[str, tuple[Resource, tuple[str, ...], Explainer]] = {
    "pods": (PODS, ("pod", "po"), pod.explain),
    "deployments": (DEPLOYMENTS, ("deployment", "deploy"), workload.deployment),
    "replicasets": (REPLICASETS, ("replicaset", "rs"), workload.controller),
    "statefulsets": (
        Resource("apps", "v1", "statefulsets", "StatefulSet"),
        ("statefulset", "sts"),
        workload.controller,
    ),
    "daemonsets": (Resource("apps", "v1", "daemonsets", "DaemonSet"), ("daemonset", "ds"), workload.controller),
    "jobs": (Resource("batch", "v1", "jobs", "Job"), ("job",), workload.job),
    "cronjobs": (Resource("batch", "v1", "cronjobs", "CronJob"), ("cronjob", "cj"), workload.cronjob),
    "poddisruptionbudgets": (
        Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
        ("poddisruptionbudget", "pdb"),
        others.budget,
    ),
    "services": (SERVICES, ("service", "svc"), service.explain),
    "persistentvolumeclaims": (
        Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
        ("persistentvolumeclaim", "pvc"),
        others.claim,
    ),
    "namespaces": (NAMESPACES, ("namespace", "ns"), others.namespace),
    "nodes": (NODES, ("node", "no"), others.node),
    "horizontalpodautoscalers": (
        Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
        ("horizontalpodautoscaler", "hpa"),
        workload.conditions,
    ),
}


def find_kind(word: str) -> tuple[Resource, Explainer] | None:
    for plural, (resource, names, explainer) in KINDS.items():
        if word.lower() == plural or word.lower() in names:
            return resource, explainer
    return None


async def explain(world: World, resource: Resource, explainer: Explainer, name: str) -> list[Finding]:
    obj = await world.get(resource, name)
    about = f"{resource.kind.lower()}/{name}"
    if obj is None:
        names = [o["metadata"]["name"] for o in await world.list(resource)]
        near = nearest(name, names)
        found = [Finding(about, "absent-near" if near else "absent", {"near": near, "plural": resource.plural})]
    else:
        found = await explainer(world, {"kind": resource.kind, **obj})
    if world.denied:
        found.append(Finding(about, "denied", {"message": world.denied[0]}, "wait"))
    return found
