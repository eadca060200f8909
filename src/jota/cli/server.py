"""`jota server`: the control plane of one instance in the foreground (`jota up` runs it in the background)."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from jota.cli.common import add_name, own_ready_pipe
from jota.run.instance import Registry, write_file


def add(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("--data-dir", help="where the cluster keeps its data (default: under /var/lib/jota)")
    parser.add_argument("--bind", default="0.0.0.0", help="address to listen on (default: all)")
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    import uvloop

    from jota.run.server import serve

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    instance = Registry.default().create(args.name, args.data_dir, 0)
    pid_file = instance.pid_file("server")
    write_file(pid_file, f"{os.getpid()}\n".encode(), 0o644)
    try:
        uvloop.run(serve(instance, bind=args.bind, ready=own_ready_pipe(args.ready_fd)))
    finally:
        pid_file.unlink(missing_ok=True)
    return 0
