"""`jota kubeconfig`: print the admin's kubeconfig, or merge it into a file."""

from __future__ import annotations

import argparse
import sys

from jota.cli.common import add_name, chosen
from jota.run import kubeconfig
from jota.run.instance import Refused


def add(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("--merge", metavar="FILE", help="merge into FILE instead of printing")


def run(args: argparse.Namespace) -> int:
    instance = chosen(args)
    if not instance.admin_kubeconfig.exists():
        raise Refused(f'the cluster "{args.name}" has never been started; start it with: jota up --name {args.name}')
    if args.merge:
        kubeconfig.merge_into(
            kubeconfig.target(args.merge), instance.context, kubeconfig.read(instance.admin_kubeconfig)
        )
        print(f"merged the context {instance.context} into {args.merge}")
    else:
        sys.stdout.write(instance.admin_kubeconfig.read_text())
    return 0
