"""OpenID Connect issuers; and what hostile tokens do."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.aio.clock import SystemClock
from jota.api.authn.config import OidcFlags, from_flags
from jota.api.authn.oidc import REFETCH
from jota.pki import jws
from jota.pki.ca import CertificateAuthority
from jota.pki.jwt import BadToken

from .elsewhere import (
    RSA_KEYS,
    SMALL,
    Pki,
    RealDays,
    Service,
    authenticator,
    b64,
    by_flags,
    cluster,
    jwk,
    serving,
    sign,
    who,
)


def test_an_id_token_lets_its_user_in_with_groups_and_prefixes(tmp_path: Path) -> None:
    pki = Pki(tmp_path)

    async def main() -> None:
        clock = RealDays()
        async with serving(pki.serving) as issuer:
            issuer.issue({"k1": RSA_KEYS[0]})
            flags = {"groups_claim": "groups", "groups_prefix": "oidc:", "required_claim": ("team=a",)}
            oidc = authenticator(by_flags(issuer, pki, **flags), clock)
            async with cluster(oidc, clock=clock) as server:
                token = sign(RSA_KEYS[0], issuer.claims(groups=["dev", "ops"], team="a"))
                status, info = await who(server, token)
                assert status == 201, info
                assert info["username"] == f"{issuer.url}#ada"
                assert info["groups"] == ["oidc:dev", "oidc:ops", "system:authenticated"]
                one = await who(server, sign(RSA_KEYS[0], issuer.claims(groups="dev", team="a")))
                assert one[1]["groups"] == ["oidc:dev", "system:authenticated"]
                assert (await who(server, sign(RSA_KEYS[0], issuer.claims(team="b")))) == (401, "Unauthorized")
                assert issuer.count("/keys") == 1, "keys are fetched once"
                binding = {
                    "metadata": {"name": "dev"},
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
                    "subjects": [{"kind": "Group", "name": "oidc:dev", "apiGroup": "rbac.authorization.k8s.io"}],
                }
                pods = "/api/v1/namespaces/default/pods"
                bearer = f"Bearer {token}"
                assert (await server.request("GET", pods, user=None, authorization=bearer)).status == 403
                await server.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
                assert (await server.request("GET", pods, user=None, authorization=bearer)).status == 200

    asyncio.run(main())


def test_email_counts_only_when_it_is_verified_and_has_no_prefix(tmp_path: Path) -> None:
    pki = Pki(tmp_path)

    async def main() -> None:
        clock = RealDays()
        async with serving(pki.serving) as issuer:
            issuer.issue({"k1": RSA_KEYS[0]})
            oidc = authenticator(by_flags(issuer, pki, username_claim="email"), clock)
            async with cluster(oidc, clock=clock) as server:
                mail = "ada@example.com"
                good = await who(server, sign(RSA_KEYS[0], issuer.claims(email=mail, email_verified=True)))
                assert good[1]["username"] == mail
                assert (await who(server, sign(RSA_KEYS[0], issuer.claims(email=mail))))[0] == 201
                for bad in (False, "true", None, 1):
                    token = sign(RSA_KEYS[0], issuer.claims(email=mail, email_verified=bad))
                    assert (await who(server, token))[0] == 401, bad

    asyncio.run(main())


def test_keys_rotate_and_unknown_keys_do_not_make_us_hammer_the_issuer(tmp_path: Path) -> None:
    pki = Pki(tmp_path)

    async def main() -> None:
        clock = RealDays()
        async with serving(pki.serving) as issuer:
            keys = {"k1": RSA_KEYS[0]}
            issuer.issue(keys)
            async with cluster(authenticator(by_flags(issuer, pki), clock), clock=clock) as server:
                assert (await who(server, sign(RSA_KEYS[0], issuer.claims())))[0] == 201
                for n in range(50):
                    assert (await who(server, sign(RSA_KEYS[1], issuer.claims(), kid=f"none{n}")))[0] == 401
                assert issuer.count("/keys") == 1
                keys.clear()
                keys["k2"] = RSA_KEYS[1]
                await server.advance(REFETCH + 1)
                many = [who(server, sign(RSA_KEYS[1], issuer.claims(n=n), kid="k2")) for n in range(20)]
                assert [status for status, _ in await asyncio.gather(*many)] == [201] * 20
                assert issuer.count("/keys") == 2, "one fetch for all who wait"
                assert (await who(server, sign(RSA_KEYS[0], issuer.claims(late=1))))[0] == 401, "the old key is out"

    asyncio.run(main())


def test_an_issuer_that_is_down_keeps_known_users_and_comes_back(tmp_path: Path) -> None:
    pki = Pki(tmp_path)

    async def main() -> None:
        clock = RealDays()
        async with (
            serving(pki.serving) as issuer,
            cluster(authenticator(by_flags(issuer, pki), clock), clock=clock) as server,
        ):
            assert (await who(server, sign(RSA_KEYS[0], issuer.claims())))[0] == 401, "there are no keys yet"
            issuer.issue({"k1": RSA_KEYS[0]})
            await server.advance(REFETCH + 1)
            assert (await who(server, sign(RSA_KEYS[0], issuer.claims())))[0] == 201
            for broken in (lambda _: b"{", lambda _: [], lambda _: {"keys": 7}, lambda _: b"x" * (2 << 20)):
                issuer.answers["/keys"] = broken
                await server.advance(REFETCH + 1)
                assert (await who(server, sign(RSA_KEYS[1], issuer.claims(), kid="new")))[0] == 401
                assert (await who(server, sign(RSA_KEYS[0], issuer.claims(again=1))))[0] == 201
            issuer.answers["/.well-known/openid-configuration"] = lambda _: {
                "issuer": "https://evil",
                "jwks_uri": f"{issuer.url}/evil",
            }
            issuer.answers["/evil"] = lambda _: {"keys": [jwk(RSA_KEYS[1], "evil")]}
            await server.advance(REFETCH + 1)
            assert (await who(server, sign(RSA_KEYS[1], issuer.claims(), kid="evil")))[0] == 401
            assert issuer.count("/evil") == 0

    asyncio.run(main())


def test_an_issuer_whose_certificate_is_not_trusted_is_not_believed(tmp_path: Path) -> None:
    pki, other = (
        Pki(tmp_path),
        CertificateAuthority(CertificateAuthority.create("other", days=1, now=SystemClock().now())),
    )

    async def main() -> None:
        async with serving(pki.serving) as issuer:
            issuer.issue({"k1": RSA_KEYS[0]})
            flags = OidcFlags(issuer.url, "jota", ca_file="ca")
            configuration = from_flags(flags, lambda _: other.certificate_pem.decode())
            oidc = authenticator(configuration, RealDays())
            with pytest.raises(BadToken, match="none of the issuer's keys"):
                await oidc.authenticate(sign(RSA_KEYS[0], issuer.claims()), ())
            assert issuer.asked == []

    asyncio.run(main())


def test_every_accepted_algorithm_and_none_besides(tmp_path: Path) -> None:
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    pairs = {a: (ec.generate_private_key(curves[a]) if a in curves else RSA_KEYS[0]) for a in jws.ALGORITHMS}
    published = jws.keys({"keys": [jwk(key, a) for a, key in pairs.items()] + [{"kty": "oct", "k": "AA"}, 7, {}]})
    assert len(published) == len(pairs)
    for alg, key in pairs.items():
        token = jws.read(sign(key, {"a": 1}, alg=alg, kid=alg))
        assert jws.verify(token, published, jws.ALGORITHMS)
        assert jws.verify(jws.read(sign(key, {"a": 1}, alg=alg, kid=None)), published, jws.ALGORITHMS)
        other = next(a for a in pairs if a != alg)
        with pytest.raises(BadToken, match="not accepted"):
            jws.verify(token, published, (other,))
        misnamed = jws.read(sign(key, {"a": 1}, alg=alg, kid=other))
        strangers = [k for k in published if k.key_id == other and alg not in k.algorithms]
        assert not jws.verify(misnamed, strangers, jws.ALGORITHMS)
    assert jws.keys({"keys": [jwk(SMALL, "small")]}) == [], "1024 bits are not enough"


def hostile(issuer: Service) -> dict[str, str]:
    """Tokens that must all be refused."""
    key, claims, now = RSA_KEYS[0], issuer.claims(), int(SystemClock().now())
    good = sign(key, claims)
    head, body, signature = good.split(".")
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    confused = f"{b64(orjson.dumps({'alg': 'HS256', 'kid': 'k1'}))}.{body}"
    mac = hmac.new(public, confused.encode(), hashlib.sha256).digest()
    none = b64(orjson.dumps({"alg": "none", "kid": "k1"}))
    return {
        "alg none, no signature": f"{none}.{body}.",
        "alg none, with a signature": f"{none}.{body}.{signature}",
        "alg None": f"{b64(orjson.dumps({'alg': 'None', 'kid': 'k1'}))}.{body}.",
        "public key as a secret": f"{confused}.{b64(mac)}",
        "an algorithm that was not asked for": sign(key, claims, alg="RS512"),
        "another's key": sign(RSA_KEYS[1], claims),
        "no signature": f"{head}.{body}.",
        "cut signature": good[:-8],
        "another's claims": f"{head}.{b64(orjson.dumps({**claims, 'sub': 'root'}))}.{signature}",
        "oversized": sign(key, {**claims, "x": "y" * (70 << 10)}),
        "nested": sign(key, good.encode(), cty="JWT"),
        "nested claims": sign(key, orjson.dumps([claims])),
        "critical extension": sign(key, claims, crit=["b64"], b64=False),
        "key in the header": sign(RSA_KEYS[1], claims, jwk=jwk(RSA_KEYS[1], "k1")),
        "key elsewhere": sign(RSA_KEYS[1], claims, jku=f"{issuer.url}/evil"),
        "expired": sign(key, issuer.claims(exp=now - 5)),
        "never expires": sign(key, {k: v for k, v in claims.items() if k != "exp"}),
        "expiry as a text": sign(key, issuer.claims(exp=str(now + 600))),
        "expiry as true": sign(key, issuer.claims(exp=True)),
        "from the future": sign(key, issuer.claims(nbf=now + 3600)),
        "another audience": sign(key, issuer.claims(aud="other")),
        "another audience among many": sign(key, issuer.claims(aud=["other", 7, None])),
        "audience as an object": sign(key, issuer.claims(aud={"jota": 1})),
        "no subject": sign(key, {k: v for k, v in claims.items() if k != "sub"}),
        "empty subject": sign(key, issuer.claims(sub="")),
        "subject as a list": sign(key, issuer.claims(sub=["ada"])),
        "another issuer": sign(key, issuer.claims(iss="https://other")),
        "issuer as a list": sign(key, issuer.claims(iss=[issuer.url])),
        "four parts": good + ".x",
        "key id as a number": f"{b64(orjson.dumps({'alg': 'RS256', 'kid': 7}))}.{body}.{signature}",
        "deep": f"{head}.{b64(b'[' * 20000)}.{signature}",
    }


def test_hostile_tokens_are_all_refused_in_the_same_words(tmp_path: Path) -> None:
    pki = Pki(tmp_path)

    async def main() -> None:
        clock = RealDays()
        async with serving(pki.serving) as issuer:
            issuer.issue({"k1": RSA_KEYS[0]})
            async with cluster(authenticator(by_flags(issuer, pki), clock), clock=clock) as server:
                assert (await who(server, sign(RSA_KEYS[0], issuer.claims())))[0] == 201
                # clocks may differ a little, in one direction
                soon = int(SystemClock().now()) + 120
                assert (await who(server, sign(RSA_KEYS[0], issuer.claims(nbf=soon, iat=soon))))[0] == 201
                for name, token in hostile(issuer).items():
                    assert (await who(server, token)) == (401, "Unauthorized"), name
                assert issuer.count("/evil") == 0

    asyncio.run(main())


def test_a_remembered_token_is_still_refused_once_it_has_expired(tmp_path: Path) -> None:
    pki = Pki(tmp_path)

    async def main() -> None:
        clock = RealDays()
        async with serving(pki.serving) as issuer:
            issuer.issue({"k1": RSA_KEYS[0]})
            async with cluster(authenticator(by_flags(issuer, pki), clock), clock=clock) as server:
                token = sign(RSA_KEYS[0], issuer.claims(exp=int(clock.now()) + 5))
                assert (await who(server, token))[0] == 201
                await server.advance(7)
                assert (await who(server, token))[0] == 401

    asyncio.run(main())


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_a_changed_token_is_never_believed(seed: int) -> None:
    """Bits flipped, parts swapped, cut and repeated: BadToken or not verified, nothing else."""
    random = Random(seed)
    token = sign(RSA_KEYS[0], {"iss": "x", "sub": "ada"})
    known = jws.keys({"keys": [jwk(RSA_KEYS[0], "k1")]})
    text = list(token)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(text))
        kind = random.randrange(4)
        if kind == 0:
            text[at] = random.choice("ABCabc019-_.=é\0")
        elif kind == 1:
            del text[at]
        elif kind == 2:
            text.insert(at, random.choice("Az._"))
        else:
            text[at:at] = text[at : at + 50]
    changed = "".join(text)
    try:
        read = jws.read(changed)
        believed = jws.verify(read, known, ("RS256",))
    except BadToken:
        return
    if believed:
        assert (read.signed.decode(), read.claims) == (token.rpartition(".")[0], {"iss": "x", "sub": "ada"})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_document_is_a_key_set_or_refused(document: Any) -> None:
    for value in (
        document,
        {"keys": document},
        {"keys": [document]},
        {"keys": [{"kty": "RSA", "n": document, "e": "AQAB"}]},
    ):
        try:
            assert isinstance(jws.keys(value), list)
        except ValueError:
            pass
