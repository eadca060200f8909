"""What was configured -> the authorizers, in order. In: config.py's values. Out: what ClusterAuthorizer (filters/authz.py) asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from jota.aio.clock import Clock
from jota.api.filters.attributes import Authorizer
from jota.api.filters.authz import AlwaysAllow, AlwaysDeny

if TYPE_CHECKING:
    from jota.api.authz.config import Configured, Webhook

DEFAULT: Configured = ("Node", "RBAC")


class Chain:
    """Makes chains for one server, again after each change of the configuration."""

    def __init__(self, own: Mapping[str, Authorizer], clock: Clock) -> None:
        """`own`: Node and RBAC, which live as long as the server."""
        self._own: dict[str, Authorizer] = {"AlwaysAllow": AlwaysAllow(), "AlwaysDeny": AlwaysDeny(), **own}
        self._clock = clock

    def build(self, configured: Configured) -> Iterable[Authorizer]:
        for given in configured:
            yield self._own[given] if isinstance(given, str) else self._webhook(given)

    def _webhook(self, given: Webhook) -> Authorizer:
        from jota.api.authz.webhook import WebhookAuthorizer

        return WebhookAuthorizer(given, self._clock)
