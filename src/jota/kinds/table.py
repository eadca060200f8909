"""Every stored kind, in the order of discovery. To add one: write its fact sheet, import it here, add its line.

In: nothing; importing this must stay cheap (no schemas are read). Out: `KINDS` and lookups.
"""

from __future__ import annotations

from jota.kinds import prerelease
from jota.kinds.admission import (
    mutatingadmissionpolicy,
    mutatingadmissionpolicybinding,
    mutatingwebhookconfiguration,
    validatingadmissionpolicy,
    validatingadmissionpolicybinding,
    validatingwebhookconfiguration,
)
from jota.kinds.apiextensions import crd
from jota.kinds.apiregistration import apiservice
from jota.kinds.apps import controllerrevision, daemonset, deployment, replicaset, statefulset
from jota.kinds.autoscaling import horizontalpodautoscaler, horizontalpodautoscaler_v1
from jota.kinds.batch import cronjob, job
from jota.kinds.certificates import certificatesigningrequest, clustertrustbundle, podcertificaterequest
from jota.kinds.coordination import lease, leasecandidate
from jota.kinds.core import (
    configmap,
    endpoints,
    event,
    limitrange,
    namespace,
    node,
    persistentvolume,
    persistentvolumeclaim,
    pod,
    podtemplate,
    replicationcontroller,
    resourcequota,
    secret,
    service,
    serviceaccount,
)
from jota.kinds.discovery import endpointslice
from jota.kinds.events import event as newer_event
from jota.kinds.flowcontrol import flowschema, prioritylevelconfiguration
from jota.kinds.kind import Kind
from jota.kinds.lifecycle import eviction, evictionrequest
from jota.kinds.networking import ingress, ingressclass, ipaddress, networkpolicy, servicecidr
from jota.kinds.node import runtimeclass
from jota.kinds.policy import poddisruptionbudget
from jota.kinds.rbac import clusterrole, clusterrolebinding, role, rolebinding
from jota.kinds.resource import (
    deviceclass,
    devicetaintrule,
    resourceclaim,
    resourceclaimtemplate,
    resourceslice,
    v1beta1,
)
from jota.kinds.scheduling import podgroup, priorityclass, workload
from jota.kinds.storage import (
    csidriver,
    csinode,
    csistoragecapacity,
    storageclass,
    volumeattachment,
    volumeattributesclass,
)
from jota.kinds.storagemigration import storageversionmigration

STABLE: tuple[Kind, ...] = (
    configmap.KIND,
    endpoints.KIND,
    event.KIND,
    limitrange.KIND,
    namespace.KIND,
    node.KIND,
    persistentvolume.KIND,
    persistentvolumeclaim.KIND,
    pod.KIND,
    podtemplate.KIND,
    replicationcontroller.KIND,
    resourcequota.KIND,
    secret.KIND,
    service.KIND,
    serviceaccount.KIND,
    controllerrevision.KIND,
    daemonset.KIND,
    deployment.KIND,
    replicaset.KIND,
    statefulset.KIND,
    newer_event.KIND,
    horizontalpodautoscaler.KIND,
    horizontalpodautoscaler_v1.KIND,
    cronjob.KIND,
    job.KIND,
    certificatesigningrequest.KIND,
    clustertrustbundle.KIND,
    podcertificaterequest.KIND,
    ingress.KIND,
    ingressclass.KIND,
    ipaddress.KIND,
    networkpolicy.KIND,
    servicecidr.KIND,
    poddisruptionbudget.KIND,
    clusterrole.KIND,
    clusterrolebinding.KIND,
    role.KIND,
    rolebinding.KIND,
    mutatingwebhookconfiguration.KIND,
    validatingwebhookconfiguration.KIND,
    validatingadmissionpolicy.KIND,
    validatingadmissionpolicybinding.KIND,
    mutatingadmissionpolicy.KIND,
    mutatingadmissionpolicybinding.KIND,
    csidriver.KIND,
    csinode.KIND,
    csistoragecapacity.KIND,
    storageclass.KIND,
    volumeattachment.KIND,
    volumeattributesclass.KIND,
    crd.KIND,
    apiservice.KIND,
    priorityclass.KIND,
    lease.KIND,
    runtimeclass.KIND,
    endpointslice.KIND,
    flowschema.KIND,
    prioritylevelconfiguration.KIND,
    deviceclass.KIND,
    devicetaintrule.KIND,
    resourceclaim.KIND,
    resourceclaimtemplate.KIND,
    resourceslice.KIND,
    storageversionmigration.KIND,
)
YOUNG: tuple[Kind, ...] = (podgroup.KIND, workload.KIND, leasecandidate.KIND, evictionrequest.KIND, eviction.KIND)
"""Kinds that have no stable version yet: served only when asked for."""
OLDER: tuple[Kind, ...] = v1beta1.KINDS
"""Versions of stable kinds that have another shape; likewise."""
KINDS: tuple[Kind, ...] = STABLE + YOUNG + OLDER + prerelease.of(STABLE + YOUNG)

_BY_RESOURCE = {(k.resource.group, k.resource.version, k.resource.plural): k for k in KINDS}
_BY_KIND = {(k.resource.group, k.resource.version, k.resource.kind): k for k in KINDS}


def by_resource(group: str, version: str, plural: str) -> Kind | None:
    """The kind served at /apis/<group>/<version>/<plural>; None when it is not built in."""
    return _BY_RESOURCE.get((group, version, plural))


def by_kind(group: str, version: str, kind: str) -> Kind | None:
    """The kind of an object's apiVersion and kind; None when it is not built in."""
    return _BY_KIND.get((group, version, kind))


def groups() -> dict[str, tuple[str, ...]]:
    """Group -> its versions, preferred first, in the order of discovery; the core group is ""."""
    found: dict[str, tuple[str, ...]] = {}
    for kind in KINDS:
        group, version = kind.resource.group, kind.resource.version
        if version not in found.get(group, ()):
            found[group] = (*found.get(group, ()), version)
    return found
