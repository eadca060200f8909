"""Options and lookups that several commands share."""

from __future__ import annotations

import argparse
import os

from jota.run.instance import DEFAULT_NAME, Instance, Refused, Registry


def add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default=DEFAULT_NAME, help="which cluster of this host (default: %(default)s)")


def add_runtime_config(parser: argparse.ArgumentParser) -> None:
    about = "group versions to serve or not, as kube-apiserver's: api/beta=true,batch/v1=false; kept by `jota up`"
    parser.add_argument("--runtime-config", metavar="K=V,...", help=about)


def runtime_config(args: argparse.Namespace) -> dict[str, bool]:
    """Raises Refused."""
    if not args.runtime_config:
        return {}
    from jota.api.runtime_config import BadRuntimeConfig, parse

    try:
        return parse(args.runtime_config)
    except BadRuntimeConfig as error:
        raise Refused(f"--runtime-config {error}") from None


def own_ready_pipe(descriptor: int | None) -> int | None:
    """The pipe on which `jota up` hears that we serve: our children must not hold it open after us."""
    if descriptor is not None:
        os.set_inheritable(descriptor, False)
    return descriptor


def chosen(args: argparse.Namespace) -> Instance:
    """The instance that --name means. Raises Refused."""
    return Registry.default().get(args.name)
