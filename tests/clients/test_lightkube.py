"""lightkube: typed resources, server-side apply, list and watch, logs, generic resources."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from jota.testing.host import HostCluster, until

pytest.importorskip("lightkube", reason="lightkube is not installed (pip install -e '.[clients]')")

from lightkube import ApiError, Client, KubeConfig, codecs
from lightkube.generic_resource import create_global_resource, load_in_cluster_generic_resources
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Namespace, Node
from lightkube.types import PatchType

pytestmark = [pytest.mark.clients, pytest.mark.kernel, pytest.mark.filterwarnings("default")]
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: d, namespace: NAMESPACE}
spec:
  replicas: 2
  selector: {matchLabels: {app: d}}
  template:
    metadata: {labels: {app: d}}
    spec: {containers: [{name: c, image: i}]}
"""


@pytest.fixture
def client(plane: HostCluster) -> Any:
    return Client(config=KubeConfig.from_file(str(plane.kubeconfig)), field_manager="lightkube-test", trust_env=False)


def test_objects(client: Any, plane: HostCluster, namespace: Callable[[HostCluster], str]) -> None:
    where = namespace(plane)
    made = client.create(ConfigMap(metadata=ObjectMeta(name="a", namespace=where, labels={"x": "y"}), data={"k": "1"}))
    made.data["k"] = "2"
    assert client.replace(made).data == {"k": "2"}
    merged = client.patch(ConfigMap, "a", {"data": {"l": "3"}}, namespace=where, patch_type=PatchType.MERGE)
    assert merged.data == {"k": "2", "l": "3"}
    assert [m.metadata.name for m in client.list(ConfigMap, namespace=where, labels={"x": "y"})] == ["a"]
    assert {n.metadata.name for n in client.list(Namespace)} >= {"default", where}
    seen = []
    since = made.metadata.resourceVersion  # kube-root-ca.crt may come later than that
    for event, found in client.watch(
        ConfigMap, namespace=where, labels={"x": "y"}, resource_version=since, server_timeout=5
    ):
        seen.append((event, found.metadata.name))
        if event == "DELETED":
            break
        if len(seen) == 2:
            client.delete(ConfigMap, "a", namespace=where)
    assert seen == [("MODIFIED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    with pytest.raises(ApiError) as gone:
        client.get(ConfigMap, "a", namespace=where)
    assert (gone.value.status.code, gone.value.status.reason) == (404, "NotFound")


def test_apply_and_scale(client: Any, plane: HostCluster, namespace: Callable[[HostCluster], str]) -> None:
    where = namespace(plane)
    (wanted,) = codecs.load_all_yaml(DEPLOYMENT.replace("NAMESPACE", where))
    assert client.apply(wanted).metadata.managedFields[0].operation == "Apply"
    again = client.apply(wanted)
    assert again.metadata.generation == 1
    scale = client.get(Deployment.Scale, "d", namespace=where)
    scale.spec.replicas = 4
    scale.metadata.resourceVersion = None  # the controller may have written its status meanwhile
    assert client.replace(scale, "d", namespace=where).spec.replicas == 4
    with pytest.raises(ApiError) as conflict:
        client.apply(wanted)
    assert conflict.value.status.code == 409
    assert client.apply(wanted, force=True).spec.replicas == 2
    status = {"status": {"observedGeneration": 1, "replicas": 9}}
    assert client.patch(Deployment.Status, "d", status, namespace=where).status.replicas in (9, 2)
    client.deletecollection(Deployment, namespace=where)
    until(lambda: not list(client.list(Deployment, namespace=where)), what="all deployments are gone")


def test_a_kind_that_is_new(client: Any) -> None:
    word = uuid.uuid4().hex[:6]
    kind, plural, group = f"Raft{word}", f"rafts{word}", "lightkube.jota.test"
    names = {"plural": plural, "singular": kind.lower(), "kind": kind}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"logs": {"type": "integer"}}}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    body = {
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Cluster", "names": names, "versions": [version]},
    }
    client.create(CustomResourceDefinition.from_dict(body))

    def established() -> bool:
        found = client.get(CustomResourceDefinition, f"{plural}.{group}")
        return any(c.type == "Established" and c.status == "True" for c in (found.status.conditions or []))

    until(established, what="the definition is established")
    load_in_cluster_generic_resources(client)
    raft = create_global_resource(group, "v1", kind, plural)
    client.create(raft(metadata=ObjectMeta(name="a"), spec={"logs": 3}))
    assert client.get(raft, "a").spec == {"logs": 3}
    client.delete(CustomResourceDefinition, f"{plural}.{group}")


def test_no_nodes(client: Any) -> None:
    assert list(client.list(Node)) == []
