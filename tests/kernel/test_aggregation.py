"""A real extension server (jota.testing.extension, a process of its own) behind a real cluster, with a real kubectl."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jota.aio.clock import SystemClock
from jota.pki.ca import CertificateAuthority, Subject
from jota.testing.extension import GROUP, VERSION
from jota.testing.host import HostCluster, until

pytestmark = pytest.mark.kernel
NAME = f"{VERSION}.{GROUP}"
FLUNDER = f'{{"apiVersion":"{GROUP}/{VERSION}","kind":"Flunder","metadata":{{"name":"f"}},"spec":{{"reference":"x"}}}}'


class Extension:
    """The process, and what it needs: a certificate for its Service, a client of the cluster."""

    def __init__(self, cluster: HostCluster, directory: Path) -> None:
        self._cluster, self._directory = cluster, directory
        self._process: subprocess.Popen[str] | None = None
        now = SystemClock().now()
        authority = CertificateAuthority(CertificateAuthority.create("wardle", days=1, now=now))
        pair = authority.issue(Subject("x", (), ("api.wardle.svc",)), days=1, client=False, server=True, now=now)
        (directory / "x.crt").write_bytes(pair.certificate)
        (directory / "x.key").write_bytes(pair.key)
        self.bundle = base64.b64encode(authority.certificate_pem).decode()
        facts = json.loads((cluster.data / "instance.json").read_text())
        self.url = f"https://127.0.0.1:{facts['api_port']}"
        addresses = cluster.get("endpointslices", "kubernetes")["endpoints"][0]["addresses"]
        self.address = addresses[0]

    def start(self) -> int:
        """The port."""
        pki = self._cluster.data / "pki"
        words = [self.url, pki / "ca.crt", pki / "admin.crt", self._directory / "x.crt", self.address]
        command = [sys.executable, "-m", "jota.testing.extension", *map(str, words)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def place(self, port: int) -> None:
        """Endpoints of its Service."""
        piece = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "api-1",
                "namespace": "wardle",
                "labels": {"kubernetes.io/service-name": "api"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [self.address]}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }
        self._cluster.kubectl("apply", "-f", "-", input=json.dumps(piece))


@pytest.fixture(scope="module")
def extension(cluster: HostCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Extension]:
    made = Extension(cluster, tmp_path_factory.mktemp("extension"))
    yield made
    made.stop()


def test_kubectl_and_an_extension_server(cluster: HostCluster, extension: Extension) -> None:
    kubectl = cluster.kubectl
    assert "v1.apps" in kubectl("get", "apiservices")
    kubectl("create", "namespace", "wardle")
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "api", "namespace": "wardle"},
        "spec": {"ports": [{"name": "https", "port": 443}]},
    }
    kubectl("apply", "-f", "-", input=json.dumps(service))
    extension.place(extension.start())
    apiservice = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": NAME},
        "spec": {
            "group": GROUP,
            "version": VERSION,
            "groupPriorityMinimum": 2000,
            "versionPriority": 200,
            "caBundle": extension.bundle,
            "service": {"namespace": "wardle", "name": "api"},
        },
    }
    kubectl("apply", "-f", "-", input=json.dumps(apiservice))
    kubectl("wait", "--for=condition=Available", f"apiservice/{NAME}", "--timeout=20s")
    row = next(line.split() for line in kubectl("get", "apiservices").splitlines() if line.startswith(NAME))
    assert row[1:3] == ["wardle/api", "True"]
    assert "Flunder" in until(lambda: kubectl("api-resources", f"--api-group={GROUP}"), what="discovery")
    kubectl("create", "-f", "-", input=FLUNDER)
    assert "f " in kubectl("get", "fl")
    assert kubectl("get", "flunders", "f", "-o", "jsonpath={.spec.reference}") == "x"
    assert "What a flunder is." in kubectl("explain", "flunder.spec")
    assert "Forbidden" in cluster.refused("get", "flunders", "--as=bob")
    _goes_and_comes(cluster, extension)
    kubectl("delete", "apiservice", NAME)
    assert "NotFound" in cluster.refused("get", "--raw", f"/apis/{GROUP}/{VERSION}")


def _goes_and_comes(cluster: HostCluster, extension: Extension) -> None:
    kubectl = cluster.kubectl
    extension.stop()

    def state(of: str) -> Callable[[], bool]:
        return lambda: of in kubectl("get", "apiservice", NAME)

    cluster.refused("get", "--raw", f"/apis/{GROUP}/{VERSION}/flunders")  # nobody listens: seen at once
    until(state("False (FailedDiscoveryCheck)"), what="the server is missed")
    said = cluster.refused("get", "--raw", f"/apis/{GROUP}/{VERSION}/flunders")
    assert "unable to handle the request" in said
    kubectl("create", "namespace", "end")
    kubectl("delete", "namespace", "end", "--wait=false")

    def conditions() -> str:
        return kubectl("get", "namespace", "end", "-o", "jsonpath={.status.conditions}")

    until(lambda: "DiscoveryFailed" in conditions(), what="the namespace says why it stays")
    extension.place(extension.start())
    until(state("True"), what="the server is found again")
    kubectl("wait", "--for=delete", "namespace/end", "--timeout=20s")
