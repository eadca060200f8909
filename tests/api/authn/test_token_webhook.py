"""Token webhooks, with a real one behind TLS; impersonation and fairness of those that they vouch for."""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path
from typing import Any

import orjson
import pytest

from jota.api.authn.kubeconfig import Endpoint, endpoint
from jota.api.authn.webhook import BAD, GOOD, WebhookAuthenticator, user_of
from jota.meta.resource import SERVICEACCOUNTS as ACCOUNTS
from jota.wire.message import Request

from .elsewhere import (
    OWN,
    RSA_KEYS,
    Pki,
    RealDays,
    Service,
    authenticator,
    by_flags,
    cluster,
    kubeconfig,
    review,
    serving,
    sign,
    who,
)


def test_a_webhook_vouches_for_users_and_is_remembered(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    mutual = pki.serving
    mutual.load_verify_locations(cadata=pki.pem)
    mutual.verify_mode = ssl.CERT_REQUIRED

    async def main() -> None:
        clock = RealDays()
        async with serving(mutual) as service:
            users = {"opaque": {"username": "ada", "uid": "7", "groups": ["dev"], "extra": {"scope": ["a"]}}}
            service.answers["/review"] = review(users)
            pair = {
                "client-certificate-data": base64.b64encode(pki.client.certificate).decode(),
                "client-key-data": base64.b64encode(pki.client.key).decode(),
                "token": "secret",
            }
            webhook = WebhookAuthenticator(endpoint(kubeconfig(service, pki, **pair), tmp_path), clock, (OWN,))
            async with cluster(webhook, clock=clock) as server:
                status, info = await who(server, "opaque")
                assert status == 201, info
                assert info == {
                    "username": "ada",
                    "uid": "7",
                    "groups": ["dev", "system:authenticated"],
                    "extra": {"scope": ["a"]},
                }
                (asked,) = service.asked
                assert asked.headers["authorization"] == "Bearer secret"
                body = orjson.loads(asked.body)
                assert (body["kind"], body["spec"]) == ("TokenReview", {"token": "opaque", "audiences": [OWN]})
                many = [who(server, "unknown") for _ in range(20)]
                assert await asyncio.gather(*many) == [(401, "Unauthorized")] * 20
                assert len(service.asked) == 2, "one question for all who wait"
                users["unknown"] = {"username": "late"}
                await server.advance(BAD - 1)
                assert (await who(server, "unknown"))[0] == 401
                await server.advance(2)
                assert (await who(server, "unknown"))[1]["username"] == "late"
                users.clear()
                assert (await who(server, "opaque"))[0] == 201
                await server.advance(GOOD)
                assert (await who(server, "opaque"))[0] == 401
                own = server.api.engine.tokens
                assert own is not None
                account = await server.client.create(ACCOUNTS, {"metadata": {"name": "robot"}}, "default")
                token, _ = own.issue(account, [], 600, None, clock.now())
                count = len(service.asked)
                assert (await who(server, token))[0] == 201
                await server.client.delete(ACCOUNTS, "robot", "default")
                assert (await who(server, token))[0] == 401
                assert len(service.asked) == count, "our own tokens are shown to nobody"

    asyncio.run(main())


def test_a_webhook_that_fails_lets_nobody_in_and_is_asked_again(tmp_path: Path) -> None:
    pki = Pki(tmp_path)

    async def main() -> None:
        clock = RealDays()
        async with serving(pki.serving) as service:
            webhook = WebhookAuthenticator(endpoint(kubeconfig(service, pki), tmp_path), clock, (OWN,))
            async with cluster(webhook, clock=clock) as server:
                answers: list[Any] = [b"{", [], {}, {"status": 7}, {"status": {"authenticated": "true"}}]
                answers += [
                    {"status": {"authenticated": True}},
                    {"status": {"authenticated": True, "user": {"username": ""}}},
                ]
                answers += [{"status": {"authenticated": True, "audiences": ["x"], "user": {"username": "a"}}}]
                for i, answer in enumerate(answers):
                    service.answers["/review"] = lambda _, answer=answer: answer
                    assert (await who(server, f"t{i}")) == (401, "Unauthorized"), answer
                del service.answers["/review"]
                assert (await who(server, "x"))[0] == 401
                service.answers["/review"] = review({"x": {"username": "ada"}})
                assert (await who(server, "x"))[0] == 201, "a failure is not remembered"

    asyncio.run(main())


def test_who_asks_first_may_go_away(tmp_path: Path) -> None:
    pki = Pki(tmp_path)

    async def main() -> None:
        clock, go, arrived = RealDays(), asyncio.Event(), asyncio.Event()
        async with serving(pki.serving) as service:
            yes = review({"t": {"username": "ada"}})

            async def slow(request: Request) -> Any:
                arrived.set()
                await go.wait()
                return yes(request)

            service.answers["/review"] = slow
            webhook = WebhookAuthenticator(endpoint(kubeconfig(service, pki), tmp_path), clock, (OWN,))
            first, second = (asyncio.ensure_future(webhook.authenticate("t", ())) for _ in range(2))
            await arrived.wait()
            first.cancel()
            go.set()
            found = await second
            assert found is not None
            assert found[0].name == "ada"
            assert len(service.asked) == 1

    asyncio.run(main())


def test_a_token_review_asks_elsewhere_too_and_minds_the_audience(tmp_path: Path) -> None:
    pki = Pki(tmp_path)

    async def main() -> None:
        clock = RealDays()
        async with serving(pki.serving) as service:
            service.issue({"k1": RSA_KEYS[0]})
            oidc = authenticator(by_flags(service, pki), clock)
            async with cluster(oidc, clock=clock) as server:
                token = sign(RSA_KEYS[0], service.claims())

                async def reviewed(audiences: list[str]) -> Any:
                    spec = {"token": token, "audiences": audiences}
                    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
                    path = "/apis/authentication.k8s.io/v1/tokenreviews"
                    return orjson.loads((await server.request("POST", path, body)).body)["status"]  # type: ignore[arg-type]

                mine = await reviewed([])
                assert (mine["authenticated"], mine["audiences"]) == (True, [OWN])
                assert (await reviewed([OWN, "x"]))["audiences"] == [OWN]
                assert (await reviewed(["x"]))["authenticated"] is False

    asyncio.run(main())


def test_who_is_said_not_to_be_authenticated_is_not() -> None:
    def groups(name: str, *given: str) -> tuple[str, ...]:
        info = {"username": name, "groups": list(given)}
        found = user_of({"status": {"authenticated": True, "user": info}}, (), (OWN,))
        assert found is not None
        return found[0].groups

    assert groups("a", "x") == ("x", "system:authenticated")
    assert groups("a", "system:authenticated", "x") == ("system:authenticated", "x")
    assert groups("a", "system:unauthenticated") == ("system:unauthenticated",)
    assert groups("system:anonymous", "x") == ("x",)


@pytest.mark.parametrize("url", ["https://127.0.0.1:99999/review", "https://[::1/review"])
def test_an_address_that_is_none_is_a_service_that_does_not_answer(url: str) -> None:
    async def main() -> None:
        hook = WebhookAuthenticator(Endpoint(url, ssl.create_default_context()), RealDays(), (OWN,))
        async with cluster(hook) as server:
            assert await who(server, "token") == (401, "Unauthorized")

    asyncio.run(main())


def test_a_users_review_of_shapes() -> None:
    good = {"status": {"authenticated": True, "user": {"username": "system:anonymous", "groups": [7, "g"], "extra": 7}}}
    found = user_of(good, (), (OWN,))
    assert found is not None
    assert found[0].groups == ("g",), "nobody in particular is not authenticated"
    assert user_of(good, ("other",), (OWN,)) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"current-context": "x"}, "no context named"),
        ({"clusters": [{"name": "w", "cluster": {"server": "http://x"}}]}, "https"),
        ({"clusters": [{"name": "w", "cluster": {"server": "https://x", "proxy-url": "http://p"}}]}, "proxy-url"),
        ({"users": [{"name": "u", "user": {"exec": {}}}]}, "exec"),
        ({"users": [{"name": "u", "user": {"client-certificate-data": "!"}}]}, "not base64"),
        (
            {"clusters": [{"name": "w", "cluster": {"server": "https://x", "certificate-authority-data": "QQ=="}}]},
            "cannot be used",
        ),
    ],
)
def test_a_kubeconfig_that_is_not_understood_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        endpoint({**kubeconfig(Service(), Pki(tmp_path)), **change}, tmp_path)


