"""From `jota up` to a cluster that is of use

The six phases of minikube's own comparison (time-to-k8s), each counted from the start of the command: the command returns,
the API answers, the Service `kubernetes` is there, the DNS Service is there, an application runs (its image loaded inside the
measured time), and the cluster's DNS answers inside its pod. A new cluster each time, with certificates made anew.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from typing import Any

from bench.cluster import IMAGE, Cluster, directory, needs_root
from bench.figure import Figure, Skipped, median

RUNS = 5
PHASES = ("command returns (Ready)", "API answers", "Service", "DNS Service", "app running", "DNS answering")
_PUBLISHED = {"command returns (Ready)": 12.6, "DNS answering": 19.9}
"""Seconds; k3d, the fastest of the three that minikube's project compares (k3d, kind, minikube), v1.36."""
_TARGETS = {"command returns (Ready)": 1.5, "DNS answering": 3.0}
_WHY = (
    "the interpreter loads its modules twice, once for the server and once for the agent, and both share the machine's "
    "cores with whatever else runs there; fewer modules at start, or a snapshot of a loaded interpreter, would mend it"
)


def run() -> list[Figure]:
    needs_root("starting pods")
    if shutil.which("kubectl") is None:
        raise Skipped("no kubectl on this machine: install the package kubernetes-client")
    runs = [_once() for _ in range(RUNS)]
    return [_figure(name, median([r[name] for r in runs])) for name in PHASES]


def _figure(name: str, value: float) -> Figure:
    published = _PUBLISHED.get(name)
    return Figure(
        name=name,
        value=value,
        unit="s",
        target=_TARGETS.get(name),
        peer="k3d, by minikube's time-to-k8s" if published else "",
        peer_value=published,
        published=published is not None,
        why=_WHY,
    )


def _once() -> dict[str, float]:
    with directory() as cluster:
        begin = time.monotonic()
        at: dict[str, float] = {}
        cluster.up()
        at[PHASES[0]] = time.monotonic() - begin
        with cluster.http() as api:
            api.json("GET", "/api/v1/pods")
            at[PHASES[1]] = time.monotonic() - begin
            api.json("GET", "/api/v1/namespaces/default/services/kubernetes")
            at[PHASES[2]] = time.monotonic() - begin
            api.json("GET", "/api/v1/namespaces/kube-system/services/kube-dns")
            at[PHASES[3]] = time.monotonic() - begin
            cluster.load_image()
            api.json("POST", "/apis/apps/v1/namespaces/default/deployments", _deployment())
            pod = _running(api)
            at[PHASES[4]] = time.monotonic() - begin
        _resolve(cluster, pod)
        at[PHASES[5]] = time.monotonic() - begin
    return at


def _deployment() -> dict[str, Any]:
    labels = {"app": "bench"}
    container = {"name": "main", "image": IMAGE, "command": ["sleep", "3600"]}
    pod = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bench"}, "spec": spec}


def _running(api: Any) -> str:
    """The name of the first pod that runs."""
    for line in api.lines("/api/v1/namespaces/default/pods?watch=1&timeoutSeconds=60"):
        pod = json.loads(line)["object"]
        if pod.get("status", {}).get("phase") == "Running":
            return str(pod["metadata"]["name"])
    raise RuntimeError("the application did not run within a minute")


def _resolve(cluster: Cluster, pod: str) -> None:
    command = ["kubectl", "--kubeconfig", cluster.config, "exec", pod, "--"]
    for _ in range(100):
        asked = subprocess.run([*command, "nslookup", "kubernetes.default.svc.cluster.local"], capture_output=True)
        if asked.returncode == 0:
            return
        time.sleep(0.02)
    raise RuntimeError(f"the cluster's DNS did not answer: {asked.stdout!r} {asked.stderr!r}")
