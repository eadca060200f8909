"""The real kubectl on PATH, by stories: what a user types on a working day. Last, kubectl 1.20, which speaks older forms."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jota.testing.host import IMAGE, HostCluster, until

pytestmark = [pytest.mark.clients, pytest.mark.kernel, pytest.mark.timeout(120)]
MEGABYTES = 4

WEB = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, labels: {{app: web}}}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: {IMAGE}
        command: [sh, -c, 'mkdir /www; hostname > /www/name; exec httpd -f -p 8080 -h /www']
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /name, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"""


def pod(name: str, command: str, **spec: Any) -> str:
    container = {"name": "c", "image": IMAGE, "command": ["sh", "-c", command]}
    body = {"terminationGracePeriodSeconds": 0, "containers": [container], **spec}
    meta = {"name": name, "labels": {"app": name}}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": body})


class Kubectl:
    """One kubectl binary in one namespace of one cluster."""

    def __init__(self, cluster: HostCluster, namespace: str, binary: str = "kubectl") -> None:
        self.cluster, self.namespace, self.binary = cluster, namespace, binary

    def words(self, *arguments: str) -> list[str]:
        return [self.binary, "--namespace", self.namespace, *arguments]

    def __call__(self, *arguments: str, input: str | bytes = "") -> str:
        """What it prints. Raises AssertionError when it fails."""
        return self.cluster.run(*self.words(*arguments), input=input).stdout

    def ended(self, *arguments: str, input: str | bytes = "") -> subprocess.CompletedProcess[str]:
        """However it ends."""
        return self.cluster.run(*self.words(*arguments), input=input, check=False)

    def get(self, *arguments: str) -> Any:
        return json.loads(self("get", *arguments, "-o", "json"))

    def apply(self, text: str, *options: str) -> str:
        return self("apply", *options, "-f", "-", input=text)

    def ready(self, *names: str) -> None:
        self("wait", "--for=condition=Ready", *(f"pod/{n}" for n in names), "--timeout=30s")

    @contextmanager
    def running(self, *arguments: str, input: bytes = b"") -> Iterator[subprocess.Popen[bytes]]:
        """In the background, with `input` typed and left open; ended at the end of the block."""
        process = subprocess.Popen(
            self.words(*arguments),
            env=self.cluster.environment,
            stdin=subprocess.PIPE if input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            if process.stdin:
                process.stdin.write(input)
                process.stdin.flush()
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout):
                if stream:
                    stream.close()

    @contextmanager
    def listening(self, *arguments: str) -> Iterator[int]:
        """The local port that `port-forward` or `proxy` chose and names in its first line."""
        with self.running(*arguments) as process:
            assert process.stdout
            line = process.stdout.readline().decode()
            match = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert match, line + process.stdout.read().decode()
            yield int(match[1])

    def download(self, target: str, path: str) -> bytes:
        with self.listening("port-forward", target, ":8080") as port:
            return fetched(port, path)


def fetched(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=20) as answer:
        content: bytes = answer.read()
        return content


@pytest.fixture
def kubectl(cluster: HostCluster, namespace: Callable[[HostCluster], str]) -> Kubectl:
    """With a node."""
    return Kubectl(cluster, namespace(cluster))


@pytest.fixture
def desk(plane: HostCluster, namespace: Callable[[HostCluster], str]) -> Kubectl:
    """Without a node."""
    return Kubectl(plane, namespace(plane))


# -- objects: no node needed


