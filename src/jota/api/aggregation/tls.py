"""TLS towards extension servers: our front-proxy certificate, and whom we believe to be them. Contexts are kept and reused.

In: caBundle and insecureSkipTLSVerify of an APIService. Out: an SSLContext.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from collections import OrderedDict

from jota.api.config import FrontProxy
from jota.pki import trust

MOST = 4
"""Contexts of one server: that of its probes and that of its bundle, and room for a bundle that is being replaced."""


class BadBundle(Exception):
    """The caBundle cannot be used; the text says why."""


class Contexts:
    def __init__(self, proxy: FrontProxy | None) -> None:
        """Without `proxy` extension servers see no client certificate, and believe nothing that we say of users."""
        self._proxy = proxy
        self._kept: OrderedDict[tuple[str, bool], ssl.SSLContext] = OrderedDict()

    def context(self, bundle: str, *, insecure: bool) -> ssl.SSLContext:
        """`bundle`: PEM in base64; without one the machine's roots count. Raises BadBundle."""
        key = (bundle, insecure)
        found = self._kept.get(key)
        if found is None:
            found = _insecure() if insecure else _verifying(bundle)
            if self._proxy is not None:
                found.load_cert_chain(self._proxy.certificate, self._proxy.key)
            self._kept[key] = found
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found

    def forget(self) -> None:
        """Our certificate was issued anew."""
        self._kept.clear()


def _verifying(bundle: str) -> ssl.SSLContext:
    try:
        return trust.context(base64.b64decode(bundle).decode() if bundle else None)
    except (binascii.Error, UnicodeDecodeError, ssl.SSLError, ValueError) as problem:
        raise BadBundle(f"unable to load root certificates: {problem}") from None


def _insecure() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
