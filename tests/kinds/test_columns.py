"""What kubectl get shows: object -> cells."""

from __future__ import annotations

from typing import Any

import pytest
from kinds_build import container, kind, pod, service, workload

from jota.aio.clock import parse_rfc3339
from jota.kinds.common import human_duration, selector_text, some

CREATED = "2026-01-01T00:00:00Z"
NOW = parse_rfc3339(CREATED) + 303


def cells(plural: str, obj: dict[str, Any]) -> dict[str, Any]:
    return {c.name: c.cell(obj, NOW) for c in kind(plural).columns}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (303, "5m3s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (11100, "3h5m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (50 * 3600, "2d2h"),
        (48 * 3600, "2d"),
        (9 * 86400 + 3600, "9d"),
        (729 * 86400, "729d"),
        (2 * 365 * 86400, "2y"),
        (3 * 365 * 86400 + 86400 * 7, "3y7d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_human_duration(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def waiting(reason: str) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason}}}


def ended(code: int, reason: str = "", **fields: Any) -> dict[str, Any]:
    return {"state": {"terminated": {"exitCode": code, "reason": reason, **fields}}}


RUNNING = {"ready": True, "state": {"running": {}}}
READY = {"type": "Ready", "status": "True"}


@pytest.mark.parametrize(
    ("status", "ready", "word"),
    [
        ({"phase": "Pending"}, "0/1", "Pending"),
        (
            {"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]},
            "0/1",
            "SchedulingGated",
        ),
        ({"phase": "Pending", "containerStatuses": [waiting("ContainerCreating")]}, "0/1", "ContainerCreating"),
        ({"phase": "Running", "containerStatuses": [RUNNING]}, "1/1", "Running"),
        ({"phase": "Running", "containerStatuses": [waiting("CrashLoopBackOff")]}, "0/1", "CrashLoopBackOff"),
        ({"phase": "Running", "containerStatuses": [ended(137, "OOMKilled")]}, "0/1", "OOMKilled"),
        ({"phase": "Failed", "containerStatuses": [ended(1, "Error")]}, "0/1", "Error"),
        ({"phase": "Failed", "containerStatuses": [ended(3)]}, "0/1", "ExitCode:3"),
        ({"phase": "Failed", "containerStatuses": [ended(0, signal=9)]}, "0/1", "Signal:9"),
        ({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]}, "0/1", "Completed"),
        ({"phase": "Failed", "reason": "Evicted"}, "0/1", "Evicted"),
        ({"phase": "Running", "containerStatuses": [ended(0, "Completed"), RUNNING]}, "1/1", "NotReady"),
        (
            {"phase": "Running", "containerStatuses": [ended(0, "Completed"), RUNNING], "conditions": [READY]},
            "1/1",
            "Running",
        ),
    ],
)
def test_pod_status(status: dict[str, Any], ready: str, word: str) -> None:
    shown = cells("pods", {**pod(), "status": status})
    assert (shown["Ready"], shown["Status"]) == (ready, word)


@pytest.mark.parametrize(
    ("statuses", "word"),
    [
        ([{"state": {"running": {}}}], "Init:0/2"),
        ([ended(0, "Completed"), {"state": {"running": {}}}], "Init:1/2"),
        ([waiting("PodInitializing")], "Init:0/2"),
        ([waiting("ImagePullBackOff")], "Init:ImagePullBackOff"),
        ([ended(1, "Error")], "Init:Error"),
        ([ended(2)], "Init:ExitCode:2"),
    ],
)
def test_pod_status_while_it_initialises(statuses: list[dict[str, Any]], word: str) -> None:
    obj = pod(initContainers=[container(name="a"), container(name="b")])
    obj["status"] = {
        "phase": "Pending",
        "initContainerStatuses": statuses,
        "containerStatuses": [waiting("PodInitializing")],
    }
    assert cells("pods", obj)["Status"] == word


def test_sidecars_count_as_containers() -> None:
    obj = pod(initContainers=[container(name="proxy", restartPolicy="Always")])
    obj["status"] = {
        "phase": "Running",
        "initContainerStatuses": [{"name": "proxy", "started": True, "restartCount": 2, **RUNNING}],
        "containerStatuses": [{"name": "c", "restartCount": 1, **RUNNING}],
    }
    shown = cells("pods", obj)
    assert (shown["Ready"], shown["Status"], shown["Restarts"]) == ("2/2", "Running", "3")


def test_pod_restarts_and_wide_columns() -> None:
    obj = pod(nodeName="n1", readinessGates=[{"conditionType": "a.b/c"}])
    obj["metadata"]["creationTimestamp"] = CREATED
    last = {"lastState": {"terminated": {"finishedAt": "2026-01-01T00:00:03Z"}}}
    obj["status"] = {
        "phase": "Running",
        "podIPs": [{"ip": "10.1.0.5"}],
        "containerStatuses": [{"restartCount": 3, **RUNNING, **last}],
        "conditions": [{"type": "a.b/c", "status": "True"}],
    }
    assert cells("pods", obj) == {
        "Name": "p",
        "Ready": "1/1",
        "Status": "Running",
        "Restarts": "3 (5m ago)",
        "Age": "5m3s",
        "IP": "10.1.0.5",
        "Node": "n1",
        "Nominated Node": "<none>",
        "Readiness Gates": "1/1",
    }
    assert [c.name for c in kind("pods").columns if c.priority == 1] == [
        "IP",
        "Node",
        "Nominated Node",
        "Readiness Gates",
    ]


@pytest.mark.parametrize(
    ("phase", "reason", "word"),
    [("Running", "", "Terminating"), ("Succeeded", "", "Succeeded"), ("Running", "NodeLost", "Unknown")],
)
def test_deleted_pods(phase: str, reason: str, word: str) -> None:
    obj = {**pod(), "status": {"phase": phase, "reason": reason}}
    obj["metadata"]["deletionTimestamp"] = CREATED
    assert cells("pods", obj)["Status"] == word


OBJECTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "services",
        service(
            clusterIP="10.96.0.1",
            ports=[{"port": 80}, {"port": 53, "protocol": "UDP", "nodePort": 30053}],
            selector={"b": "2", "a": "1"},
        ),
        {
            "Type": "ClusterIP",
            "Cluster-IP": "10.96.0.1",
            "External-IP": "<none>",
            "Port(s)": "80/TCP,53:30053/UDP",
            "Selector": "a=1,b=2",
        },
    ),
    ("services", service(type="LoadBalancer"), {"External-IP": "<pending>"}),
    (
        "services",
        {
            **service(type="LoadBalancer"),
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}, {"ip": "192.0.2.1"}]}},
        },
        {"External-IP": "192.0.2.1,192.0.2.2"},
    ),
    (
        "services",
        service(type="ExternalName", ports=[], externalName="db.example.com"),
        {"External-IP": "db.example.com", "Port(s)": "<none>"},
    ),
    (
        "deployments",
        {**workload(), "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}},
        {
            "Ready": "1/1",
            "Up-to-date": 2,
            "Available": 1,
            "Containers": "c",
            "Images": "nginx:1",
            "Selector": "app=web",
        },
    ),
    (
        "replicasets",
        {**workload("replicasets", replicas=3), "status": {"replicas": 2}},
        {"Desired": 3, "Current": 2, "Ready": 0},
    ),
    (
        "nodes",
        {
            "metadata": {"labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}},
            "spec": {"unschedulable": True},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            },
        },
        {
            "Status": "Ready,SchedulingDisabled",
            "Roles": "edge,worker",
            "Internal-IP": "10.0.0.1",
            "External-IP": "<none>",
            "OS-Image": "<unknown>",
        },
    ),
    ("nodes", {}, {"Status": "Unknown", "Roles": "<none>"}),
    (
        "events",
        {
            "involvedObject": {"kind": "Pod", "name": "p"},
            "firstTimestamp": CREATED,
            "lastTimestamp": "2026-01-01T00:05:00Z",
            "count": 4,
            "source": {"component": "kubelet", "host": "n1"},
            "message": "hello\n",
        },
        {
            "Last Seen": "3s",
            "First Seen": "5m3s",
            "Object": "pod/p",
            "Count": 4,
            "Source": "kubelet, n1",
            "Message": "hello",
        },
    ),
    (
        "events",
        {
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "series": {"count": 7, "lastObservedTime": "2026-01-01T00:05:02.000000Z"},
        },
        {"Last Seen": "1s", "First Seen": "5m3s", "Count": 7},
    ),
    (
        "endpoints",
        {"subsets": [{"addresses": [{"ip": f"10.0.0.{i}"} for i in range(1, 6)], "ports": [{"port": 80}]}]},
        {"Endpoints": "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more..."},
    ),
    ("endpointslices", {"addressType": "IPv4", "ports": [{}]}, {"Ports": "*", "Endpoints": "<unset>"}),
    (
        "jobs",
        {
            "spec": {"completions": 2},
            "status": {
                "succeeded": 2,
                "startTime": CREATED,
                "completionTime": "2026-01-01T00:00:07Z",
                "conditions": [{"type": "Complete", "status": "True"}],
            },
        },
        {"Status": "Complete", "Completions": "2/2", "Duration": "7s"},
    ),
    ("jobs", {"spec": {"parallelism": 3}}, {"Status": "Running", "Completions": "0/1 of 3", "Duration": ""}),
    (
        "cronjobs",
        {"spec": {"schedule": "@daily", "suspend": False}},
        {"Suspend": "False", "Timezone": "<none>", "Active": 0, "Last Schedule": "<none>"},
    ),
    (
        "persistentvolumeclaims",
        {
            "spec": {"volumeName": "pv1", "storageClassName": "fast"},
            "status": {
                "phase": "Bound",
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
            },
        },
        {
            "Status": "Bound",
            "Capacity": "1Gi",
            "Access Modes": "RWO,ROX",
            "StorageClass": "fast",
            "VolumeAttributesClass": "<unset>",
        },
    ),
    (
        "persistentvolumes",
        {"spec": {"claimRef": {"namespace": "a", "name": "b"}}, "metadata": {"deletionTimestamp": CREATED}},
        {"Claim": "a/b", "Status": "Terminating"},
    ),
    (
        "storageclasses",
        {"metadata": {"name": "std", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}},
        {"Name": "std (default)"},
    ),
    (
        "rolebindings",
        {
            "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "n", "name": "s"}, {"kind": "User", "name": "u"}],
        },
        {"Role": "Role/r", "Users": "u", "Groups": "", "ServiceAccounts": "n/s"},
    ),
    (
        "poddisruptionbudgets",
        {"spec": {"maxUnavailable": "30%"}},
        {"Min Available": "N/A", "Max Unavailable": "30%", "Allowed Disruptions": 0},
    ),
    (
        "resourcequotas",
        {"status": {"hard": {"pods": "5", "limits.cpu": "2"}, "used": {"pods": "1"}}},
        {"Request": "pods: 1/5", "Limit": "limits.cpu: 0/2"},
    ),
    (
        "certificatesigningrequests",
        {
            "status": {"conditions": [{"type": "Approved", "status": "True"}], "certificate": "eA=="},
            "spec": {"expirationSeconds": 3600},
        },
        {"Condition": "Approved,Issued", "RequestedDuration": "60m"},
    ),
    (
        "ingresses",
        {"spec": {"tls": [{}], "rules": [{"host": "a"}, {}]}},
        {"Class": "<none>", "Hosts": "a", "Ports": "80, 443"},
    ),
    (
        "controllerrevisions",
        {
            "metadata": {
                "ownerReferences": [{"controller": True, "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db"}]
            }
        },
        {"Controller": "statefulset.apps/db"},
    ),
    (
        "ipaddresses",
        {"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "kubernetes"}}},
        {"ParentRef": "services/default/kubernetes"},
    ),
    ("volumeattributesclasses", {"driverName": "a.b"}, {"DriverName": "a.b"}),
    ("clustertrustbundles", {"spec": {}}, {"SignerName": "<none>"}),
    (
        "storageversionmigrations",
        {"spec": {"resource": {"group": "a.b", "resource": "widgets"}}},
        {"Resource": "widgets.a.b"},
    ),
    ("resourceclaims", {"status": {"allocation": {}, "reservedFor": [{}]}}, {"State": "allocated,reserved"}),
]


@pytest.mark.parametrize(("plural", "obj", "wanted"), OBJECTS, ids=[f"{i}-{o[0]}" for i, o in enumerate(OBJECTS)])
def test_cells(plural: str, obj: dict[str, Any], wanted: dict[str, Any]) -> None:
    shown = cells(plural, obj)
    assert {name: shown[name] for name in wanted} == wanted


def test_horizontal_pod_autoscaler_targets() -> None:
    scaler: dict[str, Any] = {"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}}}
    kind("horizontalpodautoscalers").default(scaler)
    assert cells("horizontalpodautoscalers", scaler)["Targets"] == "cpu: <unknown>/80%"
    scaler["status"] = {
        "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12}}}]
    }
    assert cells("horizontalpodautoscalers", scaler)["Targets"] == "cpu: 12%/80%"


def test_selector_text() -> None:
    rules = [{"key": "c", "operator": "In", "values": ["y", "x"]}, {"key": "d", "operator": "DoesNotExist"}]
    assert selector_text({"matchLabels": {"a": "1"}, "matchExpressions": rules}) == "a=1,c in (x,y),!d"
    assert selector_text({}) == selector_text(None) == "<none>"


def test_some() -> None:
    assert some(["a", "b", "c"]) == "a,b,c"
    assert some(["a", "b", "c", "d"]) == "a,b,c + 1 more..."
    assert some([]) == "<none>"
