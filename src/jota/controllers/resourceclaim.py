"""ResourceClaims of pods. In: pods, claims, templates. Out: claims made from templates, reservations, deallocation.

A pod's key makes its claims and names them in its status; a claim's key lets go of consumers that are over, takes the
allocation back after the last one, and deletes a claim that was made for a pod that is over. The scheduler allocates
(scheduler/devicebinder.py). Rules as upstream's resource-claim controller.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from jota.client.informer import key_of
from jota.client.pods import CLAIM_NAMES, DELETION, FINISHED, PLACED, TEMPLATE
from jota.controllers import claim as ownership
from jota.controllers.controller import Context, Controller
from jota.controllers.views import Pod, PodClaim
from jota.meta.errors import ApiError
from jota.meta.resource import PODS, Resource

Object = dict[str, Any]

CLAIMS = Resource("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim")
TEMPLATES = Resource("resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate")
POD_CLAIM = "resource.kubernetes.io/pod-claim-name"
"""Annotation of a made claim: the pod's entry that it was made for."""
FINALIZER = "resource.kubernetes.io/delete-protection"
MOST_CONSUMERS = 256
_POD, _CLAIM = "pod:", "claim:"
_LOOKED_AT = TEMPLATE | PLACED | DELETION | FINISHED | CLAIM_NAMES
"""What of a pod counts for its claims."""


def over(pod: Pod) -> bool:
    """It will not use its claims (again): ended, or on its way out without ever having had a node."""
    return pod.finished or (pod.terminating and not pod.spec.nodeName)


def claim_names(pod: Pod) -> dict[str, str | None]:
    """Entry -> name of its claim; None: not made yet. Entries that need no claim are left out."""
    made = {s.name: s for s in pod.status.resourceClaimStatuses or ()}
    out: dict[str, str | None] = {}
    for entry in pod.spec.resourceClaims or ():
        if entry.resourceClaimName:
            out[entry.name] = entry.resourceClaimName
        elif entry.name not in made:
            out[entry.name] = None
        elif made[entry.name].resourceClaimName:
            out[entry.name] = made[entry.name].resourceClaimName
    return out


def claim_for(pod: Pod, entry: PodClaim, template: Object) -> Object:
    """The claim that the template asks for."""
    meta = pod.metadata
    given = (template.get("spec") or {}).get("metadata") or {}
    annotations = {**(given.get("annotations") or {}), POD_CLAIM: entry.name}
    owner = {"metadata": {"name": meta.name, "uid": meta.uid}}
    metadata: Object = {
        "generateName": f"{meta.name}-{entry.name}-",
        "namespace": meta.namespace,
        "annotations": annotations,
        "ownerReferences": [ownership.reference(owner, PODS.api_version, PODS.kind)],
    }
    if given.get("labels"):
        metadata["labels"] = given["labels"]
    return {
        "apiVersion": CLAIMS.api_version,
        "kind": CLAIMS.kind,
        "metadata": metadata,
        "spec": template["spec"]["spec"],
    }


@dataclass(slots=True, frozen=True)
class Plan:
    """None: leave as it is."""

    status: Object | None = None
    finalizers: list[str] | None = None
    delete: bool = False


def plan(claim: Object, gone: set[str], owner_over: bool) -> Plan:
    """`gone`: uids of consumers that are over. `owner_over`: the claim was made for a pod that is."""
    meta, status = claim["metadata"], dict(claim.get("status") or {})
    before = list(status.get("reservedFor") or ())
    consumers = [c for c in before if c["uid"] not in gone]
    finalizers = meta.get("finalizers") or []
    delete = owner_over and not consumers and "deletionTimestamp" not in meta
    if consumers:
        status["reservedFor"] = consumers
        return Plan(status if consumers != before else None)
    # Nobody uses it: an allocation that was made for its consumers ends with the last of them.
    unused = before or "deletionTimestamp" in meta or owner_over
    if not unused or not (status.get("allocation") or before or FINALIZER in finalizers):
        return Plan(delete=delete)
    left = {k: v for k, v in status.items() if k not in ("allocation", "reservedFor", "devices")}
    kept = [f for f in finalizers if f != FINALIZER]
    return Plan(left if left != status else None, kept if kept != finalizers else None, delete)


