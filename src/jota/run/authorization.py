"""Who decides what users may do: flags and files of the operator -> the API server's authorizers, again when the file changes.

What cannot be used is refused at start; later it is logged, and what was in force stays in force.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jota.run.instance import Refused

if TYPE_CHECKING:
    from jota.aio.clock import Clock
    from jota.api.authn.kubeconfig import Endpoint
    from jota.api.authz.config import Configured, Flags

log = logging.getLogger("jota.server")
LOOK = 10.0
"""Seconds between two looks at the file."""


@dataclass(slots=True)
class AuthorizationFlags:
    """As kube-apiserver's --authorization-config, and its other --authorization-* flags."""

    config: str = ""
    """Path of an AuthorizationConfiguration."""
    flags: Flags | None = None
    """The others; None: none was given."""


def nobody_unnamed(given: AuthorizationFlags) -> bool:
    """Whether requests without an identity are refused: --authorization-mode with AlwaysAllow would let them do everything
    (upstream's rule, BuiltInAuthenticationOptions.ApplyAuthorization; a file is taken at its word). What is public stays so,
    for machines find a cluster by it."""
    return given.flags is not None and "AlwaysAllow" in given.flags.modes


def configured(given: AuthorizationFlags) -> tuple[Configured, AuthorizationFile | None]:
    """The authorizers, in order, and the file to follow. Raises Refused."""
    from jota.api.authz.chain import DEFAULT

    if given.config:
        if given.flags is not None:
            raise Refused("--authorization-config can not be specified when other --authorization-* flags are set")
        file = AuthorizationFile(given.config)
        return file.read(), file
    if given.flags is None:
        return DEFAULT, None
    from jota.api.authz.config import from_flags
    from jota.api.configfile import BadConfiguration

    try:
        return from_flags(given.flags, _endpoint), None
    except BadConfiguration as error:
        raise Refused(str(error)) from None


class AuthorizationFile:
    def __init__(self, name: str) -> None:
        self._name = name
        self._seen = b""

    def read(self) -> Configured:
        """Raises Refused."""
        import yaml

        from jota.api.authz.config import parse
        from jota.api.configfile import BadConfiguration

        try:
            data = self._data()
            return parse(yaml.safe_load(data.decode()), _endpoint)
        except OSError as error:
            raise Refused(f"--authorization-config {self._name}: {error.strerror}") from None
        except (BadConfiguration, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
            raise Refused(f"--authorization-config {self._name}: {error}") from None

    def _data(self) -> bytes:
        data = Path(self._name).read_bytes()
        self._seen = hashlib.sha256(data).digest()
        return data

    def changed(self) -> bool:
        """Whether there is a content that was not read yet. A file that cannot be read has none."""
        try:
            return hashlib.sha256(Path(self._name).read_bytes()).digest() != self._seen
        except OSError as error:
            log.warning("the authorization configuration %s cannot be read: %s", self._name, error.strerror)
            return False

    async def follow(self, clock: Clock, reconfigure: Callable[[Configured], None]) -> None:
        """Put each new content in force; one that is wrong is told once and changes nothing. Never returns."""
        from jota.aio import slices

        while True:
            await clock.sleep(LOOK)
            if not self.changed():
                continue
            try:
                reconfigure(await slices.run(self.read))  # expressions are compiled
            except Refused as error:
                log.error("the authorizers stay as they are: %s", error)
            else:
                log.info("the authorization configuration %s was read again", self._name)


def _endpoint(name: str) -> Endpoint:
    """Raises ValueError, OSError."""
    import yaml

    from jota.api.authn.kubeconfig import endpoint

    try:
        document: Any = yaml.safe_load(Path(name).read_text())
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return endpoint(document, Path(name).absolute().parent)
