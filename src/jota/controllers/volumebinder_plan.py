"""Which volume a claim takes, and what becomes of a volume. Pure. In: claims, volumes, classes. Out: decisions.

Worked example: a claim for 3Gi of class "" among volumes of 1Gi, 5Gi and 10Gi takes the 5Gi one. Next: volumebinder.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jota.meta.quantity import value
from jota.meta.selectors import EVERYTHING, from_object

Object = dict[str, Any]

SELECTED_NODE = "volume.kubernetes.io/selected-node"
BIND_COMPLETED, BOUND_BY = "pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY, PROVISIONER = "pv.kubernetes.io/provisioned-by", "volume.kubernetes.io/storage-provisioner"
CLASS = "volume.beta.kubernetes.io/storage-class"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
LOCAL = "jota.dev/local"
"""The provisioner that makes directories on nodes."""
LOCAL_ROOT = "jota.dev/local-storage"
"""Annotation of a Node: where it keeps those directories."""
HOLLOW = "jota.dev/hollow"
"""Label of a simulated Node."""


@dataclass(slots=True, frozen=True)
class Choice:
    """What to do with an unbound claim: take `volume`, have one made, or wait with an event."""

    volume: Object | None = None
    provision: bool = False
    reason: str = ""
    message: str = ""
    type: str = "Normal"


@dataclass(slots=True, frozen=True)
class Reclaim:
    """What becomes of a volume whose claim is gone."""

    delete: bool = False
    """Remove it here; without that it stays, for people or for the provisioner that made it."""
    reason: str = ""
    fault: str = ""
    """Why its policy cannot be carried out."""


def reclaim(volume: Object) -> Reclaim:
    """By spec.persistentVolumeReclaimPolicy (default Retain). Only what was made here is removed here."""
    name, policy = volume["metadata"]["name"], volume["spec"].get("persistentVolumeReclaimPolicy") or "Retain"
    if policy == "Recycle":
        return Reclaim(reason="VolumeFailedRecycle", fault="No recycler plugin found for the volume!")
    maker = notes(volume).get(PROVISIONED_BY)
    if policy != "Delete" or (maker and maker != LOCAL):
        return Reclaim()
    if maker is None and not (volume["spec"].get("csi")):
        text = f'error getting deleter volume plugin for volume "{name}": no deletable volume plugin matched'
        return Reclaim(reason="VolumeFailedDelete", fault=text)
    return Reclaim(delete=maker == LOCAL)


def notes(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def class_of(obj: Object) -> str:
    return notes(obj).get(CLASS) or obj["spec"].get("storageClassName") or ""


def undecided(claim: Object) -> bool:
    """Unbound, and of no class, not even of "" (which asks for a volume without one)."""
    spec = claim["spec"]
    return not spec.get("volumeName") and spec.get("storageClassName") is None and not notes(claim).get(CLASS)


def asked(claim: Object) -> str:
    return str(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0"))


def holds(volume: Object, claim: Object) -> bool:
    """Whether the volume's claimRef names this claim (a reference without uid was written by hand, ahead of the claim)."""
    reference = volume["spec"].get("claimRef") or {}
    meta = claim["metadata"]
    same = (reference.get("namespace"), reference.get("name")) == (meta["namespace"], meta["name"])
    return same and reference.get("uid") in (None, "", meta["uid"])


def fits(volume: Object, claim: Object) -> bool:
    """Size, modes, class, selector (upstream's FindMatchingVolume, without node affinity)."""
    wanted = claim["spec"]
    selector = from_object(wanted["selector"]) if wanted.get("selector") else EVERYTHING
    return not mismatch(volume, claim) and selector.matches(volume["metadata"].get("labels") or {})


def mismatch(volume: Object, claim: Object) -> str:
    """Why the volume cannot be what the claim asks for, in upstream's words (checkVolumeSatisfyClaim); "" when it can."""
    if "deletionTimestamp" in volume["metadata"]:
        return f'the volume is marked for deletion "{volume["metadata"]["name"]}"'
    if size(volume) < value(asked(claim)):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if mode_of(volume) != mode_of(claim):
        return "incompatible volumeMode"
    if not set(claim["spec"].get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ()):
        return "incompatible accessMode"
    return ""


