"""Server, agent and supervisor are killed with SIGKILL at random moments while pods run and a writer writes.

What must hold: no acknowledged write is lost, no container restarts because of it, the service goes on answering, logs have
no hole, and afterwards the machine carries exactly what it carried before. A failing run names its seed: JOTA_SEED=... repeats it.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from jota.testing.host import IMAGE, HostCluster, until

pytestmark = [pytest.mark.kernel, pytest.mark.fault, pytest.mark.timeout(240)]

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"

APPLICATION = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {IMAGE}
        command: [sh, -c, 'mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www']
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: ticker}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: c, image: {IMAGE}, command: [sh, -c, 'i=0; while :; do echo $i; i=$((i+1)); usleep 20000; done']}}
"""


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("JOTA_SEED") or random.randrange(1 << 32))
    print(f"JOTA_SEED={seed}")
    return random.Random(seed)


class Background:
    """A loop in a thread, until the block ends."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
        self.close()

    def close(self) -> None:
        """After the last turn."""

    def _loop(self) -> None:
        while not self._over.is_set():
            self.turn()

    def turn(self) -> None:
        raise NotImplementedError


class Writer(Background):
    """Creates ConfigMaps and remembers those that the server acknowledged."""

    def __init__(self, cluster: HostCluster) -> None:
        super().__init__()
        self._cluster, self._connection = cluster, cluster.api()
        self._numbers = itertools.count()
        self.acknowledged: dict[str, str] = {}

    def turn(self) -> None:
        name = f"w{next(self._numbers)}"
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"of": "writer"}}}
        try:
            self._connection.request("POST", CONFIGMAPS, json.dumps(body), {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            made = json.loads(answer.read())
            if answer.status == 201:
                self.acknowledged[name] = made["metadata"]["uid"]
            time.sleep(0.002)
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            time.sleep(0.02)

    def close(self) -> None:
        self._connection.close()


class Poller(Background):
    """Asks the service again and again; `failures` names the moments of silence."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address
        self.asked = 0
        self.failures: list[str] = []

    def turn(self) -> None:
        connection = http.client.HTTPConnection(self._address, 80, timeout=2)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            if answer.status != 200 or not answer.read().startswith(b"web-"):
                self.failures.append(f"{time.monotonic():.2f}: status {answer.status}")
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(f"{time.monotonic():.2f}: {error!r}")
        finally:
            connection.close()
        self.asked += 1
        time.sleep(0.02)


def containers(cluster: HostCluster) -> dict[str, tuple[str, int]]:
    """Container id and restart count of every pod."""
    found = {}
    for pod in cluster.get("pods")["items"]:
        status = pod["status"]["containerStatuses"][0]
        found[pod["metadata"]["name"]] = (status["containerID"], status["restartCount"])
    return found


def pod(name: str, script: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}
    meta = {"name": name, "labels": {"of": "storm"}}
    return {"metadata": meta, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec}}


def settled(cluster: HostCluster, before: list[str]) -> None:
    """The machine carries what it carried before, no more and no less."""

    def difference() -> list[str]:
        now, then = Counter(cluster.traces()), Counter(before)
        return [f"+ {t}" for t in (now - then).elements()] + [f"- {t}" for t in (then - now).elements()]

    try:
        until(lambda: not difference(), 20)
    except AssertionError:
        raise AssertionError("left or lost:\n" + "\n".join(difference())) from None


@pytest.fixture(scope="module")
def application(cluster: HostCluster) -> HostCluster:
    cluster.kubectl("apply", "-f", "-", input=APPLICATION)
    cluster.kubectl("rollout", "status", "deploy/web", "--timeout=40s")
    cluster.kubectl("wait", "--for=condition=Ready", "pod/ticker", "--timeout=20s")
    return cluster


