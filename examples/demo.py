"""`make demo`: a cluster in about a second, and what it does: run, serve, scale, heal, roll forward and back under load.

Needs root for pods (namespaces, cgroups). Without root it shows the control plane alone. The cluster stays up at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from jota.testing.images import busybox_archive

NAME = "demo"
JOTA = str(Path(sys.executable).with_name("jota"))
KUBECTL = shutil.which("kubectl") or ""
PLAIN = not sys.stdout.isatty()

APPLICATION = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: greeting}
data: {text: "annyeong, world"}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {token: open-sesame}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello}
spec:
  replicas: 3
  selector: {matchLabels: {app: hello}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: web
        image: demo.jota/hello:1
        command: [sh, -c]
        args:
        - |
          mkdir -p /www
          printf 'version %s says "%s" from %s\\n' "$VERSION" "$(cat /conf/text)" "$(hostname)" > /www/index.html
          trap 'sleep 1; exit 0' TERM
          httpd -f -p 8080 -h /www & wait
        env:
        - {name: TOKEN, valueFrom: {secretKeyRef: {name: key, key: token}}}
        ports: [{containerPort: 8080, name: http}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
        volumeMounts: [{name: conf, mountPath: /conf}]
        resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
      volumes: [{name: conf, configMap: {name: greeting}}]
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec: {selector: {app: hello}, ports: [{port: 80, targetPort: http}]}
"""


