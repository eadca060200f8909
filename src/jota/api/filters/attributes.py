"""Who asks for what: the values that authentication produces and authorization judges. No behaviour stands here.

`User` comes out of an `Authenticator` (filters/authn.py) or is preset on `Request.user` by the in-process transport;
`Attributes` are read off the request by `api/path.py`; an `Authorizer` (filters/authz.py) says yes or no to both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

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
    labels: str = ""
    """Its label selector; it may be one that cannot be read."""


class Decision(NamedTuple):
    """An authorizer's answer. Neither allowed nor denied: no opinion, the next one is asked."""

    allowed: bool
    reason: str = ""
    denied: bool = False
    """A no that nobody after this authorizer can overrule."""
    error: str = ""
    """What kept an authorizer from judging."""


NO_OPINION = Decision(False)
ALLOWED = Decision(True)


class Undecided(Exception):
    """What is in memory does not say: somebody outside must be asked. `answer` asks, and never raises Undecided."""

    def __init__(self, answer: Callable[[], Awaitable[Decision]]) -> None:
        super().__init__("an authorizer outside must be asked")
        self.answer = answer


class Authenticator(Protocol):
    async def authenticate(self, request: Request) -> User | None:
        """The caller; None when no credentials were sent (the chain then answers 401). Raises ApiError(401) on bad ones."""
        ...


class Authorizer(Protocol):
    def authorize(self, user: User, attributes: Attributes) -> Decision:
        """At once, from what is held in memory. Raises Undecided when that does not suffice (authz.py's `decide` waits):
        who forgets to wait refuses, and never lets anybody in."""
        ...


COMPONENT = User("system:apiserver", groups=(MASTERS, "system:authenticated"))
"""The server's own loopback identity."""
AGGREGATOR = User("system:kube-aggregator", groups=(MASTERS,))
"""As whom this server reads the documents of extension servers (upstream's)."""
