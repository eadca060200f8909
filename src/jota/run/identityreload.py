"""The AuthenticationConfiguration again whenever its file changes: other issuers without a restart. What is broken, or names
an issuer that does not answer, leaves everything as it is; the log and the metrics say so.

In: the file, and the list of authenticators that the API server asks. Out: that list, brought up to date in place. Upstream:
pkg/kubeapiserver/options/authentication.go. `anonymous` is read at the start only: it must not change.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING

from jota.aio import slices
from jota.aio.clock import Clock
from jota.aio.told import told
from jota.run.identity import authenticators_of, read, read_configuration
from jota.run.instance import Refused

if TYPE_CHECKING:
    from jota.api.authn.config import Configuration
    from jota.api.authn.oidc import OidcAuthenticator
    from jota.api.authn.outside import TokenAuthenticator

log = logging.getLogger("jota.server")
EVERY = 10.0
"""Seconds between two looks at the file."""
PATIENCE = 60.0
"""Seconds for new issuers to give their keys (upstream's)."""
_NAME = "apiserver_authentication_config_controller"


class Reloading:
    def __init__(self, name: str, own_issuer: str, clock: Clock, asked: list[TokenAuthenticator], host: str) -> None:
        """`asked`: the authenticators at work, those of the file first. `host`: tells servers apart in the metrics.

        Raises Refused: the file is not what it was a moment ago."""
        self._name, self._own, self._clock, self._asked = name, own_issuer, clock, asked
        self._text = read(name)
        configuration = read_configuration(name, self._text, own_issuer)
        self._anonymous, self._count = configuration.anonymous, len(configuration.issuers)
        self._server, self._applied = _hash(host), self._text
        self._reloads: dict[str, tuple[int, float]] = {}
        """success | failure -> (how many, when the last one was)."""

    async def run(self) -> None:
        while True:
            await self._clock.sleep(EVERY)
            await self.look()

    async def look(self) -> None:
        """Follow the file, if it changed."""
        try:
            text = read(self._name)
        except Refused as error:
            self._failed(error)  # it may come back
            return
        if text == self._text:
            return
        try:
            configuration = await slices.run(lambda: read_configuration(self._name, text, self._own))
            if configuration.anonymous != self._anonymous:
                raise Refused("anonymous: Forbidden: changed from initial configuration file")
        except Refused as error:
            self._text = text  # it will not become better by being read again
            self._failed(error)
            return
        try:
            new = authenticators_of(configuration, self._clock, self._own)
            await self._answering(configuration, new)
        except (Refused, OSError, ValueError, TimeoutError) as error:
            self._failed(error)
            return
        self._asked[: self._count] = new
        self._count, self._text, self._applied = len(new), text, text
        self._note("success")
        log.info("reloaded the authentication configuration %s: %d issuers", self._name, len(new))

    @staticmethod
    async def _answering(configuration: Configuration, new: list[OidcAuthenticator]) -> None:
        """Raises ValueError for an issuer whose keys cannot be had, TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            for issuer, authenticator in zip(configuration.issuers, new, strict=True):
                if not await authenticator.ready():
                    raise ValueError(f"the keys of the issuer {issuer.url} cannot be had")

    def _failed(self, error: Exception) -> None:
        log.error("failed to load authentication config, the one before stays in force: %s", told(error))
        self._note("failure")

    def _note(self, status: str) -> None:
        self._reloads[status] = (self._reloads.get(status, (0, 0.0))[0] + 1, self._clock.now())

    def metrics(self) -> list[str]:
        """Prometheus text, in upstream's names."""
        total, last = f"{_NAME}_automatic_reloads_total", f"{_NAME}_automatic_reload_last_timestamp_seconds"
        out = [f"# HELP {total} Automatic reloads of the authentication configuration.", f"# TYPE {total} counter"]
        labels = {s: f'{{apiserver_id_hash="{self._server}",status="{s}"}}' for s in sorted(self._reloads)}
        out += [f"{total}{labels[s]} {self._reloads[s][0]}" for s in labels]
        out += [f"# HELP {last} When the authentication configuration was last reloaded.", f"# TYPE {last} gauge"]
        out += [f"{last}{labels[s]} {self._reloads[s][1]:.0f}" for s in labels]
        info = f"{_NAME}_last_config_info"
        out += [f"# HELP {info} The authentication configuration in force.", f"# TYPE {info} gauge"]
        return [*out, f'{info}{{apiserver_id_hash="{self._server}",hash="{_hash(self._applied)}"}} 1']


def _hash(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
