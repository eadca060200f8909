"""A throw-away cluster for a bench: `jota up` under a name of its own, a small client, `jota down --purge` at the end.

`Http` is one keep-alive TLS connection with a user's certificate on plain sockets, so that a measurement holds
as little of the client as possible.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from bench.figure import Skipped
from jota.pki.ca import Subject, create_csr
from jota.run import kubeconfig

JOTA = str(Path(sys.executable).with_name("jota"))
IMAGE = "bench.jota/busybox:1"
_REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
_RECORD = 16 * 1024
"""Bytes: no read from TLS gives more."""


@dataclass(frozen=True, slots=True)
class Cluster:
    name: str
    directory: Path
    user: str = ""
    """Whose credentials `http` and the load generators use; empty: the administrator's."""

    @property
    def config(self) -> str:
        return str(self.directory / f"kubeconfig{self.user}")

    def up(self, nodes: int = 1, *options: str) -> None:
        """Returns when all nodes are Ready."""
        data = str(self.directory / "data")
        jota(
            "up", "--name", self.name, "--data-dir", data, "--kubeconfig", self.config, "--nodes", str(nodes), *options
        )

    def down(self) -> None:
        jota("down", "--name", self.name, "--purge")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(jota("status", "--name", self.name, "-o", "json"))
        return found

    def load_image(self) -> None:
        from jota.testing.images import busybox_archive

        archive = self.directory / "image.tar"
        if not archive.exists():
            busybox_archive(str(archive), IMAGE)
        jota("image", "load", "--name", self.name, str(archive))

    def as_user(self, name: str, role: str) -> Cluster:
        """The same, asked by a user who may what this ClusterRole says: of the administrator neither RBAC nor flow control asks
        anything. Their certificate is signed by the cluster."""
        csr, key = create_csr(Subject(name, ()))
        spec = {"request": base64.b64encode(csr).decode(), "signerName": "kubernetes.io/kube-apiserver-client"}
        spec["usages"] = ["client auth"]
        approved = {"type": "Approved", "status": "True", "reason": "Bench", "message": "for the load generator"}
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}
        with self.http() as api:
            api.json("POST", _BINDINGS, {"metadata": {"name": name}, "roleRef": ref, "subjects": [subject]})
            made = api.json("POST", _REQUESTS, {"metadata": {"name": name}, "spec": spec})
            made["status"] = {"conditions": [approved]}
            api.json("PUT", f"{_REQUESTS}/{name}/approval", made)
            while "certificate" not in made["status"]:
                made = api.json("GET", f"{_REQUESTS}/{name}")
        certificate, admin = base64.b64decode(made["status"]["certificate"]), kubeconfig.read(Path(self.config))
        other = replace(self, user=name)
        who = kubeconfig.Credentials(admin.server, admin.ca, certificate, key)
        Path(other.config).write_bytes(kubeconfig.render(self.name, who))
        return other

    def http(self) -> Http:
        return Http(Path(self.config), self.directory)


def jota(*words: str) -> str:
    done = subprocess.run([JOTA, *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"jota {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def needs_root(what: str) -> None:
    if os.geteuid() != 0:
        raise Skipped(f"{what} needs root; run it with sudo")


@contextmanager
def directory() -> Iterator[Cluster]:
    """A place and a name for a cluster that is not started yet; whatever runs there at the end is removed."""
    with tempfile.TemporaryDirectory(prefix="jota-bench-") as place:
        cluster = Cluster(f"bench{os.getpid() % 10000}", Path(place))
        try:
            yield cluster
        finally:
            subprocess.run([JOTA, "down", "--name", cluster.name, "--purge"], capture_output=True)


@contextmanager
def cluster(nodes: int = 1, *options: str) -> Iterator[Cluster]:
    with directory() as made:
        made.up(nodes, *options)
        yield made


def pair(work: Path) -> tuple[Path, Path]:
    """Where `tls` puts certificate and key: each process has its own, as load generators run side by side."""
    return work / f"client-{os.getpid()}.crt", work / f"client-{os.getpid()}.key"


def tls(config: Path, work: Path) -> tuple[ssl.SSLContext, str, int]:
    """(context with the user's certificate, host, port) of a kubeconfig."""
    who = kubeconfig.read(config)
    context = ssl.create_default_context(cadata=who.ca.decode())
    certificate, key = pair(work)
    certificate.write_bytes(who.certificate)
    key.touch(0o600)
    key.write_bytes(who.key)
    context.load_cert_chain(certificate, key)
    host, _, port = who.server.removeprefix("https://").rpartition(":")
    return context, host, int(port)


class Http:
    """One connection; requests one after the other."""

    def __init__(self, config: Path, work: Path) -> None:
        context, host, port = tls(config, work)
        plain = socket.create_connection((host, port), timeout=30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain, server_hostname=host)

    def __enter__(self) -> Http:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._socket.close()

    def send(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """(status code, body)."""
        self._socket.sendall(request(method, path, body))
        head, rest = self._head()
        length = int(header(head, b"content-length") or 0)
        if header(head, b"transfer-encoding"):
            raise RuntimeError(f"{path}: a streamed answer where none was expected")
        return int(head[9:12]), self._exactly(rest, length)

    def json(self, method: str, path: str, value: Any = None) -> Any:
        """The decoded answer. Raises RuntimeError for anything but success."""
        code, body = self.send(method, path, json.dumps(value).encode() if value is not None else b"")
        if code >= 300:
            raise RuntimeError(f"{method} {path}: {code} {body[:300]!r}")
        return json.loads(body)

    def drain(self, path: str) -> tuple[int, float]:
        """GET without keeping the body: (its bytes, seconds)."""
        begin = time.perf_counter()
        self._socket.sendall(request("GET", path))
        head, rest = self._head()
        length = int(header(head, b"content-length") or 0)
        left, record = length - len(rest), bytearray(_RECORD)
        read = cast(Any, self._socket)._sslobj.read  # what recv_into calls in two steps
        while left > 0:
            left -= read(_RECORD, record)
        return length, time.perf_counter() - begin

    def lines(self, path: str) -> Iterator[bytes]:
        """The lines of a streamed answer (a watch), one JSON document each."""
        self._socket.sendall(request("GET", path))
        _, data = self._head()
        while True:
            while b"\n" in data:
                line, _, data = data.partition(b"\n")
                if line.startswith(b"{"):
                    yield line
            more = self._socket.recv(1 << 16)
            if not more:
                return
            data += more

    def _head(self) -> tuple[bytes, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            more = self._socket.recv(1 << 16)
            if not more:
                raise RuntimeError("the server closed the connection")
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        return head, rest

    def _exactly(self, data: bytes, length: int) -> bytes:
        parts = [data]
        left = length - len(data)
        while left > 0:
            parts.append(self._socket.recv(min(left, 1 << 20)))
            left -= len(parts[-1])
        return b"".join(parts)


def request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
    if body:
        form = "application/merge-patch+json" if method == "PATCH" else "application/json"
        head += f"Content-Type: {form}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return b""