class ResourceClaimController(Controller):
    name: ClassVar[str] = "resource-claim"
    workers: ClassVar[int] = 4

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pods = self.watch(PODS, self._keys_of_pod, on=_LOOKED_AT, of=lambda pod: pod.spec.resourceClaims, type=Pod)
        self.claims = self.watch(CLAIMS, self._keys_of_claim)
        self.templates = self.watch(TEMPLATES, self._keys_of_template)
        self.claims.add_index("owner", lambda c: [r["uid"] for r in c["metadata"].get("ownerReferences") or ()])
        self.pods.add_index("template", _templates, on=TEMPLATE)
        self.events = context.recorder("resource_claim")

    def all_keys(self) -> Iterable[str]:
        wanting = [_POD + pod.key for pod in self.pods.list() if pod.spec.resourceClaims]
        return [*wanting, *(_CLAIM + key for key in self.claims.keys())]  # noqa: SIM118 - an informer is no dict

    @staticmethod
    def _keys_of_pod(pod: Pod) -> Iterable[str]:
        names = [n for n in claim_names(pod).values() if n]
        return [_POD + pod.key, *(_CLAIM + key_of(pod.metadata.namespace, n) for n in names)]

    def _keys_of_claim(self, claim: Object) -> Iterable[str]:
        """Its own, and that of the pod that it was made for: a claim that vanished is made again."""
        meta = claim["metadata"]
        owners = [r["name"] for r in meta.get("ownerReferences") or () if r["kind"] == "Pod"]
        return [
            _CLAIM + key_of(meta["namespace"], meta["name"]),
            *(_POD + key_of(meta["namespace"], n) for n in owners),
        ]

    def _keys_of_template(self, template: Object) -> Iterable[str]:
        meta = template["metadata"]
        return [_POD + pod.key for pod in self.pods.by_index("template", key_of(meta["namespace"], meta["name"]))]

    async def reconcile(self, key: str) -> float | None:
        if key.startswith(_POD):
            await self._reconcile_pod(key, key.removeprefix(_POD))
        else:
            await self._reconcile_claim(key, key.removeprefix(_CLAIM))
        return None

    # -- pods

    async def _reconcile_pod(self, key: str, where: str) -> None:
        pod = self.pods.get(where)
        if pod is None or pod.terminating or pod.finished:
            return
        missing: list[Object] = []
        for entry in pod.spec.resourceClaims or ():
            if entry.resourceClaimTemplateName and (name := await self._claim_of(key, pod, entry)):
                missing.append({"name": entry.name, "resourceClaimName": name})
        if missing:
            patch = {"metadata": {"uid": pod.metadata.uid}, "status": {"resourceClaimStatuses": missing}}
            meta = pod.metadata
            written = await self.client.patch(
                PODS, meta.name, meta.namespace, patch, type="strategic", subresource="status"
            )
            self.wrote(key, self.pods, written)
        if pod.spec.nodeName:
            await self._reserve(key, pod)

    async def _claim_of(self, key: str, pod: Pod, entry: PodClaim) -> str:
        """The name that has to be entered in the pod's status; "" when it is there and right."""
        named = claim_names(pod).get(entry.name, "")
        if named == "" or (named and self.claims.get(key_of(pod.metadata.namespace, named)) is not None):
            return ""
        for made in self.claims.by_index("owner", pod.metadata.uid):
            meta = made["metadata"]
            if (meta.get("annotations") or {}).get(POD_CLAIM) == entry.name and "deletionTimestamp" not in meta:
                return str(meta["name"]) if meta["name"] != named else ""
        template = self.templates.get(key_of(pod.metadata.namespace, entry.resourceClaimTemplateName or ""))
        if template is None:
            text = f'resourceclaimtemplate "{entry.resourceClaimTemplateName}" not found'
            self.events.event(pod.reference(), "Warning", "FailedResourceClaimCreation", f"PodResourceClaim {text}")
            return ""
        try:
            written = await self.client.create(CLAIMS, claim_for(pod, entry, template))
        except ApiError as error:
            text = f"PodResourceClaim {entry.name}: {error}"
            self.events.event(pod.reference(), "Warning", "FailedResourceClaimCreation", text)
            raise
        self.wrote(key, self.claims, written)
        return str(written["metadata"]["name"])

    async def _reserve(self, key: str, pod: Pod) -> None:
        """A pod that got its node without the scheduler may use allocated claims too."""
        me = {"resource": "pods", "name": pod.metadata.name, "uid": pod.metadata.uid}
        for name in claim_names(pod).values():
            claim = self.claims.get(key_of(pod.metadata.namespace, name or ""))
            status = (claim.get("status") or {}) if claim is not None else {}
            consumers = status.get("reservedFor") or []
            if claim is None or not status.get("allocation") or any(c["uid"] == me["uid"] for c in consumers):
                continue
            if "deletionTimestamp" in claim["metadata"] or len(consumers) >= MOST_CONSUMERS:
                continue
            changed = {**claim, "status": {**status, "reservedFor": [*consumers, me]}}
            self.wrote(key, self.claims, await self.client.update(CLAIMS, changed, subresource="status"))

    # -- claims

    async def _reconcile_claim(self, key: str, where: str) -> None:
        claim = self.claims.get(where)
        if claim is None:
            return
        consumers = (claim.get("status") or {}).get("reservedFor") or ()
        namespace = claim["metadata"]["namespace"]
        pods = [c for c in consumers if c.get("resource") == "pods" and not c.get("apiGroup")]
        gone = {c["uid"] for c in pods if await self._gone(namespace, c["name"], c["uid"])}
        owner = next((r for r in claim["metadata"].get("ownerReferences") or () if r["kind"] == "Pod"), None)
        owner_over = owner is not None and await self._gone(namespace, owner["name"], owner["uid"])
        decided = plan(claim, gone, owner_over)
        if decided.status is not None:
            claim = await self.client.update(CLAIMS, {**claim, "status": decided.status}, subresource="status")
            self.wrote(key, self.claims, claim)
        if decided.finalizers is not None:
            meta = claim["metadata"]
            change = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
            patch = {"metadata": {**change, "finalizers": decided.finalizers}}
            claim = await self.client.patch(CLAIMS, meta["name"], namespace, patch)
            self.wrote(key, self.claims, claim)
        if decided.delete:
            await self.client.delete(CLAIMS, claim["metadata"]["name"], namespace, uid=claim["metadata"]["uid"])

    async def _gone(self, namespace: str, name: str, uid: str) -> bool:
        """Whether a pod is over; a pod that the cache lacks is asked for in the API itself."""
        pod = self.pods.get(key_of(namespace, name))
        if pod is not None and pod.metadata.uid == uid:
            return over(pod)
        try:
            found = await self.client.get(PODS, name, namespace)
        except ApiError as error:
            if error.code == 404:
                return True
            raise
        return bool(found["metadata"]["uid"] != uid)


def _templates(pod: Pod) -> list[str]:
    if not pod.spec.resourceClaims:
        return []
    named = [c.resourceClaimTemplateName for c in pod.spec.resourceClaims if c.resourceClaimTemplateName]
    return [key_of(pod.metadata.namespace, n) for n in named]
