"""Checks of numbers and percentages that many kinds share, in upstream's words."""

from __future__ import annotations

import re
from typing import Any

from jota.meta.errors import FieldError, invalid

NEGATIVE = "must be greater than or equal to 0"
IMMUTABLE = "field is immutable"
PERCENT = re.compile(r"[0-9]+%\Z")


def not_negative(value: Any, path: str) -> list[FieldError]:
    """An optional integer of zero or more."""
    if type(value) is int and value < 0:
        return [invalid(path, value, NEGATIVE)]
    return []


def positive(value: Any, path: str) -> list[FieldError]:
    """An optional integer of one or more."""
    if type(value) is int and value < 1:
        return [invalid(path, value, "must be greater than 0")]
    return []


def int_or_percent(value: Any, path: str) -> list[FieldError]:
    """A count of zero or more, or a percentage such as "25%"."""
    if isinstance(value, str) and not PERCENT.match(value):
        detail = "a valid percent string must be a numeric string followed by an ending '%' "
        return [invalid(path, value, detail + "(e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')")]
    return not_negative(value, path)


def percent_of(value: Any) -> int:
    """25 for "25%", 0 for anything that is not a percentage."""
    return int(value[:-1]) if isinstance(value, str) and PERCENT.match(value) else 0


def at_most_100_percent(value: Any, path: str) -> list[FieldError]:
    return [invalid(path, value, "must not be greater than 100%")] if percent_of(value) > 100 else []
