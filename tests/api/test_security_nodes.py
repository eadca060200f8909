"""What a node's credential reaches: its own pods' secrets, and nothing else, by any verb, selector or subresource."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from jota.api.filters.attributes import User
from jota.api.filters.node_graph import references
from jota.api.security import secure, write_roles
from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, LEASES, NODES, PODS, SECRETS, SERVICEACCOUNTS, Resource
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer

CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", False)


def node(name: str) -> User:
    return User(f"system:node:{name}", groups=("system:nodes", "system:authenticated"))


def pod(name: str, where: str, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"nodeName": where, "containers": [{"name": "c", "image": "i"}], **spec},
    }


def secret_volume(secret: str) -> list[dict[str, Any]]:
    return [{"name": "s", "secret": {"secretName": secret}}]


@asynccontextmanager
async def cluster() -> AsyncIterator[tuple[ApiServer, Client]]:
    """Nodes n1 and n2; secret mine is n1's pod's, yours n2's, lone nobody's."""
    server = ApiServer()
    secure(server.api, TokenSigner(TokenSigner.create_key()), "https://issuer")
    async with server:
        await write_roles(server.api)
        for name in ("mine", "yours", "lone"):
            await server.client.create(SECRETS, {"metadata": {"name": name}, "stringData": {"k": name}}, "default")
        for name in ("n1", "n2"):
            await server.client.create(NODES, {"metadata": {"name": name}})
        await server.client.create(PODS, pod("one", "n1", volumes=secret_volume("mine")), "default")
        await server.client.create(PODS, pod("two", "n2", volumes=secret_volume("yours")), "default")
        yield server, server.client_for(node("n1"))


async def refused(work: Any, code: int = 403) -> str:
    with pytest.raises(ApiError) as caught:
        await work
    assert caught.value.code == code, caught.value
    return caught.value.message


def test_a_node_reads_the_secrets_of_its_pods_alone() -> None:
    async def story() -> None:
        async with cluster() as (_, n1):
            assert (await n1.get(SECRETS, "mine", "default"))["metadata"]["name"] == "mine"
            found = await n1.list(SECRETS, "default", fields="metadata.name=mine")
            assert [s["metadata"]["name"] for s in found["items"]] == ["mine"]
            text = await refused(n1.get(SECRETS, "yours", "default"))
            assert text == (
                'secrets "yours" is forbidden: User "system:node:n1" cannot get resource "secrets" in API group "" in '
                "the namespace \"default\": no relationship found between node 'n1' and this object"
            )
            # whether it exists cannot be told apart
            assert (await refused(n1.get(SECRETS, "ghost", "default"))) == text.replace("yours", "ghost")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/secrets"),
        ("GET", "/api/v1/secrets?fieldSelector=metadata.name=mine"),
        ("GET", "/api/v1/namespaces/default/secrets"),
        ("GET", "/api/v1/namespaces/default/secrets?fieldSelector=metadata.name!=mine"),
        ("GET", "/api/v1/namespaces/default/secrets?fieldSelector=metadata.name=yours"),
        (
            "GET",
            "/api/v1/namespaces/default/secrets?fieldSelector=metadata.name=yours&fieldSelector=metadata.name=mine",
        ),
        ("GET", "/api/v1/namespaces/default/secrets?labelSelector=metadata.name=mine"),
        ("GET", "/api/v1/namespaces/default/secrets?watch=1"),
        ("GET", "/api/v1/watch/namespaces/default/secrets/yours"),
        ("GET", "/api/v1/watch/namespaces/default/secrets/mine?fieldSelector=metadata.name=yours"),
        ("DELETE", "/api/v1/namespaces/default/secrets/mine"),
        ("PATCH", "/api/v1/namespaces/default/secrets/mine"),
        ("GET", "/api/v1/pods"),
        ("GET", "/api/v1/pods?fieldSelector=spec.nodeName=n2"),
        ("GET", "/api/v1/pods?fieldSelector=spec.nodeName!=n2"),
        ("GET", "/api/v1/namespaces/default/pods/two"),
        ("GET", "/api/v1/namespaces/default/pods/one/exec?command=sh"),
        ("GET", "/api/v1/namespaces/default/pods/two/log"),
        ("GET", "/api/v1/namespaces/default/serviceaccounts"),
        ("GET", "/api/v1/namespaces/default/configmaps"),
        ("DELETE", "/api/v1/namespaces/default/pods?fieldSelector=spec.nodeName=n1"),
        ("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n2"),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/default/leases/n1"),
        ("DELETE", "/api/v1/nodes/n1"),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
        ("GET", "/metrics"),
    ],
)
def test_no_other_way_in(method: str, path: str) -> None:
    async def story() -> None:
        async with cluster() as (server, _):
            answer = await server.request(method, path, b"{}", user=node("n1"))
            body = orjson.loads(answer.body if isinstance(answer.body, bytes) else b"".join(answer.body))
            assert answer.status == 403, body

    asyncio.run(story())


def test_what_a_pod_gains_and_loses_its_node_gains_and_loses() -> None:
    async def story() -> None:
        async with cluster() as (server, n1):
            await refused(n1.get(SECRETS, "lone", "default"))
            late = {"metadata": {"name": "late"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
            late["spec"]["volumes"] = secret_volume("lone")  # type: ignore[index]
            await server.client.create(PODS, late, "default")
            await refused(n1.get(SECRETS, "lone", "default"))
            binding = {"metadata": {"name": "late"}, "target": {"kind": "Node", "name": "n1"}}
            await server.client.create(PODS, binding, "default", "binding", "late")
            await n1.get(SECRETS, "lone", "default")
            await server.client.delete(PODS, "late", "default", grace=0)
            await refused(n1.get(SECRETS, "lone", "default"))

    asyncio.run(story())


def test_a_volume_and_its_secret_are_reached_through_the_claim() -> None:
    async def story() -> None:
        async with cluster() as (server, n1):
            claim = {
                "metadata": {"name": "data"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}},
                    "volumeName": "pv",
                    "storageClassName": "",
                },
            }
            volume = {
                "metadata": {"name": "pv"},
                "spec": {
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "claimRef": {"namespace": "default", "name": "data"},
                    "csi": {
                        "driver": "d.example.com",
                        "volumeHandle": "h",
                        "nodePublishSecretRef": {"namespace": "default", "name": "lone"},
                    },
                },
            }
            await server.client.create(CLAIMS, claim, "default")
            await server.client.create(VOLUMES, volume)
            await refused(n1.get(VOLUMES, "pv"))
            using = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
            await server.client.create(PODS, pod("three", "n1", volumes=using), "default")
            await n1.get(CLAIMS, "data", "default")
            await n1.get(VOLUMES, "pv")
            await n1.get(SECRETS, "lone", "default")

    asyncio.run(story())


def test_a_node_writes_itself_and_its_pods_status() -> None:
    async def story() -> None:
        async with cluster() as (_, n1):
            await n1.get(NODES, "n1")
            await n1.patch(NODES, "n1", patch={"metadata": {"labels": {"topology.kubernetes.io/zone": "a"}}})
            await n1.patch(NODES, "n1", patch={"status": {"phase": "Running"}}, subresource="status")
            await refused(n1.patch(NODES, "n2", patch={"metadata": {"labels": {"a": "b"}}}))
            label = {"metadata": {"labels": {"node-restriction.kubernetes.io/trust": "high"}}}
            text = await refused(n1.patch(NODES, "n1", patch=label))
            assert "is not allowed to modify labels: node-restriction.kubernetes.io/trust" in text
            await refused(n1.patch(NODES, "n1", patch={"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}))
            await refused(n1.create(NODES, {"metadata": {"name": "n3"}}))
            status = {"status": {"message": "hello"}}
            await n1.patch(PODS, "one", "default", status, type="strategic", subresource="status")
            await refused(n1.patch(PODS, "two", "default", status, type="strategic", subresource="status"))
            await refused(n1.delete(PODS, "two", "default"))
            await refused(n1.create(PODS, pod("new", "n1"), "default"))
            lease = {"metadata": {"name": "n1", "namespace": "kube-node-lease"}, "spec": {"holderIdentity": "n1"}}
            await n1.create(LEASES, lease)
            await refused(n1.create(LEASES, {**lease, "metadata": {**lease["metadata"], "name": "n2"}}))  # type: ignore[dict-item]
            await n1.delete(PODS, "one", "default", grace=0)

    asyncio.run(story())


def test_a_node_gets_tokens_for_its_own_pods_alone() -> None:
    async def story() -> None:
        async with cluster() as (server, n1):
            await server.client.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, "default")
            await server.client.create(SERVICEACCOUNTS, {"metadata": {"name": "boss"}}, "default")

            async def ask(client: Client, account: str, pod_name: str, uid: str = "", **spec: Any) -> Any:
                found = (await server.client.get(PODS, pod_name, "default"))["metadata"]["uid"]
                ref = {"apiVersion": "v1", "kind": "Pod", "name": pod_name, "uid": uid or found}
                body = {"spec": {"boundObjectRef": ref, **spec}}
                return await client.create(SERVICEACCOUNTS, body, "default", "token", account)

            projected = [{"serviceAccountToken": {"path": "t", "audience": "vault"}}]
            volumes = [{"name": "t", "projected": {"sources": projected}}]
            await server.client.create(PODS, pod("vault", "n1", volumes=volumes), "default")
            assert (await ask(n1, "default", "one"))["status"]["token"]
            assert (await ask(n1, "default", "vault", audiences=["vault"]))["status"]["token"]
            assert "not found in pod spec" in await refused(ask(n1, "default", "one", audiences=["vault"]))
            assert "different node" in await refused(ask(n1, "default", "two"))
            assert "does not exist" in await refused(ask(n1, "default", "one", uid="other"))
            await refused(ask(n1, "boss", "one"))
            await refused(n1.create(SERVICEACCOUNTS, {"spec": {}}, "default", "token", "default"))

    asyncio.run(story())


def mirror(name: str, owner: dict[str, Any]) -> dict[str, Any]:
    made = pod(name, "n1")
    made["metadata"] |= {"annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [owner]}
    return made


def test_a_mirror_pod_stays_one_and_gives_its_node_nothing() -> None:
    """The node made it: were it a pod as any other, its node could ask for the token of an account wherever it likes."""

    async def story() -> None:
        async with cluster() as (server, n1):
            await server.client.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, "kube-system")
            uid = (await server.client.get(NODES, "n1"))["metadata"]["uid"]
            owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": True}
            made = await n1.create(PODS, mirror("mirror", owner), "kube-system")
            gone: dict[str, Any] = {"metadata": {"annotations": None}}
            other = {"metadata": {"annotations": {"kubernetes.io/config.mirror": "y"}}}
            for wanted in (gone, other, gone | {"status": {"phase": "Running"}}):
                for manner in ("merge", "strategic"):
                    text = await refused(
                        n1.patch(PODS, "mirror", "kube-system", wanted, type=manner, subresource="status"), 422
                    )
                    assert "may not remove or update mirror pod annotation" in text
            bare = {**made, "metadata": {k: v for k, v in made["metadata"].items() if k != "annotations"}}
            await refused(n1.update(PODS, bare, subresource="status"), 422)
            note = {"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}
            await refused(n1.patch(PODS, "one", "default", note, subresource="status"), 422)
            ref = {"apiVersion": "v1", "kind": "Pod", "name": "mirror", "uid": made["metadata"]["uid"]}
            body = {"spec": {"boundObjectRef": ref}}
            await refused(n1.create(SERVICEACCOUNTS, body, "kube-system", "token", "default"))
            # nor would one that was let in without the annotation
            assert set(references({**made, "metadata": bare["metadata"]})) == {("pods", "kube-system", "mirror")}
            wrong = {"controller": None, "blockOwnerDeletion": True, "uid": "other", "name": "n2", "kind": "Pod"}
            for field, value in wrong.items():
                await refused(n1.create(PODS, mirror("wrong", {**owner, field: value}), "kube-system"))
            unowned = mirror("unowned", owner)
            del unowned["metadata"]["ownerReferences"]
            await refused(n1.create(PODS, unowned, "kube-system"))

    asyncio.run(story())


def test_a_member_of_nodes_without_a_name_is_nobody() -> None:
    async def story() -> None:
        async with cluster() as (server, _):
            odd = server.client_for(User("mallory", groups=("system:nodes",)))
            assert 'unknown node for user "mallory"' in await refused(odd.get(SECRETS, "mine", "default"))
            await refused(odd.create(NODES, {"metadata": {"name": "mallory"}}))

    asyncio.run(story())


def test_a_role_by_name_lets_its_holder_list_and_watch_by_that_name() -> None:
    async def story() -> None:
        async with cluster() as (server, _):
            roles = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
            bindings = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
            rule = {"verbs": ["list"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"]}
            await server.client.create(roles, {"metadata": {"name": "r"}, "rules": [rule]}, "default")
            ref = {"apiGroup": roles.group, "kind": "Role", "name": "r"}
            subjects = [{"kind": "User", "apiGroup": roles.group, "name": "bob"}]
            await server.client.create(
                bindings, {"metadata": {"name": "r"}, "roleRef": ref, "subjects": subjects}, "default"
            )
            bob = server.client_for(User("bob"))
            await bob.list(CONFIGMAPS, "default", fields="metadata.name=a")
            await refused(bob.list(CONFIGMAPS, "default"))
            await refused(bob.list(CONFIGMAPS, "default", fields="metadata.name=b"))

    asyncio.run(story())


def test_every_kind_of_reference_counts() -> None:
    spec = {
        "serviceAccountName": "sa",
        "imagePullSecrets": [{"name": "pull"}],
        "resourceClaims": [
            {"name": "x", "resourceClaimName": "devices"},
            {"name": "y", "resourceClaimTemplateName": "t"},
        ],
        "initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "env-s", "key": "k"}}}]}],
        "containers": [{"envFrom": [{"configMapRef": {"name": "from-c"}}, {"secretRef": {"name": "from-s"}}]}],
        "ephemeralContainers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "env-c", "key": "k"}}}]}],
        "volumes": [
            {
                "name": "a",
                "projected": {"sources": [{"secret": {"name": "proj-s"}}, {"configMap": {"name": "proj-c"}}]},
            },
            {"name": "b", "persistentVolumeClaim": {"claimName": "claim"}},
            {"name": "c", "ephemeral": {}},
            {"name": "d", "csi": {"nodePublishSecretRef": {"name": "csi-s"}}},
        ],
    }
    status = {"resourceClaimStatuses": [{"name": "y", "resourceClaimName": "p-y-abc"}, {"name": "z"}]}
    found = set(references({"metadata": {"namespace": "ns", "name": "p"}, "spec": spec, "status": status}))
    assert {n for p, _, n in found if p == "resourceclaims"} == {"devices", "p-y-abc"}
    secrets = {name for plural, _, name in found if plural == "secrets"}
    assert secrets == {"pull", "env-s", "from-s", "proj-s", "csi-s"}
    assert {n for p, _, n in found if p == "configmaps"} == {"from-c", "env-c", "proj-c"}
    assert {n for p, _, n in found if p == "persistentvolumeclaims"} == {"claim", "p-c"}
    assert {"sa"} == {n for p, _, n in found if p == "serviceaccounts"}
    mirror = {"metadata": {"namespace": "ns", "name": "p", "annotations": {"kubernetes.io/config.mirror": "x"}}}
    assert set(references({**mirror, "spec": spec})) == {("pods", "ns", "p")}
