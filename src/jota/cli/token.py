"""`jota token create`: a short-lived token with which a further machine joins."""

from __future__ import annotations

import argparse
import asyncio

from jota.aio.clock import SystemClock
from jota.cli.common import add_name, chosen
from jota.client.client import Client
from jota.client.https import Https
from jota.meta.resource import SECRETS
from jota.run import kubeconfig, tokens
from jota.run.instance import Instance, Refused


def add(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("action", choices=("create",))
    parser.add_argument(
        "--ttl", type=float, default=24.0, metavar="HOURS", help="how long it may be used (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    if not 0 < args.ttl <= 8760:
        raise Refused(f"--ttl {args.ttl}: give hours, from a fraction to 8760")
    instance = chosen(args)
    token = asyncio.run(_create(instance, args.ttl * 3600))
    print(token)
    return 0


async def _create(instance: Instance, lifetime: float) -> tokens.JoinToken:
    from jota.pki.ca import fingerprint

    who = kubeconfig.read(instance.admin_kubeconfig)
    certificate, key = instance.pki / "admin.crt", instance.pki / "admin.key"
    token = tokens.create(fingerprint(who.ca))
    transport = Https(who.server, ca=who.ca, certificate=certificate, key=key)
    try:
        secret = tokens.secret(token, now=SystemClock().now(), lifetime=lifetime)
        await Client(transport).create(SECRETS, secret, "kube-system")
    except (OSError, TimeoutError) as error:
        raise Refused(
            f"the server does not answer ({error or 'timed out'}); start it with: jota up --name {instance.name}"
        ) from error
    finally:
        await transport.close()
    return token
