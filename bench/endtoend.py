"""End to end on simulated nodes: a deployment from 0 to 10,000 running pods on 5,000 nodes

`jota up --hollow 5000`: one process plays the nodes' agents over HTTPS (leases, statuses, pods that run at once), everything
else is the real thing. The clock runs from the POST of the deployment until its status says that all replicas are ready:
every pod was created, scheduled with all nodes looked at, bound, reported as running, and each of these writes was durable.
"""

from __future__ import annotations

import json
import time
from typing import Any

from bench.cluster import Http, directory, needs_root
from bench.figure import Figure

NODES, PODS = 5_000, 10_000
_PATIENCE = 180.0
_WHY = (
    "one Python process on one core handles, for every pod, three durable writes (create, bind, status), three events to "
    "a cache and a watcher, the placing and the set's counting, and 500 heartbeats a second beside them: 200 to 600 us in "
    "all, as fast or slow as the processor is, a third of it for status patches and heartbeats from TLS to the "
    "store. Several processes at the edge, and controllers in a process of their own, on a machine with more cores would "
    "mend it"
)
_PATH = "/apis/apps/v1/namespaces/default/deployments"


def run() -> list[Figure]:
    needs_root("a cluster")
    with directory() as made:
        begin = time.monotonic()
        made.up(0, "--hollow", str(NODES))
        nodes = time.monotonic() - begin
        with made.http() as api:
            pods = _deploy(api)
    return [
        Figure(
            name=f"jota up to {NODES:,} nodes Ready",
            value=nodes,
            unit="s",
            peer="KWOK, its project's best figure",
            peer_value=20,
            published=True,
        ),
        Figure(
            name=f"deployment from 0 to {PODS:,} pods ready",
            value=pods,
            unit="s",
            target=4,
            peer="KWOK, its project's best figure",
            peer_value=20,
            published=True,
            why=_WHY,
        ),
        Figure(
            name="pods from create to ready",
            value=PODS / pods,
            unit="pods/s",
            better="more",
            peer="best published average of one cluster, kubernetes-sigs/agent-sandbox",
            peer_value=865,
            published=True,
            why=_WHY,
        ),
    ]


def _deploy(api: Http) -> float:
    begin = time.monotonic()
    api.json("POST", _PATH, _deployment())
    while time.monotonic() - begin < _PATIENCE:
        status = api.json("GET", f"{_PATH}/bench").get("status", {})
        if status.get("readyReplicas", 0) >= PODS:
            return time.monotonic() - begin
        time.sleep(0.05)
    raise RuntimeError(f"not all pods ran within {_PATIENCE:.0f} s: {json.dumps(status)}")


def _deployment() -> dict[str, Any]:
    labels = {"app": "bench"}
    requests = {"cpu": "100m", "memory": "64Mi"}
    container = {"name": "main", "image": "registry.example.org/shop/web:1", "resources": {"requests": requests}}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": PODS, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bench"}, "spec": spec}