# -- behind it: impersonation and fairness


def test_impersonation_counts_for_rights_and_for_fairness(tmp_path: Path) -> None:
    pki = Pki(tmp_path)

    async def main() -> None:
        clock = RealDays()
        async with serving(pki.serving) as service:
            users = {"boss": {"username": "boss", "groups": ["system:masters"]}, "ada": {"username": "ada"}}
            service.answers["/review"] = review(users)
            webhook = WebhookAuthenticator(endpoint(kubeconfig(service, pki), tmp_path), clock, (OWN,))
            async with cluster(webhook, clock=clock) as server:
                acting = {"impersonate_user": "bob", "impersonate_uid": "b1", "impersonate_extra_scope": "view"}
                status, info = await who(server, "boss", **acting)
                assert status == 201
                assert (info["username"], info["uid"], info["extra"]) == ("bob", "b1", {"scope": ["view"]})
                for headers in (acting, {"impersonate_user": "ada", "impersonate_group": "system:masters"}):
                    refused = await who(server, "ada", **headers)
                    assert refused[0] == 403, headers
                    assert "cannot impersonate" in refused[1]
                levels = server.api.flows.levels
                counted = server.api.flows.measures.counts("global-default", "global-default")
                before = counted.dispatched
                assert (await who(server, "boss"))[0] == 201
                assert counted.dispatched == before, "masters are exempt"
                assert (await who(server, "boss", **acting))[0] == 201
                assert counted.dispatched == before + 1, "who acts as bob is counted as bob"
                assert levels["global-default"].used == 0

    asyncio.run(main())
