"""A further machine joins a running cluster, works, dies, comes back, and leaves. The machine: a namespace behind a veth."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jota.run.instance import host_address
from jota.run.tokens import parse
from jota.testing.host import IMAGE, JOTA, HostCluster, until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

_FIRST = os.getpid() % 64 * 4
HERE, THERE = f"198.51.100.{_FIRST + 1}", f"198.51.100.{_FIRST + 2}"
"""The two ends of the link: four addresses of TEST-NET-2, so that several runs get on with each other."""
NODE = "further"

WORK = f"""
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec:
  terminationGracePeriodSeconds: 0
  nodeName: {{first}}
  containers:
  - name: c
    image: {IMAGE}
    command: [sh, -c, 'mkdir /www; echo answered > /www/index.html; exec httpd -f -p 8080 -h /www']
    readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: away}}
spec:
  terminationGracePeriodSeconds: 0
  nodeName: {NODE}
  containers:
  - {{name: c, image: {IMAGE}, command: [sh, -c, 'echo begun; sleep 1000']}}
""".replace("{first}", "FIRST")


class Machine:
    """A network namespace, with its agent."""

    def __init__(self, cluster: HostCluster, directory: Path) -> None:
        self.cluster, self.name = cluster, f"{cluster.name}f"
        self.data, self.log = directory / "further", directory / "further.log"
        self.namespace, self.link = f"jota-test-{os.getpid()}", f"jt{os.getpid()}"
        self.agent: subprocess.Popen[bytes] | None = None

    def connect(self) -> None:
        """Both ends on one link; the cluster's first node is reached there by the address that it goes by."""
        ip("netns", "add", self.namespace)
        ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("address", "add", f"{HERE}/30", "dev", self.link)
        ip("link", "set", self.link, "up")
        for words in (
            "link set lo up",
            "link set eth0 up",
            f"address add {THERE}/30 dev eth0",
            f"route add {host_address()}/32 dev eth0 src {THERE}",
        ):
            ip("-n", self.namespace, *words.split())

    def disconnect(self) -> None:
        for words in (("netns", "delete", self.namespace), ("link", "delete", self.link)):
            subprocess.run(["ip", *words], capture_output=True, check=False)

    def command(self, *options: str) -> list[str]:
        # not `ip netns exec`: that would hide the cgroups behind a new /sys
        enter = ["nsenter", f"--net=/run/netns/{self.namespace}"]
        return [*enter, JOTA, "agent", "--node", NODE, "--name", self.name, "--data-dir", str(self.data), *options]

    def joining(self, *options: str) -> list[str]:
        return self.command("--server", f"https://{HERE}:{self.cluster.api().port}", "--address", THERE, *options)

    def start(self, *options: str) -> None:
        with self.log.open("ab") as log:
            self.agent = subprocess.Popen(self.joining(*options), stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.agent is not None:
            self.agent.send_signal(number)
            self.agent.wait(20)
            self.agent = None

    def ready(self) -> bool:
        assert self.agent is None or self.agent.poll() is None, self.log.read_text()
        path = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        return self.cluster.run("kubectl", "get", "node", NODE, "-o", path, check=False).stdout == "True"

    def traces(self) -> list[str]:
        """On the host, and in the namespace."""
        own = HostCluster(self.name, self.data.parent)
        own.data = self.data
        links = ip("-n", self.namespace, "-o", "link").splitlines()
        rules = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.namespace}", "nft", "list", "tables"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.splitlines()
        routes = [r for r in ip("-n", self.namespace, "route").splitlines() if " via " in r]
        return [
            *own.traces(),
            *(link for link in links if ": lo:" not in link and ": eth0@" not in link),
            *rules,
            *routes,
        ]


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def machine(make_cluster: Callable[[str], HostCluster], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if missing := [tool for tool in ("ip", "nsenter") if not shutil.which(tool)]:
        pytest.skip(f"needs {', '.join(missing)}")
    made = Machine(make_cluster("j"), tmp_path_factory.mktemp("machine"))
    try:
        made.connect()  # before the server starts: its certificate names the addresses that the host has then
        made.cluster.up()
        made.cluster.load_image()
        yield made
    finally:
        made.end(signal.SIGKILL)
        if made.data.exists():
            made.cluster.run(*made.command("--remove"), check=False)
        made.disconnect()


def refused(machine: Machine, token: str) -> str:
    done = machine.cluster.run(*machine.joining("--token", token), check=False, timeout=40)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_token_of_another_cluster_is_refused(machine: Machine) -> None:
    token = machine.cluster.jota("token", "create", "--name", machine.cluster.name).stdout.strip()
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    assert "its CA differs" in refused(machine, wrong)
    assert machine.traces() == []


def test_an_expired_or_invented_token_is_refused(machine: Machine) -> None:
    create = ("token", "create", "--name", machine.cluster.name)
    short = machine.cluster.jota(*create, "--ttl", "0.0001").stdout.strip()  # 0.36 s
    time.sleep(0.5)
    assert "jota token create" in refused(machine, short)
    assert "jota token create" in refused(machine, f"abcdef.0123456789abcdef.{parse(short).ca_hash}")
    assert "jota token create" in refused(machine, "nonsense")
    assert machine.cluster.run("kubectl", "get", "node", NODE, check=False).returncode == 1


def test_a_machine_joins_works_comes_back_and_leaves(machine: Machine) -> None:
    cluster = machine.cluster
    token = cluster.jota("token", "create", "--name", cluster.name).stdout.strip()
    shutil.rmtree(machine.data, ignore_errors=True)
    machine.start("--token", token)
    until(machine.ready, 20, "the further node is Ready")
    assert (
        cluster.kubectl("get", "node", NODE, "-o", "jsonpath={.status.addresses[?(@.type=='InternalIP')].address}")
        == THERE
    )

    first = next(n["metadata"]["name"] for n in cluster.get("nodes")["items"] if n["metadata"]["name"] != NODE)
    cluster.kubectl("apply", "-f", "-", input=WORK.replace("FIRST", first))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/web", "pod/away", "--timeout=30s")
    assert cluster.kubectl("logs", "away") == "begun\n"
    assert cluster.kubectl("exec", "away", "--", "hostname") == "away\n"
    answers(cluster)

    machine.end(signal.SIGKILL)
    machine.start()  # no token
    until(lambda: cluster.run("kubectl", "exec", "away", "--", "true", check=False).returncode == 0, 20, "it is back")
    until(machine.ready, 20, "Ready again")
    status = cluster.get("pod", "away")["status"]["containerStatuses"][0]
    assert status["restartCount"] == 0
    answers(cluster)

    running = cluster.run(*machine.command("--remove"), check=False)
    assert running.returncode != 0
    assert "stop it first" in running.stderr
    cluster.kubectl("delete", "node", NODE)
    machine.end()
    said = cluster.run(*machine.command("--remove")).stdout
    assert f"kubectl delete node {NODE}" in said
    assert not machine.data.exists()
    assert machine.traces() == []


def answers(cluster: HostCluster) -> None:
    """From the pod on the further node, by DNS name, through a service, to the pod on the first."""
    command = ("kubectl", "exec", "away", "--", "wget", "-qO-", "http://web.default.svc.cluster.local/")
    until(lambda: cluster.run(*command, check=False).stdout == "answered\n", 15, "the service answers by name")
