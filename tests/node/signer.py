"""A signer of pod certificates, for stories: answers one request as its test says. The authority is P-256 with one root."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from jota.aio.clock import rfc3339
from jota.client.client import Client
from jota.meta.resource import POD_CERTIFICATE_REQUESTS

SIGNER = "test.example/pods"
_KEY = ec.generate_private_key(ec.SECP256R1())


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def authority(common: str, now: float) -> str:
    """The PEM of a root."""
    return _certificate(name(common), _KEY.public_key(), now, 86400, authority=True)


def _certificate(subject: x509.Name, key: Any, now: float, seconds: int, *, authority: bool = False) -> str:
    begins = datetime.fromtimestamp(now, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(name("root"))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(seconds=seconds))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    return builder.sign(_KEY, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


async def issue(client: Client, request: dict[str, Any], now: float, *, refresh: float, seconds: int = 86400) -> None:
    """Sign it from `now` (whole seconds) on; it is to be renewed `refresh` seconds later."""
    found = x509.load_der_x509_csr(base64.b64decode(request["spec"]["stubPKCS10Request"]))
    chain = _certificate(x509.Name([]), found.public_key(), now, seconds)
    times = {"notBefore": now, "beginRefreshAt": now + refresh, "notAfter": now + seconds}
    status = {"certificateChain": f"of the test:\n{chain}", **{k: rfc3339(t) for k, t in times.items()}}
    await end(client, request, now, "Issued", **status)


async def end(client: Client, request: dict[str, Any], now: float, how: str, **status: Any) -> None:
    """Issued, Denied or Failed."""
    ended = {"type": how, "status": "True", "reason": "Because", "message": "of it", "lastTransitionTime": rfc3339(now)}
    await client.update(POD_CERTIFICATE_REQUESTS, {**request, "status": {"conditions": [ended], **status}}, "status")
