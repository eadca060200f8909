"""Protection of claims and volumes in use. In: claims, volumes, pods. Out: finalizers put on, and taken off at the end.

A claim that is being deleted stays until no pod uses it; a volume stays until it is not bound. Next: volumebinder.py.
"""

from __future__ import annotations

from typing import Any, ClassVar

from jota.client.cache import GOES
from jota.client.informer import split_key
from jota.client.pods import FINISHED, TEMPLATE
from jota.controllers.controller import Context, Controller, own
from jota.controllers.statefulset_pods import PVCS
from jota.controllers.views import Pod
from jota.meta.errors import ApiError
from jota.meta.resource import PODS, Resource

Object = dict[str, Any]

PVS = Resource("", "v1", "persistentvolumes", "PersistentVolume", False)
CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"


def plan(obj: Object, finalizer: str, used: bool) -> list[str] | None:
    """The finalizers as they should be; None when they are right."""
    have = obj["metadata"].get("finalizers") or []
    closing = "deletionTimestamp" in obj["metadata"]
    if closing and finalizer in have and not used:
        return [f for f in have if f != finalizer]
    if not closing and finalizer not in have:
        return [*have, finalizer]
    return None


class _Protection(Controller):
    finalizer: ClassVar[str] = ""
    resource: ClassVar[Resource] = PVCS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.objects = self.watch(self.resource, own)

    async def used(self, obj: Object, key: str) -> bool:
        raise NotImplementedError

    async def reconcile(self, key: str) -> float | None:
        obj = self.objects.get(key)
        if obj is None:
            return None
        closing = "deletionTimestamp" in obj["metadata"]
        wanted = plan(obj, self.finalizer, closing and await self.used(obj, key))
        if wanted is None:
            return None
        meta = obj["metadata"]
        patch = {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], "finalizers": wanted}}
        namespace, name = split_key(key)
        try:
            self.wrote(key, self.objects, await self.client.patch(self.resource, name, namespace, patch))
        except ApiError as e:
            if e.code != 404:
                raise
        return None


class ClaimProtectionController(_Protection):
    name: ClassVar[str] = "pvc-protection"
    finalizer: ClassVar[str] = CLAIM_FINALIZER
    resource: ClassVar[Resource] = PVCS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pods = self.watch(PODS, _claims, when=_stopped_using, on=FINISHED | GOES, of=_claims, type=Pod)
        self.pods.add_index("claim", _claims, on=TEMPLATE)

    async def used(self, obj: Object, key: str) -> bool:
        """By a pod that is bound to a node and not over; asked of the API itself before the claim is let go."""
        if any(_uses(pod) for pod in self.pods.by_index("claim", key)):
            return True
        namespace, _ = split_key(key)
        listed = await self.client.list(PODS, namespace)
        return any(
            (v.get("persistentVolumeClaim") or {}).get("claimName") == obj["metadata"]["name"]
            for pod in listed["items"]
            if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed") and pod["spec"].get("nodeName")
            for v in pod["spec"].get("volumes") or ()
        )


class VolumeProtectionController(_Protection):
    name: ClassVar[str] = "pv-protection"
    finalizer: ClassVar[str] = VOLUME_FINALIZER
    resource: ClassVar[Resource] = PVS

    async def used(self, obj: Object, key: str) -> bool:
        return (obj.get("status") or {}).get("phase") == "Bound"


def _claims(pod: Pod) -> list[str]:
    return pod.claims


def _uses(pod: Pod) -> bool:
    return bool(pod.spec.nodeName) and not pod.finished


def _stopped_using(old: Pod | None, new: Pod | None) -> bool:
    return new is None or (new.finished and not (old is not None and old.finished))
