"""The cluster's certificate authority: EC P-256 keys, X.509 certificates, PEM in and out.

`cryptography` is imported here and in `jwt.py` only, by whoever needs a certificate. Rules follow Kubernetes: the user is
the common name, the groups are the organisations of a client certificate (authentication by x509).
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jota.pki.pem import UNREADABLE

_BACKDATE = timedelta(minutes=5)
"""Certificates begin this long before now, so that a peer whose clock lags accepts them. Upstream's amount, which its clients
allow for beyond the validity that they asked for."""


class BadRequest(ValueError):
    """A signing request that cannot be read or whose signature is wrong."""


@dataclass(slots=True, frozen=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(slots=True, frozen=True)
class Subject:
    """Who a certificate names."""

    common_name: str
    organisations: tuple[str, ...]
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()


class CertificateAuthority:
    """Signs with one key. Load it from PEM, or `create` a new one."""

    def __init__(self, pair: Pair) -> None:
        self.certificate_pem = pair.certificate
        self._certificate = x509.load_pem_x509_certificate(pair.certificate)
        key = serialization.load_pem_private_key(pair.key, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the CA key must be an EC key")
        self._key = key

    @staticmethod
    def create(name: str, *, days: float, now: float) -> Pair:
        """A self-signed CA certificate. `now` in epoch seconds."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        public = key.public_key()
        certificate = (
            _builder(subject, public, days, now)
            .issuer_name(subject)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(key, hashes.SHA256())
        )
        return Pair(certificate.public_bytes(serialization.Encoding.PEM), private_pem(key))

    @property
    def fingerprint(self) -> str:
        """sha256 of the certificate's DER, in hex: what a join token pins."""
        return hashlib.sha256(self._certificate.public_bytes(serialization.Encoding.DER)).hexdigest()

    def issue(
        self, subject: Subject, *, days: float, client: bool, server: bool, now: float, key_pem: bytes = b""
    ) -> Pair:
        """A certificate, for a new key unless there is one (of our own making). Raises ValueError for a `key_pem` that is none."""
        key = _load_key(key_pem) if key_pem else ec.generate_private_key(ec.SECP256R1())
        return Pair(self._sign(subject, key.public_key(), days, client, server, now), key_pem or private_pem(key))

    def sign_csr(
        self, csr_pem: bytes, *, days: float, client: bool, server: bool, now: float, without: Collection[str] = ()
    ) -> bytes:
        """The certificate (PEM) for a request whose subject the caller has approved, but for these addresses.

        Raises BadRequest."""
        request, subject = _load_csr(csr_pem), read_csr(csr_pem)
        subject = replace(subject, ip_addresses=tuple(ip for ip in subject.ip_addresses if ip not in without))
        return self._sign(subject, request.public_key(), days, client, server, now)

    def _sign(self, subject: Subject, public: object, days: float, client: bool, server: bool, now: float) -> bytes:
        names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in subject.organisations]
        names.append(x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name))
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH] * client + [ExtendedKeyUsageOID.SERVER_AUTH] * server
        builder = (
            _builder(x509.Name(names), public, days, now)
            .issuer_name(self._certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        alternatives: list[x509.GeneralName] = [x509.DNSName(n) for n in subject.dns_names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(a)) for a in subject.ip_addresses]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def create_rsa_key() -> bytes:
    """A private key that every client can load. Making one takes 0.02 to 0.15 s."""
    return private_pem(rsa.generate_private_key(65537, 2048))


def create_csr(subject: Subject) -> tuple[bytes, bytes]:
    """(request PEM, private key PEM) for a new key."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in subject.organisations]
    names.append(x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    alternatives: list[x509.GeneralName] = [x509.DNSName(n) for n in subject.dns_names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(a)) for a in subject.ip_addresses]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), private_pem(key)


def read_csr(csr_pem: bytes) -> Subject:
    """What a signing request asks for. Raises BadRequest."""
    request = _load_csr(csr_pem)
    try:
        return _subject(request)
    except (ValueError, *UNREADABLE) as error:
        raise BadRequest(f"the request's extensions cannot be read: {error}") from error


def read_certificate(der: bytes) -> Subject:
    """The subject of a certificate that TLS has already verified. Raises ValueError."""
    return _subject(x509.load_der_x509_certificate(der))


def issued_by(der: bytes, ca_pem: bytes) -> bool:
    """Whether the key of this CA (of one of them) signed the certificate. Its validity is not looked at: TLS did.

    Raises ValueError."""
    certificate = x509.load_der_x509_certificate(der)
    return any(_signed_by(certificate, authority) for authority in x509.load_pem_x509_certificates(ca_pem))


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, TypeError, ValueError):
        return False  # another issuer's name, another kind of key, or another key
    return True


def expiry(certificate_pem: bytes) -> float:
    """notAfter of the first certificate, epoch seconds. Raises ValueError."""
    return x509.load_pem_x509_certificate(certificate_pem).not_valid_after_utc.timestamp()


def expiry_of(der: bytes) -> float:
    """notAfter, epoch seconds. Raises ValueError."""
    return x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()


def fingerprint(certificate_pem: bytes) -> str:
    """sha256 of the first certificate's DER, in hex. Raises ValueError."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """PKCS#8; an RSA key in PKCS#1, as in the files that kubeadm writes."""
    plain = isinstance(key, rsa.RSAPrivateKey)
    form = serialization.PrivateFormat.TraditionalOpenSSL if plain else serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    """One that we made ourselves: whether an RSA key's primes are primes takes each start 0.05 s to find out."""
    key = serialization.load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("neither an EC key nor an RSA key")
    return key


def _load_csr(csr_pem: bytes) -> x509.CertificateSigningRequest:
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        signed = request.is_signature_valid
    except (ValueError, *UNREADABLE) as error:
        raise BadRequest(f"not a PEM certificate request: {error}") from error
    if not signed:
        raise BadRequest("the request's signature does not match its key")
    return request


def _subject(source: x509.CertificateSigningRequest | x509.Certificate) -> Subject:
    names = [str(a.value) for a in source.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = tuple(str(a.value) for a in source.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    try:
        extension = source.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Subject(names[0] if names else "", groups)
    return Subject(
        names[0] if names else "",
        groups,
        tuple(extension.get_values_for_type(x509.DNSName)),
        tuple(str(a) for a in extension.get_values_for_type(x509.IPAddress)),
    )


def _builder(subject: x509.Name, public: object, days: float, now: float) -> x509.CertificateBuilder:
    begin = datetime.fromtimestamp(now, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - _BACKDATE)
        .not_valid_after(begin + timedelta(days=days))
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not sign_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def bundle(certificates: Sequence[bytes]) -> bytes:
    """PEM certificates one after the other."""
    return b"".join(c if c.endswith(b"\n") else c + b"\n" for c in certificates)
