"""The flags of `jota server` and `jota up` about users from elsewhere, named as kube-apiserver's."""

from __future__ import annotations

import argparse

from jota.cli.common import handed_on, seconds
from jota.run.identity import IdentityFlags, outside
from jota.run.instance import Refused

OIDC = {
    "issuer_url": "the OpenID issuer whose ID tokens let users in (https)",
    "client_id": "the audience that its tokens must have",
    "username_claim": "claim that names the user (default: sub)",
    "username_prefix": 'prefix of user names; "-" for none (default: the issuer\'s URL and #, unless the claim is email)',
    "groups_claim": "claim that lists the user's groups",
    "groups_prefix": "prefix of group names",
    "required_claim": "KEY=VALUE that a token must have; may be given several times",
    "ca_file": "file with the CA of the issuer (default: the machine's own)",
    "signing_algs": "algorithms to accept, by commas (default: RS256)",
}
FILES = ("oidc_ca_file", "authentication_config", "authentication_token_webhook_config_file")


def add_identity(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("users from elsewhere (as kube-apiserver)")
    for name, about in OIDC.items():
        flag = f"--oidc-{name.replace('_', '-')}"
        if name == "required_claim":
            group.add_argument(flag, action="append", metavar="KEY=VALUE", help=about)
        else:
            group.add_argument(flag, help=about)
    group.add_argument(
        "--authentication-config", metavar="FILE", help="an AuthenticationConfiguration: issuers, anonymous"
    )
    group.add_argument(
        "--authentication-token-webhook-config-file", metavar="FILE", help="kubeconfig of a service that reviews tokens"
    )
    group.add_argument(
        "--authentication-token-webhook-cache-ttl", metavar="DURATION", help="how long it is believed (default: 2m)"
    )
    group.add_argument("--authentication-token-webhook-version", help=argparse.SUPPRESS)


def identity(args: argparse.Namespace) -> IdentityFlags:
    """Raises Refused for what is not supported or makes no sense."""
    if args.authentication_token_webhook_version not in (None, "v1"):
        raise Refused("--authentication-token-webhook-version: only v1 is supported")
    oidc = {name: getattr(args, f"oidc_{name}") for name in OIDC}
    oidc = {name: tuple(v) if isinstance(v, list) else v for name, v in oidc.items() if v is not None}
    webhook = args.authentication_token_webhook_config_file or ""
    if args.authentication_token_webhook_cache_ttl and not webhook:
        raise Refused("--authentication-token-webhook-cache-ttl needs --authentication-token-webhook-config-file")
    ttl = seconds(args, "authentication_token_webhook_cache_ttl", 120.0)
    return IdentityFlags(oidc, args.authentication_config or "", webhook, ttl)


def passed_on(args: argparse.Namespace) -> list[str]:
    """The same flags for the server that `jota up` starts. Raises Refused for all that this server would refuse."""
    flags = identity(args)
    if flags.any:
        from jota.aio.clock import SystemClock

        outside(flags, SystemClock(), "")
    names = [f"oidc_{name}" for name in OIDC]
    names += ["authentication_config", "authentication_token_webhook_config_file"]
    names += ["authentication_token_webhook_cache_ttl"]
    return handed_on(args, names, FILES)
