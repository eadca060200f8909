"""The node agent's own pod on a real node: seen, read, deleted, drained around, restarted, and gone with its node."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from jota.testing.host import IMAGE, HostCluster, until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(180)]
SYSTEM = ("-n", "kube-system")


@pytest.fixture(scope="module")
def node(make_cluster: Callable[[str], HostCluster]) -> HostCluster:
    started = make_cluster("m")
    started.up()
    started.load_image()
    return started


def name(cluster: HostCluster) -> str:
    return f"jota-agent-{cluster.status()['nodes'][0]['name']}"


def shown(cluster: HostCluster) -> dict[str, Any]:
    """The pod, once it runs."""

    def running() -> Any:
        found = cluster.get("pods", *SYSTEM)["items"]
        return [p for p in found if p["status"].get("phase") == "Running" and "deletionTimestamp" not in p["metadata"]]

    (only,) = until(running, 10, "the agent's pod runs")
    return only  # type: ignore[no-any-return]


def test_a_fresh_cluster_has_one_pod(node: HostCluster) -> None:
    pod = shown(node)
    rows = node.kubectl("get", "pods", "-A", "--no-headers").splitlines()
    assert [row.split()[:4] for row in rows] == [["kube-system", name(node), "1/1", "Running"]]
    (agent,) = node.pids("agent")
    assert pod["status"]["containerStatuses"][0]["containerID"].startswith(f"jota://agent-{agent}-")
    (found,) = node.get("nodes")["items"]
    addresses = [a["address"] for a in found["status"]["addresses"] if a["type"] == "InternalIP"]
    assert [pod["status"]["podIP"], pod["status"]["hostIP"]] == addresses * 2
    assert (
        node.jota("why", f"pod/{name(node)}", "-n", "kube-system", "--kubeconfig", str(node.kubeconfig)).returncode == 0
    )


def test_its_log_is_read_and_followed(node: HostCluster) -> None:
    shown(node)
    assert re.search(r"node \S+ is ready\n", node.kubectl("logs", *SYSTEM, name(node)))
    for choice in ((), ("--since=1h",), ("--tail=1",)):
        told = node.kubectl("logs", *SYSTEM, name(node), *choice)
        # what the agent wrote meanwhile comes behind it
        assert told in node.log("agent"), choice
        assert told.endswith("\n"), choice
        assert choice != ("--tail=1",) or told.count("\n") == 1
    command = ["kubectl", "logs", *SYSTEM, name(node), "-f", "--tail=0"]
    with subprocess.Popen(command, env=node.environment, stdout=subprocess.PIPE, text=True) as following:
        try:
            assert following.stdout is not None
            node.kubectl("create", "-f", "-", input=FAKE % node.status()["nodes"][0]["name"])
            assert "default/fake is not what this node runs" in following.stdout.readline()
        finally:
            following.kill()
    until(lambda: node.get("pods")["items"] == [], 10, "the mirror of nothing is removed")


FAKE = """
apiVersion: v1
kind: Pod
metadata: {name: fake, namespace: default, annotations: {kubernetes.io/config.mirror: x}}
spec: {nodeName: %s, containers: [{name: c, image: x}]}
"""


def test_nobody_gets_in(node: HostCluster) -> None:
    shown(node)
    assert "it is the agent of node" in node.refused("exec", *SYSTEM, name(node), "--", "ls")
    assert "it is the agent of node" in node.refused("attach", *SYSTEM, name(node))
    assert "mirror pod annotation" in node.refused(
        "annotate", "pod", *SYSTEM, name(node), "kubernetes.io/config.mirror-"
    )


def test_its_use_is_told(node: HostCluster) -> None:
    shown(node)

    def top() -> list[str]:
        return node.run("kubectl", "top", "pod", *SYSTEM, "--no-headers", check=False).stdout.split()

    found = until(lambda: len(words := top()) == 3 and words, 40, "kubectl top pod")
    assert found[0] == name(node)
    assert int(found[2].removesuffix("Mi")) > 10


@pytest.mark.parametrize(
    "how",
    [(), ("--force", "--grace-period=0"), ("--grace-period=30",), ("--now",)],
    ids=lambda h: " ".join(h) or "plain",
)
def test_deleted_it_comes_back(node: HostCluster, how: tuple[str, ...]) -> None:
    before = shown(node)["metadata"]["uid"]
    (agent,) = node.pids("agent")
    node.kubectl("delete", "pod", *SYSTEM, name(node), *how)
    assert shown(node)["metadata"]["uid"] != before
    node.kubectl("delete", "pods", *SYSTEM, "--all")
    shown(node)
    assert node.pids("agent") == [agent]


def test_a_drain_goes_around_it(node: HostCluster) -> None:
    before = shown(node)["metadata"]["uid"]
    where = node.status()["nodes"][0]["name"]
    node.kubectl("run", "work", f"--image={IMAGE}", "--command", "--", "sleep", "1000")
    node.kubectl("wait", "pod/work", "--for=condition=Ready", "--timeout=30s")
    said = node.kubectl("drain", where, "--force", "--grace-period=1")
    assert name(node) not in said
    assert [p["metadata"]["uid"] for p in node.get("pods", "-A")["items"]] == [before]
    node.kubectl("uncordon", where)


def test_a_taint_does_not_evict_it(node: HostCluster) -> None:
    before = shown(node)["metadata"]["uid"]
    where = node.status()["nodes"][0]["name"]
    node.kubectl("run", "work", f"--image={IMAGE}", "--command", "--", "sleep", "1000")
    node.kubectl("wait", "pod/work", "--for=condition=Ready", "--timeout=30s")
    node.kubectl("taint", "node", where, "away=now:NoExecute")
    until(lambda: not node.get("pods")["items"], 60, "the ordinary pod is evicted")
    assert shown(node)["metadata"]["uid"] == before
    node.kubectl("taint", "node", where, "away-")


def test_an_agent_that_starts_again_is_a_restart(node: HostCluster) -> None:
    before = shown(node)
    node.kill("agent")
    node.up()

    def restarted() -> Any:
        now = shown(node)
        (status,) = now["status"]["containerStatuses"]
        return status["containerID"] != before["status"]["containerStatuses"][0]["containerID"] and now

    after = until(restarted, 15, "the new agent is shown")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    counts = [p["status"]["containerStatuses"][0]["restartCount"] for p in (before, after)]
    assert counts == [counts[0], counts[0] + 1]


def test_it_goes_with_its_node(node: HostCluster) -> None:
    shown(node)
    where = node.status()["nodes"][0]["name"]
    node.kill("agent")
    node.kubectl("delete", "node", where)
    until(lambda: not node.get("pods", "-A")["items"], 30, "the agent's pod is gone")
    node.up()
    assert shown(node)["spec"]["nodeName"] == where
