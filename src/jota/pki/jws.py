"""Signed tokens of others (JWS compact form, RFC 7515): read one, and verify it with the issuer's published keys (JWKS, RFC 7517).

Only asymmetric algorithms exist here: `none` and HMAC cannot be asked for. Own tokens are in `jwt.py`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from jota.pki.jwt import BadToken

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
LONGEST = 64 * 1024
"""Characters of a token."""
MOST_KEYS = 256
_SHORTEST_RSA = 2048
_HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES: dict[str, tuple[Callable[[], ec.EllipticCurve], str]] = {
    "P-256": (ec.SECP256R1, "ES256"),
    "P-384": (ec.SECP384R1, "ES384"),
    "P-521": (ec.SECP521R1, "ES512"),
}


@dataclass(slots=True, frozen=True)
class Token:
    """A token as it was sent. Nothing in it can be believed before `verify`."""

    algorithm: str
    key_id: str
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


@dataclass(slots=True, frozen=True)
class Key:
    """One verification key of an issuer."""

    key_id: str
    algorithms: tuple[str, ...]
    public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey


def read(token: str) -> Token:
    """Raises BadToken for what is no JWS with a JSON object inside."""
    if len(token) > LONGEST:
        raise BadToken("the token is too long")
    parts = token.encode(errors="replace").split(b".")
    if len(parts) != 3:
        raise BadToken("a token has three parts")
    header, claims = _object(parts[0]), _object(parts[1])
    algorithm, key_id = header.get("alg"), header.get("kid", "")
    if not isinstance(algorithm, str) or not isinstance(key_id, str):
        raise BadToken("the header has no algorithm, or a key id that is no text")
    if "crit" in header:
        raise BadToken("the token demands extensions that are not known here")
    return Token(algorithm, key_id, claims, parts[0] + b"." + parts[1], _decode(parts[2]))


def keys(jwks: Any) -> list[Key]:
    """The usable keys of a JWK Set; others are passed over. Raises ValueError when it is no JWK Set."""
    listed = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(listed, list):
        raise ValueError("the document has no list of keys")
    found = []
    for jwk in listed[:MOST_KEYS]:
        if isinstance(jwk, dict) and jwk.get("use", "sig") == "sig":
            key = _key(jwk)
            if key is not None:
                found.append(key)
    return found


def verify(token: Token, known: Iterable[Key], allowed: Iterable[str]) -> bool:
    """Whether one of the keys made the signature: the one that the token names, any that fits when it names none.

    Raises BadToken for an algorithm that is not allowed."""
    if token.algorithm not in allowed or token.algorithm not in ALGORITHMS:
        raise BadToken(f"signed with the algorithm {token.algorithm[:16]!r}, which is not accepted")
    for key in known:
        if token.key_id and key.key_id != token.key_id:
            continue
        if token.algorithm in key.algorithms and _made_by(key, token):
            return True
    return False


def _made_by(key: Key, token: Token) -> bool:
    digest = _HASHES[token.algorithm[2:]]
    try:
        if isinstance(key.public, rsa.RSAPublicKey):
            key.public.verify(token.signature, token.signed, _padding(token.algorithm, digest), digest)
        else:
            size = (key.public.curve.key_size + 7) // 8
            if len(token.signature) != 2 * size:
                return False
            r, s = (int.from_bytes(half, "big") for half in (token.signature[:size], token.signature[size:]))
            key.public.verify(encode_dss_signature(r, s), token.signed, ec.ECDSA(digest))
    except InvalidSignature:
        return False
    return True


def _padding(algorithm: str, digest: hashes.HashAlgorithm) -> padding.AsymmetricPadding:
    if algorithm.startswith("PS"):
        return padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
    return padding.PKCS1v15()


def _key(jwk: dict[str, Any]) -> Key | None:
    key_id = jwk.get("kid", "")
    key_id = key_id if isinstance(key_id, str) else ""
    public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    try:
        if jwk.get("kty") == "RSA":
            public = rsa.RSAPublicNumbers(_number(jwk["e"]), _number(jwk["n"])).public_key()
            if public.key_size < _SHORTEST_RSA:
                return None
            algorithms = tuple(a for a in ALGORITHMS if a[0] in "RP")
        elif jwk.get("kty") == "EC" and jwk.get("crv") in _CURVES:
            curve, algorithm = _CURVES[jwk["crv"]]
            public = ec.EllipticCurvePublicNumbers(_number(jwk["x"]), _number(jwk["y"]), curve()).public_key()
            algorithms = (algorithm,)
        else:
            return None
    except (KeyError, TypeError, ValueError, UnsupportedAlgorithm):
        return None
    stated = jwk.get("alg")
    return Key(key_id, tuple(a for a in algorithms if stated in (None, a)), public)


def _number(text: Any) -> int:
    """A Base64urlUInt. Raises ValueError, TypeError."""
    if not isinstance(text, str) or len(text) > 4096:
        raise TypeError("a key's number is a text of bounded length")
    return int.from_bytes(_decode(text.encode()), "big")


def _object(part: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(_decode(part))
    except orjson.JSONDecodeError as error:
        raise BadToken("not JSON inside") from error
    if not isinstance(value, dict):
        raise BadToken("not an object inside")
    return value


def _decode(part: bytes) -> bytes:
    try:
        return base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise BadToken("not base64url") from error