def test_apply_diff_and_the_fields_that_leave(desk: Kubectl) -> None:
    first = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {kept: x, gone: w}\n"
    second = first.replace("kept: x, gone: w", "kept: z")
    assert "created" in desk.apply(first)
    assert "unchanged" in desk.apply(first)
    assert desk.ended("diff", "-f", "-", input=first).returncode == 0
    differing = desk.ended("diff", "-f", "-", input=second)
    assert differing.returncode == 1, differing.stderr
    assert "-  gone: w" in differing.stdout
    assert "+  kept: z" in differing.stdout
    assert "configured (server dry run)" in desk.apply(second, "--dry-run=server")
    desk("annotate", "configmap", "a", "by=hand")
    assert "configured" in desk.apply(second)
    live = desk.get("configmap", "a")
    assert live["data"] == {"kept": "z"}
    assert live["metadata"]["annotations"]["by"] == "hand"
    last = desk("apply", "view-last-applied", "configmap", "a")
    assert "gone" not in last
    assert "kept: z" in last


def test_server_side_apply_knows_its_managers(desk: Kubectl) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\ndata: {k: mine}\n"
    assert "serverside-applied" in desk.apply(text, "--server-side", "--field-manager=one")
    theirs = text.replace("mine", "theirs")
    conflict = desk.ended("apply", "--server-side", "--field-manager=two", "-f", "-", input=theirs)
    assert conflict.returncode != 0
    assert "conflict" in conflict.stderr
    assert ".data.k" in conflict.stderr
    desk.apply(theirs, "--server-side", "--field-manager=two", "--force-conflicts")
    managers = {m["manager"] for m in desk.get("configmap", "s", "--show-managed-fields")["metadata"]["managedFields"]}
    assert desk.get("configmap", "s")["data"] == {"k": "theirs"}
    assert "two" in managers


def test_from_client_side_apply_to_server_side_apply_and_back(desk: Kubectl) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, labels: {of: VALUE}}\ndata: {k: VALUE}\n"
    desk.apply(text.replace("VALUE", "client"))
    server = text.replace("VALUE", "server")
    assert "conflict" in desk.ended("apply", "--server-side", "--field-manager=x", "-f", "-", input=server).stderr
    assert "serverside-applied" in desk.apply(server, "--server-side")
    assert json.loads(desk("apply", "view-last-applied", "configmap/m", "-o", "json"))["data"] == {"k": "server"}
    without = server.replace("data: {k: server}", "data: {other: server}")
    desk.apply(without, "--server-side")
    assert desk.get("configmap", "m")["data"] == {"other": "server"}
    assert "configured" in desk.apply(text.replace("VALUE", "again"))
    assert desk.get("configmap", "m")["data"] == {"k": "again"}


def test_every_type_of_patch(desk: Kubectl) -> None:
    desk.apply(WEB)
    strategic = '{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"1"}]}]}}}}'
    desk("patch", "deployment", "web", "-p", strategic)
    desk("patch", "deployment", "web", "--type=merge", "-p", '{"metadata":{"labels":{"app":null,"new":"l"}}}')
    operations = '[{"op":"test","path":"/spec/replicas","value":2},{"op":"replace","path":"/spec/replicas","value":3}]'
    desk("patch", "deployment", "web", "--type=json", "-p", operations)
    live = desk.get("deployment", "web")
    container = live["spec"]["template"]["spec"]["containers"][0]
    assert container["env"] == [{"name": "A", "value": "1"}]
    assert container["image"] == IMAGE
    assert live["metadata"]["labels"] == {"new": "l"}
    assert live["spec"]["replicas"] == 3
    assert (
        desk.ended("patch", "deployment", "web", "--type=json", "-p", operations).returncode != 0
    )  # the test fails now
    desk("patch", "deployment", "web", "--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":1}}')
    assert desk("get", "deployment", "web", "-o", "jsonpath={.spec.replicas}") == "1"


def test_labels_and_annotations(desk: Kubectl) -> None:
    desk("create", "configmap", "c")
    desk("label", "configmap", "c", "a=1", "b=2")
    assert desk.ended("label", "configmap", "c", "a=2").returncode != 0  # needs --overwrite
    desk("label", "configmap", "c", "a=3", "b-", "--overwrite")
    desk("annotate", "configmap", "c", "note=long text: with signs")
    meta = desk.get("configmap", "c")["metadata"]
    assert meta["labels"] == {"a": "3"}
    assert meta["annotations"] == {"note": "long text: with signs"}
    assert desk("get", "configmap", "-l", "a in (3,4),!b", "-o", "name") == "configmap/c\n"


