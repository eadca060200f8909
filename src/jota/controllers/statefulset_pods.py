"""A StatefulSet's pods and claims: names, identity, and the claims' owners under the retention policy. Pure.

Worked example: set "db", start ordinal 0, claim template "data": pod db-0 with claim data-db-0. Next: statefulset.py.
"""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

from jota.controllers import claim
from jota.controllers.history import HASH
from jota.controllers.views import Pod
from jota.meta.resource import PODS, Resource

Object = dict[str, Any]

STATEFULSETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
PVCS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
POD_NAME, POD_INDEX = "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"
_NAME = re.compile(r"(.+)-(0|[1-9][0-9]*)\Z")


def ordinal_of(set_name: str, pod_name: str) -> int | None:
    """None for a pod that is not a member by its name."""
    found = _NAME.match(pod_name)
    return int(found[2]) if found and found[1] == set_name else None


def revision_of(pod: Pod) -> str:
    return (pod.metadata.labels or {}).get(HASH, "")


def start_of(owner: Object) -> int:
    return int((owner["spec"].get("ordinals") or {}).get("start") or 0)


def build(owner: Object, template: Object, revision: str, ordinal: int) -> Object:
    """The pod of an ordinal from a revision's template."""
    meta, template = owner["metadata"], deepcopy(template)
    name, given, spec = f"{meta['name']}-{ordinal}", template.get("metadata") or {}, template["spec"]
    labels = {**(given.get("labels") or {}), POD_NAME: name, POD_INDEX: str(ordinal), HASH: revision}
    metadata: Object = {k: given[k] for k in ("annotations", "finalizers") if given.get(k)}
    metadata |= {"name": name, "namespace": meta["namespace"], "labels": labels}
    metadata["ownerReferences"] = [claim.reference(owner, STATEFULSETS.api_version, STATEFULSETS.kind)]
    spec["hostname"] = name
    if owner["spec"].get("serviceName"):
        spec["subdomain"] = owner["spec"]["serviceName"]
    claims = claim_names(owner, name)
    volumes = [v for v in spec.get("volumes") or () if v["name"] not in claims]
    volumes += [{"name": v, "persistentVolumeClaim": {"claimName": c}} for v, c in claims.items()]
    if volumes:
        spec["volumes"] = volumes
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def identity(owner: Object, pod: Pod) -> dict[str, str]:
    """The labels that a member must carry and does not."""
    ordinal = ordinal_of(owner["metadata"]["name"], pod.metadata.name)
    wanted = {POD_NAME: pod.metadata.name, POD_INDEX: str(ordinal)}
    have = pod.metadata.labels or {}
    return {k: v for k, v in wanted.items() if have.get(k) != v}


def claim_names(owner: Object, pod_name: str) -> dict[str, str]:
    """Volume (template) name -> the pod's claim."""
    return {
        t["metadata"]["name"]: f"{t['metadata']['name']}-{pod_name}"
        for t in owner["spec"].get("volumeClaimTemplates") or ()
    }


def claims(owner: Object, pod_name: str) -> list[Object]:
    """The claims of one pod, as they are created."""
    out = []
    names = claim_names(owner, pod_name)
    matched = (owner["spec"].get("selector") or {}).get("matchLabels") or {}
    for template in owner["spec"].get("volumeClaimTemplates") or ():
        given = template["metadata"]
        metadata = {
            "name": names[given["name"]],
            "namespace": owner["metadata"]["namespace"],
            "labels": {**(given.get("labels") or {}), **matched},
        }
        if given.get("annotations"):
            metadata["annotations"] = dict(given["annotations"])
        if references := claim_owners(owner, [], None, condemned=False):
            metadata["ownerReferences"] = references
        spec = deepcopy(template["spec"])
        out.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    return out


def stale(found: Object, pod_name: str) -> bool:
    """A claim that is on its way out, with the pod of its name that went before: a new pod must not be tied to it.

    Only for pods that are about to be created: then no living pod of that name owns anything.
    """
    meta = found["metadata"]
    owners = meta.get("ownerReferences") or ()
    return "deletionTimestamp" in meta or any(r["kind"] == "Pod" and r["name"] == pod_name for r in owners)


def claim_owners(owner: Object, have: list[Object], pod: Pod | None, *, condemned: bool) -> list[Object]:
    """The owner references of a claim under persistentVolumeClaimRetentionPolicy: controlled by the set when it goes with the
    set, by the pod when it goes with scaling down (`condemned`). References of others stay, and `have` itself where there is
    nothing to do: also when an earlier set or pod of the name has it, whose end the garbage collector sees to."""
    policy = owner["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    ours = [r for r in have if _names(r, owner, pod)]
    uids = {owner["metadata"]["uid"], pod.metadata.uid if pod is not None else ""}
    if any(r["uid"] not in uids for r in ours):
        return have
    wanted: list[Object] = []
    if conflicting(owner, have, pod):
        pass  # what is controlled by another is not ours to delete
    elif policy.get("whenScaled") == "Delete" and condemned and pod is not None:
        wanted = [claim.reference({"metadata": {"name": pod.metadata.name, "uid": pod.metadata.uid}}, "v1", PODS.kind)]
    elif policy.get("whenDeleted") == "Delete":
        wanted = [claim.reference(owner, STATEFULSETS.api_version, STATEFULSETS.kind)]
    if [(r["uid"], bool(r.get("controller"))) for r in ours] == [(r["uid"], True) for r in wanted]:
        return have
    return [r for r in have if r not in ours] + wanted


def conflicting(owner: Object, have: list[Object], pod: Pod | None) -> bool:
    """Whether somebody else controls a claim that the retention policy would have to go."""
    policy = owner["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    if "Delete" not in (policy.get("whenDeleted"), policy.get("whenScaled")):
        return False
    return any(r.get("controller") and not _names(r, owner, pod) for r in have)


def _names(reference: Object, owner: Object, pod: Pod | None) -> bool:
    """Whether it points at the set or its pod, be it this one or one of the same name."""
    named = reference["apiVersion"], reference["kind"], reference["name"]
    if named == (STATEFULSETS.api_version, STATEFULSETS.kind, owner["metadata"]["name"]):
        return True
    return pod is not None and named == ("v1", PODS.kind, pod.metadata.name)
