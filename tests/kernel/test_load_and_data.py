"""An application under real load is scaled up and down; the data of a stateful set outlives its pods, its agent, its node."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jota.aio.clock import parse_rfc3339
from jota.meta.quantity import milli
from jota.testing.host import IMAGE, HostCluster, until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(150)]

BURN = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo; echo done"
SERVE = f"mkdir -p /www/cgi-bin; echo '#!/bin/sh\n{BURN}' > /www/cgi-bin/burn; chmod +x /www/cgi-bin/burn; httpd -f -p 8080 -h /www"
ASK = "while :; do wget -q -O /dev/null http://web/cgi-bin/burn; done"


def pod(command: str, **container: Any) -> dict[str, Any]:
    made = {"name": "c", "image": IMAGE, "command": ["sh", "-c", command], **container}
    return {"terminationGracePeriodSeconds": 0, "containers": [made]}


def workload(kind: str, name: str, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": spec}
    body = {"selector": {"matchLabels": labels}, "template": template, **more}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": body}


def apply(cluster: HostCluster, *objects: dict[str, Any]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    cluster.kubectl("apply", "-f", "-", input=text)


def replicas(cluster: HostCluster) -> int:
    return int(cluster.get("deployment", "web")["spec"]["replicas"])


def test_an_application_under_load_is_scaled_up_and_down_again(cluster: HostCluster) -> None:
    """A web server that computes for each request; clients that ask as fast as they are answered."""
    resources = {"requests": {"cpu": "50m"}, "limits": {"cpu": "150m"}}
    service = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}
    target = {"type": "Utilization", "averageUtilization": 60}
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": 1,
        "maxReplicas": 3,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
    }
    apply(
        cluster,
        workload("Deployment", "web", pod(SERVE, resources=resources)),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": service},
    )
    cluster.kubectl("rollout", "status", "deploy/web", "--timeout=30s")
    apply(
        cluster,
        workload("Deployment", "clients", pod(ASK, resources={"limits": {"cpu": "100m"}}), replicas=2),
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web"},
            "spec": scaler,
        },
    )
    measured = until(lambda: busy_since(cluster), 30, "the metrics show that it is busy")
    assert until(lambda: used(cluster), 10, "kubectl top shows it too")
    until(lambda: replicas(cluster) > 1, 40, "the autoscaler has seen it")
    scaled = parse_rfc3339(until(lambda: cluster.get("hpa", "web")["status"].get("lastScaleTime"), 10))
    assert scaled - measured <= 15, "by the server's own times"
    event = next(e for e in cluster.get("events")["items"] if e["reason"] == "SuccessfulRescale")
    assert event["message"].endswith("reason: cpu resource utilization (percentage of request) above target")
    cluster.kubectl("rollout", "status", "deploy/web", "--timeout=30s")
    cluster.kubectl("delete", "deploy/clients", "--wait=false")
    until(lambda: replicas(cluster) == 1, 60, "without load one is enough")
    status = cluster.get("hpa", "web")["status"]
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    assert conditions["ScalingActive"] == "True"
    cluster.kubectl("delete", "deploy/web", "hpa/web", "service/web", "--wait=false")


def busy_since(cluster: HostCluster) -> float:
    """The time of a measurement above the target; 0 while there is none."""
    said = cluster.run("kubectl", "get", "--raw", "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods", check=False)
    for item in json.loads(said.stdout or "{}").get("items", []):
        cores = sum(milli(c["usage"]["cpu"]) for c in item["containers"])
        if item["metadata"]["name"].startswith("web-") and cores > 30:
            return parse_rfc3339(item["timestamp"])
    return 0.0


def used(cluster: HostCluster) -> list[int]:
    """Millicores of each pod of the application, as kubectl top shows them."""
    said = cluster.run("kubectl", "top", "pods", "-l", "app=web", "--no-headers", check=False).stdout
    return [int(line.split()[1].removesuffix("m")) for line in said.splitlines() if len(line.split()) == 3]


def test_data_and_identity_outlive_pods_agent_and_node(cluster: HostCluster) -> None:
    """Each start of the one pod adds a line to the file on its volume."""
    start = "echo $(hostname) >> /data/starts; exec sleep 9999"
    spec = pod(start, volumeMounts=[{"name": "data", "mountPath": "/data"}])
    size = {"resources": {"requests": {"storage": "1Gi"}}}
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], **size}}
    apply(cluster, workload("StatefulSet", "db", spec, serviceName="db", volumeClaimTemplates=[claim]))
    until(lambda: starts(cluster) == ["db-0"], 30, "the first start")
    volume = cluster.get("pvc", "data-db-0")["spec"]["volumeName"]
    first = container(cluster)

    cluster.kill("agent")
    cluster.up()
    until(lambda: starts(cluster) == ["db-0"], 20, "the agent's death is nothing to the container")
    assert container(cluster) == first

    cluster.kubectl("delete", "pod", "db-0")
    until(lambda: starts(cluster) == ["db-0"] * 2, 30, "a new pod of the same name")

    cluster.down()
    assert cluster.traces() == [], "the node is off: no process, no mount, no namespace"
    cluster.up()
    until(lambda: starts(cluster) == ["db-0"] * 3, 30, "the node is back")
    assert container(cluster) != first
    assert cluster.get("pvc", "data-db-0")["spec"]["volumeName"] == volume

    cluster.kubectl(
        "patch", "pvc", "data-db-0", "-p", json.dumps({"spec": {"resources": {"requests": {"storage": "3Gi"}}}})
    )
    until(lambda: cluster.get("pvc", "data-db-0")["status"]["capacity"]["storage"] == "3Gi", 20, "it has grown")
    cluster.kubectl("patch", "pv", volume, "-p", '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}')
    cluster.kubectl("delete", "statefulset/db")
    cluster.kubectl("delete", "pvc/data-db-0")
    until(lambda: cluster.get("pv", volume)["status"]["phase"] == "Released", 20, "what is retained stays")
    path = cluster.get("pv", volume)["spec"]["local"]["path"]
    with open(f"{path}/starts") as file:
        assert file.read().split() == ["db-0"] * 3
    cluster.kubectl("delete", "pv", volume)


def starts(cluster: HostCluster) -> list[str]:
    return cluster.run("kubectl", "exec", "db-0", "--", "cat", "/data/starts", check=False).stdout.split()


def container(cluster: HostCluster) -> str:
    return str(cluster.get("pod", "db-0")["status"]["containerStatuses"][0]["containerID"])
