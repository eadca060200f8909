"""Who asks for what: the values that authentication produces and authorization judges. No behaviour stands here.

`User` comes out of an `Authenticator` (filters/authn.py) or is preset on `Request.user` by the in-process transport;
`Attributes` are read off the request by `api/path.py`; an `Authorizer` (filters/authz.py) says yes or no to both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from jota.wire.message import Request

MASTERS = "system:masters"
"""Members may do everything (bootstrap policy of Kubernetes)."""


@dataclass(slots=True, frozen=True)
class User:
    """An authenticated identity (authentication.k8s.io UserInfo)."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, list[str]] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Attributes:
    """One access question. For a path that is no resource, `resource` is "" and `path` and `verb` (the method) count."""

    user: User
    verb: str
    """get, list, watch, create, update, patch, delete, deletecollection; for other paths the lower-case HTTP method."""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    fields: str = ""
    """The field selector of a list, watch or deletecollection. One that pins metadata.name also gives `name`."""


class Authenticator(Protocol):
    async def authenticate(self, request: Request) -> User | None:
        """The caller; None when no credentials were sent (the chain then answers 401). Raises ApiError(401) on bad ones."""
        ...


class Authorizer(Protocol):
    def authorize(self, user: User, attributes: Attributes) -> tuple[bool, str]:
        """(allowed, reason). Synchronous: policy is held in memory."""
        ...


COMPONENT = User("system:apiserver", groups=(MASTERS, "system:authenticated"))
"""The server's own loopback identity."""
AGGREGATOR = User("system:kube-aggregator", groups=(MASTERS,))
"""As whom this server reads the documents of extension servers (upstream's)."""
