"""Generic ephemeral volumes: a claim for each, owned by the pod and gone with it. In: pods. Out: claims named <pod>-<volume>."""

from __future__ import annotations

from typing import Any, ClassVar

from jota.client.cache import COMES
from jota.client.informer import key_of
from jota.client.pods import TEMPLATE
from jota.controllers import claim
from jota.controllers.controller import Context, Controller
from jota.controllers.statefulset_pods import PVCS
from jota.controllers.views import Pod, pod_key
from jota.meta.errors import ApiError
from jota.meta.resource import PODS

Object = dict[str, Any]


def plan(pod: Pod) -> list[Object]:
    """The claims that the pod needs."""
    if pod.terminating or pod.finished:
        return []
    meta = pod.metadata
    owner = {"metadata": {"name": meta.name, "uid": meta.uid}}
    out = []
    for volume in pod.spec.volumes or ():
        template: Any = (volume.ephemeral or {}).get("volumeClaimTemplate")
        if not template:
            continue
        given = template.get("metadata") or {}
        metadata = {k: given[k] for k in ("labels", "annotations") if given.get(k)}
        metadata |= {"name": f"{meta.name}-{volume.name}", "namespace": meta.namespace}
        metadata["ownerReferences"] = [claim.reference(owner, PODS.api_version, PODS.kind)]
        out.append({"apiVersion": "v1", "kind": PVCS.kind, "metadata": metadata, "spec": template["spec"]})
    return out


class EphemeralVolumeController(Controller):
    name: ClassVar[str] = "ephemeral-volume"
    workers: ClassVar[int] = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pods = self.watch(PODS, pod_key, on=TEMPLATE | COMES, of=_asks, type=Pod)
        self.claims = self.watch(PVCS)
        self.events = context.recorder("ephemeral_volume")

    async def reconcile(self, key: str) -> float | None:
        pod = self.pods.get(key)
        for wanted in plan(pod) if pod is not None else ():
            assert pod is not None
            meta = wanted["metadata"]
            found = self.claims.get(key_of(meta["namespace"], meta["name"]))
            try:
                if found is None:
                    self.wrote(key, self.claims, await self.client.create(PVCS, wanted))
                    continue
            except ApiError as e:
                if e.code != 409 or e.reason != "AlreadyExists":
                    self._tell(pod, meta["name"], f"create PVC {meta['name']}: {e}")
                    raise
                found = await self.client.get(PVCS, meta["name"], meta["namespace"])
            if not any(r["uid"] == pod.metadata.uid for r in found["metadata"].get("ownerReferences") or ()):
                named = f"{meta['namespace']}/{meta['name']}"
                self._tell(pod, meta["name"], f"PVC {named} was not created for pod {pod.key} (pod is not owner)")
        return None

    def _tell(self, pod: Pod, claim_name: str, why: str) -> None:
        """In upstream's words."""
        volume = claim_name.removeprefix(f"{pod.metadata.name}-")
        self.events.event(pod.reference(), "Warning", "FailedBinding", f"ephemeral volume {volume}: {why}")


def _asks(pod: Pod) -> bool:
    return any(v.ephemeral is not None for v in pod.spec.volumes or ())
