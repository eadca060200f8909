"""`jota server`: the control plane of one instance in the foreground (`jota up` runs it in the background)."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jota.cli.authorization import add_authorization, authorization
from jota.cli.common import add_name, add_runtime_config, runtime_config
from jota.cli.identity import add_identity, identity
from jota.meta.duration import parse
from jota.run import garbage, pidfile
from jota.run.instance import Refused, Registry
from jota.run.reservation import Reservations

if TYPE_CHECKING:
    from jota.scheduler.profile import Settings


def add(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("--data-dir", help="where the cluster keeps its data (default: under /var/lib/jota)")
    parser.add_argument("--bind", default="0.0.0.0", help="address to listen on (default: all)")
    parser.add_argument("--audit-policy", metavar="FILE", help="what to note in the audit log (audit.k8s.io/v1 Policy)")
    parser.add_argument("--audit-log", metavar="FILE", help="the audit log (default: logs/audit.log, with a policy)")
    parser.add_argument("--scheduler-config", metavar="FILE", help="a KubeSchedulerConfiguration: profiles and plugins")
    add_runtime_config(parser)
    parser.add_argument(
        "--shutdown-delay-duration",
        metavar="DURATION",
        default="0s",
        help="how long /readyz fails before the server lets nobody in any more (default: 0s)",
    )
    add_identity(parser)
    add_authorization(parser)
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    garbage.postpone()
    import uvloop

    from jota.run.server import AuditFiles, serve

    versions = runtime_config(args)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    users, access, delay = identity(args), authorization(args), _delay(args.shutdown_delay_duration)
    held = Reservations()  # as long as this process lives, which soon listens on what it chose
    instance = Registry.default().create(args.name, args.data_dir, 0, held)
    with held, pidfile.held(instance.pid_file("server"), "the server", args.ready_fd) as own:
        audit = AuditFiles(args.audit_policy, args.audit_log)
        uvloop.run(
            serve(
                instance,
                bind=args.bind,
                ready=own.announce,
                audit=audit,
                scheduling=_scheduling(args.scheduler_config),
                runtime_config=versions,
                users=users,
                access=access,
                shutdown_delay=delay,
            )
        )
    return 0


def _delay(text: str) -> float:
    """Seconds. Raises Refused."""
    try:
        seconds = parse(text)
    except ValueError as error:
        raise Refused(f"--shutdown-delay-duration: {error}") from None
    if seconds < 0:
        raise Refused("--shutdown-delay-duration: must not be negative")
    return seconds


def _scheduling(name: str | None) -> Settings | None:
    """The scheduler's settings from a file. Raises Refused."""
    if not name:
        return None
    import yaml

    from jota.scheduler.config import BadConfiguration
    from jota.scheduler.config import parse as parse_settings

    try:
        given = yaml.safe_load(Path(name).read_text())
        return parse_settings(given if isinstance(given, dict) else {})
    except OSError as error:
        raise Refused(f"{name}: {error.strerror}") from error
    except (yaml.YAMLError, BadConfiguration) as error:
        raise Refused(f"{name}: {error}") from error