def test_kills_at_random_moments(application: HostCluster, rng: random.Random) -> None:
    cluster = application
    address = cluster.get("service", "web")["spec"]["clusterIP"]
    before, traces = containers(cluster), cluster.traces()
    sets = [("server",), ("agent",), ("supervisor",), ("server", "agent"), ("agent", "supervisor")]
    sets += [("server", "agent", "supervisor")]
    with Writer(cluster) as writer, Poller(address) as poller:
        for victims in rng.sample(sets * 2, 12):
            time.sleep(rng.uniform(0, 0.3))
            cluster.kill(*victims)
            time.sleep(rng.uniform(0, 0.4))
            cluster.up()
            until(lambda: len(cluster.pids()) == 3, 10, f"all processes run again after killing {victims}")
    assert writer.acknowledged, "the writer never wrote"
    kept = {o["metadata"]["name"]: o["metadata"]["uid"] for o in cluster.get("configmaps", "-l", "of=writer")["items"]}
    lost = writer.acknowledged.items() - kept.items()
    assert not lost, f"{len(lost)} of {len(writer.acknowledged)} acknowledged writes lost: {sorted(lost)[:5]}"
    assert poller.asked > 50
    assert poller.failures == []
    until(lambda: containers(cluster) == before, 10, "the same containers")
    cluster.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=20s")
    assert cluster.kubectl("exec", "ticker", "--", "echo", "here").strip() == "here"
    lines = [int(line) for line in cluster.kubectl("logs", "ticker").split()]
    assert lines == list(range(len(lines)))
    assert len(lines) > 100
    settled(cluster, traces)


def test_a_storm_of_pods_while_the_parts_die(application: HostCluster, rng: random.Random) -> None:
    """Kills in the middle of pod starts and deletions: afterwards every pod either runs or is gone, whole."""
    cluster = application
    traces = cluster.traces()
    numbers = itertools.count()

    class Storm(Background):
        def turn(self) -> None:
            name = f"s{next(numbers)}"
            try:
                cluster.request("POST", PODS, pod(name, "trap 'exit 0' TERM; sleep 1000 & wait"))
                time.sleep(rng.uniform(0, 0.25))
                cluster.request("DELETE", f"{PODS}/{name}")
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)

    with Storm(), Storm():
        for victims in [("agent",), ("supervisor",), ("server",), ("agent", "supervisor")] * 2:
            time.sleep(rng.uniform(0.1, 0.5))
            cluster.kill(*victims)
            time.sleep(rng.uniform(0, 0.1))
            cluster.up()
    cluster.kubectl("delete", "pods", "-l", "of=storm", "--wait=false")
    until(lambda: not cluster.get("pods", "-l", "of=storm")["items"], 40, "the storm's pods are gone")
    settled(cluster, traces)


def test_starting_pods_come_up_in_spite_of_kills(application: HostCluster, rng: random.Random) -> None:
    cluster = application
    traces = cluster.traces()
    for victims in [("agent",), ("supervisor",), ("agent", "supervisor"), ("server",)]:
        for n in range(6):
            cluster.request("POST", PODS, pod(f"u{n}", "echo up; sleep 1000"))
        time.sleep(rng.uniform(0, 0.15))
        cluster.kill(*victims)
        cluster.up()
        cluster.kubectl("wait", "--for=condition=Ready", "pod", "-l", "of=storm", "--timeout=40s")
        for n in range(6):
            assert cluster.kubectl("logs", f"u{n}").strip() == "up"
            assert cluster.kubectl("exec", f"u{n}", "--", "echo", "x").strip() == "x"
        cluster.kubectl("delete", "pods", "-l", "of=storm", "--timeout=40s")
    settled(cluster, traces)


def terminated(cluster: HostCluster, name: str) -> Callable[[], Any]:
    def look() -> Any:
        statuses = cluster.get("pod", name)["status"].get("containerStatuses") or [{}]
        return statuses[0].get("state", {}).get("terminated")

    return look


