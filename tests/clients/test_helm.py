"""What Helm does: a release kept in Secrets, three-way upgrades, waiting, rolling back. Over HTTPS, with Helm's requests."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from jota.testing.host import HostCluster, until

pytestmark = [pytest.mark.clients, pytest.mark.kernel]
STRATEGIC, MERGE = "application/strategic-merge-patch+json", "application/merge-patch+json"
Object = dict[str, Any]


class Helm:
    """As much of Helm 3 as touches a server: see its `pkg/kube/client.go` and `pkg/storage/driver/secrets.go`."""

    def __init__(self, cluster: HostCluster, namespace: str, release: str) -> None:
        self.cluster, self.namespace, self.release = cluster, namespace, release
        self.served = self._discover()

    def _discover(self) -> dict[tuple[str, str], str]:
        """(apiVersion, kind) -> path of its collection, from discovery."""
        found = {}
        status, groups = self.cluster.request("GET", "/apis")
        assert status == 200
        roots = {"v1": "/api/v1"}
        for group in groups["groups"]:
            roots |= {v["groupVersion"]: f"/apis/{v['groupVersion']}" for v in group["versions"]}
        for version, root in roots.items():
            for resource in self.cluster.request("GET", root)[1]["resources"]:
                if "/" not in resource["name"]:
                    inside = f"/namespaces/{self.namespace}" if resource["namespaced"] else ""
                    found[(version, resource["kind"])] = f"{root}{inside}/{resource['name']}"
        return found

    def call(self, method: str, path: str, body: object = None, media: str = "application/json") -> tuple[int, Any]:
        connection = self.cluster.api()
        try:
            headers = {"Content-Type": media, "User-Agent": "Helm/3.99.0"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def path(self, obj: Object) -> str:
        return self.served[(obj["apiVersion"], obj["kind"])]

    def live(self, obj: Object) -> tuple[int, Any]:
        return self.call("GET", f"{self.path(obj)}/{obj['metadata']['name']}")

    # -- actions

    def install(self, *objects: Object) -> None:
        self._record(1, objects, "pending-install")
        for obj in objects:
            marked = self._marked(obj)
            status, answer = self.call("POST", f"{self.path(obj)}?fieldManager=helm&fieldValidation=Strict", marked)
            assert status == 201, answer
        self._mark(1, "deployed")

    def upgrade(self, *objects: Object) -> None:
        number, before = self.current()
        self._record(number + 1, objects, "pending-upgrade")
        old = {(o["kind"], o["metadata"]["name"]): o for o in before}
        for obj in objects:
            previous = old.pop((obj["kind"], obj["metadata"]["name"]), None)
            status, live = self.live(obj)
            if status == 404:
                status, answer = self.call("POST", f"{self.path(obj)}?fieldManager=helm", self._marked(obj))
                assert status == 201, answer
                continue
            patch = three_way(self._marked(previous or {}), self._marked(obj), live)
            if patch:
                where = f"{self.path(obj)}/{obj['metadata']['name']}?fieldManager=helm"
                status, answer = self.call("PATCH", where, patch, STRATEGIC)
                assert status == 200, answer
        for gone in old.values():
            options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
            assert self.call("DELETE", f"{self.path(gone)}/{gone['metadata']['name']}", options)[0] == 200
        self._mark(number, "superseded")
        self._mark(number + 1, "deployed")

    def rollback(self, number: int) -> None:
        self.upgrade(*self.revision(number))

    # -- the release, in Secrets

    def _marked(self, obj: Object) -> Object:
        out: Object = json.loads(json.dumps(obj))
        labels = out.setdefault("metadata", {}).setdefault("labels", {})
        labels["app.kubernetes.io/managed-by"] = "Helm"
        return out

    def _name(self, number: int) -> str:
        return f"sh.helm.release.v1.{self.release}.v{number}"

    @property
    def _secrets(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets"

    def _record(self, number: int, objects: tuple[Object, ...], status: str) -> None:
        manifest = json.dumps({"manifest": objects, "padding": "x" * 1000}).encode()
        labels = {"owner": "helm", "name": self.release, "version": str(number), "status": status}
        packed = base64.b64encode(gzip.compress(manifest))
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "helm.sh/release.v1",
            "metadata": {"name": self._name(number), "labels": labels},
            "data": {"release": base64.b64encode(packed).decode()},
        }
        code, answer = self.call("POST", self._secrets, secret)
        assert code == 201, answer

    def _mark(self, number: int, status: str) -> None:
        where = f"{self._secrets}/{self._name(number)}"
        secret = self.call("GET", where)[1]
        secret["metadata"]["labels"]["status"] = status
        code, answer = self.call("PUT", where, secret)
        assert code == 200, answer

    def current(self) -> tuple[int, list[Object]]:
        query = f"labelSelector=name%3D{self.release}%2Cowner%3Dhelm%2Cstatus%3Ddeployed"
        (secret,) = self.call("GET", f"{self._secrets}?{query}")[1]["items"]
        number = int(secret["metadata"]["labels"]["version"])
        return number, self.revision(number)

    def revision(self, number: int) -> list[Object]:
        secret = self.call("GET", f"{self._secrets}/{self._name(number)}")[1]
        assert secret["type"] == "helm.sh/release.v1"
        packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
        objects: list[Object] = json.loads(gzip.decompress(packed))["manifest"]
        return objects


def three_way(original: Object, modified: Object, live: Object) -> Object:
    """A strategic merge patch: what `modified` says differently than `live`, and nulls for what it does not say any more."""
    patch: Object = {}
    for key, value in modified.items():
        if isinstance(value, dict):
            inner = three_way(original.get(key) or {}, value, live.get(key) or {})
            if inner:
                patch[key] = inner
        elif live.get(key) != value:
            patch[key] = value
    return patch | {key: None for key in original if key not in modified and key in live}


def chart(replicas: int | None, message: str, image: str, extra: bool = False) -> list[Object]:
    labels = {"app": "web"}
    container = {"name": "web", "image": image, "env": [{"name": "A", "value": message}]}
    spec = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    if replicas is not None:
        spec["replicas"] = replicas  # type: ignore[assignment]
    name = {"name": "web"}
    objects: list[Object] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": {"message": message}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": name, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": name,
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        },
    ]
    if extra:
        objects.append({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "extra"}})
    return objects


def test_install_upgrade_and_roll_back(plane: HostCluster, namespace: Callable[[HostCluster], str]) -> None:
    helm = Helm(plane, namespace(plane), "web")
    first = chart(2, "one", "i:1", extra=True)
    helm.install(*first)
    settings, deployment, service, account = first
    address = helm.live(service)[1]["spec"]["clusterIP"]
    # somebody else adds what the chart does not know: it must survive
    foreign = {"metadata": {"annotations": {"owner": "me"}}, "spec": {"template": {"metadata": {"labels": {"x": "y"}}}}}
    assert helm.call("PATCH", f"{helm.path(deployment)}/web", foreign, MERGE)[0] == 200
    helm.upgrade(*chart(3, "two", "i:2"))
    live = helm.live(deployment)[1]
    assert live["spec"]["replicas"] == 3
    assert live["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "A", "value": "two"}]
    assert (live["metadata"]["annotations"]["owner"], live["spec"]["template"]["metadata"]["labels"]["x"]) == (
        "me",
        "y",
    )
    assert helm.live(service)[1]["spec"]["clusterIP"] == address
    assert helm.live(settings)[1]["data"] == {"message": "two"}
    assert helm.live(account)[0] == 404
    assert helm.current()[0] == 2

    helm.upgrade(*chart(None, "three", "i:2"))
    assert helm.live(deployment)[1]["spec"]["replicas"] == 1  # given up: back to the default
    helm.rollback(1)
    assert (helm.current()[0], helm.live(settings)[1]["data"]) == (4, {"message": "one"})
    assert helm.live(account)[0] == 200


def test_a_wrong_chart_is_refused_as_a_whole_list(plane: HostCluster, namespace: Callable[[HostCluster], str]) -> None:
    helm = Helm(plane, namespace(plane), "bad")
    _, deployment, _ = chart(1, "x", "i")
    deployment["spec"]["replicsa"] = 3
    deployment["spec"]["template"]["spec"]["containers"][0]["imge"] = "i"
    status, answer = helm.call("POST", f"{helm.path(deployment)}?fieldValidation=Strict", deployment)
    assert (status, answer["reason"]) == (400, "BadRequest")
    for field in ("spec.replicsa", "spec.template.spec.containers[0].imge"):
        assert f'unknown field "{field}"' in answer["message"]


def test_waiting(cluster: HostCluster, namespace: Callable[[HostCluster], str]) -> None:
    """`--wait`: a deployment is done when its controller has seen it and all of its pods are new and available."""
    from jota.testing.host import IMAGE

    helm = Helm(cluster, namespace(cluster), "web")
    objects = chart(2, "one", IMAGE)
    pod = objects[1]["spec"]["template"]["spec"]
    pod["terminationGracePeriodSeconds"] = 0
    pod["containers"][0]["command"] = ["sh", "-c", "trap exit TERM; sleep 1000 & wait"]
    helm.install(*objects)

    def done() -> bool:
        live = helm.live(objects[1])[1]
        status = live.get("status") or {}
        seen = status.get("observedGeneration", 0) >= live["metadata"]["generation"]
        return bool(seen and status.get("updatedReplicas") == 2 and status.get("availableReplicas") == 2)

    until(done, within=30, what="the deployment is done")
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
    assert helm.call("DELETE", f"{helm.path(objects[1])}/web", options)[0] == 200
    until(lambda: helm.live(objects[1])[0] == 404, within=30, what="the deployment is gone with its pods")
