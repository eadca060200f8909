"""The official Python client: models, watches that resume, the dynamic client, create_from_yaml, leader election, streams."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jota.testing.host import IMAGE, HostCluster, until

kubernetes = pytest.importorskip(
    "kubernetes", reason="the Python client is not installed (pip install -e '.[clients]')"
)

from kubernetes import client, config, dynamic, utils, watch  # noqa: E402
from kubernetes.client.exceptions import ApiException  # noqa: E402
from kubernetes.stream import portforward, stream  # noqa: E402

pytestmark = [pytest.mark.clients, pytest.mark.kernel, pytest.mark.filterwarnings("default")]
Namespace = Callable[[HostCluster], str]


@pytest.fixture
def api(plane: HostCluster) -> Iterator[Any]:
    with config.new_client_from_config(str(plane.kubeconfig)) as made:
        yield made


@pytest.fixture
def pods(cluster: HostCluster) -> Iterator[Any]:
    with config.new_client_from_config(str(cluster.kubeconfig)) as made:
        yield client.CoreV1Api(made)


def deployment(name: str, replicas: int = 1) -> dict[str, Any]:
    labels = {"app": name}
    spec = {"containers": [{"name": "c", "image": IMAGE, "ports": [{"containerPort": 80}]}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def shell(name: str, script: str) -> dict[str, Any]:
    container = {"name": "c", "image": IMAGE, "command": ["sh", "-c", script]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def running(pods: Any, namespace: str, name: str, script: str = "trap exit TERM; sleep 1000 & wait") -> None:
    pods.create_namespaced_pod(namespace, shell(name, script))
    until(lambda: pods.read_namespaced_pod(name, namespace).status.phase == "Running", what=f"{name} runs")


def test_an_object_is_created_read_changed_and_deleted(api: Any, plane: HostCluster, namespace: Namespace) -> None:
    core, where = client.CoreV1Api(api), namespace(plane)
    made = core.create_namespaced_config_map(
        where, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a", labels={"x": "y"}), data={"k": "1"})
    )
    assert made.metadata.uid
    made.data["k"] = "2"
    assert core.replace_namespaced_config_map("a", where, made).data == {"k": "2"}
    with pytest.raises(ApiException) as stale:
        core.replace_namespaced_config_map("a", where, made)
    assert (stale.value.status, "the object has been modified" in stale.value.body) == (409, True)
    assert [c.metadata.name for c in core.list_namespaced_config_map(where, label_selector="x=y").items] == ["a"]
    assert core.patch_namespaced_config_map("a", where, {"data": {"k": None, "l": "3"}}).data == {"l": "3"}
    core.delete_namespaced_config_map("a", where)
    with pytest.raises(ApiException) as gone:
        core.read_namespaced_config_map("a", where)
    assert (gone.value.status, gone.value.reason) == (404, "Not Found")


def test_every_patch_type(api: Any, plane: HostCluster, namespace: Namespace) -> None:
    apps, where = client.AppsV1Api(api), namespace(plane)
    apps.create_namespaced_deployment(where, deployment("d"))

    def patch(body: Any, media: str, **options: Any) -> Any:
        return apps.patch_namespaced_deployment("d", where, body, _content_type=media, **options)

    done = patch([{"op": "replace", "path": "/spec/replicas", "value": 2}], "application/json-patch+json")
    assert done.spec.replicas == 2
    assert patch({"spec": {"replicas": 3}}, "application/merge-patch+json").spec.replicas == 3
    sidecar = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": IMAGE}]}}}}
    done = patch(sidecar, "application/strategic-merge-patch+json")
    assert {c.name for c in done.spec.template.spec.containers} == {"c", "side"}
    applied = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 5}}
    with pytest.raises(ApiException) as conflict:
        patch(applied, "application/apply-patch+yaml", field_manager="me")
    assert (conflict.value.status, ".spec.replicas" in conflict.value.body) == (409, True)
    done = patch(applied, "application/apply-patch+yaml", field_manager="me", force=True)
    assert ("me", "Apply") in {(m.manager, m.operation) for m in done.metadata.managed_fields}
    scale = apps.patch_namespaced_deployment_scale("d", where, {"spec": {"replicas": 7}})
    assert (scale.spec.replicas, apps.read_namespaced_deployment("d", where).spec.replicas) == (7, 7)


def test_a_watch_resumes_where_it_was(api: Any, plane: HostCluster, namespace: Namespace) -> None:
    core, where = client.CoreV1Api(api), namespace(plane)

    def put(name: str) -> None:
        core.create_namespaced_config_map(where, {"metadata": {"name": name, "labels": {"w": "1"}}})

    seen: list[tuple[str, str]] = []
    watching = watch.Watch()

    def follow() -> None:
        # each connection ends after a second; the client goes on from the last resourceVersion
        for event in watching.stream(core.list_namespaced_config_map, where, label_selector="w=1", _request_timeout=20):
            seen.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                watching.stop()

    put("a")
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    until(lambda: seen == [("ADDED", "a")], what="the first object")
    for name in ("b", "c"):
        put(name)
    core.delete_namespaced_config_map("b", where)
    thread.join(20)
    expected = [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c"), ("DELETED", "b")]
    assert (thread.is_alive(), seen) == (False, expected)

    since = core.list_namespaced_config_map(where).metadata.resource_version
    put("d")
    first, second = watch.Watch(), watch.Watch()
    events = list(first.stream(core.list_namespaced_config_map, where, resource_version=since, timeout_seconds=1))
    assert [e["object"].metadata.name for e in events] == ["d"]
    put("e")
    again = second.stream(
        core.list_namespaced_config_map, where, resource_version=first.resource_version, timeout_seconds=1
    )
    assert [e["object"].metadata.name for e in again] == ["e"]


def test_a_watch_from_a_forgotten_version_is_gone(api: Any, plane: HostCluster) -> None:
    core = client.CoreV1Api(api)
    future = 1 << 40
    with pytest.raises(ApiException) as refused:
        core.list_namespaced_config_map("default", resource_version=str(future), _request_timeout=10)
    assert (refused.value.status, "Too large resource version" in refused.value.body) == (504, True)


def test_pages(api: Any, plane: HostCluster, namespace: Namespace) -> None:
    core, where = client.CoreV1Api(api), namespace(plane)
    names = [f"p{n:02}" for n in range(10)]
    for name in names:
        core.create_namespaced_secret(where, {"metadata": {"name": name}, "stringData": {"k": name}})
    found: list[str] = []
    token, versions = None, set()
    while True:
        page = core.list_namespaced_secret(where, limit=3, _continue=token)
        found += [s.metadata.name for s in page.items]
        versions.add(page.metadata.resource_version)
        token = page.metadata._continue
        if not token:
            break
        assert page.metadata.remaining_item_count == 10 - len(found)
    assert (found, len(versions)) == (names, 1)


def test_the_dynamic_client(api: Any, plane: HostCluster, namespace: Namespace) -> None:
    anything, where = dynamic.DynamicClient(api), namespace(plane)
    maps = anything.resources.get(api_version="v1", kind="ConfigMap")
    maps.create(body={"metadata": {"name": "a"}, "data": {"k": "1"}}, namespace=where)
    assert maps.get(name="a", namespace=where).data.k == "1"
    media = "application/merge-patch+json"
    assert maps.patch(body={"data": {"k": "2"}}, name="a", namespace=where, content_type=media).data.k == "2"
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"x": "y"}}
    done = maps.server_side_apply(body=applied, name="b", namespace=where, field_manager="me")
    assert done.metadata.managedFields[0].manager == "me"
    assert [m.metadata.name for m in maps.get(namespace=where, field_selector="metadata.name=b").items] == ["b"]
    events = [e["object"].metadata.name for e in maps.watch(namespace=where, timeout=1)]
    assert {"a", "b"} <= set(events)
    deployments = anything.resources.get(api_version="apps/v1", kind="Deployment")
    deployments.create(body=deployment("d"), namespace=where)
    scale = deployments.scale.get(name="d", namespace=where)
    assert (scale.kind, scale.spec.replicas) == ("Scale", 1)
    maps.delete(name="a", namespace=where)
    with pytest.raises(dynamic.exceptions.NotFoundError):
        maps.get(name="a", namespace=where)
    with pytest.raises(dynamic.exceptions.ResourceNotFoundError):
        anything.resources.get(api_version="nobody.example.com/v1", kind="Nothing")


def test_a_custom_resource(api: Any, plane: HostCluster) -> None:
    group, word = "clients.jota.test", uuid.uuid4().hex[:6]
    plural, kind = f"boats{word}", f"Boat{word}"
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"oars": {"type": "integer"}}}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    body = {
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [{**version, "subresources": {"status": {}}}],
        },
    }
    extensions, custom = client.ApiextensionsV1Api(api), client.CustomObjectsApi(api)
    extensions.create_custom_resource_definition(body)

    def established() -> bool:
        status = extensions.read_custom_resource_definition(f"{plural}.{group}").status
        return any(c.type == "Established" and c.status == "True" for c in status.conditions or [])

    until(established, what="the definition is established")
    boat = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": "a"}, "spec": {"oars": 2, "sail": True}}
    made = custom.create_namespaced_custom_object(group, "v1", "default", plural, boat)
    assert made["spec"] == {"oars": 2}
    with pytest.raises(ApiException) as wrong:
        custom.patch_namespaced_custom_object(group, "v1", "default", plural, "a", {"spec": {"oars": "two"}})
    assert wrong.value.status == 422
    status = custom.patch_namespaced_custom_object_status(group, "v1", "default", plural, "a", {"spec": {"oars": 9}})
    assert status["spec"] == {"oars": 2}
    assert len(custom.list_cluster_custom_object(group, "v1", plural)["items"]) == 1
    extensions.delete_custom_resource_definition(f"{plural}.{group}")

    def gone() -> bool:
        try:
            custom.list_cluster_custom_object(group, "v1", plural)
        except ApiException as e:
            return bool(e.status == 404)
        return False

    until(gone, what="the custom resource is not served any more")


MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: b}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [pods], verbs: [get, list]}]
"""


