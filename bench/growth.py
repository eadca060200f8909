"""What it costs as it grows: deployments of 1,000 to 10,000 pods on 5,000 simulated nodes

For each size, in a namespace of its own: from the POST of the deployment until all pods are ready; a rolling update (25 % more
and 25 % less, the defaults) until all pods are of the new template and ready; the deletion of the namespace until it is gone.
At the largest size a tenth of the nodes falls silent: until the control plane has noticed (40 s without a heartbeat), the pods
(which tolerate an unreachable node for no time) are replaced and all are ready again. Then the largest deployment once more,
without and with a Service in front of it: the processor time of the server for each pod, until all are ready and in slices.

![seconds over the number of pods](growth.svg)
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.cluster import Cluster, Http, directory, jota, needs_root
from bench.figure import Figure
from bench.idle import seconds
from bench.plot import svg

NODES, SIZES = 5_000, (1_000, 2_500, 5_000, 10_000)
_PATIENCE = 400.0
_SERVED = "served"
"""The namespace with a Service."""
_PICTURE = Path(__file__).parent.parent / "docs" / "growth.svg"
_GRACE = 40.0
"""Seconds without a heartbeat after which a node counts as lost."""


def run() -> list[Figure]:
    needs_root("a cluster")
    times: dict[str, list[tuple[float, float]]] = {"deploy": [], "rolling update": [], "delete namespace": []}
    with directory() as made:
        made.up(0, "--hollow", str(NODES))
        with made.http() as api:
            for size in SIZES:
                place = f"grow{size}"
                times["deploy"].append((size, _deploy(api, place, size)))
                times["rolling update"].append((size, _roll(api, place, size)))
                if size == SIZES[-1]:
                    lost = _lose(made, api, place, size)
                times["delete namespace"].append((size, _delete(api, place)))
            plain, served = (_cost(made, api, place, size) for place in ("plain", _SERVED))
    _PICTURE.write_text(svg(times, "pods", "seconds"))
    figures = [
        Figure(name=f"{what}, {int(size):,} pods", value=took, unit="s")
        for what, points in times.items()
        for size, took in (points[0], points[-1])
    ]
    note = f"{lost:.1f} s in all, {_GRACE:.0f} s of them the silence that is allowed; 500 nodes, at most 10 a second and zone"
    return [
        *figures,
        Figure(name="a tenth of the nodes lost: noticed to all ready again", value=lost - _GRACE, unit="s", note=note),
        Figure(
            name=f"a Service in front of {size:,} pods: processor time of the server for each pod",
            value=1e6 * (served - plain) / size,
            unit="us",
            note=f"{1e6 * served / size:.0f} us with it, {1e6 * plain / size:.0f} us without",
        ),
    ]


def _deploy(api: Http, place: str, size: int) -> float:
    api.json("POST", "/api/v1/namespaces", {"metadata": {"name": place}})
    if place == _SERVED:
        spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
        api.json("POST", f"/api/v1/namespaces/{place}/services", {"metadata": {"name": "web"}, "spec": spec})
    begin = time.monotonic()
    api.json("POST", _path(place, ""), _deployment(size, "1"))
    _until(lambda: _status(api, place).get("readyReplicas", 0) >= size, "ready pods")
    return time.monotonic() - begin


def _cost(made: Cluster, api: Http, place: str, size: int) -> float:
    """Seconds of the server's processor time."""
    (server,) = (int(p["pid"]) for p in made.status()["processes"] if p["role"] == "server")
    before = seconds(server)
    _deploy(api, place, size)
    if place == _SERVED:
        _until(lambda: _endpoints(api, place) >= size, "endpoints")
    used = seconds(server) - before
    _delete(api, place)
    return used


def _endpoints(api: Http, place: str) -> int:
    """Ready ones. Asked for seldom: the question is dear."""
    time.sleep(0.5)
    found = json.loads(api.send("GET", f"/apis/discovery.k8s.io/v1/namespaces/{place}/endpointslices")[1])
    return sum(e["conditions"]["ready"] for one in found["items"] for e in one["endpoints"] or ())


def _roll(api: Http, place: str, size: int) -> float:
    begin = time.monotonic()
    found = api.json("GET", _path(place))
    found["spec"]["template"] = _deployment(size, "2")["spec"]["template"]
    generation = api.json("PUT", _path(place), found)["metadata"]["generation"]

    def rolled() -> bool:
        status = _status(api, place)
        counts = [status.get(k, 0) for k in ("updatedReplicas", "readyReplicas", "replicas")]
        return status.get("observedGeneration", 0) >= generation and counts == [size] * 3

    _until(rolled, "updated pods")
    return time.monotonic() - begin


def _lose(made: Cluster, api: Http, place: str, size: int) -> float:
    begin = time.monotonic()
    jota("hollow", "set", "lost=0.1", "--name", made.name)
    _until(lambda: _status(api, place).get("readyReplicas", 0) < size, "a lost pod")
    _until(lambda: _status(api, place).get("readyReplicas", 0) >= size, "replaced pods")
    took = time.monotonic() - begin
    jota("hollow", "set", "lost=0", "--name", made.name)
    return took


def _delete(api: Http, place: str) -> float:
    begin = time.monotonic()
    api.json("DELETE", f"/api/v1/namespaces/{place}")
    _until(lambda: api.send("GET", f"/api/v1/namespaces/{place}")[0] == 404, "the namespace's end")
    return time.monotonic() - begin


def _until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _PATIENCE
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {_PATIENCE:.0f} s")
        time.sleep(0.05)


def _path(place: str, name: str = "/web") -> str:
    return f"/apis/apps/v1/namespaces/{place}/deployments{name}"


def _status(api: Http, place: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(api.send("GET", _path(place))[1]).get("status", {})
    return found


def _deployment(size: int, version: str) -> dict[str, Any]:
    labels = {"app": "web"}
    container = {
        "name": "main",
        "image": f"registry.example.org/shop/web:{version}",
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
    }
    gone = [
        {"key": f"node.kubernetes.io/{state}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}
        for state in ("unreachable", "not-ready")
    ]
    spec = {"containers": [container], "tolerations": gone, "terminationGracePeriodSeconds": 1}
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": size, "selector": {"matchLabels": labels}, "template": template},
    }
