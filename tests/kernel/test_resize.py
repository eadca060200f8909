"""In-place resize on a real node: the kernel's own numbers follow, nothing restarts, and the agent may die meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from jota.testing.host import IMAGE, HostCluster, until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(180)]
MI = 1 << 20


def amounts(cpu: str, memory: str) -> dict[str, Any]:
    """Guaranteed: asks for what it is limited to."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}


@pytest.fixture(scope="module")
def node(make_cluster: Callable[[str], HostCluster]) -> HostCluster:
    started = make_cluster("z")
    started.up()
    started.load_image()
    return started


def start(node: HostCluster, name: str, command: str = "sleep 3600") -> None:
    shell = ["sh", "-c", command]
    container = {"name": "c", "image": IMAGE, "command": shell, "resources": amounts("100m", "64Mi")}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    node.run("kubectl", "create", "-f", "-", input=json.dumps(pod))
    node.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=30s")


def resize(node: HostCluster, name: str, cpu: str, memory: str) -> None:
    patch = {"spec": {"containers": [{"name": "c", "resources": amounts(cpu, memory)}]}}
    node.kubectl("patch", "pod", name, "--subresource=resize", "-p", json.dumps(patch))


def kernel(node: HostCluster, name: str) -> tuple[int, int]:
    """(microseconds of cpu in 100 ms, bytes of memory) of the container, as it reads them itself."""
    read = "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/memory.max 2>/dev/null || " + (
        "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/memory/memory.limit_in_bytes"
    )
    first, second = node.kubectl("exec", name, "--", "sh", "-c", read).split("\n")[:2]
    return int(first.split()[0]), int(second)


def shown(node: HostCluster, name: str) -> tuple[Any, int, list[str]]:
    """(what the container has, its restarts, conditions of a resize)"""
    status = node.get("pod", name)["status"]
    (container,) = status["containerStatuses"]
    types = [c["type"] for c in status["conditions"] if c["type"].startswith("PodResize")]
    return container.get("resources"), container["restartCount"], types


def test_up_and_down_again_without_a_restart(node: HostCluster) -> None:
    start(node, "plain")
    assert kernel(node, "plain") == (10_000, 64 * MI)
    for cpu, memory, numbers in (("250m", "128Mi", (25_000, 128 * MI)), ("50m", "32Mi", (5_000, 32 * MI))):
        resize(node, "plain", cpu, memory)
        until(lambda: shown(node, "plain") == (amounts(cpu, memory), 0, []), 10, "the resize is done")  # noqa: B023
        assert kernel(node, "plain") == numbers


def test_memory_in_use_is_not_taken_away(node: HostCluster) -> None:
    start(node, "full", "mkdir /dev/shm/x; head -c 40000000 /dev/zero >/dev/shm/x/y; touch /tmp/ready; sleep 3600")
    until(
        lambda: node.run("kubectl", "exec", "full", "--", "ls", "/tmp/ready", check=False).returncode == 0,
        20,
        "it is full",
    )
    resize(node, "full", "100m", "16Mi")

    def refused() -> bool:
        conditions = {c["type"]: c for c in node.get("pod", "full")["status"]["conditions"]}
        found = conditions.get("PodResizeInProgress", {})
        return found.get("reason") == "Error" and "below current usage" in found.get("message", "")

    until(refused, 20, "the resize fails")
    assert kernel(node, "full")[1] == 64 * MI
    node.kubectl("exec", "full", "--", "rm", "/dev/shm/x/y")
    until(lambda: shown(node, "full") == (amounts("100m", "16Mi"), 0, []), 40, "there is room for it")
    assert kernel(node, "full")[1] == 16 * MI


def test_an_agent_that_is_killed_finishes_the_resize(node: HostCluster) -> None:
    start(node, "brave")
    resize(node, "brave", "200m", "96Mi")
    node.kill("agent")
    resize(node, "brave", "200m", "80Mi")
    node.up()
    until(lambda: shown(node, "brave") == (amounts("200m", "80Mi"), 0, []), 20, "the resize is done")
    assert kernel(node, "brave") == (20_000, 80 * MI)
