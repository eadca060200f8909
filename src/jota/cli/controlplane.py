"""The flags of `jota server` and `jota up` about the control plane's own parts: audit log, scheduler, stop."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jota.cli.common import handed_on, seconds
from jota.run.audit import AuditFiles, audit_policy
from jota.run.instance import Refused

if TYPE_CHECKING:
    from jota.scheduler.profile import Settings

_FILES = ("audit_policy", "audit_log", "scheduler_config")
_FLAGS = (*_FILES, "shutdown_delay_duration")


@dataclass(frozen=True, slots=True)
class ControlPlane:
    audit: AuditFiles
    scheduling: Settings | None
    shutdown_delay: float
    """Seconds."""


def add_control_plane(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("control plane (as kube-apiserver and kube-scheduler)")
    group.add_argument("--audit-policy", metavar="FILE", help="what to note in the audit log (audit.k8s.io/v1 Policy)")
    group.add_argument("--audit-log", metavar="FILE", help="the audit log (default: logs/audit.log, with a policy)")
    group.add_argument("--scheduler-config", metavar="FILE", help="a KubeSchedulerConfiguration: profiles and plugins")
    group.add_argument(
        "--shutdown-delay-duration",
        metavar="DURATION",
        help="how long /readyz fails before the server lets nobody in any more (default: 0s)",
    )


def control_plane(args: argparse.Namespace) -> ControlPlane:
    """Raises Refused for files that cannot be used."""
    files = AuditFiles(args.audit_policy, args.audit_log)
    if files.policy:
        audit_policy(files)
    return ControlPlane(files, _scheduling(args.scheduler_config), seconds(args, "shutdown_delay_duration", 0.0))


def passed_on(args: argparse.Namespace) -> list[str]:
    """The same flags for the server that `jota up` starts. Raises Refused for all that this server would refuse."""
    control_plane(args)
    return handed_on(args, _FLAGS, _FILES)


def _scheduling(name: str | None) -> Settings | None:
    """The scheduler's settings from a file. Raises Refused."""
    if not name:
        return None
    import yaml

    from jota.scheduler.config import BadConfiguration
    from jota.scheduler.config import parse as parse_settings

    try:
        given = yaml.safe_load(Path(name).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Refused(f"--scheduler-config {name}: not YAML: {error}") from error
    except OSError as error:
        raise Refused(f"--scheduler-config {name}: {error.strerror}") from error
    try:
        return parse_settings(given if isinstance(given, dict) else {})
    except BadConfiguration as error:
        raise Refused(f"--scheduler-config {name}: {error}") from error
