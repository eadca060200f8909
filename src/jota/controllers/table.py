"""All controllers, and how a process runs them. In: a client and a config. Out: one TaskGroup with shared caches.

To add a controller: write its file, import it here, add its line. `run_controllers` returns when `stop` is set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from jota.aio.clock import Clock
from jota.client.client import Client
from jota.client.informers import Informers
from jota.controllers.attachdetach import AttachDetachController
from jota.controllers.certificates import CertificateController
from jota.controllers.cleaners import EventCleaner, PodCertificateRequestCleaner, TokenCleaner
from jota.controllers.clusterrole_aggregation import ClusterRoleAggregationController
from jota.controllers.controller import Context, Controller, ControllerConfig
from jota.controllers.cronjob import CronJobController
from jota.controllers.daemonset import DaemonSetController
from jota.controllers.deployment import DeploymentController
from jota.controllers.devicetainteviction import DeviceTaintEvictionController
from jota.controllers.endpoints import EndpointsController
from jota.controllers.endpointslice import EndpointSliceController
from jota.controllers.endpointslicemirroring import EndpointSliceMirroring
from jota.controllers.ephemeralvolume import EphemeralVolumeController
from jota.controllers.garbagecollector import GarbageCollector
from jota.controllers.hpa import HorizontalPodAutoscalerController
from jota.controllers.ipaddressrepair import IPAddressRepairController
from jota.controllers.job import JobController
from jota.controllers.jobttl import JobTtlController
from jota.controllers.legacytokencleaner import LegacyTokenCleaner
from jota.controllers.namespace import NamespaceController
from jota.controllers.nodeipam import NodeIpamController
from jota.controllers.nodelifecycle import NodeLifecycleController
from jota.controllers.poddisruptionbudget import PodDisruptionBudgetController
from jota.controllers.podgc import PodGarbageCollector
from jota.controllers.replicaset import ReplicaSetController, ReplicationControllerController
from jota.controllers.resourceclaim import ResourceClaimController
from jota.controllers.resourcequota import ResourceQuotaController
from jota.controllers.rootca import RootCAPublisher
from jota.controllers.serviceaccount import ServiceAccountController
from jota.controllers.serviceaccounttoken import ServiceAccountTokenController
from jota.controllers.servicecidr import ServiceCIDRController
from jota.controllers.stalepoddisruption import StalePodDisruptionController
from jota.controllers.statefulset import StatefulSetController
from jota.controllers.storageversionmigrator import StorageVersionMigrator
from jota.controllers.tainteviction import TaintEvictionController
from jota.controllers.trustbundlepublisher import TrustBundlePublisher
from jota.controllers.validatingadmissionpolicystatus import ValidatingAdmissionPolicyStatusController
from jota.controllers.volumebinder import VolumeBinder
from jota.controllers.volumeprotection import ClaimProtectionController, VolumeProtectionController
from jota.kinds.kind import Kind
from jota.kinds.table import by_resource
from jota.meta.resource import EVICTION_REQUESTS, LEASE_CANDIDATES

CONTROLLERS: tuple[Callable[[Context], Controller], ...] = (
    NamespaceController,
    GarbageCollector,
    NodeIpamController,
    NodeLifecycleController,
    TaintEvictionController,
    PodGarbageCollector,
    CertificateController,
    TokenCleaner,
    EventCleaner,
    PodCertificateRequestCleaner,
    LegacyTokenCleaner,
    ServiceAccountController,
    ServiceAccountTokenController,
    RootCAPublisher,
    TrustBundlePublisher,
    ClusterRoleAggregationController,
    ValidatingAdmissionPolicyStatusController,
    ResourceQuotaController,
    StorageVersionMigrator,
    DeploymentController,
    ReplicaSetController,
    ReplicationControllerController,
    StatefulSetController,
    DaemonSetController,
    VolumeBinder,
    EphemeralVolumeController,
    ResourceClaimController,
    DeviceTaintEvictionController,
    ClaimProtectionController,
    VolumeProtectionController,
    AttachDetachController,
    PodDisruptionBudgetController,
    StalePodDisruptionController,
    HorizontalPodAutoscalerController,
    JobController,
    CronJobController,
    JobTtlController,
    EndpointSliceController,
    EndpointsController,
    EndpointSliceMirroring,
    ServiceCIDRController,
    IPAddressRepairController,
)


def controllers(serves: Callable[[Kind], bool]) -> tuple[Callable[[Context], Controller], ...]:
    """Those for the kinds that are served: what is not stable has its controller only where it is asked for."""
    found = list(CONTROLLERS)
    requests = by_resource(*EVICTION_REQUESTS[:3])
    if requests is not None and serves(requests):
        from jota.controllers.evictionrequest import EvictionRequestController
        from jota.controllers.imperativeeviction import ImperativeEvictionController

        found += [EvictionRequestController, ImperativeEvictionController]
    for version in ("v1beta1", "v1alpha2"):
        kind = by_resource(LEASE_CANDIDATES.group, version, LEASE_CANDIDATES.plural)
        if kind is not None and serves(kind):
            from jota.controllers.leaderelection import LeaderElectionController

            found.append(partial(LeaderElectionController, candidates=kind.resource))
            break
    return tuple(found)


async def run_controllers(
    client: Client,
    clock: Clock,
    config: ControllerConfig,
    stop: asyncio.Event,
    *,
    random: Random | None = None,
    informers: Informers | None = None,
    controllers: Sequence[Callable[[Context], Controller]] = CONTROLLERS,
) -> None:
    """Run them until `stop` is set (or this is cancelled), and with them the `informers` that they share with others. A
    failing reconcile stays inside its own key."""
    random = random or Random()
    context = Context(client, clock, config, informers or Informers(client, clock, random), random)
    made = [make(context) for make in controllers]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(context.informers.run(), name="informers")]
        tasks += [group.create_task(c.run(), name=c.name) for c in made]
        tasks += [group.create_task(r.run(), name=f"events of {n}") for n, r in context.recorders.items()]
        await stop.wait()
        for task in tasks:
            task.cancel()
