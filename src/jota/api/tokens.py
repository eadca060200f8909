"""ServiceAccount tokens: what is in them, and when they stop to count.

A token is bound: to its ServiceAccount by uid, and where asked to a pod, secret or node by uid. It is refused as soon as
one of them is gone (KEP-1205 bound service account tokens), or a minute after it should be, when finalizers hold it.
`subresources/token.py` issues, `filters/authn.py` accepts.
One that is kept in a Secret (kinds/core/legacytoken.py) has no end: it counts while that Secret holds it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jota.aio.clock import parse_rfc3339
from jota.api.filters.attributes import User
from jota.api.object import Identity
from jota.kinds.core import legacytoken
from jota.meta.resource import NODES, PODS, SECRETS, SERVICEACCOUNTS, Resource
from jota.pki import jws
from jota.pki.jwt import BadToken, TokenSigner, check_times

Lookup = Callable[[Resource, str, str], Identity | None]
"""(resource, namespace, name) -> which object it is, None when there is none."""

Read = Callable[[Resource, str, str], "dict[str, Any] | None"]
"""(resource, namespace, name) -> the object, None when there is none."""

LONGEST = 365 * 86400
SHORTEST = 600
"""Seconds; TokenRequest's bounds upstream."""
_LEEWAY = 60.0
"""Seconds after its deletionTimestamp in which an object that is still there counts (upstream's)."""
_MOST_KNOWN = 4096
_BOUND = {"Pod": ("pod", PODS), "Secret": ("secret", SECRETS), "Node": ("node", NODES)}


@dataclass(slots=True, frozen=True)
class Bound:
    """The object whose end ends the token. `node` says where a pod runs (name, uid): told, and not asked for again
    (KEP-4193)."""

    kind: str
    name: str
    uid: str
    node: dict[str, str] | None = None