def test_a_manifest(api: Any, plane: HostCluster, namespace: Namespace, tmp_path: Path) -> None:
    where, path = namespace(plane), tmp_path / "all.yaml"
    path.write_text(MANIFEST)
    utils.create_from_yaml(api, str(path), namespace=where)
    service = client.CoreV1Api(api).read_namespaced_service("web", where)
    assert (service.spec.ports[0].target_port, bool(service.spec.cluster_ip)) == ("http", True)
    with pytest.raises(utils.FailToCreateError) as again:
        utils.create_from_yaml(api, str(path), namespace=where)
    assert {e.status for e in again.value.api_exceptions} == {409}


def test_what_a_server_is_asked_about_itself(api: Any) -> None:
    version = client.VersionApi(api).get_code()
    assert (version.major, version.git_version.startswith("v1.")) == ("1", True)
    groups = {g.name for g in client.ApisApi(api).get_api_versions().groups}
    assert {"apps", "batch", "rbac.authorization.k8s.io"} <= groups
    review = client.AuthorizationV1Api(api).create_self_subject_access_review(
        {"spec": {"resourceAttributes": {"verb": "create", "resource": "pods", "namespace": "default"}}}
    )
    assert review.status.allowed


def test_a_service_account_token(api: Any, plane: HostCluster, namespace: Namespace) -> None:
    core, where = client.CoreV1Api(api), namespace(plane)
    core.create_namespaced_service_account(where, {"metadata": {"name": "robot"}})
    token = core.create_namespaced_service_account_token("robot", where, {"spec": {"expirationSeconds": 3600}})
    own = client.Configuration(host=api.configuration.host)
    own.ssl_ca_cert = api.configuration.ssl_ca_cert
    own.api_key = {"authorization": f"Bearer {token.status.token}"}
    with client.ApiClient(own) as robot:
        me = client.AuthenticationV1Api(robot).create_self_subject_review({})
        assert me.status.user_info.username == f"system:serviceaccount:{where}:robot"
        with pytest.raises(ApiException) as refused:
            client.CoreV1Api(robot).list_namespaced_pod(where)
    assert (refused.value.status, f"system:serviceaccount:{where}:robot" in refused.value.body) == (403, True)


