"""The peer of the node: containerd's CRI plugin, driven as the kubelet does: RunPodSandbox, CreateContainer, StartContainer.

containerd runs with a configuration, root and socket of its own in a temporary directory; its images (pause and application)
are built from busybox. Field numbers are those of CRI v1 (cri-api's api.proto).
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import peers, protobuf
from bench.figure import Skipped

IMAGE, PAUSE = "bench.jota/busybox:1", "bench.jota/pause:1"
_NODE = 2
"""NamespaceMode NODE: the host's network, because the distribution brings no CNI plugins."""
_CONFIG = """\
version = 2
root = "{place}/root"
state = "{place}/state"
[grpc]
  address = "{place}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{place}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


class Cri:
    """One containerd's runtime service."""

    def __init__(self, address: str, logs: Path) -> None:
        import grpc

        self._channel = grpc.insecure_channel(f"unix://{address}")
        self._logs = logs
        self._cgroup = f"jota-bench-{os.getpid()}"

    def call(self, method: str, message: protobuf.Message) -> dict[int, list[Any]]:
        """Raises grpc.RpcError."""
        rpc = self._channel.unary_unary(f"/runtime.v1.RuntimeService/{method}")
        return protobuf.decode(rpc(protobuf.encode(message), timeout=30))

    def start(self, name: str) -> tuple[str, float]:
        """(sandbox id, seconds until its container was started)."""
        network = {1: {1: _NODE}}
        sandbox = {1: {1: name, 2: name, 3: "default"}, 3: str(self._logs), 8: {1: f"/{self._cgroup}", 2: network}}
        container = {
            1: {1: "main"},
            2: {1: IMAGE},
            3: ["sleep", "3600"],
            11: f"{name}.log",
            15: {2: {3: {1: _NODE}}},
        }
        begin = time.perf_counter()
        pod = self.call("RunPodSandbox", {1: sandbox})[1][0]
        made = self.call("CreateContainer", {1: pod, 2: container, 3: sandbox})[1][0]
        self.call("StartContainer", {1: made})
        return pod.decode(), time.perf_counter() - begin

    def remove(self, pod: str) -> None:
        self.call("StopPodSandbox", {1: pod})
        self.call("RemovePodSandbox", {1: pod})

    def close(self) -> None:
        """Also removes the cgroups that held the pods' own."""
        self._channel.close()
        for group in Path("/sys/fs/cgroup").glob(f"**/{self._cgroup}"):
            for directory in sorted((d for d in group.rglob("*") if d.is_dir()), reverse=True):
                directory.rmdir()
            group.rmdir()


@contextmanager
def running(place: Path) -> Iterator[Cri]:
    """A containerd with both images. Raises Skipped."""
    try:
        import grpc  # noqa: F401
    except ImportError:
        raise Skipped("no grpcio in this environment: pip install grpcio") from None
    program, ctr = peers.command("containerd", "containerd"), peers.command("ctr", "containerd")
    peers.command("runc", "runc")
    config, log, address = place / "containerd.toml", place / "containerd.log", f"{place}/containerd.sock"
    config.write_text(_CONFIG.format(place=place, pause=PAUSE))
    with peers.running([program, "--config", str(config)], log) as process:
        cri = Cri(address, place)
        peers.until_answers(lambda: cri.call("Version", {}), process, program, log)
        _import(ctr, address, place)
        try:
            yield cri
        finally:
            cri.close()


def _import(ctr: str, address: str, place: Path) -> None:
    from jota.testing.images import busybox_layer, image_archive

    for name, command in ((PAUSE, ["sleep", "1000000"]), (IMAGE, ["sh"])):
        archive = str(place / "image.tar")
        image_archive(archive, name, [busybox_layer()], {"Env": ["PATH=/bin"], "Cmd": command})
        words = [ctr, "--address", address, "--namespace", "k8s.io", "images", "import", archive]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise Skipped(f"containerd does not take the image: {done.stderr.strip()}")


def measure(cri: Cri, pods: int, parallel: int) -> tuple[list[float], float]:
    """(seconds of each start one after the other, pods/s with `parallel` starts at once). Raises Skipped."""
    import grpc

    try:
        cri.remove(cri.start("warm")[0])
    except grpc.RpcError as error:
        raise Skipped(f"containerd's CRI cannot start a pod here: {error.details()}") from error
    times = []
    for n in range(pods):
        pod, took = cri.start(f"single-{n}")
        times.append(took)
        cri.remove(pod)
    with ThreadPoolExecutor(parallel) as threads:
        begin = time.perf_counter()
        started = list(threads.map(lambda n: cri.start(f"many-{n}")[0], range(pods)))
        rate = pods / (time.perf_counter() - begin)
        list(threads.map(cri.remove, started))
    return times, rate
