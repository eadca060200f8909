"""`jota image load|ls|pull|rm`: images of this host. All clusters and nodes of a host share one content store."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from jota.cli.common import add_name
from jota.run.instance import Refused, Registry
from jota.runtime.protocol import Image, Images, RuntimeFault


def add(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    load = actions.add_parser("load", help="import an OCI or docker archive, or an OCI layout directory")
    load.add_argument("path", nargs="+")
    pull = actions.add_parser("pull", help="fetch from a registry")
    pull.add_argument("reference")
    pull.add_argument("--user", default="", metavar="USER:PASSWORD", help="credentials of the registry")
    remove = actions.add_parser("rm", help="remove by name, digest or id")
    remove.add_argument("reference", nargs="+")
    actions.add_parser("ls", help="list")
    for action in actions.choices.values():
        add_name(action)


def run(args: argparse.Namespace) -> int:
    from jota.runtime.embedded.images.store import open_images

    registry = Registry.default()
    if args.action in ("load", "pull") and args.name != "jota":
        registry.get(args.name)
    return asyncio.run(_act(open_images(str(registry.images)), args))


async def _act(images: Images, args: argparse.Namespace) -> int:
    try:
        if args.action == "load":
            for path in args.path:
                if not Path(path).exists():
                    raise Refused(f"{path}: no such file or directory")
                before = {t: i.id for i in await images.list() for t in i.tags}
                for image in await images.load(path):
                    _report(image, before)
        elif args.action == "pull":
            user, _, password = args.user.partition(":")
            _report(await images.pull(args.reference, auth=(user, password) if user else None), {})
        elif args.action == "rm":
            for reference in args.reference:
                await images.remove(reference)
        else:
            _list(await images.list())
    except RuntimeFault as fault:
        print(f"jota image: {fault.message}", file=sys.stderr)
        return 1
    return 0


def _report(image: Image, before: dict[str, str]) -> None:
    """Old and new digest: a tag that silently kept its old image costs hours."""
    for tag in image.tags or [image.id]:
        old = before.get(tag)
        change = "" if old is None else " (unchanged)" if old == image.id else f" (was {old[:19]})"
        print(f"{tag}  {image.id[:19]}  {image.size / 1e6:.1f} MB{change}")


def _list(found: list[Image]) -> None:
    print(f"{'IMAGE':<56}{'ID':<22}{'SIZE MB':>9}")
    for image in found:
        for tag in image.tags or ["<none>"]:
            print(f"{tag:<56}{image.id[:19]:<22}{image.size / 1e6:>9.1f}")
