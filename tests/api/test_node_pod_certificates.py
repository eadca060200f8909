"""Requests for pod certificates by nodes: for their own pods, of the signers that these mount, and for nobody else."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jota.api.admission.node_pod_certificates import VERB
from jota.api.filters.attributes import User
from jota.api.rbac.index import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES
from jota.api.security import secure, write_roles
from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import CLUSTER_TRUST_BUNDLES, NODES, POD_CERTIFICATE_REQUESTS, PODS, SERVICEACCOUNTS
from jota.pki import keyproof
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer

RBAC = "rbac.authorization.k8s.io"
PROOF = base64.b64encode(keyproof.make("ECDSAP256")[1]).decode()
Story = Callable[[ApiServer, dict[str, Any]], Awaitable[None]]


def pod(name: str, node: str, **source: Any) -> dict[str, Any]:
    given = {"signerName": "a.b/c", "keyType": "ED25519", "keyPath": "key", **source}
    volume = {"name": "v", "projected": {"sources": [{"podCertificate": given}]}}
    return {
        "metadata": {"name": name},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}], "volumes": [volume]},
    }


def told(body: Story) -> None:
    async def story() -> None:
        server = ApiServer()
        secure(server.api, TokenSigner(TokenSigner.create_key()), "https://issuer")
        async with server:
            await write_roles(server.api)
            uids: dict[str, Any] = {}
            for account in ("default", "boss"):
                made = await server.client.create(SERVICEACCOUNTS, {"metadata": {"name": account}}, "default")
                uids[account] = made["metadata"]["uid"]
            for node in ("n1", "n2"):
                uids[node] = (await server.client.create(NODES, {"metadata": {"name": node}}))["metadata"]["uid"]
                made = await server.client.create(PODS, pod(f"on-{node}", node), "default")
                uids[f"on-{node}"] = made["metadata"]["uid"]
            await body(server, uids)

    asyncio.run(story())


def node(server: ApiServer, name: str = "n1") -> Client:
    return server.client_for(User(f"system:node:{name}", groups=("system:nodes", "system:authenticated")))


def request(uids: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """For the pod on n1, unless `spec` says otherwise; UIDs are filled in."""
    names = {"podName": "on-n1", "nodeName": "n1", "serviceAccountName": "default", "signerName": "a.b/c", **spec}
    for what in ("pod", "node", "serviceAccount"):
        names.setdefault(f"{what}UID", uids.get(names[f"{what}Name"], "none"))
    return {"metadata": {"generateName": "req-"}, "spec": {**names, "stubPKCS10Request": PROOF}}


async def refused(work: Any) -> str:
    with pytest.raises(ApiError) as caught:
        await work
    assert caught.value.code == 403, caught.value
    return caught.value.message


def test_a_node_asks_for_its_own_pods_and_sees_what_it_asked() -> None:
    async def body(server: ApiServer, uids: dict[str, Any]) -> None:
        n1, n2 = node(server), node(server, "n2")
        made = await n1.create(POD_CERTIFICATE_REQUESTS, request(uids), "default")
        name = made["metadata"]["name"]
        assert (await n1.get(POD_CERTIFICATE_REQUESTS, name, "default"))["spec"]["maxExpirationSeconds"] == 86400
        found = await n1.list(POD_CERTIFICATE_REQUESTS, fields="spec.nodeName=n1")
        assert [r["metadata"]["name"] for r in found["items"]] == [name]
        assert "no relationship found" in await refused(n2.get(POD_CERTIFICATE_REQUESTS, name, "default"))
        only = "can only list/watch podcertificaterequests with nodeName field selector"
        for fields in ("", "spec.nodeName=n1", "spec.nodeName!=n2", "spec.podName=on-n2"):
            assert only in await refused(n2.list(POD_CERTIFICATE_REQUESTS, fields=fields))
        ended = {"status": {"conditions": []}}
        text = await refused(n1.patch(POD_CERTIFICATE_REQUESTS, name, "default", ended, subresource="status"))
        assert "nodes may not access the status subresource of PodCertificateRequests" in text
        assert "nodes may not delete" in await refused(n1.delete(POD_CERTIFICATE_REQUESTS, name, "default"))
        labels = {"metadata": {"labels": {"a": "b"}}}
        assert "nodes may not patch" in await refused(n1.patch(POD_CERTIFICATE_REQUESTS, name, "default", labels))

    told(body)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"nodeName": "n2"}, 'PodCertificateRequest.Spec.NodeName="n2", which is not the requesting node "n1"'),
        ({"nodeUID": "old"}, 'names node UID "old", which differs from'),
        ({"podName": "ghost"}, 'pod "ghost" named in the PodCertificateRequest not found'),
        ({"podUID": "old"}, 'names pod UID "old", which differs from'),
        ({"podName": "on-n2"}, 'pod "default/on-n2" is not running on node "n1" named in the PodCertificateRequest'),
        (
            {"serviceAccountName": "boss"},
            'PodCertificateRequest for pod "default/on-n1" contains serviceAccountName ("boss") that differs from running '
            'pod ("default")',
        ),
        ({"serviceAccountUID": "old"}, 'names serviceaccount UID "old", which differs from'),
        (
            {"signerName": "a.b/other"},
            'pod "default/on-n1" does not mount a podCertificate projected volume for signer "a.b/other"',
        ),
    ],
)
def test_what_a_node_may_not_ask_for(spec: dict[str, Any], wanted: str) -> None:
    async def body(server: ApiServer, uids: dict[str, Any]) -> None:
        assert wanted in await refused(node(server).create(POD_CERTIFICATE_REQUESTS, request(uids, **spec), "default"))
        # the rules are for nodes: others need a role, and answer for themselves
        await server.client.create(POD_CERTIFICATE_REQUESTS, request(uids, **spec), "default")

    told(body)


def test_a_mirror_pod_gets_no_certificate() -> None:
    async def body(server: ApiServer, uids: dict[str, Any]) -> None:
        mirror = pod("mirror", "n1")
        mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
        made = await server.client.create(PODS, mirror, "default")
        asked = request({**uids, "mirror": made["metadata"]["uid"]}, podName="mirror")
        assert 'pod "default/mirror" is a mirror pod' in await refused(
            node(server).create(POD_CERTIFICATE_REQUESTS, asked, "default")
        )
        uid = (await server.client.get(NODES, "n1"))["metadata"]["uid"]
        owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": True}
        own = {**mirror, "metadata": {**mirror["metadata"], "name": "own", "ownerReferences": [owner]}}
        text = await refused(node(server).create(PODS, own, "default"))
        assert 'node "n1" can not create pods that reference podcertificates' in text

    told(body)


def test_a_role_lets_nodes_ask_for_a_signer_that_the_pod_does_not_mount() -> None:
    async def body(server: ApiServer, uids: dict[str, Any]) -> None:
        rule = {
            "verbs": [VERB],
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["a.b:driver"],
            "resourceNames": ["default"],
        }
        await server.client.create(CLUSTER_ROLES, {"metadata": {"name": "drivers"}, "rules": [rule]})
        binding = {
            "metadata": {"name": "drivers"},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "drivers"},
            "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": "system:nodes"}],
        }
        await server.client.create(CLUSTER_ROLE_BINDINGS, binding)
        n1 = node(server)
        await n1.create(POD_CERTIFICATE_REQUESTS, request(uids, signerName="a.b/driver"), "default")
        await refused(n1.create(POD_CERTIFICATE_REQUESTS, request(uids, signerName="a.b/else"), "default"))

    told(body)


def test_nodes_and_service_accounts_read_trust_bundles() -> None:
    async def body(server: ApiServer, _: dict[str, Any]) -> None:
        account = User("system:serviceaccount:default:default", groups=("system:serviceaccounts",))
        for client in (node(server), server.client_for(account)):
            assert (await client.list(CLUSTER_TRUST_BUNDLES))["items"] == []
            await refused(client.delete(CLUSTER_TRUST_BUNDLES, "any"))
        await refused(server.client_for(User("bob", groups=("system:authenticated",))).list(CLUSTER_TRUST_BUNDLES))

    told(body)