GENERATORS = (
    "configmap c1 --from-literal=a=b",
    "secret generic s1 --from-literal=p=q",
    "secret docker-registry s2 --docker-server=r.test --docker-username=u --docker-password=p",
    f"job j1 --image={IMAGE} -- true",
    f"cronjob cj1 --image={IMAGE} --schedule=*/5_*_*_*_* -- true",
    "role r1 --verb=get,list --resource=pods,deployments.apps",
    "rolebinding rb1 --role=r1 --serviceaccount={ns}:sa1",
    "serviceaccount sa1",
    "service clusterip sv1 --tcp=80:8080",
    "service nodeport sv2 --tcp=80",
    "service externalname sv3 --external-name=example.test",
    "service loadbalancer sv4 --tcp=80",
    f"deployment d1 --image={IMAGE} --replicas=2 --port=80",
    "quota q1 --hard=pods=50,services=20",
    "poddisruptionbudget p1 --selector=app=d1 --min-available=1",
    "ingress i1 --rule=h.test/*=sv1:80",
)
OF_THE_CLUSTER = (
    "namespace {ns}-n",
    "priorityclass {ns}-pc --value=7 --description=seven",
    "clusterrole {ns}-cr --verb=get --resource=nodes",
    "clusterrolebinding {ns}-crb --clusterrole={ns}-cr --user=u",
)


def test_every_generator_of_create(desk: Kubectl) -> None:
    for line in (*GENERATORS, *OF_THE_CLUSTER):
        words = [w.replace("_", " ") if "schedule" in w else w for w in line.format(ns=desk.namespace).split()]
        assert "created" in desk("create", *words), line
    assert "created" in desk("create", "job", "j2", "--from=cronjob/cj1")
    token = desk("create", "token", "sa1", "--duration=10m")
    assert token.count(".") == 2
    again = desk.ended("create", "configmap", "c1")
    assert again.returncode == 1
    assert "already exists" in again.stderr
    assert desk("get", "cronjob", "cj1", "-o", "jsonpath={.spec.schedule}") == "*/5 * * * *"
    for line in OF_THE_CLUSTER:
        kind, name, *_ = line.format(ns=desk.namespace).split()
        desk("delete", kind, name, "--wait=false")


def test_who_may_do_what(desk: Kubectl) -> None:
    desk("create", "serviceaccount", "reader")
    desk("create", "role", "r", "--verb=get,list", "--resource=pods")
    desk("create", "rolebinding", "r", "--role=r", f"--serviceaccount={desk.namespace}:reader")
    assert desk("auth", "can-i", "*", "*") == "yes\n"
    as_reader = f"--as=system:serviceaccount:{desk.namespace}:reader"
    until(lambda: desk.ended("auth", "can-i", "list", "pods", as_reader).returncode == 0, 5, "the role counts")
    no = desk.ended("auth", "can-i", "delete", "pods", as_reader)
    assert no.returncode == 1
    assert no.stdout.startswith("no")
    assert re.search(r"pods +\[\] +\[\] +\[get list\]", desk("auth", "can-i", "--list", as_reader))
    assert "system:masters" in desk("auth", "whoami")
    refused = desk.ended("get", "secrets", as_reader)
    assert refused.returncode == 1
    assert "Forbidden" in refused.stderr


