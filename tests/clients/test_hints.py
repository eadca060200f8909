"""kubectl shows what the server knows: what a typing error meant, and what an object refers to that is not there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jota.testing.host import HostCluster

pytestmark = pytest.mark.clients
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  REPLICAS: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: web, envFrom: [{secretRef: {name: credentials}}]}
"""


def test_kubectl_shows_hints(plane: HostCluster, namespace: Callable[[HostCluster], str]) -> None:
    place = namespace(plane)
    right = WEB.replace("REPLICAS", "replicas")
    refused = plane.refused("-n", place, "apply", "-f", "-", input=WEB.replace("REPLICAS", "replicaz"))
    assert 'strict decoding error: unknown field "spec.replicaz"' in refused
    assert 'Warning: "spec.replicaz": did you mean "spec.replicas"?' in refused
    made = plane.run("kubectl", "-n", place, "apply", "-f", "-", input=right)
    assert "deployment.apps/web created" in made.stdout
    missing = f'Secret "credentials" does not exist in namespace "{place}"'
    assert f"Warning: spec.template.spec.containers[0].envFrom[0].secretRef.name: {missing}" in made.stderr
    again = plane.run("kubectl", "-n", place, "apply", "-f", "-", input=right)
    assert "unchanged" in again.stdout
    assert "Warning" not in again.stderr
