"""`jota server`: the control plane of one instance in the foreground (`jota up` runs it in the background)."""

from __future__ import annotations

import argparse
import logging
import sys

from jota.cli.authorization import add_authorization, authorization
from jota.cli.common import add_name, add_runtime_config, runtime_config
from jota.cli.controlplane import add_control_plane, control_plane
from jota.cli.identity import add_identity, identity
from jota.run import garbage, pidfile
from jota.run.instance import Registry
from jota.run.reservation import Reservations


def add(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("--data-dir", help="where the cluster keeps its data (default: under /var/lib/jota)")
    parser.add_argument("--bind", default="0.0.0.0", help="address to listen on (default: all)")
    add_runtime_config(parser)
    add_control_plane(parser)
    add_identity(parser)
    add_authorization(parser)
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    garbage.postpone()
    import uvloop

    from jota.run.server import serve

    versions = runtime_config(args)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    users, access, own_parts = identity(args), authorization(args), control_plane(args)
    held = Reservations()  # as long as this process lives, which soon listens on what it chose
    instance = Registry.default().create(args.name, args.data_dir, 0, held)
    with held, pidfile.held(instance.pid_file("server"), "the server", args.ready_fd) as own:
        uvloop.run(
            serve(
                instance,
                bind=args.bind,
                ready=own.announce,
                audit=own_parts.audit,
                scheduling=own_parts.scheduling,
                runtime_config=versions,
                users=users,
                access=access,
                shutdown_delay=own_parts.shutdown_delay,
            )
        )
    return 0
