"""PEM and DER that others send: certificates and signing requests, taken apart. Bytes in, plain facts or ValueError out.

What a fact means for an object is the business of kinds/certificates. Reading is as tolerant as Go's `pem.Decode`: what stands
between blocks does not count.
"""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

UNREADABLE = (UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What is raised for bytes from strangers beside ValueError, and is none."""
E = TypeVar("E", bound=x509.ExtensionType)
_BEGIN = re.compile(r"-----BEGIN ([^\n]{0,80}?)-----[ \t]*\r?\n")
_END = "-----END "
_HEADER = re.compile(r"^[^\s:]+:.*$", re.MULTILINE)


class Block(NamedTuple):
    type: str
    """CERTIFICATE, CERTIFICATE REQUEST, ..."""
    headers: bool
    """It has PEM headers."""
    der: bytes


class Certificate(NamedTuple):
    public_key: bytes
    """SubjectPublicKeyInfo, DER."""
    not_before: float
    not_after: float
    """Epoch seconds."""
    authority: bool
    """Basic constraints say that it may sign others."""
    dns_names: tuple[str, ...]
    emails: tuple[str, ...]


class SigningRequest(NamedTuple):
    public_key: bytes
    key_problem: str
    """Why its key may not be certified; "" when it may."""
    signed: bool
    """Its own key signed it."""


def blocks(text: str) -> list[Block]:
    """The PEM blocks of a text, in order; what is no Base64 is skipped."""
    out = []
    for type_, body in _framed(text):
        headers = bool(_HEADER.search(body))
        try:
            der = base64.b64decode("".join(_HEADER.sub("", body).split()), validate=True)
        except ValueError:  # no Base64, or no ASCII
            continue
        out.append(Block(type_, headers, der))
    return out


def certificates(found: Iterable[bytes]) -> bytes:
    """DER certificates as PEM, with nothing before, between or after them."""
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode()


def _framed(text: str) -> Iterator[tuple[str, str]]:
    """Type and body of what stands between a BEGIN and the next END, where these name the same type. Each part of the text is
    looked at once: others send it, and a thousand beginnings without an end must cost no more than one."""
    at, end = 0, -1
    while (begin := _BEGIN.search(text, at)) is not None:
        at = begin.end()
        if end < at:
            end = text.find(_END, at)
        if end < 0:
            return
        if text.startswith(f"{_END}{begin[1]}-----", end):
            yield begin[1], text[at:end]
            at = end


def certificate(der: bytes) -> Certificate:
    """Raises ValueError."""
    try:
        found = x509.load_der_x509_certificate(der)
        key = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        constraints = _extension(found, x509.BasicConstraints)
        names = _extension(found, x509.SubjectAlternativeName)
    except UNREADABLE as e:
        raise ValueError(str(e)) from None
    return Certificate(
        key,
        found.not_valid_before_utc.timestamp(),
        found.not_valid_after_utc.timestamp(),
        constraints is not None and constraints.ca,
        tuple(names.get_values_for_type(x509.DNSName)) if names is not None else (),
        tuple(names.get_values_for_type(x509.RFC822Name)) if names is not None else (),
    )


def _extension(source: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return source.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def signing_request(der: bytes) -> SigningRequest:
    """A PKCS#10 request. Raises ValueError."""
    try:
        found = x509.load_der_x509_csr(der)
        key = found.public_key()
        public = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        signed = bool(found.is_signature_valid)
    except UNREADABLE as e:
        raise ValueError(str(e)) from None
    except InvalidSignature:
        signed = False
    return SigningRequest(public, _key_problem(key), signed)


def _key_problem(key: object) -> str:
    """Pod certificates are for RSA 3072 and 4096, P256, P384, P521 and Ed25519 (upstream's list)."""
    match key:
        case ed25519.Ed25519PublicKey():
            return ""
        case ec.EllipticCurvePublicKey():
            good = isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1)
            return "" if good else "elliptic public keys must use curve P256, P384, or P521"
        case rsa.RSAPublicKey():
            return "" if key.key_size in (3072, 4096) else "RSA keys must have modulus size 3072 or 4096"
    return "unknown public key type; supported types are Ed25519, ECDSA, and RSA"
