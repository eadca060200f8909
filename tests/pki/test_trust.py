"""Whom a bundle makes trusted: who has its certificates, and whom these signed. Handshakes in memory, with OpenSSL itself."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest

from jota.pki import trust
from jota.pki.ca import CertificateAuthority, Pair, Subject

NOW = time.time()


def shakes_hands(bundle: bytes, server: Pair, folder: Path) -> None:
    """Raises ssl.SSLCertVerificationError."""
    (folder / "cert").write_bytes(server.certificate)
    (folder / "key").write_bytes(server.key)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "cert", folder / "key")
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        trust.context(bundle.decode()).wrap_bio(back, there, server_hostname="localhost"),
        serving.wrap_bio(there, back, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    assert ends[0].cipher() is not None
    assert ends[0].getpeercert()


def test_each_certificate_of_a_bundle_is_an_anchor(tmp_path: Path) -> None:
    ca = CertificateAuthority.create("envtest", days=1, now=NOW)
    subject = Subject("localhost", (), dns_names=("localhost",))
    server = CertificateAuthority(ca).issue(subject, days=1, client=False, server=True, now=NOW)
    other = CertificateAuthority(ca).issue(subject, days=1, client=False, server=True, now=NOW)
    shakes_hands(ca.certificate, server, tmp_path)
    shakes_hands(server.certificate, server, tmp_path)  # no root anywhere: upstream, and so Go, takes it
    with pytest.raises(ssl.SSLCertVerificationError):
        shakes_hands(other.certificate, server, tmp_path)
    stranger = CertificateAuthority.create("stranger", days=1, now=NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        shakes_hands(stranger.certificate, server, tmp_path)


def test_a_bundle_that_is_none_is_refused() -> None:
    with pytest.raises((ssl.SSLError, ValueError)):
        trust.context("no certificate")
