"""`jota down`: leaves no process, mount, namespace, link, table or cgroup behind; --purge removes the data as well."""

from __future__ import annotations

import argparse

from jota.cli.common import add_name
from jota.run.down import down
from jota.run.instance import Registry


def add(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument(
        "--purge", action="store_true", help="also delete the cluster's data; it cannot be brought back"
    )


def run(args: argparse.Namespace) -> int:
    registry = Registry.default()
    down(registry, args.name, purge=args.purge)
    kept = "" if args.purge else f"; its data is kept, start it again with: jota up --name {args.name}"
    print(f"cluster {args.name} is down{kept}")
    return 0
