"""Who else vouches for users: flags and files of the operator -> token authenticators for the API server.

Files are read at start; what cannot be used is refused then, not at the first login. Next: identityreload.py, which follows
an AuthenticationConfiguration while the server runs.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jota.run.instance import Refused

if TYPE_CHECKING:
    from jota.aio.clock import Clock
    from jota.api.authn.anonymous import Anonymous
    from jota.api.authn.config import Configuration
    from jota.api.authn.oidc import OidcAuthenticator
    from jota.api.authn.outside import TokenAuthenticator

log = logging.getLogger("jota.server")


@dataclass(slots=True)
class IdentityFlags:
    """As kube-apiserver's flags of these names."""

    oidc: dict[str, Any] = field(default_factory=dict)
    """What was given of --oidc-*: field of authn.config.OidcFlags -> value."""
    authentication_config: str = ""
    token_webhook: str = ""
    """Kubeconfig of --authentication-token-webhook-config-file."""
    token_webhook_ttl: float = 120.0
    """Seconds."""

    @property
    def any(self) -> bool:
        return bool(self.oidc or self.authentication_config or self.token_webhook)


def outside(flags: IdentityFlags, clock: Clock, own_issuer: str) -> tuple[list[TokenAuthenticator], Anonymous]:
    """(authenticators in the order in which they are asked, who may come without any identity). Raises Refused."""
    from jota.api.authn.anonymous import EVERYWHERE
    from jota.api.authn.webhook import WebhookAuthenticator

    found: list[TokenAuthenticator] = []
    anonymous = EVERYWHERE
    if flags.oidc or flags.authentication_config:
        configuration = _configuration(flags, own_issuer)
        anonymous = configuration.anonymous
        found += authenticators_of(configuration, clock, own_issuer)
    if flags.token_webhook:
        found.append(
            WebhookAuthenticator(_endpoint(flags.token_webhook), clock, (own_issuer,), flags.token_webhook_ttl)
        )
    return found, anonymous


def authenticators_of(configuration: Configuration, clock: Clock, own_issuer: str) -> list[OidcAuthenticator]:
    """One for each issuer. Raises Refused."""
    from jota.api.authn.oidc import OidcAuthenticator

    found = []
    for issuer in configuration.issuers:
        if issuer.mapping.groups.claim and not issuer.mapping.groups.prefix:
            log.warning("the issuer %s may put its users into any group, system:masters too", issuer.url)
        try:
            found.append(OidcAuthenticator(issuer, clock, (own_issuer,)))
        except ssl.SSLError as error:
            raise Refused(f"the certificate authority of {issuer.url} cannot be used: {error}") from None
    return found


def read_configuration(name: str, text: str, own_issuer: str) -> Configuration:
    """An AuthenticationConfiguration, as the file `name` has it. Raises Refused."""
    import yaml

    from jota.api.authn.config import parse
    from jota.api.configfile import BadConfiguration

    try:
        return parse(yaml.safe_load(text), own_issuer)
    except yaml.YAMLError as error:
        raise Refused(f"{name}: {error}") from None
    except (BadConfiguration, RecursionError) as error:
        raise Refused(f"--authentication-config {name}: {error}") from None


def _configuration(flags: IdentityFlags, own_issuer: str) -> Configuration:
    from jota.api.authn.config import OidcFlags, from_flags
    from jota.api.configfile import BadConfiguration

    name = flags.authentication_config
    if name:
        if flags.oidc:
            raise Refused("--authentication-config and --oidc-* flags are mutually exclusive")
        return read_configuration(name, read(name), own_issuer)
    try:
        return from_flags(OidcFlags(**flags.oidc))
    except BadConfiguration as error:
        raise Refused(str(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"--oidc-ca-file: {error}") from None


def _endpoint(name: str) -> Any:
    from jota.api.authn.kubeconfig import endpoint

    flag = "--authentication-token-webhook-config-file"
    try:
        return endpoint(_yaml(name), Path(name).absolute().parent)
    except (ValueError, OSError) as error:
        raise Refused(f"{flag} {name}: {error}") from None


def _yaml(name: str) -> Any:
    """Raises Refused."""
    import yaml

    try:
        return yaml.safe_load(read(name))
    except yaml.YAMLError as error:
        raise Refused(f"{name}: {error}") from None


def read(name: str) -> str:
    """A file's text. Raises Refused."""
    try:
        return Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{name}: {error}") from None