def test_exits_while_the_supervisor_is_dead(application: HostCluster) -> None:
    """The agent starts a new supervisor by itself, and knows how containers ended in between."""
    cluster = application
    for name, script in (("well", "sleep 2; exit 0"), ("ill", "sleep 2; exit 7")):
        cluster.request("POST", PODS, pod(name, script, restartPolicy="Never"))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/well", "pod/ill", "--timeout=20s")
    supervisor = cluster.pids("supervisor")[0]
    agent = cluster.pids("agent")[0]
    end = time.monotonic() + 2.5
    while time.monotonic() < end:  # however often the new ones die, too
        cluster.kill("supervisor")
        time.sleep(0.05)
    until(lambda: cluster.pids("supervisor") not in ([], [supervisor]), 10, "the watchdog brings a supervisor")
    assert cluster.pids("agent") == [agent]
    assert until(terminated(cluster, "well"))["exitCode"] == 0
    assert until(terminated(cluster, "ill"))["exitCode"] == 7
    cluster.kubectl("delete", "pod", "well", "ill")


def test_exits_while_agent_and_supervisor_are_dead(application: HostCluster) -> None:
    """Nobody saw the end: the code is the true one if the kernel still has it (a late reaper), else plainly unknown."""
    cluster = application
    cluster.request("POST", PODS, pod("unseen", "sleep 4; exit 7", restartPolicy="Never"))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/unseen", "--timeout=20s")
    cluster.kill("agent", "supervisor")
    time.sleep(4)
    cluster.up()
    state = until(terminated(cluster, "unseen"))
    assert (state["exitCode"], state["reason"]) in ((7, "Error"), (137, "ContainerStatusUnknown")), state
    cluster.kubectl("delete", "pod", "unseen")


def test_up_itself_is_killed(make_cluster: Callable[[str], HostCluster], rng: random.Random) -> None:
    """`jota up` dies at a random moment, with or without what it started: the next one gives a working cluster."""
    cluster = make_cluster("u")
    for turn in range(10):
        process = subprocess.Popen(cluster.up_command(), env=cluster.environment, stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, 0.9))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if rng.random() < 0.5 and (cluster.data / "instance.json").exists():
            cluster.kill()
        cluster.up()
        cluster.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=1s")
        assert len(cluster.pids()) == 3
        if turn % 2:
            cluster.down("--purge")
            assert cluster.traces() == []


def test_down_itself_is_killed(make_cluster: Callable[[str], HostCluster], rng: random.Random) -> None:
    """`jota down` dies at a random moment: the next one, or the next `jota up`, finds its way."""
    cluster = make_cluster("d")
    for turn in range(8):
        cluster.up()
        if turn == 0:
            cluster.load_image()
        cluster.request("POST", PODS, pod("p", "sleep 1000"))
        cluster.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=20s")
        purge = ["--purge"] * (turn % 2)
        process = subprocess.Popen(
            [cluster.up_command()[0], "down", "--name", cluster.name, *purge],
            env=cluster.environment,
            stdout=subprocess.DEVNULL,
        )
        time.sleep(rng.uniform(0.05, 0.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if turn % 4 >= 2:
            cluster.up()
            cluster.kubectl("get", "nodes")
        cluster.jota("down", "--name", cluster.name, "--purge", check=False)
        assert cluster.traces() == []
        assert not cluster.data.exists()


def test_a_half_open_connection_does_not_keep_the_server(application: HostCluster) -> None:
    """SIGTERM with idle and half-sent requests open: the server still ends by itself, and comes back."""
    cluster = application
    pid = cluster.pids("server")[0]
    port = int(cluster.status()["server"].rpartition(":")[2])
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
    stuck = cluster.api()
    stuck.putrequest("POST", CONFIGMAPS)
    stuck.putheader("Content-Length", "100")
    stuck.endheaders(b"{")
    os.kill(pid, signal.SIGTERM)
    until(lambda: not cluster.pids("server"), 15, "the server has stopped")
    for connection in idle:
        connection.close()
    stuck.close()
    cluster.up()
    assert cluster.pids("server") != [pid]
