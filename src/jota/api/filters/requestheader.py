"""Authentication by a front proxy: its certificate says that X-Remote-* headers name the user (upstream's requestheader).

In: a request whose client certificate TLS has verified. Out: whether the certificate is a front proxy's, and the user that it
speaks for. Such a certificate never names a user by itself: the CA is another one. TLS trusts both CAs alike and does not say
which of them stands behind an intermediate one, so certificates of intermediate CAs count for nothing. Next: authn.py asks
here first.
"""

from __future__ import annotations

from collections import OrderedDict
from urllib.parse import unquote

from jota.api.config import FrontProxy
from jota.api.filters.attributes import User
from jota.meta.errors import unauthorized
from jota.pki.ca import issued_by, read_certificate
from jota.wire.message import Request

PREFIX = "x-remote-"
_EXTRA = "x-remote-extra-"
_AUTHENTICATED, _UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"
_MOST_CERTIFICATES = 1024


class RequestHeader:
    def __init__(self, proxy: FrontProxy) -> None:
        self._proxy = proxy
        self._ca, self._users_ca = proxy.ca.encode(), proxy.client_ca.encode()
        self._known: OrderedDict[bytes, str | None] = OrderedDict()
        """DER of a certificate -> the common name of a front proxy; None when our CA for users signed it."""

    def proxy_name(self, der: bytes) -> str | None:
        """The common name of a front proxy's certificate; None for a user's. Raises ApiError 401 when it is neither."""
        if der not in self._known:
            if issued_by(der, self._ca):
                self._known[der] = read_certificate(der).common_name
            elif issued_by(der, self._users_ca):
                self._known[der] = None
            else:
                raise unauthorized("Unauthorized: the client certificate is not directly from a CA of this cluster")
            if len(self._known) > _MOST_CERTIFICATES:
                self._known.popitem(last=False)
        return self._known[der]

    def user(self, request: Request, proxy: str) -> User | None:
        """Who the front proxy speaks for; None when it does not say, or its name is none that may."""
        headers = request.headers
        name = values(headers.get("x-remote-user", ""))[:1]
        if not name or not name[0] or (self._proxy.names and proxy not in self._proxy.names):
            return None
        groups = tuple(g for g in values(headers.get("x-remote-group", "")) if g)
        extra = {
            unquote(key[len(_EXTRA) :]).lower(): values(value)
            for key, value in headers.items()
            if key.startswith(_EXTRA)
        }
        uid = values(headers.get("x-remote-uid", ""))[0]
        # whoever is named counts as authenticated, but for those who are said not to be (upstream's group adder)
        if _AUTHENTICATED not in groups and _UNAUTHENTICATED not in groups:
            groups = (*groups, _AUTHENTICATED)
        return User(name[0], uid, groups, extra)


def values(header: str) -> list[str]:
    """One value per header line: names may hold commas (wire/http.py keeps these lines apart). They are UTF-8."""
    return [line.encode("latin-1").decode(errors="replace") for line in header.split("\n")]