def mode_of(obj: Object) -> str:
    return str(obj["spec"].get("volumeMode") or "Filesystem")


def reserved(volume: Object, claim: Object) -> bool:
    """The volume names this claim, and is as large as it asks, of its mode, and not on its way out: class and access modes are
    the business of who wrote the reference (as upstream)."""
    going = "deletionTimestamp" in volume["metadata"]
    return (
        holds(volume, claim) and not going and size(volume) >= value(asked(claim)) and mode_of(volume) == mode_of(claim)
    )


def size(volume: Object) -> int:
    return value(str((volume["spec"].get("capacity") or {}).get("storage", "0")))


def choose(claim: Object, volumes: Iterable[Object], found: Object | None) -> Choice:
    """For a claim without volumeName. `found`: its StorageClass, if there is one."""
    every = list(volumes)
    if (held := next((v for v in every if v["spec"].get("claimRef") and reserved(v, claim)), None)) is not None:
        return Choice(held)
    waits = found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"
    if waits and not notes(claim).get(SELECTED_NODE):
        text = "waiting for first consumer to be created before binding"
        return Choice(reason="WaitForFirstConsumer", message=text)
    if not waits:
        free = [v for v in every if not v["spec"].get("claimRef") and fits(v, claim)]
        if free:
            return Choice(min(free, key=lambda v: (size(v), v["metadata"]["name"])))
    if not class_of(claim):
        text = "no persistent volumes available for this claim and no storage class is set"
        return Choice(reason="FailedBinding", message=text)
    if found is None:
        text = f'storageclass.storage.k8s.io "{class_of(claim)}" not found'
        return Choice(reason="ProvisioningFailed", message=text, type="Warning")
    provisioner = found["provisioner"]
    if provisioner == LOCAL:
        return Choice(provision=True)
    if provisioner == NO_PROVISIONER:
        return Choice(reason="FailedBinding", message="no persistent volumes available for this claim")
    text = f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the "
    return Choice(reason="ExternalProvisioning", message=text + "system administrator.")


def local_volume(claim: Object, found: Object, node: Object) -> Object:
    """The PersistentVolume of a directory on a node."""
    meta, name = claim["metadata"], f"pvc-{claim['metadata']['uid']}"
    host = (node["metadata"].get("labels") or {}).get("kubernetes.io/hostname", node["metadata"]["name"])
    only = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}
    spec: Object = {
        "capacity": {"storage": asked(claim)},
        "accessModes": claim["spec"]["accessModes"],
        "persistentVolumeReclaimPolicy": found.get("reclaimPolicy") or "Delete",
        "storageClassName": found["metadata"]["name"],
        "volumeMode": "Filesystem",
        "local": {"path": f"{notes(node)[LOCAL_ROOT]}/{name}"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [only]}},
        "claimRef": reference(claim),
    }
    metadata = {"name": name, "annotations": {PROVISIONED_BY: LOCAL}}
    assert meta["uid"]
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}


def reference(claim: Object) -> Object:
    meta = claim["metadata"]
    keys = ("namespace", "name", "uid", "resourceVersion")
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **{k: meta[k] for k in keys if k in meta}}


def node_of(volume: Object) -> str:
    """The host name that a local volume is tied to; "" when it is not."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for one in term.get("matchExpressions") or ():
            if one.get("key") == "kubernetes.io/hostname" and len(one.get("values") or ()) == 1:
                return str(one["values"][0])
    return ""


def bound_status(claim: Object, volume: Object) -> Object:
    """The claim's status once it has its volume. Growing a bound claim is granted at once for local volumes."""
    status = {**(claim.get("status") or {}), "phase": "Bound"}
    status["accessModes"] = volume["spec"].get("accessModes") or []
    status["capacity"] = dict(volume["spec"].get("capacity") or {})
    return status
