"""Join tokens: `<id>.<secret>.<sha256 of the CA certificate>`.

The first two parts are a Kubernetes bootstrap token (a Secret of type bootstrap.kubernetes.io/token); the third pins the
cluster's CA, so that a node needs nothing but a URL and a token to know that it joins the right cluster.
"""

from __future__ import annotations

import base64
import re
import secrets
from dataclasses import dataclass
from typing import Any

from jota.aio.clock import rfc3339
from jota.run.instance import Refused

_FORM = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})\.([0-9a-f]{64})")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
LIFETIME = 24 * 3600.0


@dataclass(slots=True, frozen=True)
class JoinToken:
    id: str
    secret: str
    ca_hash: str

    def __str__(self) -> str:
        return f"{self.id}.{self.secret}.{self.ca_hash}"

    @property
    def bearer(self) -> str:
        return f"{self.id}.{self.secret}"


def create(ca_hash: str) -> JoinToken:
    def letters(count: int) -> str:
        return "".join(secrets.choice(_LETTERS) for _ in range(count))

    return JoinToken(letters(6), letters(16), ca_hash)


def parse(text: str) -> JoinToken:
    """Raises Refused."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise Refused(
            "that is not a join token (abcdef.0123456789abcdef.<64 hex digits>); make one with: jota token create"
        )
    return JoinToken(*match.groups())


def secret(token: JoinToken, *, now: float, lifetime: float = LIFETIME) -> dict[str, Any]:
    """The Secret that makes the token valid for `lifetime` seconds."""
    values = {
        "token-id": token.id,
        "token-secret": token.secret,
        "usage-bootstrap-authentication": "true",
        "expiration": rfc3339(now + lifetime),
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": f"bootstrap-token-{token.id}", "namespace": "kube-system"},
        "data": {k: base64.b64encode(v.encode()).decode() for k, v in values.items()},
    }
