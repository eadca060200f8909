"""Claims, volumes and classes as the scheduler sees them, and which volume a claim could take where. Fed from informers.

Decisions that are made but not yet in the API are assumed here: the node that a claim's volume will be made on, the claim
that a volume will be bound to. Next: plugins/volume_binding.py asks, volumebinder.py carries out.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from jota.meta.change import Change
from jota.meta.quantity import value
from jota.scheduler.terms import label_selector
from jota.scheduler.volumetable import Offer, VolumeTable

SELECTED_NODE = "volume.kubernetes.io/selected-node"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


class Meta(msgspec.Struct, gc=False):
    name: str
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletionTimestamp: str | None = None
    resourceVersion: str = ""

    def after(self, change: Change, version: str) -> Meta:
        """What a change (meta/change.py) left of it."""
        seen = {name: value for name, value in change.metadata.items() if name in _META}
        return replace(self, resourceVersion=version, **seen)


_META = frozenset(Meta.__struct_fields__)


class _Requests(msgspec.Struct, gc=False):
    requests: dict[str, str | int | float] | None = None


class _ClaimSpec(msgspec.Struct):
    volumeName: str = ""
    storageClassName: str | None = None
    accessModes: list[str] | None = None
    resources: _Requests | None = None
    selector: dict[str, Any] | None = None
    volumeMode: str = "Filesystem"


class _Phase(msgspec.Struct, gc=False):
    phase: str = ""


_decode_phase = msgspec.json.Decoder(_Phase).decode


class Claim(msgspec.Struct):
    metadata: Meta
    spec: _ClaimSpec = msgspec.field(default_factory=_ClaimSpec)
    status: _Phase = msgspec.field(default_factory=_Phase)

    @classmethod
    def changed(cls, claim: Claim, change: Change, version: str) -> Claim:
        """What became of a claim. Raises msgspec.DecodeError, ValidationError."""
        status = _decode_phase(change.status) if change.status else claim.status
        return cls(claim.metadata.after(change, version), claim.spec, status)

    @property
    def key(self) -> tuple[str, str]:
        return self.metadata.namespace, self.metadata.name

    @property
    def bound(self) -> bool:
        return bool(self.spec.volumeName) and self.status.phase == "Bound"

    @property
    def size(self) -> int:
        asked = ((self.spec.resources.requests if self.spec.resources else None) or {}).get("storage", 0)
        return int(value(str(asked)))


class _Reference(msgspec.Struct, gc=False):
    namespace: str = ""
    name: str = ""
    uid: str = ""


class _Csi(msgspec.Struct, gc=False):
    driver: str = ""


class _VolumeSpec(msgspec.Struct):
    capacity: dict[str, str | int | float] | None = None
    accessModes: list[str] | None = None
    storageClassName: str = ""
    nodeAffinity: dict[str, Any] | None = None
    claimRef: _Reference | None = None
    volumeMode: str = "Filesystem"
    csi: _Csi | None = None
    awsElasticBlockStore: dict[str, Any] | None = None
    azureDisk: dict[str, Any] | None = None
    azureFile: dict[str, Any] | None = None
    cinder: dict[str, Any] | None = None
    gcePersistentDisk: dict[str, Any] | None = None
    portworxVolume: dict[str, Any] | None = None
    vsphereVolume: dict[str, Any] | None = None

    @property
    def driver(self) -> str:
        """The CSI driver, also of the older in-tree sources, which all migrated to one (csi-translation-lib); "": none."""
        if self.csi is not None:
            return self.csi.driver
        return next((driver for source, driver in _MIGRATED if getattr(self, source) is not None), "")


_MIGRATED = (
    ("awsElasticBlockStore", "ebs.csi.aws.com"),
    ("azureDisk", "disk.csi.azure.com"),
    ("azureFile", "file.csi.azure.com"),
    ("cinder", "cinder.csi.openstack.org"),
    ("gcePersistentDisk", "pd.csi.storage.gke.io"),
    ("portworxVolume", "pxd.portworx.com"),
    ("vsphereVolume", "csi.vsphere.vmware.com"),
)


class Volume(msgspec.Struct):
    metadata: Meta
    spec: _VolumeSpec = msgspec.field(default_factory=_VolumeSpec)
    status: _Phase = msgspec.field(default_factory=_Phase)

    @classmethod
    def changed(cls, volume: Volume, change: Change, version: str) -> Volume:
        """What became of a volume; the spec stays the same object. Raises msgspec.DecodeError, ValidationError."""
        status = _decode_phase(change.status) if change.status else volume.status
        return cls(volume.metadata.after(change, version), volume.spec, status)


class Class(msgspec.Struct):
    metadata: Meta
    provisioner: str = ""
    volumeBindingMode: str = "Immediate"
    allowedTopologies: list[dict[str, Any]] | None = None


class _Limit(msgspec.Struct, gc=False):
    count: int | None = None


class _Driver(msgspec.Struct, gc=False):
    name: str
    allocatable: _Limit | None = None


class _CsiSpec(msgspec.Struct):
    drivers: list[_Driver] | None = None


class CsiNode(msgspec.Struct):
    metadata: Meta
    spec: _CsiSpec = msgspec.field(default_factory=_CsiSpec)


class Storage:
    def __init__(self) -> None:
        self.claims: dict[tuple[str, str], Claim] = {}
        self.volumes = VolumeTable()
        self.classes: dict[str, Class] = {}
        self.limits: dict[str, dict[str, int]] = {}
        """Node -> CSI driver -> volumes that it can hold. Changed by `set_limits`."""
        self.limits_version = 0
        self.chosen_nodes: dict[tuple[str, str], str] = {}
        """Claim -> the node that a pod which is being placed chose for it."""
        self.chosen_volumes: dict[str, tuple[str, str]] = {}
        """Volume -> the claim that is going to take it."""

    def set_limits(self, node: str, limits: dict[str, int]) -> None:
        """Empty: the node states none."""
        if self.limits.get(node, {}) != limits:
            self.limits_version += 1
            if limits:
                self.limits[node] = limits
            else:
                del self.limits[node]

    def driver_of(self, namespace: str, name: str) -> str | None:
        """The CSI driver of a claim: its volume's, or the provisioner that will make one; "" has none, None: not known yet."""
        claim = self.claims.get((namespace, name))
        if claim is None:
            return None
        if claim.spec.volumeName:
            volume = self.volumes.get(claim.spec.volumeName)
            return None if volume is None else volume.spec.driver
        made = self.class_of(claim)
        return None if made is None else made.provisioner

    def waits(self, claim: Claim) -> bool:
        """Whether the claim waits for its first consumer to be placed."""
        found = self.class_of(claim)
        return found is not None and found.volumeBindingMode == "WaitForFirstConsumer"

    def class_of(self, claim: Claim) -> Class | None:
        name = claim.spec.storageClassName
        if name is None:
            return next((c for c in self.classes.values() if _is_default(c)), None)
        return self.classes.get(name)

    def selected_node(self, claim: Claim) -> str:
        return self.chosen_nodes.get(claim.key) or (claim.metadata.annotations or {}).get(SELECTED_NODE, "")

    def candidates(self, claim: Claim) -> list[Volume]:
        """Volumes that the claim could take somewhere, the smallest first."""
        selector = label_selector(claim.spec.selector) if claim.spec.selector is not None else None
        wanted, key, size = claim.spec.storageClassName or "", claim.key, claim.size
        modes, form = frozenset(claim.spec.accessModes or ()), claim.spec.volumeMode
        found = []
        for offer in self.volumes.offers(wanted, key):
            spec = offer.volume.spec
            if (
                offer.size < size
                or spec.storageClassName != wanted
                or spec.volumeMode != form
                or not modes <= offer.modes
            ):
                continue
            if selector is not None and not selector.matches(offer.volume.metadata.labels):
                continue
            if self.chosen_volumes.get(offer.name, key) != key:
                continue
            if spec.claimRef is not None and spec.claimRef.uid not in ("", claim.metadata.uid):
                continue
            found.append(offer)
        found.sort(key=_size_and_name)
        return [offer.volume for offer in found]


def _size_and_name(offer: Offer) -> tuple[int, str]:
    return offer[:2]


def _is_default(found: Class) -> bool:
    return (found.metadata.annotations or {}).get(_DEFAULT_CLASS) == "true"
