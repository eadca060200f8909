"""ServiceAccount tokens that are kept in Secrets: they count as long as the Secret holds them, and for this server alone."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from jota.api.security import secure, write_roles
from jota.kinds.core import legacytoken
from jota.meta.resource import CONFIGMAPS, SECRETS, SERVICEACCOUNTS
from jota.pki.jwt import BadToken, TokenSigner
from jota.testing.cluster import ApiServer
from jota.testing.virtual import VirtualClock
from jota.wire.message import Peer, Request

from .elsewhere import OWN

SIGNER = TokenSigner(TokenSigner.create_key())
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"


class Calendar(VirtualClock):
    """On which days pass at once."""

    days = 0

    def now(self) -> float:
        return super().now() + self.days * 86400


@asynccontextmanager
async def secured() -> AsyncIterator[ApiServer]:
    server = ApiServer(clock=Calendar())
    secure(server.api, SIGNER, OWN)
    async with server:
        await write_roles(server.api)
        yield server


async def account(server: ApiServer) -> str:
    made = await server.client.create(SERVICEACCOUNTS, {"metadata": {"name": "robot"}}, "default")
    return str(made["metadata"]["uid"])


async def keep(server: ApiServer, token: str, **meta: Any) -> None:
    annotations = {"kubernetes.io/service-account.name": "robot"}
    made = {
        "metadata": {"name": "s", "annotations": annotations, **meta},
        "type": "kubernetes.io/service-account-token",
    }
    data = {"token": base64.b64encode(token.encode()).decode()}
    await server.client.create(SECRETS, {**made, "data": data}, "default")


async def status(server: ApiServer, token: str) -> int:
    headers = {"authorization": f"Bearer {token}"}
    request = Request("GET", "/api/v1/namespaces/default/pods", headers=headers, peer=Peer("127.0.0.1", 1, None))
    return (await server.api.handle(request)).status


async def reviewed(server: ApiServer, token: str, *audiences: str) -> dict[str, Any]:
    spec = {"token": token, **({"audiences": list(audiences)} if audiences else {})}
    answer = await server.request("POST", REVIEWS, {"spec": spec})
    found: dict[str, Any] = orjson.loads(answer.body)["status"]  # type: ignore[arg-type]
    return found


def test_it_names_its_account_and_does_not_end() -> None:
    async def story() -> None:
        async with secured() as server:
            token = SIGNER.sign(legacytoken.claims("default", "robot", await account(server), "s"))
            assert await status(server, token) == 401, "nobody holds it yet"
            await keep(server, token)
            assert await status(server, token) == 403, "known, and allowed nothing"
            assert server.api.engine.tokens is not None
            much_later = server.clock.now() + 20 * 365 * 86400
            assert server.api.engine.tokens.verify(token, much_later)[0].name == "system:serviceaccount:default:robot"
            user = (await reviewed(server, token))["user"]
            assert user["username"] == "system:serviceaccount:default:robot"
            assert "system:serviceaccounts:default" in user["groups"]
            assert "extra" not in user
            assert (await reviewed(server, token, OWN))["audiences"] == [OWN]
            assert not (await reviewed(server, token, "vault"))["authenticated"]

    asyncio.run(story())


async def without_the_secret(server: ApiServer) -> None:
    await server.client.delete(SECRETS, "s", "default")


async def with_another_token(server: ApiServer) -> None:
    await server.client.patch(SECRETS, "s", "default", {"data": {"token": "eA=="}})


async def while_the_secret_is_going(server: ApiServer) -> None:
    await server.client.patch(SECRETS, "s", "default", {"metadata": {"finalizers": ["example.com/held"]}})
    await server.client.delete(SECRETS, "s", "default")


async def without_the_account(server: ApiServer) -> None:
    await server.client.delete(SERVICEACCOUNTS, "robot", "default")


async def with_another_account_of_the_name(server: ApiServer) -> None:
    await without_the_account(server)
    await account(server)


@pytest.mark.parametrize(
    "change",
    [
        without_the_secret,
        with_another_token,
        while_the_secret_is_going,
        without_the_account,
        with_another_account_of_the_name,
    ],
)
def test_it_is_refused_at_once(change: Callable[[ApiServer], Awaitable[None]]) -> None:
    async def story() -> None:
        async with secured() as server:
            token = SIGNER.sign(legacytoken.claims("default", "robot", await account(server), "s"))
            await keep(server, token)
            assert server.api.engine.tokens is not None
            until, lives = server.api.engine.tokens.lasts(token, server.clock.now())
            assert until > 1e300
            assert lives(server.clock.now())
            assert await status(server, token) == 403
            await change(server)
            assert await status(server, token) == 401
            assert not lives(server.clock.now()), "not even on a connection that has shown it before"

    asyncio.run(story())


def test_what_is_not_signed_here_or_says_too_little_does_not_count() -> None:
    async def story() -> None:
        async with secured() as server:
            claims = legacytoken.claims("default", "robot", await account(server), "s")
            stranger = TokenSigner(TokenSigner.create_key()).sign(claims)
            await keep(server, stranger)
            assert await status(server, stranger) == 401
            for missing in [name for name in claims if name.startswith("kubernetes.io/")]:
                for value in (None, "", 7, ["s"]):
                    poor = SIGNER.sign({**claims, missing: value})
                    await server.client.delete(SECRETS, "s", "default")
                    await keep(server, poor)
                    assert await status(server, poor) == 401, (missing, value)
                    assert server.api.engine.tokens is not None
                    with pytest.raises(BadToken):
                        server.api.engine.tokens.lasts(poor, server.clock.now())

    asyncio.run(story())


def label(secret: dict[str, Any], name: str) -> str:
    return str((secret["metadata"].get("labels") or {}).get(name, ""))


def test_each_day_of_use_is_noted_once() -> None:
    async def story() -> None:
        async with secured() as server:
            token = SIGNER.sign(legacytoken.claims("default", "robot", await account(server), "s"))
            await keep(server, token)
            await status(server, token)
            await server.settle()
            first = await server.client.get(SECRETS, "s", "default")
            assert label(first, legacytoken.LAST_USED) == legacytoken.day(server.clock.now())
            for _ in range(3):  # who is remembered is noted, too
                await status(server, token)
            await server.settle()
            again = await server.client.get(SECRETS, "s", "default")
            assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
            server.clock.days += 1  # type: ignore[attr-defined]
            await status(server, token)
            await server.settle()
            after = await server.client.get(SECRETS, "s", "default")
            assert label(after, legacytoken.LAST_USED) == legacytoken.day(server.clock.now())
            assert label(after, legacytoken.LAST_USED) > label(first, legacytoken.LAST_USED)

    asyncio.run(story())


def test_what_was_marked_invalid_is_refused_noted_and_comes_back() -> None:
    async def story() -> None:
        async with secured() as server:
            token = SIGNER.sign(legacytoken.claims("default", "robot", await account(server), "s"))
            await keep(server, token)
            assert await status(server, token) == 403
            old = {legacytoken.INVALID_SINCE: "2020-01-01", legacytoken.LAST_USED: "2019-01-01"}
            await server.client.patch(SECRETS, "s", "default", {"metadata": {"labels": old}})
            assert await status(server, token) == 401
            assert "has been marked invalid" in (await reviewed(server, token))["error"]
            await server.settle()
            secret = await server.client.get(SECRETS, "s", "default")
            assert label(secret, legacytoken.LAST_USED) == legacytoken.day(server.clock.now())
            none = {"metadata": {"labels": {legacytoken.INVALID_SINCE: None}}}
            await server.client.patch(SECRETS, "s", "default", none)
            assert await status(server, token) == 403

    asyncio.run(story())


def test_since_when_uses_are_noted_is_told_and_kept() -> None:
    async def since(server: ApiServer) -> str:
        found = await server.client.get(CONFIGMAPS, legacytoken.TRACKING, "kube-system")
        return str(found["data"][legacytoken.SINCE])

    async def story() -> None:
        async with secured() as server:
            today = legacytoken.day(server.clock.now())
            assert await since(server) == today
            await server.client.patch(
                CONFIGMAPS, legacytoken.TRACKING, "kube-system", {"data": {"since": "2020-01-01"}}
            )
            await server.advance(20)
            assert await since(server) == "2020-01-01"
            await server.client.patch(CONFIGMAPS, legacytoken.TRACKING, "kube-system", {"data": {"since": "long ago"}})
            await server.advance(20)
            assert await since(server) == today
            await server.client.delete(CONFIGMAPS, legacytoken.TRACKING, "kube-system")
            await server.advance(20)
            assert await since(server) == today

    asyncio.run(story())