class Demo:
    def __init__(self, work: Path) -> None:
        self.work = work
        self.config = str(work / "kubeconfig")
        self.times: list[tuple[str, float]] = []

    # -- telling

    def step(self, text: str) -> None:
        print(f"\n{text}" if PLAIN else f"\n\033[1;36m{text}\033[0m", flush=True)

    def show(self, *command: str) -> str:
        shown = " ".join(
            ("jota" if command[0] == JOTA else "kubectl" if command[0] == KUBECTL else command[0], *command[1:])
        )
        print(f"$ {shown}" if PLAIN else f"\033[2m$ {shown}\033[0m", flush=True)
        output = self.run(*command)
        if output.strip():
            print(output.rstrip(), flush=True)
        return output

    def measured(self, what: str, seconds: float) -> None:
        self.times.append((what, seconds))
        print(
            f"  -> {what}: {seconds * 1000:.0f} ms"
            if PLAIN
            else f"  \033[1;32m-> {what}: {seconds * 1000:.0f} ms\033[0m"
        )

    # -- doing

    def run(self, *command: str) -> str:
        environment = {**os.environ, "KUBECONFIG": self.config}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"demo: {' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def kubectl(self, *words: str) -> str:
        return self.run(KUBECTL, *words)

    def until(self, holds: object, seconds: float = 60.0) -> float:
        begin = time.monotonic()
        while not holds():  # type: ignore[operator]
            if time.monotonic() - begin > seconds:
                raise SystemExit("demo: what should have happened did not; look at: kubectl get events -A")
            time.sleep(0.02)
        return time.monotonic() - begin

    def pods(self) -> list[dict]:  # type: ignore[type-arg]
        found = json.loads(self.kubectl("get", "pods", "-l", "app=hello", "-o", "json"))["items"]
        return [p for p in found if not p["metadata"].get("deletionTimestamp")]

    def ready(self) -> int:
        conditions = [c for p in self.pods() for c in p["status"].get("conditions", ())]
        return sum(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def answer(url: str) -> str:
    with urllib.request.urlopen(url, timeout=3) as response:
        return str(response.read().decode().strip())


class Load:
    """Asks the service again and again from a thread; counts what was answered and what was not."""

    def __init__(self, url: str) -> None:
        self.url, self.good, self.bad, self._stop = url, 0, 0, threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                answer(self.url)
                self.good += 1
            except (OSError, urllib.error.URLError):
                self.bad += 1
            time.sleep(0.005)


def start(demo: Demo, nodes: int) -> None:
    demo.step("1. A cluster")
    subprocess.run([JOTA, "down", "--name", NAME, "--purge"], capture_output=True)
    begin = time.monotonic()
    demo.show(JOTA, "up", "--name", NAME, "--kubeconfig", demo.config, "--nodes", str(nodes))
    demo.measured("from nothing to a Ready cluster", time.monotonic() - begin)


def deploy(demo: Demo) -> str:
    demo.step("2. An image and an application: Deployment, Service, ConfigMap, Secret")
    for version in ("1", "2"):
        archive = str(demo.work / f"hello-{version}.tar")
        busybox_archive(archive, f"demo.jota/hello:{version}", {"VERSION": version})
        demo.show(JOTA, "image", "load", "--name", NAME, archive)
    manifest = demo.work / "app.yaml"
    manifest.write_text(APPLICATION)
    begin = time.monotonic()
    demo.show(KUBECTL, "apply", "-f", str(manifest))
    demo.kubectl("rollout", "status", "deploy/hello", "--timeout=60s")
    demo.measured("from apply to three ready pods", time.monotonic() - begin)
    demo.show(KUBECTL, "get", "pods", "-o", "wide")
    address = demo.kubectl("get", "svc", "hello", "-o", "jsonpath={.spec.clusterIP}")
    url = f"http://{address}/"
    for _ in range(3):
        print(f"  {url} -> {answer(url)}")
    pod = demo.pods()[0]["metadata"]["name"]
    demo.show(
        KUBECTL, "exec", pod, "--", "sh", "-c", "echo secret=$TOKEN; wget -qO- http://hello.default.svc.cluster.local/"
    )
    return url


def scale(demo: Demo) -> None:
    demo.step("3. It scales")
    begin = time.monotonic()
    demo.show(KUBECTL, "scale", "deploy/hello", "--replicas=8")
    demo.until(lambda: demo.ready() == 8)
    demo.measured("five more pods ready", time.monotonic() - begin)
    demo.show(KUBECTL, "scale", "deploy/hello", "--replicas=3")
    demo.until(lambda: len(demo.pods()) == 3)


def heal(demo: Demo) -> None:
    demo.step("4. It heals: a killed container is restarted, a deleted pod is replaced")
    victim = demo.pods()[0]
    name = victim["metadata"]["name"]

    def restarted() -> bool:
        for pod in demo.pods():
            if pod["metadata"]["name"] == name:
                status = pod["status"]["containerStatuses"][0]
                return bool(status["restartCount"] > 0 and status["ready"])
        return False

    begin = time.monotonic()
    subprocess.run(
        [KUBECTL, "exec", name, "--", "sh", "-c", "kill -9 -1; kill -TERM 1"],
        capture_output=True,
        env={**os.environ, "KUBECONFIG": demo.config},
    )
    demo.until(restarted)
    demo.measured("container killed, restarted and ready again", time.monotonic() - begin)
    begin = time.monotonic()
    demo.show(KUBECTL, "delete", "pod", name, "--wait=false")
    demo.until(lambda: demo.ready() == 3)
    demo.measured("pod deleted, its replacement ready", time.monotonic() - begin)


def roll(demo: Demo, url: str) -> None:
    demo.step("5. It rolls forward and back, under load, without a failed request")
    with Load(url) as load:
        for words in (("set", "image", "deploy/hello", "web=demo.jota/hello:2"), ("rollout", "undo", "deploy/hello")):
            begin = time.monotonic()
            demo.show(KUBECTL, *words)
            demo.kubectl("rollout", "status", "deploy/hello", "--timeout=60s")
            demo.measured("rolled out", time.monotonic() - begin)
            print(f"  {url} -> {answer(url)}")
        time.sleep(1)
    print(f"  requests answered during both rollouts: {load.good}, failed: {load.bad}")
    if load.bad:
        raise SystemExit("demo: requests failed during a rollout")
    demo.show(KUBECTL, "rollout", "history", "deploy/hello")


def finish(demo: Demo) -> None:
    demo.step("Measured on this machine")
    for what, seconds in demo.times:
        print(f"  {seconds * 1000:7.0f} ms  {what}")
    demo.show(JOTA, "status", "--name", NAME)
    demo.step("The cluster is yours. Go on with:")
    print(f"  export KUBECONFIG={demo.config}")
    print(f"  kubectl get all -A\n  {os.path.relpath(JOTA)} down --name {NAME} --purge")


def control_plane_only(demo: Demo) -> None:
    """Without root there are no pods, but the API, the controllers and the scheduler work all the same."""
    print("demo: not root, so no containers: this shows the control plane alone (sudo make demo shows everything)")
    start(demo, 0)
    demo.show(KUBECTL, "create", "deployment", "hello", "--image=demo.jota/hello:1", "--replicas=3")
    demo.until(lambda: len(demo.pods()) == 3)
    demo.show(KUBECTL, "get", "deployments,replicasets,pods")
    demo.show(KUBECTL, "scale", "deploy/hello", "--replicas=1")
    demo.until(lambda: len(demo.pods()) == 1)
    finish(demo)


def main() -> None:
    if not KUBECTL:
        raise SystemExit("demo: kubectl is missing; install it with: sudo apt-get install -y kubernetes-client")
    work = Path(os.environ.get("JOTA_DEMO_DIR") or Path(tempfile.gettempdir()) / f"jota-demo-{os.getuid()}")
    work.mkdir(mode=0o700, exist_ok=True)
    demo = Demo(work)
    if os.geteuid() != 0:
        control_plane_only(demo)
        return
    start(demo, 1)
    url = deploy(demo)
    scale(demo)
    heal(demo)
    roll(demo, url)
    finish(demo)


if __name__ == "__main__":
    main()
