"""Strategies of coordinated leader election, shared by Leases and LeaseCandidates."""

from __future__ import annotations

from typing import Any

from jota.meta import names
from jota.meta.errors import FieldError, invalid, not_supported

OLDEST = "OldestEmulationVersion"
"""The only strategy of Kubernetes' own; others have a domain and are for others to carry out."""


def validate_strategy(value: Any, path: str) -> list[FieldError]:
    if not isinstance(value, str) or value in ("", OLDEST):
        return []
    if "/" not in value:
        return [not_supported(path, value, [OLDEST])]
    return [invalid(path, value, problem) for problem in names.qualified_name(value)]
