"""Options and lookups that several commands share."""

from __future__ import annotations

import argparse

from jota.run.instance import DEFAULT_NAME, Instance, Registry


def add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default=DEFAULT_NAME, help="which cluster of this host (default: %(default)s)")


def chosen(args: argparse.Namespace) -> Instance:
    """The instance that --name means. Raises Refused."""
    return Registry.default().get(args.name)
