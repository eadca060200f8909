"""Pod certificates, trust bundles and device taints over the API: who may sign and attest, and whose time it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jota.aio.clock import rfc3339
from jota.api.filters.attributes import User
from jota.api.rbac.index import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES
from jota.api.security import secure, write_roles
from jota.kinds.certificates import clustertrustbundle, podcertificaterequest
from jota.kinds.resource import devicetaintrule
from jota.meta.errors import ApiError
from jota.pki.ca import CertificateAuthority, Subject, create_csr
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer, story

BACKDATED = 300.0
"""Seconds by which this authority's certificates begin before they are made."""
GROUP, RBAC = "certificates.k8s.io", "rbac.authorization.k8s.io"
REQUESTS, BUNDLES = podcertificaterequest.KIND.resource, clustertrustbundle.KIND.resource
RULES = devicetaintrule.KIND.resource


async def refused(work: Any, code: int) -> str:
    with pytest.raises(ApiError) as caught:
        await work
    assert caught.value.code == code, caught.value
    return caught.value.message


def test_who_may_sign_and_attest() -> None:
    async def tale() -> None:
        server = ApiServer()
        secure(server.api, TokenSigner(TokenSigner.create_key()), "https://issuer")
        async with server:
            await write_roles(server.api)
            rules = [
                {"verbs": ["*"], "apiGroups": [GROUP], "resources": ["podcertificaterequests/status", BUNDLES.plural]},
                {
                    "verbs": ["sign", "attest"],
                    "apiGroups": [GROUP],
                    "resources": ["signers"],
                    "resourceNames": ["a.b/*"],
                },
            ]
            await server.client.create(CLUSTER_ROLES, {"metadata": {"name": "clerk"}, "rules": rules})
            binding = {
                "metadata": {"name": "clerk"},
                "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "clerk"},
                "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "carl"}],
            }
            await server.client.create(CLUSTER_ROLE_BINDINGS, binding)
            carl, now = server.client_for(User("carl")), server.clock.now()
            authority = CertificateAuthority(CertificateAuthority.create("root", days=9, now=now))
            csr, _ = create_csr(Subject("pod", ()))
            stub = "".join(csr.decode().splitlines()[1:-1])
            spoken = ("podName", "podUID", "serviceAccountName", "serviceAccountUID", "nodeName", "nodeUID")

            async def asked(name: str, signer: str) -> dict[str, Any]:
                spec = {**dict.fromkeys(spoken, "x"), "signerName": signer, "stubPKCS10Request": stub}
                spec["maxExpirationSeconds"] = 2 * 86400
                return await server.client.create(REQUESTS, {"metadata": {"name": name}, "spec": spec}, "default")

            def issued(request: dict[str, Any], at: float) -> dict[str, Any]:
                chain = authority.sign_csr(csr, days=1, client=True, server=False, now=at).decode()
                from jota.pki import pem

                leaf = pem.certificate(pem.blocks(chain)[0].der)
                ended = {"type": "Issued", "status": "True", "reason": "R", "lastTransitionTime": rfc3339(now)}
                status = {
                    "conditions": [ended],
                    "certificateChain": chain,
                    "notBefore": rfc3339(leaf.not_before),
                    "notAfter": rfc3339(leaf.not_after),
                    "beginRefreshAt": rfc3339(leaf.not_before + 3600),
                }
                return {**request, "status": status}

            mine, other = await asked("mine", "a.b/c"), await asked("other", "x.y/z")
            text = await refused(carl.update(REQUESTS, issued(other, now + BACKDATED), "status"), 422)
            assert 'spec.signerName: Forbidden: User "carl" is not permitted to "sign" for signer "x.y/z"' in text
            text = await refused(carl.update(REQUESTS, issued(mine, now), "status"), 422)
            assert "must be set to within 5 minutes of kube-apiserver's current time" in text
            done = await carl.update(REQUESTS, issued(mine, now + BACKDATED), "status")
            assert podcertificaterequest.ended(done) == "Issued"
            found = await server.client.list(REQUESTS, fields="spec.podName=x,spec.nodeName=x,spec.signerName=a.b/c")
            assert [i["metadata"]["name"] for i in found["items"]] == ["mine"]

            def bundle(name: str, signer: str) -> dict[str, Any]:
                spec = {"signerName": signer, "trustBundle": authority.certificate_pem.decode()}
                return {"metadata": {"name": name}, "spec": spec}

            await carl.create(BUNDLES, bundle("a.b:c:1", "a.b/c"))
            text = await refused(carl.create(BUNDLES, bundle("x.y:z:1", "x.y/z")), 403)
            assert 'user not permitted to attest for signerName "x.y/z"' in text

    asyncio.run(tale())


@story
async def test_a_taint_is_as_old_as_its_effect(api: ApiServer) -> None:
    taint = {"key": "a", "effect": "NoSchedule"}
    made = await api.client.create(RULES, {"metadata": {"name": "r"}, "spec": {"taint": taint}})
    born = made["spec"]["taint"]["timeAdded"]
    assert born == rfc3339(api.clock.now())
    await api.advance(60)
    renamed = await api.client.patch(RULES, "r", "", {"spec": {"taint": {"value": "x"}}})
    assert renamed["spec"]["taint"]["timeAdded"] == born
    worse = await api.client.patch(RULES, "r", "", {"spec": {"taint": {"effect": "NoExecute"}}})
    assert worse["spec"]["taint"]["timeAdded"] == rfc3339(api.clock.now())
    given = {"effect": "None", "timeAdded": "2026-01-01T00:00:00Z"}
    set_ = await api.client.patch(RULES, "r", "", {"spec": {"taint": given}})
    assert set_["spec"]["taint"]["timeAdded"] == given["timeAdded"]
    assert set_["metadata"]["generation"] == 4


@story
async def test_a_request_of_a_pod_in_protobuf(api: ApiServer) -> None:
    """Bodies of the new kinds in protobuf: their field numbers came with the release."""
    key = b"\x0a\x01a\x12\x00\x1a\x04None"  # DeviceTaint: key, value, effect
    spec = b"\x12" + bytes([len(key)]) + key
    meta = b"\x0a\x01p"
    raw = b"\x0a" + bytes([len(meta)]) + meta + b"\x12" + bytes([len(spec)]) + spec
    types = b"\x0a\x12resource.k8s.io/v1\x12\x0fDeviceTaintRule"
    body = b"k8s\x00\x0a" + bytes([len(types)]) + types + b"\x12" + bytes([len(raw)]) + raw
    response = await api.request("POST", RULES.path(), body, content_type="application/vnd.kubernetes.protobuf")
    assert response.status == 201, response.body
    assert (await api.client.get(RULES, "p"))["spec"]["taint"]["effect"] == "None"
