"""AuthenticationConfiguration and flags: expressions, who may be anonymous, files that change while the server runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.api.authn.config import parse
from jota.api.configfile import BadConfiguration
from jota.api.filters.authn import Authentication
from jota.run.identity import IdentityFlags, outside
from jota.run.identityreload import EVERY, Reloading
from jota.run.instance import Refused

from .elsewhere import OWN, RSA_KEYS, Pki, RealDays, authenticator, cluster, kubeconfig, review, serving, sign, who


def structured(issuer: str, pem: str, /, **more: Any) -> dict[str, Any]:
    jwt = {
        "issuer": {"url": issuer, "audiences": ["jota", "other"], "audienceMatchPolicy": "MatchAny"},
        "claimMappings": {
            "username": {"expression": "'oidc:' + claims.sub"},
            "groups": {"expression": "claims.roles.split(',')"},
            "uid": {"claim": "sub"},
            "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"}],
        },
        "claimValidationRules": [
            {"claim": "hd", "requiredValue": "example.com"},
            {"expression": "claims.exp - claims.iat <= 3600", "message": "tokens may live for an hour"},
        ],
        "userValidationRules": [
            {"expression": "!user.username.startsWith('system:')", "message": "no system users"},
            {"expression": "user.groups.all(g, !g.startsWith('system:'))", "message": "no system groups"},
        ],
    }
    jwt["issuer"] |= {"certificateAuthority": pem} if pem else {}  # type: ignore[operator]
    jwt.update(more)
    return {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [jwt]}


def test_expressions_map_and_validate_claims_and_users(tmp_path: Path) -> None:
    pki = Pki(tmp_path)

    async def main() -> None:
        clock = RealDays()
        async with serving(pki.serving) as issuer:
            issuer.issue({"k1": RSA_KEYS[0]})
            oidc = authenticator(parse(structured(issuer.url, pki.pem), OWN), clock)
            async with cluster(oidc, clock=clock) as server:

                def claims(**more: Any) -> dict[str, Any]:
                    return issuer.claims(**{"hd": "example.com", "roles": "dev,ops", "tenant": ["t1"], **more})

                status, info = await who(server, sign(RSA_KEYS[0], claims()))
                assert status == 201, info
                assert (info["username"], info["uid"]) == ("oidc:ada", "ada")
                assert info["groups"] == ["dev", "ops", "system:authenticated"]
                assert info["extra"] == {"example.com/tenant": ["t1"]}
                assert (await who(server, sign(RSA_KEYS[0], claims(aud=["other"]))))[0] == 201
                refused = [
                    claims(hd="evil.com"),
                    claims(exp=int(clock.now()) + 7200),
                    claims(roles="dev,system:masters"),
                    claims(roles=7),
                    claims(tenant={"a": 1}),
                ]
                for one in refused:
                    assert (await who(server, sign(RSA_KEYS[0], one))) == (401, "Unauthorized"), one

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"claimMappings": {"username": {"claim": "sub"}}}, "username.prefix"),
        ({"claimMappings": {"username": {"claim": "sub", "expression": "claims.sub"}}}, "username.expression"),
        ({"claimMappings": {"username": {"expression": "claims.email"}}}, "email_verified"),
        ({"claimMappings": {"username": {"expression": "claims."}}}, "username.expression: compilation failed"),
        ({"claimMappings": {"username": {"expression": "user.name"}}}, "username.expression"),
        ({"claimMappings": {"username": {"expression": "1 + 1"}}}, "must evaluate to string"),
        ({"claimMappings": {}}, "claimMappings.username: is required"),
        ({"claimValidationRules": [{"expression": "claims.sub + 'x' == 'y' ? 1 : 2"}]}, "must evaluate to bool"),
        (
            {"claimValidationRules": [{"claim": "a", "requiredValue": "b", "message": "c"}]},
            "claimValidationRules[0].claim",
        ),
        ({"issuer": {"url": "http://x", "audiences": ["a"]}}, "issuer.url: must be a URL with the scheme https"),
        ({"issuer": {"url": "https://u:p@x", "audiences": ["a"]}}, "issuer.url"),
        ({"issuer": {"url": "https://x", "audiences": ["a", "b"]}}, "audienceMatchPolicy"),
        ({"issuer": {"url": "https://x", "audiences": []}}, "audiences"),
        ({"issuer": {"url": OWN, "audiences": ["a"]}}, "this cluster's own"),
        ({"issuer": {"url": "https://x", "audiences": ["a"], "egressSelectorType": "cluster"}}, "egressSelectorType"),
        ({"surprise": 1}, "jwt[0].surprise: unknown field"),
        (
            {
                "claimMappings": {
                    "username": {"claim": "s", "prefix": ""},
                    "extra": [{"key": "k8s.io/a", "valueExpression": "'a'"}],
                }
            },
            "reserved",
        ),
    ],
)
def test_a_configuration_that_cannot_be_followed_is_refused_with_the_field(change: dict[str, Any], path: str) -> None:
    with pytest.raises(BadConfiguration) as refused:
        parse(structured("https://x", "", **change), OWN)
    assert path in str(refused.value)


def test_anonymous_requests_can_be_kept_to_some_paths(tmp_path: Path) -> None:
    top = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration"}
    paths = {"enabled": True, "conditions": [{"path": "/livez"}]}

    async def main() -> None:
        for given_, allowed in (
            ({}, {"/livez", "/version"}),
            ({"anonymous": paths}, {"/livez"}),
            ({"anonymous": {"enabled": False}}, set()),
        ):
            async with cluster(anonymous=parse({**top, **given_}).anonymous) as server:
                for path in ("/livez", "/version"):
                    status = (await server.request("GET", path, user=None)).status
                    assert status == (200 if path in allowed else 401), (given_, path)

    asyncio.run(main())
    with pytest.raises(BadConfiguration, match="conditions"):
        parse({**top, "anonymous": {"enabled": False, "conditions": [{"path": "/livez"}]}})


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(["issuer", "url", "claimMappings", "username", "claim", "jwt", "audiences", "x"]), x
            )
        ),
    )
)
def test_any_configuration_is_understood_or_refused(document: Any) -> None:
    good = structured("https://x", "")
    for value in (document, {**good, "jwt": document}, {**good, "jwt": [document]}, {**good, "anonymous": document}):
        try:
            parse(value)
        except BadConfiguration:
            pass


def test_files_and_flags_of_the_operator(tmp_path: Path) -> None:
    clock = RealDays()
    good = tmp_path / "good.yaml"
    good.write_text(yaml.safe_dump(structured("https://x", "")))
    found, _ = outside(IdentityFlags(authentication_config=str(good)), clock, OWN)
    assert len(found) == 1
    for flags, words in (
        (IdentityFlags({"issuer_url": "https://x"}), "specified together"),
        (IdentityFlags({"issuer_url": "http://x", "client_id": "a"}), "scheme https"),
        (IdentityFlags({"issuer_url": "https://x", "client_id": "a", "signing_algs": "none"}), "none is not one of"),
        (IdentityFlags({"issuer_url": "https://x", "client_id": "a", "signing_algs": "HS256"}), "HS256"),
        (IdentityFlags({"issuer_url": "https://x", "client_id": "a", "required_claim": ("a",)}), "KEY=VALUE"),
        (IdentityFlags({"issuer_url": "https://x", "client_id": "a", "ca_file": "/none"}), "oidc-ca-file"),
        (IdentityFlags({"client_id": "a"}, authentication_config=str(good)), "mutually exclusive"),
        (IdentityFlags(authentication_config=str(tmp_path / "none")), "none"),
        (IdentityFlags(token_webhook=str(good)), "no context named"),
    ):
        with pytest.raises(Refused) as refused:
            outside(flags, clock, OWN)
        assert words in str(refused.value)


def test_the_configuration_is_followed_while_the_server_runs(tmp_path: Path) -> None:
    pki, file = Pki(tmp_path), tmp_path / "authn.yaml"
    names = {"claimMappings": {"username": {"claim": "sub", "prefix": "u:"}}, "claimValidationRules": []}
    names |= {"userValidationRules": []}

    def write(*issuers: str, **top: Any) -> None:
        listed = [structured(url, pki.pem, **names)["jwt"][0] for url in issuers]
        file.write_text(yaml.safe_dump({**structured("https://x", ""), "jwt": listed, **top}))

    async def main() -> None:
        clock = RealDays()
        async with serving(pki.serving) as first, serving(pki.serving) as second, serving(pki.serving) as hook:
            first.issue({"k1": RSA_KEYS[0]})
            second.issue({"k1": RSA_KEYS[1]})
            hook.answers["/review"] = review({"hooked": {"username": "h"}})
            write(first.url)
            webhook = tmp_path / "webhook.yaml"
            webhook.write_text(yaml.safe_dump(kubeconfig(hook, pki)))
            flags = IdentityFlags(authentication_config=str(file), token_webhook=str(webhook))
            asked, anonymous = outside(flags, clock, OWN)
            reloading = Reloading(str(file), OWN, clock, asked, "here")

            def counted(status: str) -> int:
                prefix = "apiserver_authentication_config_controller_automatic_reloads_total{"
                lines = [x for x in reloading.metrics() if x.startswith(prefix) and f'status="{status}"' in x]
                return int(lines[0].rpartition(" ")[2]) if lines else 0

            async with cluster(anonymous=anonymous, clock=clock) as server:
                authentication = server.api.authenticator
                assert isinstance(authentication, Authentication)
                authentication._outside = asked

                async def known() -> list[int]:
                    tokens = [sign(RSA_KEYS[0], first.claims()), sign(RSA_KEYS[1], second.claims()), "hooked"]
                    return [(await who(server, token))[0] for token in tokens]

                assert await known() == [201, 401, 201]
                await reloading.look()
                assert (counted("success"), counted("failure")) == (0, 0), "nothing changed"

                write(first.url, second.url)
                await reloading.look()
                assert await known() == [201, 201, 201]
                write(second.url)
                await reloading.look()
                assert await known() == [401, 201, 201]
                assert (counted("success"), counted("failure")) == (2, 0)
                applied = [line for line in reloading.metrics() if "last_config_info{" in line]

                broken = "{", yaml.safe_dump({"kind": "x"}), "apiVersion: 1", "\x00", "- a"
                for text in broken:
                    file.write_text(text)
                    await reloading.look()
                assert (counted("success"), counted("failure")) == (2, len(broken))
                await reloading.look()
                assert counted("failure") == len(broken), "what is broken is told once"
                write(first.url, anonymous={"enabled": False})
                await reloading.look()
                assert counted("failure") == len(broken) + 1
                file.unlink()
                await reloading.look()
                await reloading.look()
                assert counted("failure") == len(broken) + 3, "a file that is gone may come back"
                assert await known() == [401, 201, 201]
                assert [line for line in reloading.metrics() if "last_config_info{" in line] == applied

                first.answers.clear()  # an issuer that gives no keys
                write(first.url)
                await reloading.look()
                assert (counted("failure"), await known()) == (len(broken) + 4, [401, 201, 201])
                first.issue({"k1": RSA_KEYS[0]})
                await reloading.look()  # the same file, but now it can be followed
                assert (counted("success"), await known()) == (3, [201, 401, 201])

    asyncio.run(main())


def test_the_file_is_looked_at_again_and_again(tmp_path: Path) -> None:
    file = tmp_path / "authn.yaml"
    file.write_text(yaml.safe_dump(structured("https://x", "")))

    async def main() -> None:
        clock = RealDays()
        reloading = Reloading(str(file), OWN, clock, [], "here")
        task = asyncio.ensure_future(reloading.run())
        await asyncio.sleep(0)
        file.write_text("broken")
        await clock.advance(EVERY)
        await clock.settle()
        assert any('status="failure"' in line for line in reloading.metrics())
        task.cancel()

    asyncio.run(main())
