"""Kubelets get the certificates that are theirs, and no others."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from cryptography import x509

from jota.api.filters.attributes import User
from jota.controllers.certificates import CLIENT, SERVING, USER, judge, misused
from jota.controllers.controller import ControllerConfig
from jota.meta.resource import CSRS
from jota.pki.ca import CertificateAuthority, Subject, create_csr

from .stories import running

NODE = Subject("system:node:n1", ("system:nodes",))
HOST = Subject("system:node:n1", ("system:nodes",), ("n1",), ("10.0.0.1",))
RESERVED = frozenset({"kubernetes", "kubernetes.default.svc", "localhost", "127.0.0.1", "10.43.0.1"})
"""What the server is called."""


def host(*names: str) -> Subject:
    dns, addresses = ([n for n in names if n.replace(".", "").isdigit() is number] for number in (False, True))
    return Subject("system:node:n1", ("system:nodes",), tuple(dns), tuple(addresses))


def named(name: str) -> Subject:
    return Subject(f"system:node:{name}", ("system:nodes",), (name,))


def spec(signer: str = CLIENT, **given: Any) -> dict[str, Any]:
    own = "client auth" if signer == CLIENT else "server auth"
    base = {"signerName": signer, "usages": ["digital signature", own], "username": "system:bootstrap:x"}
    return {**base, "groups": ["system:bootstrappers"], **given}


ITSELF = {"username": "system:node:n1", "groups": ["system:nodes", "system:authenticated"]}


@pytest.mark.parametrize(
    ("request_", "subject", "allowed"),
    [
        (spec(), NODE, True),
        (spec(**ITSELF), NODE, True),
        (spec(username="system:node:n2", groups=["system:nodes"]), NODE, False),
        (spec(groups=["system:authenticated"]), NODE, False),
        (spec(usages=["client auth", "server auth"]), NODE, False),
        (spec(usages=["digital signature"]), NODE, False),
        (spec(), Subject("system:node:n1", ("system:nodes", "system:masters")), False),
        (spec(), Subject("admin", ("system:nodes",)), False),
        (spec(), Subject("system:node:", ("system:nodes",)), False),
        (spec(), HOST, False),
        (spec(SERVING, **ITSELF), HOST, True),
        (spec(SERVING, **ITSELF), NODE, False),
        (spec(SERVING), HOST, False),
        (spec(SERVING, **ITSELF), host("n1.example.com"), True),
        (spec(SERVING, **ITSELF), host("n1", "10.0.0.1", "192.168.0.9"), True),
        (spec(SERVING, **ITSELF), host("kubernetes.default.svc"), False),
        (spec(SERVING, **ITSELF), host("n1", "Kubernetes.default.svc"), False),
        (spec(SERVING, **ITSELF), host("*.default.svc"), False),
        (spec(SERVING, **ITSELF), host("n2"), False),
        (spec(SERVING, **ITSELF), host("10.43.0.1"), False),
        (spec(SERVING, **ITSELF), host("n1", "10.43.0.1"), True),
        (spec(SERVING, username="system:node:kubernetes", groups=["system:nodes"]), named("kubernetes"), False),
    ],
)
def test_who_may_have_what(request_: dict[str, Any], subject: Subject, allowed: bool) -> None:
    assert (judge(request_, subject, RESERVED) == "") is allowed


def test_no_node_is_called_what_the_server_is() -> None:
    """Clients believe whoever shows a certificate of the cluster's CA in the server's name: of the addresses that a node asks for, it
    gets its own, also where both stand on one host. What an administrator approves is signed as it is."""

    async def story() -> None:
        authority = CertificateAuthority(CertificateAuthority.create("test", days=9, now=1_800_000_000.0))
        async with running(config=ControllerConfig(signer=authority, reserved=RESERVED)) as api:
            node = User("system:node:n1", groups=("system:nodes", "system:authenticated"))

            async def names(name: str, asked: Subject, *, approve: bool = False) -> tuple[set[str], set[str]]:
                pem, _ = create_csr(asked)
                request = base64.b64encode(pem).decode()
                usages = ["server auth", "digital signature"]
                spec = {"request": request, "signerName": SERVING, "usages": usages}
                csr = await api.client_for(node).create(CSRS, {"metadata": {"name": name}, "spec": spec})
                if approve:
                    approved = {"type": "Approved", "status": "True", "reason": "KubectlApprove"}
                    await api.client.update(CSRS, {**csr, "status": {"conditions": [approved]}}, subresource="approval")
                await api.advance(2)
                signed = (await api.client.get(CSRS, name)).get("status", {}).get("certificate", "")
                if not signed:
                    return set(), set()
                certificate = x509.load_pem_x509_certificate(base64.b64decode(signed))
                found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
                addresses = {str(ip) for ip in found.get_values_for_type(x509.IPAddress)}
                return set(found.get_values_for_type(x509.DNSName)), addresses

            mixed = host("n1", "10.0.0.1", "10.43.0.1", "127.0.0.1")
            assert await names("mixed", mixed) == ({"n1"}, {"10.0.0.1"})
            assert await names("server", host("n1", "kubernetes.default.svc")) == (set(), set())
            known = host("n1", "kubernetes.default.svc", "10.43.0.1")
            assert await names("known", known, approve=True) == ({"n1", "kubernetes.default.svc"}, {"10.43.0.1"})

    asyncio.run(story())


def test_a_bootstrapping_node_gets_its_certificate_and_an_impostor_does_not() -> None:
    async def story() -> None:
        authority = CertificateAuthority(CertificateAuthority.create("test", days=9, now=1_800_000_000.0))
        async with running(config=ControllerConfig(signer=authority)) as api:

            async def ask(name: str, subject: Subject, user: User) -> None:
                pem, _ = create_csr(subject)
                body = {
                    "metadata": {"name": name},
                    "spec": {
                        "request": base64.b64encode(pem).decode(),
                        "signerName": CLIENT,
                        "usages": ["client auth", "digital signature"],
                    },
                }
                await api.client_for(user).create(CSRS, body)

            bootstrap = User("system:bootstrap:abc", groups=("system:bootstrappers", "system:authenticated"))
            await ask("good", NODE, bootstrap)
            await ask("bad", Subject("system:node:n1", ("system:masters",)), bootstrap)
            await api.advance(2)
            good = await api.client.get(CSRS, "good")
            assert base64.b64decode(good["status"]["certificate"]).startswith(b"-----BEGIN CERTIFICATE-----")
            assert not (await api.client.get(CSRS, "bad")).get("status", {}).get("certificate")
            await api.advance(6000)
            names = [c["metadata"]["name"] for c in (await api.client.list(CSRS))["items"]]
            assert names == ["bad"], "what was answered is cleaned up after an hour"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("signer", "subject"),
    [
        (CLIENT, Subject("root", ("system:masters",))),
        (CLIENT, Subject("system:node:n1", ("system:nodes", "system:masters"))),
        (CLIENT, HOST),
        (SERVING, Subject("root", ("system:masters",), ("n1",))),
        (SERVING, NODE),
    ],
)
def test_what_no_kubelet_has_a_kubelets_signer_does_not_sign(signer: str, subject: Subject) -> None:
    """Whoever may approve for one signer must not get the certificates of another."""

    async def story() -> None:
        authority = CertificateAuthority(CertificateAuthority.create("test", days=9, now=1_800_000_000.0))
        async with running(config=ControllerConfig(signer=authority)) as api:
            request = base64.b64encode(create_csr(subject)[0]).decode()
            usages = ["client auth" if signer == CLIENT else "server auth", "digital signature"]
            spec = {"request": request, "signerName": signer, "usages": usages}
            csr = await api.client.create(CSRS, {"metadata": {"name": "c"}, "spec": spec})
            approved = {"type": "Approved", "status": "True", "reason": "KubectlApprove"}
            await api.client.update(CSRS, {**csr, "status": {"conditions": [approved]}}, subresource="approval")
            await api.advance(2)
            status = (await api.client.get(CSRS, "c"))["status"]
            assert "certificate" not in status
            assert [c["reason"] for c in status["conditions"] if c["type"] == "Failed"] == ["SignerValidationFailure"]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("usages", "text"),
    [
        (["client auth"], ""),
        (["digital signature", "key encipherment", "client auth"], ""),
        (["digital signature"], "missing required usage for client certificate: client auth"),
        (["client auth", "server auth"], "invalid usage for client certificate: server auth"),
    ],
)
def test_what_a_users_certificate_is_for(usages: list[str], text: str) -> None:
    assert misused(usages) == text


def test_a_users_certificate_is_signed_once_an_administrator_approves_it() -> None:
    async def story() -> None:
        authority = CertificateAuthority(CertificateAuthority.create("test", days=9, now=1_800_000_000.0))
        async with running(config=ControllerConfig(signer=authority)) as api:

            async def ask(name: str, *usages: str) -> None:
                pem, _ = create_csr(Subject("jane", ("developers",)))
                request = base64.b64encode(pem).decode()
                spec = {"request": request, "signerName": USER, "usages": list(usages), "expirationSeconds": 3600}
                csr = await api.client.create(CSRS, {"metadata": {"name": name}, "spec": spec})
                await api.advance(2)
                assert not (await api.client.get(CSRS, name))["status"], "nobody but an administrator approves it"
                approved = {"type": "Approved", "status": "True", "reason": "KubectlApprove"}
                await api.client.update(CSRS, {**csr, "status": {"conditions": [approved]}}, subresource="approval")
                await api.advance(2)

            await ask("jane", "client auth", "digital signature")
            pem = base64.b64decode((await api.client.get(CSRS, "jane"))["status"]["certificate"])
            certificate = x509.load_pem_x509_certificate(pem)
            assert "O=developers" in certificate.subject.rfc4514_string()
            seconds = (certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds()
            assert seconds <= 3600 + 300, "an hour, and five minutes for clocks that go wrong"
            await ask("host", "server auth", "client auth")
            status = (await api.client.get(CSRS, "host"))["status"]
            failed = next(c for c in status["conditions"] if c["type"] == "Failed")
            assert (failed["reason"], failed["message"]) == (
                "SignerValidationFailure",
                "invalid usage for client certificate: server auth",
            )
            assert "certificate" not in status

    asyncio.run(story())
