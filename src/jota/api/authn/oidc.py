"""One OpenID Connect issuer: its tokens in, users out. Keys are fetched when first needed and when a token names a new one.

A token is judged in this order: its issuer is ours (else None: another authenticator's), the algorithm is accepted, the
signature is one of the issuer's, the time, the audience, and then the claims (`claims.py`). An unknown key makes us fetch
the issuer's keys again, at most every `REFETCH` seconds however many such tokens come, and one fetch at a time.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from jota.aio import slices
from jota.aio.clock import Clock
from jota.api.authn import fetch
from jota.api.authn.claims import Mapping, user_of
from jota.api.authn.outside import Found, Remembered
from jota.pki import jws, trust
from jota.pki.jwt import BadToken

log = logging.getLogger("jota.api")
REFETCH = 10.0
"""Seconds between two fetches of an issuer's keys."""
REMEMBER = 10.0
"""Seconds for which a good token is not verified again (upstream's token cache)."""
NOT_BEFORE_LEEWAY = 300.0
"""Seconds by which the issuer's clock may run ahead of ours; expiry has no leeway (both as upstream's verifier)."""


@dataclass(slots=True, frozen=True)
class Issuer:
    url: str
    audiences: tuple[str, ...]
    mapping: Mapping
    discovery_url: str = ""
    authority: str = ""
    """PEM of the CAs to trust; "" for the machine's own."""
    algorithms: tuple[str, ...] = jws.ALGORITHMS


class OidcAuthenticator:
    """A TokenAuthenticator (outside.py)."""

    def __init__(self, issuer: Issuer, clock: Clock, own: tuple[str, ...]) -> None:
        """`own`: the API server's audiences. Raises ssl.SSLError for an authority that is no certificate."""
        self._issuer, self._clock, self._own = issuer, clock, own
        self._context = trust.context(issuer.authority)
        self._keys: list[jws.Key] = []
        self._fetched = float("-inf")
        self._one = asyncio.Lock()
        self._good = Remembered()

    async def authenticate(self, token: str, audiences: tuple[str, ...]) -> Found | None:
        """An ID token is for the API server itself: a review for other audiences alone finds nobody."""
        matched = [a for a in audiences or self._own if a in self._own]
        if token.count(".") != 2 or not matched:
            return None
        read = jws.read(token)
        if read.claims.get("iss") != self._issuer.url:
            return None
        now, key = self._clock.monotonic(), Remembered.key(token, audiences)
        known, found = self._good.get(key, now)
        if known and found is not None and _in_time(read.claims, self._clock.now()):
            return found
        await self._verify(read)
        if not _in_time(read.claims, self._clock.now()):
            raise BadToken("the token has expired or is not valid yet")
        self._check_audience(read.claims)
        user = await slices.run(lambda: user_of(read.claims, self._issuer.mapping))
        found = (user, matched)
        self._good.put(key, found, now + REMEMBER)
        return found

    async def ready(self) -> bool:
        """Fetch the keys before anybody needs them; whether there are any now."""
        await self._refresh()
        return bool(self._keys)

    async def _verify(self, token: jws.Token) -> None:
        if jws.verify(token, self._keys, self._issuer.algorithms):
            return
        await self._refresh()
        if not jws.verify(token, self._keys, self._issuer.algorithms):
            raise BadToken("the signature is of none of the issuer's keys")

    async def _refresh(self) -> None:
        """Fetch the keys, unless that was just done. A failure keeps those that are known."""
        async with self._one:
            if self._clock.monotonic() - self._fetched < REFETCH:
                return
            self._fetched = self._clock.monotonic()
            try:
                self._keys = await self._fetch()
            except (fetch.FetchFailed, ValueError) as error:
                log.warning("the keys of the issuer %s cannot be had: %s", self._issuer.url, error)

    async def _fetch(self) -> list[jws.Key]:
        """Raises FetchFailed, ValueError."""
        where = self._issuer.discovery_url or self._issuer.url.rstrip("/") + "/.well-known/openid-configuration"
        document = await fetch.json("GET", where, self._context)
        if not isinstance(document, dict) or document.get("issuer") != self._issuer.url:
            raise ValueError(f"{where} describes another issuer")
        location = document.get("jwks_uri")
        if not isinstance(location, str) or not location.startswith("https://"):
            raise ValueError(f"{where} has no jwks_uri with https")
        return jws.keys(await fetch.json("GET", location, self._context))

    def _check_audience(self, claims: dict[str, Any]) -> None:
        listed = claims.get("aud")
        listed = [listed] if isinstance(listed, str) else listed
        if not isinstance(listed, list) or not any(a in self._issuer.audiences for a in listed if isinstance(a, str)):
            raise BadToken("the token is for another audience")


def _in_time(claims: dict[str, Any], now: float) -> bool:
    expires, begins = _time(claims.get("exp")), _time(claims.get("nbf", 0))
    return expires is not None and begins is not None and begins - NOT_BEFORE_LEEWAY <= now <= expires


def _time(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