def test_discovery_and_explain(desk: Kubectl) -> None:
    resources = desk("api-resources", "--no-headers")
    for line in (
        r"pods +po +v1 +true +Pod",
        r"deployments +deploy +apps/v1 +true +Deployment",
        r"nodes +no +v1 +false",
    ):
        assert re.search(line, resources)
    assert "batch/v1" in desk("api-versions").split()
    assert "pods" in desk("api-resources", "--api-group=", "--verbs=list,watch", "-o", "name").split()
    said = desk("explain", "deployment.spec.strategy.rollingUpdate.maxSurge")
    assert "FIELD: maxSurge" in said
    assert "IntOrString" in said
    assert "readinessProbe" in desk("explain", "pod.spec.containers", "--recursive")
    assert "Server Version: v1." in desk("version")
    assert "is running at" in desk("cluster-info")
    assert desk("get", "--raw", "/readyz") == "ok"


def test_every_form_of_output(desk: Kubectl) -> None:
    desk.apply(WEB)
    assert "kind: Deployment" in desk("get", "deployment", "web", "-o", "yaml")
    assert desk("get", "deploy,svc", "-o", "name").split() == ["deployment.apps/web", "service/web"]
    assert IMAGE in desk("get", "deployment", "web", "-o", "wide")
    assert desk("get", "svc", "web", "-o", "jsonpath={.spec.ports[*].port}") == "80"
    assert desk("get", "svc", "web", "-o", "go-template={{.metadata.name}}") == "web"
    columns = desk("get", "svc", "web", "-o", "custom-columns=N:.metadata.name,P:.spec.ports[0].targetPort")
    assert [line.split() for line in columns.splitlines()] == [["N", "P"], ["web", "8080"]]
    assert desk("get", "deployment", "web", "--no-headers", "--show-labels").split()[-1] == "app=web"
    pods = until(lambda: desk("get", "pods", "--sort-by=.metadata.name", "-o", "name").split(), 5)
    assert pods == sorted(pods)
    one = desk("get", "pods", "--field-selector", f"metadata.name={pods[0].partition('/')[2]}", "-o", "name")
    assert one.strip() == pods[0]
    missing = desk.ended("get", "pod", "nobody")
    assert missing.returncode == 1
    assert 'pods "nobody" not found' in missing.stderr
    assert "NotFound" in missing.stderr
    assert "web" in desk("get", "all", "--chunk-size=1")


def test_delete_by_policy(desk: Kubectl) -> None:
    def pods() -> list[Any]:
        found: list[Any] = desk.get("pods", "-l", "app=web")["items"]
        return found

    for policy, children in (("background", 0), ("foreground", 0), ("orphan", 2)):
        desk.apply(WEB)
        until(lambda: len(pods()) == 2, 5, "pods")
        desk("delete", "deployment", "web", f"--cascade={policy}")
        assert desk.ended("get", "deployment", "web").returncode == 1
        sets = 1 if children else 0
        until(lambda n=sets: len(desk.get("replicasets")["items"]) == n, 5, policy)
        until(lambda n=children: len(pods()) == n, 5, policy)


def test_replace_edit_and_scale(desk: Kubectl) -> None:
    desk.apply(WEB)
    before = desk.get("deployment", "web")
    desk("replace", "-f", "-", input=WEB.replace("replicas: 2", "replicas: 1"))
    assert desk.get("deployment", "web")["metadata"]["uid"] == before["metadata"]["uid"]
    desk("replace", "--force", "-f", "-", input=WEB)
    assert desk.get("deployment", "web")["metadata"]["uid"] != before["metadata"]["uid"]
    desk.cluster.environment["KUBE_EDITOR"] = "sed -i 's/replicas: 2/replicas: 5/'"
    try:
        assert "edited" in desk("edit", "deployment", "web")
    finally:
        del desk.cluster.environment["KUBE_EDITOR"]
    desk("scale", "deployment", "web", "--current-replicas=5", "--replicas=4")
    assert desk.ended("scale", "deployment", "web", "--current-replicas=5", "--replicas=1").returncode != 0
    desk("set", "env", "deployment/web", "X=y")
    desk("set", "image", "deployment/web", "web=other:1")
    desk("autoscale", "deployment", "web", "--min=1", "--max=9")
    live = desk.get("deployment", "web")
    assert live["spec"]["replicas"] == 4
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "other:1"


