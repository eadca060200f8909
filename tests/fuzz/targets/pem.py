"""PEM from strangers (trust bundles, certificates, requests): blocks, and what they say, or ValueError; in one pass."""

from __future__ import annotations

import contextlib

from jota.pki import pem
from jota.pki.ca import BadRequest, CertificateAuthority, Subject, create_csr, read_csr
from targets import kit

_CERTIFICATE = CertificateAuthority.create("fuzz", days=1, now=1.8e9).certificate
_REQUEST = create_csr(Subject("fuzz", ("g",)))[0]
SEEDS = [
    _CERTIFICATE,
    b"before\n" + _REQUEST + b"between\n" + _CERTIFICATE,
    b"-----BEGIN A-----\nProc-Type: 4\n\nYWJj\n-----END A-----\n",
    b"-----BEGIN A-----\n-----BEGIN B-----\nYWJj\n-----END B-----\n-----END A-----",
    # what is no ASCII went through as an error
    "-----BEGIN A-----\né\n-----END A-----\n".encode(),
    # each beginning was looked for its end through all the rest
    b"-----BEGIN A-----\n" * 200,
    b"-----BEGIN " * 300,
    # a version that there is not: an exception of its own
    _REQUEST.replace(b"AQAw", b"AXAw", 1),
]
WORDS = [b"-----BEGIN ", b"-----END ", b"-----\n", b"CERTIFICATE", b": "]


def check(data: bytes) -> None:
    for block in pem.blocks(kit.text(data)):
        assert "\n" not in block.type
        with contextlib.suppress(ValueError):
            pem.certificate(block.der)
        with contextlib.suppress(ValueError):
            pem.signing_request(block.der)
    with contextlib.suppress(BadRequest):
        read_csr(data)
