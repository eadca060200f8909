"""A client's certificate and key from memory into a TLS context: what configuration files carry as text."""

from __future__ import annotations

import ssl
import tempfile


def load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Both are PEM. Raises ssl.SSLError."""
    with tempfile.NamedTemporaryFile(prefix="jota-") as pair:  # ssl loads from files only; ours alone, mode 600
        pair.write(certificate.encode() + b"\n" + key.encode())
        pair.flush()
        context.load_cert_chain(pair.name)
