"""OpenID Connect issuers and token webhooks, with a real issuer and a real webhook behind TLS; and what hostile tokens do."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
import yaml
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.aio.clock import SystemClock
from jota.api.authn.config import Configuration, OidcFlags, from_flags, parse
from jota.api.authn.kubeconfig import Endpoint, endpoint
from jota.api.authn.oidc import REFETCH, OidcAuthenticator
from jota.api.authn.webhook import BAD, GOOD, WebhookAuthenticator, user_of
from jota.api.configfile import BadConfiguration
from jota.api.filters.authn import Authentication
from jota.api.security import secure, write_roles
from jota.meta.resource import SERVICEACCOUNTS as ACCOUNTS
from jota.pki import jws
from jota.pki.ca import CertificateAuthority, Subject
from jota.pki.jwt import BadToken, TokenSigner
from jota.run.identity import IdentityFlags, outside
from jota.run.identityreload import EVERY, Reloading
from jota.run.instance import Refused
from jota.testing.cluster import ApiServer
from jota.testing.virtual import VirtualClock
from jota.wire.http import HttpServer
from jota.wire.message import Request, Response

OWN = "https://kubernetes.default.svc.cluster.local"
WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
RSA_KEYS = [rsa.generate_private_key(65537, 2048) for _ in range(2)]
SMALL = rsa.generate_private_key(65537, 1024)
HASH = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def jwk(key: Any, kid: str) -> dict[str, str]:
    public = key.public_key().public_numbers()
    if isinstance(public, rsa.RSAPublicNumbers):
        return {"kty": "RSA", "kid": kid, "use": "sig", "n": number(public.n), "e": number(public.e)}
    size = (key.curve.key_size + 7) // 8
    curve = {256: "P-256", 384: "P-384", 521: "P-521"}[key.curve.key_size]
    points = {"x": b64(public.x.to_bytes(size, "big")), "y": b64(public.y.to_bytes(size, "big"))}
    return {"kty": "EC", "kid": kid, "crv": curve, **points}


def sign(key: Any, claims: Any, *, alg: str = "RS256", kid: str | None = "k1", **header: Any) -> str:
    head = {"alg": alg, **({"kid": kid} if kid is not None else {}), **header}
    body = claims if isinstance(claims, bytes) else orjson.dumps(claims)
    signed = f"{b64(orjson.dumps(head))}.{b64(body)}".encode()
    digest = HASH.get(alg[2:], hashes.SHA256())
    if alg.startswith("ES"):
        size = (key.curve.key_size + 7) // 8
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(digest)))
        signature = r.to_bytes(size, "big") + s.to_bytes(size, "big")
    elif alg.startswith("PS"):
        signature = key.sign(signed, padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH), digest)
    else:
        signature = key.sign(signed, padding.PKCS1v15(), digest)
    return f"{signed.decode()}.{b64(signature)}"


class Pki:
    def __init__(self, folder: Path) -> None:
        now = SystemClock().now()
        self.authority = CertificateAuthority(CertificateAuthority.create("test", days=1, now=now))
        self.pem = self.authority.certificate_pem.decode()
        pair = self.authority.issue(Subject("s", (), (), ("127.0.0.1",)), days=1, client=False, server=True, now=now)
        (folder / "c").write_bytes(pair.certificate)
        (folder / "k").write_bytes(pair.key)
        self.serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.serving.load_cert_chain(folder / "c", folder / "k")
        self.client = self.authority.issue(Subject("api", ()), days=1, client=True, server=False, now=now)


class Service:
    """An HTTPS server of the test: an issuer or a webhook. `answers` by path; what came is noted."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[Request], Any]] = {}
        self.asked: list[Request] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def count(self, path: str) -> int:
        return sum(r.path == path for r in self.asked)

    async def handle(self, request: Request) -> Response:
        self.asked.append(request)
        answer = self.answers.get(request.path)
        if answer is None:
            return Response(404, [], b"nothing")
        content = answer(request)
        if asyncio.iscoroutine(content):
            content = await content
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        return Response(200, [("Content-Type", "application/json")], body)

    def issue(self, keys: dict[str, Any]) -> None:
        """Be an OpenID issuer with these keys."""
        self.answers["/.well-known/openid-configuration"] = lambda _: {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
        }
        self.answers["/keys"] = lambda _: {"keys": [jwk(key, kid) for kid, key in keys.items()]}

    def claims(self, **more: Any) -> dict[str, Any]:
        now = int(SystemClock().now())
        return {"iss": self.url, "aud": "jota", "sub": "ada", "exp": now + 600, "iat": now, **more}


@asynccontextmanager
async def serving(tls: ssl.SSLContext) -> AsyncIterator[Service]:
    service = Service()
    server = HttpServer(service.handle, ssl=tls, clock=SystemClock())
    await server.start("127.0.0.1", 0)
    service.port = server.port
    try:
        yield service
    finally:
        await server.close(0)


class RealDays(VirtualClock):
    """Virtual time for what is remembered, today's date for tokens."""

    def now(self) -> float:
        return SystemClock().now() + self.monotonic()


@asynccontextmanager
async def cluster(*authenticators: Any, anonymous: Any = None, clock: Any = None) -> AsyncIterator[ApiServer]:
    server = ApiServer(clock=clock or RealDays())
    more = {} if anonymous is None else {"anonymous": anonymous}
    secure(server.api, TokenSigner(TokenSigner.create_key()), OWN, list(authenticators), **more)
    async with server:
        await write_roles(server.api)
        yield server


async def who(server: ApiServer, token: str, **headers: str) -> Any:
    """(status, userInfo or the error's message)."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    response = await server.request("POST", WHOAMI, body, user=None, authorization=f"Bearer {token}", **headers)
    document = orjson.loads(response.body)  # type: ignore[arg-type]
    return response.status, document["status"]["userInfo"] if response.status == 201 else document["message"]


def by_flags(service: Service, pki: Pki, **flags: Any) -> Configuration:
    return from_flags(OidcFlags(service.url, "jota", ca_file="ca", **flags), lambda _: pki.pem)


def authenticator(configuration: Configuration, clock: Any) -> OidcAuthenticator:
    return OidcAuthenticator(configuration.issuers[0], clock, (OWN,))


# -- OpenID Connect


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


# -- AuthenticationConfiguration


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


# -- webhook


def kubeconfig(service: Service, pki: Pki, **user: str) -> dict[str, Any]:
    data = base64.b64encode(pki.pem.encode()).decode()
    return {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "w", "user": "u"}}],
        "clusters": [{"name": "w", "cluster": {"server": f"{service.url}/review", "certificate-authority-data": data}}],
        "users": [{"name": "u", "user": user}],
    }


def review(users: dict[str, dict[str, Any]]) -> Callable[[Request], Any]:
    def answer(request: Request) -> dict[str, Any]:
        token = orjson.loads(request.body)["spec"]["token"]
        status = {"authenticated": True, "user": users[token]} if token in users else {"authenticated": False}
        return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}

    return answer


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
