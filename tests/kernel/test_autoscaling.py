"""Real nodes of this host: the local autoscaler adds them because pods are pending and removes them when they are idle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest

from jota.testing.host import IMAGE, HostCluster, until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]
OPTIONS = (
    "scanInterval=500ms",
    "scaleDownUnneededTime=1s",
    "scaleDownDelayAfterAdd=2s",
    "scaleDownUtilizationThreshold=0.6",
)


def deployment(replicas: int, cpu: str) -> str:
    labels = {"app": "web"}
    container = {"name": "c", "image": IMAGE, "command": ["sleep", "9999"], "resources": {"requests": {"cpu": cpu}}}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    template = {"metadata": {"labels": labels}, "spec": spec}
    body = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": body})


def nodes(cluster: HostCluster) -> list[str]:
    return sorted(n["metadata"]["name"] for n in cluster.get("nodes")["items"])


def running(cluster: HostCluster) -> set[str]:
    """The nodes of the pods that run."""
    return {p["spec"]["nodeName"] for p in cluster.get("pods")["items"] if p["status"]["phase"] == "Running"}


def test_nodes_are_added_for_pending_pods_and_removed_when_idle(make_cluster: Callable[[str], HostCluster]) -> None:
    """From none to two and back to none, though the autoscaler and the agents are killed on the way."""
    cluster = make_cluster("l")
    cluster.up(*(word for setting in ("local:0..2", *OPTIONS) for word in ("--autoscale", setting)))
    cluster.load_image()
    assert nodes(cluster) == []
    first, second = f"{cluster.name}-1", f"{cluster.name}-2"
    cluster.kubectl("apply", "-f", "-", input=deployment(2, f"{(os.cpu_count() or 1) * 550}m"))
    until(lambda: running(cluster) == {first, second}, 40, "both pods run, on two nodes")
    events = [e for e in cluster.get("events")["items"] if e["source"].get("component") == "cluster-autoscaler"]
    told = {e["reason"]: e["message"] for e in events}
    assert told["TriggeredScaleUp"] == "pod triggered scale-up: [{local 0->2 (max: 2)}]"

    cluster.kill("autoscaler", "agent")
    cluster.jota("autoscale", "set", "local:0..3", *OPTIONS, "--name", cluster.name)
    until(lambda: "maxSize: 3" in _status(cluster), 20, "bounds change live")
    until(lambda: len(cluster.pids("agent")) == 2, 20, "agents that have died are started again")

    cluster.kubectl("scale", "deployment/web", "--replicas=0")
    until(lambda: len(nodes(cluster)) <= 1, 40, "one node is removed")
    cluster.kill("autoscaler")
    cluster.up()
    until(lambda: nodes(cluster) == [], 40, "the other one too, whatever was half done")
    until(lambda: not cluster.pids("agent", "supervisor"), 20, "nothing of them runs")
    assert not [t for t in cluster.traces() if t.startswith(("mount", "namespace", "cgroup", "route"))]
    cluster.jota("autoscale", "off", "--name", cluster.name)
    assert cluster.pids("autoscaler") == []
    assert cluster.jota("autoscale", "show", "--name", cluster.name).stdout == "off\n"


def _status(cluster: HostCluster) -> str:
    return str(cluster.get("configmap", "-n", "kube-system", "cluster-autoscaler-status")["data"]["status"])
