"""The real kubectl against a bare HTTP server that has nothing but these documents: explain, api-resources, validate.

JOTA_KUBECTL_OLD may name a kubectl of 1.20, which reads the protobuf document only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from jota.api import discovery
from jota.api.openapi.documents import Document, Documents
from jota.kinds.kind import Kind
from jota.meta.resource import DEPLOYMENTS, PODS

KINDS = (
    Kind(PODS, schema="io.k8s.api.core.v1.Pod", short_names=("po",)),
    Kind(DEPLOYMENTS, schema="io.k8s.api.apps.v1.Deployment", short_names=("deploy",)),
)
DOCUMENTS = Documents(KINDS)
MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  REPLICAS: 3
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      containers: [{name: c, image: i, resources: {limits: {cpu: 1}}, livenessProbe: {httpGet: {port: 80}}}]
"""
OLD, NEW = os.environ.get("JOTA_KUBECTL_OLD", ""), shutil.which("kubectl") or ""
pytestmark = pytest.mark.clients


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, accept = urlsplit(self.path).path, self.headers.get("Accept", "")
        document = _openapi(path, accept)
        if document is not None:
            self.answer(200, document.content_type, document.identity())
            return
        content_type, body = _discovery(path, accept)
        self.answer(
            200 if body is not None else 404, content_type, orjson.dumps(body or {"kind": "Status", "code": 404})
        )

    def answer(self, code: int, content_type: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def _openapi(path: str, accept: str) -> Document | None:
    if path == "/openapi/v2":
        return DOCUMENTS.v2_protobuf() if "protobuf" in accept else DOCUMENTS.v2()
    if path == "/openapi/v3":
        return DOCUMENTS.v3_index()
    return DOCUMENTS.v3(path.removeprefix("/openapi/v3/")) if path.startswith("/openapi/v3/") else None


def _discovery(path: str, accept: str) -> tuple[str, Any]:
    plain = "application/json"
    match path.strip("/").split("/"):
        case ["version"]:
            return plain, {"major": "1", "minor": "37", "gitVersion": "v1.37.0"}
        case ["api" | "apis" as root] if "as=APIGroupDiscoveryList" in accept:
            return discovery.content_type(), discovery.aggregated(KINDS, root == "api")
        case ["api"]:
            return plain, discovery.legacy_api(KINDS)
        case ["apis"]:
            return plain, discovery.legacy_group_list(KINDS)
        case ["api", version]:
            return plain, discovery.legacy_resources(KINDS, "", version)
        case ["apis", group, version]:
            return plain, discovery.legacy_resources(KINDS, group, version)
    return plain, None


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture(params=[pytest.param(NEW, id="kubectl"), pytest.param(OLD, id="kubectl-1.20")])
def kubectl(request: pytest.FixtureRequest, server: str, tmp_path: Path) -> Any:
    if not request.param:
        pytest.skip("this kubectl is not there (see JOTA_KUBECTL_OLD)")

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        command = [request.param, "--server", server, *args]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    return run


def test_api_resources(kubectl: Any) -> None:
    lines = kubectl("api-resources", "--no-headers").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["pods", "po", "v1", "true", "Pod"],
        ["deployments", "deploy", "apps/v1", "true", "Deployment"],
    ]


def test_explain_shows_the_description(kubectl: Any) -> None:
    shown = " ".join(kubectl("explain", "deployment.spec.replicas").stdout.split())
    assert "replicas <integer>" in shown
    assert "Number of desired pods." in shown
    assert "imagePullPolicy" in kubectl("explain", "pod.spec.containers").stdout


def test_manifests_are_validated(kubectl: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(MANIFEST.replace("REPLICAS", "replicas"))
    done = kubectl("create", "--dry-run=client", "--validate=true", "-f", str(path))
    assert done.returncode == 0, done.stderr
    assert "deployment.apps/a created (dry run)" in done.stdout


@pytest.mark.skipif(not OLD, reason="newer kubectl leaves the check to the server (fieldValidation)")
def test_unknown_fields_are_refused_by_old_kubectl(server: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(MANIFEST.replace("REPLICAS", "replicaz"))
    command = [OLD, "--server", server, "create", "--dry-run=client", "--validate=true", "-f", str(path)]
    done = subprocess.run(command, env={"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False)
    assert 'unknown field "replicaz" in io.k8s.api.apps.v1.DeploymentSpec' in done.stderr
