"""Every controller that a process runs, killed at each of its writes, before it or after it: the end is the same.

One short story per controller, told by it alone; stories of several together are in test_crash_at_every_step.py.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from jota.aio.clock import rfc3339
from jota.api.filters.attributes import User
from jota.api.metricsapi import scrape
from jota.controllers import table
from jota.controllers.attachdetach import AttachDetachController
from jota.controllers.certificates import CLIENT, CertificateController
from jota.controllers.cleaners import TOKEN_TYPE, EventCleaner, PodCertificateRequestCleaner, TokenCleaner
from jota.controllers.clusterrole_aggregation import CLUSTER_ROLES, ClusterRoleAggregationController
from jota.controllers.controller import ControllerConfig
from jota.controllers.cronjob import CRONJOBS, CronJobController
from jota.controllers.daemonset import DaemonSetController
from jota.controllers.daemonset_plan import DAEMONSETS
from jota.controllers.deployment import DeploymentController
from jota.controllers.devicetainteviction import SLICES, DeviceTaintEvictionController
from jota.controllers.endpoints import EndpointsController
from jota.controllers.endpointslice import EndpointSliceController
from jota.controllers.endpointslicemirroring import EndpointSliceMirroring
from jota.controllers.ephemeralvolume import EphemeralVolumeController
from jota.controllers.garbagecollector import GarbageCollector
from jota.controllers.hpa import AUTOSCALERS, HorizontalPodAutoscalerController
from jota.controllers.ipaddressrepair import IPAddressRepairController
from jota.controllers.job import JobController
from jota.controllers.job_pods import JOBS
from jota.controllers.jobttl import JobTtlController
from jota.controllers.legacytokencleaner import LegacyTokenCleaner
from jota.controllers.namespace import NamespaceController
from jota.controllers.nodeipam import NodeIpamController
from jota.controllers.nodelifecycle import NodeLifecycleController
from jota.controllers.poddisruptionbudget import BUDGETS, PodDisruptionBudgetController
from jota.controllers.podgc import PodGarbageCollector
from jota.controllers.replicaset import (
    REPLICATIONCONTROLLERS,
    ReplicaSetController,
    ReplicationControllerController,
)
from jota.controllers.resourceclaim import CLAIMS, TEMPLATES, ResourceClaimController
from jota.controllers.resourcequota import ResourceQuotaController
from jota.controllers.rootca import RootCAPublisher
from jota.controllers.serviceaccount import ServiceAccountController
from jota.controllers.serviceaccounttoken import ServiceAccountTokenController
from jota.controllers.servicecidr import ServiceCIDRController
from jota.controllers.stalepoddisruption import StalePodDisruptionController
from jota.controllers.statefulset import StatefulSetController
from jota.controllers.statefulset_pods import PVCS, STATEFULSETS
from jota.controllers.storageversionmigrator import StorageVersionMigrator
from jota.controllers.tainteviction import TaintEvictionController
from jota.controllers.trustbundlepublisher import SIGNER, TrustBundlePublisher
from jota.controllers.validatingadmissionpolicystatus import POLICIES, ValidatingAdmissionPolicyStatusController
from jota.controllers.volumebinder import VolumeBinder
from jota.controllers.volumeprotection import PVS, ClaimProtectionController, VolumeProtectionController
from jota.kinds.core import legacytoken
from jota.kinds.core.quota import QUOTAS
from jota.kinds.networking.ipaddress import of_service
from jota.kinds.storagemigration.storageversionmigration import MIGRATIONS
from jota.meta.resource import (
    CLUSTER_TRUST_BUNDLES,
    CONFIGMAPS,
    CSRS,
    DEPLOYMENTS,
    ENDPOINTS,
    ENDPOINTSLICES,
    EVENTS,
    IP_ADDRESSES,
    NAMESPACES,
    NODES,
    POD_CERTIFICATE_REQUESTS,
    PODS,
    REPLICASETS,
    SECRETS,
    SERVICE_CIDRS,
    SERVICEACCOUNTS,
    SERVICES,
    Resource,
)
from jota.pki import keyproof
from jota.pki.ca import CertificateAuthority, Subject, create_csr
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer
from jota.wire.message import Response

from . import test_attachdetach as attaching
from . import test_devicetainteviction as sick
from . import test_resourceclaim as claiming
from . import test_validatingadmissionpolicystatus as judging
from .builders import AUTHORITY, CA_PEM
from .runner import Runner, job
from .stories import Kubelet, exists, names, web
from .test_crash_at_every_step import Process
from .test_poddisruptionbudget import budget
from .test_storageversionmigrator import migration, read, state, stored, widgets
from .test_topologyhints import node

Object = dict[str, Any]
Rest = Callable[[float], Awaitable[None]]
"""Let seconds pass, twice; a process that died in the first is started again for the second."""
Story = Callable[[ApiServer, Rest], Awaitable[Any]]

TOKENS = TokenSigner(TokenSigner.create_key())
TOKENS_UNUSED = 60.0
"""Seconds; a year for everybody else."""
CLAIM_SPEC = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
PORTS = [{"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"}]
CONTAINERS = [{"name": "c", "image": "x", "ports": [{"name": "http", "containerPort": 8080}]}]


def named(name: str, **more: Any) -> Object:
    return {"name": name, "namespace": "ns", **more}


async def pod(api: ApiServer, name: str, meta: Object | None = None, **spec: Any) -> Object:
    body = {"metadata": named(name, **(meta or {})), "spec": {"containers": CONTAINERS, **spec}}
    made: Object = await api.client.create(PODS, body)
    return made


async def finalizers(api: ApiServer, resource: Any, namespace: str = "ns") -> list[Any]:
    items = (await api.client.list(resource, namespace))["items"]
    return [(i["metadata"]["name"], i["metadata"].get("finalizers")) for i in items]


# -- one story per controller


async def namespaces(api: ApiServer, rest: Rest) -> Any:
    for name in "ab":
        await api.client.create(CONFIGMAPS, {"metadata": named(name)})
        await pod(api, name)
    await api.client.delete(NAMESPACES, "ns")
    await rest(30)
    return await exists(api, NAMESPACES, "ns"), await names(api, CONFIGMAPS), await names(api, PODS)


async def garbage(api: ApiServer, rest: Rest) -> Any:
    """Orphans, a foreground delete, a circle, and a dependent that has another owner."""

    def owned(name: str, *owners: Object) -> Object:
        references = [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": o["metadata"]["name"], "uid": o["metadata"]["uid"]}
            for o in owners
        ]
        return {"metadata": named(name, ownerReferences=[{**r, "blockOwnerDeletion": True} for r in references])}

    made = {}
    for name in ("orphaning", "foreground", "background", "stays"):
        made[name] = await api.client.create(CONFIGMAPS, {"metadata": named(name)})
    for name in ("orphaning", "foreground", "background"):
        await api.client.create(CONFIGMAPS, owned(f"of-{name}", made[name]))
    await api.client.create(CONFIGMAPS, owned("of-two", made["background"], made["stays"]))
    one = await api.client.create(CONFIGMAPS, {"metadata": named("circle-a")})
    two = await api.client.create(CONFIGMAPS, owned("circle-b", one))
    await api.client.patch(CONFIGMAPS, "circle-a", "ns", owned("circle-a", two))
    await rest(2)
    for name in ("orphaning", "foreground", "background"):
        await api.client.delete(CONFIGMAPS, name, "ns", propagation=name.capitalize().replace("ing", ""))
    await api.client.delete(CONFIGMAPS, "circle-a", "ns", propagation="Foreground")
    await rest(60)
    left = (await api.client.list(CONFIGMAPS, "ns"))["items"]
    return {m["name"]: len(m.get("ownerReferences") or ()) for i in left for m in (i["metadata"],)}


async def parts(api: ApiServer, rest: Rest) -> Any:
    for n in range(3):
        await api.client.create(NODES, {"metadata": {"name": f"n{n}"}})
    await rest(5)
    given = [n["spec"].get("podCIDR") for n in (await api.client.list(NODES))["items"]]
    return len(set(given)), None in given


async def silence(api: ApiServer, rest: Rest) -> Any:
    await api.client.create(NODES, node("n1"))
    await api.client.create(NODES, node("n2"))
    await pod(api, "p", nodeName="n1")
    ready = {"type": "Ready", "status": "True"}
    await api.client.patch(
        PODS, "p", "ns", {"status": {"phase": "Running", "conditions": [ready]}}, subresource="status"
    )
    await rest(300)
    nodes = [await api.client.get(NODES, n) for n in ("n1", "n2")]
    found = await api.client.get(PODS, "p", "ns")
    return (
        [sorted((t["key"], t["effect"]) for t in n["spec"].get("taints", [])) for n in nodes],
        [{c["type"]: c["status"] for c in n["status"]["conditions"]}["Ready"] for n in nodes],
        {c["type"]: c["status"] for c in found["status"]["conditions"]},
    )


async def evictions(api: ApiServer, rest: Rest) -> Any:
    taint = {"key": "k", "effect": "NoExecute"}
    await api.client.create(NODES, {"metadata": {"name": "n1"}})
    await pod(api, "goes", nodeName="n1")
    await pod(api, "later", nodeName="n1", tolerations=[{**taint, "operator": "Exists", "tolerationSeconds": 50}])
    await pod(api, "stays", nodeName="n1", tolerations=[{"operator": "Exists"}])
    await rest(1)
    await api.client.patch(NODES, "n1", "", {"spec": {"taints": [taint]}})
    await rest(80)
    pods = (await api.client.list(PODS, "ns"))["items"]
    return {
        p["metadata"]["name"]: (
            "deletionTimestamp" in p["metadata"],
            [c["reason"] for c in p["status"].get("conditions", ()) if c["type"] == "DisruptionTarget"],
        )
        for p in pods
    }


async def lost_pods(api: ApiServer, rest: Rest) -> Any:
    for n in range(3):
        await pod(api, f"p{n}", {"finalizers": ["example.com/look"]}, nodeName="gone")
    await rest(120)
    found = (await api.client.list(PODS, "ns"))["items"]
    ends = [(p["status"]["phase"], [c["reason"] for c in p["status"]["conditions"]]) for p in found]
    for p in found:
        await api.client.patch(PODS, p["metadata"]["name"], "ns", {"metadata": {"finalizers": None}})
    await rest(60)
    return ends, await names(api, PODS)


async def signing(api: ApiServer, rest: Rest) -> Any:
    pem, _ = create_csr(Subject("system:node:n1", ("system:nodes",)))
    spec = {
        "request": base64.b64encode(pem).decode(),
        "signerName": CLIENT,
        "usages": ["client auth", "digital signature"],
    }
    asker = User("system:bootstrap:abc", groups=("system:bootstrappers", "system:authenticated"))
    await api.client_for(asker).create(CSRS, {"metadata": {"name": "csr"}, "spec": spec})
    await rest(5)
    status = (await api.client.get(CSRS, "csr"))["status"]
    signed = base64.b64decode(status["certificate"]).startswith(b"-----BEGIN CERTIFICATE-----")
    conditions = [c["type"] for c in status["conditions"]]
    await rest(7000)
    return signed, conditions, await exists(api, CSRS, "csr")


async def tokens(api: ApiServer, rest: Rest) -> Any:
    for name, end in (("old", "2001-01-01T00:00:00Z"), ("young", "2999-01-01T00:00:00Z")):
        data = {"token-id": base64.b64encode(b"abcdef").decode(), "expiration": base64.b64encode(end.encode()).decode()}
        body = {
            "metadata": {"name": f"bootstrap-token-{name}", "namespace": "kube-system"},
            "type": TOKEN_TYPE,
            "data": data,
        }
        await api.client.create(SECRETS, body)
    await rest(5)
    return await names(api, SECRETS, "kube-system")


async def old_events(api: ApiServer, rest: Rest) -> Any:
    about = {"kind": "Pod", "name": "p", "namespace": "ns"}
    for n in range(3):
        await api.client.create(
            EVENTS, {"metadata": named(f"e{n}"), "involvedObject": about, "reason": "Was", "type": "Normal"}
        )
    await rest(4500)
    return await names(api, EVENTS)


async def old_requests(api: ApiServer, rest: Rest) -> Any:
    proof = base64.b64encode(keyproof.make("ED25519")[1]).decode()
    spoken = ("podName", "podUID", "serviceAccountName", "serviceAccountUID", "nodeName", "nodeUID")
    spec = {**dict.fromkeys(spoken, "x"), "signerName": "a.b/c", "stubPKCS10Request": proof}

    async def ask(name: str) -> None:
        await api.client.create(POD_CERTIFICATE_REQUESTS, {"metadata": named(name), "spec": spec})

    for n in range(3):
        await ask(f"r{n}")
    await rest(400)  # half of it in each of two lives: not old enough yet
    young = await names(api, POD_CERTIFICATE_REQUESTS)
    await rest(400)
    await ask("late")
    return [young, await names(api, POD_CERTIFICATE_REQUESTS)]


async def accounts(api: ApiServer, rest: Rest) -> Any:
    await rest(2)
    await api.client.delete(SERVICEACCOUNTS, "default", "ns")
    await rest(2)
    return await names(api, SERVICEACCOUNTS)


async def kept_tokens(api: ApiServer, rest: Rest) -> Any:
    kind = "kubernetes.io/service-account-token"
    for name in ("a", "b"):
        meta = named(name, annotations={"kubernetes.io/service-account.name": name})
        await api.client.create(SERVICEACCOUNTS, {"metadata": named(name)})
        await api.client.create(SECRETS, {"metadata": meta, "type": kind})
    await rest(5)
    await api.client.delete(SERVICEACCOUNTS, "b", "ns")
    await rest(60)
    found = (await api.client.list(SECRETS, "ns"))["items"]
    return [(s["metadata"]["name"], sorted(s["data"])) for s in found if s["type"] == kind]


async def certificates(api: ApiServer, rest: Rest) -> Any:
    await rest(2)
    await api.client.patch(CONFIGMAPS, "kube-root-ca.crt", "ns", {"data": {"ca.crt": "forged"}})
    await rest(2)
    return (await api.client.get(CONFIGMAPS, "kube-root-ca.crt", "ns"))["data"]


async def trust(api: ApiServer, rest: Rest) -> Any:
    async def bundles() -> Any:
        found = (await api.client.list(CLUSTER_TRUST_BUNDLES))["items"]
        return [(b["metadata"]["name"], b["spec"]["trustBundle"]) for b in found]

    root = CertificateAuthority(CertificateAuthority.create("else", days=9, now=1_800_000_000.0))
    forged = {"trustBundle": root.certificate_pem.decode(), "signerName": SIGNER}
    await rest(2)
    for name in (SIGNER.replace("/", ":") + ":old", "theirs"):
        spec = forged if ":" in name else {"trustBundle": forged["trustBundle"]}
        await api.client.create(CLUSTER_TRUST_BUNDLES, {"metadata": {"name": name}, "spec": spec})
    await rest(2)
    before = await bundles()
    assert [pem == forged["trustBundle"] for _, pem in before] == [False, True]
    await api.client.patch(CLUSTER_TRUST_BUNDLES, before[0][0], "", {"spec": forged})
    await rest(2)
    assert await bundles() == before
    await api.client.delete(CLUSTER_TRUST_BUNDLES, before[0][0])
    await rest(2)
    assert await bundles() == before
    return [name.rpartition(":")[0] for name, _ in before]


async def aggregation(api: ApiServer, rest: Rest) -> Any:
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    whole = {"clusterRoleSelectors": [{"matchLabels": {"into": "all"}}]}
    await api.client.create(CLUSTER_ROLES, {"metadata": {"name": "all"}, "aggregationRule": whole})
    for name in "ab":
        body = {"metadata": {"name": name, "labels": {"into": "all"}}, "rules": [{**rule, "resources": [name]}]}
        await api.client.create(CLUSTER_ROLES, body)
    await rest(2)
    return [r["resources"] for r in (await api.client.get(CLUSTER_ROLES, "all"))["rules"]]


async def quota(api: ApiServer, rest: Rest) -> Any:
    await api.client.create(QUOTAS, {"metadata": named("q"), "spec": {"hard": {"pods": "5", "configmaps": "9"}}})
    await rest(3)
    await pod(api, "p")
    await api.client.create(CONFIGMAPS, {"metadata": named("c")})
    await rest(10)
    return (await api.client.get(QUOTAS, "q", "ns"))["status"]


async def migrating(api: ApiServer, rest: Rest) -> Any:
    await widgets(api, 3)
    await api.client.create(MIGRATIONS, migration())
    await rest(20)
    return stored(api), state(await read(api)).keys()


async def deployment(api: ApiServer, rest: Rest) -> Any:
    """Without pods: the sets of three revisions, of which one is beyond the history."""
    await api.client.create(DEPLOYMENTS, web(2, revisionHistoryLimit=1))
    for image in ("web:2", "web:3", "web:2"):
        await rest(3)
        patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]
        await api.client.patch(DEPLOYMENTS, "web", "ns", patch, "json")
    await rest(3)
    sets = (await api.client.list(REPLICASETS, "ns"))["items"]
    notes = [s["metadata"]["annotations"] for s in sets]
    status = (await api.client.get(DEPLOYMENTS, "web", "ns"))["status"]
    return sorted((s["metadata"]["name"], s["spec"]["replicas"]) for s in sets), notes, status.keys()


async def replicas(resource: Resource, api: ApiServer, rest: Rest) -> Any:
    """Adopt one, make one; release it, make another; shrink."""
    body = web(2)
    if resource is REPLICATIONCONTROLLERS:
        body["spec"]["selector"] = {"app": "web"}
    kubelet = Kubelet(api)
    await pod(api, "orphan", {"labels": {"app": "web"}})
    await api.client.create(resource, body)
    await rest(2)
    await kubelet.tick()
    await api.client.patch(PODS, "orphan", "ns", {"metadata": {"labels": {"app": "other"}}})
    await rest(2)
    await kubelet.tick()
    await api.client.patch(resource, "web", "ns", {"spec": {"replicas": 1}})
    await rest(5)
    await kubelet.tick()
    await rest(5)
    found = (await api.client.get(resource, "web", "ns"))["status"]
    orphan = await api.client.get(PODS, "orphan", "ns")
    return len(await names(api, PODS)), found, orphan["metadata"].get("ownerReferences")


async def stateful_set(api: ApiServer, rest: Rest) -> Any:
    kubelet = Kubelet(api)
    claims = [{"metadata": {"name": "data"}, "spec": CLAIM_SPEC}]
    await api.client.create(STATEFULSETS, web(2, volumeClaimTemplates=claims))
    for size in (2, 2, 1, 1):
        await rest(3)
        await kubelet.tick()
        await api.client.patch(STATEFULSETS, "web", "ns", {"spec": {"replicas": size}})
    await rest(3)
    status = (await api.client.get(STATEFULSETS, "web", "ns"))["status"]
    return await names(api, PODS), await names(api, PVCS), status


async def daemon_set(api: ApiServer, rest: Rest) -> Any:
    for n in range(2):
        await api.client.create(NODES, node(f"n{n}"))
    body = web()
    del body["spec"]["replicas"]
    await api.client.create(DAEMONSETS, body)
    await rest(3)
    await api.client.delete(NODES, "n1")
    await api.client.create(NODES, node("n2"))
    await rest(3)
    return (await api.client.get(DAEMONSETS, "web", "ns"))["status"], len(await names(api, PODS))


async def binding(api: ApiServer, rest: Rest) -> Any:
    spec = {"capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}
    await api.client.create(
        PVS, {"metadata": {"name": "v"}, "spec": {**spec, "persistentVolumeReclaimPolicy": "Retain"}}
    )
    await api.client.create(PVCS, {"metadata": named("c"), "spec": {**CLAIM_SPEC, "storageClassName": ""}})
    await rest(20)
    bound = (await api.client.get(PVCS, "c", "ns"))["status"]["phase"]
    await api.client.delete(PVCS, "c", "ns")
    await api.client.patch(PVCS, "c", "ns", {"metadata": {"finalizers": None}}) if await exists(
        api, PVCS, "c", "ns"
    ) else None
    await rest(20)
    return bound, (await api.client.get(PVS, "v"))["status"]["phase"]


async def ephemeral(api: ApiServer, rest: Rest) -> Any:
    volume = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": CLAIM_SPEC}}}
    await pod(api, "p", volumes=[volume, {**volume, "name": "more"}])
    await rest(3)
    claims = (await api.client.list(PVCS, "ns"))["items"]
    return [(c["metadata"]["name"], c["metadata"]["ownerReferences"][0]["name"]) for c in claims]


async def claim_protection(api: ApiServer, rest: Rest) -> Any:
    await api.client.create(PVCS, {"metadata": named("c"), "spec": CLAIM_SPEC})
    await pod(api, "p", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}], nodeName="n1")
    await rest(2)
    await api.client.delete(PVCS, "c", "ns")
    await rest(2)
    held = await finalizers(api, PVCS)
    await api.client.delete(PODS, "p", "ns", grace=0)
    await rest(5)
    return held, await names(api, PVCS)


async def volume_protection(api: ApiServer, rest: Rest) -> Any:
    spec = {"capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}
    await api.client.create(PVS, {"metadata": {"name": "v"}, "spec": spec})
    await api.client.patch(PVS, "v", "", {"status": {"phase": "Bound"}}, subresource="status")
    await rest(2)
    await api.client.delete(PVS, "v")
    await rest(2)
    held = await finalizers(api, PVS, "")
    await api.client.patch(PVS, "v", "", {"status": {"phase": "Released"}}, subresource="status")
    await rest(5)
    return held, await names(api, PVS, "")


async def budgets(api: ApiServer, rest: Rest) -> Any:
    await api.client.create(BUDGETS, budget(minAvailable=1))
    await rest(1)
    for name in "ab":
        await pod(api, name, {"labels": {"app": "web"}})
    await Kubelet(api).tick()
    await rest(1)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": named("a")}
    await api.client.create(PODS, eviction, "ns", subresource="eviction", name="a")
    await rest(1)
    status = (await api.client.get(BUDGETS, "web", "ns"))["status"]
    return {k: v for k, v in status.items() if k not in ("conditions", "disruptedPods")}


async def stale_disruptions(api: ApiServer, rest: Rest) -> Any:
    await pod(api, "a", {})
    since = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    since["lastTransitionTime"] = rfc3339(api.clock.now())
    await api.client.patch(PODS, "a", "ns", {"status": {"conditions": [since]}}, subresource="status")
    await rest(200)
    found = (await api.client.get(PODS, "a", "ns"))["status"]["conditions"]
    return [c["status"] for c in found if c["type"] == "DisruptionTarget"]


async def legacy_tokens(api: ApiServer, rest: Rest) -> Any:
    since = {**named(legacytoken.TRACKING), "namespace": "kube-system"}
    await api.client.create(CONFIGMAPS, {"metadata": since, "data": {legacytoken.SINCE: "2000-01-01"}})
    secrets = [{"name": "new"}, {"name": "marked"}]
    await api.client.create(SERVICEACCOUNTS, {"metadata": named("robot"), "secrets": secrets})
    for name, labels in (("new", {}), ("marked", {legacytoken.INVALID_SINCE: "2001-01-01"}), ("by-hand", {})):
        meta = named(name, annotations={"kubernetes.io/service-account.name": "robot"}, labels=labels)
        await api.client.create(SECRETS, {"metadata": meta, "type": "kubernetes.io/service-account-token"})
    await rest(2.5 * TOKENS_UNUSED)
    found = (await api.client.list(SECRETS, "ns"))["items"]
    return [(s["metadata"]["name"], sorted(s["metadata"].get("labels") or ())) for s in found]


async def autoscaling(api: ApiServer, rest: Rest) -> Any:
    await api.client.create(DEPLOYMENTS, web(9))
    status = {"status": {"replicas": 9, "selector": "app=web"}}
    await api.client.patch(DEPLOYMENTS, "web", "ns", status, subresource="status")
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 4}
    await api.client.create(AUTOSCALERS, {"metadata": named("web"), "spec": spec})
    await rest(25)
    await api.client.patch(AUTOSCALERS, "web", "ns", {"spec": {"minReplicas": 6, "maxReplicas": 8}})
    await rest(25)
    found = (await api.client.get(AUTOSCALERS, "web", "ns"))["status"]
    sizes = (await api.client.get(DEPLOYMENTS, "web", "ns"))["spec"]["replicas"], found["desiredReplicas"]
    return sizes, {c["type"]: (c["status"], c["reason"]) for c in found["conditions"]}


async def jobs(api: ApiServer, rest: Rest) -> Any:
    runner = Runner(api)
    await api.client.create(JOBS, job(completions=2, parallelism=1))
    for _ in range(6):
        await rest(3)
        await runner.tick()
    status = (await api.client.get(JOBS, "work", "ns"))["status"]
    return {k: status.get(k) for k in ("succeeded", "failed", "active")}, [c["type"] for c in status["conditions"]]


async def cron(api: ApiServer, rest: Rest) -> Any:
    spec = {"schedule": "*/1 * * * *", "concurrencyPolicy": "Replace", "jobTemplate": {"spec": job()["spec"]}}
    await api.client.create(CRONJOBS, {"metadata": named("tick"), "spec": spec})
    for _ in range(7):
        await rest(20)
    found = await api.client.get(CRONJOBS, "tick", "ns")
    return await names(api, JOBS), [a["name"] for a in found["status"]["active"]], found["status"]["lastScheduleTime"]


async def ttl(api: ApiServer, rest: Rest) -> Any:
    for name, seconds in (("soon", 5), ("later", 9000)):
        await api.client.create(JOBS, job(name, ttlSecondsAfterFinished=seconds))
        done = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "x"}
        start = {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:00Z"}
        met = {**done, "type": "SuccessCriteriaMet"}
        await api.client.patch(JOBS, name, "ns", {"status": {"conditions": [met, done], **start}}, subresource="status")
    await rest(100)
    found = (await api.client.list(JOBS, "ns"))["items"]  # whose deletion waits for the garbage collector, or not
    return {
        j["metadata"]["name"]: j["metadata"].get("finalizers") for j in found if "deletionTimestamp" in j["metadata"]
    }


async def slices(api: ApiServer, rest: Rest) -> Any:
    notes = {"service.kubernetes.io/topology-mode": "Auto"}
    for name, zone in (("a", "x"), ("b", "y")):
        await api.client.create(NODES, node(name, zone))
    await api.client.create(
        SERVICES, {"metadata": named("web", annotations=notes), "spec": {"selector": {"app": "web"}, "ports": PORTS}}
    )
    for name in ("a", "b"):
        await pod(api, name, {"labels": {"app": "web"}}, nodeName=name)
    await rest(2)
    await Kubelet(api).tick()
    await rest(2)
    await api.client.patch(NODES, "b", "", {"metadata": {"labels": {"topology.kubernetes.io/zone": "z"}}})
    await rest(2)
    found = (await api.client.list(ENDPOINTSLICES, "ns"))["items"]
    return [sorted((e["addresses"][0], e["zone"], str(e["hints"])) for e in s["endpoints"]) for s in found]


async def endpoints(api: ApiServer, rest: Rest) -> Any:
    for name in ("web", "gone"):
        await api.client.create(
            SERVICES, {"metadata": named(name), "spec": {"selector": {"app": "web"}, "ports": PORTS}}
        )
    await pod(api, "a", {"labels": {"app": "web"}})
    await rest(2)
    await Kubelet(api).tick()
    await rest(2)
    await api.client.delete(SERVICES, "gone", "ns")
    await rest(2)
    found = (await api.client.list(ENDPOINTS, "ns"))["items"]
    return [(e["metadata"]["name"], [a["ip"] for a in e["subsets"][0]["addresses"]]) for e in found]


async def mirrors(api: ApiServer, rest: Rest) -> Any:
    ports = [{"port": 80, "protocol": "TCP"}]
    await api.client.create(SERVICES, {"metadata": named("db"), "spec": {"ports": ports}})
    subset = {"addresses": [{"ip": "10.1.2.3"}, {"ip": "fd00::1"}], "ports": ports}
    await api.client.create(ENDPOINTS, {"metadata": named("db"), "subsets": [subset]})
    await rest(2)
    await api.client.patch(ENDPOINTS, "db", "ns", {"subsets": [{"addresses": [{"ip": "10.1.2.4"}], "ports": ports}]})
    await rest(2)
    found = (await api.client.list(ENDPOINTSLICES, "ns"))["items"]
    return [(s["addressType"], [e["addresses"] for e in s["endpoints"]]) for s in found]


async def claims(api: ApiServer, rest: Rest) -> Any:
    await api.client.create(TEMPLATES, {"metadata": named("t"), "spec": {"spec": claiming.REQUEST}})
    for name in ("p", "q"):
        await api.client.create(PODS, claiming.pod(name))
    await rest(5)
    made_for = [c["metadata"]["ownerReferences"][0]["name"] for c in (await api.client.list(CLAIMS, "ns"))["items"]]
    pods = (await api.client.list(PODS, "ns"))["items"]
    statuses = [len(p["status"]["resourceClaimStatuses"]) for p in pods]
    await api.client.patch(PODS, "p", "ns", {"status": {"phase": "Succeeded"}}, subresource="status")
    await rest(20)
    left = (await api.client.list(CLAIMS, "ns"))["items"]
    return made_for, statuses, [c["metadata"]["ownerReferences"][0]["name"] for c in left]


async def sick_devices(api: ApiServer, rest: Rest) -> Any:
    driver, pool, device = sick.DEVICE
    where = {"driver": driver, "pool": {"name": pool, "generation": 1, "resourceSliceCount": 1}, "nodeName": "n1"}
    made = await api.client.create(
        SLICES, {"metadata": {"name": "s"}, "spec": {**where, "devices": [{"name": device}]}}
    )
    for name in ("a", "b"):
        claim = await api.client.create(CLAIMS, {"metadata": named(name), "spec": sick.REQUEST})
        user = {"resource": "pods", "name": name, "uid": (await pod(api, name, nodeName="n1"))["metadata"]["uid"]}
        status = sick.allocated()["status"] | {"reservedFor": [user]}
        await api.client.update(CLAIMS, {**claim, "status": status}, subresource="status")
    await rest(2)
    taint = {"key": "sick", "value": "yes", "effect": "NoExecute"}
    made["spec"]["devices"][0]["taints"] = [taint]
    await api.client.update(SLICES, made)
    await rest(20)
    pods = (await api.client.list(PODS, "ns"))["items"]
    return ["deletionTimestamp" in p["metadata"] for p in pods]


async def attachments(api: ApiServer, rest: Rest) -> Any:
    for name in "ab":
        await api.client.create(NODES, {"metadata": {"name": name}})
        await attaching.node_status(api, name)
    await attaching.storage(api, "ReadWriteOnce")
    sidecar, ends = attaching.Sidecar(api), []
    for name in "ab":
        await attaching.pod(api, name, name)
        for _ in range(2):
            await sidecar.rest(5)
            await rest(20)
        ends.append([await attaching.attached_to(api), *[await attaching.reported(api, n) for n in "ab"]])
        await api.client.delete(PODS, name, "ns", grace=0)
    return ends


async def policies(api: ApiServer, rest: Rest) -> Any:
    rule = {"expression": "object.replicas > 1"}
    await api.client.create(POLICIES, judging.policy(rule, groups=["apps"], resources=["deployments"]))
    await rest(2)
    patch = {"spec": {"validations": [{"expression": "object.spec.replicas > 1"}]}}
    await api.client.patch(POLICIES, "p", "", patch)
    await rest(2)
    return (await api.client.get(POLICIES, "p"))["status"]


async def ranges(api: ApiServer, rest: Rest) -> Any:
    for name, cidrs in (("used", "10.1.0.0/24"), ("unused", "10.2.0.0/24")):
        await api.client.create(SERVICE_CIDRS, {"metadata": {"name": name}, "spec": {"cidrs": [cidrs]}})
    await rest(2)
    spec = {"clusterIP": "10.1.0.9", "ports": PORTS}
    await api.client.create(SERVICES, {"metadata": named("s"), "spec": spec})
    for name in ("used", "unused"):
        await api.client.delete(SERVICE_CIDRS, name)
    await rest(20)
    found = [await finalizers(api, SERVICE_CIDRS, "")]
    found += [c["status"]["conditions"][0]["message"] for c in (await api.client.list(SERVICE_CIDRS))["items"]]
    await api.client.delete(SERVICES, "s", "ns")
    await rest(20)
    return found, await finalizers(api, SERVICE_CIDRS, "")


async def addresses(api: ApiServer, rest: Rest) -> Any:
    """One is lost, one astray, one without labels, one left over."""
    spec = {"ports": PORTS}
    for n, name in enumerate(("lost", "astray", "bare"), 10):
        await api.client.create(SERVICES, {"metadata": named(name), "spec": {**spec, "clusterIP": f"10.96.0.{n}"}})
    await rest(2)
    await api.client.patch(IP_ADDRESSES, "10.96.0.12", "", {"metadata": {"labels": None}})
    for address in ("10.96.0.10", "10.96.0.11"):
        await api.client.delete(IP_ADDRESSES, address)
    for address, name in (("10.96.0.11", "nobody"), ("10.96.0.99", "nobody")):
        if not await exists(api, IP_ADDRESSES, address):
            await api.client.create(IP_ADDRESSES, of_service(address, "ns", name))
    await rest(80)
    return [
        (i["metadata"]["name"], i["metadata"].get("labels"), i["spec"])
        for i in (await api.client.list(IP_ADDRESSES))["items"]
    ]


STORIES: dict[Any, Story] = {
    ResourceClaimController: claims,
    DeviceTaintEvictionController: sick_devices,
    AttachDetachController: attachments,
    ValidatingAdmissionPolicyStatusController: policies,
    NamespaceController: namespaces,
    GarbageCollector: garbage,
    NodeIpamController: parts,
    NodeLifecycleController: silence,
    TaintEvictionController: evictions,
    PodGarbageCollector: lost_pods,
    CertificateController: signing,
    TokenCleaner: tokens,
    EventCleaner: old_events,
    PodCertificateRequestCleaner: old_requests,
    LegacyTokenCleaner: legacy_tokens,
    ServiceAccountController: accounts,
    ServiceAccountTokenController: kept_tokens,
    RootCAPublisher: certificates,
    TrustBundlePublisher: trust,
    ClusterRoleAggregationController: aggregation,
    ResourceQuotaController: quota,
    StorageVersionMigrator: migrating,
    DeploymentController: deployment,
    ReplicaSetController: partial(replicas, REPLICASETS),
    ReplicationControllerController: partial(replicas, REPLICATIONCONTROLLERS),
    StatefulSetController: stateful_set,
    DaemonSetController: daemon_set,
    VolumeBinder: binding,
    EphemeralVolumeController: ephemeral,
    ClaimProtectionController: claim_protection,
    VolumeProtectionController: volume_protection,
    PodDisruptionBudgetController: budgets,
    StalePodDisruptionController: stale_disruptions,
    HorizontalPodAutoscalerController: autoscaling,
    JobController: jobs,
    CronJobController: cron,
    JobTtlController: ttl,
    EndpointSliceController: slices,
    EndpointsController: endpoints,
    EndpointSliceMirroring: mirrors,
    ServiceCIDRController: ranges,
    IPAddressRepairController: addresses,
}


def test_every_controller_has_its_story() -> None:
    assert set(STORIES) == set(table.CONTROLLERS)


async def told(controller: Any, at: int, after: bool) -> tuple[Any, bool]:
    """(the end of the story, whether the process died on the way)."""
    config = ControllerConfig(
        ca_pem=CA_PEM,
        signer=AUTHORITY,
        token_signer=TOKENS,
        node_monitor_grace=40,
        legacy_token_unused=TOKENS_UNUSED,
    )
    async with ApiServer() as api:
        await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
        process = Process(api, at, after, (controller,), config)

        async def rest(seconds: float) -> None:
            await api.advance(seconds)
            await process.revive()
            await api.advance(seconds)  # also without a death: what hangs on the time of day must end the same

        try:
            await rest(0.5)
            end = await STORIES[controller](api, rest)
        finally:
            await process.end()
        return end, process.died


@pytest.mark.fault
@pytest.mark.parametrize("controller", STORIES, ids=lambda c: c.__name__)
def test_a_controller_killed_at_any_write_ends_the_same(controller: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: Any) -> Response:
        return Response(200, [], b"")

    monkeypatch.setattr(scrape, "hand_over", nothing)

    async def tell() -> None:
        wanted, _ = await told(controller, -1, False)
        for after in (False, True):
            for at in range(1, 100):
                end, died = await told(controller, at, after)
                assert end == wanted, f"died at write {at} ({'after' if after else 'before'} it)"
                if not died:
                    break
            assert at > 1, "the story makes it write"

    asyncio.run(tell())
