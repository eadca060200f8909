"""Claims that are not bound, namespaces that do not go, nodes that are not ready."""

from __future__ import annotations

from jota.meta.resource import Resource
from jota.why.finding import Finding, Object, subject
from jota.why.world import World

STORAGE_CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)
VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", False)
_DEFAULT = "storageclass.kubernetes.io/is-default-class"


async def claim(world: World, obj: Object) -> list[Finding]:
    about, phase = subject(obj, "PersistentVolumeClaim"), obj.get("status", {}).get("phase", "Pending")
    if phase == "Bound":
        return [Finding(about, "healthy", {"state": f"Bound to {obj['spec'].get('volumeName', '')}"}, "good")]
    named = obj["spec"].get("volumeName")
    if named and phase == "Pending" and await world.get(VOLUMES, named) is None:
        return [Finding(about, "volume-absent", {"name": named})]
    name = obj["spec"].get("storageClassName")
    classes = {c["metadata"]["name"]: c for c in await world.list(STORAGE_CLASSES)}
    if name is None and not any(
        (c["metadata"].get("annotations") or {}).get(_DEFAULT) == "true" for c in classes.values()
    ):
        return [Finding(about, "no-default-class")]
    if name and name not in classes:
        return [Finding(about, "no-class", {"name": name})]
    found = classes.get(name or "")
    if found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer":
        return [Finding(about, "first-consumer", level="wait")]
    event = await world.last_event(
        obj, "FailedBinding", "ProvisioningFailed", "VolumeMismatch", "ClaimLost", "ClaimMisbound"
    )
    return [Finding(about, "unbound", {"message": event.get("message", "") if event else phase})]


async def namespace(world: World, obj: Object) -> list[Finding]:
    about, status = subject(obj, "Namespace"), obj.get("status", {})
    if not obj["metadata"].get("deletionTimestamp"):
        return [Finding(about, "healthy", {"state": status.get("phase", "Active")}, "good")]
    left = [
        Finding(about, "namespace-left", {"what": c.get("message", "")})
        for c in status.get("conditions") or ()
        if c["status"] == "True" and c.get("message")
    ]
    finalizers = obj["spec"].get("finalizers") or obj["metadata"].get("finalizers") or []
    text = ", ".join(finalizers) or "none"
    return left or [Finding(about, "terminating-finalizers", {"finalizers": text}, "wait")]


async def budget(world: World, obj: Object) -> list[Finding]:
    """Whether it lets anybody go now, and whether it ever can."""
    about, status = subject(obj, "PodDisruptionBudget"), obj.get("status", {})
    for condition in status.get("conditions") or ():
        if condition.get("reason") == "SyncFailed":
            return [Finding(about, "budget-unknown", {"message": condition.get("message", "")})]
    healthy, needed = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    expected, free = status.get("expectedPods", 0), status.get("disruptionsAllowed", 0)
    if not expected:
        return [Finding(about, "budget-nobody")]
    if free:
        return [Finding(about, "healthy", {"state": f"{free} of {expected}"}, "good")]
    if needed >= expected:
        return [Finding(about, "budget-never", {"needed": needed, "expected": expected})]
    facts = {"healthy": healthy, "needed": needed, "expected": expected}
    return [Finding(about, "budget-spent", facts, "wait" if healthy >= needed else "bad")]


async def node(world: World, obj: Object) -> list[Finding]:
    name = obj["metadata"]["name"]
    ready = next((c for c in obj.get("status", {}).get("conditions") or () if c["type"] == "Ready"), None)
    if ready is None:
        return [Finding(subject(obj, "Node"), "node-silent", {"node": name})]
    if ready["status"] != "True":
        return [Finding(subject(obj, "Node"), "node-down", {"node": name, "message": ready.get("message", "")})]
    if obj["spec"].get("unschedulable"):
        return [Finding(subject(obj, "Node"), "cordoned", {"node": name})]
    return [Finding(subject(obj, "Node"), "healthy", {"state": "Ready"}, "good")]
