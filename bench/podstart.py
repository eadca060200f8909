"""Pod start: from the POST of a pod to Running in the API, beside containerd's CRI

Ours is the whole way: the API stores the pod, the scheduler binds it, the agent makes namespaces, link, volumes (service
account token) and container, and writes the status that a watcher sees. The peer is the last part alone: RunPodSandbox,
CreateContainer and StartContainer on an idle containerd, with the host's network (no CNI plugin, no veth, no token).
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import containerd
from bench.cluster import IMAGE, Http, cluster, needs_root
from bench.figure import Figure, Skipped, median, percentile

PODS, PARALLEL = 25, 8
_PATH = "/api/v1/namespaces/default/pods"
_WHY = (
    "the low-level runtime takes most of it; on a busy machine every step waits for a core. An idle pool of prepared "
    "network namespaces would take its part off the way"
)


def run() -> list[Figure]:
    needs_root("starting pods")
    times, rate = _ours()
    peer_times, peer_rate, missing = _peer()
    peer = "containerd CRI" if peer_times else missing
    return [
        Figure(
            name="create to Running, one at a time, p50",
            value=1000 * median(times),
            unit="ms",
            target=150,
            peer=peer,
            peer_value=1000 * median(peer_times) if peer_times else None,
            why=_WHY,
        ),
        Figure(
            name="create to Running, one at a time, p99",
            value=1000 * percentile(times, 99),
            unit="ms",
            peer="containerd CRI" if peer_times else "",
            peer_value=1000 * percentile(peer_times, 99) if peer_times else None,
        ),
        Figure(
            name=f"{PODS} pods at once",
            value=rate,
            unit="pods/s",
            better="more",
            peer=f"containerd CRI, {PARALLEL} at once" if peer_rate else "",
            peer_value=peer_rate,
        ),
    ]


def _ours() -> tuple[list[float], float]:
    with cluster() as made:
        made.load_image()
        with made.http() as api, made.http() as watching:
            revision = api.json("GET", _PATH)["metadata"]["resourceVersion"]
            phases = _phases(watching, revision)
            times = []
            for n in range(PODS + 1):
                begin = time.perf_counter()
                api.json("POST", _PATH, _pod(f"single-{n}"))
                _until_running(phases, {f"single-{n}"})
                times.append(time.perf_counter() - begin)
                api.json("DELETE", f"{_PATH}/single-{n}")
                time.sleep(0.1)
            names = {f"many-{n}" for n in range(PODS)}
            begin = time.perf_counter()
            for name in sorted(names):
                api.json("POST", _PATH, _pod(name))
            _until_running(phases, names)
            return times[1:], PODS / (time.perf_counter() - begin)


def _phases(api: Http, revision: str) -> Any:
    for line in api.lines(f"{_PATH}?watch=1&resourceVersion={revision}"):
        event = json.loads(line)
        pod = event["object"]
        yield pod["metadata"]["name"], pod.get("status", {}).get("phase")


def _until_running(phases: Any, names: set[str]) -> None:
    missing = set(names)
    for name, phase in phases:
        if phase == "Running":
            missing.discard(name)
            if not missing:
                return
    raise RuntimeError(f"pods that never ran: {sorted(missing)}")


def _pod(name: str) -> dict[str, Any]:
    container = {"name": "main", "image": IMAGE, "command": ["sleep", "3600"]}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def _peer() -> tuple[list[float], float | None, str]:
    try:
        with tempfile.TemporaryDirectory(prefix="jota-bench-") as place, containerd.running(Path(place)) as cri:
            times, rate = containerd.measure(cri, PODS, PARALLEL)
            return times, rate, ""
    except Skipped as skipped:
        return [], None, f"not measured: {skipped}"
