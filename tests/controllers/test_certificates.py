"""Kubelets get the certificates that are theirs, and no others."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from jota.api.filters.attributes import User
from jota.controllers.certificates import CLIENT, SERVING, judge
from jota.controllers.controller import ControllerConfig
from jota.meta.resource import CSRS
from jota.pki.ca import CertificateAuthority, Subject, create_csr

from .stories import running

NODE = Subject("system:node:n1", ("system:nodes",))
HOST = Subject("system:node:n1", ("system:nodes",), ("n1",), ("10.0.0.1",))


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
    ],
)
def test_who_may_have_what(request_: dict[str, Any], subject: Subject, allowed: bool) -> None:
    assert (judge(request_, subject) == "") is allowed


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