ELECTION = """
import sys
from kubernetes import config
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

where, me = sys.argv[1:]
config.load_kube_config()
leaderelection.LeaderElection(
    electionconfig.Config(
        LeaseLock("boss", where, me),
        lease_duration=4,
        renew_deadline=3,
        retry_period=1,
        onstarted_leading=lambda: print("leads", flush=True),
        onstopped_leading=lambda: print("stops", flush=True),
    )
).run()
"""


def test_one_leader_at_a_time(api: Any, plane: HostCluster, namespace: Namespace) -> None:
    where, leases = namespace(plane), client.CoordinationV1Api(api)

    def holder() -> str:
        try:
            return str(leases.read_namespaced_lease("boss", where).spec.holder_identity or "")
        except ApiException:
            return ""

    candidates = {
        me: subprocess.Popen(
            [sys.executable, "-c", ELECTION, where, me],
            env=plane.environment,
            stdout=(plane.directory / me).open("w"),
            stderr=subprocess.DEVNULL,
        )
        for me in ("one", "two")
    }
    try:
        first = until(holder, what="somebody leads")
        time.sleep(2)
        assert (holder(), [(plane.directory / me).read_text() for me in candidates].count("leads\n")) == (first, 1)
        candidates[first].kill()
        (other,) = candidates.keys() - {first}
        until(lambda: holder() == other, what="the other takes over when the lease is not renewed")
    finally:
        for process in candidates.values():
            process.kill()
            process.wait()


