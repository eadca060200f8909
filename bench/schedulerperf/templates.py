"""The objects of upstream's scheduler_perf templates, by template name. Written from their behaviour.

Differences, each because of what our API server has and upstream's test server switches off: priorities come from a
PriorityClass (`objects()`), nodes state their allocatable and their hostname as a kubelet would.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
ZONE, HOSTNAME = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
NAMED_NODE = "scheduler-perf-node"
DRIVER = "ebs.csi.aws.com"
_IMAGE = "registry.k8s.io/pause:3.10"
_SMALL = {"cpu": "100m", "memory": "500Mi"}
_TEAM = {"matchLabels": {"team": "devops"}}


def high_priority() -> Object:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "high"},
        "value": 10,
        "globalDefault": False,
    }


# -- nodes


def node(name: str, labels: dict[str, str] | None = None, *, pods: str = "110", more: Object | None = None) -> Object:
    """`more`: further allocatable resources."""
    room = {"cpu": "4", "memory": "32Gi", "pods": pods, **(more or {})}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {HOSTNAME: name, **(labels or {})}},
        "spec": {},
        "status": {
            "capacity": room,
            "allocatable": room,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}],
        },
    }


def named_node() -> Object:
    return node(NAMED_NODE, pods="90000")


def tainted_node(name: str) -> Object:
    made = node(name)
    made["spec"]["taints"] = [{"key": "foo", "value": "bar", "effect": "NoSchedule"}]
    return made


def csi_node(name: str, uid: str, limit: int) -> Object:
    driver = {"name": DRIVER, "nodeID": name, "topologyKeys": [], "allocatable": {"count": limit}}
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {"drivers": [driver]},
    }


# -- pods


def _pod(
    labels: dict[str, str] | None = None, requests: Object | None = _SMALL, *, limits: bool = True, **spec: Any
) -> Object:
    container: Object = {"name": "pause", "image": _IMAGE}
    if requests is not None:
        container["ports"] = [{"containerPort": 80}]
        container["resources"] = {"requests": requests, **({"limits": requests} if limits else {})}
    made: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": labels or {}}}
    return made | {"spec": {"containers": [container], **spec}}


def _between(kind: str, form: str, color: str, key: str, where: Object) -> Object:
    """spec.affinity with one term about pods of the pod's own colour."""
    term = {"labelSelector": {"matchLabels": {"color": color}}, "topologyKey": key, **where}
    if form == "preferred":
        return {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]}}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def _related(kind: str, form: str, color: str, key: str, where: Object) -> Object:
    return _pod({"color": color}, affinity=_between(kind, form, color, key, where))


def _spreading(labels: dict[str, str], constraint: Object) -> Object:
    return _pod(labels, topologySpreadConstraints=[constraint | {"labelSelector": {"matchLabels": labels}}])


