"""A real cluster on this host for tests: the `jota` command, kubectl, and the question what a cluster leaves behind.

    with HostCluster("t1", tmp_path) as cluster:
        cluster.up()
        cluster.kubectl("get", "nodes")
        cluster.kill("agent")

Everything is done through the same commands as a user's. At the end the cluster is purged; `traces` then must be empty.
"""

from __future__ import annotations

import glob
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from jota.net import names, netlink
from jota.net import sys as net
from jota.testing.images import busybox_archive

JOTA = str(Path(sys.executable).with_name("jota"))
IMAGE = "jota.test/busybox:1"


def lacking() -> str:
    """Why this machine cannot run real clusters in tests; "" when it can."""
    from jota.run import doctor

    missing = [c.name for c in doctor.missing()]
    missing += [tool for tool in ("kubectl", "busybox") if not shutil.which(tool)]
    return f"needs {', '.join(missing)}" if missing else ""


def until(holds: Callable[[], Any], within: float = 20.0, what: str = "") -> Any:
    """The first true answer. Raises AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while not (answer := holds()):
        assert time.monotonic() < deadline, f"not within {within:.0f} s: {what or holds}"
        time.sleep(0.05)
    return answer


class HostCluster:
    def __init__(self, name: str, directory: Path) -> None:
        self.name, self.directory = name, directory
        self.data, self.kubeconfig = directory / "data", directory / "kubeconfig"
        self.environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(directory)}

    def __enter__(self) -> HostCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.jota("down", "--name", self.name, "--purge", check=False)

    # -- commands

    def run(
        self, *command: str, check: bool = True, input: str | bytes = "", timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Raises AssertionError with the command's own words when it fails and `check` is set."""
        done = subprocess.run(
            command,
            env=self.environment,
            input=input.encode() if isinstance(input, str) else input,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        assert not check or done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(command, done.returncode, out, err)

    def jota(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(JOTA, *arguments, check=check)

    def up_command(self, *options: str) -> list[str]:
        places = ["--data-dir", str(self.data), "--kubeconfig", str(self.kubeconfig)]
        return [JOTA, "up", "--name", self.name, *places, *options]

    def up(self, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(*self.up_command(*options), check=check)

    def down(self, *options: str) -> None:
        self.jota("down", "--name", self.name, *options)

    def kubectl(self, *arguments: str, input: str | bytes = "", timeout: float = 60.0) -> str:
        """What it prints. Raises AssertionError when it fails."""
        return self.run("kubectl", *arguments, input=input, timeout=timeout).stdout

    def refused(self, *arguments: str, input: str | bytes = "") -> str:
        """What a kubectl command that must fail says."""
        done = self.run("kubectl", *arguments, input=input, check=False)
        assert done.returncode != 0, f"kubectl {' '.join(arguments)} succeeded:\n{done.stdout}"
        return done.stderr

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def load_image(self, name: str = IMAGE, **env: str) -> None:
        archive = self.directory / "image.tar"
        busybox_archive(str(archive), name, env)
        self.jota("image", "load", str(archive), "--name", self.name)

    # -- processes

    def status(self) -> Any:
        return json.loads(self.jota("status", "--name", self.name, "-o", "json").stdout)

    def pids(self, *roles: str) -> list[int]:
        return [p["pid"] for p in self.status()["processes"] if not roles or p["role"] in roles]

    def kill(self, *roles: str) -> None:
        for pid in self.pids(*roles):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def log(self, role: str) -> str:
        return "\n".join(Path(p).read_text() for p in glob.glob(f"{self.data}/logs/{role}*.log"))

    # -- the API without kubectl

    def api(self, timeout: float = 5.0) -> http.client.HTTPSConnection:
        """A connection with the administrator's certificate."""
        context = ssl.create_default_context(cafile=str(self.data / "pki" / "ca.crt"))
        context.load_cert_chain(self.data / "pki" / "admin.crt", self.data / "pki" / "admin.key")
        port = json.loads((self.data / "instance.json").read_text())["api_port"]
        return http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=timeout)

    def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """(HTTP status, decoded answer, or its text) of one request on a connection of its own. Raises OSError."""
        connection = self.api()
        try:
            given = None if body is None else json.dumps(body).encode()
            connection.request(method, path, given, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            is_json = (answer.headers.get("Content-Type") or "").startswith("application/json")
            return answer.status, json.loads(content) if is_json else content.decode()
        finally:
            connection.close()

    # -- what it leaves

    def traces(self) -> list[str]:
        """All that this cluster has in the kernel now, in words: processes, mounts, namespaces, links, routes, nft tables,
        cgroups, leases of images."""
        data, name = str(self.data), self.name
        found = [*_processes(data), *_mounts(data), *_namespaces(name), *_cgroups(name)]
        return sorted([*found, *_links(name), *_tables(name), *_leases(name)])


def _processes(mark: str) -> list[str]:
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if mark in words and state != "Z":
            found.append(f"process {words.partition(' --ready-fd')[0].strip()}")
    return found


def _mounts(below: str) -> list[str]:
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [f"mount {p}" for p in points if p.startswith(below)]


def _namespaces(name: str) -> list[str]:
    pins = Path(net.NAMESPACES)
    return [f"namespace {p.name}" for p in (pins.iterdir() if pins.is_dir() else ()) if names.owns_pin(name, p.name)]


def _cgroups(name: str) -> list[str]:
    found = {p for depth in ("*", "*/*") for p in glob.glob(f"/sys/fs/cgroup/{depth}/jota-{name}")}
    found |= set(glob.glob(f"/sys/fs/cgroup/jota-{name}"))
    inner = [d for top in found for d, _, _ in os.walk(top)]
    return [f"cgroup {d}" for d in inner]


def _links(name: str) -> list[str]:
    with net.Netlink() as route:
        links = [link.name for link in route.links() if link.name.startswith(names.link_prefix(name))]
        priority = names.route_priority(name)
        routes = [r.destination for r in route.routes() if r.protocol == netlink.PROTOCOL and r.priority == priority]
    return [f"link {n}" for n in links] + [f"route {r}" for r in routes]


def _tables(name: str) -> list[str]:
    nft = net.Nft()
    try:
        return [f"table {t}" for t in nft.tables() if names.owns_table(name, t)]
    finally:
        nft.close()


def _leases(name: str) -> list[str]:
    return [f"lease {p}" for p in glob.glob(f"/var/lib/jota/images/leases/{name}-*/*")]
