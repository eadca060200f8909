"""Token webhook: a TokenReview (authentication.k8s.io/v1) is posted to a service that knows the token, and remembered.

A flood of unknown tokens is held off by the memory of refusals, by one question per token at a time, and by a bound on
questions at work; beyond it the answer is 401, as when the service does not answer.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from jota.aio.clock import Clock
from jota.api.authn import fetch
from jota.api.authn.claims import with_authenticated
from jota.api.authn.kubeconfig import Endpoint
from jota.api.authn.outside import Found, Remembered
from jota.api.filters.attributes import User
from jota.pki.jwt import BadToken

log = logging.getLogger("jota.api")
GOOD, BAD = 120.0, 30.0
"""Seconds for which a user, and a refusal, are remembered (upstream's defaults)."""
AT_ONCE = 100
"""Questions at work."""
TIMEOUT = 30.0


class WebhookAuthenticator:
    """A TokenAuthenticator (outside.py)."""

    def __init__(self, endpoint: Endpoint, clock: Clock, own: tuple[str, ...], good: float = GOOD) -> None:
        """`own`: the API server's audiences. `good`: seconds for which a user is remembered."""
        self._endpoint, self._clock, self._own, self._keep = endpoint, clock, own, good
        self._answers = Remembered()
        self._asking: dict[bytes, asyncio.Future[Found | None]] = {}

    async def authenticate(self, token: str, audiences: tuple[str, ...]) -> Found | None:
        key = Remembered.key(token, audiences)
        known, found = self._answers.get(key, self._clock.monotonic())
        if known:
            return found
        asking = self._asking.get(key)
        if asking is None:
            if len(self._asking) >= AT_ONCE:
                raise BadToken("too many tokens are being reviewed")
            asking = self._asking[key] = asyncio.ensure_future(self._ask(key, token, audiences))
            asking.add_done_callback(lambda done: self._answered(key, done))
        # shielded: who asked first may go away, others wait for the same answer
        return await asyncio.shield(asking)

    def _answered(self, key: bytes, done: asyncio.Future[Found | None]) -> None:
        self._asking.pop(key, None)
        if not done.cancelled():
            done.exception()  # those who asked have it, if they are still there

    async def _ask(self, key: bytes, token: str, audiences: tuple[str, ...]) -> Found | None:
        endpoint = self._endpoint
        spec = {"token": token, "audiences": list(audiences or self._own)}
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        try:
            answer = await fetch.json(
                "POST",
                endpoint.url,
                endpoint.context,
                body=review,
                headers=endpoint.headers,
                server_name=endpoint.server_name,
                timeout=TIMEOUT,
            )
        except fetch.FetchFailed as error:
            log.warning("the token webhook did not answer: %s", error)
            raise BadToken("the token webhook did not answer") from None
        found = user_of(answer, audiences, self._own)
        life = self._keep if found is not None else BAD
        if life > 0:
            self._answers.put(key, found, self._clock.monotonic() + life)
        return found


def user_of(answer: Any, audiences: tuple[str, ...], own: tuple[str, ...]) -> Found | None:
    """What a TokenReview says; None: not authenticated. A service that names no audiences speaks for the server's own."""
    status = answer.get("status") if isinstance(answer, dict) else None
    if not isinstance(status, dict) or status.get("authenticated") is not True:
        return None
    info = status.get("user")
    name = info.get("username") if isinstance(info, dict) else None
    if not isinstance(info, dict) or not isinstance(name, str) or not name:
        return None
    wanted = audiences or own
    matched = [a for a in wanted if a in (_texts(status.get("audiences")) or own)]
    if not matched:
        return None
    extra = info.get("extra")
    uid = info.get("uid", "")
    groups = with_authenticated(name, _texts(info.get("groups")))
    more = {k: _texts(v) for k, v in extra.items()} if isinstance(extra, dict) else {}
    user = User(name, uid if isinstance(uid, str) else "", groups, more)
    return user, matched


def _texts(value: Any) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []
