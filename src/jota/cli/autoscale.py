"""`jota autoscale set|show|off|run`: which groups of nodes grow and shrink with the pods, between which bounds, and how."""

from __future__ import annotations

import argparse
import logging
import sys

from jota.cli.common import AUTOSCALE_HELP, add_name, chosen, scaling
from jota.run import pidfile, processes
from jota.run.instance import Instance, Refused, Registry

_PATIENCE = 120.0
"""Seconds; it looks at its settings once a minute at least."""


def add(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    change = actions.add_parser("set", help="scale these groups from now on (instead of those before)")
    change.add_argument("setting", nargs="+", metavar="SETTING", help=AUTOSCALE_HELP)
    actions.add_parser("show", help="print the settings")
    actions.add_parser("off", help="scale nothing any more; the nodes stay")
    run = actions.add_parser("run", help="the process itself, in the foreground")
    run.add_argument("--data-dir", help=argparse.SUPPRESS)
    run.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    for action in actions.choices.values():
        add_name(action)


def run(args: argparse.Namespace) -> int:
    if args.action == "run":
        return _run(args)
    if args.action == "show":
        return _show(chosen(args))
    registry = Registry.default()
    wanted = scaling(args.setting) if args.action == "set" else None
    with registry.locked(args.name):
        instance = registry.get(args.name)
        if wanted is None:
            instance.autoscaled = False
            instance.autoscaler_settings.unlink(missing_ok=True)
            instance.save()
        else:
            from jota.run.up import adopt_scaling, start_autoscaler

            adopt_scaling(instance, wanted)
            start_autoscaler(instance)
    if wanted is None:
        _ended(instance)
    return 0


def _show(instance: Instance) -> int:
    if not instance.autoscaled:
        print("off")
        return 0
    print(instance.autoscaler_settings.read_text(), end="")
    alive = any(p.role == "autoscaler" for p in processes.running(instance))
    if not alive:
        print(f"its process does not run; start it: jota up --name {instance.name}", file=sys.stderr)
    return int(not alive)


def _ended(instance: Instance) -> None:
    """Wait until the process has given back what it was draining and is gone. Raises Refused."""
    for process in processes.running(instance):
        if process.role == "autoscaler" and not processes.gone(process, _PATIENCE):
            raise Refused(f"the autoscaler (process {process.pid}) has not ended after {_PATIENCE:.0f} s")


def _run(args: argparse.Namespace) -> int:
    import uvloop

    from jota.run.autoscale import serve

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    instance = chosen(args)
    with pidfile.held(instance.pid_file("autoscaler"), "the cluster autoscaler", args.ready_fd) as own:
        uvloop.run(serve(Registry.default(), instance, own.announce))
    return 0
