"""TLS towards servers that others run: a bundle of certificates comes in, a context that trusts them comes out.

Each certificate of the bundle is an anchor, as in Go's pools: many tools (controller-runtime's envtest, for one) hand over the
serving certificate itself, or an intermediate one, where OpenSSL by itself wants the whole chain up to a root.
"""

from __future__ import annotations

import ssl


def context(bundle: str | None) -> ssl.SSLContext:
    """Trusts the PEM certificates in `bundle` alone, or the machine's roots without one. Raises ssl.SSLError, ValueError."""
    made = ssl.create_default_context(cadata=bundle or None)
    if bundle:
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return made
