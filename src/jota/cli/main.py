"""`jota`: one command, one file per sub-command. Each module has `add(parser)` and `run(args) -> int`.

Only the chosen command's module is imported: `jota up` must not pay for what it does not use.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import sys

from jota import KUBERNETES_VERSION, __version__

COMMANDS = {
    "up": "start a cluster on this host",
    "down": "stop a cluster and remove every trace of it",
    "status": "show a cluster's processes and nodes",
    "why": "explain what is the matter with an object, and what would mend it",
    "plan": "show where the pods of a manifest would go, and why",
    "hollow": "simulate nodes: how many, how their pods live, which fail",
    "autoscale": "make and remove nodes as the pods need them: groups, bounds, options",
    "doctor": "check what this machine has and lacks",
    "kubeconfig": "print or merge a cluster's credentials",
    "image": "load, list, pull and remove images of this host",
    "token": "make join tokens for further machines",
    "server": "run the control plane in the foreground",
    "agent": "run a node in the foreground",
}


_OUTSIDE = {
    errno.ENOSPC: "; make room and try again (what was stored is safe)",
    errno.EDQUOT: "; make room and try again (what was stored is safe)",
    errno.EROFS: "; choose another place with --data-dir or --kubeconfig",
    errno.ENOTDIR: "; choose another place with --data-dir or --kubeconfig",
    errno.EISDIR: "; name a file, not a directory",
}
"""Faults of the machine, not of the program: no traceback, but what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 refused or failed, 2 wrong usage."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="jota",
        description="Kubernetes in Python. Commands:\n" + _overview(),
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"jota {__version__} (Kubernetes {KUBERNETES_VERSION})")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((a for a in given if not a.startswith("-")), "")
    for name, text in COMMANDS.items():
        # Half an option is a mistake: `jota why pod/x --name N` would look in the namespace N.
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name == chosen:
            module = importlib.import_module(f"jota.cli.{name}")
            module.add(sub)
            sub.set_defaults(run=module.run)
    return _run(parser.parse_args(given))


def _run(args: argparse.Namespace) -> int:
    from jota.run.instance import Refused

    try:
        return int(args.run(args))
    except Refused as refusal:
        print(f"jota {args.command}: {refusal}", file=sys.stderr)
    except BaseExceptionGroup as group:
        refused = group.subgroup(Refused)
        if refused is None:
            raise
        print(f"jota {args.command}: {_first(refused)}", file=sys.stderr)
    except PermissionError as error:
        print(f"jota {args.command}: {error.filename}: permission denied; run it with sudo", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0
    except OSError as error:
        if error.errno not in _OUTSIDE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"jota {args.command}: {where}{error.strerror}{_OUTSIDE[error.errno]}", file=sys.stderr)
    return 1


def _first(group: BaseException) -> BaseException:
    """The first single exception in a tree of groups (task groups wrap what their tasks raise)."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def _overview() -> str:
    return "\n".join(f"  {name:<11} {text}" for name, text in COMMANDS.items())


if __name__ == "__main__":
    sys.exit(main())
