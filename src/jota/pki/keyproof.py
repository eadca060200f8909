"""A fresh key, and the proof that one has it: a PKCS#10 request that says nothing and is signed by the key.

In: the type of the key, by the name that pods give it. Out: the key as PEM (PKCS#8), the request as DER.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_MADE: dict[str, tuple[Callable[[], Key], hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None]] = {
    "RSA3072": (lambda: rsa.generate_private_key(65537, 3072), hashes.SHA256()),
    "RSA4096": (lambda: rsa.generate_private_key(65537, 4096), hashes.SHA256()),
    "ECDSAP256": (lambda: ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()),
    "ECDSAP384": (lambda: ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
    "ECDSAP521": (lambda: ec.generate_private_key(ec.SECP521R1()), hashes.SHA512()),
    "ED25519": (ed25519.Ed25519PrivateKey.generate, None),
}
"""By type: how it is made, and the digest that it signs."""


def make(key_type: str) -> tuple[bytes, bytes]:
    """(key, request). An RSA key takes seconds: not for an event loop. Raises ValueError for an unknown type."""
    if key_type not in _MADE:
        raise ValueError(f'unknown key type "{key_type}"')
    generate, digest = _MADE[key_type]
    key = generate()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, digest)
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return (
        key.private_bytes(serialization.Encoding.PEM, form, plain),
        request.public_bytes(serialization.Encoding.DER),
    )
