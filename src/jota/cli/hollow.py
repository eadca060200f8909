"""`jota hollow scale|set|show|run`: simulated nodes, for scale and for faults on demand."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import asdict

from jota.cli.common import add_name, chosen, own_ready_pipe
from jota.run.instance import Refused, Registry, write_file

_NICE = 10
"""They stand for machines of their own: where processors are short, the control plane does not wait for them."""
_PATIENCE = 120.0
_SET_HELP = """change settings, e.g. start_seconds=0.5 jitter=0.2 failure_rate=0.01 run_seconds=5 lost=0.1
(lost: that part of the nodes falls silent; 0 brings them back)"""


def add(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    scale = actions.add_parser("scale", help="have this many simulated nodes, from now on")
    scale.add_argument("count", type=int)
    change = actions.add_parser("set", help=_SET_HELP)
    change.add_argument("setting", nargs="+", metavar="KEY=VALUE")
    actions.add_parser("show", help="print the settings")
    run = actions.add_parser("run", help="the process itself, in the foreground")
    run.add_argument("--count", type=int)
    run.add_argument("--data-dir", help=argparse.SUPPRESS)
    run.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    for action in actions.choices.values():
        add_name(action)


def run(args: argparse.Namespace) -> int:
    from jota.run.hollow import change, show

    if args.action == "run":
        return _run(args)
    instance = chosen(args)
    if args.action == "scale":
        _scale(args)
    elif args.action == "set":
        pairs = dict(_pair(s) for s in args.setting)
        change(instance, pairs, patience=_PATIENCE)
    for key, value in asdict(show(instance)).items():
        print(f"{key:<16}{value}")
    return 0


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise Refused(f"{text}: give KEY=VALUE; `jota hollow show` lists the keys")
    return key, value


def _scale(args: argparse.Namespace) -> None:
    from jota.run import processes
    from jota.run.hollow import change
    from jota.run.up import start_hollow

    registry = Registry.default()
    with registry.locked(args.name):
        instance = registry.get(args.name)
        if any(p.role == "hollow" for p in processes.running(instance)):
            change(instance, {"nodes": str(args.count)}, patience=_PATIENCE)
        else:
            start_hollow(instance, args.count)
            instance.hollow = True
            instance.save()


def _run(args: argparse.Namespace) -> int:
    import uvloop

    from jota.run.hollow import serve

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    instance = chosen(args)
    pid_file = instance.pid_file("hollow")
    write_file(pid_file, f"{os.getpid()}\n".encode(), 0o644)
    os.nice(_NICE)
    try:
        uvloop.run(serve(instance, args.count, own_ready_pipe(args.ready_fd)))
    finally:
        pid_file.unlink(missing_ok=True)
    return 0
