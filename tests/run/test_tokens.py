"""Join tokens: their form, and the Secret behind them."""

from __future__ import annotations

import base64

import pytest

from jota.run import tokens
from jota.run.instance import Refused


def test_a_token_is_read_back() -> None:
    made = tokens.create("ab" * 32)
    assert tokens.parse(f" {made}\n") == made
    assert made.bearer == f"{made.id}.{made.secret}"
    assert tokens.create("ab" * 32) != made


@pytest.mark.parametrize(
    "text", ["", "a.b.c", "abcdef.0123456789abcdef", f"abcdef.0123456789abcdef.{'g' * 64}", "x" * 90]
)
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(Refused, match="jota token create"):
        tokens.parse(text)


def test_the_secret_expires() -> None:
    made = tokens.create("ab" * 32)
    secret = tokens.secret(made, now=0.0, lifetime=3600.0)
    assert secret["type"] == "bootstrap.kubernetes.io/token"
    assert secret["metadata"]["name"] == f"bootstrap-token-{made.id}"
    data = {k: base64.b64decode(v).decode() for k, v in secret["data"].items()}
    assert data["expiration"] == "1970-01-01T01:00:00Z"
    assert data["token-secret"] == made.secret
    assert made.ca_hash not in data.values()
