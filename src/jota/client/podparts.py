"""The parts of a pod that the components of a process read (client/pods.py), as msgspec Structs.

A fifth of the memory of plain dicts, and typed. Fields keep the API's names; one that is left out has the default of the API, or
None. Next: podreading.py, which shares them between pods.
"""

from __future__ import annotations

from typing import Any

import msgspec

from jota.client.reader import key_of

DEFAULT_SCHEDULER = "default-scheduler"


class OwnerReference(msgspec.Struct, gc=False):
    apiVersion: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    blockOwnerDeletion: bool | None = None

    @property
    def group(self) -> str:
        return self.apiVersion.rpartition("/")[0]


class ObjectMeta(msgspec.Struct, gc=False):
    name: str
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    generation: int = 0
    creationTimestamp: str | None = None
    deletionTimestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    ownerReferences: list[OwnerReference] | None = None
    finalizers: list[str] | None = None

    @property
    def key(self) -> str:
        return key_of(self.namespace, self.name)

    @property
    def controller(self) -> OwnerReference | None:
        """The owner that manages this object."""
        for reference in self.ownerReferences or ():
            if reference.controller:
                return reference
        return None


class Toleration(msgspec.Struct, gc=False, frozen=True):
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    tolerationSeconds: int | None = None


class Port(msgspec.Struct, gc=False):
    hostPort: int = 0
    hostIP: str = ""
    protocol: str = "TCP"
    containerPort: int = 0
    name: str = ""


class Requests(msgspec.Struct, gc=False):
    requests: dict[str, str | int | float] | None = None


class Container(msgspec.Struct, gc=False):
    resources: Requests | None = None
    ports: list[Port] | None = None
    restartPolicy: str = ""
    image: str = ""
    name: str = ""


class Gate(msgspec.Struct, gc=False):
    name: str = ""


class ClaimSource(msgspec.Struct, gc=False):
    claimName: str = ""


class Volume(msgspec.Struct, gc=False):
    name: str = ""
    persistentVolumeClaim: ClaimSource | None = None
    ephemeral: dict[str, Any] | None = None
    gcePersistentDisk: dict[str, Any] | None = None
    awsElasticBlockStore: dict[str, Any] | None = None
    iscsi: dict[str, Any] | None = None
    rbd: dict[str, Any] | None = None


class PodClaim(msgspec.Struct, gc=False):
    name: str
    resourceClaimName: str | None = None
    resourceClaimTemplateName: str | None = None


class ClaimName(msgspec.Struct, gc=False):
    name: str
    resourceClaimName: str | None = None


class SchedulingGroup(msgspec.Struct, gc=False):
    podGroupName: str = ""


class PodSpec(msgspec.Struct, gc=False):
    containers: list[Container] = []
    initContainers: list[Container] | None = None
    overhead: dict[str, str | int | float] | None = None
    nodeName: str = ""
    nodeSelector: dict[str, str] | None = None
    affinity: dict[str, Any] | None = None
    tolerations: list[Toleration] | None = None
    topologySpreadConstraints: list[dict[str, Any]] | None = None
    schedulerName: str = DEFAULT_SCHEDULER
    schedulingGates: list[Gate] | None = None
    priority: int = 0
    preemptionPolicy: str = "PreemptLowerPriority"
    volumes: list[Volume] | None = None
    resourceClaims: list[PodClaim] | None = None
    schedulingGroup: SchedulingGroup | None = None
    hostname: str = ""
    subdomain: str = ""
    resources: Requests | None = None


class Condition(msgspec.Struct, gc=False):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str = ""
    lastTransitionTime: str | None = None


class PodIP(msgspec.Struct, gc=False):
    ip: str = ""


class Terminated(msgspec.Struct, gc=False):
    exitCode: int = 0
    finishedAt: str | None = None


class ContainerState(msgspec.Struct, gc=False):
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct, gc=False):
    name: str = ""
    restartCount: int = 0
    state: ContainerState | None = None


class Resized(msgspec.Struct, gc=False):
    """What a node says of a container while its pod is being resized, or is about to be."""

    name: str = ""
    allocatedResources: dict[str, str | int | float] | None = None
    resources: Requests | None = None


class PodResized(msgspec.Struct, gc=False):
    containerStatuses: list[Resized] | None = None
    initContainerStatuses: list[Resized] | None = None
    allocatedResources: dict[str, str | int | float] | None = None
    resources: Requests | None = None


class PodStatus(msgspec.Struct, gc=False):
    phase: str = ""
    startTime: str = ""
    podIP: str | None = None
    podIPs: list[PodIP] | None = None
    conditions: list[Condition] | None = None
    containerStatuses: list[ContainerStatus] | None = None
    initContainerStatuses: list[ContainerStatus] | None = None
    resourceClaimStatuses: list[ClaimName] | None = None
    nominatedNodeName: str = ""
    resized: PodResized | None = None
    """While what the spec asks for may be other than what the pod has: what it has."""
