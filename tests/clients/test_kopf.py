"""kopf: an operator in a process of its own, on ConfigMaps, Deployments and a custom resource."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jota.testing.host import HostCluster, until

pytest.importorskip("kopf", reason="kopf is not installed (pip install -e '.[clients]')")

pytestmark = [pytest.mark.clients, pytest.mark.kernel]
GARDENS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gardens.kopf.jota.test"},
    "spec": {
        "group": "kopf.jota.test",
        "scope": "Namespaced",
        "names": {"plural": "gardens", "singular": "garden", "kind": "Garden"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}


@pytest.fixture(scope="module")
def operated(plane: HostCluster) -> Iterator[HostCluster]:
    """A cluster with the operator at work."""
    plane.kubectl("create", "namespace", "kopf")
    plane.kubectl("apply", "-f", "-", input=json.dumps(GARDENS))
    plane.kubectl("wait", "--for=condition=Established", "crd/gardens.kopf.jota.test")
    log = plane.directory / "kopf.log"
    script = Path(__file__).with_name("operator_for_kopf.py")
    command = [sys.executable, "-m", "kopf", "run", "--standalone", "--namespace", "kopf", "--verbose", str(script)]
    with log.open("w") as out:
        process = subprocess.Popen(command, env=plane.environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        until(
            lambda: "Starting the watch-stream for gardens" in log.read_text() or process.poll(), what=log.read_text()
        )
        yield plane
    finally:
        process.terminate()
        assert process.wait(20) in (0, -15), log.read_text()[-4000:]


def apply(cluster: HostCluster, *objects: dict[str, Any]) -> None:
    for obj in objects:
        cluster.kubectl("apply", "-n", "kopf", "-f", "-", input=json.dumps(obj))


def find(cluster: HostCluster, what: str, name: str) -> Any:
    answer = cluster.run("kubectl", "get", what, name, "-n", "kopf", "-o", "json", check=False)
    return json.loads(answer.stdout) if answer.returncode == 0 else None


def config_map(name: str, **data: str) -> dict[str, Any]:
    labels = {"watched": "yes"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data}


def test_handlers_of_a_life(operated: HostCluster) -> None:
    apply(operated, config_map("a", k="1"))
    copy = until(lambda: find(operated, "configmap", "a-copy"), what="the copy")
    assert (copy["data"], copy["metadata"]["ownerReferences"][0]["name"]) == ({"k": "1"}, "a")

    def settled() -> bool:
        annotations = find(operated, "configmap", "a")["metadata"]["annotations"]
        return "kopf.zalando.org/last-handled-configuration" in annotations

    until(settled, what="the creation is handled")
    assert "kopf.jota.test/finalizer" in find(operated, "configmap", "a")["metadata"]["finalizers"]
    apply(operated, config_map("a", k="2"))
    until(lambda: find(operated, "configmap", "a")["metadata"]["annotations"].get("changed") == "1", what="the update")
    events = operated.get("events", "-n", "kopf", "--field-selector", "reason=Copied")["items"]
    assert [e["involvedObject"]["name"] for e in events] == ["a"]
    operated.kubectl("delete", "configmap", "a", "-n", "kopf")
    assert find(operated, "configmap", "a-farewell") is not None
    until(lambda: find(operated, "configmap", "a-copy") is None, what="the copy goes with its owner")


def test_a_field_of_a_deployment(operated: HostCluster) -> None:
    operated.kubectl("create", "deployment", "d", "--image=i", "--replicas=0", "-n", "kopf")
    operated.kubectl("scale", "deployment/d", "--replicas=3", "-n", "kopf")

    def noticed() -> bool:
        return find(operated, "deployment", "d")["metadata"]["annotations"].get("kopf.jota.test/replicas") == "3"

    until(noticed, what="the operator sees the scale")


def test_a_custom_resource_with_a_timer(operated: HostCluster) -> None:
    garden = {"apiVersion": "kopf.jota.test/v1", "kind": "Garden", "metadata": {"name": "g"}, "spec": {"size": 4}}
    apply(operated, garden)
    until(lambda: (find(operated, "garden", "g").get("status") or {}).get("flowers") == 8, what="status by the handler")
    until(lambda: find(operated, "garden", "g")["status"].get("ticks", 0) >= 3, what="the timer ticks")
    assert find(operated, "garden", "g")["metadata"]["generation"] == 1
    apply(operated, {**garden, "metadata": {"name": "huge"}, "spec": {"size": 1000}})

    def refused() -> Any:
        found = operated.get("events", "-n", "kopf", "--field-selector", "type=Error")["items"]
        return [e for e in found if "too large" in e["message"]]

    until(refused, what="the refusal is told as an event")
    gone = operated.run("kubectl", "delete", "garden", "--all", "-n", "kopf", "--timeout=20s", check=False)
    assert gone.returncode == 0, gone.stderr + (operated.directory / "kopf.log").read_text()[-6000:]
