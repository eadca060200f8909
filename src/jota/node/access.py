"""Who may use the kubelet API: client certificates of the cluster's CA, bearer tokens, and what the API server says of them.

In: a request to the kubelet. Out: nothing, or ApiError 401, 403, 500. The API server itself and administrators come in by
their certificate alone, also while the API is away; everybody else is somebody by a TokenReview or a certificate, and may do
what a SubjectAccessReview of a subresource of this node allows (kubelet's authentication and authorization webhooks, without
anonymous users). Next: server.py, which answers.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from jota.aio.clock import Clock
from jota.client.client import Client
from jota.meta.errors import ApiError, unauthorized
from jota.meta.resource import Resource
from jota.wire.message import Request

log = logging.getLogger("jota.node")

TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", False)
ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", False)

IDENTITY_TTL, ALLOWED_TTL, DENIED_TTL = 120.0, 300.0, 30.0
"""Seconds that answers are believed: the kubelet's defaults."""
_MOST = 1000
"""Answers that are kept."""
_MASTERS = "system:masters"
_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_FINE = {"pods": "pods", "runningpods": "pods", "healthz": "healthz", "configz": "configz"}
"""Paths that have a subresource of their own beside `proxy`, which allows them, too."""
_OWN = {"stats": "stats", "metrics": "metrics", "logs": "log", "checkpoint": "checkpoint"}

User = dict[str, Any]
T = TypeVar("T")


def subresources(path: str) -> list[str]:
    """Of nodes: each of them is enough for a request to `path` (pkg/kubelet/server/auth.go)."""
    head = path.strip("/").split("/")[0]
    if head in _OWN:
        return [_OWN[head]]
    return [_FINE[head], "proxy"] if head in _FINE else ["proxy"]


class Access:
    """`await Access(...).admit(request)`."""

    def __init__(self, client: Client, clock: Clock, node_name: str) -> None:
        """`client`: of the node, which may ask for both reviews."""
        self._client, self._clock, self._node = client, clock, node_name
        self._certified: dict[bytes, User] = {}
        self._kept: dict[tuple[Any, ...], tuple[float, Any]] = {}

    async def admit(self, request: Request) -> None:
        """Raises ApiError 401 (nobody, or nobody could say who), 403, 500 (nobody could say whether)."""
        user = await self._user(request)
        if _MASTERS in user["groups"]:
            return
        verb, wanted = _VERBS.get(request.method, ""), subresources(request.path)
        for subresource in wanted:
            if await self._allowed(user, verb, subresource):
                return
        told = f"user={user['username']}, verb={verb}, resource=nodes, subresource(s)=[{' '.join(wanted)}]"
        raise ApiError(403, "Forbidden", f"Forbidden ({told})")

    async def _user(self, request: Request) -> User:
        """As a TokenReview tells it. Raises ApiError 401."""
        if request.peer.certificate is not None:
            return self._by_certificate(request.peer.certificate)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise unauthorized()
        digest = hashlib.sha256(token.encode()).digest()
        try:
            user: User | None = await self._ask((digest,), lambda: self._review(token.strip()), _identity_ttl)
        except (ApiError, OSError, TimeoutError) as e:
            log.warning("cannot tell whose token this is: %s", e)
            user = None
        if user is None:
            raise unauthorized()
        return user

    def _by_certificate(self, der: bytes) -> User:
        if der not in self._certified:
            from jota.pki.ca import read_certificate

            if len(self._certified) > 100:
                self._certified.clear()
            found = read_certificate(der)
            self._certified[der] = {"username": found.common_name, "groups": [*found.organisations]}
        return self._certified[der]

    async def _review(self, token: str) -> User | None:
        review = await self._client.create(TOKEN_REVIEWS, {"spec": {"token": token}})
        status = review.get("status") or {}
        if not status.get("authenticated"):
            return None
        return {"groups": [], **status["user"]}

    async def _allowed(self, user: User, verb: str, subresource: str) -> bool:
        """Raises ApiError 500."""
        groups, extra = tuple(user["groups"]), user.get("extra") or {}
        key = (user["username"], groups, repr(sorted(extra.items())), verb, subresource)
        attributes = {"verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource}
        attributes["name"] = self._node
        spec = {"user": user["username"], "groups": list(groups), "extra": extra, "uid": user.get("uid", "")}

        async def review() -> bool:
            made = await self._client.create(ACCESS_REVIEWS, {"spec": {**spec, "resourceAttributes": attributes}})
            return bool((made.get("status") or {}).get("allowed"))

        try:
            return await self._ask(key, review, lambda good: ALLOWED_TTL if good else DENIED_TTL)
        except (ApiError, OSError, TimeoutError) as e:
            told = (
                f"Authorization error (user={user['username']}, verb={verb}, resource=nodes, subresource={subresource})"
            )
            raise ApiError(500, "InternalError", told) from e

    async def _ask(self, key: tuple[Any, ...], ask: Callable[[], Awaitable[T]], ttl: Callable[[T], float]) -> T:
        """The answer, if it is young enough, the one that we have. Raises what `ask` raises."""
        now = self._clock.monotonic()
        kept = self._kept.get(key)
        if kept is not None and kept[0] > now:
            known: T = kept[1]
            return known
        answer = await ask()
        if len(self._kept) >= _MOST:
            self._kept.clear()
        self._kept[key] = (now + ttl(answer), answer)
        return answer


def _identity_ttl(_: User | None) -> float:
    return IDENTITY_TTL
