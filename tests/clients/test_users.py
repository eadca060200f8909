"""Users as kubectl knows them: a certificate that an administrator approves lets one in; a wrong token is told what upstream tells."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from jota.pki.ca import Subject, create_csr
from jota.testing.host import HostCluster

pytestmark = [pytest.mark.clients, pytest.mark.kernel, pytest.mark.timeout(120)]


def test_a_user_comes_with_a_certificate(plane: HostCluster, tmp_path: Path) -> None:
    request, key = create_csr(Subject("jane", ("developers",)))
    request = b"# made for Jane\n" + request  # as `openssl req -text` does, upstream skips what stands before
    spec = {
        "request": base64.b64encode(request).decode(),
        "signerName": "kubernetes.io/kube-apiserver-client",
        "expirationSeconds": 3600,
        "usages": ["client auth"],
    }
    csr = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "jane"},
        "spec": spec,
    }
    plane.kubectl("create", "-f", "-", input=json.dumps(csr))
    plane.kubectl("certificate", "approve", "jane")
    plane.kubectl("wait", "--for=jsonpath={.status.certificate}", "csr/jane", "--timeout=20s")
    certificate = plane.kubectl("get", "csr", "jane", "-o", "jsonpath={.status.certificate}")
    (tmp_path / "jane.crt").write_bytes(base64.b64decode(certificate))
    (tmp_path / "jane.key").write_bytes(key)
    pair = (f"--client-certificate={tmp_path / 'jane.crt'}", f"--client-key={tmp_path / 'jane.key'}")
    plane.kubectl("config", "set-credentials", "jane", *pair)
    assert 'User "jane" cannot list resource "pods"' in plane.refused("--user=jane", "get", "pods")
    plane.kubectl("create", "clusterrolebinding", "jane", "--clusterrole=view", "--group=developers")
    assert plane.kubectl("--user=jane", "auth", "can-i", "list", "pods").strip() == "yes"


def test_the_administrators_key_is_one_that_javas_clients_read(plane: HostCluster) -> None:
    key = plane.kubectl("config", "view", "--raw", "--minify", "-o", "jsonpath={.users[0].user.client-key-data}")
    assert base64.b64decode(key).startswith(b"-----BEGIN RSA PRIVATE KEY-----")


def test_a_wrong_token_is_unauthorized(plane: HostCluster) -> None:
    plane.kubectl("config", "set-credentials", "nobody", "--token=nonsense")
    words = plane.refused("--user=nobody", "get", "pods")
    assert words.strip() == "error: You must be logged in to the server (Unauthorized)"


def test_where_everything_is_allowed_nobody_comes_without_a_name(tmp_path: Path) -> None:
    cluster = HostCluster(f"k{os.getpid()}open", tmp_path)
    with cluster:
        cluster.up("--nodes", "1", "--authorization-mode", "RBAC,AlwaysAllow")
        cluster.kubectl("config", "set-credentials", "ada", "--username=ada", "--password=wrong")
        assert "You must be logged in to the server" in cluster.refused("--user=ada", "get", "namespaces")
        assert cluster.kubectl("get", "namespaces", "-o", "name").count("namespace/") > 1
