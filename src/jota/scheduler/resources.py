"""Resources that the scheduler reads beside pods and nodes."""

from __future__ import annotations

from jota.meta.resource import REPLICASETS, SERVICES, Resource

REPLICATIONCONTROLLERS = Resource("", "v1", "replicationcontrollers", "ReplicationController")
STATEFULSETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", False)
CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)
CSINODES = Resource("storage.k8s.io", "v1", "csinodes", "CSINode", False)
BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")

SELECTING = {
    "Service": SERVICES,
    "ReplicationController": REPLICATIONCONTROLLERS,
    "ReplicaSet": REPLICASETS,
    "StatefulSet": STATEFULSETS,
}
"""Whose selectors the default spread constraints take."""
RESOURCECLAIMS = Resource("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim")
DEVICECLASSES = Resource("resource.k8s.io", "v1", "deviceclasses", "DeviceClass", False)
RESOURCESLICES = Resource("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", False)
DEVICETAINTRULES = Resource("resource.k8s.io", "v1", "devicetaintrules", "DeviceTaintRule", False)
