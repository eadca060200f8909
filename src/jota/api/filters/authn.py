"""Authentication: a request's certificate or bearer token -> User. In order: front proxy (requestheader.py), client
certificate, bearer token, anonymous.

Rules are upstream's: CN is the user and O the groups of a certificate; bearer tokens are bootstrap tokens
(`abcdef.0123456789abcdef`, Secrets of type bootstrap.kubernetes.io/token), ServiceAccount tokens, or those of OpenID Connect
issuers and webhooks (`authn/`); bad credentials are 401, none is system:anonymous.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jota.aio.clock import Clock, parse_rfc3339
from jota.api.authn.anonymous import EVERYWHERE, Anonymous
from jota.api.authn.outside import Found, TokenAuthenticator
from jota.api.filters.attributes import User
from jota.api.filters.requestheader import RequestHeader
from jota.api.tokens import Read, ServiceAccountTokens
from jota.meta.errors import ApiError, unauthorized
from jota.meta.resource import SECRETS
from jota.pki.ca import expiry_of, read_certificate
from jota.pki.jwt import BadToken
from jota.wire.message import Request

log = logging.getLogger("jota.api")
ANONYMOUS = User("system:anonymous", groups=("system:unauthenticated",))
AUTHENTICATED = "system:authenticated"
_BOOTSTRAP = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_SUBPROTOCOL = "base64url.bearer.authorization.k8s.io."
_MOST_CERTIFICATES = 1024


class Lasting(NamedTuple):
    """How long somebody is who he is."""

    until: float
    """Epoch seconds."""
    lives: Callable[[float], bool] | None = None
    """Asked each time (epoch seconds); None: nothing can end it before."""


class Authentication:
    """An Authenticator (attributes.py). `lookup` reads live objects of the API."""

    def __init__(
        self,
        tokens: ServiceAccountTokens,
        lookup: Read,
        clock: Clock,
        outside: Sequence[TokenAuthenticator] = (),
        anonymous: Anonymous = EVERYWHERE,
    ) -> None:
        """`outside`: who is asked, in this order, about tokens that are not the cluster's own."""
        self._tokens, self._lookup, self._clock = tokens, lookup, clock
        self._outside, self._anonymous = outside, anonymous
        self._certificates: OrderedDict[bytes, User] = OrderedDict()
        self._ends: OrderedDict[bytes, float] = OrderedDict()
        """notAfter of certificates, epoch seconds."""
        self.front_proxies: RequestHeader | None = None

    async def authenticate(self, request: Request) -> User | None:
        """The user. Raises ApiError 401 for credentials that do not count."""
        try:
            return await self._user(request)
        finally:
            if "sec-websocket-protocol" in request.headers:
                _drop_token(request.headers)

    async def _user(self, request: Request) -> User | None:
        certificate = request.peer.certificate
        proxy = None
        if certificate is not None:
            self._check_time(certificate)
            proxy = self.front_proxies.proxy_name(certificate) if self.front_proxies is not None else None
            if self.front_proxies is None or proxy is None:
                return self._by_certificate(certificate)
            user = self.front_proxies.user(request, proxy)
            if user is not None:
                return user
        token = bearer(request)
        if token:
            try:
                return (await self.by_token(token))[0]
            except ApiError as error:
                log.info("a bearer token was refused: %s", error.message)
                raise unauthorized() from None  # clients match the bare word, and it tells no more than upstream
        if proxy is not None:
            raise unauthorized()  # a front proxy that speaks for nobody is nobody
        return ANONYMOUS if self._anonymous.admits(request.method, request.path) else None

    def lasts(self, request: Request) -> Lasting | None:
        """How long the user of this request, if it is let in, is also that of all that are `alike`: that of a certificate, until it
        expires; that of a ServiceAccount's token, as long as what it is bound to lives. Other tokens and what front proxies say
        are judged each time: None. Raises ApiError 401."""
        if "sec-websocket-protocol" in request.headers:
            return None
        certificate = request.peer.certificate
        if certificate is not None:
            if self.front_proxies is not None and self.front_proxies.proxy_name(certificate) is not None:
                return None
            return Lasting(self._end(certificate))
        token = bearer(request)
        if not token or _BOOTSTRAP.fullmatch(token):
            return None
        try:
            return Lasting(*self._tokens.lasts(token, self._clock.now()))
        except BadToken:
            return None

    async def by_token(self, token: str, audiences: tuple[str, ...] = ()) -> Found:
        """(user, matched audiences) of a bearer token. Raises ApiError 401."""
        bootstrap = _BOOTSTRAP.fullmatch(token)
        if bootstrap:
            return self._by_bootstrap_token(*bootstrap.groups()), list(audiences or self._tokens.audiences)
        try:
            return self._tokens.verify(token, self._clock.now(), audiences)
        except BadToken as error:
            # what claims to be ours and is not shall not be shown to others
            if not self._outside or self._tokens.issued(token):
                raise unauthorized(f"Unauthorized: {error}") from None
        return await self._elsewhere(token, audiences)

    async def _elsewhere(self, token: str, audiences: tuple[str, ...]) -> Found:
        """Whoever sends a bad token learns nothing but that it is bad; the log knows why."""
        for authenticator in tuple(self._outside):  # it changes when the operator's file does
            try:
                found = await authenticator.authenticate(token, audiences)
            except BadToken as error:
                log.info("a bearer token was refused: %s", error)
                continue
            if found is not None:
                return found
        raise unauthorized()

    def _check_time(self, der: bytes) -> None:
        """TLS looked when the connection began, which may be long ago. Raises ApiError 401."""
        if self._clock.now() > self._end(der):
            raise unauthorized("Unauthorized: the client certificate has expired")

    def _end(self, der: bytes) -> float:
        ends = self._ends.get(der)
        if ends is None:
            ends = self._ends[der] = expiry_of(der)
            if len(self._ends) > _MOST_CERTIFICATES:
                self._ends.popitem(last=False)
        return ends

    def _by_certificate(self, der: bytes) -> User:
        user = self._certificates.get(der)
        if user is None:
            subject = read_certificate(der)
            if not subject.common_name:
                raise unauthorized("Unauthorized: the client certificate has no common name")
            user = User(subject.common_name, groups=(*subject.organisations, AUTHENTICATED))
            self._certificates[der] = user
            if len(self._certificates) > _MOST_CERTIFICATES:
                self._certificates.popitem(last=False)
        return user

    def _by_bootstrap_token(self, token_id: str, secret: str) -> User:
        data = self._bootstrap_secret(token_id)
        right = hmac.compare_digest(data.get("token-secret", "").encode(), secret.encode())
        if not right or data.get("usage-bootstrap-authentication") != "true" or self._expired(data):
            raise unauthorized("Unauthorized: the bootstrap token is unknown, wrong or expired")
        extra = [g for g in data.get("auth-extra-groups", "").split(",") if g.startswith("system:bootstrappers:")]
        return User(f"system:bootstrap:{token_id}", groups=("system:bootstrappers", *extra, AUTHENTICATED))

    def _bootstrap_secret(self, token_id: str) -> dict[str, str]:
        secret: dict[str, Any] | None = self._lookup(SECRETS, "kube-system", f"bootstrap-token-{token_id}")
        if secret is None or secret.get("type") != "bootstrap.kubernetes.io/token":
            return {}
        if secret["metadata"].get("deletionTimestamp"):
            return {}
        return {k: _text(v) for k, v in (secret.get("data") or {}).items()}

    def _expired(self, data: dict[str, str]) -> bool:
        if "expiration" not in data:
            return False
        try:
            return self._clock.now() >= parse_rfc3339(data["expiration"])
        except ValueError:
            return True


def bearer(request: Request) -> str:
    """The bearer token of a request: from the header, or from a browser's WebSocket sub-protocol; "" without one."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    for protocol in request.headers.get("sec-websocket-protocol", "").split(","):
        protocol = protocol.strip()
        if protocol.startswith(_SUBPROTOCOL):
            return _text(protocol[len(_SUBPROTOCOL) :], altchars=b"-_")
    return ""


def _drop_token(headers: dict[str, str]) -> None:
    """A token among the offered sub-protocols is for us alone: whoever the request is handed to must not see it."""
    offers = [p.strip() for p in headers["sec-websocket-protocol"].split(",")]
    kept = [p for p in offers if not p.startswith(_SUBPROTOCOL)]
    if kept:
        headers["sec-websocket-protocol"] = ", ".join(kept)
    else:
        del headers["sec-websocket-protocol"]


def _text(encoded: str, altchars: bytes | None = None) -> str:
    try:
        padded = encoded + "=" * (-len(encoded) % 4)
        return base64.b64decode(padded, altchars=altchars).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
