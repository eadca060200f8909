"""Options and lookups that several commands share."""

from __future__ import annotations

import argparse
import os

from jota.run.instance import DEFAULT_NAME, Instance, Registry


def add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default=DEFAULT_NAME, help="which cluster of this host (default: %(default)s)")


def own_ready_pipe(descriptor: int | None) -> int | None:
    """The pipe on which `jota up` hears that we serve: our children must not hold it open after us."""
    if descriptor is not None:
        os.set_inheritable(descriptor, False)
    return descriptor


def chosen(args: argparse.Namespace) -> Instance:
    """The instance that --name means. Raises Refused."""
    return Registry.default().get(args.name)
