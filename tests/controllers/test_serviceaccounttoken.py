"""Secrets that hold a ServiceAccount's token: a table of what they lack; stories of accounts that come, go and come again."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from jota.controllers.controller import ControllerConfig
from jota.controllers.serviceaccounttoken import ServiceAccountTokenController, filled
from jota.kinds.core import legacytoken
from jota.meta.resource import SECRETS, SERVICEACCOUNTS
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer

from .builders import CA_PEM
from .stories import exists, running

Object = dict[str, Any]
SIGNER = TokenSigner(TokenSigner.create_key())
CONFIG = ControllerConfig(ca_pem=CA_PEM, token_signer=SIGNER)
NAME, UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"


def secret(name: str = "s", account: str = "robot", uid: str = "", **data: str) -> Object:
    annotations = {NAME: account, **({UID: uid} if uid else {})}
    meta = {"name": name, "namespace": "ns", "annotations": annotations}
    return {"metadata": meta, "type": "kubernetes.io/service-account-token", "data": data}


def plain(text: str) -> str:
    return base64.b64decode(text).decode()


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


WHOLE = {"token": b64("signed"), "ca.crt": b64("CA"), "namespace": b64("ns")}


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ({}, WHOLE),
        (WHOLE, None),
        ({**WHOLE, "ca.crt": b64("old")}, WHOLE),
        ({**WHOLE, "token": b64("mine")}, None),
        ({k: v for k, v in WHOLE.items() if k != "token"} | {"more": "eA=="}, {**WHOLE, "more": "eA=="}),
        ({**WHOLE, "namespace": ""}, WHOLE),
    ],
)
def test_what_a_secret_lacks(data: dict[str, str], wanted: dict[str, str] | None) -> None:
    asked: list[Object] = []

    def sign(claims: Object) -> str:
        asked.append(claims)
        return "signed"

    found = filled(secret(**data), "u1", "CA", sign)
    assert (found and found["data"]) == wanted
    assert asked == ([] if data.get("token") else [legacytoken.claims("ns", "robot", "u1", "s")])
    if found is not None:
        assert found["metadata"]["annotations"] == {NAME: "robot", UID: "u1"}


async def account(api: ApiServer, name: str = "robot") -> str:
    return str((await api.client.create(SERVICEACCOUNTS, {"metadata": {"name": name}}, "ns"))["metadata"]["uid"])


async def left(api: ApiServer, name: str = "s") -> bool:
    return await exists(api, SECRETS, name, "ns")


def test_a_secret_is_filled_once_and_goes_with_its_account() -> None:
    async def story() -> None:
        async with running(ServiceAccountTokenController, config=CONFIG) as api:
            uid = await account(api)
            await api.client.create(SECRETS, secret(), "ns")
            await api.settle()
            made = await api.client.get(SECRETS, "s", "ns")
            assert made["metadata"]["annotations"] == {NAME: "robot", UID: uid}
            assert (plain(made["data"]["namespace"]), plain(made["data"]["ca.crt"])) == ("ns", CA_PEM)
            claims = SIGNER.read(plain(made["data"]["token"]))
            assert claims == legacytoken.claims("ns", "robot", uid, "s")
            await api.advance(3600)
            assert await api.client.get(SECRETS, "s", "ns") == made, "it stays as it is"
            await api.client.patch(SECRETS, "s", "ns", {"data": {"token": None, "ca.crt": b64("forged")}})
            await api.settle()
            again = (await api.client.get(SECRETS, "s", "ns"))["data"]
            assert SIGNER.read(plain(again["token"])) == claims
            assert plain(again["ca.crt"]) == CA_PEM
            await api.client.delete(SERVICEACCOUNTS, "robot", "ns")
            await api.settle()
            assert not await left(api)

    asyncio.run(story())


def test_a_secret_of_nobody_or_of_an_account_that_is_another_goes() -> None:
    async def story() -> None:
        async with running(ServiceAccountTokenController, config=CONFIG) as api:
            await api.client.create(SECRETS, secret("nobody", "ghost"), "ns")
            uid = await account(api)
            await api.client.create(SECRETS, secret("old", uid="another"), "ns")
            await api.client.create(SECRETS, secret("right", uid=uid), "ns")
            await api.settle()
            assert [await left(api, n) for n in ("nobody", "old", "right")] == [False, False, True]
            await api.client.delete(SERVICEACCOUNTS, "robot", "ns")
            await account(api)  # the same name, at once
            await api.settle()
            assert not await left(api, "right")

    asyncio.run(story())


def test_other_secrets_and_one_that_is_held_back_are_left_alone() -> None:
    async def story() -> None:
        async with running(ServiceAccountTokenController, config=CONFIG) as api:
            await account(api)
            opaque = secret("opaque") | {"type": "Opaque"}
            await api.client.create(SECRETS, opaque, "ns")
            held = secret("held", "ghost")
            held["metadata"]["finalizers"] = ["example.com/held"]
            await api.client.create(SECRETS, held, "ns")
            await api.settle()
            assert (await api.client.get(SECRETS, "opaque", "ns")).get("data") in (None, {})
            going = await api.client.get(SECRETS, "held", "ns")
            assert going["metadata"]["deletionTimestamp"]
            await api.advance(60)
            assert await api.client.get(SECRETS, "held", "ns") == going

    asyncio.run(story())


def test_without_a_key_nothing_is_touched() -> None:
    async def story() -> None:
        async with running(ServiceAccountTokenController) as api:
            await api.client.create(SECRETS, secret("nobody", "ghost"), "ns")
            await api.settle()
            assert await left(api, "nobody")

    asyncio.run(story())
