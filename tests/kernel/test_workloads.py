"""Workloads on a real cluster of two nodes: jobs end, daemons are everywhere, data outlives its pods, use can be seen."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jota.net import sys
from jota.testing.host import HostCluster

pytestmark = pytest.mark.kernel
IMAGE = "jota.test/busybox:1"


@pytest.fixture(scope="module")
def pair(make_cluster: Callable[[str], HostCluster]) -> HostCluster:
    started = make_cluster("w")
    started.up("--nodes", "2")
    started.load_image()
    return started


def pod(command: str, **more: Any) -> dict[str, Any]:
    container = {"name": "c", "image": IMAGE, "command": ["sh", "-c", command], **more}
    return {"terminationGracePeriodSeconds": 0, "containers": [container]}


def apply(cluster: HostCluster, tmp_path: Path, group: str, kind: str, name: str, spec: dict[str, Any]) -> None:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps({"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec}))
    cluster.kubectl("apply", "-f", str(path))


def until(cluster: HostCluster, wanted: Callable[[str], bool], *command: str, seconds: float = 60) -> str:
    """What a kubectl command says as soon as it says what is wanted."""
    end = time.monotonic() + seconds
    while True:
        said = cluster.run("kubectl", *command, check=False).stdout
        if wanted(said):
            return said
        assert time.monotonic() < end, f"kubectl {' '.join(command)}: {said}"
        time.sleep(0.3)


def test_every_node_shows_its_own_agent(pair: HostCluster) -> None:
    names = [n["metadata"]["name"] for n in pair.get("nodes")["items"]]
    told = until(pair, lambda said: said.count("1/1") == 2, "get", "pods", "-n", "kube-system", "--no-headers")
    assert sorted(line.split()[0] for line in told.splitlines()) == sorted(f"jota-agent-{n}" for n in names)
    for node in names:
        assert f"node {node} is ready" in pair.kubectl("logs", "-n", "kube-system", f"jota-agent-{node}")


def test_an_indexed_job_completes(pair: HostCluster, tmp_path: Path) -> None:
    template = {"spec": {**pod("echo index $JOB_COMPLETION_INDEX"), "restartPolicy": "Never"}}
    spec = {"completions": 3, "parallelism": 2, "completionMode": "Indexed", "template": template}
    apply(pair, tmp_path, "batch/v1", "Job", "three", spec)
    pair.kubectl("wait", "--for=condition=Complete", "job/three", "--timeout=60s")
    logs = pair.kubectl("logs", "-l", "batch.kubernetes.io/job-name=three")
    assert sorted(logs.split("\n")[:3]) == ["index 0", "index 1", "index 2"]


def test_a_cron_job_fires(pair: HostCluster, tmp_path: Path) -> None:
    template = {"spec": {"template": {"spec": {**pod("date"), "restartPolicy": "Never"}}}}
    apply(pair, tmp_path, "batch/v1", "CronJob", "tick", {"schedule": "@every 2s", "jobTemplate": template})
    until(pair, lambda said: said.count("Complete") >= 2, "get", "jobs", "--no-headers")
    pair.kubectl("delete", "cronjob", "tick")


def test_a_daemon_runs_on_every_node_and_its_use_shows(pair: HostCluster, tmp_path: Path) -> None:
    busy = pod("while :; do :; done", resources={"limits": {"cpu": "100m", "memory": "32Mi"}})
    template = {"metadata": {"labels": {"app": "every"}}, "spec": busy}
    apply(
        pair,
        tmp_path,
        "apps/v1",
        "DaemonSet",
        "every",
        {"selector": {"matchLabels": {"app": "every"}}, "template": template},
    )
    pair.kubectl("rollout", "status", "daemonset/every", "--timeout=60s")
    where = pair.kubectl("get", "pods", "-l", "app=every", "-o", "jsonpath={.items[*].spec.nodeName}")
    assert len(set(where.split())) == 2
    nodes = until(pair, lambda said: said.count("Mi") == 2, "top", "nodes", "--no-headers")
    assert "unknown" not in nodes
    pods = until(pair, lambda said: said.count("every-") == 2, "top", "pods", "-l", "app=every", "--no-headers")
    assert all(int(line.split()[1].removesuffix("m")) > 20 for line in pods.splitlines())
    pair.kubectl("delete", "daemonset", "every")


def test_data_outlives_the_pods_of_a_stateful_set(pair: HostCluster, tmp_path: Path) -> None:
    mounts = [{"name": "data", "mountPath": "/data"}]
    template = {
        "metadata": {"labels": {"app": "db"}},
        "spec": pod("echo start >> /data/log; sleep 9999", volumeMounts=mounts),
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    spec = {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "db"}},
        "template": template,
        "volumeClaimTemplates": [claim],
    }
    apply(pair, tmp_path, "apps/v1", "StatefulSet", "db", spec)
    pair.kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
    pair.kubectl("delete", "pod", "db-0", "db-1")
    until(pair, lambda said: said == "start\nstart\n", "exec", "db-0", "--", "cat", "/data/log")
    pair.kubectl("delete", "statefulset", "db")
    pair.kubectl("delete", "pvc", "data-db-0", "data-db-1")
    until(pair, lambda said: not said, "get", "pv", "--no-headers")


def test_services_of_an_added_range_answer_on_every_node_and_hold_it(pair: HostCluster, tmp_path: Path) -> None:
    third = os.getpid() % 250  # other users of this host may try the same
    used, unused = f"198.18.{third}.9", f"198.18.{third}.10"
    apply(pair, tmp_path, "networking.k8s.io/v1", "ServiceCIDR", "more", {"cidrs": [f"198.18.{third}.0/24"]})
    labels = {"app": "here"}
    serve = "mkdir -p /tmp/w; hostname > /tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w"
    template = {"metadata": {"labels": labels}, "spec": pod(serve)}
    apply(pair, tmp_path, "apps/v1", "DaemonSet", "here", {"selector": {"matchLabels": labels}, "template": template})
    host = {**pod("sleep 9999"), "hostNetwork": True}
    template = {"metadata": {"labels": {"app": "node"}}, "spec": host}
    apply(
        pair,
        tmp_path,
        "apps/v1",
        "DaemonSet",
        "node",
        {"selector": {"matchLabels": {"app": "node"}}, "template": template},
    )
    ports = [{"port": 80, "targetPort": 8080}]
    apply(pair, tmp_path, "v1", "Service", "fixed", {"clusterIP": used, "selector": labels, "ports": ports})
    for name in ("here", "node"):
        pair.kubectl("rollout", "status", f"daemonset/{name}", "--timeout=60s")
    pods = pair.get("pods")["items"]
    servers = {p["metadata"]["name"] for p in pods if p["metadata"].get("labels", {}).get("app") == "here"}
    clients = [p for p in pods if p["metadata"].get("labels", {}).get("app") in ("here", "node")]
    assert len({p["spec"]["nodeName"] for p in clients}) == 2
    for client in clients:
        name = client["metadata"]["name"]
        ask = ("exec", name, "--", "sh", "-c")
        said = until(pair, bool, *ask, f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {used} 80 | tail -1")
        assert said.strip() in servers
        assert "refused" in pair.refused(*ask, f"nc -w 3 {unused} 80 < /dev/null"), name
    with socket.create_connection((used, 80), timeout=5) as straight:  # the host, by way of a node
        straight.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert straight.recv(1000).startswith(b"HTTP/1.")
    table = pair.kubectl("get", "svc,ipaddress,servicecidr")
    assert [words for line in table.splitlines() if (words := line.split()) and used in words[0]] == [
        [f"ipaddress.networking.k8s.io/{used}", "services/default/fixed"]
    ]
    assert "servicecidr.networking.k8s.io/more" in table

    pair.kubectl("delete", "servicecidr", "more", "--wait=false")
    reason = "jsonpath={.status.conditions[0].reason}"
    until(pair, lambda said: said == "Terminating", "get", "servicecidr", "more", "-o", reason)
    pair.kubectl("delete", "service/fixed", "daemonset/here", "daemonset/node")
    until(pair, lambda said: "more" not in said, "get", "servicecidr", "-o", "name")
    with sys.Netlink() as door:
        assert not [r for r in door.routes() if r.destination.startswith(f"198.18.{third}.")]
