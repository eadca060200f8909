"""The audit log of a server, from the files that the operator named. Next: api/audit.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jota.aio.clock import Clock
from jota.run.instance import Refused

if TYPE_CHECKING:
    from jota.api.audit import Audit
    from jota.kinds.kind import Object


@dataclass(slots=True, frozen=True)
class AuditFiles:
    """Paths that the operator gave; without both there is no audit log."""

    policy: str | None = None
    log: str | None = None


def audit_policy(files: AuditFiles) -> Object:
    """What the log notes; without a policy everything, without bodies. Raises Refused."""
    from jota.api.auditpolicy import EVERYTHING, BadPolicy, read_policy

    if not files.policy:
        return EVERYTHING
    try:
        return read_policy(Path(files.policy).read_text())
    except (BadPolicy, UnicodeDecodeError) as error:
        raise Refused(f"--audit-policy {files.policy}: {error}") from None
    except OSError as error:
        raise Refused(f"--audit-policy {files.policy}: {error.strerror}") from None


def open_audit(files: AuditFiles, default: Path, clock: Clock) -> Audit | None:
    """`default`: the log's path, when only a policy is given. Raises Refused."""
    if files.policy is None and files.log is None:
        return None
    from jota.api.audit import Audit, AuditFile

    policy, path = audit_policy(files), Path(files.log) if files.log else default
    try:
        return Audit(policy, AuditFile(path), clock)
    except OSError as error:
        raise Refused(f"--audit-log {path}: {error.strerror}") from None
