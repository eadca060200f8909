"""Certificates and tokens: what is issued can be read back, and what is forged is refused."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from jota.pki import keyproof
from jota.pki.ca import (
    BadRequest,
    CertificateAuthority,
    Subject,
    create_csr,
    create_rsa_key,
    expiry,
    fingerprint,
    read_certificate,
    read_csr,
)
from jota.pki.jwt import BadToken, TokenSigner, check_times
from jota.pki.pem import blocks, certificates, signing_request

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority(CertificateAuthority.create("test-ca", days=10, now=NOW))


def test_an_issued_certificate_names_its_subject(authority: CertificateAuthority, tmp_path: Path) -> None:
    subject = Subject("system:node:a", ("system:nodes",), ("a", "localhost"), ("10.0.0.1", "::1"))
    pair = authority.issue(subject, days=1, client=True, server=True, now=NOW)
    der = ssl.PEM_cert_to_DER_cert(pair.certificate.decode())
    assert read_certificate(der) == subject
    assert expiry(pair.certificate) == NOW + 86400
    (tmp_path / "c.pem").write_bytes(pair.certificate)
    (tmp_path / "k.pem").write_bytes(pair.key)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    assert authority.fingerprint == fingerprint(authority.certificate_pem)


def test_a_certificate_for_a_key_that_is_there(authority: CertificateAuthority, tmp_path: Path) -> None:
    """Java's clients take an RSA key in PKCS#1 and, without further libraries, no other."""
    key = create_rsa_key()
    assert key.startswith(b"-----BEGIN RSA PRIVATE KEY-----")
    pair = authority.issue(Subject("jane", ()), days=1, client=True, server=False, now=NOW, key_pem=key)
    assert pair.key == key
    (tmp_path / "c.pem").write_bytes(pair.certificate)
    (tmp_path / "k.pem").write_bytes(key)
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    with pytest.raises(ValueError):
        authority.issue(Subject("jane", ()), days=1, client=True, server=False, now=NOW, key_pem=b"garbage")


def test_a_request_is_signed_for_what_it_asks(authority: CertificateAuthority) -> None:
    subject = Subject("system:node:b", ("system:nodes",), (), ("10.0.0.2",))
    request, _ = create_csr(subject)
    assert read_csr(request) == subject
    signed = authority.sign_csr(request, days=1, client=True, server=False, now=NOW)
    certificate = x509.load_pem_x509_certificate(signed)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate_pem))


def test_a_request_of_a_version_that_there_is_not_is_refused(authority: CertificateAuthority) -> None:
    """cryptography's InvalidVersion is no ValueError: the server and the signer fell over it."""
    (block,) = blocks(create_csr(Subject("x", ()))[0].decode())
    at = block.der.index(b"\x02\x01\x00")
    der = block.der[:at] + b"\x02\x01\x70" + block.der[at + 3 :]
    with pytest.raises(ValueError, match="112"):
        signing_request(der)
    request = certificates([der]).replace(b"CERTIFICATE", b"CERTIFICATE REQUEST")
    with pytest.raises(BadRequest, match="112"):
        read_csr(request)
    with pytest.raises(BadRequest, match="112"):
        authority.sign_csr(request, days=1, client=True, server=False, now=NOW)


@pytest.mark.parametrize(
    "garbage", [b"", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"]
)
def test_a_malformed_request_is_refused(authority: CertificateAuthority, garbage: bytes) -> None:
    with pytest.raises(BadRequest):
        authority.sign_csr(garbage, days=1, client=True, server=False, now=NOW)


def verified(signer: TokenSigner, token: str, now: float) -> dict[str, object]:
    """As those who accept one look at it. Raises BadToken."""
    claims = signer.read(token)
    check_times(claims, now)
    return claims


def test_a_token_is_accepted_within_its_time_only() -> None:
    signer = TokenSigner(TokenSigner.create_key())
    token = signer.sign({"sub": "x", "exp": NOW + 100, "nbf": NOW})
    assert verified(signer, token, NOW + 50)["sub"] == "x"
    for when in (NOW + 111, NOW - 11):
        with pytest.raises(BadToken):
            verified(signer, token, when)
    with pytest.raises(BadToken, match="another key"):
        verified(TokenSigner(TokenSigner.create_key()), token, NOW)


SIGNER = TokenSigner(TokenSigner.create_key())
GOOD = SIGNER.sign({"sub": "x", "exp": NOW + 100})


@given(st.integers(0, len(GOOD) - 1), st.sampled_from("ABCabc012-_.=%\n"))
def test_no_changed_token_passes(position: int, letter: str) -> None:
    forged = GOOD[:position] + letter + GOOD[position + 1 :]
    if forged == GOOD:
        return
    try:
        claims = verified(SIGNER, forged, NOW)
    except BadToken:
        return
    # The last letter of a base64 part carries unused bits: the same signature may be spelt in several ways.
    assert claims == {"sub": "x", "exp": NOW + 100}


@given(st.text(max_size=200))
def test_garbage_is_only_ever_a_bad_token(text: str) -> None:
    with pytest.raises(BadToken):
        verified(SIGNER, text, NOW)


def pem_block(type_: str, der: bytes) -> str:
    return f"-----BEGIN {type_}-----\n{base64.b64encode(der).decode()}\n-----END {type_}-----\n"


def test_pem_blocks_are_found_between_anything_else() -> None:
    text = f"said before\n{pem_block('A B', b'one')}in between{pem_block('C', b'two')}-----BEGIN D-----\nZm91cg==\n"
    assert [(b.type, b.headers, b.der) for b in blocks(text)] == [("A B", False, b"one"), ("C", False, b"two")]
    broken = f"-----BEGIN A-----\n{pem_block('B', b'inner')}-----END A-----\n-----END B-----\n{pem_block('C', b'last')}"
    assert [b.der for b in blocks(broken)] == [b"inner", b"last"]
    assert blocks("-----BEGIN A-----\nno base64!\n-----END A-----\n") == []
    assert blocks("-----BEGIN A-----\nName: x\n\nAAAA\n-----END A-----\n")[0].headers


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN A-----\n" * 50_000,
        "-----BEGIN " * 50_000,
        "-----BEGIN A-----\n" * 50_000 + "-----END B-----",
        "-----END A-----\n" * 50_000,
    ],
)
def test_hostile_pem_is_read_once(text: str) -> None:
    """Looked at once for each beginning, these would keep the server busy for many minutes."""
    assert blocks(text) == []


@pytest.mark.parametrize("key_type", ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"])
def test_a_key_proves_itself(key_type: str) -> None:
    key, request = keyproof.make(key_type)
    found = signing_request(request)
    assert (found.key_problem, found.signed) == ("", True)
    public = load_pem_private_key(key, None).public_key()
    assert public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == found.public_key
    assert key.startswith(b"-----BEGIN PRIVATE KEY-----\n")


def test_an_unknown_type_of_key_is_named() -> None:
    with pytest.raises(ValueError, match='unknown key type "DSA"'):
        keyproof.make("DSA")


@given(st.lists(st.binary(min_size=1, max_size=200)))
def test_certificates_as_pem_are_these_and_nothing_else(found: list[bytes]) -> None:
    text = certificates(found).decode()
    assert [(b.type, b.headers, b.der) for b in blocks(text)] == [("CERTIFICATE", False, der) for der in found]
    assert all(len(line) <= 64 for line in text.splitlines())
