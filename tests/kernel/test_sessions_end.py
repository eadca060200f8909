"""Sessions whose client or node is killed leave nothing: no process in the container, no descriptor in server, agent, supervisor."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from jota.testing.host import IMAGE, HostCluster, until

pytestmark = pytest.mark.kernel
SLEEP = "sleep 4321"
SESSIONS = 5


@pytest.fixture(scope="module")
def pod(cluster: HostCluster) -> str:
    container = {"name": "c", "image": IMAGE, "stdin": True, "command": ["sleep", "100000"]}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "quiet"}, "spec": spec}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(obj))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/quiet", "--timeout=30s")
    return "quiet"


def descriptors(cluster: HostCluster) -> int:
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in cluster.pids("server", "agent"))


def processes() -> int:
    """Commands of sessions, on this host."""
    return sum(line.strip() == SLEEP for line in subprocess.check_output(["ps", "-eo", "args"], text=True).splitlines())


@pytest.fixture
def settled(cluster: HostCluster, pod: str) -> Iterator[int]:
    """Descriptors when nothing happens; afterwards they are no more."""
    cluster.kubectl("exec", pod, "--", "true")
    before = descriptors(cluster)
    yield before
    until(lambda: processes() == 0, 10, "commands go on without a client")
    # lists and watches of the controllers come and go; those of sessions would be many
    until(lambda: descriptors(cluster) < before + SESSIONS, 10, "descriptors of sessions that are over")


@pytest.mark.parametrize("websockets", ["true", "false"])
@pytest.mark.parametrize("command", [["exec", "-i"], ["attach", "-i"], ["port-forward"]], ids=lambda c: c[0])
def test_a_client_that_is_killed(
    cluster: HostCluster, pod: str, settled: int, command: list[str], websockets: str
) -> None:
    """The container is silent: nobody learns of it by a write."""
    names = ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS")
    environment = {**cluster.environment, **dict.fromkeys(names, websockets)}
    more = {"exec": ["--", *SLEEP.split()], "attach": [], "port-forward": [":80"]}[command[0]]
    clients = [
        subprocess.Popen(
            ["kubectl", *command, pod, *more],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(SESSIONS)
    ]
    try:
        until(lambda: descriptors(cluster) >= settled + 2 * SESSIONS, 20, "the sessions do not stand")
    finally:
        for client in clients:
            client.kill()
            client.communicate()
