"""The flags of `jota server` and `jota up` about who decides what users may do, named as kube-apiserver's."""

from __future__ import annotations

import argparse

from jota.cli.common import handed_on, seconds
from jota.run.authorization import AuthorizationFlags, configured
from jota.run.instance import Refused

FILES = ("authorization_config", "authorization_webhook_config_file")
FLAGS = (
    *FILES,
    "authorization_mode",
    "authorization_webhook_version",
    "authorization_webhook_cache_authorized_ttl",
    "authorization_webhook_cache_unauthorized_ttl",
)


def add_authorization(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("who decides what users may do (as kube-apiserver)")
    group.add_argument(
        "--authorization-config",
        metavar="FILE",
        help="an AuthorizationConfiguration; read again when it changes. Excludes the other flags of this group",
    )
    group.add_argument(
        "--authorization-mode",
        metavar="MODES",
        help="in order, by commas: Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny (default: Node,RBAC)",
    )
    group.add_argument(
        "--authorization-webhook-config-file", metavar="FILE", help="kubeconfig of a service that reviews access"
    )
    group.add_argument(
        "--authorization-webhook-version",
        metavar="VERSION",
        help="of its SubjectAccessReviews: v1 or v1beta1 (default)",
    )
    for what, default in (("authorized", "5m"), ("unauthorized", "30s")):
        group.add_argument(
            f"--authorization-webhook-cache-{what}-ttl",
            metavar="DURATION",
            help=f"how long its {what} answers are believed (default: {default})",
        )
    group.add_argument("--authorization-policy-file", help=argparse.SUPPRESS)


def authorization(args: argparse.Namespace) -> AuthorizationFlags:
    """Raises Refused for what is not supported or makes no sense."""
    if args.authorization_policy_file:
        raise Refused("--authorization-policy-file: ABAC is not supported; use RBAC or a webhook")
    given = AuthorizationFlags(args.authorization_config or "")
    if any(getattr(args, name) is not None for name in FLAGS if name != "authorization_config"):
        from jota.api.authz.config import Flags

        given.flags = flags = Flags()
        if args.authorization_mode is not None:
            flags.modes = tuple(mode.strip() for mode in args.authorization_mode.split(",") if mode.strip())
        flags.webhook = args.authorization_webhook_config_file or ""
        flags.version = args.authorization_webhook_version or flags.version
        flags.authorized_ttl = seconds(args, "authorization_webhook_cache_authorized_ttl", flags.authorized_ttl)
        flags.unauthorized_ttl = seconds(args, "authorization_webhook_cache_unauthorized_ttl", flags.unauthorized_ttl)
    return given


def passed_on(args: argparse.Namespace) -> list[str]:
    """The same flags for the server that `jota up` starts. Raises Refused for all that this server would refuse."""
    given = authorization(args)
    if given != AuthorizationFlags():  # else `jota up` would load the authorizers to learn that they are the usual ones
        configured(given)
    return handed_on(args, FLAGS, FILES)