# -- with a node


def test_exec_and_cp(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.apply(pod("box", "sleep 1000"))
    kubectl.ready("box")
    assert kubectl("exec", "box", "--", "echo", "hello") == "hello\n"
    ended = kubectl.ended("exec", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ended.returncode, ended.stdout) == (7, "out\n")
    assert ended.stderr.startswith("err\n")
    data = os.urandom(1 << 20)
    counted = kubectl("exec", "-i", "box", "--", "sh", "-c", "cat > /data; wc -c < /data", input=data)
    assert int(counted) == len(data)
    command = " ".join(kubectl.words("exec", "-it", "box", "--", "sh", "-c", "tty"))
    in_terminal = 'sleep 2 | script -qec "$1" /dev/null'  # script stops early when its own input has ended
    typed = kubectl.cluster.run("sh", "-c", in_terminal, "sh", command).stdout
    assert "/dev/pts/" in typed
    down, up = tmp_path / "down", tmp_path / "up"
    kubectl("cp", "box:/data", str(down))
    assert down.read_bytes() == data
    up.write_bytes(data[::-1])
    kubectl("cp", str(up), "box:/up")
    assert kubectl("exec", "box", "--", "sha256sum", "/up").split()[0] == _sha256(up)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_input_that_nobody_reads(kubectl: Kubectl) -> None:
    """Neither a command that closes its stdin nor a container without one loses its output to a client that types on."""
    kubectl.apply(pod("p", "while true; do echo tick; sleep 0.1; done"))
    kubectl.ready("p")
    script = "exec 0<&-; sleep 0.3; echo said; exit 3"
    deaf = kubectl.ended("exec", "-i", "p", "--", "sh", "-c", script, input="x" * 300_000)
    assert (deaf.returncode, deaf.stdout) == (3, "said\n"), deaf.stderr
    with kubectl.running("attach", "-i", "p", input=b"typed\n") as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(8)]
    assert lines.count(b"tick\n") >= 7, lines