_BOTH = {"namespaces": ["sched-1", "sched-0"]}
_CHOSEN = {"namespaceSelector": _TEAM}
_BLUE = {"color": "blue"}
_ON_NODE = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [NAMED_NODE]}]}
_IN_ZONE = {"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["zone1", "zone2"]}]}
_GATED = [{"name": "scheduling-gate-1"}]


def _on(term: Object) -> Object:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


PODS: dict[str, Object] = {
    "pod-default": _pod(),
    "pod-with-label": _pod({"app": "scheduler-perf"}, None),
    "light-pod": _pod(None, None, terminationGracePeriodSeconds=0),
    "pod-low-priority": _pod(None, {"cpu": "900m", "memory": "500Mi"}, terminationGracePeriodSeconds=0),
    "pod-high-priority": _pod(None, {"cpu": "3", "memory": "500Mi"}, priorityClassName="high"),
    "pod-high-priority-large-cpu": _pod(None, {"cpu": "9", "memory": "500Mi"}, limits=False, priorityClassName="high"),
    "pod-with-node-affinity": _pod(affinity=_on(_IN_ZONE)),
    "daemonset-pod": _pod(None, None, affinity=_on(_ON_NODE)),
    "pod-with-pod-affinity": _related("podAffinity", "required", "blue", ZONE, _BOTH),
    "pod-with-pod-anti-affinity": _related("podAntiAffinity", "required", "green", HOSTNAME, _BOTH),
    "pod-with-pod-anti-affinity-label": _pod({"color": "green"}),
    "pod-with-preferred-pod-affinity": _related("podAffinity", "preferred", "red", HOSTNAME, _BOTH),
    "pod-with-preferred-pod-anti-affinity": _related("podAntiAffinity", "preferred", "yellow", HOSTNAME, _BOTH),
    "pod-affinity-ns-selector": _related("podAffinity", "required", "blue", ZONE, _CHOSEN),
    "pod-anti-affinity-ns-selector": _related("podAntiAffinity", "required", "green", HOSTNAME, _CHOSEN),
    "pod-preferred-affinity-ns-selector": _related("podAffinity", "preferred", "red", HOSTNAME, _CHOSEN),
    "pod-preferred-anti-affinity-ns-selector": _related("podAntiAffinity", "preferred", "yellow", HOSTNAME, _CHOSEN),
    "pod-with-topology-spreading": _spreading(
        _BLUE, {"maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"}
    ),
    "pod-with-preferred-topology-spreading": _spreading(
        _BLUE, {"maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": "ScheduleAnyway"}
    ),
    "pod-with-node-inclusion-policy": _spreading(
        {"foo": "bar"},
        {
            "maxSkew": 1,
            "topologyKey": HOSTNAME,
            "whenUnsatisfiable": "DoNotSchedule",
            "nodeAffinityPolicy": "Honor",
            "nodeTaintsPolicy": "Honor",
        },
    ),
    "gated-pod": _pod(None, None, schedulingGates=_GATED),
    "gated-pod-with-pod-affinity": _pod(
        {"app": "scheduler-perf"},
        None,
        schedulingGates=_GATED,
        affinity={
            "podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"labelSelector": {"matchLabels": {"app": "scheduler-perf"}}, "topologyKey": HOSTNAME}
                ]
            }
        },
    ),
    "pod-with-secret-volume": _pod(volumes=[{"name": "secret", "secret": {"secretName": "secret"}}]),
    "pod-with-extended-resource": _pod(None, {"example.com/gpu": "1"}),
}


def pod(template: str, name: str = "", claim: str = "") -> Object:
    """`name`: "" leaves it to the server, as upstream's templates do. `claim`: a PersistentVolumeClaim of its own."""
    base = PODS[template]
    spec = base["spec"]
    if claim:
        spec = {**spec, "volumes": [{"name": "vol", "persistentVolumeClaim": {"claimName": claim}}]}
    named = {"name": name} if name else {"generateName": f"{template}-"}
    return {**base, "metadata": {**base["metadata"], **named}, "spec": spec}


# -- volumes


def volume(name: str, namespace: str, form: str) -> Object:
    """`form`: csi or aws; bound to the claim of the same name, once its status is written (to create it does not count)."""
    source = (
        {"csi": {"driver": DRIVER, "volumeHandle": name}}
        if form == "csi"
        else {"awsElasticBlockStore": {"volumeID": name}}
    )
    spec = {
        "accessModes": ["ReadOnlyMany"],
        "capacity": {"storage": "1Gi"},
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"kind": "PersistentVolumeClaim", "namespace": namespace, "name": name, "apiVersion": "v1"},
        **source,
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": spec,
        "status": {"phase": "Bound"},
    }


def claim(name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/bind-completed": "true"}},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "resources": {"requests": {"storage": "1Gi"}},
            "volumeName": name,
            "storageClassName": "",
        },
        "status": {"phase": "Bound"},
    }


def service(name: str) -> Object:
    spec = {"selector": {"app": "scheduler-perf"}, "ports": [{"protocol": "TCP", "port": 80, "targetPort": 8000}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
