"""Signed tokens (JWS compact form, ES256): issue, verify, and publish the verification key as a JWK (RFC 7515, 7517, 7518)."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from jota.pki.ca import private_pem

LEEWAY = 10.0
"""Seconds by which clocks may differ."""


class BadToken(ValueError):
    """Not a token of ours: malformed, unknown key, wrong signature, or outside its time."""


class TokenSigner:
    """One signing key. Tokens carry its key id, so that several keys can be accepted during a rotation."""

    def __init__(self, key_pem: bytes) -> None:
        key = serialization.load_pem_private_key(key_pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("the token key must be an EC P-256 key")
        self._key = key
        self._public = key.public_key()
        der = self._public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.key_id = _encode(hashlib.sha256(der).digest()).decode()
        self._header = _encode(orjson.dumps({"alg": "ES256", "kid": self.key_id}))

    @staticmethod
    def create_key() -> bytes:
        """A new private key, PEM."""
        return private_pem(ec.generate_private_key(ec.SECP256R1()))

    def sign(self, claims: dict[str, Any]) -> str:
        """The compact token for these claims."""
        signed = self._header + b"." + _encode(orjson.dumps(claims))
        r, s = decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return (signed + b"." + _encode(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode()

    def read(self, token: str) -> dict[str, Any]:
        """The claims of a token that we have signed, whatever time it was meant for (`check_times`). Raises BadToken."""
        parts = token.encode().split(b".")
        if len(parts) != 3:
            raise BadToken("a token has three parts")
        header, claims, signature = _json(parts[0]), _json(parts[1]), _decode(parts[2])
        if header.get("alg") != "ES256" or header.get("kid", self.key_id) != self.key_id or len(signature) != 64:
            raise BadToken("signed with another key or algorithm")
        der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        try:
            self._public.verify(der, parts[0] + b"." + parts[1], ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise BadToken("the signature is wrong") from None
        return claims

    def jwk(self) -> dict[str, str]:
        """The public key as a JSON Web Key."""
        numbers = self._public.public_numbers()
        return {
            "kty": "EC",
            "crv": "P-256",
            "alg": "ES256",
            "use": "sig",
            "kid": self.key_id,
            "x": _encode(numbers.x.to_bytes(32, "big")).decode(),
            "y": _encode(numbers.y.to_bytes(32, "big")).decode(),
        }


def check_times(claims: dict[str, Any], now: float) -> float:
    """Until when (epoch seconds) the token counts. Raises BadToken when it does not, or not yet."""
    expires, begins = claims.get("exp"), claims.get("nbf")
    if not isinstance(expires, int | float) or now > expires + LEEWAY:
        raise BadToken("the token has expired")
    if isinstance(begins, int | float) and now < begins - LEEWAY:
        raise BadToken("the token is not valid yet")
    return expires + LEEWAY


def _json(part: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(_decode(part))
    except orjson.JSONDecodeError as error:
        raise BadToken("not JSON inside") from error
    if not isinstance(value, dict):
        raise BadToken("not an object inside")
    return value


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(part: bytes) -> bytes:
    try:
        return base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise BadToken("not base64url") from error
