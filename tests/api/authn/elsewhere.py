"""Who vouches for users elsewhere: a real issuer and a real webhook behind TLS, the tokens they sign, and a cluster that asks them."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from jota.aio.clock import SystemClock
from jota.api.authn.config import Configuration, OidcFlags, from_flags
from jota.api.authn.oidc import OidcAuthenticator
from jota.api.security import secure, write_roles
from jota.pki.ca import CertificateAuthority, Subject
from jota.pki.jwt import TokenSigner
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