def test_logs(kubectl: Kubectl) -> None:
    two = json.loads(pod("two", "for i in 1 2 3 4 5; do echo line $i; done; sleep 1000"))
    side = {"name": "side", "image": IMAGE, "command": ["sh", "-c", "echo aside; sleep 1000"]}
    two["spec"]["containers"].append(side)
    again = "if [ -e /v/x ]; then echo second; sleep 1000; fi; touch /v/x; echo first; exit 3"
    volume = {"volumes": [{"name": "v", "emptyDir": {}}], "restartPolicy": "Always"}
    crashed = json.loads(pod("crashed", again, **volume))
    crashed["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
    kubectl.apply(json.dumps(two))
    kubectl.apply(json.dumps(crashed))
    kubectl.apply(pod("slow", "for i in 1 2 3; do echo tick $i; sleep 0.5; done", restartPolicy="Never"))
    kubectl.ready("two")
    assert kubectl("logs", "slow", "-f") == "tick 1\ntick 2\ntick 3\n"
    assert kubectl("logs", "two", "-c", "side") == "aside\n"
    assert kubectl("logs", "two", "-c", "c", "--tail=2") == "line 4\nline 5\n"
    assert kubectl("logs", "two", "--all-containers", "--prefix").count("[pod/two/") == 6
    assert re.match(r"\d{4}-\d\d-\d\dT\S+Z line 1\n", kubectl("logs", "two", "-c", "c", "--timestamps"))
    assert kubectl("logs", "two", "-c", "c", "--limit-bytes=6") == "line 1"
    assert kubectl("logs", "-l", "app=two", "-c", "c", "--since=1h").count("line") == 5
    time.sleep(1.1)
    assert kubectl("logs", "two", "-c", "c", "--since=1s") == ""
    wrong = kubectl.ended("logs", "two", "-c", "nobody")
    assert wrong.returncode == 1
    assert "nobody" in wrong.stderr
    until(lambda: kubectl("logs", "crashed") == "second\n", 20, "the second life")
    assert kubectl("logs", "crashed", "--previous") == "first\n"


def test_port_forward_and_proxy(kubectl: Kubectl) -> None:
    kubectl.apply(WEB)
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    name = kubectl.get("pods", "-l", "app=web")["items"][0]["metadata"]["name"]
    make = f"head -c {MEGABYTES << 20} /dev/urandom > /www/big; sha256sum /www/big"
    expected = kubectl("exec", name, "--", "sh", "-c", make).split()[0]
    assert hashlib.sha256(kubectl.download(f"pod/{name}", "big")).hexdigest() == expected
    with kubectl.listening("port-forward", "service/web", ":80") as port:
        assert fetched(port, "name").decode().startswith("web-")
    with kubectl.listening("proxy", "--port=0") as port:
        listed = json.loads(fetched(port, f"api/v1/namespaces/{kubectl.namespace}/pods"))
        assert len(listed["items"]) == 2
        through = f"api/v1/namespaces/{kubectl.namespace}/services/web:80/proxy/name"
        assert fetched(port, through).decode().startswith("web-")


def test_rollouts(kubectl: Kubectl) -> None:
    def revision() -> str:
        return kubectl(
            "get", "deployment", "web", "-o", r"jsonpath={.metadata.annotations.deployment\.kubernetes\.io/revision}"
        )

    kubectl.apply(WEB)
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    kubectl("annotate", "deployment", "web", "kubernetes.io/change-cause=the first")
    until(lambda: "the first" in kubectl("rollout", "history", "deployment/web"), 5)
    kubectl("rollout", "pause", "deployment/web")
    kubectl("set", "env", "deployment/web", "V=2")
    assert revision() == "1"
    kubectl("rollout", "resume", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    assert revision() == "2"
    assert "V:" in kubectl("rollout", "history", "deployment/web", "--revision=2")
    kubectl("rollout", "undo", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    assert revision() == "3"
    assert "env" not in kubectl.get("deployment", "web")["spec"]["template"]["spec"]["containers"][0]
    kubectl("rollout", "restart", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    assert revision() == "4"


def test_run_and_wait(kubectl: Kubectl) -> None:
    said = kubectl(
        "run", "once", "--rm", "-i", f"--image={IMAGE}", "--restart=Never", "--", "tr", "a-z", "A-Z", input="shout\n"
    )
    assert "SHOUT" in said
    assert "deleted" in said
    assert kubectl.ended("get", "pod", "once").returncode == 1
    sad = ("run", "sad", "--rm", "-i", f"--image={IMAGE}", "--restart=Never", "--", "sh", "-c", "cat; exit 5")
    failed = kubectl.ended(*sad, input="once\n")
    assert failed.stdout.count("once") == 1
    assert failed.returncode == 5, failed.stderr
    assert "couldn't attach" not in failed.stderr  # an attach ends well however the container ends
    kubectl("create", "job", "j", f"--image={IMAGE}", "--", "true")
    kubectl("wait", "--for=condition=Complete", "job/j", "--timeout=30s")
    kubectl("run", "p", f"--image={IMAGE}", "--", "sleep", "1000")
    kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/p", "--timeout=30s")
    late = kubectl.ended("wait", "--for=delete", "pod/p", "--timeout=200ms")
    assert late.returncode == 1
    assert "timed out" in late.stderr
    kubectl("delete", "pod", "p", "--grace-period=0", "--force")
    kubectl("wait", "--for=delete", "pod/p", "--timeout=10s")


def test_describe_and_events(kubectl: Kubectl) -> None:
    kubectl.apply(WEB)
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    node = kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    pods = until(lambda: _holding(kubectl("describe", "pod", "-l", "app=web"), "Started"), 10)
    assert "Scheduled" in pods
    assert "Ready:          True" in pods
    assert "ScalingReplicaSet" in until(
        lambda: _holding(kubectl("describe", "deployment", "web"), "ScalingReplicaSet"), 10
    )
    assert re.search(r"Endpoints: +\d+\.\d+\.\d+\.\d+:8080", kubectl("describe", "service", "web"))
    assert "Allocated resources" in (said := kubectl("describe", "node", node))
    assert kubectl.namespace in said
    assert "Active" in kubectl("describe", "namespace", kubectl.namespace)
    events = kubectl("events", "--for", "deployment/web")
    assert "ScalingReplicaSet" in events
    assert "Scheduled" in kubectl("get", "events", "--sort-by=.lastTimestamp")


def _holding(text: str, word: str) -> str:
    return text if word in text else ""


def test_top(kubectl: Kubectl) -> None:
    kubectl.apply(pod("busy", "while :; do :; done"))
    kubectl.ready("busy")
    top = until(lambda: _holding(kubectl.ended("top", "pods", "--no-headers").stdout, "busy"), 40, "numbers of the pod")
    assert re.match(r"busy +\d+m +\d+Mi", top)
    nodes = until(
        lambda: _holding(kubectl.ended("top", "nodes", "--no-headers").stdout, "Mi"), 20, "numbers of the node"
    )
    assert "unknown" not in nodes
    kubectl("delete", "pod", "busy", "--now")


def test_what_is_asked_for_now_and_then(kubectl: Kubectl) -> None:
    kubectl.apply(WEB)
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    scale = kubectl("get", "deployment", "web", "--subresource=scale").split("\n")
    assert scale[0].split() == ["NAME", "DESIRED", "AVAILABLE", "AGE"]
    assert scale[1].split()[:3] == ["web", "2", "2"]
    kubectl("patch", "deployment", "web", "--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":3}}')
    kubectl("wait", "deployment/web", "--for=jsonpath={.status.readyReplicas}=3", "--timeout=20s")
    seen = kubectl.ended("get", "endpoints")
    assert "Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice" in seen.stderr
    assert "deprecated" not in kubectl.ended("get", "endpointslices").stderr
    node = kubectl.get("nodes")["items"][0]["metadata"]["name"]
    settings = json.loads(kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/configz"))["kubeletconfig"]
    assert settings["port"] == kubectl.get("node", node)["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    short = kubectl.ended("create", "token", "default", "--duration=30s")
    assert "may not specify a duration less than 10 minutes" in short.stderr
    ran = kubectl.ended("run", "once", "--rm", "-i", "--restart=Never", f"--image={IMAGE}", "--", "sh", "-c", "exit 3")
    assert ran.returncode == 3
    kubectl("autoscale", "deployment", "web", "--min=1", "--max=2", "--cpu-percent=50")
    size = ("wait", "deployment/web", "--for=jsonpath={.spec.replicas}=2", "--timeout=30s")
    kubectl(*size)
    kubectl("delete", "deployment", "web", "--cascade=orphan")
    left = kubectl.get("replicasets", "-l", "app=web")["items"]
    assert left
    assert not any(one["metadata"].get("ownerReferences") for one in left)
    kubectl("delete", "replicasets", "-l", "app=web", "--cascade=foreground", "--timeout=30s")
    assert kubectl.get("pods", "-l", "app=web")["items"] == []


def test_taint_cordon_drain_uncordon(kubectl: Kubectl) -> None:
    node = kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    kubectl.apply(pod("moved", "sleep 1000"))
    kubectl.ready("moved")
    try:
        kubectl("taint", "node", node, "test/only=x:PreferNoSchedule")
        assert "test/only" in kubectl("get", "node", node, "-o", "jsonpath={.spec.taints}")
        kubectl("taint", "node", node, "test/only-")
        kubectl("cordon", node)
        assert "SchedulingDisabled" in kubectl("get", "node", node)
        stuck = kubectl.ended("drain", node, "--pod-selector=app=moved")
        assert stuck.returncode == 1
        assert "--force" in stuck.stderr
        drained = kubectl("drain", node, "--pod-selector=app=moved", "--force", "--timeout=30s")
        assert "evicting" in drained or "drained" in drained
        assert kubectl.ended("get", "pod", "moved").returncode == 1
        kubectl.apply(pod("waits", "sleep 1000"))
        waits = until(lambda: kubectl("get", "pod", "waits", "-o", "jsonpath={.status.conditions[0].reason}"), 5)
        assert waits == "Unschedulable"
    finally:
        kubectl("uncordon", node)
    kubectl.ready("waits")
    assert "SchedulingDisabled" not in kubectl("get", "node", node)


# -- an old kubectl


@pytest.fixture(scope="module")
def kubectl_1_20(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Debian's kubernetes-client: SPDY for streams, OpenAPI v2 as protobuf. Unpacked, not installed."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        pytest.skip("not a Debian: no apt-get to fetch kubernetes-client with")
    directory = tmp_path_factory.mktemp("kubectl-1.20")
    fetched = subprocess.run(
        ["apt-get", "download", "kubernetes-client"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    packages = list(directory.glob("*.deb"))
    if fetched.returncode or not packages:
        pytest.skip(f"kubernetes-client cannot be downloaded: {fetched.stderr.strip()}")
    subprocess.run(["dpkg", "-x", packages[0], directory], check=True)
    return str(directory / "usr" / "bin" / "kubectl")


def test_kubectl_1_20(kubectl: Kubectl, kubectl_1_20: str) -> None:
    old = Kubectl(kubectl.cluster, kubectl.namespace, kubectl_1_20)
    said = old("version")
    if 'Minor:"20"' not in said:
        pytest.skip(
            f"this Debian ({platform.freedesktop_os_release().get('VERSION_ID')}) has another kubernetes-client"
        )
    assert "Server Version" in said
    assert "created" in old.apply(WEB)
    assert "successfully rolled out" in old("rollout", "status", "deployment/web", "--timeout=30s")
    more = WEB.replace("replicas: 2", "replicas: 3")
    assert old.ended("diff", "-f", "-", input=WEB).returncode == 0
    differing = old.ended("diff", "-f", "-", input=more)
    assert differing.returncode == 1, differing.stderr
    assert "+  replicas: 3" in differing.stdout
    assert "configured" in old.apply(more)
    assert "unknown field" in old.ended("apply", "-f", "-", input=WEB.replace("replicas", "replicaz")).stderr
    assert "maxSurge" in old("explain", "deployment.spec.strategy.rollingUpdate")
    old("scale", "deployment", "web", "--replicas=1")
    old("rollout", "status", "deployment/web", "--timeout=30s")
    until(lambda: len(old.get("pods", "-l", "app=web")["items"]) == 1, 10, "one pod")
    name = old("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")
    assert old("exec", name, "--", "hostname").strip() == name
    assert old.ended("exec", name, "--", "sh", "-c", "exit 7").returncode == 7
    data = os.urandom(1 << 20)
    assert int(old("exec", "-i", name, "--", "sh", "-c", "cat > /www/big; wc -c < /www/big", input=data)) == len(data)
    assert old.download(f"pod/{name}", "big") == data
    old.apply(pod("said", "echo one; sleep 0.5; echo two", restartPolicy="Never"))
    until(lambda: "one" in old.ended("logs", "said").stdout, 10, "its first line")
    assert old("logs", "-f", "said") == "one\ntwo\n"
    assert "Running" in old("get", "pods", "-o", "wide")
    assert "Endpoints" in old("describe", "service", "web")
    old("delete", "deployment,service,pod", "--all")
    assert old("get", "deployments,services", "-o", "name") == ""