class ServiceAccountTokens:
    """Issue and verify. `issuer` is also the default audience's first entry, as upstream's API audiences are."""

    def __init__(
        self,
        signer: TokenSigner,
        issuer: str,
        lookup: Lookup,
        new_id: Callable[[], str],
        read: Read | None = None,
        used: Callable[[dict[str, Any]], None] = lambda secret: None,
    ) -> None:
        """`read`: of Secrets, for the tokens that are kept in them; None: those do not count. `used` hears of each use of one."""
        self._signer, self.issuer, self._lookup, self._new_id = signer, issuer, lookup, new_id
        self._read_object, self._used = read, used
        self.audiences = (issuer,)
        self._known: OrderedDict[bytes, dict[str, Any]] = OrderedDict()
        """The claims of tokens whose signature was looked at, by their digests: that takes ten times as long as all the rest, and a
        client sends the same token with each request."""

    def jwks(self) -> dict[str, Any]:
        return {"keys": [self._signer.jwk()]}

    def issue(
        self, account: dict[str, Any], audiences: list[str], seconds: int, bound: Bound | None, now: float
    ) -> tuple[str, float]:
        """(token, expiry in epoch seconds) for a ServiceAccount object."""
        metadata = account["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        facts: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": name, "uid": metadata["uid"]}}
        if bound is not None:
            facts[_BOUND[bound.kind][0]] = {"name": bound.name, "uid": bound.uid}
            if bound.node is not None:
                facts["node"] = bound.node
        issued = int(now)
        claims = {
            "iss": self.issuer,
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "aud": audiences or list(self.audiences),
            "iat": issued,
            "nbf": issued,
            "exp": issued + seconds,
            "jti": self._new_id(),
            "kubernetes.io": facts,
        }
        return self._signer.sign(claims), issued + seconds

    def issued(self, token: str) -> bool:
        """Whether a token says that it is ours, be it true or not."""
        try:
            return jws.read(token).claims.get("iss") in (self.issuer, legacytoken.ISSUER)
        except BadToken:
            return False

    def verify(self, token: str, now: float, audiences: tuple[str, ...] = ()) -> tuple[User, list[str]]:
        """(user, the audiences that matched). Raises BadToken with the reason."""
        claims = self._read(token)
        if claims.get("iss") == legacytoken.ISSUER:
            return self._kept(claims, token, audiences, now)
        check_times(claims, now)
        if claims.get("iss") != self.issuer:
            raise BadToken("another issuer's token")
        listed = claims.get("aud")
        matched = [a for a in (audiences or self.audiences) if isinstance(listed, list) and a in listed]
        if not matched:
            raise BadToken(f"the token is for {listed}, not for this audience")
        return self._user(_facts(claims), str(claims.get("jti", "")), now), matched

    def lasts(self, token: str, now: float) -> tuple[float, Callable[[float], bool]]:
        """Of a token that counts now: until when (epoch seconds) it may, and whether all that it is bound to lives at a time.
        Raises BadToken."""
        claims = self._read(token)
        kept, facts = claims.get("iss") == legacytoken.ISSUER, _facts(claims)

        def lives(now: float) -> bool:
            try:
                self._must_all_live(facts, now)
                if kept:
                    self._must_count(self._must_hold(facts, token))
            except BadToken:
                return False
            return True

        return math.inf if kept else check_times(claims, now), lives

    def _kept(
        self, claims: dict[str, Any], token: str, audiences: tuple[str, ...], now: float
    ) -> tuple[User, list[str]]:
        """Of a token that is kept in a Secret: it is for this server alone."""
        matched = [a for a in (audiences or self.audiences) if a in self.audiences]
        if not matched:
            raise BadToken(f"the token is for {list(self.audiences)}, not for this audience")
        facts = _facts(claims)
        secret = self._must_hold(facts, token)
        user = self._user(facts, "", now)
        self._must_count(secret)
        return user, matched

    def _must_hold(self, facts: dict[str, Any], token: str) -> dict[str, Any]:
        """The Secret. Raises BadToken unless it is there, is not going, and has this very token."""
        name = facts["holder"]["name"]
        secret = self._read_object(SECRETS, facts["namespace"], name) if self._read_object is not None else None
        if secret is None or "deletionTimestamp" in secret["metadata"]:
            raise BadToken(f'the secret "{name}" of this token is gone')
        encoded = str((secret.get("data") or {}).get("token", ""))
        if not hmac.compare_digest(encoded, base64.b64encode(token.encode()).decode()):
            raise BadToken(f'the secret "{name}" holds another token')
        return secret

    def _must_count(self, secret: dict[str, Any]) -> None:
        """The token of this Secret is used. Raises BadToken if nobody did for so long that it was marked invalid; who takes the mark
        away may use it again."""
        self._used(secret)
        meta = secret["metadata"]
        if (meta.get("labels") or {}).get(legacytoken.INVALID_SINCE):
            raise BadToken(
                f"the token in secret {meta['namespace']}/{meta['name']} has been marked invalid. Use tokens from the "
                "TokenRequest API or manually created secret-based tokens, or remove the "
                f"'{legacytoken.INVALID_SINCE}' label from the secret to temporarily allow use of this token"
            )

    def _read(self, token: str) -> dict[str, Any]:
        """The claims of a token that we have signed; nobody changes them. Raises BadToken."""
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        claims = self._known.get(digest)
        if claims is None:
            claims = self._known[digest] = self._signer.read(token)
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return claims

    def _user(self, facts: dict[str, Any], token_id: str, now: float) -> User:
        namespace, account = facts["namespace"], facts["serviceaccount"]
        self._must_all_live(facts, now)
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={token_id}"]} if token_id else {}
        for key, _ in _BOUND.values():
            part = facts.get(key)
            if part and key != "secret":
                extra |= {f"authentication.kubernetes.io/{key}-{field}": [part[field]] for field in part}
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(f"system:serviceaccount:{namespace}:{account['name']}", account["uid"], groups, extra)

    def _must_all_live(self, facts: dict[str, Any], now: float) -> None:
        """Raises BadToken."""
        namespace = facts["namespace"]
        self._must_live(SERVICEACCOUNTS, namespace, facts["serviceaccount"], "service account", now)
        for key, resource in _BOUND.values():
            if facts.get(key) and (key != "node" or "pod" not in facts):
                self._must_live(resource, namespace if resource.namespaced else "", facts[key], key, now)

    def _must_live(self, resource: Resource, namespace: str, part: dict[str, Any], what: str, now: float) -> None:
        found = self._lookup(resource, namespace, part["name"])
        alive = found is not None and found.uid == part["uid"]
        if found is not None and found.deletionTimestamp:
            alive = alive and parse_rfc3339(found.deletionTimestamp) >= now - _LEEWAY
        if not alive:
            raise BadToken(f'the {what} "{part["name"]}" of this token is gone')


def _facts(claims: dict[str, Any]) -> dict[str, Any]:
    """What a token says of its account, and of what it is bound to, be it kept in a Secret or not. Raises BadToken."""
    kept = claims.get("iss") == legacytoken.ISSUER
    facts = legacytoken.facts(claims) if kept else claims.get("kubernetes.io")
    if not isinstance(facts, dict):
        raise BadToken("no service account in the token")
    return facts