def test_exec(pods: Any, cluster: HostCluster, namespace: Namespace) -> None:
    where = namespace(cluster)
    running(pods, where, "p")
    connect = pods.connect_get_namespaced_pod_exec
    command = ["sh", "-c", "echo out; echo err >&2"]
    said = stream(connect, "p", where, command=command, stdout=True, stderr=True, stdin=False, tty=False)
    assert sorted(said.split()) == ["err", "out"]

    session = stream(
        connect, "p", where, command=["sh"], stdout=True, stderr=True, stdin=True, tty=False, _preload_content=False
    )
    session.write_stdin("echo hello $((6*7))\n")
    assert session.readline_stdout(timeout=5) == "hello 42"
    session.write_stdin("exit 3\n")
    session.run_forever(timeout=5)
    assert (session.returncode, session.is_open()) == (3, False)
    with pytest.raises(ApiException) as missing:
        stream(connect, "nobody", where, command=command, stdout=True, stderr=False, stdin=False, tty=False)
    assert missing.value.status == 0 or missing.value.status == 404


def test_logs(pods: Any, cluster: HostCluster, namespace: Namespace) -> None:
    where = namespace(cluster)
    running(pods, where, "p", "for i in 1 2 3; do echo line $i; done; trap exit TERM; sleep 1000 & wait")
    until(lambda: "line 3" in pods.read_namespaced_pod_log("p", where), what="three lines")
    assert pods.read_namespaced_pod_log("p", where, tail_lines=1).split() == ["line", "3"]
    followed = watch.Watch()
    lines = []
    for line in followed.stream(pods.read_namespaced_pod_log, name="p", namespace=where):
        lines.append(line)
        if len(lines) == 3:
            followed.stop()
    assert lines == ["line 1", "line 2", "line 3"]


def test_port_forward(pods: Any, cluster: HostCluster, namespace: Namespace) -> None:
    where = namespace(cluster)
    script = "mkdir /www; echo greetings > /www/index.html; httpd -p 8080 -h /www; trap exit TERM; sleep 1000 & wait"
    running(pods, where, "p", script)
    until(
        lambda: pods.read_namespaced_pod("p", where).status.container_statuses[0].ready,
        what="the container is ready",
    )
    time.sleep(0.5)
    tunnel = portforward(pods.connect_get_namespaced_pod_portforward, "p", where, ports="8080")
    socket = tunnel.socket(8080)
    socket.setblocking(True)
    socket.sendall(b"GET / HTTP/1.0\r\nHost: p\r\n\r\n")
    answer = b""
    while chunk := socket.recv(4096):
        answer += chunk
    socket.close()
    assert (b" 200 " in answer[:20], b"greetings" in answer, tunnel.error(8080)) == (True, True, None)


def test_proxy_to_a_pod_and_eviction(pods: Any, cluster: HostCluster, namespace: Namespace) -> None:
    where = namespace(cluster)
    script = "mkdir /www; echo greetings > /www/index.html; exec httpd -f -p 8080 -h /www"
    running(pods, where, "p", script)
    until(lambda: _proxied(pods, where), what="an answer through the proxy")
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name="p", namespace=where))
    pods.create_namespaced_pod_eviction("p", where, eviction)
    until(lambda: not pods.list_namespaced_pod(where).items, what="the pod is gone")


def _proxied(pods: Any, where: str) -> bool:
    try:
        return "greetings" in pods.connect_get_namespaced_pod_proxy("p:8080", where)
    except ApiException:
        return False
